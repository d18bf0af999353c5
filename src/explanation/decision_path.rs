//! The decision path of one image: image → fine labels → coarse category.
//!
//! The coarse layer sees the fine level only, so a category's logit *is* the sum of its bias and one contribution per
//! fine label (method, "Model"). Nothing here is an approximation.

use serde::Serialize;

use crate::{
    domain::{CoarseId, DecisionRule, FineId, LabelSet, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation},
};

/// How one model decided for one image.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct DecisionPath {
    /// Every fine label, most probable first (ties: lower index first). Empty for a coarse-only model.
    pub fine: Vec<FineEvidence>,
    /// Every category, in index order.
    pub coarse: Vec<CoarseEvidence>,
    /// The category with the highest logit (ties: lower index).
    pub winner: CoarseId,
    /// The category with the second highest.
    pub runner_up: Option<CoarseId>,
    /// The rule that took the fine labels; `None` for a coarse-only model.
    pub rule: Option<DecisionRule>,
    /// The fine labels that the rule took.
    pub predicted: LabelSet,
}

/// One fine label's part in the decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FineEvidence {
    /// The label.
    pub fine: FineId,
    /// Its logit z_t.
    pub logit: f32,
    /// Its probability p_t under the model's activation.
    pub probability: f64,
    /// Whether the rule took it.
    pub taken: bool,
    /// `W_mt · p_t` for every category m, in index order (`W_mt · z_t` where the coarse layer reads logits).
    pub contributions: Vec<f64>,
}

/// One category.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CoarseEvidence {
    /// The category.
    pub coarse: CoarseId,
    /// `b_m + Σ_t contribution_mt`.
    pub logit: f64,
    /// `b_m`; `None` for a coarse-only model.
    pub bias: Option<f64>,
    /// Its softmax probability.
    pub probability: f64,
}

/// The layer from the fine to the coarse level.
#[derive(Clone, Copy, Debug)]
pub struct Head<'a> {
    /// What makes probabilities of the fine logits.
    pub activation: ScoreActivation,
    /// What the coarse layer reads.
    pub coarse_input: CoarseInput,
    /// W: `[coarse, fine]`, row-major.
    pub weight: &'a [f32],
    /// b: `[coarse]`.
    pub bias: &'a [f32],
}

impl<'a> From<&'a FineScores> for Head<'a> {
    fn from(scores: &'a FineScores) -> Self {
        let FineScores { activation, coarse_input, ref weight, ref bias, .. } = *scores;
        Self { activation, coarse_input, weight, bias }
    }
}

/// The path of an image with these `fine_logits` (`[fine]`) through `head`. `true_count` is the image's number of true
/// fine labels, which the oracle rule alone reads. Lengths agree, as they do in a read score file.
pub fn decision_path(fine_logits: &[f32], head: &Head, rule: &DecisionRule, true_count: usize) -> DecisionPath {
    let probabilities = head.activation.probabilities(fine_logits);
    let mut inputs = Vec::with_capacity(fine_logits.len());
    head.activation.coarse_inputs(head.coarse_input, fine_logits, &mut inputs);
    let rows: Vec<&[f32]> = head.weight.chunks_exact(fine_logits.len().max(1)).collect();
    let predicted = rule.decide(fine_logits, true_count);

    let mut fine: Vec<FineEvidence> = (0u16..)
        .zip(fine_logits)
        .map(|(index, &logit)| {
            let t = usize::from(index);
            FineEvidence {
                fine: FineId(index),
                logit,
                probability: probabilities[t],
                taken: predicted.contains(FineId(index)),
                contributions: rows.iter().map(|row| f64::from(row[t]) * inputs[t]).collect(),
            }
        })
        .collect();
    let logits: Vec<f64> = head
        .bias
        .iter()
        .enumerate()
        .map(|(m, &bias)| f64::from(bias) + fine.iter().map(|evidence| evidence.contributions[m]).sum::<f64>())
        .collect();
    // By logit: the same order as by probability in both modes, and saturated probabilities do not tie.
    fine.sort_by(|a, b| b.logit.total_cmp(&a.logit).then(a.fine.cmp(&b.fine)));
    let (winner, runner_up) = first_two(&logits);
    let biases = head.bias.iter().map(|&bias| Some(f64::from(bias)));
    DecisionPath {
        fine,
        coarse: coarse_evidence(&logits, biases),
        winner,
        runner_up,
        rule: Some(rule.clone()),
        predicted,
    }
}

/// The path of an image through a coarse-only model: image → category, with no evidence between. `coarse_logits`:
/// `[coarse]`.
pub fn coarse_only_path(coarse_logits: &[f32]) -> DecisionPath {
    let logits: Vec<f64> = coarse_logits.iter().copied().map(f64::from).collect();
    let (winner, runner_up) = first_two(&logits);
    let coarse = coarse_evidence(&logits, std::iter::repeat(None));
    DecisionPath { fine: Vec::new(), coarse, winner, runner_up, rule: None, predicted: LabelSet::default() }
}

fn coarse_evidence(logits: &[f64], biases: impl Iterator<Item = Option<f64>>) -> Vec<CoarseEvidence> {
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = logits.iter().map(|logit| (logit - max).exp()).sum();
    (0u16..)
        .zip(logits.iter().zip(biases))
        .map(|(index, (&logit, bias))| CoarseEvidence {
            coarse: CoarseId(index),
            logit,
            bias,
            probability: (logit - max).exp() / sum,
        })
        .collect()
}

/// The indices of the two largest values; ties: the lower index first.
fn first_two(logits: &[f64]) -> (CoarseId, Option<CoarseId>) {
    let mut order: Vec<u16> = (0..logits.len() as u16).collect();
    order.sort_by(|&a, &b| logits[usize::from(b)].total_cmp(&logits[usize::from(a)]));
    (CoarseId(order.first().copied().unwrap_or(0)), order.get(1).copied().map(CoarseId))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Threshold, TopK};

    fn head(coarse_input: CoarseInput) -> Head<'static> {
        Head {
            activation: ScoreActivation::Sigmoid,
            coarse_input,
            weight: &[2.0, -1.0, 0.5, /* */ 0.0, 4.0, 1.0],
            bias: &[0.25, -0.5],
        }
    }

    fn threshold() -> DecisionRule {
        DecisionRule::Threshold { threshold: Threshold::PAPER }
    }

    #[test]
    fn a_hand_worked_path() {
        // p = sigmoid(0, ln 4, -ln 4) = 1/2, 4/5, 1/5.
        let ln4 = 4f32.ln();
        let path = decision_path(&[0.0, ln4, -ln4], &head(CoarseInput::Probabilities), &threshold(), 0);
        let order: Vec<_> = path.fine.iter().map(|evidence| evidence.fine.0).collect();
        assert_eq!(order, [1, 0, 2]);
        assert_eq!(path.predicted.as_slice(), [FineId(1)]);
        assert!(path.fine[0].taken && !path.fine[1].taken);
        // 0.25 + 2/2 − 4/5 + 1/10 = 0.55 and −0.5 + 0 + 16/5 + 1/5 = 2.9.
        for (evidence, expected) in path.coarse.iter().zip([0.55, 2.9]) {
            assert!((evidence.logit - expected).abs() < 1e-7, "{evidence:?}");
        }
        assert!((path.coarse[1].probability - 1.0 / (1.0 + (0.55f64 - 2.9).exp())).abs() < 1e-7);
        assert_eq!((path.winner, path.runner_up), (CoarseId(1), Some(CoarseId(0))));
        for m in 0..2 {
            let sum: f64 = path.fine.iter().map(|evidence| evidence.contributions[m]).sum();
            assert!((sum + path.coarse[m].bias.unwrap() - path.coarse[m].logit).abs() < 1e-12);
        }
    }

    #[test]
    fn a_head_on_logits_weighs_logits() {
        let path = decision_path(&[1.0, 2.0, -3.0], &head(CoarseInput::Logits), &threshold(), 0);
        assert_eq!(path.coarse[0].logit, 0.25 + 2.0 - 2.0 - 1.5);
        assert_eq!(path.fine[0].contributions, [-2.0, 8.0]);
    }

    #[test]
    fn the_oracle_takes_as_many_as_are_true() {
        let rule = DecisionRule::TopK { k: TopK::Oracle };
        let path = decision_path(&[1.0, 2.0, 3.0], &head(CoarseInput::Logits), &rule, 2);
        assert_eq!(path.predicted.as_slice(), [FineId(1), FineId(2)]);
    }

    #[test]
    fn a_coarse_only_path_has_no_evidence_and_ties_go_to_the_lower_index() {
        let path = coarse_only_path(&[1.0, 3.0, 3.0]);
        assert_eq!((path.winner, path.runner_up), (CoarseId(1), Some(CoarseId(2))));
        assert!(path.fine.is_empty() && path.rule.is_none() && path.coarse.iter().all(|c| c.bias.is_none()));
    }
}
