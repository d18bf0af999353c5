//! One figure with what is known of its uncertainty.

use serde::{Deserialize, Serialize};

/// A figure. `value` is `None` where it is undefined (a zero denominator); pages show “–”.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The value, or the mean over the runs of a group.
    pub value: Option<f64>,
    /// Lower end of the 95% interval; `None` for a group of several runs.
    pub low: Option<f64>,
    /// Upper end of the 95% interval; `None` for a group of several runs.
    pub high: Option<f64>,
    /// Sample standard deviation over the runs of a group; `None` for a single run.
    pub spread: Option<f64>,
    /// A bootstrap interval of zero width: nothing varied in the resamples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degenerate: bool,
}

/// The indices of a run (or a group of runs) with their uncertainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// IA, Wilson interval.
    pub ia: Figure,
    /// IP, Wilson interval.
    pub ip: Figure,
    /// IR, Wilson interval.
    pub ir: Figure,
    /// IF1, percentile bootstrap.
    pub if1: Figure,
    /// Coarse accuracy, Wilson interval.
    pub coarse_accuracy: Figure,
    /// Fine exact match, Wilson interval.
    pub fine_exact_match: Figure,
}
