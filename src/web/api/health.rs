//! Whether the server lives, and whether it can answer.

use axum::{Router, extract::State, routing::get};

use crate::{
    report::Reports,
    web::{error::Problem, state::App},
};

/// `/healthz` and `/readyz`.
pub fn routes() -> Router<App> {
    Router::new().route("/healthz", get(async || "alive\n")).route("/readyz", get(ready))
}

async fn ready(State(reports): State<Reports>) -> Result<&'static str, Problem> {
    reports.datasets().await?;
    Ok("ready\n")
}
