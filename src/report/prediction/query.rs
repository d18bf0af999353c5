//! What is asked of a prediction, the same in a form, in an address and on the command line.

use std::str::FromStr;

use serde::Deserialize;

use crate::{domain::RunId, report::RuleQuery};

/// `run=ID&run=ID&rule=&k=&threshold=&top=`; `run` may also hold several ids, comma separated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct PredictionQuery {
    /// Whose models decide, each once, in the order given.
    pub runs: Vec<RunId>,
    /// The rule; k of top-k is 1 by default, since an upload has no truth whose size could be used. Runs that are coarse-only
    /// leave it aside beside runs that are not.
    pub rule: RuleQuery,
    /// Fine labels shown, most probable first; 10 by default. Those that the rule takes are always shown.
    pub top: Option<usize>,
}

impl TryFrom<Vec<(String, String)>> for PredictionQuery {
    type Error = String;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            let value = value.trim();
            match name.as_str() {
                "run" => {
                    for id in value.split(',') {
                        let run = number("run", id.trim())?;
                        if !query.runs.contains(&run) {
                            query.runs.push(run);
                        }
                    }
                }
                "rule" => query.rule.rule = Some(value.to_owned()),
                "k" => query.rule.k = Some(number("k", value)?),
                "threshold" => query.rule.threshold = Some(number("threshold", value)?),
                "top" => query.top = Some(number("top", value)?),
                unknown => {
                    return Err(format!(
                        "unknown field `{unknown}`, expected one of `run`, `rule`, `k`, `threshold`, `top`"
                    ));
                }
            }
        }
        match query.runs.len() {
            0 => Err("run: choose the run whose model is to decide".into()),
            1..=MAX_RUNS => Ok(query),
            runs => Err(format!("run: at most {MAX_RUNS} runs decide side by side, and these are {runs}")),
        }
    }
}

/// How many runs decide at once.
const MAX_RUNS: usize = 8;

fn number<T: FromStr>(name: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{name}: “{value}” is not a number that fits"))
}
