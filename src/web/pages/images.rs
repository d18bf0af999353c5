//! The files of data-set images.

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode, header},
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

/// What stands in the place of a picture that is not there, as in a data set of labels alone.
const NO_FILE: &str = r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 240 180"><rect width="240" height="180" fill="#8884"/><text x="120" y="96" text-anchor="middle" font-family="sans-serif" font-size="16" fill="#888">no image file</text></svg>"##;

pub async fn file(
    State(images): State<Images>,
    Path(image): Path<ImageId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let data = match images.read(image).await {
        Err(Error::NotFound(_)) if wants_picture(&headers) => return Ok(no_file()),
        data => data?,
    };
    let kind = image::guess_format(&data).map_or("application/octet-stream", |format| format.to_mime_type());
    Ok(([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, KEEP)], data).into_response())
}

pub async fn thumbnail(
    State(images): State<Images>,
    Path(image): Path<ImageId>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let data = match images.thumbnail(image).await {
        Err(Error::NotFound(_)) if wants_picture(&headers) => return Ok(no_file()),
        data => data?,
    };
    Ok(([(header::CONTENT_TYPE, "image/jpeg"), (header::CACHE_CONTROL, KEEP)], data).into_response())
}

/// Whether a page is to show it, not somebody who followed a link.
fn wants_picture(headers: &HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.starts_with("image/"))
}

/// Browsers show it in spite of its status.
fn no_file() -> Response {
    (StatusCode::NOT_FOUND, [(header::CONTENT_TYPE, "image/svg+xml")], NO_FILE).into_response()
}
