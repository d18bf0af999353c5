//! Loaded models kept for uploads: a small cache, and a bound on how much is computed at once.

use std::{path::PathBuf, sync::Arc};

use candle_core::Device;
use tokio::sync::Semaphore;

use crate::{
    dataset::{
        decode::{DecodeError, decode},
        transform::test_tensor,
    },
    model::{Classifier, Logits, ModelSpec, Predictor, WeightsError},
    recent::Recent,
};

/// How many models are kept. ResNet34 takes 85 MB, VGG16 540 MB.
const MODELS: usize = 4;
/// Uploads computed at once; the processor's threads are shared by one.
const AT_ONCE: usize = 2;
/// Uploads that may wait; more are turned away.
const WAITING: usize = 32;

/// Classifies uploads. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Classifiers {
    /// By the hash of their weights.
    models: Recent<Arc<Predictor>>,
    computing: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Where a model comes from.
#[derive(Clone, Debug)]
pub struct ModelFile {
    /// Its weights.
    pub path: PathBuf,
    /// Of the weights, in hexadecimal: the key in the cache.
    pub sha256: String,
    /// Its shape.
    pub spec: ModelSpec,
    /// Side of the input it was trained on, in pixels.
    pub input_size: usize,
}

/// What a model says about one upload.
#[derive(Clone, Debug)]
pub struct Classified {
    /// Logits of the one image.
    pub logits: Logits,
    /// W (`[coarse, fine]`) and b of the coarse layer; `None` for a coarse-only model.
    pub coarse_layer: Option<(Vec<f32>, Vec<f32>)>,
    /// Width and height of the upload, upright, in pixels.
    pub size: (u32, u32),
}

/// Why an upload was not classified.
#[derive(Debug, thiserror::Error)]
pub enum InferenceError {
    /// It is no image that can be read.
    #[error(transparent)]
    Image(#[from] DecodeError),
    /// Too many wait already.
    #[error("{WAITING} uploads wait already; try again in a moment")]
    Busy,
    /// The model's weights cannot be read.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The arithmetic failed.
    #[error("classification: {0}")]
    Compute(#[from] candle_core::Error),
    /// The computation was cut off.
    #[error("classification: {0}")]
    Cut(#[from] tokio::task::JoinError),
}

impl Default for Classifiers {
    fn default() -> Self {
        Self {
            models: Recent::new(MODELS),
            computing: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }
}

impl Classifiers {
    /// Classifies one upload, off the asynchronous threads. The image goes through what evaluation images go through.
    pub async fn classify(&self, file: ModelFile, image: Vec<u8>) -> Result<Classified, InferenceError> {
        let place = self.waiting.clone().try_acquire_owned().map_err(|_| InferenceError::Busy)?;
        let turn = self.computing.clone().acquire_owned().await.map_err(|_| InferenceError::Busy)?;
        let this = self.clone();
        tokio::task::spawn_blocking(move || {
            // Held until the work is done, also when nobody waits for it any more.
            let _held = (place, turn);
            let image = decode(&image, "the upload")?;
            let model = this.model(&file)?;
            let logits = model.logits(test_tensor(&image, file.input_size), file.input_size)?;
            Ok(Classified { logits, coarse_layer: model.classifier().coarse_layer()?, size: image.dimensions() })
        })
        .await?
    }

    fn model(&self, file: &ModelFile) -> Result<Arc<Predictor>, InferenceError> {
        if let Some(model) = self.models.get(&file.sha256) {
            return Ok(model);
        }
        let model = Arc::new(Classifier::load(file.spec, &file.path, &Device::Cpu)?.predictor());
        self.models.put(file.sha256.clone(), model.clone());
        Ok(model)
    }
}
