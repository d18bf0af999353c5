//! Runs: submit, watch, read, stop, forget.

use axum::{
    extract::State,
    http::{StatusCode, header},
    response::IntoResponse,
};
use tokio::sync::watch;

use crate::{
    domain::{RunId, Submission},
    report::{
        IndicesQuery, IndicesReport, LabelsQuery, LabelsReport, Listing, OutcomePage, OutcomeQuery, Reports, RunBrief,
        RunQuery, RunReport, TransitionsQuery, TransitionsReport,
    },
    services::{Activity, Queue},
    web::{
        error::Problem,
        events::{self, LastEventId, Sources},
        extract::{Json, Path, Query},
    },
};

pub async fn list(
    State(reports): State<Reports>,
    Query(query): Query<RunQuery>,
) -> Result<Json<Listing<RunBrief>>, Problem> {
    Ok(Json(reports.runs(&query).await?))
}

pub async fn create(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Json(submission): Json<Submission>,
) -> Result<impl IntoResponse, Problem> {
    let run = queue.submit(submission).await?;
    let location = [(header::LOCATION, format!("/api/v1/runs/{run}"))];
    Ok((StatusCode::CREATED, location, Json(reports.run(run).await?)))
}

pub async fn show(State(reports): State<Reports>, Path(run): Path<RunId>) -> Result<Json<RunReport>, Problem> {
    Ok(Json(reports.run(run).await?))
}

/// Accepted rather than done: a running worker stops at its next step.
pub async fn cancel(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
) -> Result<(StatusCode, Json<RunReport>), Problem> {
    queue.cancel(run).await?;
    Ok((StatusCode::ACCEPTED, Json(reports.run(run).await?)))
}

pub async fn delete(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<StatusCode, Problem> {
    queue.delete(run).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn indices(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<IndicesQuery>,
) -> Result<Json<IndicesReport>, Problem> {
    Ok(Json(reports.indices(run, &query).await?))
}

pub async fn outcomes(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Json<OutcomePage>, Problem> {
    Ok(Json(reports.outcomes(run, &query).await?))
}

pub async fn labels(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<LabelsQuery>,
) -> Result<Json<LabelsReport>, Problem> {
    Ok(Json(reports.labels(run, &query).await?))
}

pub async fn transitions(
    State(reports): State<Reports>,
    Query(query): Query<TransitionsQuery>,
) -> Result<Json<TransitionsReport>, Problem> {
    Ok(Json(reports.transitions(&query).await?))
}

pub async fn events(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    State(activity): State<watch::Receiver<Option<Activity>>>,
    heard: LastEventId,
) -> Result<impl IntoResponse, Problem> {
    let sources = Sources { reports, runs: queue.subscribe(), activity: Some(activity), only: None };
    Ok(events::stream(sources, heard).await?)
}

pub async fn events_of_one(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    heard: LastEventId,
) -> Result<impl IntoResponse, Problem> {
    let sources = Sources { reports, runs: queue.subscribe(), activity: None, only: Some(run) };
    Ok(events::stream(sources, heard).await?)
}
