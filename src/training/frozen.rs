//! The layer groups that do not learn, and what they make of the images.

use std::{ops::ControlFlow, sync::Arc};

use candle_core::Tensor;

use crate::{
    dataset::Sample,
    evaluation::{self, EvaluationConfig, EvaluationError, FeatureCache},
    model::{Classifier, Logits, Mode, Prepared},
};

/// The frozen layer groups of a backbone: always the first ones.
#[derive(Debug, Default)]
pub(super) struct Frozen {
    groups: usize,
    /// Of their weights, which stay as they are as long as they are frozen.
    prepared: Prepared,
    cache: Option<FeatureCache>,
    /// What a backbone that is frozen as a whole makes of each training sample: `[samples, features]`.
    features: Option<Tensor>,
}

impl Frozen {
    pub fn new(cache: Option<FeatureCache>) -> Self {
        Self { cache, ..Self::default() }
    }

    /// How many they are.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// From now on they are the first `groups`. Features outlive this only if nothing changes.
    pub fn set_groups(&mut self, groups: usize) {
        if self.groups != groups {
            // What thaws changes: nothing that was made of it stays.
            *self = Self { groups, ..Self::new(self.cache.take()) };
        }
    }

    /// Makes or finds the features of the training samples, unless they are there already. Breaks if `progress` does.
    pub fn prepare(
        &mut self,
        model: &Classifier,
        samples: &Arc<[Sample]>,
        config: EvaluationConfig,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<ControlFlow<()>, EvaluationError> {
        if self.features.is_none() {
            self.features = evaluation::features(model, samples, config, self.cache.as_ref(), progress)?;
        }
        Ok(if self.features.is_some() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    }

    /// Whether the features of the training samples are there: then nothing of the backbone has ever learned.
    pub fn has_features(&self) -> bool {
        self.features.is_some()
    }

    /// Of some of the training samples, `[indices, features]`; `None` unless they are there.
    pub fn features(&self, indices: &[usize]) -> candle_core::Result<Option<Tensor>> {
        let Some(features) = &self.features else { return Ok(None) };
        let indices: Vec<u32> = indices.iter().map(|&index| index as u32).collect();
        let indices = Tensor::new(indices, features.device())?;
        features.index_select(&indices, 0).map(Some)
    }

    /// What they make of pixels.
    pub fn forward(&self, model: &Classifier, pixels: &Tensor) -> candle_core::Result<Tensor> {
        model.through(0..self.groups, pixels, Mode::Infer(&self.prepared))
    }

    /// The logits of other samples by their features; `None` if `progress` breaks.
    pub fn logits(
        &self,
        model: &Classifier,
        samples: &Arc<[Sample]>,
        config: EvaluationConfig,
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Result<Option<Logits>, EvaluationError> {
        let features = evaluation::features(model, samples, config, self.cache.as_ref(), progress)?;
        Ok(features.map(|features| head(model, &features)).transpose()?)
    }
}

/// The logits of images by their features.
pub(super) fn head(model: &Classifier, features: &Tensor) -> candle_core::Result<Logits> {
    model.forward_after(model.groups(), features, Mode::Evaluate)?.logits()
}
