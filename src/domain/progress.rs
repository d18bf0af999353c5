//! How a run goes on: what a worker tells, what is stored, what is shown.

use serde::{Deserialize, Serialize};

/// How far a running run is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// What it is doing: “loading”, “epoch 2 of 8”, “evaluating test”.
    pub phase: String,
    /// Share of the whole run done, 0 to 1.
    pub fraction: f64,
    /// Training loss of the latest step.
    pub loss: Option<f64>,
    /// Training speed.
    pub images_per_second: Option<f64>,
    /// Estimated time left, in seconds.
    pub seconds_left: Option<f64>,
}

/// One finished epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EpochPoint {
    /// From 1.
    pub epoch: u32,
    /// Mean training loss.
    pub train_loss: f64,
    /// Mean loss on the validation split.
    pub validation_loss: Option<f64>,
    /// IA on the validation split under the run's own rule.
    pub validation_ia: Option<f64>,
    /// Coarse accuracy on the validation split.
    pub validation_coarse_accuracy: Option<f64>,
    /// Learning rate at the end of the epoch.
    pub learning_rate: f64,
    /// Wall-clock seconds.
    pub seconds: f64,
}

/// A line of a worker's log.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogLine {
    /// RFC 3339.
    pub at: String,
    /// The text.
    pub text: String,
}
