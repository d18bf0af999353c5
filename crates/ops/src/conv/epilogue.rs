//! What follows a convolution at inference, done while its result is in the cache.

use std::ops::Range;

use crate::{
    activation::{Activation, clipped, rectified},
    float::Float,
    simd::{Isa, Kernel},
};

/// `activation(y + bias + residual)`
#[derive(Clone, Copy)]
pub(super) struct Epilogue<'a, T> {
    /// One per filter.
    pub bias: Option<&'a [T]>,
    /// Shaped as the output.
    pub residual: Option<&'a [T]>,
    pub activation: Activation,
}

impl<T: Float> Epilogue<'_, T> {
    /// Nothing follows.
    pub const NONE: Self = Epilogue { bias: None, residual: None, activation: Activation::Identity };

    /// Finishes the results `y` of `filter`, which stand at `at` in the output.
    #[inline]
    pub fn apply(&self, isa: Isa, filter: usize, at: Range<usize>, y: &mut [T]) {
        let bias = self.bias.map_or(T::ZERO, |bias| bias[filter]);
        if self.bias.is_some() || self.residual.is_some() || self.activation != Activation::Identity {
            isa.run(Finish {
                y,
                bias,
                residual: self.residual.map(|residual| &residual[at]),
                activation: self.activation,
            });
        }
    }
}

struct Finish<'a, T> {
    y: &'a mut [T],
    bias: T,
    residual: Option<&'a [T]>,
    activation: Activation,
}

impl<T: Float> Kernel for Finish<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // One loop per case: a branch on the activation inside would keep the compiler from vectorising.
        match self.activation {
            Activation::Identity => self.each(|z| z),
            Activation::Relu => self.each(rectified),
            Activation::Relu6 => self.each(clipped),
        }
    }
}

impl<T: Float> Finish<'_, T> {
    #[inline(always)]
    fn each(self, activate: impl Fn(T) -> T) {
        match self.residual {
            None => {
                for y in self.y {
                    *y = activate(*y + self.bias);
                }
            }
            Some(residual) => {
                for (y, &residual) in self.y.iter_mut().zip(residual) {
                    *y = activate(*y + self.bias + residual);
                }
            }
        }
    }
}
