//! Where pages about one label or category lead to: under the decision rule that was asked for.

use crate::{domain::RunId, report::RuleQuery, web::filters as text};

/// The addresses around a run's labels and categories.
pub struct Links {
    pub run: RunId,
    pub query: RuleQuery,
}

impl Links {
    pub fn labels(&self) -> String {
        self.to("labels", &[])
    }

    pub fn label(&self, name: &str) -> String {
        self.to(&format!("labels/{}", text::encoded(name)), &[])
    }

    pub fn categories(&self) -> String {
        self.to("categories", &[])
    }

    pub fn category(&self, name: &str) -> String {
        self.to(&format!("categories/{}", text::encoded(name)), &[])
    }

    /// The images that fit a filter.
    pub fn images(&self, filter: &str, value: &str) -> String {
        self.to("images", &[(filter, value)])
    }

    /// The images that fit a filter, the most wrong first.
    pub fn worst(&self, filter: &str, value: &str) -> String {
        self.to("images", &[(filter, value), ("sort", "-loss")])
    }

    /// The images of a category that were taken for one.
    pub fn confused(&self, truth: &str, predicted: &str) -> String {
        self.to("images", &[("coarse", truth), ("predicted_coarse", predicted)])
    }

    /// The images of a category with an outcome.
    pub fn outcome(&self, category: &str, code: &str) -> String {
        self.to("images", &[("coarse", category), ("outcome", code)])
    }

    /// The JSON of the page at `address`.
    pub fn json(&self, address: &str) -> String {
        format!("/api/v1{address}")
    }

    fn to(&self, place: &str, more: &[(&str, &str)]) -> String {
        let RuleQuery { rule, k, threshold } = &self.query;
        let (k, threshold) = (k.map(|k| k.to_string()), threshold.map(|threshold| threshold.to_string()));
        let rule = [("rule", rule.as_deref()), ("k", k.as_deref()), ("threshold", threshold.as_deref())];
        let query: Vec<_> = more.iter().map(|(name, value)| (*name, Some(*value))).chain(rule).collect();
        text::address(&format!("/runs/{}/{place}", self.run), &query)
    }
}
