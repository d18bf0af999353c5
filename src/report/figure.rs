//! One figure with what is known of its uncertainty.

use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use crate::{
    analysis::{Estimate, Interval, bootstrap_if1, wilson},
    domain::{Counts, Indices, Tally, ratio},
    recent::Recent,
};

/// The same counts always get the same interval.
const BOOTSTRAP_SEED: u64 = 0;

/// A figure. `value` is `None` where it is undefined (a zero denominator); pages show “–”.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// The value, or the mean over the runs of a group.
    pub value: Option<f64>,
    /// Lower end of the 95% interval; `None` for a group of several runs.
    pub low: Option<f64>,
    /// Upper end of the 95% interval; `None` for a group of several runs.
    pub high: Option<f64>,
    /// Sample standard deviation over the runs of a group; `None` for a single run.
    pub spread: Option<f64>,
    /// A bootstrap interval of zero width: nothing varied in the resamples.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degenerate: bool,
    /// Bootstrap resamples left out because the figure was undefined in them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: usize,
}

/// Drawn once for the same counts: it is the one figure of a run that takes milliseconds.
fn interval_of_if1(counts: Counts) -> Option<Interval> {
    static KNOWN: LazyLock<Recent<Option<Interval>>> = LazyLock::new(|| Recent::new(4096));
    let key = format!("{counts:?}");
    KNOWN.get(&key).unwrap_or_else(|| {
        let interval = bootstrap_if1(counts, BOOTSTRAP_SEED);
        KNOWN.put(key, interval);
        interval
    })
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

impl From<Estimate> for Figure {
    fn from(estimate: Estimate) -> Self {
        Self::of(estimate.value, estimate.interval)
    }
}

/// The indices of a run (or a group of runs) with their uncertainty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// IA, Wilson interval.
    pub ia: Figure,
    /// IP, Wilson interval.
    pub ip: Figure,
    /// IR, Wilson interval.
    pub ir: Figure,
    /// IF1, percentile bootstrap.
    pub if1: Figure,
    /// Coarse accuracy, Wilson interval.
    pub coarse_accuracy: Figure,
    /// Fine exact match, Wilson interval.
    pub fine_exact_match: Figure,
}

impl Figure {
    /// A figure of one run, with its interval if it has one.
    fn of(value: Option<f64>, interval: Option<Interval>) -> Self {
        Self {
            value,
            low: interval.map(|interval| interval.low),
            high: interval.map(|interval| interval.high),
            spread: None,
            degenerate: interval.is_some_and(|interval| interval.degenerate),
            dropped: interval.map_or(0, |interval| interval.dropped),
        }
    }

    /// A proportion of one run, with Wilson's interval.
    pub fn proportion(part: u64, whole: u64) -> Self {
        Self::of(ratio(part, whole), wilson(part, whole))
    }

    /// Mean and sample standard deviation over a group; undefined if it is so for one of the runs.
    pub fn mean(values: &[Option<f64>]) -> Self {
        let Some(values) = values.iter().copied().collect::<Option<Vec<f64>>>().filter(|values| !values.is_empty())
        else {
            return Self::default();
        };
        let n = values.len() as f64;
        let mean = values.iter().sum::<f64>() / n;
        let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
        let spread = (values.len() > 1).then(|| (squares / (n - 1.0)).sqrt());
        Self { value: Some(mean), spread, ..Self::default() }
    }
}

impl Figures {
    /// Each with its name, in the order in which they are shown.
    pub fn named(&self) -> [(&'static str, Figure); 6] {
        [
            ("IA", self.ia),
            ("IP", self.ip),
            ("IR", self.ir),
            ("IF1", self.if1),
            ("Coarse accuracy", self.coarse_accuracy),
            ("Fine exact match", self.fine_exact_match),
        ]
    }

    /// The figures of one run with their intervals.
    pub fn of_run(test: Tally) -> Self {
        let coarse_accuracy = Figure::proportion(test.coarse_correct, test.images);
        let Some(counts) = test.counts else { return Self { coarse_accuracy, ..Self::default() } };
        let Counts { ftct, ftcf, ffct, .. } = counts;
        Self {
            ia: Figure::proportion(ftct, counts.total()),
            ip: Figure::proportion(ftct, ftct + ftcf),
            ir: Figure::proportion(ftct, ftct + ffct),
            if1: Figure::of(counts.indices().if1, interval_of_if1(counts)),
            coarse_accuracy,
            fine_exact_match: Figure::proportion(ftct + ftcf, counts.total()),
        }
    }

    /// Mean and spread over the runs of a group; one run keeps its intervals.
    pub fn of_group(tests: &[Tally]) -> Self {
        if let [test] = tests {
            return Self::of_run(*test);
        }
        let column = |of: fn(Indices) -> Option<f64>| {
            Figure::mean(&tests.iter().map(|test| of(test.indices()?)).collect::<Vec<_>>())
        };
        let accuracies: Vec<_> = tests.iter().map(|test| test.coarse_accuracy()).collect();
        Self {
            ia: column(|indices| indices.ia),
            ip: column(|indices| indices.ip),
            ir: column(|indices| indices.ir),
            if1: column(|indices| indices.if1),
            coarse_accuracy: Figure::mean(&accuracies),
            fine_exact_match: column(|indices| indices.fine_exact_match),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_shows_mean_and_spread_and_one_run_its_interval() {
        let test = |ftct, ffct| {
            let counts = Counts { ftct, ftcf: 0, ffct, ffcf: 10 - ftct - ffct };
            Tally { images: 10, coarse_correct: ftct + ffct, counts: Some(counts) }
        };
        let group = Figures::of_group(&[test(4, 2), test(6, 2)]);
        assert_eq!(group.ia.value, Some(0.5));
        assert!((group.ia.spread.unwrap() - 0.02f64.sqrt()).abs() < 1e-12);
        assert_eq!((group.ia.low, group.coarse_accuracy.value), (None, Some(0.7)));
        let one = Figures::of_group(&[test(4, 2)]);
        assert!(one.ia.low.unwrap() < 0.4 && one.ia.high.unwrap() > 0.4 && one.ia.spread.is_none());
        // IP is undefined for one of the two.
        let partly = Figures::of_group(&[test(4, 2), test(0, 2)]);
        assert_eq!((partly.ip.value, partly.ia.value), (None, Some(0.2)));
    }
}
