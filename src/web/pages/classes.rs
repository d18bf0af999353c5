//! Where pages about one label or category lead to: under the decision rule that was asked for.

use std::fmt;

use crate::{
    domain::{ImageId, Outcome, RunId},
    report::{OutcomeQuery, RuleQuery},
    web::filters as text,
};

/// The addresses around a run's labels and categories.
pub struct Links {
    pub run: RunId,
    pub query: RuleQuery,
}

/// Images of a run, as its gallery lists them. It is written as the gallery's address.
pub struct ImageList {
    run: RunId,
    query: OutcomeQuery,
}

impl fmt::Display for ImageList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::address_of(&format!("/runs/{}/images", self.run), &self.query))
    }
}

impl ImageList {
    /// One of the images, with its neighbours among them.
    pub fn image(&self, image: &ImageId) -> String {
        text::address_of(&format!("/runs/{}/images/{image}", self.run), &self.query)
    }
}

impl Links {
    pub fn labels(&self) -> String {
        self.to("labels")
    }

    pub fn label(&self, name: &str) -> String {
        self.to(&format!("labels/{}", text::encoded(name)))
    }

    pub fn categories(&self) -> String {
        self.to("categories")
    }

    pub fn category(&self, name: &str) -> String {
        self.to(&format!("categories/{}", text::encoded(name)))
    }

    /// Images that truly have a label.
    pub fn having(&self, label: &str) -> ImageList {
        self.images(OutcomeQuery { fine: Some(label.into()), ..OutcomeQuery::default() })
    }

    /// Images that are said to have a label.
    pub fn said(&self, label: &str) -> ImageList {
        self.images(OutcomeQuery { predicted: Some(label.into()), ..OutcomeQuery::default() })
    }

    /// Images that have a label and are not said to.
    pub fn missing(&self, label: &str) -> ImageList {
        self.images(OutcomeQuery { missing: Some(label.into()), ..OutcomeQuery::default() })
    }

    /// Images that are said to have a label and do not.
    pub fn extra(&self, label: &str) -> ImageList {
        self.images(OutcomeQuery { extra: Some(label.into()), ..OutcomeQuery::default() })
    }

    /// Images of a category.
    pub fn of(&self, category: &str) -> ImageList {
        self.images(OutcomeQuery { coarse: Some(category.into()), ..OutcomeQuery::default() })
    }

    /// Images that were taken for a category.
    pub fn taken_for(&self, category: &str) -> ImageList {
        self.images(OutcomeQuery { predicted_coarse: Some(category.into()), ..OutcomeQuery::default() })
    }

    /// Images of a category that were taken for another.
    pub fn lost(&self, category: &str) -> ImageList {
        let coarse = Some(category.into());
        self.images(OutcomeQuery { coarse, correct: Some(false), ..OutcomeQuery::default() })
    }

    /// Images of other categories that were taken for one.
    pub fn mistaken(&self, category: &str) -> ImageList {
        let predicted_coarse = Some(category.into());
        self.images(OutcomeQuery { predicted_coarse, correct: Some(false), ..OutcomeQuery::default() })
    }

    /// Images of a category that were taken for one.
    pub fn confused(&self, truth: &str, predicted: &str) -> ImageList {
        let (coarse, predicted_coarse) = (Some(truth.into()), Some(predicted.into()));
        self.images(OutcomeQuery { coarse, predicted_coarse, ..OutcomeQuery::default() })
    }

    /// Images of a category with an outcome.
    pub fn outcome(&self, category: &str, outcome: &Outcome) -> ImageList {
        let (coarse, outcome) = (Some(category.into()), Some(*outcome));
        self.images(OutcomeQuery { coarse, outcome, ..OutcomeQuery::default() })
    }

    /// The JSON of the page at `address`.
    pub fn json(&self, address: &str) -> String {
        format!("/api/v1{address}")
    }

    fn images(&self, query: OutcomeQuery) -> ImageList {
        let RuleQuery { rule, k, threshold } = self.query.clone();
        ImageList { run: self.run, query: OutcomeQuery { rule, k, threshold, ..query } }
    }

    fn to(&self, place: &str) -> String {
        text::address_of(&format!("/runs/{}/{place}", self.run), &self.query)
    }
}
