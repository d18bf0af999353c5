//! The options of a prediction, the same in the form and in the API.

use std::str::FromStr;

use serde::Deserialize;

use super::error::Problem;
use crate::{domain::RunId, services::PredictionOptions};

/// `run=ID&rule=top-k|threshold&k=&threshold=&top=`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PredictionQuery {
    /// Whose model decides.
    pub run: RunId,
    rule: Option<String>,
    k: Option<u16>,
    threshold: Option<f64>,
    top: Option<usize>,
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
    pub fn options(self) -> PredictionOptions {
        let Self { run: _, rule, k, threshold, top } = self;
        PredictionOptions { rule, k, threshold, top }
    }
}

fn parse<T: FromStr>(name: &str, value: &str) -> Result<T, Problem> {
    value.parse().map_err(|_| Problem::invalid(format!("{name}: “{value}” is not a number that fits")))
}
