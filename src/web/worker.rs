//! The endpoints of worker processes, on a listener of their own: protected by each attempt's token, and nothing else.

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, FromRequestParts, Path, State},
    http::{StatusCode, header::AUTHORIZATION, request::Parts},
    response::{IntoResponse, Response},
    routing::post,
};

use crate::{
    domain::{AttemptId, RunId},
    error::Error,
    scheduler::Queue,
    worker::protocol::{Completion, Hello, Job, News, Reply, VERSION, VERSION_HEADER},
};

/// What a worker may tell at once, in bytes: it may have been without a server for a while.
const BODY: usize = 16 << 20;

/// The worker endpoints of `queue`.
pub fn router(queue: Queue) -> Router {
    Router::new()
        .route("/attempts/{attempt}/job", post(job))
        .route("/attempts/{attempt}/events", post(events))
        .route("/attempts/{attempt}/completion", post(completion))
        .layer(DefaultBodyLimit::max(BODY))
        .with_state(queue)
}

/// An attempt that has proved itself with its token, and the run it holds.
struct Held {
    attempt: AttemptId,
    run: RunId,
}

impl FromRequestParts<Queue> for Held {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, queue: &Queue) -> Result<Self, Response> {
        let version = parts.headers.get(VERSION_HEADER).and_then(|value| value.to_str().ok()).unwrap_or("unknown");
        if version != VERSION {
            let text = format!("the worker is of version {version}, the server of version {VERSION}");
            return Err((StatusCode::UPGRADE_REQUIRED, text).into_response());
        }
        let Path(attempt): Path<AttemptId> =
            Path::from_request_parts(parts, queue).await.map_err(IntoResponse::into_response)?;
        let token = parts.headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| StatusCode::UNAUTHORIZED.into_response())?;
        let run = queue.authorise(attempt, token).await.map_err(|error| Refusal(error).into_response())?;
        // A wrong token and an attempt that has lost its run look alike: neither has anything to tell.
        let run = run.ok_or_else(|| StatusCode::FORBIDDEN.into_response())?;
        Ok(Self { attempt, run })
    }
}

async fn job(held: Held, State(queue): State<Queue>, Json(worker): Json<Hello>) -> Result<Json<Job>, Refusal> {
    Ok(Json(queue.job(held.attempt, held.run, &worker).await?))
}

async fn events(held: Held, State(queue): State<Queue>, Json(news): Json<News>) -> Result<Json<Reply>, Refusal> {
    Ok(Json(queue.record(held.attempt, held.run, &news).await?))
}

async fn completion(held: Held, State(queue): State<Queue>, Json(completion): Json<Completion>) -> Result<(), Refusal> {
    Ok(queue.complete(held.attempt, held.run, completion).await?)
}

/// Workers read the status; the words are for their log.
struct Refusal(Error);

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = match &self.0 {
            Error::NotFound(_) => StatusCode::NOT_FOUND,
            Error::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Error::Conflict(_) => StatusCode::CONFLICT,
            Error::Busy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Error::Internal { .. } => {
                tracing::error!(error = ?self.0, "a worker's call failed");
                StatusCode::INTERNAL_SERVER_ERROR
            }
        };
        (status, self.0.to_string()).into_response()
    }
}
