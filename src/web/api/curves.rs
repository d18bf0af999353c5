//! Curves of several runs over one another.

use axum::extract::State;

use crate::{
    report::{CurvesQuery, CurvesReport, Reports},
    web::{
        error::Problem,
        extract::{Json, Query},
    },
};

pub async fn show(
    State(reports): State<Reports>,
    Query(query): Query<CurvesQuery>,
) -> Result<Json<CurvesReport>, Problem> {
    Ok(Json(reports.curves(&query).await?))
}
