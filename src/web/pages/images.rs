//! The files of data-set images.

use std::io::ErrorKind;

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};

use crate::{
    domain::ImageId,
    error::Error,
    services::Images,
    web::{error::Problem, extract::Path},
};

/// An image never changes; but another data directory served at the same address numbers others the same.
const KEEP: &str = "private, max-age=86400";

pub async fn file(State(images): State<Images>, Path(image): Path<ImageId>) -> Result<Response, Problem> {
    let path = images.file(image).await?;
    let data = tokio::fs::read(&path).await.map_err(|error| match error.kind() {
        ErrorKind::NotFound => Error::NotFound(format!("the file of image {image} is not where it was imported from")),
        _ => Error::internal(format!("image {image} could not be read"), error),
    })?;
    let kind = image::guess_format(&data).map_or("application/octet-stream", |format| format.to_mime_type());
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, KEEP)], data).into_response())
}

pub async fn thumbnail(State(images): State<Images>, Path(image): Path<ImageId>) -> Result<Response, Problem> {
    let data = images.thumbnail(image).await?;
    Ok(([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, KEEP)], data).into_response())
}
