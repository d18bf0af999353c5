//! Several runs in one submission.

use axum::{extract::State, http::StatusCode};

use crate::{
    domain::Sweep,
    report::{Reports, SweepReport},
    services::Queue,
    web::{error::Problem, extract::Json},
};

/// 201, or 200 where a dry run was asked for.
pub async fn create(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Json(sweep): Json<Sweep>,
) -> Result<(StatusCode, Json<SweepReport>), Problem> {
    if sweep.dry_run {
        let existing = queue.existing(sweep).await?;
        return Ok((StatusCode::OK, Json(reports.sweep(existing.into_iter().map(|run| (run, run.is_some()))).await?)));
    }
    let submitted = queue.submit_all(sweep).await?;
    let runs = submitted.into_iter().map(|submitted| (Some(submitted.run), submitted.existing));
    Ok((StatusCode::CREATED, Json(reports.sweep(runs).await?)))
}
