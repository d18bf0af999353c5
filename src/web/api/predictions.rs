//! The decision paths of photographs.

use axum::extract::State;

use crate::{
    domain::ImageId,
    report::{Listing, Prediction, PredictionQuery},
    services::{Photograph, Predictor},
    web::{
        error::Problem,
        extract::{Json, Path, Query},
        upload::UploadedImages,
    },
};

pub async fn create(
    State(predictor): State<Predictor>,
    Query(query): Query<PredictionQuery>,
    UploadedImages(images): UploadedImages,
) -> Result<Json<Listing<Prediction>>, Problem> {
    let photographs = images.into_iter().map(Photograph::from).collect();
    Ok(Json(Listing { items: predictor.predict(photographs, &query).await?, next_cursor: None }))
}

pub async fn of_image(
    State(predictor): State<Predictor>,
    Path(image): Path<ImageId>,
    Query(query): Query<PredictionQuery>,
) -> Result<Json<Prediction>, Problem> {
    Ok(Json(predictor.predict_one(Photograph::Image(image), &query).await?))
}
