//! The decision path of an upload.

use axum::extract::State;

use crate::{
    report::Prediction,
    services::Predictor,
    web::{
        error::Problem,
        extract::{Json, Query},
        predict::PredictionQuery,
        upload::UploadedImage,
    },
};

pub async fn create(
    State(predictor): State<Predictor>,
    Query(query): Query<PredictionQuery>,
    UploadedImage(image): UploadedImage,
) -> Result<Json<Prediction>, Problem> {
    Ok(Json(predictor.predict(query.run, image, &query.options()).await?))
}
