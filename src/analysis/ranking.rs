//! Fine labels one by one: average precision of the ranking by a score, and counts of what was decided.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{
    Decision, Truth,
    interval::{Estimate, RESAMPLES},
};
use crate::domain::ratio;

/// Resamples that are computed side by side.
const LANES: usize = 16;

/// A bootstrap of more resamples × images × rankings would take longer than some seconds.
const AFFORDABLE: usize = 10_000_000_000;
/// The ends of an interval of fewer resamples are too rough.
const MIN_RESAMPLES: usize = 1_000;

/// How many resamples are drawn for `rankings` of `images` each: [`RESAMPLES`], fewer where that would take long, and none
/// where too few would be left.
pub fn affordable_resamples(images: usize, rankings: usize) -> usize {
    let affordable = AFFORDABLE / images.saturating_mul(rankings).max(1);
    if affordable < MIN_RESAMPLES { 0 } else { affordable.min(RESAMPLES) }
}

/// Images, or pairs of image and label, from the highest score to the lowest, as far down as there are positives.
#[derive(Clone, Debug, Default)]
pub struct Ranking {
    items: Vec<Item>,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    image: u32,
    positive: bool,
    /// The last of those that share a score, at least one of which is positive: recall has risen.
    rises: bool,
}

/// Average precisions with their bootstrap intervals.
#[derive(Clone, Debug)]
pub struct Precisions {
    /// Of each ranking.
    pub each: Vec<Estimate>,
    /// Mean over the rankings that have positives.
    pub mean: Estimate,
    /// Of the pairs of all of them together.
    pub pooled: Estimate,
}

impl Ranking {
    /// Ranks items, each a score, an image's row, and whether it is positive.
    pub fn of(items: impl IntoIterator<Item = (f64, usize, bool)>) -> Self {
        let mut scored: Vec<_> = items.into_iter().map(|(score, image, is)| (score, image as u32, is)).collect();
        scored.sort_by(|(a, ..), (b, ..)| b.total_cmp(a));
        let mut items = Vec::with_capacity(scored.len());
        // A group of equal scores is one threshold.
        for group in scored.chunk_by(|(a, ..), (b, ..)| a == b) {
            items.extend(group.iter().map(|&(_, image, positive)| Item { image, positive, rises: false }));
            if let Some(last) = items.last_mut() {
                last.rises = group.iter().any(|(.., positive)| *positive);
            }
        }
        items.truncate(items.iter().rposition(|item| item.rises).map_or(0, |last| last + 1));
        Self { items }
    }

    /// Average precision Σ (Rₙ − Rₙ₋₁) Pₙ over the distinct scores, without interpolation, as scikit-learn's
    /// `average_precision_score` has it; `None` without positives.
    pub fn average_precision(&self, images: usize) -> Option<f64> {
        self.weighted(&vec![[1; LANES]; images])[0]
    }

    /// The same with images weighted, in each lane by other weights: `[images]`.
    fn weighted(&self, weights: &[[u32; LANES]]) -> [Option<f64>; LANES] {
        let (mut seen, mut found, mut counted) = ([0u32; LANES], [0u32; LANES], [0u32; LANES]);
        let mut sum = [0.0; LANES];
        for item in &self.items {
            let weight = &weights[item.image as usize];
            for lane in 0..LANES {
                seen[lane] += weight[lane];
            }
            if item.positive {
                for lane in 0..LANES {
                    found[lane] += weight[lane];
                }
            }
            if item.rises {
                for lane in 0..LANES {
                    // Where nothing was seen yet, nothing was found either, and 0 is added.
                    let precision = f64::from(found[lane]) / f64::from(seen[lane].max(1));
                    sum[lane] += f64::from(found[lane] - counted[lane]) * precision;
                }
                counted = found;
            }
        }
        std::array::from_fn(|lane| (found[lane] > 0).then(|| sum[lane] / f64::from(found[lane])))
    }
}

/// Average precision of each of `rankings`, their mean, and that of `pooled`, with percentile bootstrap intervals: the
/// `images` are resampled for all of them together, at least `resamples` times; without resamples there are no intervals. A
/// mean is taken over the rankings that have positives, in each resample anew. What is drawn depends on `images` and `seed`
/// alone, so a ranking has the same interval by itself and among others.
pub fn average_precisions(
    rankings: &[Ranking],
    pooled: &Ranking,
    images: usize,
    resamples: usize,
    seed: u64,
) -> Precisions {
    let all = || rankings.iter().chain([pooled]);
    let figures = |weights: &[[u32; LANES]]| -> Vec<[Option<f64>; LANES]> {
        let mut figures: Vec<_> = all().map(|ranking| ranking.weighted(weights)).collect();
        let means = std::array::from_fn(|lane| mean(figures[..rankings.len()].iter().map(|figure| figure[lane])));
        figures.push(means);
        figures
    };
    // Each block has its own stream of random numbers, so the number of threads changes nothing.
    let blocks: Vec<_> = (0..resamples.div_ceil(LANES) as u64)
        .into_par_iter()
        .map(|block| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(block);
            figures(&resampled(images, &mut rng))
        })
        .collect();
    let observed = figures(&vec![[1; LANES]; images]);
    let mut estimates = (0..observed.len()).map(|figure| {
        let drawn = blocks.iter().flat_map(|block| block[figure]).flatten().collect();
        Estimate::of(observed[figure][0], drawn, blocks.len() * LANES)
    });
    Precisions {
        each: estimates.by_ref().take(rankings.len()).collect(),
        pooled: estimates.next().unwrap_or_default(),
        mean: estimates.next().unwrap_or_default(),
    }
}

/// How often each image is drawn in each lane, when as many are drawn as there are: `[images]`.
fn resampled(images: usize, rng: &mut ChaCha8Rng) -> Vec<[u32; LANES]> {
    let mut weights = vec![[0; LANES]; images];
    for draw in 0..images * LANES {
        weights[rng.random_range(0..images)][draw % LANES] += 1;
    }
    weights
}

/// The mean of those that are defined; `None` if none is.
pub fn mean(values: impl IntoIterator<Item = Option<f64>>) -> Option<f64> {
    let (sum, count) = values.into_iter().flatten().fold((0.0, 0u64), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / count as f64)
}

/// What was decided about one fine label, counted over images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LabelCounts {
    /// Images that truly have it.
    pub support: u64,
    /// Images that are said to have it.
    pub predicted: u64,
    /// Images that are said to have it, and do.
    pub correct: u64,
}

impl LabelCounts {
    /// correct / predicted; `None` for a label that was never predicted.
    pub fn precision(self) -> Option<f64> {
        ratio(self.correct, self.predicted)
    }

    /// correct / support; `None` for a label that no image has.
    pub fn recall(self) -> Option<f64> {
        ratio(self.correct, self.support)
    }

    /// 2 · correct / (predicted + support): the harmonic mean of precision and recall, and 0 where nothing is correct.
    pub fn f1(self) -> Option<f64> {
        ratio(2 * self.correct, self.predicted + self.support)
    }
}

impl std::iter::Sum for LabelCounts {
    fn sum<I: Iterator<Item = Self>>(counts: I) -> Self {
        counts.fold(Self::default(), |sum, one| Self {
            support: sum.support + one.support,
            predicted: sum.predicted + one.predicted,
            correct: sum.correct + one.correct,
        })
    }
}

/// Counts for each of `labels` fine labels what was decided, image by image.
pub fn label_counts<'a>(
    decisions: &[Decision],
    truths: impl IntoIterator<Item = Truth<'a>>,
    labels: usize,
) -> Vec<LabelCounts> {
    let mut counts = vec![LabelCounts::default(); labels];
    for (decision, truth) in decisions.iter().zip(truths) {
        for fine in truth.fine.iter() {
            counts[fine.index()].support += 1;
        }
        for fine in decision.fine.iter().flat_map(|fine| fine.iter()) {
            counts[fine.index()].predicted += 1;
            counts[fine.index()].correct += u64::from(truth.fine.contains(fine));
        }
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_data_sets_get_fewer_resamples_or_none() {
        // COCO's test images; five times as many labels and images; a hundred thousand images.
        let of = [(2447, 80), (12_000, 400), (100_000, 80), (100_000, 11), (100_000, 400), (0, 0)];
        let resamples = of.map(|(images, rankings)| affordable_resamples(images, rankings));
        assert_eq!(resamples, [10_000, 2_083, 1_250, 9_090, 0, 10_000]);
    }

    #[test]
    fn a_ranking_has_the_same_interval_alone_and_among_others() {
        let of = |step: usize| Ranking::of((0..30).map(|image| ((image * step % 13) as f64, image, image % 4 == 0)));
        let rankings = [of(7), of(5), of(3)];
        let among = average_precisions(&rankings, &Ranking::default(), 30, 160, 3);
        let alone = average_precisions(&rankings[1..2], &Ranking::default(), 30, 160, 3);
        assert_eq!(alone.each[0], among.each[1]);
        assert_eq!((alone.each[0], among.pooled), (alone.mean, Estimate::default()));
        let without = average_precisions(&rankings, &rankings[0], 30, 0, 3);
        assert_eq!((without.each[1].value, without.each[1].interval), (among.each[1].value, None));
    }

    #[test]
    fn a_weight_is_as_many_copies() {
        let scores = [(0.9, true), (0.5, false), (0.5, true), (0.4, true), (0.1, false)];
        let weights = [2, 3, 1, 0, 4];
        let item = |image: usize| (scores[image].0, image, scores[image].1);
        let weighted = Ranking::of((0..5).map(item)).weighted(&weights.map(|weight| [weight; LANES]));
        let copies = (0..5).flat_map(|image| std::iter::repeat_n(item(image), weights[image] as usize));
        assert_eq!(weighted[LANES - 1], Ranking::of(copies).average_precision(5));
        // (2/3)·1 + (1/3)·(3/6): the tie of two scores is one threshold.
        assert!((weighted[0].unwrap() - (2.0 / 3.0 + 1.0 / 6.0)).abs() < 1e-15);
        assert_eq!(Ranking::of((0..5).map(item)).weighted(&[[0; LANES]; 5])[0], None);
    }
}
