//! Optimizers, with PyTorch's semantics. candle's SGD has no momentum.

use candle_core::{Result, Tensor, Var, backprop::GradStore};

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
        for slot in &mut self.slots {
            // Detached: what is remembered must not hold on to the graph it came from.
            let Some(grad) = grads.get(&slot.var).map(Tensor::detach) else { continue };
            let weight = slot.var.as_detached_tensor();
            let next = match (self.algorithm, &mut slot.second) {
                // v ← μv + g + λw; w ← w − ηv
                (Algorithm::Sgd, _) => {
                    let grad = (grad + (&weight * self.weight_decay)?)?;
                    slot.first = ((&slot.first * self.momentum)? + grad)?;
                    weight - (&slot.first * learning_rate)?
                }
                // m ← β₁m + (1 − β₁)g; s ← β₂s + (1 − β₂)g²; w ← (1 − ηλ)w − η m̂ / (√ŝ + ε)
                (Algorithm::AdamW, Some(second)) => {
                    let (beta1, beta2) = (self.momentum, Self::BETA2);
                    slot.first = ((&slot.first * beta1)? + (&grad * (1.0 - beta1))?)?;
                    *second = ((&*second * beta2)? + (grad.sqr()? * (1.0 - beta2))?)?;
                    let rate = learning_rate / (1.0 - beta1.powi(self.steps));
                    let root = (&*second / (1.0 - beta2.powi(self.steps)))?.sqrt()?;
                    let kept = (weight * (1.0 - learning_rate * self.weight_decay))?;
                    kept - ((&slot.first * rate)? / (root + Self::EPS)?)?
                }
                (Algorithm::AdamW, None) => continue,
            };
            slot.var.set(&next?)?;
        }
        Ok(())
    }
}
