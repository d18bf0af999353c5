//! Experiments: sets of runs that answer a question together, and what they cost.
//!
//! An experiment is a [`Plan`], made by a function of [`Options`]; everything else is the same for all of them.

mod estimate;
mod paper;
mod transfer;

use std::collections::BTreeMap;

use crate::{
    domain::{
        RunSpec, Submission,
        spec::{Backbone, Device},
    },
    weights::catalogue::KNOWN,
};

pub use estimate::{BackboneEstimate, Estimate, Images, Speed};
pub use paper::{PAPER_BACKBONES, paper};
pub use transfer::{TRANSFER_ARMS, TRANSFER_BACKBONES, transfer};

/// An experiment.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// What it is, in a line.
    pub title: String,
    /// Its runs, in the order in which they are to be made.
    pub runs: Vec<Submission>,
}

/// What an experiment can be told. What is `None` has the experiment's own default, which may differ between backbones.
#[derive(Clone, Debug)]
pub struct Options {
    /// The data set's name.
    pub dataset: String,
    /// The backbones, in order.
    pub backbones: Vec<Backbone>,
    /// What each backbone starts from; one that is not in it from random weights.
    pub weights: BTreeMap<Backbone, String>,
    /// Passes over the training images.
    pub epochs: Option<usize>,
    /// Side of the square input, in pixels.
    pub input_size: Option<usize>,
    /// Images per step.
    pub batch_size: Option<usize>,
    /// The highest learning rate of the schedule.
    pub learning_rate: Option<f64>,
    /// One repetition for each.
    pub seeds: Vec<u64>,
    /// Where the runs compute.
    pub device: Device,
    /// CPU threads; 0 means one per core.
    pub threads: usize,
}

/// The name of published weights for a backbone, trained on ImageNet.
pub fn imagenet_weights(backbone: Backbone) -> Option<&'static str> {
    KNOWN.iter().find(|known| known.backbone == backbone).map(|known| known.name)
}

/// The specification with what was told.
fn told(spec: RunSpec, options: &Options, seed: u64) -> Result<RunSpec, String> {
    spec.with(|spec| {
        spec.epochs = options.epochs.unwrap_or(spec.epochs);
        spec.input_size = options.input_size.unwrap_or(spec.input_size);
        spec.batch_size = options.batch_size.unwrap_or(spec.batch_size);
        spec.learning_rate = options.learning_rate.unwrap_or(spec.learning_rate);
        // A trial of one epoch is not all warm-up.
        spec.warmup_epochs = spec.warmup_epochs.min(spec.epochs as f64 / 2.0);
        spec.initial_weights = options.weights.get(&spec.backbone).cloned();
        (spec.seed, spec.threads, spec.device) = (seed, options.threads, options.device);
    })
}
