//! The validation split.

use std::collections::BTreeMap;

use rand::seq::SliceRandom;

use super::{
    Sample,
    random::{Purpose, stream},
};
use crate::domain::CoarseId;

/// Draws a tenth of `train` for validation, separately from each coarse category. Returns the indices of the samples that
/// stay in train and of those drawn, each ascending.
///
/// A category of n images gives n / 10 of them, rounded to the nearest, halves up: none below 5, one from 5 to 14. So every
/// category keeps images to learn from, and a very small data set may have an empty validation split. The same samples and
/// seed give the same split; what is drawn from one category does not depend on the others.
pub fn validation_split(train: &[Sample], seed: u64) -> (Vec<usize>, Vec<usize>) {
    let mut categories: BTreeMap<CoarseId, Vec<usize>> = BTreeMap::new();
    for (index, sample) in train.iter().enumerate() {
        categories.entry(sample.coarse).or_default().push(index);
    }
    let (mut kept, mut drawn) = (Vec::with_capacity(train.len()), Vec::new());
    for (coarse, mut indices) in categories {
        indices.shuffle(&mut stream(Purpose::Validation, seed, u64::from(coarse.0), 0));
        let (validation, rest) = indices.split_at((indices.len() + 5) / 10);
        drawn.extend_from_slice(validation);
        kept.extend_from_slice(rest);
    }
    kept.sort_unstable();
    drawn.sort_unstable();
    (kept, drawn)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;
    use crate::domain::LabelSet;

    fn samples(categories: &[u16]) -> Vec<Sample> {
        let sample = |(source_id, &coarse)| Sample {
            source_id,
            path: format!("{source_id}.jpg").into(),
            labels: LabelSet::default(),
            coarse: CoarseId(coarse),
        };
        (0..).zip(categories).map(sample).collect()
    }

    proptest! {
        #[test]
        fn a_tenth_of_each_category_is_drawn(categories in prop::collection::vec(0u16..5, 0..400), seed: u64) {
            let samples = samples(&categories);
            let (train, validation) = validation_split(&samples, seed);
            prop_assert!(train.is_sorted() && validation.is_sorted());
            let all: HashSet<usize> = train.iter().chain(&validation).copied().collect();
            prop_assert_eq!((all.len(), train.len() + validation.len()), (samples.len(), samples.len()));
            for coarse in 0..5 {
                let of = |indices: &[usize]| indices.iter().filter(|&&index| categories[index] == coarse).count();
                let (kept, drawn) = (of(&train), of(&validation));
                prop_assert_eq!(drawn, ((kept + drawn) as f64 / 10.0).round() as usize);
                prop_assert!(kept > 0 || drawn == 0);
            }
            prop_assert_eq!(validation_split(&samples, seed), (train, validation));
        }
    }

    #[test]
    fn another_seed_draws_others() {
        let samples = samples(&[0; 100]);
        assert_ne!(validation_split(&samples, 1), validation_split(&samples, 2));
    }
}
