//! Decision rules: from the fine scores of one image to the set of labels taken as predicted.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use super::{FineId, LabelSet};

/// How a set of fine labels is taken from fine scores.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
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

impl Threshold {
    /// The least logit whose [`sigmoid`] exceeds the threshold; infinite if none does. Whoever holds many logits against it needs
    /// no exponential for each.
    pub fn least_logit(self) -> f32 {
        // Bits of floats in the order of their values, and back; `sigmoid` rises with them.
        let ordered = |bits: i32| bits ^ (((bits >> 31).cast_unsigned()) >> 1).cast_signed();
        let ordinal = |float: f32| ordered(float.to_bits().cast_signed());
        let float = |ordinal: i32| f32::from_bits(ordered(ordinal).cast_unsigned());
        let (mut below, mut above) = (ordinal(f32::NEG_INFINITY), ordinal(f32::INFINITY));
        while i64::from(above) - i64::from(below) > 1 {
            let middle = below.midpoint(above);
            if sigmoid(float(middle)) > self.0 { above = middle } else { below = middle }
        }
        float(above)
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
    pub fn decide(self, logits: &[f32], true_count: usize) -> LabelSet {
        match self {
            Self::TopK { k: TopK::Oracle } => top_k(logits, true_count),
            Self::TopK { k: TopK::Fixed(k) } => top_k(logits, usize::from(k.get())),
            Self::Threshold { threshold } => above(logits, threshold),
        }
    }

    /// Whether [`decide`](Self::decide) takes `label`.
    pub fn takes(self, logits: &[f32], true_count: usize, label: FineId) -> bool {
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
        }
    }
}

/// Whether a rule takes exactly the true labels of an image: what [`DecisionRule::decide`] equals them for, without a set for
/// each image.
#[derive(Clone, Copy, Debug)]
pub enum ExactMatch {
    /// Of the `k` highest scores.
    TopK(TopK),
    /// Of every label whose logit is at least this one.
    From(f32),
}

impl From<DecisionRule> for ExactMatch {
    fn from(rule: DecisionRule) -> Self {
        match rule {
            DecisionRule::TopK { k } => Self::TopK(k),
            DecisionRule::Threshold { threshold } => Self::From(threshold.least_logit()),
        }
    }
}

impl ExactMatch {
    /// Of one image, with finite `logits` and these true labels.
    pub fn holds(self, logits: &[f32], truth: &LabelSet) -> bool {
        match self {
            Self::From(least) => {
                let taken = logits.iter().filter(|logit| **logit >= least).count();
                taken == truth.len() && truth.iter().all(|label| logits[label.index()] >= least)
            }
            Self::TopK(k) => {
                let k = match k {
                    TopK::Oracle => truth.len(),
                    TopK::Fixed(k) => usize::from(k.get()),
                };
                if k.min(logits.len()) != truth.len() {
                    return false;
                }
                // The true labels are the first ones if only they go before the last of them, and it is one itself.
                let rank = |label: usize, other: usize| logits[other].total_cmp(&logits[label]).then(label.cmp(&other));
                let last = truth.iter().map(FineId::index).reduce(|a, b| if rank(a, b).is_gt() { a } else { b });
                last.is_none_or(|last| {
                    (0..logits.len()).filter(|other| rank(last, *other).is_gt()).count() < truth.len()
                })
            }
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

fn above(logits: &[f32], threshold: Threshold) -> LabelSet {
    (0u16..).zip(logits).filter(|&(_, &logit)| sigmoid(logit) > threshold.get()).map(|(fine, _)| FineId(fine)).collect()
}

/// `1 / (1 + exp(-logit))` in float64, as the threshold rule reads it.
pub fn sigmoid(logit: f32) -> f64 {
    1.0 / (1.0 + (-f64::from(logit)).exp())
}

/// Softmax of `logits` in float64.
pub fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exp: Vec<f64> = logits.iter().map(|&logit| (f64::from(logit) - f64::from(max)).exp()).collect();
    let sum: f64 = exp.iter().sum();
    exp.into_iter().map(|e| e / sum).collect()
}

/// The index of the largest value; ties: the lower index. 0 for an empty slice.
pub fn arg_max(values: &[f32]) -> usize {
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
    fn a_label_is_taken_if_it_is_in_the_set() {
        let logits = [1.0, 3.0, -0.0, 0.0, 3.0, -2.0, 0.0];
        let threshold = DecisionRule::Threshold { threshold: Threshold(0.5) };
        let top_k = (1..9).map(fixed).chain([DecisionRule::TopK { k: TopK::Oracle }, threshold]);
        for rule in top_k {
            for true_count in 0..4 {
                let set = rule.decide(&logits, true_count);
                for label in (0..7).map(FineId) {
                    assert_eq!(rule.takes(&logits, true_count, label), set.contains(label), "{rule:?} {label}");
                }
            }
        }
    }

    #[test]
    fn the_least_logit_parts_those_above_the_threshold_from_the_rest() {
        let thresholds = (0..=1000).map(|i| f64::from(i) / 1000.0).chain([1e-9, 1.0 - 1e-9, 0.5 + 1e-12]);
        for threshold in thresholds.map(Threshold) {
            let least = threshold.least_logit();
            assert!(sigmoid(least.next_down()) <= threshold.get(), "{threshold:?} {least}");
            assert!(least == f32::INFINITY || sigmoid(least) > threshold.get(), "{threshold:?} {least}");
        }
        assert_eq!(Threshold(1.0).least_logit(), f32::INFINITY);
        // logit(0.7) = 0.847…
        assert!((Threshold::PAPER.least_logit() - 0.847_297_9).abs() < 1e-6);
    }

    #[test]
    fn an_exact_match_is_an_equal_set() {
        let logits = [1.0, 3.0, -0.0, 0.0, 3.0, -2.0, 0.0];
        let threshold = |theta| DecisionRule::Threshold { threshold: Threshold(theta) };
        let rules = (1..9).map(fixed).chain([DecisionRule::TopK { k: TopK::Oracle }, threshold(0.5), threshold(0.0)]);
        for rule in rules {
            for bits in 0_u32..1 << logits.len() {
                let truth: LabelSet = (0..7).filter(|label| bits >> label & 1 == 1).map(FineId).collect();
                let equal = rule.decide(&logits, truth.len()) == truth;
                assert_eq!(ExactMatch::from(rule).holds(&logits, &truth), equal, "{rule:?} {truth:?}");
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
        ] {
            assert_eq!(serde_json::to_string(&rule).unwrap(), json);
            assert_eq!(serde_json::from_str::<DecisionRule>(json).unwrap(), rule);
        }
    }
}
