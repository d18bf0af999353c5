//! What a run decided for each test image.

use serde::{Deserialize, Serialize};

use super::RunBrief;
use crate::domain::{Counts, ImageId, Outcome};

/// Which outcomes of a run, from where on, how many.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeQuery {
    /// `FTCT`, `FTCF`, `FFCT` or `FFCF`.
    pub outcome: Option<Outcome>,
    /// Images that truly have this fine label (by name).
    pub fine: Option<String>,
    /// Images of this true coarse category (by name).
    pub coarse: Option<String>,
    /// `test` (the default) or `validation`.
    pub split: Option<crate::domain::Split>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 by default.
    pub limit: Option<u32>,
}

/// A page of outcomes.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomePage {
    /// The run.
    pub run: RunBrief,
    /// The decision rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// Outcomes of the whole split, whatever the filter; `None` for a coarse-only run.
    pub counts: Option<Counts>,
    /// How many images match the filter.
    pub total: u64,
    /// Names of the fine labels, for the filter.
    #[serde(skip)]
    pub fine_names: Vec<String>,
    /// Names of the coarse categories, for the filter.
    #[serde(skip)]
    pub coarse_names: Vec<String>,
    /// The images.
    pub items: Vec<OutcomeItem>,
    /// To be passed as `cursor` for what follows.
    pub next_cursor: Option<String>,
}

/// One image and what was decided.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeItem {
    /// The image: `/images/{id}` is the file, `/images/{id}/thumbnail` a small one.
    pub image: ImageId,
    /// Its id in the source (COCO's).
    pub source_id: i64,
    /// Its file name.
    pub file_name: String,
    /// The outcome; `None` for a coarse-only run.
    pub outcome: Option<Outcome>,
    /// Whether the category is right.
    pub coarse_correct: bool,
    /// True fine labels.
    pub true_fine: Vec<String>,
    /// Predicted fine labels, most probable first; `None` for a coarse-only run.
    pub predicted_fine: Option<Vec<ScoredLabel>>,
    /// True labels that were not predicted; `None` for a coarse-only run.
    pub missing_fine: Option<Vec<String>>,
    /// True category.
    pub true_coarse: String,
    /// Predicted category.
    pub predicted_coarse: String,
    /// Softmax probability of the predicted category.
    pub coarse_probability: f64,
}

/// A predicted fine label.
#[derive(Clone, Debug, Serialize)]
pub struct ScoredLabel {
    /// Its name.
    pub name: String,
    /// Its probability under the run's activation.
    pub probability: f64,
    /// Whether it is truly there.
    pub correct: bool,
}
