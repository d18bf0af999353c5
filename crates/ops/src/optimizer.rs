//! The updates of optimizers, in place: no temporary tensor of a parameter's size.

use candle_core::{CpuStorage, CustomOp1, InplaceOp2, InplaceOp3, Layout, Result, Shape, Tensor, WithDType, bail};
use rayon::prelude::*;

use crate::{
    float::{Float, elements, elements_mut, ensure_alike, storage, with_float},
    simd::{Isa, Kernel, sum_lanes},
};

/// What a step of stochastic gradient descent needs beside its tensors and the rate.
#[derive(Clone, Copy, Debug)]
pub struct Sgd {
    /// μ: share of the velocity that is kept.
    pub momentum: f64,
    /// Looks ahead: the weight moves as if the velocity had been updated once more by the same gradient.
    pub nesterov: bool,
    /// λ: multiple of the weight that is added to the gradient.
    pub weight_decay: f64,
    /// Multiplies the gradient before all else; 1 unless gradients are clipped.
    pub scale: f64,
}

/// One step of stochastic gradient descent with momentum. With `g = scale gradient + λ weight`: `velocity ← μ velocity + g`, then
/// `weight ← weight - rate velocity`, or with Nesterov's momentum `weight ← weight - rate (g + μ velocity)`. All tensors are
/// shaped alike. PyTorch's `SGD` (without dampening).
///
/// # Errors
/// If the tensors differ in shape, are not contiguous, or are not all `f32` or all `f64` on the CPU.
pub fn sgd_step(weight: &Tensor, velocity: &Tensor, gradient: &Tensor, config: Sgd, rate: f64) -> Result<()> {
    ensure_shaped_alike("sgd_step", &[weight, velocity, gradient])?;
    velocity.inplace_op3(gradient, weight, &Velocity(config))?;
    if config.nesterov {
        weight.inplace_op3(velocity, gradient, &LookAhead { config, rate })
    } else {
        weight.inplace_op2(velocity, &Combine { kept: 1., added: -rate, scale: 1., squared: false })
    }
}

/// What an AdamW step needs beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct AdamW {
    /// β₁: share of the mean that is kept.
    pub beta1: f64,
    /// β₂: share of the mean square that is kept.
    pub beta2: f64,
    /// Added to the root of the mean square.
    pub eps: f64,
    /// λ, decoupled from the gradient.
    pub weight_decay: f64,
    /// Of this step, counted from 1: corrects the bias of means that started at 0.
    pub step: i32,
    /// Multiplies the gradient before all else; 1 unless gradients are clipped.
    pub scale: f64,
}

/// One step of AdamW (Loshchilov and Hutter 2019). With `g = scale gradient`: `mean ← β₁ mean + (1 - β₁) g`, `square ← β₂ square +
/// (1 - β₂) g²`, `weight ← (1 - rate λ) weight - rate mean' / (√square' + ε)`, where `'` corrects the bias. All tensors are
/// shaped alike. PyTorch's `AdamW`.
///
/// # Errors
/// If the tensors differ in shape, are not contiguous, or are not all `f32` or all `f64` on the CPU.
pub fn adamw_step(
    weight: &Tensor,
    [mean, square]: [&Tensor; 2],
    gradient: &Tensor,
    config: AdamW,
    rate: f64,
) -> Result<()> {
    ensure_shaped_alike("adamw_step", &[weight, mean, square, gradient])?;
    let AdamW { beta1, beta2, eps, weight_decay, step, scale } = config;
    mean.inplace_op2(gradient, &Combine { kept: beta1, added: 1. - beta1, scale, squared: false })?;
    square.inplace_op2(gradient, &Combine { kept: beta2, added: 1. - beta2, scale, squared: true })?;
    let descend = Descend {
        kept: 1. - rate * weight_decay,
        rate: rate / (1. - beta1.powi(step)),
        correction: 1. / (1. - beta2.powi(step)),
        eps,
    };
    weight.inplace_op3(mean, square, &descend)
}

/// The sum of the squares of a contiguous tensor, in double precision and an order that depends on its size alone: what a global
/// norm is made of. A scalar `f64`.
///
/// # Errors
/// If the tensor is not contiguous, or not `f32` or `f64` on the CPU.
pub fn sum_of_squares(tensor: &Tensor) -> Result<f64> {
    ensure_alike("sum_of_squares", &[tensor])?;
    tensor.apply_op1_no_bwd(&SumOfSquares)?.to_scalar()
}

fn ensure_shaped_alike(op: &str, tensors: &[&Tensor]) -> Result<()> {
    ensure_alike(op, tensors)?;
    match tensors {
        [first, rest @ ..] if rest.iter().any(|other| other.dims() != first.dims()) => {
            bail!("{op}: tensors differ in shape: {:?}", tensors.iter().map(|t| t.shape()).collect::<Vec<_>>())
        }
        _ => Ok(()),
    }
}

/// Elements per task.
const CHUNK: usize = 1 << 15;

/// Runs `update(target, a, b)` for each element, in parallel.
fn each<T: Float>(target: &mut [T], a: &[T], b: &[T], update: impl Fn(&mut T, T, T) + Copy + Sync) {
    struct Each<'a, T, F>(&'a mut [T], &'a [T], &'a [T], F);
    impl<T: Float, F: Fn(&mut T, T, T)> Kernel for Each<'_, T, F> {
        type Output = ();
        #[inline(always)]
        fn run(self) {
            for ((target, &a), &b) in self.0.iter_mut().zip(self.1).zip(self.2) {
                (self.3)(target, a, b);
            }
        }
    }
    let isa = Isa::detect();
    let operands = a.par_chunks(CHUNK).zip(b.par_chunks(CHUNK));
    target.par_chunks_mut(CHUNK).zip(operands).for_each(|(target, (a, b))| isa.run(Each(target, a, b, update)));
}

/// `(velocity, gradient, weight)`: `velocity ← μ velocity + scale gradient + λ weight`
struct Velocity(Sgd);

impl InplaceOp3 for Velocity {
    fn name(&self) -> &'static str {
        "sgd-velocity"
    }

    fn cpu_fwd(
        &self,
        velocity: &mut CpuStorage,
        velocity_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<()> {
        with_float!(gradient, self.name(), T => {
            let velocity = elements_mut::<T>(self.name(), velocity, velocity_layout)?;
            let gradient = elements(self.name(), gradient, gradient_layout)?;
            let weight = elements(self.name(), weight, weight_layout)?;
            let Sgd { momentum, weight_decay, scale, .. } = self.0;
            let [momentum, decay, scale] = [momentum, weight_decay, scale].map(T::from_f64);
            each(velocity, gradient, weight, |velocity, gradient, weight| {
                *velocity = momentum * *velocity + (scale * gradient + decay * weight);
            });
        });
        Ok(())
    }
}

/// `(weight, velocity, gradient)`: `weight ← weight - rate (scale gradient + λ weight + μ velocity)`
struct LookAhead {
    config: Sgd,
    rate: f64,
}

impl InplaceOp3 for LookAhead {
    fn name(&self) -> &'static str {
        "sgd-look-ahead"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        velocity: &CpuStorage,
        velocity_layout: &Layout,
        gradient: &CpuStorage,
        gradient_layout: &Layout,
    ) -> Result<()> {
        with_float!(gradient, self.name(), T => {
            let weight = elements_mut::<T>(self.name(), weight, weight_layout)?;
            let velocity = elements(self.name(), velocity, velocity_layout)?;
            let gradient = elements(self.name(), gradient, gradient_layout)?;
            let Sgd { momentum, weight_decay, scale, .. } = self.config;
            let [momentum, decay, scale, rate] = [momentum, weight_decay, scale, self.rate].map(T::from_f64);
            each(weight, velocity, gradient, |weight, velocity, gradient| {
                *weight = *weight - rate * (scale * gradient + decay * *weight + momentum * velocity);
            });
        });
        Ok(())
    }
}

/// `(target, x)`: `target ← kept target + added scale x`, or with `(scale x)²`.
struct Combine {
    kept: f64,
    added: f64,
    /// Applied before squaring, as the square of what is clipped may not be finite.
    scale: f64,
    squared: bool,
}

impl InplaceOp2 for Combine {
    fn name(&self) -> &'static str {
        "combine"
    }

    fn cpu_fwd(&self, target: &mut CpuStorage, layout: &Layout, x: &CpuStorage, x_layout: &Layout) -> Result<()> {
        with_float!(x, self.name(), T => {
            let target = elements_mut::<T>(self.name(), target, layout)?;
            let x = elements::<T>(self.name(), x, x_layout)?;
            let [kept, added, scale] = [self.kept, self.added, self.scale].map(T::from_f64);
            if self.squared {
                each(target, x, x, |target, x, _| *target = kept * *target + added * ((scale * x) * (scale * x)));
            } else {
                each(target, x, x, |target, x, _| *target = kept * *target + added * (scale * x));
            }
        });
        Ok(())
    }
}

/// `(weight, mean, square)`: `weight ← kept weight - rate mean / (√(correction square) + eps)`
struct Descend {
    kept: f64,
    rate: f64,
    correction: f64,
    eps: f64,
}

impl InplaceOp3 for Descend {
    fn name(&self) -> &'static str {
        "adamw-descend"
    }

    fn cpu_fwd(
        &self,
        weight: &mut CpuStorage,
        weight_layout: &Layout,
        mean: &CpuStorage,
        mean_layout: &Layout,
        square: &CpuStorage,
        square_layout: &Layout,
    ) -> Result<()> {
        with_float!(mean, self.name(), T => {
            let weight = elements_mut::<T>(self.name(), weight, weight_layout)?;
            let mean = elements(self.name(), mean, mean_layout)?;
            let square = elements(self.name(), square, square_layout)?;
            let [kept, rate, correction, eps] = [self.kept, self.rate, self.correction, self.eps].map(T::from_f64);
            each(weight, mean, square, |weight, mean, square| {
                *weight = kept * *weight - rate * mean / ((correction * square).sqrt() + eps);
            });
        });
        Ok(())
    }
}

struct SumOfSquares;

impl CustomOp1 for SumOfSquares {
    fn name(&self) -> &'static str {
        "sum-of-squares"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        struct Squares<'a, T>(&'a [T]);
        impl<T: Float> Kernel for Squares<'_, T> {
            type Output = f64;
            #[inline(always)]
            fn run(self) -> f64 {
                let [sum] = sum_lanes([self.0], |[x]| [x.to_f64() * x.to_f64()]);
                sum
            }
        }
        with_float!(x, self.name(), T => {
            let isa = Isa::detect();
            let chunks = elements::<T>(self.name(), x, layout)?.par_chunks(CHUNK);
            let sums: Vec<f64> = chunks.map(|chunk| isa.run(Squares(chunk))).collect();
            Ok((storage(vec![sums.iter().sum::<f64>()]), Shape::from(())))
        })
    }
}
