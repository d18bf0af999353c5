//! The decision paths of one photograph: how each of some runs decides for it.

mod decision;
mod query;

use serde::{Deserialize, Serialize};

use crate::domain::ImageId;

pub use decision::{Contribution, PredictedCategory, PredictedLabel, RunDecision};
pub use query::PredictionQuery;

/// What some runs say about one photograph, side by side.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Prediction {
    /// The file's name, where the sender gave one.
    pub name: Option<String>,
    /// The image, where it is one of a data set's and no upload.
    pub image: Option<ImageId>,
    /// Width of the photograph, upright, in pixels.
    pub width: u32,
    /// Its height.
    pub height: u32,
    /// One for each run, in the order asked for.
    pub decisions: Vec<RunDecision>,
}
