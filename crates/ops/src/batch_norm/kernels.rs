//! The loops of batch norm over the contiguous part of one channel in one image.

use std::mem::MaybeUninit;

use crate::{
    activation::{Activation, Gate, clipped, gated, rectified},
    float::Float,
    simd::{Kernel, sum_lanes},
};

/// Elements summed in `f32` before the sum goes on in `f64`: 128 additions per accumulator.
pub(super) const BLOCK: usize = 4096;

/// `sum x`
pub(super) struct Sum<'a, T> {
    pub x: &'a [T],
}

impl<T: Float> Kernel for Sum<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let blocks = self.x.chunks(BLOCK);
        blocks.flat_map(|x| sum_lanes([x], |[x]| [x])).map(T::to_f64).sum()
    }
}

/// `sum (x - mean)²`
pub(super) struct SquaredDeviations<'a, T> {
    pub x: &'a [T],
    pub mean: T,
}

impl<T: Float> Kernel for SquaredDeviations<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        let blocks = self.x.chunks(BLOCK);
        let square = |x: T| (x - self.mean) * (x - self.mean);
        blocks.flat_map(|x| sum_lanes([x], |[x]| [square(x)])).map(T::to_f64).sum()
    }
}

/// `y = activation((x - mean) scale + shift + residual)`
pub(super) struct Normalize<'a, T> {
    pub x: &'a [T],
    pub residual: Option<&'a [T]>,
    pub y: &'a mut [MaybeUninit<T>],
    pub mean: T,
    pub scale: T,
    pub shift: T,
    pub activation: Activation,
}

impl<T: Float> Kernel for Normalize<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        // One loop per case: a branch on the activation inside would keep the compiler from vectorising.
        match (self.residual, self.activation) {
            (None, Activation::Identity) => self.each(|z| z),
            (None, Activation::Relu) => self.each(rectified),
            (None, Activation::Relu6) => self.each(clipped),
            (Some(residual), Activation::Identity) => self.each_with(residual, |z| z),
            (Some(residual), Activation::Relu) => self.each_with(residual, rectified),
            (Some(residual), Activation::Relu6) => self.each_with(residual, clipped),
        }
    }
}

impl<T: Float> Normalize<'_, T> {
    #[inline(always)]
    fn each(self, activate: impl Fn(T) -> T) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            y.write(activate((x - self.mean) * self.scale + self.shift));
        }
    }

    #[inline(always)]
    fn each_with(self, residual: &[T], activate: impl Fn(T) -> T) {
        for ((y, &x), &residual) in self.y.iter_mut().zip(self.x).zip(residual) {
            y.write(activate((x - self.mean) * self.scale + self.shift + residual));
        }
    }
}

/// `(sum dz, sum dz (x - mean))`. `gate`: an activation still to be undone in `dz`.
pub(super) struct GradientSums<'a, T> {
    pub x: &'a [T],
    pub dz: &'a [T],
    pub gate: Option<Gate<'a, T>>,
    pub mean: T,
}

impl<T: Float> Kernel for GradientSums<'_, T> {
    type Output = (f64, f64);

    #[inline(always)]
    fn run(self) -> (f64, f64) {
        let (mut sum, mut product) = (0., 0.);
        for start in (0..self.x.len()).step_by(BLOCK) {
            let end = self.x.len().min(start + BLOCK);
            let (x, dz) = (&self.x[start..end], &self.dz[start..end]);
            let terms = |x: T, dz: T| [dz, dz * (x - self.mean)];
            let sums = match self.gate {
                None => sum_lanes([x, dz], |[x, dz]| terms(x, dz)),
                Some(Gate { outputs, steep }) => {
                    sum_lanes([x, dz, &outputs[start..end]], |[x, dz, y]| terms(x, gated(y, steep, dz)))
                }
            };
            sum += sums[0].to_f64();
            product += sums[1].to_f64();
        }
        (sum, product)
    }
}

/// `dx = scale dz - slope (x - mean) - offset`
#[derive(Clone, Copy)]
pub(super) struct Formula<T> {
    pub mean: T,
    pub scale: T,
    pub slope: T,
    pub offset: T,
}

impl<T: Float> Formula<T> {
    #[inline(always)]
    fn at(self, x: T, dz: T) -> T {
        self.scale * dz - self.slope * (x - self.mean) - self.offset
    }
}

/// `dz` becomes `dx`. `gate`: as in [`GradientSums`].
pub(super) struct InputGradient<'a, T> {
    pub x: &'a [T],
    pub dz: &'a mut [T],
    pub gate: Option<Gate<'a, T>>,
    pub formula: Formula<T>,
}

impl<T: Float> Kernel for InputGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let inputs = self.dz.iter_mut().zip(self.x);
        match self.gate {
            None => {
                for (dz, &x) in inputs {
                    *dz = self.formula.at(x, *dz);
                }
            }
            Some(Gate { outputs, steep }) => {
                for ((dz, &x), &y) in inputs.zip(outputs) {
                    *dz = self.formula.at(x, gated(y, steep, *dz));
                }
            }
        }
    }
}

/// `dx` from `dz`, which stays.
pub(super) struct InputGradientBeside<'a, T> {
    pub x: &'a [T],
    pub dz: &'a [T],
    pub dx: &'a mut [MaybeUninit<T>],
    pub formula: Formula<T>,
}

impl<T: Float> Kernel for InputGradientBeside<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((dx, &dz), &x) in self.dx.iter_mut().zip(self.dz).zip(self.x) {
            dx.write(self.formula.at(x, dz));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{activation::Close, buffer::filled, simd::Isa};

    fn wave(len: usize, step: f32) -> Vec<f32> {
        (0..len).map(|i| (i as f32 * step).sin() + 0.1).collect()
    }

    #[test]
    fn each_instruction_set_gives_the_same_bits() {
        for len in [1, 7, 31, 32, 33, 49, 1000, BLOCK + 77] {
            let (x, y, dy) = (wave(len, 0.7), wave(len, 1.3), wave(len, 2.9));
            let all = |isa: Isa| {
                let sum = isa.run(Sum { x: &x });
                let squares = isa.run(SquaredDeviations { x: &x, mean: 0.1 });
                let mut bits = vec![sum.to_bits(), squares.to_bits()];
                let mut keep = |values: &[f32]| {
                    bits.extend(values.iter().map(|value| u64::from(value.to_bits())));
                };
                for activation in [Activation::Identity, Activation::Relu, Activation::Relu6] {
                    for residual in [None, Some(&y[..])] {
                        let (mean, scale, shift) = (0.1, 1.7, -0.2);
                        let normalize = |out: &mut _| {
                            isa.run(Normalize { x: &x, residual, y: out, mean, scale, shift, activation })
                        };
                        // SAFETY: the kernel writes each element.
                        keep(&unsafe { filled(len, normalize) });
                    }
                }
                let formula = Formula { mean: 0.1, scale: 1.7, slope: 0.3, offset: 0.01 };
                let relu = |steep| Gate { outputs: &y, steep };
                for gate in [None, Some(relu(f32::INFINITY)), Some(relu(0.5))] {
                    let (sum, product) = isa.run(GradientSums { x: &x, dz: &dy, gate, mean: 0.1 });
                    keep(&[sum as f32, product as f32]);
                    let mut dz = dy.clone();
                    isa.run(InputGradient { x: &x, dz: &mut dz, gate, formula });
                    keep(&dz);
                }
                let beside = |dx: &mut _| isa.run(InputGradientBeside { x: &x, dz: &dy, dx, formula });
                // SAFETY: the kernel writes each element.
                keep(&unsafe { filled(len, beside) });
                let mut dz = dy.clone();
                isa.run(Close { gate: relu(0.5), dy: &mut dz });
                keep(&dz);
                bits
            };
            for isa in Isa::available() {
                assert_eq!(all(isa), all(Isa::PORTABLE), "{isa:?}, length {len}");
            }
        }
    }

    #[test]
    fn a_sum_of_many_values_keeps_its_digits() {
        let x = vec![0.1f32; 1 << 22];
        let sum = Isa::detect().run(Sum { x: &x });
        let exact = f64::from(0.1f32) * x.len() as f64;
        assert!((sum / exact - 1.).abs() < 1e-6, "{sum} instead of {exact}");
    }
}
