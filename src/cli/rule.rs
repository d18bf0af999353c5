//! The decision rule that a report is asked to apply.

use clap::Args;
use serde::Serialize;

/// `--rule`, `--k`, `--threshold`, as the API's query has them.
#[derive(Args, Debug, Serialize)]
pub struct RuleArgs {
    /// Decide fine labels by this rule instead of the run's own; tuned: by a threshold for each label, tuned on validation
    #[arg(long, value_name = "RULE", value_parser = ["top-k", "threshold", "tuned"])]
    rule: Option<String>,
    /// Take the K highest scores [default with top-k: as many as the image truly has]
    #[arg(long, value_name = "K", conflicts_with = "threshold")]
    k: Option<u16>,
    /// Take every fine label above this probability, 0 to 1 [default with threshold: the run's own]
    #[arg(long, value_name = "THETA")]
    threshold: Option<f64>,
}
