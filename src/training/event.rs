//! What a training run reports while it runs.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};

use crate::domain::{Counts, Split};

/// One report. Epochs and steps are counted from 1.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum TrainingEvent {
    /// The data are split and the model is built.
    Started {
        /// Images learned from.
        train_images: usize,
        /// Images of the validation split.
        validation_images: usize,
        /// Images of the final evaluation.
        test_images: usize,
        /// Trained values of the model.
        parameters: usize,
        /// Steps of an epoch.
        steps_per_epoch: usize,
        /// Passes over the training images.
        epochs: usize,
    },
    /// The run goes on from a checkpoint of an earlier attempt.
    Resumed {
        /// Epochs that are over.
        epochs: usize,
        /// Steps done of the next one.
        step: usize,
        /// What was reported of the epochs that are over.
        ended: Vec<TrainingEvent>,
    },
    /// Something is wrong that the run survives: a checkpoint is damaged, or cannot be written.
    Warning {
        /// What, in words.
        text: String,
    },
    /// The frozen backbone's features of the images are computed, or found.
    Features {
        /// Images done.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// A step of the optimizer; not every step is reported.
    Step {
        /// The epoch it belongs to.
        epoch: usize,
        /// Its number within the epoch.
        step: usize,
        /// Steps of an epoch.
        steps: usize,
        /// Eq. 8 on the step's batch.
        loss: f64,
        /// Eq. 5 or 6; `None` for a coarse-only model.
        fine_loss: Option<f64>,
        /// Eq. 7.
        coarse_loss: f64,
        /// The learning rate.
        learning_rate: f64,
        /// Images per second since the epoch began.
        images_per_second: f64,
    },
    /// A pass over the training images and the validation split is over.
    EpochEnded {
        /// Which one.
        epoch: usize,
        /// Mean of the steps' losses.
        train_loss: f64,
        /// Eq. 8 on the validation split; `None` where that is empty, as are the next two.
        validation_loss: Option<f64>,
        /// Outcomes under the run's own rule; `None` for a coarse-only model.
        validation_counts: Option<Counts>,
        /// Share of validation images of the right category.
        validation_coarse_accuracy: Option<f64>,
        /// The learning rate of its last step.
        learning_rate: f64,
        /// How long it took, validation included.
        seconds: f64,
    },
    /// Training is over: this epoch's weights are kept.
    Kept {
        /// Which one.
        epoch: usize,
        /// How many were trained: fewer than were to be, if none of the last ones was better.
        trained: usize,
    },
    /// The end of an epoch goes through the validation images.
    Validating {
        /// The epoch.
        epoch: usize,
        /// Images done.
        done: usize,
        /// All of them.
        total: usize,
    },
    /// The final evaluation goes through the images of a split.
    Evaluating {
        /// Which one; `Train` for the percentiles of the fine logits.
        split: Split,
        /// Images done.
        done: usize,
        /// All of them.
        total: usize,
    },
}

/// Is told what happens, and may stop it.
pub trait Observer {
    /// `Break` stops the run as soon as possible.
    fn on(&mut self, event: TrainingEvent) -> ControlFlow<()>;

    /// Asked after each step of the optimizer, since not all are reported.
    fn after_step(&mut self) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }
}

impl<F: FnMut(TrainingEvent) -> ControlFlow<()>> Observer for F {
    fn on(&mut self, event: TrainingEvent) -> ControlFlow<()> {
        self(event)
    }
}

/// Lets about four events per second through.
#[derive(Debug, Default)]
pub(super) struct Throttle(Option<Instant>);

impl Throttle {
    const INTERVAL: Duration = Duration::from_millis(250);

    pub(super) fn ready(&mut self) -> bool {
        let ready = self.0.is_none_or(|last| last.elapsed() >= Self::INTERVAL);
        if ready {
            self.0 = Some(Instant::now());
        }
        ready
    }
}
