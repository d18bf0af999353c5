//! Two-dimensional convolution: forward, backward to the data and backward to the weights, each a custom operation.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::{
    activation::{Activation, undo},
    float::{Float, elements, ensure_alike, storage, with_float},
    simd::{Isa, Kernel, sum_lanes},
    tape::{Tape, record},
};

mod columns;
mod dense;
mod depthwise;
mod epilogue;
mod geometry;
mod prepared;
mod winograd;

use epilogue::Epilogue;
use geometry::Geometry;
pub use prepared::PreparedConv2d;

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

    /// TensorFlow's “SAME” for an image of height and width `size`: `ceil(size / stride)` outputs, and of an odd number of
    /// zeros the larger half below and to the right.
    pub fn tensorflow_same(size: (usize, usize), kernel: usize, stride: usize) -> Self {
        let halves = |len: usize| {
            let covered = (len.div_ceil(stride).max(1) - 1) * stride + kernel;
            let zeros = covered.saturating_sub(len);
            (zeros / 2, zeros - zeros / 2)
        };
        let ((top, bottom), (left, right)) = (halves(size.0), halves(size.1));
        Padding { top, bottom, left, right }
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
pub fn conv2d(
    tape: Option<&Tape>,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: Conv2dConfig,
) -> Result<Tensor> {
    conv2d_activated(tape, x, weight, bias, config, Activation::Identity)
}

/// `activation` of [`conv2d`], without a tensor between them.
///
/// # Errors
/// As [`conv2d`].
pub fn conv2d_activated(
    tape: Option<&Tape>,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    config: Conv2dConfig,
    activation: Activation,
) -> Result<Tensor> {
    let mut operands = vec![x, weight];
    operands.extend(bias);
    ensure_alike("conv2d", &operands)?;
    let geometry = Geometry::new(x.dims(), weight.dims(), config)?;
    if let Some(bias) = bias
        && bias.dims() != [geometry.filters]
    {
        bail!("conv2d: expected bias [{}] for weight {:?}, got {:?}", geometry.filters, weight.shape(), bias.shape())
    }
    let (input, kernels) = (x.contiguous()?, weight.contiguous()?);
    let y = input.apply_op2_no_bwd(&kernels, &Conv2d { geometry, bias: bias.map(Tensor::detach), activation })?;
    let output = (activation != Activation::Identity).then(|| y.clone());
    record(tape, [Some(x), Some(weight), bias], &y, move |dy, [to_x, to_weight, to_bias], gradients| {
        if let Some(output) = output {
            undo(activation, &dy, &output)?;
        }
        gradients.add(to_bias, || dy.apply_op1_no_bwd(&BackwardBias))?;
        gradients.add(to_weight, || input.apply_op2_no_bwd(&dy, &BackwardWeight(geometry)))?;
        drop(input);
        gradients.add(to_x, || dy.apply_op2_no_bwd(&kernels, &BackwardData(geometry)))
    })?;
    Ok(y)
}

/// `(x, weight) -> y`
struct Conv2d {
    geometry: Geometry,
    bias: Option<Tensor>,
    activation: Activation,
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
        let g = &self.geometry;
        let y = with_float!(x, self.name(), T => {
            let x = elements::<T>(self.name(), x, x_layout)?;
            let weight = elements(self.name(), weight, weight_layout)?;
            let bias = self.bias.as_ref().map(Tensor::to_vec1::<T>).transpose()?;
            let epilogue = Epilogue { bias: bias.as_deref(), residual: None, activation: self.activation };
            storage(if g.is_depthwise() {
                depthwise::forward(g, x, weight, epilogue)
            } else if winograd::applies(g) {
                winograd::forward(g, x, &winograd::transformed_weight(g, weight, false), epilogue)
            } else {
                dense::forward(g, x, weight, epilogue)
            })
        });
        Ok((y, Shape::from(g.out_dims().to_vec())))
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
            } else if let Some(g) = self.0.backward_data().filter(winograd::applies) {
                winograd::forward(&g, dy, &winograd::transformed_weight(&g, weight, true), Epilogue::NONE)
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
            } else if winograd::applies(&self.0) {
                winograd::backward_weight(&self.0, x, dy)
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
            let [sum] = sum_lanes([self.0], |[x]| [x]);
            sum
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
