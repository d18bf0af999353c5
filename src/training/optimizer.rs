//! Optimizers, with PyTorch's semantics. candle's SGD has no momentum; both update in place here.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use twograin_ops::{AdamW, Sgd, adamw_step, sgd_step, sum_of_squares};

use crate::{
    domain::{
        RunSpec,
        spec::{Fields, Optimizer as Algorithm},
    },
    model::Parameters,
};

/// Changes variables by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    momentum: f64,
    nesterov: bool,
    clip_norm: Option<f64>,
    slots: Vec<Slot>,
}

/// A variable and what is remembered of its past gradients.
#[derive(Debug)]
struct Slot {
    name: String,
    var: Var,
    weight_decay: f64,
    /// Its learning rate as a multiple of the run's.
    rate: f64,
    /// How many it has made: those before it was unfrozen are none of its own.
    steps: i32,
    memory: Memory,
}

/// Each is shaped as the variable.
#[derive(Debug)]
enum Memory {
    Sgd { velocity: Var },
    AdamW { mean: Var, square: Var },
}

impl Optimizer {
    /// β₂ of AdamW.
    const BETA2: f64 = 0.999;
    /// ε of AdamW.
    const EPS: f64 = 1e-8;

    /// The run's optimizer for the tensors that ever learn.
    pub fn new(spec: &RunSpec, params: &Parameters) -> Result<Self> {
        let Fields { optimizer: algorithm, momentum, nesterov, clip_norm, learning_rate, .. } = **spec;
        let slot = |(name, var): (&String, &Var)| {
            let Some(highest) = spec.learning_rate_of(params.group_of(name)) else { return Ok(None) };
            // Biases and batch norm's tensors have one dimension.
            let decays = spec.decay_biases_and_norms || var.rank() >= 2;
            let memory = Memory::new(algorithm, var)?;
            let weight_decay = if decays { spec.weight_decay } else { 0.0 };
            let rate = highest / learning_rate;
            Ok(Some(Slot { name: name.clone(), var: var.clone(), weight_decay, rate, steps: 0, memory }))
        };
        let slots = params.iter_trained().map(slot).filter_map(Result::transpose).collect::<Result<_>>()?;
        Ok(Self { momentum, nesterov, clip_norm, slots })
    }

    /// One step. A tensor without a gradient, such as one that is still frozen, stays as it is.
    pub fn step(&mut self, grads: &GradStore, learning_rate: f64) -> Result<()> {
        let Self { momentum, nesterov, clip_norm, .. } = *self;
        let gradient = |slot| contiguous_gradient(slot, grads);
        let mut gradients = self.slots.iter_mut().filter_map(gradient).collect::<Result<Vec<_>>>()?;
        let scale = clipping(clip_norm, gradients.iter().map(|(_, gradient)| gradient))?;
        for (slot, gradient) in &mut gradients {
            slot.steps += 1;
            let (weight, weight_decay, rate) = (slot.var.as_tensor(), slot.weight_decay, learning_rate * slot.rate);
            match &slot.memory {
                Memory::Sgd { velocity } => {
                    let config = Sgd { momentum, nesterov, weight_decay, scale };
                    sgd_step(weight, velocity, gradient, config, rate)?;
                }
                Memory::AdamW { mean, square } => {
                    let config = AdamW {
                        beta1: momentum,
                        beta2: Self::BETA2,
                        eps: Self::EPS,
                        weight_decay,
                        step: slot.steps,
                        scale,
                    };
                    adamw_step(weight, [mean, square], gradient, config, rate)?;
                }
            }
        }
        Ok(())
    }

    /// How many steps each tensor has made: with [`memories`](Self::memories), all that the next step depends on beside the
    /// variables and the specification.
    pub(super) fn steps(&self) -> Vec<i32> {
        self.slots.iter().map(|slot| slot.steps).collect()
    }

    /// Goes on from what [`steps`](Self::steps) gave.
    pub(super) fn set_steps(&mut self, steps: &[i32]) {
        self.slots.iter_mut().zip(steps).for_each(|(slot, &steps)| slot.steps = steps);
    }

    /// What is remembered of past gradients, by the name of the tensor and of the memory.
    pub(super) fn memories(&self) -> impl Iterator<Item = (String, &Var)> {
        self.slots.iter().flat_map(|Slot { name, memory, .. }| {
            memory.vars().into_iter().map(move |(what, var)| (format!("{name}.{what}"), var))
        })
    }
}

impl Memory {
    fn new(algorithm: Algorithm, var: &Var) -> Result<Self> {
        let zeros = || Var::from_tensor(&var.zeros_like()?);
        Ok(match algorithm {
            Algorithm::Sgd => Self::Sgd { velocity: zeros()? },
            Algorithm::AdamW => Self::AdamW { mean: zeros()?, square: zeros()? },
        })
    }

    fn vars(&self) -> Vec<(&'static str, &Var)> {
        match self {
            Self::Sgd { velocity } => vec![("velocity", velocity)],
            Self::AdamW { mean, square } => vec![("mean", mean), ("square", square)],
        }
    }
}

/// What all gradients are to be multiplied by, as in PyTorch's `clip_grad_norm_`.
fn clipping<'a>(clip_norm: Option<f64>, gradients: impl Iterator<Item = &'a Tensor>) -> Result<f64> {
    let Some(clip_norm) = clip_norm else { return Ok(1.0) };
    let squares = gradients.map(sum_of_squares).sum::<Result<f64>>()?;
    let scale = clip_norm / (squares.sqrt() + 1e-6);
    // Not `min`, which would take 1 for a NaN and let the others' gradients through.
    Ok(if scale > 1.0 { 1.0 } else { scale })
}

fn contiguous_gradient<'a>(slot: &'a mut Slot, grads: &GradStore) -> Option<Result<(&'a mut Slot, Tensor)>> {
    let gradient = grads.get(&slot.var)?;
    Some(gradient.contiguous().map(|gradient| (slot, gradient)))
}
