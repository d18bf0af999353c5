//! Extractors whose rejections are problems in clear words.

use axum::{
    extract::{FromRequest, FromRequestParts, Request},
    http::{StatusCode, Uri, request::Parts},
    response::{IntoResponse, Response},
};
use serde::{Serialize, de::DeserializeOwned};

use super::error::Problem;
use crate::exchange::table::Format;

/// A JSON body, read or written.
pub struct Json<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Json(value) = axum::Json::from_request(request, state).await.map_err(
            |rejection: axum::extract::rejection::JsonRejection| {
                Problem::new(rejection.status(), reason("The JSON body", &rejection.body_text()))
            },
        )?;
        Ok(Self(value))
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        axum::Json(self.0).into_response()
    }
}

/// The query. An empty value counts as left out, because that is how a form sends a field that is not filled in.
pub struct Query<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let uri = without_empty_values(&parts.uri);
        let axum::extract::Query(value) = axum::extract::Query::try_from_uri(&uri)
            .map_err(|rejection| Problem::invalid(reason("The query", &rejection.body_text())))?;
        Ok(Self(value))
    }
}

/// A query with `format=`, which says what kind of file is wanted, beside the fields of `T`.
pub struct Formatted<T> {
    /// What kind of file.
    pub format: Format,
    /// The other fields.
    pub query: T,
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Formatted<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let pairs = parts.uri.query().unwrap_or_default().split('&');
        let (formats, others): (Vec<&str>, Vec<&str>) = pairs.partition(|pair| pair.starts_with("format="));
        let format = match formats.as_slice() {
            [one] => one["format=".len()..].parse().map_err(|error| Problem::invalid(format!("format: {error}")))?,
            [] => {
                return Err(Problem::invalid(format!(
                    "format: it is missing; give {}",
                    Format::ALL.map(Format::as_str).join(", ")
                )));
            }
            _ => return Err(Problem::invalid("format: it is there twice")),
        };
        parts.uri = Uri::try_from(format!("/?{}", others.join("&"))).unwrap_or_default();
        let Query(query) = Query::from_request_parts(parts, state).await?;
        Ok(Self { format, query })
    }
}

/// The variable parts of the path. A path that cannot be read leads nowhere.
pub struct Path<T>(pub T);

impl<T: DeserializeOwned + Send, S: Send + Sync> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = |_| Problem::new(StatusCode::NOT_FOUND, "There is nothing at this address.");
        let axum::extract::Path(value) =
            axum::extract::Path::from_request_parts(parts, state).await.map_err(unreadable)?;
        Ok(Self(value))
    }
}

/// An urlencoded form, as the pairs that were sent.
pub struct Form(pub Vec<(String, String)>);

impl<S: Send + Sync> FromRequest<S> for Form {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let axum::Form(pairs) = axum::Form::from_request(request, state)
            .await
            .map_err(|rejection| Problem::new(rejection.status(), reason("The form", &rejection.body_text())))?;
        Ok(Self(pairs))
    }
}

/// What axum says, freed of its own words: “Failed to deserialize query string: a: unknown field `a`” becomes
/// “The query: unknown field `a`”.
fn reason(what: &str, text: &str) -> String {
    let text = text.strip_prefix("Failed to ").and_then(|text| text.split_once(": ")).map_or(text, |(_, cause)| cause);
    let text = text.find("unknown field").map_or(text, |start| &text[start..]);
    format!("{what}: {text}")
}

fn without_empty_values(uri: &Uri) -> Uri {
    let kept: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(|pair| has_value(pair)).collect();
    Uri::try_from(format!("/?{}", kept.join("&"))).unwrap_or_default()
}

fn has_value(pair: &str) -> bool {
    pair.split_once('=').is_some_and(|(_, value)| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_values_count_as_left_out() {
        let uri = without_empty_values(&Uri::from_static("/runs?dataset=&status=failed&x&cursor="));
        assert_eq!(uri.query(), Some("status=failed"));
    }

    #[test]
    fn reasons_are_freed_of_the_library_s_words() {
        let text = reason("The query", "Failed to deserialize query string: a: unknown field `a`");
        assert_eq!(text, "The query: unknown field `a`");
    }
}
