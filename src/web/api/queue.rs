//! The queue as a whole.

use axum::extract::State;

use crate::{
    services::{Queue, QueueState},
    web::{error::Problem, extract::Json},
};

pub async fn show(State(queue): State<Queue>) -> Result<Json<QueueState>, Problem> {
    Ok(Json(queue.state().await?))
}

pub async fn pause(State(queue): State<Queue>) -> Result<Json<QueueState>, Problem> {
    Ok(Json(queue.pause(true).await?))
}

pub async fn resume(State(queue): State<Queue>) -> Result<Json<QueueState>, Problem> {
    Ok(Json(queue.pause(false).await?))
}
