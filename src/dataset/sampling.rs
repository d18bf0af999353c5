//! Which training images an epoch has.

use std::collections::BTreeMap;

use rand::{Rng, seq::SliceRandom};

use super::{
    Sample,
    random::{Purpose, stream},
};
use crate::domain::FineId;

/// Class-aware sampling (Shen et al. 2016): as many draws as there are `indices`, the fine labels that occur there having equal
/// turns. Each draw takes the next label of a shuffled list of labels, then the next image of that label's own shuffled list;
/// a list that has come to its end is shuffled again. Images without a label are never drawn.
pub fn label_balanced(samples: &[Sample], indices: &[usize], seed: u64, epoch: u64) -> Vec<usize> {
    let mut by_label: BTreeMap<FineId, Vec<usize>> = BTreeMap::new();
    for &index in indices {
        samples[index].labels.iter().for_each(|fine| by_label.entry(fine).or_default().push(index));
    }
    let mut labels = Rounds::new(by_label.into_values().map(Rounds::new).collect());
    let mut rng = stream(Purpose::LabelBalance, seed, epoch, 0);
    indices.iter().map_while(|_| labels.next(&mut rng)?.next(&mut rng).copied()).collect()
}

/// Goes through its items in a random order, again and again, each time in another.
struct Rounds<T> {
    items: Vec<T>,
    next: usize,
}

impl<T> Rounds<T> {
    fn new(items: Vec<T>) -> Self {
        Self { next: items.len(), items }
    }

    /// `None` if there are no items.
    fn next(&mut self, rng: &mut impl Rng) -> Option<&mut T> {
        if self.next == self.items.len() {
            self.items.shuffle(rng);
            self.next = 0;
        }
        self.next += 1;
        self.items.get_mut(self.next - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::CoarseId;

    fn samples(labels: &[Vec<u16>]) -> Vec<Sample> {
        let sample = |(source_id, labels): (i64, &Vec<u16>)| Sample {
            source_id,
            path: format!("{source_id}.jpg").into(),
            labels: labels.iter().copied().map(FineId).collect(),
            coarse: CoarseId(0),
        };
        (0..).zip(labels).map(sample).collect()
    }

    proptest! {
        #[test]
        fn every_label_that_occurs_has_its_equal_turn(
            labels in prop::collection::vec(prop::collection::vec(0u16..9, 1..4), 0..200), seed: u64, epoch in 0u64..5,
        ) {
            let samples = samples(&labels);
            // Every other image is in training: the labels of the rest do not count.
            let train: Vec<usize> = (0..samples.len()).step_by(2).collect();
            let draws = label_balanced(&samples, &train, seed, epoch);
            prop_assert_eq!(draws.len(), train.len());
            prop_assert!(draws.iter().all(|draw| train.contains(draw)));
            prop_assert_eq!(&label_balanced(&samples, &train, seed, epoch), &draws);
            let of = |indices: &[usize], fine: u16| {
                indices.iter().filter(|&&index| samples[index].labels.iter().any(|label| label.0 == fine)).count()
            };
            let occurring: Vec<u16> = (0..9).filter(|&fine| of(&train, fine) > 0).collect();
            for fine in &occurring {
                // Other labels' turns may show it as well.
                prop_assert!(of(&draws, *fine) >= train.len() / occurring.len());
            }
        }

        #[test]
        fn shares_are_equal_and_images_of_a_label_come_in_turn(counts in prop::collection::vec(1usize..30, 1..8), seed: u64) {
            let labels: Vec<Vec<u16>> =
                (0u16..).zip(&counts).flat_map(|(fine, &count)| vec![vec![fine]; count]).collect();
            let samples = samples(&labels);
            let draws = label_balanced(&samples, &(0..samples.len()).collect::<Vec<_>>(), seed, 1);
            let mut drawn = vec![0; samples.len()];
            draws.iter().for_each(|&draw| drawn[draw] += 1);
            let share = samples.len() / counts.len();
            let mut start = 0;
            for count in counts {
                let drawn = &drawn[start..start + count];
                start += count;
                let turns: usize = drawn.iter().sum();
                prop_assert!(turns == share || turns == share + 1, "{} of {}", turns, share);
                prop_assert!(drawn.iter().all(|&times| times == turns / count || times == turns / count + 1));
            }
        }
    }

    #[test]
    fn another_seed_or_epoch_draws_others() {
        let samples = samples(&vec![vec![0, 1]; 100]);
        let indices: Vec<usize> = (0..100).collect();
        let draws = |seed, epoch| label_balanced(&samples, &indices, seed, epoch);
        assert_ne!(draws(1, 1), draws(1, 2));
        assert_ne!(draws(1, 1), draws(2, 1));
    }
}
