//! Whether the server lives, whether it can answer, and what it keeps on disk.

use axum::{Router, extract::State, routing::get};

use crate::{
    report::{DiskUsage, Reports},
    web::{error::Problem, extract::Json, state::App},
};

/// `/healthz` and `/readyz`.
pub fn routes() -> Router<App> {
    Router::new().route("/healthz", get(async || "alive\n")).route("/readyz", get(ready))
}

pub(super) async fn disk(State(reports): State<Reports>) -> Result<Json<DiskUsage>, Problem> {
    Ok(Json(reports.disk().await?))
}

async fn ready(State(reports): State<Reports>) -> Result<&'static str, Problem> {
    reports.datasets().await?;
    Ok("ready\n")
}
