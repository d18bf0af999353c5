//! The forms by which people say something of an image, or keep a view. Each leads back to the page that it stood on.

use axum::{extract::State, response::Redirect};

use crate::{
    domain::ImageId,
    services::{Annotations, is_local},
    web::{
        error::Problem,
        extract::{Form, Path},
    },
};

pub async fn tag(
    State(annotations): State<Annotations>,
    Path(image): Path<ImageId>,
    Form(pairs): Form,
) -> Result<Redirect, Problem> {
    annotations.tag(image, field(&pairs, "tag")).await?;
    Ok(back(&pairs))
}

pub async fn untag(
    State(annotations): State<Annotations>,
    Path(image): Path<ImageId>,
    Form(pairs): Form,
) -> Result<Redirect, Problem> {
    annotations.untag(image, field(&pairs, "tag")).await?;
    Ok(back(&pairs))
}

pub async fn note(
    State(annotations): State<Annotations>,
    Path(image): Path<ImageId>,
    Form(pairs): Form,
) -> Result<Redirect, Problem> {
    annotations.note(image, field(&pairs, "text")).await?;
    Ok(back(&pairs))
}

pub async fn save_view(State(annotations): State<Annotations>, Form(pairs): Form) -> Result<Redirect, Problem> {
    annotations.save_view(field(&pairs, "name"), field(&pairs, "back")).await?;
    Ok(back(&pairs))
}

pub async fn delete_view(
    State(annotations): State<Annotations>,
    Path(view): Path<i64>,
    Form(pairs): Form,
) -> Result<Redirect, Problem> {
    annotations.delete_view(view).await?;
    Ok(back(&pairs))
}

fn field<'a>(pairs: &'a [(String, String)], name: &str) -> &'a str {
    pairs.iter().find(|(other, _)| other == name).map_or("", |(_, value)| value)
}

/// Never to another site, whatever was sent.
fn back(pairs: &[(String, String)]) -> Redirect {
    let address = field(pairs, "back");
    Redirect::to(if is_local(address) { address } else { "/" })
}
