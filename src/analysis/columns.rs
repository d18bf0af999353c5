//! Figures of each image that lists of images are sorted and filtered by.

use rayon::prelude::*;

use super::Truth;
use crate::{
    domain::{
        CoarseId, LabelSet,
        decision::{arg_max, softmax},
    },
    exchange::Scores,
};

/// One value per image, in the order of the scores.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Columns {
    /// The category decided for.
    pub predicted: Vec<CoarseId>,
    /// Its softmax probability.
    pub confidence: Vec<f32>,
    /// Softmax probability of the true category minus the highest of another one: negative where the category is wrong.
    pub margin: Vec<f32>,
    /// The loss of the image, as in training (eq. 8), in nats.
    pub loss: Vec<f32>,
}

/// The loss of fine labels that a run was trained on.
#[derive(Clone, Debug, PartialEq)]
pub enum FineLoss {
    /// Eq. 5.
    Focal {
        /// α of each fine label.
        alpha: Vec<f64>,
        /// γ.
        gamma: f64,
    },
    /// Eq. 6.
    BinaryCrossEntropy,
    /// A coarse-only run has none.
    None,
}

impl Columns {
    /// `truths`: one per row of `scores`.
    pub fn of(scores: &Scores, truths: &[Truth], fine: &FineLoss) -> Self {
        let rows: Vec<(CoarseId, [f32; 3])> = truths
            .par_iter()
            .enumerate()
            .map(|(row, truth)| {
                let logits = scores.coarse_row(row);
                let (predicted, p) = (arg_max(logits), softmax(logits));
                let truly = p[truth.coarse.index()];
                let others = p.iter().enumerate().filter(|(category, _)| *category != truth.coarse.index());
                let highest = others.map(|(_, p)| *p).fold(0.0, f64::max);
                let loss = cross_entropy(logits, truth.coarse.index())
                    + scores.fine_row(row).map_or(0.0, |logits| fine.of(logits, truth.fine));
                (CoarseId(predicted as u16), [p[predicted] as f32, (truly - highest) as f32, loss as f32])
            })
            .collect();
        let column = |index: usize| rows.iter().map(|(_, values)| values[index]).collect();
        Self {
            predicted: rows.iter().map(|(predicted, _)| *predicted).collect(),
            confidence: column(0),
            margin: column(1),
            loss: column(2),
        }
    }
}

impl FineLoss {
    /// Of one image.
    fn of(&self, logits: &[f32], labels: &LabelSet) -> f64 {
        match self {
            Self::None => 0.0,
            Self::Focal { alpha, gamma } => {
                let log_sum = log_sum_exp(logits);
                let term = |label: usize| {
                    let log_p = f64::from(logits[label]) - log_sum;
                    // 0 · log 0 counts as 0, and so does what a γ of 0 leaves as it is.
                    -alpha[label] * (1.0 - log_p.exp()).max(0.0).powf(*gamma) * log_p
                };
                labels.iter().map(|label| term(label.index())).sum()
            }
            Self::BinaryCrossEntropy => {
                // −log p = softplus(z) − z where y is 1, −log(1 − p) = softplus(z) elsewhere.
                let softplus = |z: f64| z.max(0.0) + (-z.abs()).exp().ln_1p();
                let all: f64 = logits.iter().map(|&z| softplus(f64::from(z))).sum();
                all - labels.iter().map(|label| f64::from(logits[label.index()])).sum::<f64>()
            }
        }
    }
}

/// −log of the softmax probability of `category` (eq. 7).
fn cross_entropy(logits: &[f32], category: usize) -> f64 {
    log_sum_exp(logits) - f64::from(logits[category])
}

fn log_sum_exp(logits: &[f32]) -> f64 {
    let max = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    max + logits.iter().map(|&z| (f64::from(z) - max).exp()).sum::<f64>().ln()
}
