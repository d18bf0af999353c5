//! `/datasets/{name}/images`: the images of a data set, and what its runs made of each.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::{ImageId, RunId, SavedView, Split},
    report::{DatasetImages, DatasetImagesQuery, Reports, RunAgreement},
    services::Annotations,
    web::{
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

/// The orders that the page offers, as `sort=` names them, and in words.
const SORTS: [(&str, &str); 3] =
    [("image", "in the data set's order"), ("right", "fewest runs right first"), ("-right", "most runs right first")];

#[derive(Template)]
#[template(path = "datasets/images.html")]
pub struct DatasetImagesPage {
    query: DatasetImagesQuery,
    page: DatasetImages,
    views: Vec<SavedView>,
}

pub async fn show(
    State(reports): State<Reports>,
    State(annotations): State<Annotations>,
    Path(name): Path<String>,
    Query(query): Query<DatasetImagesQuery>,
) -> Result<Page<DatasetImagesPage>, Problem> {
    // Runs decide on the test images alone: conditions on them fall away with another split.
    let query = match query.split {
        Some(Split::Train) => {
            DatasetImagesQuery { runs: None, outcomes: None, min_right: None, max_right: None, ..query }
        }
        Some(Split::Test | Split::Validation) | None => query,
    };
    let page = reports.dataset_images(&name, &query).await?;
    Ok(Page(DatasetImagesPage { query, page, views: annotations.views().await?.items }))
}

impl DatasetImagesPage {
    fn section(&self) -> &'static str {
        "datasets"
    }

    fn path(&self) -> String {
        format!("/datasets/{}/images", text::encoded(&self.page.dataset))
    }

    fn here(&self) -> String {
        text::address_of(&self.path(), &self.query)
    }

    fn json(&self) -> String {
        format!("/api/v1{}", self.here())
    }

    fn cleared(&self) -> String {
        let DatasetImagesQuery { split, runs, sort, limit, .. } = self.query.clone();
        let query = DatasetImagesQuery { split, runs, sort, limit, ..DatasetImagesQuery::default() };
        text::address_of(&self.path(), &query)
    }

    fn first_page(&self) -> String {
        text::address_of(&self.path(), &DatasetImagesQuery { cursor: None, ..self.query.clone() })
    }

    fn next(&self, cursor: &str) -> String {
        let query = DatasetImagesQuery { cursor: Some(cursor.to_owned()), ..self.query.clone() };
        text::address_of(&self.path(), &query)
    }

    fn sort(&self) -> String {
        self.query.sort.unwrap_or_default().to_string()
    }

    fn runs(&self) -> String {
        let ids: Vec<String> = self.page.runs.iter().map(|run| run.id.to_string()).collect();
        ids.join(",")
    }

    /// The image under one of the runs.
    fn under(&self, run: &RunId, image: &ImageId) -> String {
        format!("/runs/{run}/images/{image}")
    }

    /// The image's page under the first of the runs; its file where there are none.
    fn image(&self, image: &ImageId) -> String {
        self.page.runs.first().map_or_else(|| format!("/images/{image}"), |run| self.under(&run.id, image))
    }

    fn is_filtered(&self) -> bool {
        let DatasetImagesQuery { split, runs, sort, cursor, limit, .. } = self.query.clone();
        self.query != DatasetImagesQuery { split, runs, sort, cursor, limit, ..DatasetImagesQuery::default() }
    }
}
