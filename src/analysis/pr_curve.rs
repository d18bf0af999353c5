//! Precision and recall at every threshold on a score.

use serde::{Deserialize, Serialize};

/// What is taken where the score is at least a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PrPoint {
    /// The threshold; `None` at the start of the curve, where nothing is taken.
    pub threshold: Option<f64>,
    /// Taken and positive / taken; 1 where nothing is taken, by scikit-learn's convention.
    pub precision: f64,
    /// Taken and positive / positive.
    pub recall: f64,
    /// 2 · taken and positive / (taken + positive).
    pub f1: f64,
}

/// The curve of images, each a score and whether it is positive: one point for each distinct score, from the highest on,
/// after the start. They are those of scikit-learn's `precision_recall_curve`, the other way round. Empty without positives.
pub fn precision_recall_curve(items: impl IntoIterator<Item = (f64, bool)>) -> Vec<PrPoint> {
    let mut items: Vec<_> = items.into_iter().collect();
    items.sort_unstable_by(|(a, _), (b, _)| b.total_cmp(a));
    let positives = items.iter().filter(|(_, positive)| *positive).count() as f64;
    if positives == 0.0 {
        return Vec::new();
    }
    let (mut taken, mut right) = (0.0, 0.0);
    let point = |group: &[(f64, bool)]| {
        taken += group.len() as f64;
        right += group.iter().filter(|(_, positive)| *positive).count() as f64;
        let threshold = group.first().map(|(score, _)| *score);
        PrPoint {
            threshold,
            precision: right / taken,
            recall: right / positives,
            f1: 2.0 * right / (taken + positives),
        }
    };
    let start = PrPoint { threshold: None, precision: 1.0, recall: 0.0, f1: 0.0 };
    [start].into_iter().chain(items.chunk_by(|(a, _), (b, _)| a == b).map(point)).collect()
}

/// Fewer points of a curve, to be drawn: each that lies `step` away from the one before it, in precision or recall, and the
/// last. So none that is left out is further than that from one that stays.
pub fn thinned(curve: &[PrPoint], step: f64) -> Vec<PrPoint> {
    let mut kept: Vec<PrPoint> = Vec::new();
    for (index, point) in curve.iter().enumerate() {
        let moved = |last: &PrPoint| (last.precision - point.precision).abs().max((last.recall - point.recall).abs());
        if index + 1 == curve.len() || kept.last().is_none_or(|last| moved(last) >= step) {
            kept.push(*point);
        }
    }
    kept
}

/// The first point of a curve, the one with the highest threshold, that reaches a recall.
pub fn reaching(curve: &[PrPoint], recall: f64) -> Option<PrPoint> {
    curve.get(curve.partition_point(|point| point.recall < recall)).copied()
}

/// The point of a curve with the highest F1; of several, the one with the highest threshold.
pub fn best_f1(curve: &[PrPoint]) -> Option<PrPoint> {
    curve.iter().copied().reduce(|best, point| if point.f1 > best.f1 { point } else { best })
}
