//! What goes wrong, and how it is shown.
//!
//! | cause                                          | status |
//! |------------------------------------------------|--------|
//! | JSON that cannot be parsed                     | 400    |
//! | foreign `Origin`                               | 403    |
//! | [`Error::NotFound`], unknown address           | 404    |
//! | method that an address does not have           | 405    |
//! | [`Error::Conflict`]                            | 409    |
//! | body over the limit                            | 413    |
//! | body of a kind that is not read                | 415    |
//! | `Host` that is not this machine                | 421    |
//! | [`Error::Invalid`], query or JSON of wrong shape | 422  |
//! | [`Error::Internal`], panic                     | 500    |
//! | [`Error::Busy`]                                | 503    |
//!
//! A handler returns a [`Problem`]; [`face`] turns it into a problem document (RFC 9457) under `/api/` and into a page
//! with the same words elsewhere.

use std::any::Any;

use askama::Template;
use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, Uri, header},
    middleware::Next,
    response::{Html, IntoResponse, Response},
};
use serde::Serialize;

use crate::error::Error;

/// A request that cannot be answered, in words for the one who asked.
#[derive(Clone, Debug)]
pub struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    /// A problem of this status, explained.
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self { status, detail: detail.into() }
    }

    /// The request is understood and makes no sense.
    pub fn invalid(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Our fault: the cause has been logged and is not told.
    pub fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Something went wrong on our side. The server's log says what.")
    }

    /// The words.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    fn title(&self) -> &'static str {
        match self.status {
            StatusCode::NOT_FOUND => "Not found",
            StatusCode::CONFLICT => "Not now",
            StatusCode::UNPROCESSABLE_ENTITY => "That does not fit",
            StatusCode::SERVICE_UNAVAILABLE => "Busy",
            status => status.canonical_reason().unwrap_or("Error"),
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::NotFound(detail) => Self::new(StatusCode::NOT_FOUND, detail),
            Error::Invalid(detail) => Self::invalid(detail),
            Error::Conflict(detail) => Self::new(StatusCode::CONFLICT, detail),
            Error::Busy(detail) => Self::new(StatusCode::SERVICE_UNAVAILABLE, detail),
            Error::Internal { context, source } => {
                tracing::error!(error = source, "{context}");
                Self::internal()
            }
        }
    }
}

impl From<askama::Error> for Problem {
    fn from(error: askama::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "a page could not be rendered");
        Self::internal()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.status.into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// An address that leads nowhere.
pub async fn not_found(uri: Uri) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("There is nothing at {}.", uri.path()))
}

/// A handler that panicked.
pub fn caught(panic: Box<dyn Any + Send + 'static>) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("without a text"), "a handler panicked");
    Problem::internal().into_response()
}

/// Middleware that gives each problem its face.
pub async fn face(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        None if response.status() == StatusCode::METHOD_NOT_ALLOWED => {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{path} does not answer {method} requests."))
        }
        None => return response,
    };
    let mut faced = if path.starts_with("/api/") { document(&problem, &path) } else { page(&problem) };
    if let Some(allow) = response.headers_mut().remove(header::ALLOW) {
        faced.headers_mut().insert(header::ALLOW, allow);
    }
    if problem.status == StatusCode::SERVICE_UNAVAILABLE {
        faced.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
    }
    faced
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    instance: &'a str,
}

fn document(problem: &Problem, path: &str) -> Response {
    let document = Document {
        r#type: "about:blank",
        title: problem.title(),
        status: problem.status.as_u16(),
        detail: &problem.detail,
        instance: path,
    };
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (problem.status, kind, axum::Json(document)).into_response()
}

#[derive(Template)]
#[template(path = "error.html")]
struct ErrorPage<'a> {
    problem: &'a Problem,
}

impl ErrorPage<'_> {
    fn section(&self) -> &'static str {
        ""
    }
}

fn page(problem: &Problem) -> Response {
    let html = ErrorPage { problem }.render().unwrap_or_else(|_| problem.title().to_owned());
    (problem.status, Html(html)).into_response()
}
