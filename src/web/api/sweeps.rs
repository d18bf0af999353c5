//! Several runs in one submission, and how such a group goes on.

use axum::{extract::State, http::StatusCode};

use crate::{
    domain::{Sweep, SweepId},
    report::{Listing, Reports, SweepBrief, SweepDetail, SweepQuery, SweepReport},
    services::Queue,
    web::{
        error::Problem,
        extract::{Json, Path, Query},
    },
};

/// 201, or 200 where a dry run was asked for.
pub async fn create(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Json(sweep): Json<Sweep>,
) -> Result<(StatusCode, Json<SweepReport>), Problem> {
    if sweep.dry_run {
        let existing = queue.existing(sweep).await?.into_iter().map(|run| (run, run.is_some()));
        return Ok((StatusCode::OK, Json(reports.submitted_sweep(None, existing).await?)));
    }
    let (submitted, id) = queue.submit_all(sweep).await?;
    let runs = submitted.into_iter().map(|submitted| (Some(submitted.run), submitted.existing));
    Ok((StatusCode::CREATED, Json(reports.submitted_sweep(id, runs).await?)))
}

pub async fn list(
    State(reports): State<Reports>,
    Query(query): Query<SweepQuery>,
) -> Result<Json<Listing<SweepBrief>>, Problem> {
    Ok(Json(reports.sweeps(&query).await?))
}

pub async fn show(State(reports): State<Reports>, Path(sweep): Path<SweepId>) -> Result<Json<SweepDetail>, Problem> {
    Ok(Json(reports.sweep(sweep).await?))
}

/// Accepted rather than done: a running worker stops at its next step.
pub async fn cancel(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(sweep): Path<SweepId>,
) -> Result<(StatusCode, Json<SweepDetail>), Problem> {
    queue.cancel_sweep(sweep).await?;
    Ok((StatusCode::ACCEPTED, Json(reports.sweep(sweep).await?)))
}

/// Accepted: they wait for their turn.
pub async fn retry(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(sweep): Path<SweepId>,
) -> Result<(StatusCode, Json<SweepDetail>), Problem> {
    queue.retry_sweep(sweep).await?;
    Ok((StatusCode::ACCEPTED, Json(reports.sweep(sweep).await?)))
}
