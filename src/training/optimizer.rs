//! Optimizers, with PyTorch's semantics. candle's SGD has no momentum; both update in place here.

use candle_core::{Result, Tensor, Var, backprop::GradStore};
use twograin_ops::{AdamW, adamw_step, sgd_step};

use crate::domain::{
    RunSpec,
    spec::{Fields, Optimizer as Algorithm},
};

/// Changes variables by their gradients.
#[derive(Debug)]
pub struct Optimizer {
    algorithm: Algorithm,
    momentum: f64,
    weight_decay: f64,
    slots: Vec<Slot>,
    steps: i32,
}

/// A variable and what is remembered of its past gradients.
#[derive(Debug)]
struct Slot {
    var: Var,
    /// SGD: velocity. AdamW: mean.
    first: Tensor,
    /// AdamW: mean square.
    second: Option<Tensor>,
}

impl Optimizer {
    /// β₂ of AdamW.
    const BETA2: f64 = 0.999;
    /// ε of AdamW.
    const EPS: f64 = 1e-8;

    /// The run's optimizer for these variables.
    pub fn new<'a>(spec: &RunSpec, vars: impl Iterator<Item = &'a Var>) -> Result<Self> {
        let Fields { optimizer: algorithm, momentum, weight_decay, .. } = **spec;
        let slot = |var: &Var| {
            let second = match algorithm {
                Algorithm::Sgd => None,
                Algorithm::AdamW => Some(var.zeros_like()?),
            };
            Ok(Slot { var: var.clone(), first: var.zeros_like()?, second })
        };
        let slots = vars.map(slot).collect::<Result<_>>()?;
        Ok(Self { algorithm, momentum, weight_decay, slots, steps: 0 })
    }

    /// One step. A variable without a gradient stays.
    pub fn step(&mut self, grads: &GradStore, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        for slot in &self.slots {
            let Some(gradient) = grads.get(&slot.var) else { continue };
            let gradient = gradient.contiguous()?;
            let weight = slot.var.as_tensor();
            match (self.algorithm, &slot.second) {
                (Algorithm::Sgd, _) => {
                    sgd_step(weight, &slot.first, &gradient, self.momentum, self.weight_decay, learning_rate)?;
                }
                (Algorithm::AdamW, Some(second)) => {
                    let config = AdamW {
                        beta1: self.momentum,
                        beta2: Self::BETA2,
                        eps: Self::EPS,
                        weight_decay: self.weight_decay,
                        step: self.steps,
                    };
                    adamw_step(weight, [&slot.first, second], &gradient, config, learning_rate)?;
                }
                (Algorithm::AdamW, None) => {}
            }
        }
        Ok(())
    }
}
