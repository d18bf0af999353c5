//! The decision path of one uploaded photograph.

use serde::Serialize;

use super::RunBrief;
use crate::domain::DecisionRule;

/// How one run decided for one image: image → fine labels → category.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// The run whose model decided.
    pub run: RunBrief,
    /// Width of the upload in pixels.
    pub width: u32,
    /// Height of the upload in pixels.
    pub height: u32,
    /// The rule; `null` for a coarse-only run. An upload has no truth, so k is chosen, never the oracle.
    pub rule: Option<DecisionRule>,
    /// The rule in words.
    pub rule_words: Option<String>,
    /// The predicted category.
    pub category: String,
    /// The category with the second highest logit.
    pub runner_up: Option<String>,
    /// One sentence: “animal, because of dog 0.93 (+4.1) and person 0.71 (+0.2)”.
    pub sentence: String,
    /// Fine labels, most probable first (the `top` most probable and every one the rule takes).
    pub fine: Vec<PredictedLabel>,
    /// Summed contribution of the fine labels that `fine` leaves out, to the predicted category.
    pub rest_contribution: f64,
    /// All categories, most probable first.
    pub coarse: Vec<PredictedCategory>,
}

/// One fine label's part in the decision.
#[derive(Clone, Debug, Serialize)]
pub struct PredictedLabel {
    /// Its name.
    pub name: String,
    /// Its own category; `None` for a public label.
    pub parent: Option<String>,
    /// Its logit.
    pub logit: f32,
    /// Its probability under the run's activation.
    pub probability: f64,
    /// Whether the rule takes it.
    pub taken: bool,
    /// `W_mt p_t` to the predicted category.
    pub contribution: f64,
    /// `W_mt p_t` to the runner-up.
    pub runner_up_contribution: Option<f64>,
    /// To every category, in taxonomy order.
    pub contributions: Vec<Contribution>,
}

/// A fine label's contribution to a category's logit.
#[derive(Clone, Debug, Serialize)]
pub struct Contribution {
    /// The category.
    pub coarse: String,
    /// `W_mt p_t`.
    pub value: f64,
}

/// One category.
#[derive(Clone, Debug, Serialize)]
pub struct PredictedCategory {
    /// Its name.
    pub name: String,
    /// Its logit: bias + contributions of all fine labels.
    pub logit: f64,
    /// `b_m`; `None` for a coarse-only run.
    pub bias: Option<f64>,
    /// Softmax probability.
    pub probability: f64,
}
