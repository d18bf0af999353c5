//! Static files, embedded, and plotly.js as the `plotly` crate carries it.
//!
//! Their addresses hold a hash of all of them, so a browser keeps them for good and a new version has a new address. A
//! module imports its neighbour by a relative path and so stays within its version.

use std::{collections::HashMap, sync::LazyLock};

use axum::{
    Router,
    body::Bytes,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use rust_embed::Embed;
use sha2::{Digest, Sha256};

use super::{error::Problem, extract::Path};

const PLOTLY: &str = "plotly.js";

#[derive(Embed)]
#[folder = "static/"]
struct Files;

struct Assets {
    version: String,
    files: HashMap<String, Bytes>,
}

static ASSETS: LazyLock<Assets> = LazyLock::new(|| {
    let mut files: Vec<(String, Bytes)> = Files::iter()
        .filter_map(|name| Some((name.to_string(), Bytes::from_owner(Files::get(&name)?.data))))
        .chain([(PLOTLY.to_owned(), Bytes::from(plotly_js()))])
        .collect();
    files.sort();
    let mut hash = Sha256::new();
    for (name, data) in &files {
        hash.update(name);
        hash.update(data);
    }
    let version = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Assets { version, files: files.into_iter().collect() }
});

/// Routes of the static files.
pub fn routes<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/static/{version}/{name}", get(serve)).route("/favicon.ico", get(favicon))
}

/// The address of a static file.
pub fn url(name: &str) -> String {
    format!("/static/{}/{name}", ASSETS.version)
}

async fn serve(Path((version, name)): Path<(String, String)>, request: HeaderMap) -> Result<Response, Problem> {
    let data = ASSETS
        .files
        .get(&name)
        .ok_or_else(|| Problem::new(StatusCode::NOT_FOUND, format!("There is no static file “{name}”.")))?;
    let current = version == ASSETS.version;
    let keep = if current { "public, max-age=31536000, immutable" } else { "no-cache" };
    // Weak, because the body may be compressed on its way.
    let tag = format!("W/\"{}\"", ASSETS.version);
    let headers = [(header::CACHE_CONTROL, keep), (header::ETAG, &*tag), (header::CONTENT_TYPE, kind(&name))];
    if request.get(header::IF_NONE_MATCH).is_some_and(|known| known == tag.as_str()) {
        return Ok((StatusCode::NOT_MODIFIED, headers).into_response());
    }
    Ok((headers, data.clone()).into_response())
}

// Asked for by browsers that do not read the page's <link rel="icon">.
async fn favicon(request: HeaderMap) -> Result<Response, Problem> {
    serve(Path((String::new(), "favicon.svg".into())), request).await
}

fn kind(name: &str) -> &'static str {
    match name.rsplit_once('.').map(|(_, extension)| extension) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some(_) | None => "application/octet-stream",
    }
}

/// The crate gives `<script>` elements, plotly.js first, MathJax (which no chart needs) second.
fn plotly_js() -> String {
    let elements = plotly::Plot::offline_js_sources();
    let script = elements.split_once('>').map_or("", |(_, rest)| rest);
    let end = script.find("</script>\n").unwrap_or(script.len());
    script[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plotly_is_there_whole_and_alone() {
        let script = plotly_js();
        assert!(script.contains("plotly.js v3"));
        assert!((3_000_000..6_000_000).contains(&script.len()), "{} bytes", script.len());
        assert!(!script.contains("MathJax=") && script.trim_end().ends_with(['}', ')', ';']));
    }
}
