//! `/runs/{id}/images`: what a run decided for each image, and `/runs/{id}/images/{image}`: for one of them.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::{ImageId, Outcome, RunId, SavedView, Split, spec::Objective},
    exchange::table::Format,
    report::{ImageReport, OutcomePage, OutcomeQuery, Reports, RunBrief, TransitionsQuery},
    services::Annotations,
    web::{
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

/// The orders that the page offers, as `sort=` names them, and in words.
const SORTS: [(&str, &str); 7] = [
    ("image", "in the data set's order"),
    ("-loss", "highest loss first"),
    ("loss", "lowest loss first"),
    ("margin", "smallest margin first"),
    ("-margin", "largest margin first"),
    ("-confidence", "most confident first"),
    ("confidence", "least confident first"),
];

#[derive(Template)]
#[template(path = "images/gallery.html")]
pub struct GalleryPage {
    query: OutcomeQuery,
    page: OutcomePage,
    views: Vec<SavedView>,
    /// Runs to hold against.
    comparable: Vec<RunBrief>,
}

#[derive(Template)]
#[template(path = "images/image.html")]
pub struct ImagePage {
    query: OutcomeQuery,
    report: ImageReport,
}

pub async fn show(
    State(reports): State<Reports>,
    State(annotations): State<Annotations>,
    Path(run): Path<RunId>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Page<GalleryPage>, Problem> {
    // The form sends what belongs to another run even where none is chosen.
    let query = match query.other {
        Some(_) => query,
        None => OutcomeQuery { other_outcome: None, differs: None, ..query },
    };
    let page = reports.outcomes(run, &query).await?;
    let comparable = reports.choices(&page.run, query.other.as_slice()).await?;
    Ok(Page(GalleryPage { query, comparable, page, views: annotations.views().await?.items }))
}

pub async fn one(
    State(reports): State<Reports>,
    Path((run, image)): Path<(RunId, ImageId)>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Page<ImagePage>, Problem> {
    let report = reports.image(run, image, &query).await?;
    Ok(Page(ImagePage { query, report }))
}

/// A condition in force, and the page without it.
struct Condition {
    words: String,
    without: String,
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
    fn tab(&self, outcome: Option<&Outcome>) -> String {
        self.at_start(OutcomeQuery { outcome: outcome.copied(), ..self.query.clone() })
    }

    fn first_page(&self) -> String {
        self.at_start(self.query.clone())
    }

    fn next(&self, cursor: &str) -> String {
        text::address_of(&self.path(), &OutcomeQuery { cursor: Some(cursor.to_owned()), ..self.query.clone() })
    }

    /// Without any condition.
    fn cleared(&self) -> String {
        let OutcomeQuery { outcome, split, rule, k, threshold, sort, limit, .. } = self.query.clone();
        self.at_start(OutcomeQuery { outcome, split, rule, k, threshold, sort, limit, ..OutcomeQuery::default() })
    }

    fn path(&self) -> String {
        format!("/runs/{}/images", self.page.run.id)
    }

    /// This page.
    fn here(&self) -> String {
        text::address_of(&self.path(), &self.query)
    }

    fn json(&self) -> String {
        text::address_of(&format!("/api/v1/runs/{}/outcomes", self.page.run.id), &self.query)
    }

    /// All images of this listing as a table for other programs.
    fn export(&self, format: &Format) -> String {
        let query = OutcomeQuery { cursor: None, limit: None, ..self.query.clone() };
        let path = format!("/api/v1/runs/{}/outcomes/export", self.page.run.id);
        let address = text::address_of(&path, &query);
        format!("{address}{}format={format}", if address == path { '?' } else { '&' })
    }

    /// One image, with its neighbours in this listing.
    fn image(&self, image: &ImageId) -> String {
        let query = OutcomeQuery { cursor: None, limit: None, ..self.query.clone() };
        text::address_of(&format!("{}/{image}", self.path()), &query)
    }

    /// The run whose outcomes filter too.
    fn other(&self) -> Option<RunId> {
        self.query.other
    }

    /// The other run and this one, each under the rule in force here.
    fn transitions(&self, other: &RunId) -> String {
        let query = self.query.clone();
        let transitions = TransitionsQuery {
            a: *other,
            b: self.page.run.id,
            rule: None,
            k: None,
            threshold: None,
            rule_a: query.other_rule,
            k_a: query.other_k,
            threshold_a: query.other_threshold,
            rule_b: query.rule,
            k_b: query.k,
            threshold_b: query.threshold,
        };
        text::address_of("/transitions", &transitions)
    }

    fn sort(&self) -> String {
        self.query.sort.unwrap_or_default().to_string()
    }

    /// What is asked for, apart from outcome, order and rule.
    fn conditions(&self) -> Vec<Condition> {
        let query = &self.query;
        let named = [
            ("coarse", "category is", &query.coarse),
            ("fine", "has", &query.fine),
            ("predicted", "said to have", &query.predicted),
            ("missing", "misses", &query.missing),
            ("extra", "said too much:", &query.extra),
            ("predicted_coarse", "said to be", &query.predicted_coarse),
            ("tag", "tagged", &query.tag),
        ];
        let others = [
            ("correct", "category right:", query.correct.map(yes_no)),
            ("min_labels", "fine labels ≥", query.min_labels.map(|n| n.to_string())),
            ("max_labels", "fine labels ≤", query.max_labels.map(|n| n.to_string())),
            ("min_confidence", "confidence ≥", query.min_confidence.map(|p| p.to_string())),
            ("max_confidence", "confidence ≤", query.max_confidence.map(|p| p.to_string())),
            ("noted", "has a note:", query.noted.map(yes_no)),
            ("differs", "outcome differs from the other run's:", query.differs.map(yes_no)),
        ];
        let named = named.into_iter().map(|(field, words, value)| (field, words, value.clone()));
        named
            .chain(others)
            .filter_map(|(field, words, value)| {
                Some(Condition { words: format!("{words} {}", value?), without: self.without(field) })
            })
            .collect()
    }

    /// This page without one of its conditions.
    fn without(&self, field: &str) -> String {
        let mut query = serde_json::to_value(OutcomeQuery { cursor: None, ..self.query.clone() }).unwrap_or_default();
        if let Some(fields) = query.as_object_mut() {
            fields.remove(field);
        }
        text::address_of(&self.path(), &query)
    }

    fn at_start(&self, query: OutcomeQuery) -> String {
        text::address_of(&self.path(), &OutcomeQuery { cursor: None, ..query })
    }
}

fn yes_no(value: bool) -> String {
    if value { "yes" } else { "no" }.to_owned()
}

impl ImagePage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn address(&self, path: &str) -> String {
        text::address_of(path, &self.query)
    }

    /// Another image of the same listing.
    fn image(&self, image: &ImageId) -> String {
        self.address(&format!("/runs/{}/images/{image}", self.report.run.id))
    }

    fn here(&self) -> String {
        self.image(&self.report.item.image)
    }

    /// The listing, at the image's place.
    fn gallery(&self) -> String {
        let listing = self.address(&format!("/runs/{}/images", self.report.run.id));
        format!("{listing}#image-{}", self.report.item.image)
    }

    fn json(&self) -> String {
        self.address(&format!("/api/v1/runs/{}/outcomes/{}", self.report.run.id, self.report.item.image))
    }
}
