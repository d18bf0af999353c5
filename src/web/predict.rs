//! The options of a prediction, the same in the form and in the API.

use std::str::FromStr;

use super::error::Problem;
use crate::{domain::RunId, report::rule_query, services::PredictionOptions};

rule_query! {
    /// `run=ID&top=` and a [`RuleQuery`](crate::report::RuleQuery).
    pub struct PredictionQuery {
        /// Whose model decides.
        pub run: RunId,
        top: Option<usize>,
    }
}

impl PredictionQuery {
    /// From the fields of a form.
    pub fn from_fields(fields: &[(String, String)]) -> Result<Self, Problem> {
        let field = |name: &str| fields.iter().find(|(field, _)| field == name).map(|(_, value)| value.trim());
        let run = field("run").ok_or_else(|| Problem::invalid("Choose the run whose model is to decide."))?;
        Ok(Self {
            run: parse("run", run)?,
            rule: field("rule").map(str::to_owned),
            k: field("k").map(|value| parse("k", value)).transpose()?,
            threshold: field("threshold").map(|value| parse("threshold", value)).transpose()?,
            top: field("top").map(|value| parse("top", value)).transpose()?,
        })
    }

    /// All but the run.
    pub fn options(&self) -> PredictionOptions {
        PredictionOptions { rule: self.into(), top: self.top }
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::invalid(format!("{name}: “{value}” is not a number that fits")))
}
