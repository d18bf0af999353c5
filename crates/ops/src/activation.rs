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
}

/// `max(0, x)`, of any shape. The gradient at 0 is 0, as in PyTorch; NaN stays NaN, so that a diverged run shows.
///
/// # Errors
/// If `x` is neither `f32` nor `f64`, or not on the CPU.
pub fn relu(tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
    ensure_alike("relu", &[x])?;
    let y = x.contiguous()?.apply_op1_no_bwd(&Relu)?;
    let output = y.clone();
    record(tape, [Some(x)], &y, move |dy, [to_x], gradients| {
        dy.inplace_op2(&output, &ReluBackward)?;
        gradients.add(to_x, || Ok(dy))
    })?;
    Ok(y)
}

/// `max(0, x)`, by a comparison that NaN passes through.
#[inline(always)]
pub(crate) fn rectified<T: Float>(x: T) -> T {
    if x <= T::ZERO { T::ZERO } else { x }
}

/// The gradient before a ReLU, from its output and the gradient after it.
#[inline(always)]
pub(crate) fn gated<T: Float>(output: T, gradient: T) -> T {
    if output <= T::ZERO { T::ZERO } else { gradient }
}

/// Elements per task: small enough to balance, large enough to be worth one.
const CHUNK: usize = 1 << 15;

struct Relu;

impl CustomOp1 for Relu {
    fn name(&self) -> &'static str {
        "relu"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn forward<T: Float>(x: &[T]) -> Vec<T> {
            let isa = Isa::detect();
            let chunks = |y: &mut [MaybeUninit<T>]| {
                y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| isa.run(Rectify { x, y }));
            };
            // SAFETY: the chunks cover the buffer, and the kernel writes all of a chunk.
            unsafe { filled(x.len(), chunks) }
        }
        let y = with_float!(x, self.name(), T => {
            storage(forward::<T>(elements(self.name(), x, layout)?))
        });
        Ok((y, layout.shape().clone()))
    }
}

/// `(dy, y)`: the gradient after the activation becomes the one before it.
struct ReluBackward;

impl InplaceOp2 for ReluBackward {
    fn name(&self) -> &'static str {
        "relu-backward"
    }

    fn cpu_fwd(&self, dy: &mut CpuStorage, dy_layout: &Layout, y: &CpuStorage, y_layout: &Layout) -> Result<()> {
        with_float!(y, self.name(), T => {
            let y = elements::<T>(self.name(), y, y_layout)?;
            let dy = elements_mut::<T>(self.name(), dy, dy_layout)?;
            let isa = Isa::detect();
            dy.par_chunks_mut(CHUNK).zip(y.par_chunks(CHUNK)).for_each(|(dy, y)| isa.run(Gate { y, dy }));
        });
        Ok(())
    }
}

struct Rectify<'a, T> {
    x: &'a [T],
    y: &'a mut [MaybeUninit<T>],
}

impl<T: Float> Kernel for Rectify<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            y.write(rectified(x));
        }
    }
}

/// `dy = 0` where `y` is 0.
pub(crate) struct Gate<'a, T> {
    pub y: &'a [T],
    pub dy: &'a mut [T],
}

impl<T: Float> Kernel for Gate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (dy, &y) in self.dy.iter_mut().zip(self.y) {
            *dy = gated(y, *dy);
        }
    }
}
