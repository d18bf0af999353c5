//! Optimizers, with PyTorch's semantics. candle's SGD has no momentum; both update in place here.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use twograin_ops::{AdamW, Sgd, adamw_step, sgd_step, sum_of_squares};

use crate::domain::{
    RunSpec,
    spec::{Fields, Optimizer as Algorithm},
};

/// Changes variables by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    momentum: f64,
    nesterov: bool,
    clip_norm: Option<f64>,
    slots: Vec<Slot>,
    steps: i32,
}

/// A variable and what is remembered of its past gradients.
#[derive(Debug)]
struct Slot {
    var: Var,
    weight_decay: f64,
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

    /// The run's optimizer for these variables.
    pub fn new<'a>(spec: &RunSpec, vars: impl Iterator<Item = &'a Var>) -> Result<Self> {
        let Fields { optimizer: algorithm, momentum, nesterov, clip_norm, .. } = **spec;
        let slot = |var: &Var| {
            // Biases and batch norm's tensors have one dimension.
            let decays = spec.decay_biases_and_norms || var.rank() >= 2;
            let memory = Memory::new(algorithm, var)?;
            let weight_decay = if decays { spec.weight_decay } else { 0.0 };
            Ok(Slot { var: var.clone(), weight_decay, memory })
        };
        let slots = vars.map(slot).collect::<Result<_>>()?;
        Ok(Self { momentum, nesterov, clip_norm, slots, steps: 0 })
    }

    /// One step. A variable without a gradient stays.
    pub fn step(&mut self, grads: &GradStore, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let gradient = |slot| contiguous_gradient(slot, grads);
        let gradients = self.slots.iter().filter_map(gradient).collect::<Result<Vec<_>>>()?;
        let scale = self.clipping(&gradients)?;
        for (slot, gradient) in &gradients {
            let (weight, weight_decay) = (slot.var.as_tensor(), slot.weight_decay);
            match &slot.memory {
                Memory::Sgd { velocity } => {
                    let config = Sgd { momentum: self.momentum, nesterov: self.nesterov, weight_decay, scale };
                    sgd_step(weight, velocity, gradient, config, learning_rate)?;
                }
                Memory::AdamW { mean, square } => {
                    let config = AdamW {
                        beta1: self.momentum,
                        beta2: Self::BETA2,
                        eps: Self::EPS,
                        weight_decay,
                        step: self.steps,
                        scale,
                    };
                    adamw_step(weight, [mean, square], gradient, config, learning_rate)?;
                }
            }
        }
        Ok(())
    }

    /// What all gradients are to be multiplied by, as in PyTorch's `clip_grad_norm_`.
    fn clipping(&self, gradients: &[(&Slot, Tensor)]) -> Result<f64> {
        let Some(clip_norm) = self.clip_norm else { return Ok(1.0) };
        let squares = gradients.iter().map(|(_, gradient)| sum_of_squares(gradient)).sum::<Result<f64>>()?;
        Ok((clip_norm / (squares.sqrt() + 1e-6)).min(1.0))
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
}

fn contiguous_gradient<'a>(slot: &'a Slot, grads: &GradStore) -> Option<Result<(&'a Slot, Tensor)>> {
    let gradient = grads.get(&slot.var)?;
    Some(gradient.contiguous().map(|gradient| (slot, gradient)))
}
