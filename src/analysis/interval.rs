//! 95% intervals.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Binomial, Distribution};

use crate::domain::{Counts, Outcome, ratio};

/// A 95% interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Zero width: nothing varied in the resamples.
    pub degenerate: bool,
    /// Resamples left out because the figure was undefined in them.
    pub dropped: usize,
}

/// A figure and its interval, each `None` where it is undefined.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Estimate {
    /// The figure.
    pub value: Option<f64>,
    /// What is known of its uncertainty.
    pub interval: Option<Interval>,
}

/// 0.975 quantile of the standard normal distribution.
const Z: f64 = 1.959963984540054;

/// How many resamples the bootstrap draws.
pub const RESAMPLES: usize = 10_000;

/// Wilson's score interval of a proportion (Wilson 1927). `None` for zero trials.
pub fn wilson(successes: u64, trials: u64) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let denominator = 1.0 + Z * Z / n;
    let centre = (p + Z * Z / (2.0 * n)) / denominator;
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt() / denominator;
    // At 0 and n an end is exact; rounding must not push it past.
    let low = if successes == 0 { 0.0 } else { (centre - half).max(0.0) };
    let high = if successes == trials { 1.0 } else { (centre + half).min(1.0) };
    Some(Interval { low, high, degenerate: false, dropped: 0 })
}

/// Percentile bootstrap of IF1: images resampled with replacement, which is a multinomial draw over the four outcomes.
/// `None` where IF1 is undefined for the counts themselves.
pub fn bootstrap_if1(counts: Counts, seed: u64) -> Option<Interval> {
    let outcomes = Outcome::ALL.map(|outcome| counts.get(outcome));
    let [if1] = bootstrap(outcomes, seed, |drawn| [Counts::from(drawn).indices().if1]);
    if1.interval
}

/// Percentile bootstrap of several figures of the same counts. Each of [`RESAMPLES`] times as many things as were counted
/// are drawn, each of a kind drawn with the kinds' shares, and all figures are taken of what was drawn.
pub fn bootstrap<const KINDS: usize, const FIGURES: usize>(
    counts: [u64; KINDS],
    seed: u64,
    figures: impl Fn([u64; KINDS]) -> [Option<f64>; FIGURES],
) -> [Estimate; FIGURES] {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut drawn: [Vec<f64>; FIGURES] = std::array::from_fn(|_| Vec::with_capacity(RESAMPLES));
    let mut resample = [0; KINDS];
    for _ in 0..RESAMPLES {
        multinomial(&counts, &mut resample, &mut rng);
        for (drawn, figure) in drawn.iter_mut().zip(figures(resample)) {
            drawn.extend(figure);
        }
    }
    let mut values = figures(counts).into_iter();
    drawn.map(|drawn| Estimate::of(values.next().flatten(), drawn, RESAMPLES))
}

/// Percentile bootstrap of Σ part / Σ whole over things that are drawn with both. `kinds`: how many things have which part
/// and whole.
pub fn bootstrap_share(kinds: &[(u64, [u64; 2])], seed: u64) -> Estimate {
    let counts: Vec<u64> = kinds.iter().map(|(count, _)| *count).collect();
    let share = |counts: &[u64]| {
        let sum = |of: usize| counts.iter().zip(kinds).map(|(count, (_, parts))| count * parts[of]).sum();
        ratio(sum(0), sum(1))
    };
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut resample = vec![0; counts.len()];
    let mut draw = || {
        multinomial(&counts, &mut resample, &mut rng);
        share(&resample)
    };
    Estimate::of(share(&counts), (0..RESAMPLES).filter_map(|_| draw()).collect(), RESAMPLES)
}

impl Estimate {
    /// A figure and the middle 95% of what it was in the resamples that define it, out of `resamples`.
    pub(super) fn of(value: Option<f64>, mut drawn: Vec<f64>, resamples: usize) -> Self {
        drawn.sort_unstable_by(f64::total_cmp);
        let ends = value.and(quantile(&drawn, 0.025)).zip(quantile(&drawn, 0.975));
        let dropped = resamples - drawn.len();
        let interval = ends.map(|(low, high)| Interval { low, high, degenerate: low == high, dropped });
        Self { value, interval }
    }
}

/// As many things as `counts` has, each of a kind drawn with the kinds' shares: binomials, one after the other, of what is
/// left. `drawn`: one place for each kind.
fn multinomial(counts: &[u64], drawn: &mut [u64], rng: &mut ChaCha8Rng) {
    let total: u64 = counts.iter().sum();
    let (mut things, mut weight) = (total, total);
    for (&share, drawn) in counts.iter().zip(drawn) {
        *drawn = match (things, share) {
            (0, _) | (_, 0) => 0,
            (things, share) if share == weight => things,
            (things, share) => {
                Binomial::new(things, share as f64 / weight as f64).map_or(0, |binomial| binomial.sample(rng))
            }
        };
        (things, weight) = (things - *drawn, weight - share);
    }
}

/// The `q`-quantile of ascending values, linearly interpolated (numpy's default, Hyndman and Fan's type 7).
pub fn quantile(sorted: &[f64], q: f64) -> Option<f64> {
    let position = q * (sorted.len().checked_sub(1)? as f64);
    let below = position.floor() as usize;
    let above = (below + 1).min(sorted.len() - 1);
    Some(sorted[below] + (position - position.floor()) * (sorted[above] - sorted[below]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilson_agrees_with_scipy() {
        // scipy.stats.binomtest(k, n).proportion_ci(method="wilson")
        for (k, n, low, high) in [
            (8, 10, 0.4901624715366418, 0.9433178485456248),
            (0, 20, 0.0, 0.16112515805281935),
            (20, 20, 0.8388748419471808, 1.0),
            (1591, 2447, 0.6310658806176906, 0.6688311189840993),
        ] {
            let interval = wilson(k, n).unwrap();
            assert!(
                (interval.low - low).abs() < 1e-14 && (interval.high - high).abs() < 1e-14,
                "{k}/{n}: {interval:?}"
            );
        }
        assert_eq!(wilson(0, 0), None);
    }

    #[test]
    fn the_bootstrap_covers_the_figure_and_repeats_itself() {
        let counts = Counts { ftct: 120, ftcf: 5, ffct: 60, ffcf: 15 };
        let interval = bootstrap_if1(counts, 7).unwrap();
        let if1 = counts.indices().if1.unwrap();
        assert!(interval.low < if1 && if1 < interval.high && interval.high - interval.low < 0.15, "{interval:?}");
        assert_eq!(bootstrap_if1(counts, 7), Some(interval));
    }

    #[test]
    fn the_bootstrap_agrees_with_the_delta_method() {
        // With f = 2·ftct/(2·ftct + ftcf + ffct) and n = 200 the delta method gives a standard error of 0.02193 here.
        let (n, [a, b, c]) = (200.0, [0.6, 0.025, 0.3]);
        let d: f64 = 2.0 * a + b + c;
        let gradient = [2.0 * (b + c) / (d * d), -2.0 * a / (d * d), -2.0 * a / (d * d)];
        let mean: f64 = gradient.iter().zip([a, b, c]).map(|(g, p)| g * p).sum();
        let square: f64 = gradient.iter().zip([a, b, c]).map(|(g, p)| g * g * p).sum();
        let error = ((square - mean * mean) / n).sqrt();
        let interval = bootstrap_if1(Counts { ftct: 120, ftcf: 5, ffct: 60, ffcf: 15 }, 1).unwrap();
        let width = interval.high - interval.low;
        assert!((width / (2.0 * Z * error) - 1.0).abs() < 0.05, "{width} against {}", 2.0 * Z * error);
    }

    #[test]
    fn quantiles_are_numpys() {
        let values = [1.0, 2.0, 4.0, 8.0, 16.0];
        let close = |q, expected: f64| assert!((quantile(&values, q).unwrap() - expected).abs() < 1e-12);
        close(0.1, 1.4);
        close(0.5, 4.0);
        close(0.9, 12.8);
        assert_eq!(quantile(&[], 0.5), None);
    }

    #[test]
    fn what_cannot_vary_is_degenerate() {
        let interval = bootstrap_if1(Counts { ftct: 9, ..Counts::default() }, 1).unwrap();
        assert!(interval.degenerate && (interval.low, interval.high) == (1.0, 1.0));
        assert_eq!(bootstrap_if1(Counts { ffcf: 9, ..Counts::default() }, 1), None);
        // One image of 3 is FTCT: many resamples have none, and their IF1 is undefined.
        let rare = bootstrap_if1(Counts { ftct: 1, ffcf: 2, ..Counts::default() }, 1).unwrap();
        assert!((rare.dropped as f64 / RESAMPLES as f64 - (2.0f64 / 3.0).powi(3)).abs() < 0.02);
    }
}
