//! Two-dimensional convolution: forward, backward to the data and backward to the weights, each a custom operation.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::{
    float::{Float, elements, ensure_alike, storage, with_float},
    simd::{Isa, Kernel, sum_lanes},
};

mod columns;
mod dense;
mod depthwise;
mod geometry;

use geometry::Geometry;

/// Zeros around an image, in pixels.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Padding {
    /// Rows above.
    pub top: usize,
    /// Rows below.
    pub bottom: usize,
    /// Columns to the left.
    pub left: usize,
    /// Columns to the right.
    pub right: usize,
}

impl Padding {
    /// `pixels` on each side.
    pub const fn same(pixels: usize) -> Self {
        Padding { top: pixels, bottom: pixels, left: pixels, right: pixels }
    }
}

/// How [`conv2d`] moves its kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2dConfig {
    /// Pixels from one position to the next, in both directions.
    pub stride: usize,
    /// Zeros around the input.
    pub padding: Padding,
    /// Parts that channels and filters are split into; each part of the filters sees its part of the channels alone.
    pub groups: usize,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Conv2dConfig { stride: 1, padding: Padding::default(), groups: 1 }
    }
}

/// Cross-correlation of `x` `[n, c, h, w]` with `weight` `[o, c / groups, kh, kw]`, plus `bias` `[o]`.
///
/// Returns `[n, o, h', w']` with `h' = (h + top + bottom - kh) / stride + 1`, rounded down; `w'` likewise. Gradients flow to
/// the operands that track one; for others, as a batch of images, none is computed.
///
/// # Errors
/// If the shapes do not fit each other or are empty, or the tensors are not all `f32` or all `f64` on the CPU.
pub fn conv2d(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, config: Conv2dConfig) -> Result<Tensor> {
    let mut operands = vec![x, weight];
    operands.extend(bias);
    ensure_alike("conv2d", &operands)?;
    let op = Conv2d(Geometry::new(x.dims(), weight.dims(), config)?);
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, op),
        Some(bias) if bias.dims() != [op.0.filters] => {
            bail!("conv2d: expected bias [{}] for weight {:?}, got {:?}", op.0.filters, weight.shape(), bias.shape())
        }
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, op),
    }
}

/// `(x, weight)` or `(x, weight, bias) -> y`
struct Conv2d(Geometry);

impl Conv2d {
    fn forward<T: Float>(&self, x: &[T], weight: &[T], bias: Option<&[T]>) -> CpuStorage {
        let y = if self.0.is_depthwise() {
            depthwise::forward(&self.0, x, weight, bias)
        } else {
            dense::forward(&self.0, x, weight, bias)
        };
        storage(y)
    }

    fn out_shape(&self) -> Shape {
        Shape::from((self.0.batch, self.0.filters, self.0.out_height, self.0.out_width))
    }

    fn gradients(&self, x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dx = x.track_op().then(|| dy.apply_op2_no_bwd(weight, &BackwardData(self.0)));
        let dweight = weight.track_op().then(|| x.apply_op2_no_bwd(dy, &BackwardWeight(self.0)));
        Ok((dx.transpose()?, dweight.transpose()?))
    }
}

impl CustomOp2 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = with_float!(x, "conv2d", T => {
            let x = elements::<T>("conv2d", x, x_layout)?;
            self.forward(x, elements("conv2d", weight, weight_layout)?, None)
        });
        Ok((y, self.out_shape()))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(x, weight, &dy.contiguous()?)
    }
}

impl CustomOp3 for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let y = with_float!(x, "conv2d", T => {
            let x = elements::<T>("conv2d", x, x_layout)?;
            let weight = elements("conv2d", weight, weight_layout)?;
            self.forward(x, weight, Some(elements("conv2d", bias, bias_layout)?))
        });
        Ok((y, self.out_shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let (dx, dweight) = self.gradients(x, weight, &dy)?;
        let dbias = bias.track_op().then(|| dy.apply_op1_no_bwd(&BackwardBias));
        Ok((dx, dweight, dbias.transpose()?))
    }
}

/// `(dy, weight) -> dx`
struct BackwardData(Geometry);

impl CustomOp2 for BackwardData {
    fn name(&self) -> &'static str {
        "conv2d-backward-data"
    }

    fn cpu_fwd(
        &self,
        dy: &CpuStorage,
        dy_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dx = with_float!(dy, self.name(), T => {
            let dy = elements::<T>(self.name(), dy, dy_layout)?;
            let weight = elements(self.name(), weight, weight_layout)?;
            storage(if self.0.is_depthwise() {
                depthwise::backward_data(&self.0, dy, weight)
            } else {
                dense::backward_data(&self.0, dy, weight)
            })
        });
        let Geometry { batch, channels, height, width, .. } = self.0;
        Ok((dx, Shape::from((batch, channels, height, width))))
    }
}

/// `(x, dy) -> dweight`
struct BackwardWeight(Geometry);

impl CustomOp2 for BackwardWeight {
    fn name(&self) -> &'static str {
        "conv2d-backward-weight"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let dweight = with_float!(x, self.name(), T => {
            let x = elements::<T>(self.name(), x, x_layout)?;
            let dy = elements(self.name(), dy, dy_layout)?;
            storage(if self.0.is_depthwise() {
                depthwise::backward_weight(&self.0, x, dy)
            } else {
                dense::backward_weight(&self.0, x, dy)
            })
        });
        let Geometry { filters, kernel_height, kernel_width, .. } = self.0;
        let shape = (filters, self.0.group_channels(), kernel_height, kernel_width);
        Ok((dweight, Shape::from(shape)))
    }
}

/// `dy -> dbias`: the sum of each channel.
struct BackwardBias;

impl CustomOp1 for BackwardBias {
    fn name(&self) -> &'static str {
        "conv2d-backward-bias"
    }

    fn cpu_fwd(&self, dy: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let (_, filters, height, width) = layout.shape().dims4()?;
        let dbias = with_float!(dy, self.name(), T => {
            let dy = elements::<T>(self.name(), dy, layout)?;
            storage(channel_sums(dy, filters, height * width))
        });
        Ok((dbias, Shape::from(filters)))
    }
}

fn channel_sums<T: Float>(values: &[T], channels: usize, area: usize) -> Vec<T> {
    struct Sum<'a, T>(&'a [T]);
    impl<T: Float> Kernel for Sum<'_, T> {
        type Output = T;
        #[inline(always)]
        fn run(self) -> T {
            sum_lanes(self.0.len(), |i| self.0[i])
        }
    }
    let isa = Isa::detect();
    let sum = |channel: usize| {
        let images = values.chunks_exact(channels * area);
        let planes = images.map(|image| &image[channel * area..][..area]);
        let sum: f64 = planes.map(|plane| isa.run(Sum(plane)).to_f64()).sum();
        T::from_f64(sum)
    };
    (0..channels).into_par_iter().map(sum).collect()
}
