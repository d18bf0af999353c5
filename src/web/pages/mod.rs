//! Pages. Each module holds its page structs, whose fields are what the template of the same name shows, and handlers.

mod annotations;
mod bottleneck;
mod categories;
mod classes;
mod comparison;
mod curves;
mod dataset_images;
mod datasets;
mod definition;
pub mod frozen;
mod gallery;
mod guide;
mod images;
mod label;
mod labels;
mod predict;
mod run;
mod run_form;
mod runs;
mod sweeps;
mod transitions;
mod verdict;

pub use comparison::ComparisonQuery;

use askama::Template;
use axum::{
    Router,
    extract::DefaultBodyLimit,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};

use super::{error::Problem, state::App, upload};

/// Everything a browser is shown.
pub fn routes() -> Router<App> {
    let predict = get(predict::form).post(predict::predict).layer(DefaultBodyLimit::max(upload::BODY_LIMIT));
    Router::new()
        .route("/", get(comparison::show))
        .route("/runs", get(runs::list).post(run_form::submit))
        .route("/queue/pause", post(runs::pause))
        .route("/queue/resume", post(runs::resume))
        .route("/runs/new", get(run_form::form))
        .route("/runs/{id}", get(run::show))
        .route("/runs/{id}/cancel", post(run::cancel))
        .route("/runs/{id}/priority", post(run::prioritize))
        .route("/runs/{id}/retry", post(run::retry))
        .route("/runs/{id}/repeat", post(run::repeat))
        .route("/runs/{id}/delete", post(run::delete))
        .route("/runs/{id}/images", get(gallery::show))
        .route("/runs/{id}/images/{image}", get(gallery::one))
        .route("/runs/{id}/labels", get(labels::show))
        .route("/runs/{id}/labels/{fine}", get(label::show))
        .route("/runs/{id}/categories", get(categories::list))
        .route("/runs/{id}/categories/{coarse}", get(categories::show))
        .route("/runs/{id}/bottleneck", get(bottleneck::show))
        .route("/curves", get(curves::show))
        .route("/sweeps", get(sweeps::list))
        .route("/sweeps/{id}", get(sweeps::show))
        .route("/sweeps/{id}/cancel", post(sweeps::cancel))
        .route("/sweeps/{id}/retry", post(sweeps::retry))
        .route("/transitions", get(transitions::show))
        .route("/datasets", get(datasets::list))
        .route("/datasets/{name}", get(datasets::show))
        .route("/datasets/{name}/images", get(dataset_images::show))
        .route("/predict", predict)
        .route("/images/{id}", get(images::file))
        .route("/images/{id}/thumbnail", get(images::thumbnail))
        .route("/images/{id}/tags", post(annotations::tag))
        .route("/images/{id}/tags/remove", post(annotations::untag))
        .route("/images/{id}/note", post(annotations::note))
        .route("/views", post(annotations::save_view))
        .route("/views/{id}/delete", post(annotations::delete_view))
        .route("/api", get(guide::show))
}

/// A page about to be rendered.
struct Page<T>(T);

impl<T: Template> IntoResponse for Page<T> {
    fn into_response(self) -> Response {
        match self.0.render() {
            Ok(html) => Html(html).into_response(),
            Err(error) => Problem::from(error).into_response(),
        }
    }
}
