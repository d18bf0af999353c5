//! Two runs on the same images: how their outcomes met, by how much they differ, and whether that can be chance.

use serde::{Deserialize, Serialize};

use super::interval::{Estimate, bootstrap};
use crate::domain::{Counts, Indices, Outcome, ratio};

/// Below this number of discordant images McNemar's test is exact.
const EXACT_BELOW: u64 = 25;

/// How many images had each outcome under run A and each under run B.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Transitions {
    /// `[A][B]`, row-major, in the order of [`Outcome::ALL`].
    cells: [u64; 16],
}

/// How many images are right in some respect under two runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agreement {
    /// Under both.
    pub both: u64,
    /// Under A and not under B.
    pub only_a: u64,
    /// Under B and not under A.
    pub only_b: u64,
    /// Under neither.
    pub neither: u64,
}

/// McNemar's test (McNemar 1947): whether as many images are right under A alone as under B alone, up to chance.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct McNemar {
    /// How `p` was computed.
    pub method: McNemarMethod,
    /// χ² with one degree of freedom; `None` for the exact test.
    pub statistic: Option<f64>,
    /// Two-sided.
    pub p: f64,
}

/// How McNemar's p is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum McNemarMethod {
    /// The binomial distribution itself: below 25 discordant images.
    Exact,
    /// χ² with the continuity correction of Edwards (1948).
    ChiSquared,
}

impl Transitions {
    /// How many images had `a` under A and `b` under B.
    pub fn get(&self, a: Outcome, b: Outcome) -> u64 {
        self.cells[index(a, b)]
    }

    /// The counts under A and those under B.
    pub fn margins(&self) -> (Counts, Counts) {
        margins(self.cells)
    }

    /// Figures of B minus those of A: IA, IP, IR, IF1, coarse accuracy, fine exact match. Paired percentile bootstrap:
    /// images are resampled with both of their outcomes, which is a multinomial draw over the 16 cells.
    pub fn differences(&self, seed: u64) -> [Estimate; 6] {
        bootstrap(self.cells, seed, |cells| {
            let (a, b) = margins(cells);
            let (a, b) = (figures(a), figures(b));
            std::array::from_fn(|figure| Some(b[figure]? - a[figure]?))
        })
    }
}

impl FromIterator<(Outcome, Outcome)> for Transitions {
    fn from_iter<I: IntoIterator<Item = (Outcome, Outcome)>>(images: I) -> Self {
        let mut cells = [0; 16];
        images.into_iter().for_each(|(a, b)| cells[index(a, b)] += 1);
        Self { cells }
    }
}

/// The place of a cell: [`Outcome`]'s own order is that of [`Outcome::ALL`].
fn index(a: Outcome, b: Outcome) -> usize {
    4 * a as usize + b as usize
}

fn margins(cells: [u64; 16]) -> (Counts, Counts) {
    let (mut a, mut b) = ([0; 4], [0; 4]);
    for (index, images) in cells.into_iter().enumerate() {
        a[index / 4] += images;
        b[index % 4] += images;
    }
    (a.into(), b.into())
}

fn figures(counts: Counts) -> [Option<f64>; 6] {
    let Indices { ia, ip, ir, if1, coarse_accuracy, fine_exact_match } = counts.indices();
    [ia, ip, ir, if1, coarse_accuracy, fine_exact_match]
}

impl Agreement {
    /// The share of images right under B minus that under A. Paired percentile bootstrap over the four cells.
    pub fn difference(self, seed: u64) -> Estimate {
        let cells = [self.both, self.only_a, self.only_b, self.neither];
        let [difference] = bootstrap(cells, seed, |[both, only_a, only_b, neither]| {
            let images = both + only_a + only_b + neither;
            [ratio(only_b, images).zip(ratio(only_a, images)).map(|(b, a)| b - a)]
        });
        difference
    }

    /// McNemar's test. p = 1 where no image is discordant, and where as many are right under A alone as under B alone.
    pub fn mcnemar(self) -> McNemar {
        let (discordant, apart) = (self.only_a + self.only_b, self.only_a.abs_diff(self.only_b));
        if discordant < EXACT_BELOW {
            let p = 2.0 * lower_tail(self.only_a.min(self.only_b), discordant);
            return McNemar { method: McNemarMethod::Exact, statistic: None, p: p.min(1.0) };
        }
        let statistic = (apart.saturating_sub(1) as f64).powi(2) / discordant as f64;
        // With one degree of freedom χ² is a squared normal variable.
        let p = libm::erfc((statistic / 2.0).sqrt());
        McNemar { method: McNemarMethod::ChiSquared, statistic: Some(statistic), p }
    }
}

impl FromIterator<(bool, bool)> for Agreement {
    fn from_iter<I: IntoIterator<Item = (bool, bool)>>(images: I) -> Self {
        let mut counts = Self::default();
        for image in images {
            *match image {
                (true, true) => &mut counts.both,
                (true, false) => &mut counts.only_a,
                (false, true) => &mut counts.only_b,
                (false, false) => &mut counts.neither,
            } += 1;
        }
        counts
    }
}

/// Holm's correction (Holm 1979) of the p-values of several tests, in their order: if each is held against α, the chance of a
/// single wrong rejection among all of them is at most α.
pub fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|a, b| p[*a].total_cmp(&p[*b]));
    let (mut adjusted, mut highest) = (vec![0.0; p.len()], 0.0f64);
    for (rank, index) in order.into_iter().enumerate() {
        highest = highest.max((p.len() - rank) as f64 * p[index]).min(1.0);
        adjusted[index] = highest;
    }
    adjusted
}

/// P(X ≤ `most`) of `n` fair coins.
fn lower_tail(most: u64, n: u64) -> f64 {
    let mut term = 0.5f64.powi(n as i32);
    let mut sum = term;
    for heads in 1..=most {
        term *= (n - heads + 1) as f64 / heads as f64;
        sum += term;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holms_correction_is_statsmodels() {
        // statsmodels.stats.multitest.multipletests(p, method="holm")[1]
        for (p, expected) in [
            (&[0.01, 0.04, 0.03, 0.005][..], &[0.03, 0.06, 0.06, 0.02][..]),
            (&[0.5, 0.2, 1.0], &[1.0, 0.6000000000000001, 1.0]),
            (&[0.02], &[0.02]),
            (&[0.001, 0.001, 0.04, 0.9, 0.012], &[0.005, 0.005, 0.08, 0.9, 0.036000000000000004]),
            (&[], &[]),
        ] {
            let adjusted = holm(p);
            assert_eq!(adjusted.len(), expected.len());
            assert!(adjusted.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-15), "{adjusted:?} {expected:?}");
        }
    }
}
