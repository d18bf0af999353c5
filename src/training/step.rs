//! One step of the optimizer.

use candle_core::{DType, Result, Tensor};

use super::Optimizer;
use crate::model::{Classifier, LossSpec, Mode, Tape, Targets};

/// The losses of one batch.
#[derive(Clone, Copy, Debug)]
pub struct Losses {
    /// Eq. 8: their sum.
    pub total: f64,
    /// Eq. 5 or 6; `None` for a coarse-only model.
    pub fine: Option<f64>,
    /// Eq. 7.
    pub coarse: f64,
}

/// What is learned with in one step.
#[derive(Clone, Copy, Debug)]
pub struct StepConfig {
    /// How many layer groups of the backbone are frozen; the input is what they made.
    pub frozen: usize,
    /// Decides what dropout drops; another one for each step.
    pub dropout_seed: u64,
    /// The learning rate.
    pub learning_rate: f64,
}

/// Learns from normalised pixels `[n, 3, s, s]`, or from what the frozen layer groups made of them: forward, backward, and a step of the optimizer. Nothing is learned from a
/// loss that is not finite: the weights stay as they were.
pub fn step(
    model: &Classifier,
    loss: &LossSpec,
    optimizer: &mut Optimizer,
    (input, targets): (&Tensor, &Targets),
    config: StepConfig,
) -> Result<Losses> {
    let tape = Tape::new();
    let mode = Mode::Train { tape: &tape, dropout_seed: config.dropout_seed };
    let output = model.forward_after(config.frozen, input, mode)?;
    let loss = loss.loss(&output, targets)?;
    let losses = Losses {
        total: number(&loss.total)?,
        fine: loss.fine.as_ref().map(number).transpose()?,
        coarse: number(&loss.coarse)?,
    };
    if losses.total.is_finite() {
        let mut gradients = loss.total.backward()?;
        tape.backward(&mut gradients)?;
        optimizer.step(&gradients, config.learning_rate)?;
    }
    Ok(losses)
}

pub(super) fn number(scalar: &Tensor) -> Result<f64> {
    scalar.to_dtype(DType::F64)?.to_scalar()
}
