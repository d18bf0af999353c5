//! Average pooling, over windows or over bins that cover the image.

use std::ops::Range;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Pool2dConfig;
use crate::{
    float::{Float, elements, ensure_alike, image_dims, storage, with_float},
    reshape::flatten,
    simd::{Isa, Kernel, sum_lanes},
    tape::{Tape, record},
};

/// The mean of each channel. `x`: `[n, c, h, w]`; returns `[n, c]`.
///
/// # Errors
/// If `x` is not such a tensor, is empty, neither `f32` nor `f64`, or not on the CPU.
pub fn global_avg_pool(tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
    flatten(tape, &adaptive_avg_pool2d(tape, x, (1, 1))?)
}

/// The mean of each of `out.0 × out.1` bins. `x`: `[n, c, h, w]`; returns `[n, c, out.0, out.1]`.
///
/// Bin `i` of `m` over `h` pixels is `floor(i h / m)..ceil((i + 1) h / m)`: bins may overlap by a pixel, and repeat pixels where
/// `m > h`, as in PyTorch.
///
/// # Errors
/// If `x` or `out` is empty, or `x` is neither `f32` nor `f64`, or not on the CPU.
pub fn adaptive_avg_pool2d(tape: Option<&Tape>, x: &Tensor, out: (usize, usize)) -> Result<Tensor> {
    ensure_alike("adaptive_avg_pool2d", &[x])?;
    let [n, c, height, width] = image_dims("adaptive_avg_pool2d", x)?;
    if out.0 * out.1 == 0 {
        bail!("adaptive_avg_pool2d: expected a non-empty output, got {out:?}")
    }
    let pool = AveragePool { planes: (n, c), input: (height, width), output: out, window: None };
    pool.apply(tape, x)
}

/// The mean of each window, of which zeros around the image are part. `x`: `[n, c, h, w]`; returns `[n, c, h', w']`,
/// `h' = (h + 2 padding - kernel) / stride + 1`, rounded as the configuration says; what of a window is beyond the padding does
/// not count. As PyTorch's `avg_pool2d`.
///
/// # Errors
/// If the window is empty, larger than the padded image, or fits into the padding (`kernel < 2 padding`), or if `x` is empty,
/// neither `f32` nor `f64`, or not on the CPU.
pub fn avg_pool2d(tape: Option<&Tape>, x: &Tensor, config: Pool2dConfig) -> Result<Tensor> {
    ensure_alike("avg_pool2d", &[x])?;
    let [n, c, height, width] = image_dims("avg_pool2d", x)?;
    let output = config.outputs("avg_pool2d", (height, width))?;
    AveragePool { planes: (n, c), input: (height, width), output, window: Some(config) }.apply(tape, x)
}

#[derive(Clone, Copy)]
struct AveragePool {
    /// images and channels
    planes: (usize, usize),
    /// height and width
    input: (usize, usize),
    /// height and width
    output: (usize, usize),
    /// `None`: bins that cover the image.
    window: Option<Pool2dConfig>,
}

impl AveragePool {
    fn apply(self, tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
        let y = x.contiguous()?.apply_op1_no_bwd(&self)?;
        record(tape, [Some(x)], &y, move |dy, [to_x], gradients| {
            gradients.add(to_x, || dy.apply_op1_no_bwd(&AveragePoolBackward(self)))
        })?;
        Ok(y)
    }

    /// The rows and columns of bin `index`, and what a sum over it is divided by.
    fn bin(&self, index: usize) -> (Range<usize>, Range<usize>, f64) {
        let along = |i: usize, pixels: usize, bins: usize| match self.window {
            None => {
                let bin = i * pixels / bins..((i + 1) * pixels).div_ceil(bins);
                (bin.clone(), bin.len())
            }
            Some(window) => (window.pixels(i, pixels), window.extent(i, pixels)),
        };
        let (rows, height) = along(index / self.output.1, self.input.0, self.output.0);
        let (columns, width) = along(index % self.output.1, self.input.1, self.output.1);
        (rows, columns, (height * width) as f64)
    }

    fn forward<T: Float>(&self, x: &[T]) -> Vec<T> {
        let isa = Isa::detect();
        let (area, out_area) = (self.input.0 * self.input.1, self.output.0 * self.output.1);
        let mut y = vec![T::ZERO; x.len() / area * out_area];
        y.par_chunks_mut(out_area).zip(x.par_chunks(area)).for_each(|(y, x)| {
            for (index, y) in y.iter_mut().enumerate() {
                let (rows, columns, divisor) = self.bin(index);
                let sum = isa.run(SumBin { x, width: self.input.1, rows, columns });
                *y = T::from_f64(sum / divisor);
            }
        });
        y
    }

    fn backward<T: Float>(&self, dy: &[T]) -> Vec<T> {
        let (area, out_area) = (self.input.0 * self.input.1, self.output.0 * self.output.1);
        let mut dx = vec![T::ZERO; dy.len() / out_area * area];
        dx.par_chunks_mut(area).zip(dy.par_chunks(out_area)).for_each(|(dx, dy)| {
            for (index, &dy) in dy.iter().enumerate() {
                let (rows, columns, divisor) = self.bin(index);
                let share = dy / T::from_f64(divisor);
                for row in rows {
                    for dx in &mut dx[row * self.input.1..][columns.clone()] {
                        *dx += share;
                    }
                }
            }
        });
        dx
    }
}

#[inline(always)]
fn sum<T: Float>(x: &[T]) -> f64 {
    let [sum] = sum_lanes([x], |[x]| [x]);
    sum.to_f64()
}

struct SumBin<'a, T> {
    x: &'a [T],
    width: usize,
    rows: Range<usize>,
    columns: Range<usize>,
}

impl<T: Float> Kernel for SumBin<'_, T> {
    type Output = f64;

    #[inline(always)]
    fn run(self) -> f64 {
        if self.columns.len() == self.width {
            let x = &self.x[self.rows.start * self.width..self.rows.end * self.width];
            return sum(x);
        }
        let rows = self.rows.map(|row| &self.x[row * self.width..][self.columns.clone()]);
        rows.map(sum).sum()
    }
}

impl CustomOp1 for AveragePool {
    fn name(&self) -> &'static str {
        "avg-pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_float!(x, self.name(), T => {
            storage(self.forward::<T>(elements(self.name(), x, layout)?))
        });
        let ((n, c), (height, width)) = (self.planes, self.output);
        Ok((y, Shape::from((n, c, height, width))))
    }
}

/// `dy -> dx`
struct AveragePoolBackward(AveragePool);

impl CustomOp1 for AveragePoolBackward {
    fn name(&self) -> &'static str {
        "avg-pool2d-backward"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let dx = with_float!(dy, self.name(), T => {
            storage(self.0.backward::<T>(elements(self.name(), dy, layout)?))
        });
        let ((n, c), (height, width)) = (self.0.planes, self.0.input);
        Ok((dx, Shape::from((n, c, height, width))))
    }
}
