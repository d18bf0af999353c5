//! Rectified linear units, alone and as the last step of another operation.

use std::mem::MaybeUninit;

use candle_core::{CpuStorage, CustomOp1, InplaceOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    buffer::filled,
    float::{Float, elements, elements_mut, ensure_alike, storage, with_float},
    simd::{Isa, Kernel},
    tape::{Tape, record},
};

/// What an operation does with its result before storing it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// Nothing.
    Identity,
    /// `max(0, x)`, as in [`relu`].
    Relu,
    /// `min(max(0, x), 6)` (Howard et al. 2017). The gradient at 0 and 6 is 0, as in PyTorch.
    Relu6,
}

/// `max(0, x)`, of any shape. The gradient at 0 is 0, as in PyTorch; NaN stays NaN, so that a diverged run shows.
///
/// # Errors
/// If `x` is neither `f32` nor `f64`, or not on the CPU.
pub fn relu(tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
    activate(tape, x, Activation::Relu)
}

/// An [`Activation`] of any shape.
///
/// # Errors
/// As [`relu`].
pub fn activate(tape: Option<&Tape>, x: &Tensor, activation: Activation) -> Result<Tensor> {
    ensure_alike("activate", &[x])?;
    if activation == Activation::Identity {
        return Ok(x.clone());
    }
    let y = x.contiguous()?.apply_op1_no_bwd(&Forward(activation))?;
    let output = y.clone();
    record(tape, [Some(x)], &y, move |dy, [to_x], gradients| {
        undo(activation, &dy, &output)?;
        gradients.add(to_x, || Ok(dy))
    })?;
    Ok(y)
}

/// The gradient after an activation, `dy`, becomes the one before it; `output`: the activation's.
pub(crate) fn undo(activation: Activation, dy: &Tensor, output: &Tensor) -> Result<()> {
    dy.inplace_op2(output, &Backward(activation))
}

/// `max(0, x)`, by a comparison that NaN passes through.
#[inline(always)]
pub(crate) fn rectified<T: Float>(x: T) -> T {
    if x <= T::ZERO { T::ZERO } else { x }
}

/// `min(max(0, x), 6)`, by comparisons that NaN passes through.
#[inline(always)]
pub(crate) fn clipped<T: Float>(x: T) -> T {
    if x >= T::SIX { T::SIX } else { rectified(x) }
}

/// The gradient before a ReLU whose largest output with a slope is `steep`, from its output and the gradient after it.
#[inline(always)]
pub(crate) fn gated<T: Float>(output: T, steep: T, gradient: T) -> T {
    if output <= T::ZERO || output > steep { T::ZERO } else { gradient }
}

/// What undoes an activation.
#[derive(Clone, Copy)]
pub(crate) struct Gate<'a, T> {
    pub outputs: &'a [T],
    /// The largest output at which it has a slope.
    pub steep: T,
}

impl<'a, T: Float> Gate<'a, T> {
    /// `None` where there is nothing to undo.
    pub fn new(activation: Activation, outputs: &'a [T]) -> Option<Self> {
        match activation {
            Activation::Identity => None,
            Activation::Relu => Some(Gate { outputs, steep: T::INFINITY }),
            Activation::Relu6 => Some(Gate { outputs, steep: T::BELOW_SIX }),
        }
    }
}

/// Elements per task: small enough to balance, large enough to be worth one.
const CHUNK: usize = 1 << 15;

struct Forward(Activation);

impl CustomOp1 for Forward {
    fn name(&self) -> &'static str {
        "activate"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn forward<T: Float>(x: &[T], activation: Activation) -> Vec<T> {
            let isa = Isa::detect();
            let chunks = |y: &mut [MaybeUninit<T>]| {
                y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| isa.run(Apply { x, y, activation }));
            };
            // SAFETY: the chunks cover the buffer, and the kernel writes all of a chunk.
            unsafe { filled(x.len(), chunks) }
        }
        let y = with_float!(x, self.name(), T => {
            storage(forward::<T>(elements(self.name(), x, layout)?, self.0))
        });
        Ok((y, layout.shape().clone()))
    }
}

/// `(dy, y)`: the gradient after the activation becomes the one before it.
struct Backward(Activation);

impl InplaceOp2 for Backward {
    fn name(&self) -> &'static str {
        "activate-backward"
    }

    fn cpu_fwd(&self, dy: &mut CpuStorage, dy_layout: &Layout, y: &CpuStorage, y_layout: &Layout) -> Result<()> {
        with_float!(y, self.name(), T => {
            let y = elements::<T>(self.name(), y, y_layout)?;
            let dy = elements_mut::<T>(self.name(), dy, dy_layout)?;
            let isa = Isa::detect();
            dy.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(dy, outputs)| {
                if let Some(gate) = Gate::new(self.0, outputs) {
                    isa.run(Close { gate, dy });
                }
            });
        });
        Ok(())
    }
}

struct Apply<'a, T> {
    x: &'a [T],
    y: &'a mut [MaybeUninit<T>],
    activation: Activation,
}

impl<T: Float> Kernel for Apply<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // One loop per case: a branch on the activation inside would keep the compiler from vectorising.
        match self.activation {
            Activation::Identity => self.each(|x| x),
            Activation::Relu => self.each(rectified),
            Activation::Relu6 => self.each(clipped),
        }
    }
}

impl<T: Float> Apply<'_, T> {
    #[inline(always)]
    fn each(self, activate: impl Fn(T) -> T) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            y.write(activate(x));
        }
    }
}

/// `dy = 0` where the activation is flat.
pub(crate) struct Close<'a, T> {
    pub gate: Gate<'a, T>,
    pub dy: &'a mut [T],
}

impl<T: Float> Kernel for Close<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let Gate { outputs, steep } = self.gate;
        for (dy, &y) in self.dy.iter_mut().zip(outputs) {
            *dy = gated(y, steep, *dy);
        }
    }
}
