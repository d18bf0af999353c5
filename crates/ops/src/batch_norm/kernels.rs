//! The loops of batch norm over the contiguous part of one channel in one image.

use crate::{
    activation::{Activation, gated, rectified},
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
        blocks.map(|x| sum_lanes(x.len(), |i| x[i]).to_f64()).sum()
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
        blocks.map(|x| sum_lanes(x.len(), |i| square(x[i])).to_f64()).sum()
    }
}

/// `y = activation((x - mean) scale + shift + residual)`
pub(super) struct Normalize<'a, T> {
    pub x: &'a [T],
    pub residual: Option<&'a [T]>,
    pub y: &'a mut [T],
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
            (Some(residual), Activation::Identity) => self.each_with(residual, |z| z),
            (Some(residual), Activation::Relu) => self.each_with(residual, rectified),
        }
    }
}

impl<T: Float> Normalize<'_, T> {
    #[inline(always)]
    fn each(self, activate: impl Fn(T) -> T) {
        for (y, &x) in self.y.iter_mut().zip(self.x) {
            *y = activate((x - self.mean) * self.scale + self.shift);
        }
    }

    #[inline(always)]
    fn each_with(self, residual: &[T], activate: impl Fn(T) -> T) {
        for ((y, &x), &residual) in self.y.iter_mut().zip(self.x).zip(residual) {
            *y = activate((x - self.mean) * self.scale + self.shift + residual);
        }
    }
}

/// `dz`, the gradient before the activation: `dy` where `y` is not 0.
pub(super) struct GateInto<'a, T> {
    pub y: &'a [T],
    pub dy: &'a [T],
    pub dz: &'a mut [T],
}

impl<T: Float> Kernel for GateInto<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        for ((dz, &y), &dy) in self.dz.iter_mut().zip(self.y).zip(self.dy) {
            *dz = gated(y, dy);
        }
    }
}

/// `(sum dz, sum dz (x - mean))`. `gate`: the outputs of a ReLU still to be undone in `dz`.
pub(super) struct GradientSums<'a, T> {
    pub x: &'a [T],
    pub dz: &'a [T],
    pub gate: Option<&'a [T]>,
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
            // The block is still in the first-level cache for the second sum.
            match self.gate {
                None => {
                    sum += sum_lanes(x.len(), |i| dz[i]).to_f64();
                    product += sum_lanes(x.len(), |i| dz[i] * (x[i] - self.mean)).to_f64();
                }
                Some(gate) => {
                    let y = &gate[start..end];
                    sum += sum_lanes(x.len(), |i| gated(y[i], dz[i])).to_f64();
                    let term = |i: usize| gated(y[i], dz[i]) * (x[i] - self.mean);
                    product += sum_lanes(x.len(), term).to_f64();
                }
            }
        }
        (sum, product)
    }
}

/// `dx = scale dz - slope (x - mean) - offset`. `gate`: as in [`GradientSums`].
pub(super) struct InputGradient<'a, T> {
    pub x: &'a [T],
    pub dz: &'a [T],
    pub gate: Option<&'a [T]>,
    pub dx: &'a mut [T],
    pub mean: T,
    pub scale: T,
    pub slope: T,
    pub offset: T,
}

impl<T: Float> Kernel for InputGradient<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let gradient = |x: T, dz: T| self.scale * dz - self.slope * (x - self.mean) - self.offset;
        let inputs = self.x.iter().zip(self.dz);
        match self.gate {
            None => {
                for (dx, (&x, &dz)) in self.dx.iter_mut().zip(inputs) {
                    *dx = gradient(x, dz);
                }
            }
            Some(y) => {
                for ((dx, (&x, &dz)), &y) in self.dx.iter_mut().zip(inputs).zip(y) {
                    *dx = gradient(x, gated(y, dz));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

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
                let mut out = vec![0.; len];
                for activation in [Activation::Identity, Activation::Relu] {
                    for residual in [None, Some(&y[..])] {
                        let (mean, scale, shift) = (0.1, 1.7, -0.2);
                        let out = &mut out[..];
                        isa.run(Normalize { x: &x, residual, y: out, mean, scale, shift, activation });
                        keep(out);
                    }
                }
                for gate in [None, Some(&y[..])] {
                    let (sum, product) = isa.run(GradientSums { x: &x, dz: &dy, gate, mean: 0.1 });
                    keep(&[sum as f32, product as f32]);
                    let (mean, scale, slope, offset) = (0.1, 1.7, 0.3, 0.01);
                    let dx = &mut out[..];
                    isa.run(InputGradient { x: &x, dz: &dy, gate, dx, mean, scale, slope, offset });
                    keep(dx);
                }
                isa.run(GateInto { y: &y, dy: &dy, dz: &mut out });
                keep(&out);
                bits
            };
            assert_eq!(all(Isa::detect()), all(Isa::PORTABLE), "length {len}");
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
