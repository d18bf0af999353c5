//! What is taken for what, and what goes with what.

use std::collections::BTreeMap;

use super::LabelCounts;
use crate::domain::{CoarseId, FineId, ratio};

/// Images by true and by predicted category.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Confusion {
    /// Cells that are not 0.
    cells: BTreeMap<(CoarseId, CoarseId), u64>,
}

impl FromIterator<(CoarseId, CoarseId)> for Confusion {
    /// Of the true and the predicted category of each image.
    fn from_iter<I: IntoIterator<Item = (CoarseId, CoarseId)>>(images: I) -> Self {
        let mut cells = BTreeMap::new();
        for image in images {
            *cells.entry(image).or_default() += 1;
        }
        Self { cells }
    }
}

impl Confusion {
    /// Images of one true and one predicted category.
    pub fn get(&self, truth: CoarseId, predicted: CoarseId) -> u64 {
        self.cells.get(&(truth, predicted)).copied().unwrap_or(0)
    }

    /// Images that truly are of `category`, by what they were taken for: those with images, in the categories' order.
    pub fn row(&self, category: CoarseId) -> impl Iterator<Item = (CoarseId, u64)> + '_ {
        let cells = self.cells.range((category, CoarseId(0))..=(category, CoarseId(u16::MAX)));
        cells.map(|((_, predicted), images)| (*predicted, *images))
    }

    /// Images that were taken for `category`, by what they truly are: those with images, in the categories' order.
    pub fn column(&self, category: CoarseId) -> impl Iterator<Item = (CoarseId, u64)> + '_ {
        let cells = self.cells.iter().filter(move |((_, predicted), _)| *predicted == category);
        cells.map(|((truth, _), images)| (*truth, *images))
    }

    /// One category against all others.
    pub fn counts(&self, category: CoarseId) -> LabelCounts {
        LabelCounts {
            support: self.row(category).map(|(_, images)| images).sum(),
            predicted: self.column(category).map(|(_, images)| images).sum(),
            correct: self.get(category, category),
        }
    }
}

/// How often each label is on an image's list: among chosen images, and among all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Companions {
    /// Images that are chosen.
    pub chosen: u64,
    /// All images.
    pub images: u64,
    /// Of each label: chosen images and all images that list it. `[fine]`
    listed: Vec<(u64, u64)>,
}

impl Companions {
    /// Of images, each with whether it is chosen and its list, over `labels` fine labels.
    pub fn of<L: IntoIterator<Item = FineId>>(images: impl IntoIterator<Item = (bool, L)>, labels: usize) -> Self {
        let mut companions = Self { chosen: 0, images: 0, listed: vec![(0, 0); labels] };
        for (chosen, list) in images {
            companions.chosen += u64::from(chosen);
            companions.images += 1;
            for label in list {
                let (among_chosen, among_all) = &mut companions.listed[label.index()];
                *among_chosen += u64::from(chosen);
                *among_all += 1;
            }
        }
        companions
    }

    /// Labels on the lists of chosen images with their number, the most frequent first (ties: lower index).
    pub fn most_frequent(&self) -> Vec<(FineId, u64)> {
        let each = (0u16..).map(FineId).zip(&self.listed).map(|(label, (chosen, _))| (label, *chosen));
        let mut labels: Vec<_> = each.filter(|(_, images)| *images > 0).collect();
        labels.sort_by_key(|(label, images)| (std::cmp::Reverse(*images), *label));
        labels
    }

    /// The share of the chosen images that list `label`; `None` where none is chosen.
    pub fn share(&self, label: FineId) -> Option<f64> {
        ratio(self.listed[label.index()].0, self.chosen)
    }

    /// How many times as often it is listed by chosen images as by all; `None` where none is chosen or none lists it.
    pub fn lift(&self, label: FineId) -> Option<f64> {
        let everywhere = ratio(self.listed[label.index()].1, self.images).filter(|share| *share > 0.0)?;
        Some(self.share(label)? / everywhere)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lift_is_worked_by_hand() {
        let lists = [(true, vec![0, 1]), (true, vec![1]), (false, vec![1, 2]), (false, vec![]), (true, vec![0])];
        let labelled = lists.map(|(chosen, list)| (chosen, list.into_iter().map(FineId)));
        let companions = Companions::of(labelled, 4);
        assert_eq!((companions.chosen, companions.images), (3, 5));
        assert_eq!(companions.most_frequent(), [(FineId(0), 2), (FineId(1), 2)]);
        // Label 1: 2 of 3 chosen images, 3 of all 5.
        assert_eq!(companions.share(FineId(1)), Some(2.0 / 3.0));
        assert!((companions.lift(FineId(1)).unwrap() - (2.0 / 3.0) / (3.0 / 5.0)).abs() < 1e-15);
        assert_eq!((companions.lift(FineId(2)), companions.lift(FineId(3))), (Some(0.0), None));
        let nothing = Companions::of([(false, [FineId(0)])], 1);
        assert_eq!((nothing.share(FineId(0)), nothing.lift(FineId(0))), (None, None));
    }
}
