//! One threshold per fine label, tuned for the label's F1.

use std::sync::Arc;

use rayon::prelude::*;

use super::{LabelCounts, Truth};
use crate::{
    domain::{FineId, Threshold, decision::sigmoid},
    exchange::FineScores,
};

/// For each fine label the threshold θ whose prediction, p > θ, has the highest F1 on these images. p is the sigmoid of the
/// logit, whatever the run's activation. `truths`: one per row of `fine`. Where no threshold finds a positive, above all
/// where there are none, it is `own`.
pub fn tune(fine: &FineScores, truths: &[Truth], own: Threshold) -> Arc<[Threshold]> {
    let of = |label: FineId| {
        let rows = fine.logits.chunks_exact(fine.fine_count).zip(truths);
        best(rows.map(|(logits, truth)| (sigmoid(logits[label.index()]), truth.fine.contains(label))).collect())
    };
    (0..fine.fine_count).into_par_iter().map(|label| of(FineId(label as u16)).unwrap_or(own)).collect()
}

/// Of images with their probability and whether they are positive. All thresholds between two neighbouring probabilities
/// predict the same, and the middle one is taken, which is as far from either as can be; below the lowest lies 0. Of several
/// such gaps with the same F1 the lowest is taken: at the same F1 it has the higher recall.
fn best(mut images: Vec<(f64, bool)>) -> Option<Threshold> {
    images.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
    let support = images.iter().filter(|(_, positive)| *positive).count() as u64;
    let mut counts = LabelCounts { support, ..LabelCounts::default() };
    let mut best = (0.0, None);
    let mut rest = images.as_slice();
    while let [(lowest, _), ..] = *rest {
        let (group, below) = rest.split_at(rest.partition_point(|(p, _)| *p == lowest));
        rest = below;
        counts.predicted += group.len() as u64;
        counts.correct += group.iter().filter(|(_, positive)| *positive).count() as u64;
        let next = below.first().map_or(0.0, |(p, _)| *p);
        let f1 = counts.f1().unwrap_or(0.0);
        // A probability of 0 is above no threshold.
        if f1 > 0.0 && f1 >= best.0 && next < lowest {
            let middle = f64::midpoint(next, lowest);
            // Between two neighbouring floats there is none.
            best = (f1, Threshold::new(if middle < lowest { middle } else { next }));
        }
    }
    best.1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(images: &[(f64, bool)]) -> Option<f64> {
        best(images.to_vec()).map(Threshold::get)
    }

    #[test]
    fn the_middle_of_the_best_gap() {
        // Taken from the top: F1 = 2/3, 4/4, 4/5, 4/6.
        assert_eq!(of(&[(0.25, false), (0.9, true), (0.75, true), (0.5, false)]), Some(0.625));
        // All of them are positive: anything below the lowest.
        assert_eq!(of(&[(0.5, true), (0.75, true)]), Some(0.25));
        // A positive among equals: they are taken together.
        assert_eq!(of(&[(0.5, false), (0.5, true), (0.25, false)]), Some(0.375));
        // F1 is 2/3 with one label and with four: the lower threshold has found both positives.
        assert_eq!(of(&[(0.9, true), (0.8, false), (0.7, false), (0.5, true), (0.25, false)]), Some(0.375));
    }

    #[test]
    fn what_no_threshold_finds_has_none() {
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[(0.5, false)]), None);
        assert_eq!(of(&[(0.0, true), (0.5, false)]), None);
    }

    #[test]
    fn between_neighbouring_floats_the_lower_one() {
        let high = 1.0f64.next_down();
        assert_eq!(of(&[(1.0, true), (high, false)]), Some(high));
        assert_eq!(of(&[(high, true), (high.next_down(), false)]), Some(high.next_down()));
    }
}
