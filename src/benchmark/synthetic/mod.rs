//! Data that look like those of real runs and are none: to measure and try pages and API at sizes that nobody has trained.
//!
//! Everything is a function of the number of images and of the run's number, so the same call always makes the same data.

mod images;
mod scores;

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

use crate::domain::{
    EpochPoint, RunLabels, RunSpec, SlurmOptions, Submission, Tally,
    spec::{Backbone, Objective},
};

pub use images::{SyntheticImages, dataset_name};

/// The tag of each synthetic run.
pub const TAG: &str = "synthetic";
/// The note of each synthetic run.
pub const NOTE: &str = "Synthetic: its data set, outcomes and scores were made by `twograin bench populate` to measure this \
                        program. Nothing was trained, and its figures say nothing about images.";

/// Backbones with their seed, and what each knows more than the first one, in units of a fine logit.
const VARIANTS: [(Backbone, u64, f32); 6] = [
    (Backbone::Vgg16, 0, 0.0),
    (Backbone::ResNet34, 0, 0.4),
    (Backbone::ResNet34, 1, 0.4),
    (Backbone::ResNet34, 2, 0.4),
    (Backbone::EfficientNetLite0, 0, 0.65),
    (Backbone::DenseNet121, 0, 0.8),
];
const LEARNING_RATES: [f64; 8] = [0.02, 0.01, 0.05, 0.005, 0.1, 0.002, 0.03, 0.001];
const EPOCHS: [usize; 5] = [10, 6, 8, 12, 15];
const INPUT_SIZES: [usize; 5] = [224, 192, 160, 256, 288];
const BATCH_SIZES: [usize; 4] = [32, 16, 64, 128];

/// The submission of run `index` (from 0): eighteen runs are four backbones × three objectives, one of the backbones with three
/// seeds, and each further eighteen have other settings, so that they form groups of their own.
pub fn submission(index: usize, dataset: &str) -> Result<Submission, String> {
    let mut rest = index;
    let mut next = |base: usize| {
        let digit = rest % base;
        rest /= base;
        digit
    };
    let (objective, variant) = (Objective::ALL[next(Objective::ALL.len())], next(VARIANTS.len()));
    let (rate, epochs) = (LEARNING_RATES[next(LEARNING_RATES.len())], EPOCHS[next(EPOCHS.len())]);
    let (size, batch) = (INPUT_SIZES[next(INPUT_SIZES.len())], BATCH_SIZES[next(BATCH_SIZES.len())]);
    let (backbone, seed, _) = VARIANTS[variant];
    let spec = RunSpec::new(dataset, backbone, objective).with(|fields| {
        fields.learning_rate = rate;
        fields.epochs = epochs;
        fields.input_size = size;
        fields.batch_size = batch;
        // Whatever is left over are more seeds.
        fields.seed = 3 * rest as u64 + seed;
        fields.threads = 1;
    })?;
    let name = format!("synthetic {} {} seed {}", spec.backbone, spec.objective, spec.seed);
    let labels = RunLabels { name: Some(name), tags: vec![TAG.into()], note: NOTE.into(), ..RunLabels::default() };
    Ok(Submission { spec, labels, slurm: SlurmOptions::default() })
}

/// A training curve that ends at these validation figures.
pub fn curve(spec: &RunSpec, validation: Tally) -> Vec<EpochPoint> {
    let indices = validation.indices();
    (1..=spec.epochs as u32)
        .map(|epoch| {
            let done = f64::from(epoch) / spec.epochs as f64;
            // Fast first, slow later.
            let learned = (1.0 - (-4.0 * done).exp()) / (1.0 - f64::exp(-4.0));
            EpochPoint {
                epoch,
                train_loss: 4.0 - 3.2 * learned,
                validation_loss: Some(4.1 - 2.9 * learned),
                validation_ia: indices.and_then(|indices| indices.ia).map(|ia| ia * learned),
                validation_coarse_accuracy: validation
                    .coarse_accuracy()
                    .map(|accuracy| accuracy * (0.3 + 0.7 * learned)),
                learning_rate: spec.learning_rate * 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
                seconds: 60.0,
            }
        })
        .collect()
}

/// How well a run's model tells labels apart, in units of a fine logit: better backbones, and settings nearer to the usual ones,
/// know more.
fn skill(spec: &RunSpec) -> f32 {
    let (.., backbone) = VARIANTS.into_iter().find(|(backbone, ..)| *backbone == spec.backbone).unwrap_or(VARIANTS[0]);
    let rate = (spec.learning_rate / LEARNING_RATES[0]).ln().abs() as f32;
    let size = (spec.input_size as f32 / 224.0).ln();
    backbone - 0.12 * rate + 0.5 * size
}

/// What random numbers are for. Streams of different purposes never overlap.
#[derive(Clone, Copy)]
#[repr(u64)]
enum Purpose {
    /// Labels of an image: one stream per image.
    Image = 1,
    /// How hard an image is, for every run: one stream per image.
    Difficulty = 2,
    /// What a run makes of an image: one stream per run and image.
    Noise = 3,
    /// The coarse layer of a run: one stream per run.
    Layer = 4,
}

fn stream(purpose: Purpose, major: u64, minor: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([0x7477_6f67_7261_696e, purpose as u64, major, minor]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn eighteen_runs_are_every_backbone_and_objective_and_further_ones_form_other_groups() {
        let specs: Vec<RunSpec> = (0..10_008).map(|run| submission(run, "synthetic-1").unwrap().spec).collect();
        let mut groups: BTreeMap<String, BTreeSet<u64>> = BTreeMap::new();
        for spec in &specs {
            assert!(groups.entry(spec.group_key()).or_default().insert(spec.seed), "{spec:?} is there twice");
        }
        let of_three = groups.values().filter(|seeds| seeds.len() == 3).count();
        assert_eq!((groups.len(), of_three), (556 * 12, 556 * 3));
        let cells: BTreeSet<_> = specs[..18].iter().map(|spec| (spec.backbone, spec.objective)).collect();
        assert_eq!(cells.len(), 12);
    }

    #[test]
    fn every_run_says_that_it_is_synthetic() {
        let submission = submission(7, "synthetic-1").unwrap();
        assert!(submission.name().starts_with("synthetic "));
        assert_eq!((submission.labels.tags, &*submission.labels.note), (vec!["synthetic".to_owned()], NOTE));
    }
}
