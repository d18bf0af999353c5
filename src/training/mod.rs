//! Training: a specification and data in, a trained classifier and its scores out. Reports through an [`Observer`]; neither
//! logs nor stores.
//!
//! The test images are touched by the final evaluation alone.

mod checkpoint;
mod demo;
mod event;
mod frozen;
mod optimizer;
mod schedule;
mod selection;
mod step;
mod trainer;

use std::{ops::ControlFlow, path::PathBuf};

use candle_core::Device;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{
    dataset::{LoadError, TrainingData},
    domain::RunSpec,
    evaluation::{EvaluationError, FeatureCache},
    exchange::Scores,
    model::{Classifier, WeightsError},
    weights::FileError,
};

pub use checkpoint::{CheckpointError, CheckpointFiles};
pub use demo::demo_specs;
pub use event::{Observer, TrainingEvent};
pub use optimizer::Optimizer;
pub use schedule::LearningRate;
pub use step::{Losses, StepConfig, step};

/// Variables that a process that trains is started with, unless they are set already.
pub fn environment() -> impl Iterator<Item = (&'static str, &'static str)> {
    let variables = [
        // candle's own pool, used for sums of gradients, spins and takes the processor from rayon's, which does the work.
        ("CANDLE_NUM_THREADS", "1"),
        // The allocator keeps what a step gave back for the next one: the system would zero every page again, a quarter of
        // DenseNet121's time.
        ("MIMALLOC_PURGE_DELAY", "-1"),
    ];
    variables.into_iter().filter(|(name, _)| std::env::var_os(name).is_none())
}

/// The files of a run: what its specification names, and what it keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// What the backbone starts from; needed where the specification has initial weights.
    pub initial_weights: Option<PathBuf>,
    /// Where features of frozen backbones are kept; without it they are computed each time.
    pub features: Option<FeatureCache>,
    /// Where it goes on from, and is kept on the way; without it, an interrupted run starts over.
    pub checkpoints: Option<CheckpointFiles>,
}

/// How a run ended.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is one per run")]
pub enum Fit {
    /// It went to its end.
    Finished(Trained),
    /// The observer stopped it. It left a checkpoint, if it was told where.
    Stopped,
}

/// What a run leaves.
#[derive(Debug)]
pub struct Trained {
    /// The classifier of the epoch that is kept.
    pub model: Classifier,
    /// That epoch, from 1.
    pub epoch: usize,
    /// Its scores on the validation split, then on the test split.
    pub scores: Vec<Scores>,
}

/// Why a run failed.
#[derive(Debug, Error)]
pub enum TrainingError {
    /// Too little to learn from.
    #[error("{0} images to train on: batch normalisation needs at least two")]
    TooFewImages(usize),
    /// The specification does not fit the data set.
    #[error("{0}")]
    Specification(String),
    /// The best epoch cannot be told.
    #[error("keep: there are no validation images to tell the best epoch by; keep the last one, or use more images")]
    NoValidation,
    /// The initial weights do not fit.
    #[error("initial weights: {0}")]
    Weights(#[from] WeightsError),
    /// The file of initial weights is not one, or of another network.
    #[error("initial weights: {0}")]
    WeightsFile(#[from] FileError),
    /// An image could not be read.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The arithmetic diverged.
    #[error("the loss is {loss} at epoch {epoch}, step {step}; a lower learning rate or a longer warm-up may help")]
    NonFinite {
        /// Counted from 1.
        epoch: usize,
        /// Within the epoch, counted from 1.
        step: usize,
        /// Infinite or not a number.
        loss: f64,
    },
    /// A checkpoint could not be read to its end.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The arithmetic failed.
    #[error("training: {0}")]
    Compute(#[from] candle_core::Error),
    /// An evaluation failed.
    #[error(transparent)]
    Evaluation(#[from] EvaluationError),
}

/// Trains as `spec` says on rayon's current pool and scores the validation and test splits. The same specification on the
/// same data and machine gives the same bits; `spec.threads` is the pool's size and is the caller's to set.
pub fn fit(
    spec: &RunSpec,
    data: &TrainingData,
    files: &Files,
    device: &Device,
    observer: &mut dyn Observer,
) -> Result<Fit, TrainingError> {
    Ok(match trainer::train(spec, data, files, device, observer)? {
        ControlFlow::Continue(trained) => Fit::Finished(trained),
        ControlFlow::Break(()) => Fit::Stopped,
    })
}
