//! What the predicted fine labels say by the taxonomy alone, held against what the coarse head says.

use std::collections::BTreeMap;

use super::{
    Agreement, Decision, Estimate,
    interval::{bootstrap, bootstrap_share},
};
use crate::{
    domain::{CoarseId, Taxonomy, decision::sigmoid, ratio},
    exchange::{ScoreActivation, Scores},
};

/// The predicted labels of one image, read by the taxonomy. Public labels say nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The parent that most of them have; ties: of the larger summed probability, then of the lower index. `None` where no
    /// label with a parent is predicted.
    pub category: Option<CoarseId>,
    /// How many predicted labels have a parent.
    pub labels: u64,
    /// Of those, how many have the category that the coarse head decided for.
    pub consistent: u64,
}

/// Reads the labels of every image. `decisions`: one per row of `scores`, which are of `taxonomy`. Without fine scores no label
/// is predicted.
pub fn read_labels(scores: &Scores, decisions: &[Decision], taxonomy: &Taxonomy) -> Vec<Reading> {
    // Of each category: how many labels, and their summed probability.
    let mut votes = vec![(0u64, 0.0f64); taxonomy.coarse().len()];
    let read = |(row, decision): (usize, &Decision)| {
        votes.fill((0, 0.0));
        let mut labels = 0;
        let (activation, logits) = match (&scores.fine, scores.fine_row(row)) {
            (Some(fine), Some(logits)) => (fine.activation, logits),
            (None, _) | (_, None) => return Reading { category: None, labels: 0, consistent: 0 },
        };
        // Softmax's denominator is the same for all labels of an image and cannot break a tie.
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for label in decision.fine.iter().flat_map(|labels| labels.iter()) {
            let Some(parent) = taxonomy.fine()[label.index()].parent else { continue };
            let probability = match activation {
                ScoreActivation::Softmax => (f64::from(logits[label.index()]) - f64::from(max)).exp(),
                ScoreActivation::Sigmoid => sigmoid(logits[label.index()]),
            };
            let vote = &mut votes[parent.index()];
            *vote = (vote.0 + 1, vote.1 + probability);
            labels += 1;
        }
        // The index of the first of the largest; a category without a label has no vote.
        let first =
            votes.iter().enumerate().fold(0, |best, (next, vote)| if *vote > votes[best] { next } else { best });
        Reading {
            category: (labels > 0).then_some(CoarseId(first as u16)),
            labels,
            consistent: votes[decision.coarse.index()].0,
        }
    };
    decisions.iter().enumerate().map(read).collect()
}

/// Share of the predicted labels with a parent whose parent is the category decided for. Percentile bootstrap over images,
/// because labels of one image are right or wrong together.
pub fn consistency(readings: &[Reading], seed: u64) -> Estimate {
    let mut kinds: BTreeMap<[u64; 2], u64> = BTreeMap::new();
    readings.iter().for_each(|reading| *kinds.entry([reading.consistent, reading.labels]).or_default() += 1);
    let kinds: Vec<_> = kinds.into_iter().map(|(parts, count)| (count, parts)).collect();
    bootstrap_share(&kinds, seed)
}

/// (accuracy of B − `majority`) / (accuracy of A − `majority`), where A is the coarse-only run and B the run with fine labels,
/// and `majority` is the share of images in the most frequent category. Undefined where A is not above the majority: there is
/// nothing to be complete about. Percentile bootstrap over images with what both runs decided; `majority` stays.
pub fn completeness(agreement: Agreement, majority: f64, seed: u64) -> Estimate {
    let Agreement { both, only_a, only_b, neither } = agreement;
    let [completeness] = bootstrap([both, only_a, only_b, neither], seed, |[both, only_a, only_b, neither]| {
        let above = |right| ratio(right, both + only_a + only_b + neither).map(|accuracy| accuracy - majority);
        let reached = above(both + only_a).filter(|accuracy| *accuracy > 0.0);
        [reached.zip(above(both + only_b)).map(|(a, b)| b / a)]
    });
    completeness
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FineId, LabelSet, Split, spec::CoarseInput},
        exchange::FineScores,
    };

    fn read(predicted: &[u16], logits: [f32; 5], activation: ScoreActivation) -> Reading {
        let text = r#"{"name": "t", "coarse": ["a", "b"], "fine": [{"name": "x", "parent": "a"}, {"name": "y", "parent": "b"},
            {"name": "z", "public": true}, {"name": "v", "parent": "b"}, {"name": "w", "parent": "a"}]}"#;
        let scores = Scores {
            split: Split::Test,
            image_ids: vec![1],
            coarse_count: 2,
            coarse_logits: vec![0.0; 2],
            fine: Some(FineScores {
                fine_count: 5,
                logits: logits.to_vec(),
                activation,
                coarse_input: CoarseInput::Probabilities,
                weight: vec![0.0; 10],
                bias: vec![0.0; 2],
                p05: vec![0.0; 5],
                p95: vec![0.0; 5],
            }),
        };
        let fine: LabelSet = predicted.iter().copied().map(FineId).collect();
        // The head said b.
        let decision = Decision { fine: Some(fine), coarse: CoarseId(1), fine_correct: None, coarse_correct: true };
        read_labels(&scores, &[decision], &Taxonomy::from_json(text).unwrap())[0]
    }

    #[test]
    fn the_majority_decides_then_the_probability_then_the_index() {
        for activation in [ScoreActivation::Softmax, ScoreActivation::Sigmoid] {
            let of = |predicted: &[u16], logits| read(predicted, logits, activation);
            let reading = |category, labels, consistent| Reading { category, labels, consistent };
            let (a, b) = (Some(CoarseId(0)), Some(CoarseId(1)));
            assert_eq!(of(&[0, 1, 3], [9.0, 0.0, 0.0, 0.0, 0.0]), reading(b, 3, 2));
            assert_eq!(of(&[0, 3], [1.0, 0.0, 0.0, 2.0, 0.0]), reading(b, 2, 1));
            assert_eq!(of(&[0, 3], [2.0, 0.0, 0.0, 1.0, 0.0]), reading(a, 2, 1));
            assert_eq!(of(&[0, 1], [1.0; 5]), reading(a, 2, 1));
            // A public label says nothing.
            assert_eq!(of(&[2], [1.0; 5]), reading(None, 0, 0));
            assert_eq!(of(&[], [1.0; 5]), reading(None, 0, 0));
        }
    }

    #[test]
    fn completeness_is_undefined_where_nothing_is_reached_without_labels() {
        // Without labels 60 of 100 are right, with labels 80; the most frequent category has 50: 0.3 / 0.1.
        let agreement = Agreement { both: 60, only_a: 0, only_b: 20, neither: 20 };
        let found = completeness(agreement, 0.5, 0);
        assert!((found.value.unwrap() - 3.0).abs() < 1e-12);
        // In about every fortieth resample at most half of the images are right without labels.
        assert!((100..600).contains(&found.interval.unwrap().dropped), "{found:?}");
        assert_eq!(completeness(agreement, 0.6, 0), Estimate::default());
        assert_eq!(completeness(Agreement::default(), 0.5, 0), Estimate::default());
        assert_eq!(consistency(&[], 0), Estimate::default());
    }
}
