//! The browser's and the scripts' side: pages, API, live events, static files.
//!
//! The only code that knows axum and askama. A handler extracts, calls, wraps. A page and its API endpoint call the same
//! `report` function. Whatever goes wrong is a `error::Problem`, whose face (a page or a problem document) is chosen in
//! one place, by path.

mod api;
mod assets;
mod chart;
mod error;
mod events;
mod extract;
mod filters;
mod pages;
mod security;
mod serve;
mod state;
mod upload;
pub mod worker;

pub use security::Security;
pub use serve::serve;

use axum::{
    Router,
    http::{HeaderValue, header::CACHE_CONTROL},
    middleware,
};
use tower_http::{catch_panic::CatchPanicLayer, compression::CompressionLayer, set_header::SetResponseHeaderLayer};

use crate::services::Services;

/// The header of a file to keep. `name`: letters, digits, `-`, `_` and `.`, as in names of data sets.
fn attachment(name: &str) -> String {
    format!("attachment; filename=\"{name}\"")
}

/// Everything the web serves.
pub fn router(services: Services, security: Security) -> Router {
    let answers_change = HeaderValue::from_static("no-cache");
    Router::new()
        .merge(pages::routes())
        .nest("/api/v1", api::routes())
        .merge(api::health::routes())
        .merge(assets::routes())
        .fallback(error::not_found)
        .with_state(state::App::from(services))
        .layer(middleware::from_fn_with_state(security, security::guard))
        .layer(CatchPanicLayer::custom(error::caught))
        .layer(middleware::from_fn(error::face))
        .layer(middleware::map_response(security::headers))
        .layer(SetResponseHeaderLayer::if_not_present(CACHE_CONTROL, answers_change))
        // Leaves event streams and images as they are.
        .layer(CompressionLayer::new())
}
