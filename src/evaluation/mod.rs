//! A model on the images of a split: features, logits and scores.

mod features;

use std::{ops::ControlFlow, sync::Arc};

use thiserror::Error;

use crate::{
    dataset::{LoadError, Loader, LoaderConfig, Sample},
    domain::{Split, spec::Augmentation},
    exchange::{FineScores, Scores},
    model::{Classifier, Logits},
};

pub use features::{FeatureCache, features};

/// How images are read.
#[derive(Clone, Copy, Debug)]
pub struct EvaluationConfig {
    /// Side of the square input, in pixels.
    pub input_size: usize,
    /// Images per forward pass. It decides speed and memory, not the result.
    pub batch_size: usize,
    /// Threads that decode.
    pub loader_threads: usize,
}

/// Why an evaluation ended.
#[derive(Debug, Error)]
pub enum EvaluationError {
    /// An image could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The arithmetic failed.
    #[error("evaluation: {0}")]
    Compute(#[from] candle_core::Error),
}

/// The 5th and 95th percentile of each fine logit over the images trained on: what a corrected label is set to when the
/// coarse layer reads logits. Each `[fine]`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Percentiles {
    /// The 5th.
    pub p05: Vec<f32>,
    /// The 95th.
    pub p95: Vec<f32>,
}

impl Percentiles {
    /// Of the columns of `logits` (`[n, fine]`, row-major, n > 0), interpolated linearly between the two nearest ranks.
    pub fn of(logits: &[f32], fine_count: usize) -> Self {
        let mut percentiles = Self::default();
        for label in 0..fine_count {
            let mut column: Vec<f32> = logits.iter().skip(label).step_by(fine_count).copied().collect();
            column.sort_unstable_by(f32::total_cmp);
            percentiles.p05.push(quantile(&column, 0.05));
            percentiles.p95.push(quantile(&column, 0.95));
        }
        percentiles
    }
}

/// 0 for an empty slice.
fn quantile(sorted: &[f32], q: f64) -> f32 {
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let position = q * last as f64;
    let low = position as usize;
    let (a, b) = (f64::from(sorted[low]), f64::from(sorted[(low + 1).min(last)]));
    (a + (b - a) * position.fract()) as f32
}

/// The images of `samples[order]` under the test transform.
fn test_batches(samples: &Arc<[Sample]>, order: Vec<usize>, config: EvaluationConfig) -> Result<Loader, LoadError> {
    let loader = LoaderConfig {
        input_size: config.input_size,
        augmentation: Augmentation::None,
        batch_size: config.batch_size,
        seed: 0,
        epoch: 0,
        drop_last: false,
        first_batch: 0,
        threads: config.loader_threads,
    };
    Loader::new(samples.clone(), order, loader)
}

/// The logits of `samples[order]`, in that order, under the test transform. `progress` is told how many are done after
/// each batch; `None` if it breaks.
pub fn logits(
    model: &Classifier,
    samples: &Arc<[Sample]>,
    order: &[usize],
    config: EvaluationConfig,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Logits>, EvaluationError> {
    let predictor = model.predictor();
    let mut all = Logits { fine: model.spec().activation.map(|_| Vec::new()), coarse: Vec::new() };
    let mut done = 0;
    for batch in test_batches(samples, order.to_vec(), config)? {
        let batch = batch?;
        done += batch.indices.len();
        let logits = predictor.logits(batch.pixels, config.input_size)?;
        all.coarse.extend(logits.coarse);
        if let (Some(all), Some(fine)) = (&mut all.fine, logits.fine) {
            all.extend(fine);
        }
        if progress(done).is_break() {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// What `model` said about a split's images, with the part of the model that later questions need.
pub fn scores(
    model: &Classifier,
    split: Split,
    image_ids: Vec<i64>,
    logits: Logits,
    percentiles: &Percentiles,
) -> Result<Scores, EvaluationError> {
    let spec = model.spec();
    let fine = match (logits.fine, spec.activation, model.coarse_layer()?) {
        (Some(logits), Some(activation), Some((weight, bias))) => Some(FineScores {
            fine_count: spec.fine_count,
            logits,
            activation,
            coarse_input: spec.coarse_input,
            weight,
            bias,
            p05: percentiles.p05.clone(),
            p95: percentiles.p95.clone(),
        }),
        (Some(_) | None, Some(_) | None, Some(_) | None) => None,
    };
    Ok(Scores { split, image_ids, coarse_count: spec.coarse_count, coarse_logits: logits.coarse, fine })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_interpolate_between_ranks() {
        // Columns 0, 10, …, 100 and 0, −10, …, −100: numpy.percentile gives 5 and 95, −95 and −5.
        let logits: Vec<f32> = (0..11).flat_map(|i| [10.0 * i as f32, -10.0 * i as f32]).collect();
        assert_eq!(Percentiles::of(&logits, 2), Percentiles { p05: vec![5.0, -95.0], p95: vec![95.0, -5.0] });
    }
}
