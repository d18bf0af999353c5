//! Decision rules: from the fine scores of one image to the set of labels taken as predicted.

use std::{num::NonZeroU16, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{FineId, LabelSet};

/// How a set of fine labels is taken from fine scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "rule", rename_all = "kebab-case")]
pub enum DecisionRule {
    /// The `k` highest scores. Ties: lower class index first.
    TopK {
        /// How many.
        k: TopK,
    },
    /// Every label whose probability exceeds the threshold, strictly.
    Threshold {
        /// The threshold θ on the sigmoid's probability.
        threshold: Threshold,
    },
    /// Every label whose probability exceeds its own threshold, strictly.
    PerLabel {
        /// θ_t of each fine label, in index order.
        thresholds: Arc<[Threshold]>,
    },
}

/// How many labels a top-k rule takes. In JSON: a number, or `null` for the oracle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Option<NonZeroU16>", into = "Option<NonZeroU16>")]
pub enum TopK {
    /// As many as the image truly has: the truth's size is used at test time, and every page that shows it says so.
    Oracle,
    /// The same number for every image.
    Fixed(NonZeroU16),
}

impl From<Option<NonZeroU16>> for TopK {
    fn from(k: Option<NonZeroU16>) -> Self {
        k.map_or(Self::Oracle, Self::Fixed)
    }
}

impl From<TopK> for Option<NonZeroU16> {
    fn from(k: TopK) -> Self {
        match k {
            TopK::Oracle => None,
            TopK::Fixed(k) => Some(k),
        }
    }
}

/// A threshold on a probability, within [0, 1].
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(try_from = "f64", into = "f64")]
pub struct Threshold(f64);

impl Threshold {
    /// The paper's θ.
    pub const PAPER: Self = Self(0.7);

    /// `None` outside [0, 1] and for NaN.
    pub fn new(value: f64) -> Option<Self> {
        (0.0..=1.0).contains(&value).then_some(Self(value))
    }

    /// The probability.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl TryFrom<f64> for Threshold {
    type Error = String;
    fn try_from(value: f64) -> Result<Self, String> {
        Self::new(value).ok_or_else(|| format!("a threshold lies between 0 and 1, and {value} does not"))
    }
}

impl From<Threshold> for f64 {
    fn from(threshold: Threshold) -> f64 {
        threshold.0
    }
}

impl DecisionRule {
    /// The labels taken from `logits` (one fine logit per label). `true_count` is the number of true labels, which the
    /// oracle rule reads and the others ignore.
    pub fn decide(&self, logits: &[f32], true_count: usize) -> LabelSet {
        match self {
            Self::TopK { k: TopK::Oracle } => top_k(logits, true_count),
            Self::TopK { k: TopK::Fixed(k) } => top_k(logits, usize::from(k.get())),
            Self::Threshold { threshold } => above(logits, std::iter::repeat(threshold)),
            Self::PerLabel { thresholds } => above(logits, thresholds.iter()),
        }
    }

    /// Whether [`decide`](Self::decide) takes `label`.
    pub fn takes(&self, logits: &[f32], true_count: usize, label: FineId) -> bool {
        let among_first = |k: usize| {
            let own = logits[label.index()];
            let goes_before =
                |&(other, logit): &(usize, &f32)| logit.total_cmp(&own).then(label.index().cmp(&other)).is_gt();
            logits.iter().enumerate().filter(goes_before).count() < k
        };
        match self {
            Self::TopK { k: TopK::Oracle } => among_first(true_count),
            Self::TopK { k: TopK::Fixed(k) } => among_first(usize::from(k.get())),
            Self::Threshold { threshold } => sigmoid(logits[label.index()]) > threshold.get(),
            Self::PerLabel { thresholds } => sigmoid(logits[label.index()]) > thresholds[label.index()].get(),
        }
    }
}

fn top_k(logits: &[f32], k: usize) -> LabelSet {
    let mut order: Vec<u16> = (0..logits.len() as u16).collect();
    let rank = |&a: &u16, &b: &u16| logits[usize::from(b)].total_cmp(&logits[usize::from(a)]).then(a.cmp(&b));
    if k < order.len() {
        order.select_nth_unstable_by(k, rank);
        order.truncate(k);
    }
    order.into_iter().map(FineId).collect()
}

fn above<'a>(logits: &[f32], thresholds: impl Iterator<Item = &'a Threshold>) -> LabelSet {
    let labels = (0u16..).map(FineId).zip(logits).zip(thresholds);
    labels.filter(|((_, logit), threshold)| sigmoid(**logit) > threshold.get()).map(|((fine, _), _)| fine).collect()
}

/// `1 / (1 + exp(-logit))` in float64, as the threshold rule reads it.
pub fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

/// Softmax of `logits` in float64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let mut probabilities = Vec::with_capacity(logits.len());
    softmax_into(logits, &mut probabilities);
    probabilities
}

/// The same in place of what was in `probabilities`, for many images without a new vector for each.
pub fn softmax_into(logits: &[f32], probabilities: &mut Vec<f64>) {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    probabilities.clear();
    probabilities.extend(logits.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()));
    let sum: f64 = probabilities.iter().sum();
    for probability in probabilities {
        *probability /= sum;
    }
}

/// The index of the largest value; ties: the lower index. 0 for an empty slice.
pub fn arg_max<T: PartialOrd>(values: &[T]) -> usize {
    let mut best = 0;
    for (index, value) in values.iter().enumerate() {
        if *value > values[best] {
            best = index;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(labels: &[u16]) -> LabelSet {
        labels.iter().copied().map(FineId).collect()
    }

    fn fixed(k: u16) -> DecisionRule {
        DecisionRule::TopK { k: NonZeroU16::new(k).into() }
    }

    #[test]
    fn top_k_takes_the_highest_and_breaks_ties_by_lower_index() {
        let logits = [1.0, 3.0, 3.0, 2.0, 3.0];
        assert_eq!(fixed(2).decide(&logits, 0), set(&[1, 2]));
        assert_eq!(fixed(4).decide(&logits, 0), set(&[1, 2, 3, 4]));
        assert_eq!(fixed(9).decide(&logits, 0), set(&[0, 1, 2, 3, 4]));
        assert_eq!(DecisionRule::TopK { k: TopK::Oracle }.decide(&logits, 1), set(&[1]));
    }

    #[test]
    fn the_threshold_is_strict() {
        let rule = DecisionRule::Threshold { threshold: Threshold(0.5) };
        assert_eq!(rule.decide(&[0.0, 1e-3, -1.0], 0), set(&[1]));
        assert!(Threshold::new(1.01).is_none() && Threshold::new(f64::NAN).is_none());
    }

    #[test]
    fn each_label_has_its_own_threshold() {
        // sigmoid(0) = 0.5, sigmoid(2) = 0.881, sigmoid(-1) = 0.269
        let rule = DecisionRule::PerLabel { thresholds: [0.5, 0.88, 0.27, 0.2].map(Threshold).into() };
        assert_eq!(rule.decide(&[0.0, 2.0, -1.0, -1.0], 0), set(&[1, 3]));
    }

    #[test]
    fn a_label_is_taken_if_it_is_in_the_set() {
        let logits = [1.0, 3.0, -0.0, 0.0, 3.0, -2.0, 0.0];
        let threshold = DecisionRule::Threshold { threshold: Threshold(0.5) };
        let per_label =
            DecisionRule::PerLabel { thresholds: [0.8, 0.9, 0.5, 0.4, 0.95, 0.1, 0.5].map(Threshold).into() };
        let rules = (1..9).map(fixed).chain([DecisionRule::TopK { k: TopK::Oracle }, threshold, per_label]);
        for rule in rules {
            for true_count in 0..4 {
                let set = rule.decide(&logits, true_count);
                for label in (0..7).map(FineId) {
                    assert_eq!(rule.takes(&logits, true_count, label), set.contains(label), "{rule:?} {label}");
                }
            }
        }
    }

    #[test]
    fn extreme_logits_stay_finite() {
        assert_eq!((sigmoid(1e4), sigmoid(-1e4)), (1.0, 0.0));
        assert_eq!(softmax(&[1e4, -1e4]), [1.0, 0.0]);
    }

    #[test]
    fn rules_round_trip_through_json() {
        for (rule, json) in [
            (DecisionRule::TopK { k: TopK::Oracle }, r#"{"rule":"top-k","k":null}"#),
            (fixed(3), r#"{"rule":"top-k","k":3}"#),
            (DecisionRule::Threshold { threshold: Threshold::PAPER }, r#"{"rule":"threshold","threshold":0.7}"#),
            (
                DecisionRule::PerLabel { thresholds: [Threshold::PAPER, Threshold(0.25)].into() },
                r#"{"rule":"per-label","thresholds":[0.7,0.25]}"#,
            ),
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), json);
            assert_eq!(serde_json::from_str::<DecisionRule>(json).unwrap(), rule);
        }
    }
}
