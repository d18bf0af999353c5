//! Tags and notes on images, and saved views.

use axum::{extract::State, http::StatusCode};
use serde::Deserialize;

use crate::{
    domain::{ImageId, SavedView},
    report::Listing,
    services::Annotations,
    web::{
        error::Problem,
        extract::{Json, Path},
    },
};

pub async fn tag(
    State(annotations): State<Annotations>,
    Path((image, tag)): Path<(ImageId, String)>,
) -> Result<StatusCode, Problem> {
    annotations.tag(image, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn untag(
    State(annotations): State<Annotations>,
    Path((image, tag)): Path<(ImageId, String)>,
) -> Result<StatusCode, Problem> {
    annotations.untag(image, &tag).await?;
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Note {
    text: String,
}

pub async fn note(
    State(annotations): State<Annotations>,
    Path(image): Path<ImageId>,
    Json(note): Json<Note>,
) -> Result<StatusCode, Problem> {
    annotations.note(image, &note.text).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn views(State(annotations): State<Annotations>) -> Result<Json<Listing<SavedView>>, Problem> {
    Ok(Json(annotations.views().await?))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewView {
    name: String,
    address: String,
}

pub async fn save_view(
    State(annotations): State<Annotations>,
    Json(view): Json<NewView>,
) -> Result<(StatusCode, Json<SavedView>), Problem> {
    let view = annotations.save_view(&view.name, &view.address).await?;
    Ok((StatusCode::CREATED, Json(view)))
}

pub async fn delete_view(State(annotations): State<Annotations>, Path(view): Path<i64>) -> Result<StatusCode, Problem> {
    annotations.delete_view(view).await?;
    Ok(StatusCode::NO_CONTENT)
}
