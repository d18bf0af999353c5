//! Scores that a model could have given: the truth, blurred.

use rand::Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{Purpose, SyntheticImages, skill, stream};
use crate::{
    dataset::coco::ImportedImage,
    domain::{FineId, RunSpec, Split, Taxonomy, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation, Scores},
};

/// Mean fine logit of a label that is there, and of one that is not.
const THERE: f32 = 1.0;
const ABSENT: f32 = -4.0;
/// Standard deviation of what a run adds to a fine logit by itself, and of what an image does to all runs.
const NOISE: f32 = 1.2;
const DIFFICULTY: f32 = 1.1;
/// How much more likely than other absent ones the label is that an image is mistaken for.
const MISTAKEN: f32 = 4.2;

/// What a model's last layers are like.
struct Head {
    activation: Option<ScoreActivation>,
    coarse_input: CoarseInput,
    /// `[coarse, fine]`.
    weight: Vec<f32>,
    /// `[coarse]`.
    bias: Vec<f32>,
    skill: f32,
}

impl SyntheticImages {
    /// What run `index` says about the images of a split; `Validation` or `Test`. Coarse logits are what the coarse layer
    /// makes of the fine ones, as in a real model.
    pub fn scores(&self, index: usize, spec: &RunSpec, split: Split) -> Scores {
        let images = self.of(split, spec.seed);
        let head = Head::new(index, spec, self.taxonomy());
        let (fine_count, coarse_count) = (self.taxonomy().fine().len(), self.taxonomy().coarse().len());
        let fine_columns = if head.activation.is_some() { fine_count } else { 0 };
        let mut fine = vec![0.0; images.len() * fine_columns];
        let mut coarse = vec![0.0; images.len() * coarse_count];
        let mut row = vec![0.0; fine_count];
        for (image, (number, coarse)) in images.iter().zip(coarse.chunks_exact_mut(coarse_count).enumerate()) {
            let mut noise = stream(Purpose::Noise, index as u64, image.source_id.cast_unsigned());
            if head.activation.is_some() {
                fine_logits(image, &head, self.taxonomy(), &mut noise, &mut row);
                fine[number * fine_count..][..fine_count].copy_from_slice(&row);
                head.coarse(&row, coarse);
            } else {
                coarse_logits(image, head.skill, &mut noise, coarse);
            }
        }
        Scores {
            split,
            image_ids: images.iter().map(|image| image.source_id).collect(),
            coarse_count,
            coarse_logits: coarse,
            fine: head.activation.map(|activation| FineScores {
                fine_count,
                logits: fine,
                activation,
                coarse_input: head.coarse_input,
                weight: head.weight,
                bias: head.bias,
                p05: vec![ABSENT - 1.645 * NOISE; fine_count],
                p95: vec![THERE + head.skill; fine_count],
            }),
        }
    }
}

impl Head {
    /// Each category listens to its own labels, and a little to all others.
    fn new(index: usize, spec: &RunSpec, taxonomy: &Taxonomy) -> Self {
        let mut random = stream(Purpose::Layer, index as u64, 0);
        let gain = match spec.coarse_input {
            CoarseInput::Probabilities => 6.0,
            CoarseInput::Logits => 0.5,
        };
        let coarse = (0u16..).take(taxonomy.coarse().len());
        let weight: Vec<f32> = coarse
            .flat_map(|category| taxonomy.fine().iter().map(move |label| (category, label.parent)))
            .map(|(category, parent)| {
                let own = parent.is_some_and(|parent| parent.0 == category);
                gain * (f32::from(u8::from(own)) + 0.25 * normal(&mut random))
            })
            .collect();
        let absent = match spec.coarse_input {
            CoarseInput::Probabilities => 0.0,
            CoarseInput::Logits => ABSENT,
        };
        let bias = weight.chunks_exact(taxonomy.fine().len()).map(|row| -absent * row.iter().sum::<f32>()).collect();
        let activation = ScoreActivation::of(spec.objective);
        Self { activation, coarse_input: spec.coarse_input, weight, bias, skill: skill(spec) }
    }

    /// W · x + b, where x are the fine logits or their probabilities.
    fn coarse(&self, logits: &[f32], coarse: &mut [f32]) {
        let x: Vec<f32> = match (self.coarse_input, self.activation) {
            (CoarseInput::Probabilities, Some(activation)) => {
                activation.probabilities(logits).into_iter().map(|p| p as f32).collect()
            }
            (CoarseInput::Logits, _) | (CoarseInput::Probabilities, None) => logits.to_vec(),
        };
        for ((to, row), bias) in coarse.iter_mut().zip(self.weight.chunks_exact(x.len())).zip(&self.bias) {
            *to = bias + row.iter().zip(&x).map(|(w, x)| w * x).sum::<f32>();
        }
    }
}

fn fine_logits(image: &ImportedImage, head: &Head, taxonomy: &Taxonomy, noise: &mut impl Rng, row: &mut [f32]) {
    let mut shared = stream(Purpose::Difficulty, image.source_id.cast_unsigned(), 0);
    let difficulty = DIFFICULTY * normal(&mut shared);
    row.fill_with(|| ABSENT + NOISE * normal(noise));
    for label in image.labels.iter() {
        row[label.index()] += THERE + head.skill - difficulty - ABSENT;
    }
    let mistaken = mistaken_for(image, taxonomy, &mut shared);
    if !image.labels.contains(mistaken) {
        row[mistaken.index()] += MISTAKEN + normal(&mut shared) - head.skill;
    }
}

/// A label that the image is easily taken to have: of its own category twice in three times, else any.
fn mistaken_for(image: &ImportedImage, taxonomy: &Taxonomy, random: &mut impl Rng) -> FineId {
    let number = random.next_u32();
    let own: Vec<u16> = (0u16..)
        .zip(taxonomy.fine())
        .filter(|(_, label)| label.parent == Some(image.coarse))
        .map(|(index, _)| index)
        .collect();
    let pick = |count: usize| (number / 3) as usize % count;
    FineId(if number.is_multiple_of(3) { pick(taxonomy.fine().len()) as u16 } else { own[pick(own.len())] })
}

/// Of a model without fine labels.
fn coarse_logits(image: &ImportedImage, skill: f32, noise: &mut impl Rng, row: &mut [f32]) {
    let mut shared = stream(Purpose::Difficulty, image.source_id.cast_unsigned(), 0);
    row.fill_with(|| normal(noise));
    row[image.coarse.index()] += 3.0 + skill - DIFFICULTY * normal(&mut shared);
}

fn normal(random: &mut impl Rng) -> f32 {
    StandardNormal.sample(random)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        analysis::{Truth, judge_all},
        benchmark::synthetic::submission,
        domain::{Outcome, Tally},
    };

    fn tally_of(images: &SyntheticImages, run: usize) -> Tally {
        let spec = submission(run, "synthetic-2000").unwrap().spec;
        let scores = images.scores(run, &spec, Split::Test);
        let images = images.of(Split::Test, 0);
        let truths = images.iter().map(|image| Truth { fine: &image.labels, coarse: image.coarse });
        judge_all(&scores, truths, spec.own_rule().as_ref()).tally()
    }

    #[test]
    fn figures_are_those_of_trained_models_and_rise_with_the_backbone() {
        let images = SyntheticImages::new(2000);
        let tallies: Vec<Tally> = (0..18).map(|run| tally_of(&images, run)).collect();
        for tally in &tallies {
            let accuracy = tally.coarse_accuracy().unwrap();
            assert!((0.6..0.97).contains(&accuracy), "{tallies:#?}");
            if let Some(counts) = tally.counts {
                assert!(Outcome::ALL.iter().all(|outcome| counts.get(*outcome) >= 20), "{tallies:#?}");
            }
        }
        let ia = |run: usize| tallies[run].indices().unwrap().ia.unwrap();
        let coarse_accuracy = |run: usize| tallies[run].coarse_accuracy().unwrap();
        for objective in 0..3 {
            // VGG16, ResNet34, DenseNet121.
            let runs = [0, 3, 15].map(|first| first + objective);
            let rises = match tallies[objective].counts {
                Some(_) => runs.is_sorted_by(|a, b| ia(*a) < ia(*b)),
                None => runs.is_sorted_by(|a, b| coarse_accuracy(*a) < coarse_accuracy(*b)),
            };
            assert!(rises, "{tallies:#?}");
        }
    }

    #[test]
    fn the_same_run_always_says_the_same_and_coarse_logits_follow_from_fine_ones() {
        let images = SyntheticImages::new(60);
        for run in 0..6 {
            let spec = submission(run, "synthetic-60").unwrap().spec;
            let scores = images.scores(run, &spec, Split::Validation);
            assert_eq!(images.scores(run, &spec, Split::Validation), scores);
            assert_ne!(images.scores(run + 18, &spec, Split::Validation), scores);
            let Some(fine) = &scores.fine else { continue };
            let p = fine.activation.probabilities(scores.fine_row(7).unwrap());
            for (category, logit) in scores.coarse_row(7).iter().enumerate() {
                let row = &fine.weight[category * 80..][..80];
                let sum: f64 = row.iter().zip(&p).map(|(w, p)| f64::from(*w) * p).sum();
                assert!((sum + f64::from(fine.bias[category]) - f64::from(*logit)).abs() < 1e-4);
            }
        }
    }
}
