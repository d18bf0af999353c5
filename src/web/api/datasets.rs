//! Data sets, and the comparison of a data set's runs.

use axum::{extract::State, http::StatusCode};

use crate::{
    report::{Comparison, DatasetBrief, DatasetImages, DatasetImagesQuery, DatasetReport, Listing, Reports},
    web::{
        error::Problem,
        extract::{Json, Path, Query},
        pages::ComparisonQuery,
    },
};

pub async fn list(State(reports): State<Reports>) -> Result<Json<Listing<DatasetBrief>>, Problem> {
    Ok(Json(reports.datasets().await?))
}

pub async fn show(State(reports): State<Reports>, Path(name): Path<String>) -> Result<Json<DatasetReport>, Problem> {
    Ok(Json(reports.dataset(&name).await?))
}

pub async fn images(
    State(reports): State<Reports>,
    Path(name): Path<String>,
    Query(query): Query<DatasetImagesQuery>,
) -> Result<Json<DatasetImages>, Problem> {
    Ok(Json(reports.dataset_images(&name, &query).await?))
}

pub async fn compare(
    State(reports): State<Reports>,
    Query(query): Query<ComparisonQuery>,
) -> Result<Json<Comparison>, Problem> {
    Ok(Json(comparison(&reports, &query).await?))
}

/// The comparison that is asked for, which needs a data set.
pub async fn comparison(reports: &Reports, query: &ComparisonQuery) -> Result<Comparison, Problem> {
    let comparison = reports.comparison(query.dataset.as_deref(), &query.picks, query.base).await?;
    comparison.ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, "There is no data set yet."))
}
