//! Max pooling that remembers where each maximum was.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use super::Pool2dConfig;
use crate::{
    float::{Float, elements, ensure_alike, image_dims, storage, with_float},
    simd::{Isa, Kernel},
    tape::{Tape, record},
    window::{copy_strided, outputs_inside},
};

/// The maximum of each window. `x`: `[n, c, h, w]`; returns `[n, c, h', w']`, `h' = (h + 2 padding - kernel) / stride + 1`,
/// rounded as the configuration says.
///
/// The padding is -∞. The gradient goes to the maximum, of several equal ones to the first in row-major order; NaN counts as
/// the maximum, so that a diverged run shows. All as in PyTorch.
///
/// # Errors
/// If the window is empty, larger than the padded image, or fits into the padding (`kernel < 2 padding`), or if `x` is empty,
/// neither `f32` nor `f64`, or not on the CPU.
pub fn max_pool2d(tape: Option<&Tape>, x: &Tensor, config: Pool2dConfig) -> Result<Tensor> {
    ensure_alike("max_pool2d", &[x])?;
    let [n, c, height, width] = image_dims("max_pool2d", x)?;
    let output = config.outputs("max_pool2d", (height, width))?;
    if u32::try_from(height * width).is_err() {
        bail!("max_pool2d: x {:?} has too many pixels", x.shape())
    }
    let pool = MaxPool { config, planes: (n, c), input: (height, width), output, maxima: OnceLock::new() };
    let y = x.contiguous()?.apply_op1_no_bwd(&pool)?;
    record(tape, [Some(x)], &y, move |dy, [to_x], gradients| {
        gradients.add(to_x, || dy.apply_op1_no_bwd(&MaxPoolBackward(pool)))
    })?;
    Ok(y)
}

struct MaxPool {
    config: Pool2dConfig,
    /// images and channels
    planes: (usize, usize),
    /// height and width
    input: (usize, usize),
    /// height and width
    output: (usize, usize),
    /// Where in its plane each output comes from; left here by the forward pass.
    maxima: OnceLock<Vec<u32>>,
}

impl MaxPool {
    fn forward<T: Float>(&self, x: &[T]) -> (Vec<T>, Vec<u32>) {
        let isa = Isa::detect();
        let (area, out_area) = (self.input.0 * self.input.1, self.output.0 * self.output.1);
        let mut y = vec![T::ZERO; x.len() / area * out_area];
        let mut maxima = vec![0; y.len()];
        y.par_chunks_mut(out_area)
            .zip(maxima.par_chunks_mut(out_area))
            .zip(x.par_chunks(area))
            .for_each(|((y, maxima), x)| isa.run(PoolPlane { pool: self, x, y, maxima }));
        (y, maxima)
    }
}

/// One plane, a row of outputs at a time: each position of the window is compared for all of the row at once.
struct PoolPlane<'a, T> {
    pool: &'a MaxPool,
    x: &'a [T],
    y: &'a mut [T],
    maxima: &'a mut [u32],
}

impl<T: Float> Kernel for PoolPlane<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run(self) {
        let ((height, width), (_, out_width)) = (self.pool.input, self.pool.output);
        let Pool2dConfig { kernel, stride, padding, ceil: _ } = self.pool.config;
        let mut pixels = vec![T::ZERO; out_width];
        let rows = self.y.chunks_exact_mut(out_width).zip(self.maxima.chunks_exact_mut(out_width));
        for (index, (y, maxima)) in rows.enumerate() {
            let window = self.pool.config.pixels(index, height);
            for (column, maximum) in maxima.iter_mut().enumerate() {
                *maximum = (window.start * width + self.pool.config.pixels(column, width).start) as u32;
            }
            y.fill(T::NEG_INFINITY);
            for row in window {
                for tap in 0..kernel {
                    let (inside, first) = outputs_inside(tap, stride, padding, width, out_width);
                    if inside.is_empty() {
                        continue;
                    }
                    let (y, maxima) = (&mut y[inside.clone()], &mut maxima[inside.clone()]);
                    let pixels = &mut pixels[inside];
                    let at = row * width + first;
                    copy_strided(&self.x[at..(row + 1) * width], stride, pixels);
                    for (i, ((y, maximum), &pixel)) in y.iter_mut().zip(maxima).zip(&*pixels).enumerate() {
                        let larger = pixel > *y || pixel.is_nan();
                        *y = if larger { pixel } else { *y };
                        *maximum = if larger { (at + i * stride) as u32 } else { *maximum };
                    }
                }
            }
        }
    }
}

impl CustomOp1 for MaxPool {
    fn name(&self) -> &'static str {
        "max-pool2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (y, maxima) = with_float!(x, self.name(), T => {
            let (y, maxima) = self.forward::<T>(elements(self.name(), x, layout)?);
            (storage(y), maxima)
        });
        if self.maxima.set(maxima).is_err() {
            bail!("{}: an operation runs forward once", self.name())
        }
        let ((n, c), (height, width)) = (self.planes, self.output);
        Ok((y, Shape::from((n, c, height, width))))
    }
}

/// `dy -> dx`
struct MaxPoolBackward(MaxPool);

impl CustomOp1 for MaxPoolBackward {
    fn name(&self) -> &'static str {
        "max-pool2d-backward"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        fn backward<T: Float>(dy: &[T], maxima: &[u32], area: usize, out_area: usize) -> Vec<T> {
            let mut dx = vec![T::ZERO; dy.len() / out_area * area];
            dx.par_chunks_mut(area).zip(dy.par_chunks(out_area).zip(maxima.par_chunks(out_area))).for_each(
                |(dx, (dy, maxima))| {
                    for (&dy, &maximum) in dy.iter().zip(maxima) {
                        dx[maximum as usize] += dy;
                    }
                },
            );
            dx
        }
        let MaxPool { planes: (n, c), input: (height, width), output, maxima, .. } = &self.0;
        let Some(maxima) = maxima.get() else { bail!("{}: backward before forward", self.name()) };
        let dx = with_float!(dy, self.name(), T => {
            let dy = elements::<T>(self.name(), dy, layout)?;
            storage(backward(dy, maxima, height * width, output.0 * output.1))
        });
        Ok((dx, Shape::from((*n, *c, *height, *width))))
    }
}
