//! `/runs/{id}/images`: what a run decided for each test image.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::{Outcome, RunId, Split},
    report::{OutcomePage, OutcomeQuery, Reports},
    web::{
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "images/gallery.html")]
pub struct GalleryPage {
    query: OutcomeQuery,
    page: OutcomePage,
}

pub async fn show(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Page<GalleryPage>, Problem> {
    let page = reports.outcomes(run, &query).await?;
    Ok(Page(GalleryPage { query, page }))
}

impl GalleryPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn split(&self) -> Split {
        self.query.split.unwrap_or(Split::Test)
    }

    fn explanation(&self) -> &'static str {
        match self.query.outcome {
            None => "Every image, whatever was decided.",
            Some(Outcome::Ftct) => {
                "All fine labels and the category are right: the answer rests on what is in the image."
            }
            Some(Outcome::Ftcf) => "The fine labels are right, yet the wrong category was drawn from them.",
            Some(Outcome::Ffct) => {
                "The category is right although the fine labels are not: a right answer that rests on the wrong evidence."
            }
            Some(Outcome::Ffcf) => "Neither the fine labels nor the category are right.",
        }
    }

    /// The gallery under another outcome, with the same filters.
    fn tab(&self, outcome: &Outcome) -> String {
        self.address(&self.path(), Some(*outcome), None)
    }

    fn all(&self) -> String {
        self.address(&self.path(), None, None)
    }

    fn first_page(&self) -> String {
        self.address(&self.path(), self.query.outcome, None)
    }

    fn next(&self, cursor: &str) -> String {
        self.address(&self.path(), self.query.outcome, Some(cursor))
    }

    fn path(&self) -> String {
        format!("/runs/{}/images", self.page.run.id)
    }

    fn json(&self) -> String {
        let path = format!("/api/v1/runs/{}/outcomes", self.page.run.id);
        self.address(&path, self.query.outcome, self.query.cursor.as_deref())
    }

    /// The run whose outcomes filter too, and which one it is.
    fn other(&self) -> Option<(RunId, Outcome)> {
        self.query.other.zip(self.query.other_outcome)
    }

    fn address(&self, path: &str, outcome: Option<Outcome>, cursor: Option<&str>) -> String {
        let query = OutcomeQuery { outcome, cursor: cursor.map(str::to_owned), ..self.query.clone() };
        text::address_of(path, &query)
    }
}
