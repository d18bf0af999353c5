//! Images that have labels and nothing else.

use std::cmp::Ordering;

use rand::{Rng, RngExt};
use rayon::prelude::*;

use super::{Purpose, stream};
use crate::{
    dataset::coco::{Funnel, Imported, ImportedImage, ImportedSplit},
    domain::{CoarseId, FineId, LabelSet, Split, Taxonomy},
};

/// Share of the images in each of COCO's categories, in the taxonomy's order, before they are made to add up to one: about as
/// the rule leaves them of COCO.
const CATEGORIES: [f64; 11] = [0.22, 0.05, 0.27, 0.05, 0.14, 0.03, 0.08, 0.07, 0.03, 0.02, 0.04];
/// Share of each category's images that have a public label (a person), in the same order.
const PUBLIC: [f64; 11] = [0.45, 0.3, 0.2, 0.85, 0.92, 0.5, 0.25, 0.2, 0.4, 0.3, 0.15];
/// A further label of the same category follows with this probability, again and again.
const FURTHER: f64 = 0.38;
/// The most labels of one category in an image.
const MOST: usize = 6;
/// The fewest validation images.
const FEWEST: usize = 50;

/// The images of a synthetic data set.
#[derive(Clone, Debug)]
pub struct SyntheticImages {
    taxonomy: Taxonomy,
    test: Vec<ImportedImage>,
    train: Vec<ImportedImage>,
}

/// What the data set with so many test images is called.
pub fn dataset_name(test_images: usize) -> String {
    format!("synthetic-{test_images}")
}

impl SyntheticImages {
    /// So many test images, and a fifth as many to learn from (at least 100), half of which are for validation.
    pub fn new(test_images: usize) -> Self {
        let taxonomy = Taxonomy::coco();
        let draw =
            |ids: std::ops::RangeInclusive<u64>| ids.into_par_iter().map(|id| image(id, &taxonomy)).collect::<Vec<_>>();
        let (n, train) = (test_images as u64, 2 * (test_images / 10).max(FEWEST) as u64);
        Self { test: draw(1..=n), train: draw(n + 1..=n + train), taxonomy }
    }

    /// The taxonomy: COCO's.
    pub fn taxonomy(&self) -> &Taxonomy {
        &self.taxonomy
    }

    /// The images of a split, by ascending id: a run of this seed validates on every second image of train and learns from the
    /// others.
    pub fn of(&self, split: Split, seed: u64) -> Vec<&ImportedImage> {
        let every_second = |offset: u64| self.train.iter().skip((offset % 2) as usize).step_by(2).collect();
        match split {
            Split::Test => self.test.iter().collect(),
            Split::Validation => every_second(seed),
            Split::Train => every_second(seed + 1),
        }
    }

    /// As an importer would have found them.
    pub fn imported(&self) -> Imported {
        let split = |images: &[ImportedImage]| {
            let mut kept_per_coarse = vec![0; self.taxonomy.coarse().len()];
            images.iter().for_each(|image| kept_per_coarse[image.coarse.index()] += 1);
            let kept = images.len() as u64;
            let funnel = Funnel { read: kept, kept, kept_per_coarse, ..Funnel::default() };
            ImportedSplit { funnel, images: images.to_vec() }
        };
        Imported { taxonomy: self.taxonomy.clone(), train: split(&self.train), test: split(&self.test) }
    }
}

fn image(id: u64, taxonomy: &Taxonomy) -> ImportedImage {
    let mut random = stream(Purpose::Image, id, 0);
    let coarse = CoarseId(weighted(&CATEGORIES, &mut random) as u16);
    let all = (0u16..).zip(taxonomy.fine());
    let (mut own, mut public) = (Vec::new(), Vec::new());
    for (index, label) in all {
        match label.parent {
            Some(parent) if parent == coarse => own.push(FineId(index)),
            None => public.push(FineId(index)),
            Some(_) => {}
        }
    }
    // Within a category the first labels are the most frequent ones, and neighbours in the taxonomy occur together.
    let frequency = |rank: usize| 1.0 / (1.0 + rank as f64);
    let first = weighted(&(0..own.len()).map(frequency).collect::<Vec<_>>(), &mut random);
    let mut taken = vec![first];
    while taken.len() < own.len().min(MOST) && random.random_bool(FURTHER) {
        let weight = |rank: usize| match taken.contains(&rank) {
            true => 0.0,
            false => frequency(rank) / (1.0 + rank.abs_diff(first) as f64),
        };
        taken.push(weighted(&(0..own.len()).map(weight).collect::<Vec<_>>(), &mut random));
    }
    let mut labels: Vec<FineId> = taken.into_iter().map(|rank| own[rank]).collect();
    labels.extend(public.into_iter().filter(|_| random.random_bool(PUBLIC[coarse.index()])));
    ImportedImage {
        source_id: id.cast_signed(),
        file_name: format!("synthetic-{id:09}.jpg"),
        width: 640,
        height: 480,
        labels: LabelSet::from(labels),
        coarse,
    }
}

/// An index, by weights that need not add up to one.
fn weighted(weights: &[f64], random: &mut impl Rng) -> usize {
    let mut left = random.random_range(0.0..weights.iter().sum());
    let passes = |weight: &f64| {
        left -= weight;
        left.total_cmp(&0.0) == Ordering::Less
    };
    // Rounding may leave a little at the end.
    weights.iter().position(passes).unwrap_or_else(|| weights.iter().rposition(|weight| *weight > 0.0).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::taxonomy::Parentage;

    #[test]
    fn images_follow_the_rule_and_the_same_number_gives_the_same_ones() {
        let images = SyntheticImages::new(1000);
        let (again, more) = (SyntheticImages::new(1000), SyntheticImages::new(1100));
        assert_eq!((&images.test, &images.train), (&again.test, &again.train));
        assert_eq!(images.test, more.test[..1000]);
        assert_eq!((images.test.len(), images.train.len()), (1000, 200));
        for image in images.test.iter().chain(&images.train) {
            assert_eq!(images.taxonomy.parentage(&image.labels), Parentage::One(image.coarse));
        }
        let funnel = images.imported().test.funnel;
        assert!(funnel.kept_per_coarse.iter().all(|images| *images > 0), "{funnel:?}");
        let labels: usize = images.test.iter().map(|image| image.labels.len()).sum();
        assert!((1500..2500).contains(&labels), "{labels}");
        let (train, validation) = (images.of(Split::Train, 7), images.of(Split::Validation, 7));
        assert_eq!((train.len(), validation.len()), (100, 100));
        assert!(train.iter().all(|image| !validation.contains(image)));
        assert_eq!(SyntheticImages::new(10).of(Split::Validation, 0).len(), 50);
    }
}
