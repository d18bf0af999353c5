//! Backbone weights to start from.

use axum::extract::State;

use crate::{
    report::Listing,
    services::Weights,
    web::{error::Problem, extract::Json},
    weights::Listed,
};

pub async fn list(State(weights): State<Weights>) -> Result<Json<Listing<Listed>>, Problem> {
    Ok(Json(weights.list().await?))
}
