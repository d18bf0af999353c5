//! Reading an uploaded image. Nothing of it is stored.

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

/// The largest upload, in bytes.
pub const MAX_BYTES: usize = 20 * 1024 * 1024;

/// The body limit of a route that takes an upload: the image, the form around it and its other fields.
pub const BODY_LIMIT: usize = MAX_BYTES + 64 * 1024;

/// A multipart form with one image in its field `image`.
pub struct UploadForm {
    /// The image; empty if none was chosen.
    pub image: Vec<u8>,
    /// The other fields that are filled in.
    pub fields: Vec<(String, String)>,
}

impl<S: Send + Sync> FromRequest<S> for UploadForm {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let mut parts = Multipart::from_request(request, state).await.map_err(not_multipart)?;
        let mut form = Self { image: Vec::new(), fields: Vec::new() };
        while let Some(part) = parts.next_field().await.map_err(broken)? {
            match part.name().unwrap_or_default().to_owned() {
                name if name == "image" => form.image = part.bytes().await.map_err(broken)?.to_vec(),
                name => form.fields.push((name, part.text().await.map_err(broken)?)),
            }
        }
        form.fields.retain(|(_, value)| !value.trim().is_empty());
        within_limit(&form.image)?;
        Ok(form)
    }
}

/// An image, sent as the multipart field `image` or as the body itself (`content-type: image/…`).
pub struct UploadedImage(pub Vec<u8>);

impl<S: Send + Sync> FromRequest<S> for UploadedImage {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let image = if kind.starts_with("image/") {
            let body = Bytes::from_request(request, state).await;
            body.map_err(|rejection| body_problem(rejection.status(), &rejection.body_text()))?.to_vec()
        } else {
            let form = UploadForm::from_request(request, state).await?;
            if let Some((name, _)) = form.fields.first() {
                return Err(Problem::invalid(format!(
                    "The form has a field “{name}”; only `image` is read from it, options stand in the query."
                )));
            }
            form.image
        };
        if image.is_empty() {
            return Err(Problem::invalid("There is no image: send it as the field `image` or as the body itself."));
        }
        within_limit(&image)?;
        Ok(Self(image))
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
