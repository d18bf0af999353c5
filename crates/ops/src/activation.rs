//! Rectified linear units, alone and as the last step of another operation.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use crate::{
    float::{Float, elements, ensure_alike, storage, with_float},
    simd::{Isa, Kernel},
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
pub fn relu(x: &Tensor) -> Result<Tensor> {
    ensure_alike("relu", &[x])?;
    x.contiguous()?.apply_op1(Relu)
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
            let mut y = vec![T::ZERO; x.len()];
            y.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(y, x)| isa.run(Rectify { x, y }));
            y
        }
        let y = with_float!(x, self.name(), T => {
            storage(forward::<T>(elements(self.name(), x, layout)?))
        });
        Ok((y, layout.shape().clone()))
    }

    fn bwd(&self, _x: &Tensor, y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = y.apply_op2_no_bwd(&dy.contiguous()?, &ReluBackward)?;
        Ok(Some(dx))
    }
}

/// `(y, dy) -> dx`
struct ReluBackward;

impl CustomOp2 for ReluBackward {
    fn name(&self) -> &'static str {
        "relu-backward"
    }

    fn cpu_fwd(
        &self,
        y: &CpuStorage,
        y_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        fn backward<T: Float>(y: &[T], dy: &[T]) -> Vec<T> {
            let isa = Isa::detect();
            let mut dx = vec![T::ZERO; y.len()];
            dx.par_chunks_mut(CHUNK)
                .zip(y.par_chunks(CHUNK).zip(dy.par_chunks(CHUNK)))
                .for_each(|(dx, (y, dy))| isa.run(Gate { y, dy, dx }));
            dx
        }
        let dx = with_float!(y, self.name(), T => {
            let y = elements::<T>(self.name(), y, y_layout)?;
            let dy = elements(self.name(), dy, dy_layout)?;
            storage(backward(y, dy))
        });
        Ok((dx, y_layout.shape().clone()))
    }
}

struct Rectify<'a, T> {
    x: &'a [T],
    y: &'a mut [T],
}

impl<T: Float> Kernel for Rectify<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = rectified(x);
        }
    }
}

struct Gate<'a, T> {
    y: &'a [T],
    dy: &'a [T],
    dx: &'a mut [T],
}

impl<T: Float> Kernel for Gate<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((dx, &y), &dy) in self.dx.iter_mut().zip(self.y).zip(self.dy) {
            *dx = gated(y, dy);
        }
    }
}
