//! Max pooling that remembers where each maximum was.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::float::{Float, elements, ensure_alike, image_dims, storage, with_float};

/// A square window and how it moves, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool2dConfig {
    /// The window's side.
    pub kernel: usize,
    /// From one window to the next.
    pub stride: usize,
    /// Around the image on each side.
    pub padding: usize,
}

/// The maximum of each window. `x`: `[n, c, h, w]`; returns `[n, c, h', w']`, `h' = (h + 2 padding - kernel) / stride + 1`.
///
/// The padding is -∞. The gradient goes to the maximum, of several equal ones to the first in row-major order; NaN counts as
/// the maximum, so that a diverged run shows. All as in PyTorch.
///
/// # Errors
/// If the window is empty, larger than the padded image, or fits into the padding (`kernel < 2 padding`), or if `x` is empty,
/// neither `f32` nor `f64`, or not on the CPU.
pub fn max_pool2d(x: &Tensor, config: Pool2dConfig) -> Result<Tensor> {
    ensure_alike("max_pool2d", &[x])?;
    let [n, c, height, width] = image_dims("max_pool2d", x)?;
    let Pool2dConfig { kernel, stride, padding } = config;
    if kernel == 0 || stride == 0 || 2 * padding > kernel {
        bail!("max_pool2d: kernel and stride must be positive and padding at most half a kernel, got {config:?}")
    }
    if kernel > height.min(width) + 2 * padding {
        bail!("max_pool2d: the window of {config:?} is larger than x {:?}", x.shape())
    }
    if u32::try_from(height * width).is_err() {
        bail!("max_pool2d: x {:?} has too many pixels", x.shape())
    }
    let pool = MaxPool {
        config,
        planes: (n, c),
        input: (height, width),
        output: ((height + 2 * padding - kernel) / stride + 1, (width + 2 * padding - kernel) / stride + 1),
        maxima: OnceLock::new(),
    };
    x.contiguous()?.apply_op1(pool)
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
        let (area, out_area) = (self.input.0 * self.input.1, self.output.0 * self.output.1);
        let mut y = vec![T::ZERO; x.len() / area * out_area];
        let mut maxima = vec![0; y.len()];
        y.par_chunks_mut(out_area)
            .zip(maxima.par_chunks_mut(out_area))
            .zip(x.par_chunks(area))
            .for_each(|((y, maxima), x)| self.pool_plane(x, y, maxima));
        (y, maxima)
    }

    fn pool_plane<T: Float>(&self, x: &[T], y: &mut [T], maxima: &mut [u32]) {
        let (height, width) = self.input;
        let outputs = y.iter_mut().zip(maxima).enumerate();
        for (index, (y, maximum)) in outputs {
            let rows = self.window(index / self.output.1, height);
            let columns = self.window(index % self.output.1, width);
            let mut at = rows.start * width + columns.start;
            let mut best = x[at];
            for row in rows {
                let start = row * width;
                for (at_here, &value) in (start..).zip(&x[start..start + width]).take(columns.end).skip(columns.start) {
                    if value > best || value.is_nan() {
                        (best, at) = (value, at_here);
                    }
                }
            }
            *y = best;
            *maximum = at as u32;
        }
    }

    /// The pixels under a window along one axis; never empty, as the padding is at most half a kernel.
    fn window(&self, index: usize, len: usize) -> std::ops::Range<usize> {
        let Pool2dConfig { kernel, stride, padding } = self.config;
        let start = index * stride;
        start.saturating_sub(padding)..(start + kernel - padding).min(len)
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

    fn bwd(&self, _x: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<Option<Tensor>> {
        let dx = dy.contiguous()?.apply_op1_no_bwd(&MaxPoolBackward(self))?;
        Ok(Some(dx))
    }
}

/// `dy -> dx`
struct MaxPoolBackward<'a>(&'a MaxPool);

impl CustomOp1 for MaxPoolBackward<'_> {
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
        let MaxPool { planes: (n, c), input: (height, width), output, maxima, .. } = self.0;
        let Some(maxima) = maxima.get() else { bail!("{}: backward before forward", self.name()) };
        let dx = with_float!(dy, self.name(), T => {
            let dy = elements::<T>(self.name(), dy, layout)?;
            storage(backward(dy, maxima, height * width, output.0 * output.1))
        });
        Ok((dx, Shape::from((*n, *c, *height, *width))))
    }
}
