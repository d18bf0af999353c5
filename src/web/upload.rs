//! Reading uploaded images. Nothing of them is stored.

use axum::{
    body::Bytes,
    extract::{
        FromRequest, Multipart, Request,
        multipart::{MultipartError, MultipartRejection},
    },
    http::{StatusCode, header},
};

use base64::{Engine, engine::general_purpose::STANDARD};

use super::error::Problem;
use crate::services::Photograph;

/// The largest upload, in bytes.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;

/// The body limit of a route that takes an upload: the image, the form around it and its other fields.
pub const BODY_LIMIT: usize = MAX_BYTES + 64 * 1024;

/// How many images one request may bring.
const MAX_IMAGES: usize = 32;

/// A file that was sent.
pub struct Upload {
    /// What the sender calls it.
    pub name: Option<String>,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl From<Upload> for Photograph {
    fn from(Upload { name, bytes }: Upload) -> Self {
        Self::Upload { name, bytes }
    }
}

/// A multipart form with images in its fields `image`.
pub struct UploadForm {
    /// The images; none if none was chosen.
    pub images: Vec<Upload>,
    /// The other fields that are filled in.
    pub fields: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for UploadForm {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let mut parts = Multipart::from_request(request, state).await.map_err(not_multipart)?;
        let mut form = Self { images: Vec::new(), fields: Vec::new() };
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            match part.name().unwrap_or_default().to_owned() {
                name if name == "image" => {
                    let name = part.file_name().filter(|name| !name.is_empty()).map(str::to_owned);
                    let bytes = part.bytes().await.map_err(broken)?.to_vec();
                    within_limit(&bytes)?;
                    // A file input that nothing was chosen for sends an empty file without a name.
                    if name.is_some() || !bytes.is_empty() {
                        form.images.push(Upload { name, bytes });
                    }
                }
                name => form.fields.push((name, part.text().await.map_err(broken)?)),
            }
        }
        if form.images.len() > MAX_IMAGES {
            let images = form.images.len();
            return Err(Problem::invalid(format!("image: at most {MAX_IMAGES} at once, and these are {images}")));
        }
        form.fields.retain(|(_, value)| !value.trim().is_empty());
        Ok(form)
    }
}

/// Images, each sent as a multipart field `image`, or one as the body itself (`content-type: image/…`).
pub struct UploadedImages(pub Vec<Upload>);

impl<S: Send + Sync> FromRequest<S> for UploadedImages {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let images = if kind.starts_with("image/") {
            let body = Bytes::from_request(request, state).await;
            let body = body.map_err(|rejection| body_problem(rejection.status(), &rejection.body_text()))?;
            within_limit(&body)?;
            vec![Upload { name: None, bytes: body.to_vec() }]
        } else {
            let form = UploadForm::from_request(request, state).await?;
            if let Some((name, _)) = form.fields.first() {
                return Err(Problem::invalid(format!(
                    "The form has a field “{name}”; only `image` is read from it, options stand in the query."
                )));
            }
            form.images
        };
        if images.is_empty() || images.iter().any(|image| image.bytes.is_empty()) {
            return Err(Problem::invalid("There is no image: send it as the field `image` or as the body itself."));
        }
        Ok(Self(images))
    }
}

fn not_multipart(rejection: MultipartRejection) -> Problem {
    tracing::debug!(%rejection, "not an upload");
    Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "Send the image as multipart/form-data in the field `image`, or as the body with a content type image/….",
    )
}

fn broken(error: MultipartError) -> Problem {
    body_problem(error.status(), &error.body_text())
}

fn body_problem(status: StatusCode, text: &str) -> Problem {
    if status == StatusCode::PAYLOAD_TOO_LARGE { too_large() } else { Problem::new(status, text) }
}

fn within_limit(image: &[u8]) -> Result<(), Problem> {
    if image.len() > MAX_BYTES { Err(too_large()) } else { Ok(()) }
}

fn too_large() -> Problem {
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The image is larger than 20 MB.")
}

/// The image as a `data:` address that a page can show, for the kinds that browsers know. `None` for others.
pub fn data_url(image: &[u8]) -> Option<String> {
    use image::ImageFormat::{Bmp, Gif, Jpeg, Png, WebP};
    let format = image::guess_format(image).ok()?;
    [Bmp, Gif, Jpeg, Png, WebP]
        .contains(&format)
        .then(|| format!("data:{};base64,{}", format.to_mime_type(), STANDARD.encode(image)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_cannot_show_has_no_address() {
        assert_eq!(data_url(b"\x89PNG\r\n\x1a\n"), Some("data:image/png;base64,iVBORw0KGgo=".into()));
        assert_eq!(data_url(b"<svg onload=alert(1)>"), None);
    }
}
