//! All thresholds and all k at once: what one pass over the fine scores tells about each image.

use rayon::prelude::*;

use super::Truth;
use crate::{
    domain::{
        Counts, DecisionRule, Judgements, LabelSet, Threshold, TopK,
        decision::{arg_max, by_rank, sigmoid},
    },
    exchange::Scores,
};

/// Images that one thread takes at a time.
const BLOCK: usize = 4096;
/// The bit that makes a float negative.
const SIGN: u32 = 1 << 31;

/// How the fine scores of each image of a split separate its true labels from the others. Fine labels are right under a
/// threshold iff it lies between the two, and under a k iff the true labels are k and rank first.
#[derive(Clone, Debug, PartialEq)]
pub struct Separations {
    images: Vec<Separation>,
    fine_count: usize,
}

/// Of one image: 12 bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Separation {
    /// The lowest logit of a true label; ∞ where there is none.
    lowest_true: f32,
    /// The highest logit of another label; −∞ where there is none.
    highest_false: f32,
    /// How many true labels; a taxonomy has at most 4,096.
    true_count: u16,
    /// Whether the true labels come before all others.
    ranked_first: bool,
    coarse_correct: bool,
}

impl Separations {
    /// In one pass. `truths`: one per row of `scores`. `None` without fine scores.
    pub fn of(scores: &Scores, truths: &[Truth]) -> Option<Self> {
        let fine = scores.fine.as_ref()?;
        let rows = fine.logits.par_chunks_exact(fine.fine_count);
        let images = rows
            .zip(scores.coarse_logits.par_chunks_exact(scores.coarse_count))
            .zip(truths)
            .with_min_len(BLOCK)
            .map_init(
                || vec![0.0; fine.fine_count],
                |others, ((logits, coarse), truth)| Separation {
                    coarse_correct: arg_max(coarse) == truth.coarse.index(),
                    ..Separation::of(logits, truth.fine, others)
                },
            );
        Some(Self { images: images.collect(), fine_count: fine.fine_count })
    }

    /// What is right about each image under a rule, as `decide_all` has it. `None` for one threshold per label, which a single
    /// pair of logits does not answer.
    pub fn judge(&self, rule: &DecisionRule) -> Option<Judgements> {
        let judge = |fine: &dyn Fn(&Separation) -> bool| {
            Judgements::of(true, self.images.iter().map(|image| (fine(image), image.coarse_correct)))
        };
        match rule {
            DecisionRule::TopK { k: TopK::Oracle } => Some(judge(&|image| image.ranked_first)),
            DecisionRule::TopK { k: TopK::Fixed(k) } => {
                // There are no more labels to take than there are.
                let k = usize::from(k.get()).min(self.fine_count);
                Some(judge(&|image| image.ranked_first && usize::from(image.true_count) == k))
            }
            DecisionRule::Threshold { threshold } => {
                let lowest = lowest_taken(*threshold);
                Some(judge(&|image| image.highest_false < lowest && lowest <= image.lowest_true))
            }
            DecisionRule::PerLabel { .. } => None,
        }
    }

    /// The counts at each of ascending thresholds.
    pub fn at_thresholds(&self, thresholds: &[Threshold]) -> Vec<Counts> {
        let taken: Vec<f32> = thresholds.iter().map(|threshold| lowest_taken(*threshold)).collect();
        // Fine labels are right from one step to another: by how much the number of such images changes at each step, with
        // the category wrong and right.
        let changes = |images: &[Separation]| {
            let mut changes = vec![[0i64; 2]; taken.len() + 1];
            for image in images.iter().filter(|image| image.highest_false < image.lowest_true) {
                let first = |logit: f32| taken.partition_point(|lowest| *lowest <= logit);
                changes[first(image.highest_false)][usize::from(image.coarse_correct)] += 1;
                changes[first(image.lowest_true)][usize::from(image.coarse_correct)] -= 1;
            }
            changes
        };
        let blocks = self.images.par_chunks(BLOCK).map(changes);
        let changes = blocks.reduce(|| vec![[0; 2]; taken.len() + 1], sum);
        let steps = changes.iter().take(taken.len()).scan([0i64; 2], |right, change| {
            *right = [right[0] + change[0], right[1] + change[1]];
            Some(*right)
        });
        self.counts(steps.map(|[wrong, right]| [wrong as u64, right as u64]))
    }

    /// The counts at k = 1, 2, … up to the largest number of true labels: with more, no fine labels are right.
    pub fn at_each_k(&self) -> Vec<Counts> {
        let largest = self.images.iter().map(|image| image.true_count).max().unwrap_or(0);
        let mut right = vec![[0u64; 2]; usize::from(largest) + 1];
        for image in self.images.iter().filter(|image| image.ranked_first) {
            right[usize::from(image.true_count)][usize::from(image.coarse_correct)] += 1;
        }
        self.counts(right.into_iter().skip(1))
    }

    /// From how many images have the right fine labels with the category wrong and right.
    fn counts(&self, fine_right: impl Iterator<Item = [u64; 2]>) -> Vec<Counts> {
        let right = self.images.iter().filter(|image| image.coarse_correct).count() as u64;
        let wrong = self.images.len() as u64 - right;
        fine_right.map(|[ftcf, ftct]| Counts { ftct, ftcf, ffct: right - ftct, ffcf: wrong - ftcf }).collect()
    }
}

fn sum(mut left: Vec<[i64; 2]>, right: Vec<[i64; 2]>) -> Vec<[i64; 2]> {
    for (left, right) in left.iter_mut().zip(right) {
        *left = [left[0] + right[0], left[1] + right[1]];
    }
    left
}

impl Separation {
    /// With the category wrong. `others` is room for as many logits.
    fn of(logits: &[f32], truth: &LabelSet, others: &mut [f32]) -> Self {
        others.copy_from_slice(logits);
        let mut lowest_true = f32::INFINITY;
        for label in truth.iter() {
            lowest_true = lowest_true.min(logits[label.index()]);
            others[label.index()] = f32::NEG_INFINITY;
        }
        let highest_false = highest(others);
        Self {
            lowest_true,
            highest_false,
            true_count: truth.len() as u16,
            // Which of equal logits come first, zeros of either sign among them, the order of ranking says.
            ranked_first: if lowest_true == highest_false {
                rank_first(logits, truth)
            } else {
                lowest_true > highest_false
            },
            coarse_correct: false,
        }
    }
}

/// Whether the true labels come before all others, where the two kinds are met by equal logits.
fn rank_first(logits: &[f32], truth: &LabelSet) -> bool {
    let order = |a: &usize, b: &usize| by_rank(logits, *a, *b);
    let last_true = truth.iter().map(|label| label.index()).max_by(order);
    let first_false = (0u16..).map(crate::domain::FineId).take(logits.len()).filter(|label| !truth.contains(*label));
    let first_false = first_false.map(|label| label.index()).min_by(order);
    last_true.zip(first_false).is_none_or(|(last, first)| order(&last, &first).is_lt())
}

/// The highest of values none of which is NaN; −∞ for none. In lanes, so that it is computed several at a time.
fn highest(values: &[f32]) -> f32 {
    let higher = |a: f32, b: f32| if b > a { b } else { a };
    let (chunks, rest) = values.as_chunks::<8>();
    let mut lanes = [f32::NEG_INFINITY; 8];
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = higher(*lane, *value);
        }
    }
    lanes.iter().chain(rest).copied().fold(f32::NEG_INFINITY, higher)
}

/// The lowest logit whose sigmoid exceeds a threshold: a label is taken iff its logit is at least this. ∞ where none does.
/// The sigmoid in float64 rises with the float32 logit, so halving the range finds it.
fn lowest_taken(threshold: Threshold) -> f32 {
    let (mut low, mut high) = (ordered(f32::MIN), ordered(f32::INFINITY));
    while low < high {
        let middle = u32::midpoint(low, high);
        if sigmoid(unordered(middle)) > threshold.get() { high = middle } else { low = middle + 1 }
    }
    unordered(low)
}

/// An integer that rises with the float, and back.
fn ordered(value: f32) -> u32 {
    let bits = value.to_bits();
    if value.is_sign_negative() { !bits } else { bits ^ SIGN }
}

fn unordered(value: u32) -> f32 {
    f32::from_bits(if value < SIGN { !value } else { value ^ SIGN })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{CoarseId, FineId, Split, spec::CoarseInput},
        exchange::{FineScores, ScoreActivation},
    };

    fn theta(value: f64) -> Threshold {
        Threshold::new(value).unwrap()
    }

    #[test]
    fn a_hand_worked_example() {
        // Three labels. Image 0 has {0}, and its category is right; image 1 has {0, 2}, and it is wrong; image 2 has {1}, right.
        let logits = [2.0, 0.0, -2.0, 1.0, 0.5, 2.0, 0.0, -1.0, -2.0];
        let labels: Vec<LabelSet> =
            [vec![0], vec![0, 2], vec![1]].map(|set| set.into_iter().map(FineId).collect()).into();
        let scores = Scores {
            split: Split::Test,
            image_ids: vec![1, 2, 3],
            coarse_count: 2,
            coarse_logits: vec![1.0, 0.0, 1.0, 0.0, 1.0, 0.0],
            fine: Some(FineScores {
                fine_count: 3,
                logits: logits.to_vec(),
                activation: ScoreActivation::Sigmoid,
                coarse_input: CoarseInput::Probabilities,
                weight: vec![0.0; 6],
                bias: vec![0.0; 2],
                p05: vec![0.0; 3],
                p95: vec![0.0; 3],
            }),
        };
        let truths: Vec<Truth> =
            labels.iter().zip([0, 1, 0]).map(|(fine, coarse)| Truth { fine, coarse: CoarseId(coarse) }).collect();
        let separations = Separations::of(&scores, &truths).unwrap();
        // Image 0 is right for 0.5 ≤ θ < 0.881, image 1 for 0.622 ≤ θ < 0.731, image 2 never: −1 is true, and 0 is not.
        let counts = separations.at_thresholds(&[0.49, 0.5, 0.63, 0.74, 0.89].map(theta));
        let fine_right: Vec<_> = counts.iter().map(|counts| (counts.ftct, counts.ftcf)).collect();
        assert_eq!(fine_right, [(0, 0), (1, 0), (1, 1), (1, 0), (0, 0)]);
        assert!(counts.iter().all(|counts| (counts.ftct + counts.ffct, counts.ftcf + counts.ffcf) == (2, 1)));
        // The true labels rank first in images 0 (one of them) and 1 (two).
        let counts = separations.at_each_k();
        assert_eq!(
            counts,
            [Counts { ftct: 1, ffct: 1, ffcf: 1, ftcf: 0 }, Counts { ftcf: 1, ffct: 2, ftct: 0, ffcf: 0 }]
        );
        let oracle = separations.judge(&DecisionRule::TopK { k: TopK::Oracle }).unwrap().tally().counts;
        assert_eq!(oracle, Some(Counts { ftct: 1, ftcf: 1, ffct: 1, ffcf: 0 }));
    }

    #[test]
    fn the_lowest_logit_that_is_taken_is_taken_and_the_one_below_is_not() {
        for value in [0.0, 1e-300, 0.1, 0.5, 0.7, 0.9, 1.0f64.next_down()] {
            let lowest = lowest_taken(theta(value));
            assert!(sigmoid(lowest) > value && sigmoid(lowest.next_down()) <= value, "{value}: {lowest}");
        }
        assert_eq!(lowest_taken(theta(1.0)), f32::INFINITY);
    }

    #[test]
    fn the_highest_of_any_number_of_values() {
        for length in 0..20u8 {
            let values: Vec<f32> = (0..length).map(|at| f32::from(at * 7 % 11) - 5.0).collect();
            assert_eq!(highest(&values), values.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        }
    }
}
