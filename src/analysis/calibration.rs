//! Whether probabilities mean what they say: of the images that are given 0.8, are 80 in 100 right?

use crate::domain::ratio;

/// Bins of equal width, as in Guo et al. 2017.
pub const BINS: usize = 15;

/// Images whose probability lies in one bin.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Bin {
    /// Images.
    pub images: u64,
    /// Those for which what the probability is of is true.
    pub positives: u64,
    sum: f64,
}

/// Probabilities held against what is true, bin by bin.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    /// From the lowest probabilities to the highest.
    pub bins: [Bin; BINS],
}

impl Bin {
    /// The mean probability; `None` for an empty bin.
    pub fn confidence(self) -> Option<f64> {
        (self.images > 0).then(|| self.sum / self.images as f64)
    }

    /// The share of positives; `None` for an empty bin.
    pub fn frequency(self) -> Option<f64> {
        ratio(self.positives, self.images)
    }

    /// The probabilities of bin `index`: those above the first number, up to and including the second.
    pub fn edges(index: usize) -> (f64, f64) {
        (edge(index), edge(index + 1))
    }
}

impl Calibration {
    /// Of probabilities in [0, 1], each with whether what it is of is true. A bin is (a, b]: an edge belongs to the bin
    /// below it, and 0 to the first one, as in Guo et al. 2017.
    pub fn of(items: impl IntoIterator<Item = (f64, bool)>) -> Self {
        let mut bins = [Bin::default(); BINS];
        for (probability, positive) in items {
            let above = (1..BINS).take_while(|index| probability > edge(*index)).count();
            bins[above].images += 1;
            bins[above].positives += u64::from(positive);
            bins[above].sum += probability;
        }
        Self { bins }
    }

    /// The expected calibration error: Σ of the bins' |share of positives − mean probability|, each weighted by its share
    /// of the images (Guo et al. 2017, eq. 3). `None` without images.
    pub fn error(&self) -> Option<f64> {
        let images: u64 = self.bins.iter().map(|bin| bin.images).sum();
        let gap = |bin: &Bin| (bin.positives as f64 - bin.sum).abs();
        (images > 0).then(|| self.bins.iter().map(gap).sum::<f64>() / images as f64)
    }
}

fn edge(index: usize) -> f64 {
    index as f64 / BINS as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_edge_belongs_to_the_bin_below_and_0_to_the_first() {
        for (probability, bin) in
            [(0.0, 0), (1e-9, 0), (1.0 / 15.0, 0), (0.2, 2), (0.2 + 1e-9, 3), (0.8, 11), (1.0, 14)]
        {
            let found = Calibration::of([(probability, true)]).bins.iter().position(|bin| bin.images == 1);
            assert_eq!(found, Some(bin), "{probability}");
        }
        assert_eq!(Bin::edges(3), (0.2, 4.0 / 15.0));
    }

    #[test]
    fn the_error_is_worked_by_hand() {
        // (0.6, 2/3] has 0.61, 0.65 and one positive: |0.5 − 0.63|; (14/15, 1] has 1.0 and none: |0 − 1|. Weighted 2 : 1.
        let calibration = Calibration::of([(0.61, true), (0.65, false), (1.0, false)]);
        assert!((calibration.error().unwrap() - (2.0 * 0.13 + 1.0) / 3.0).abs() < 1e-15);
        assert_eq!(calibration.bins[9].confidence(), Some(0.63));
        assert_eq!((calibration.bins[9].frequency(), calibration.bins[0].frequency()), (Some(0.5), None));
        assert_eq!(Calibration::of([]).error(), None);
    }
}
