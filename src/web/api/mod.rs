//! The HTTP API, version 1: JSON in and out, RFC 9457 problem documents, server-sent events.

mod annotations;
mod curves;
pub mod datasets;
mod exports;
pub mod health;
mod predictions;
mod queue;
mod runs;
mod sweeps;
mod weights;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    routing::{delete, get, post, put},
};

use super::{pages::frozen, state::App, upload};

/// Everything under `/api/v1`.
pub fn routes() -> Router<App> {
    Router::new()
        .route("/datasets", get(datasets::list))
        .route("/datasets/{name}", get(datasets::show))
        .route("/datasets/{name}/images", get(datasets::images))
        .route("/comparisons", get(datasets::compare))
        .route("/comparisons/export", get(exports::comparison))
        .route("/reports/comparison", get(frozen::comparison))
        .route("/runs", get(runs::list).post(runs::create))
        .route("/runs/{id}", get(runs::show).patch(runs::change).delete(runs::delete))
        .route("/runs/{id}/cancel", post(runs::cancel))
        .route("/runs/{id}/retry", post(runs::retry))
        .route("/runs/{id}/clone", post(runs::clone))
        .route("/runs/{id}/indices", get(runs::indices))
        .route("/runs/{id}/outcomes", get(runs::outcomes))
        .route("/runs/{id}/outcomes/export", get(exports::outcomes))
        .route("/runs/{id}/outcomes/{image}", get(runs::image))
        .route("/runs/{id}/report", get(frozen::run))
        .route("/runs/{id}/sweep", get(runs::rule_sweep))
        .route("/runs/{id}/decision", get(runs::decision))
        .route("/runs/{id}/labels", get(runs::labels))
        .route("/runs/{id}/labels/{fine}", get(runs::label))
        .route("/runs/{id}/categories", get(runs::categories))
        .route("/runs/{id}/categories/{coarse}", get(runs::category))
        .route("/runs/{id}/bottleneck", get(runs::bottleneck))
        .route("/runs/{id}/log", get(runs::log))
        .route("/runs/{id}/events", get(runs::events_of_one))
        .route("/queue", get(queue::show))
        .route("/queue/pause", post(queue::pause))
        .route("/queue/resume", post(queue::resume))
        .route("/sweeps", get(sweeps::list).post(sweeps::create))
        .route("/sweeps/{id}", get(sweeps::show))
        .route("/sweeps/{id}/cancel", post(sweeps::cancel))
        .route("/sweeps/{id}/retry", post(sweeps::retry))
        .route("/curves", get(curves::show))
        .route("/transitions", get(runs::transitions))
        .route("/events", get(runs::events))
        .route("/disk", get(health::disk))
        .route("/images/{id}/tags/{tag}", put(annotations::tag).delete(annotations::untag))
        .route("/images/{id}/prediction", get(predictions::of_image))
        .route("/images/{id}/note", put(annotations::note))
        .route("/views", get(annotations::views).post(annotations::save_view))
        .route("/views/{id}", delete(annotations::delete_view))
        .route("/weights", get(weights::list))
        .route("/predictions", post(predictions::create).layer(DefaultBodyLimit::max(upload::BODY_LIMIT)))
}
