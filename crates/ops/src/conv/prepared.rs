//! Convolution with weights that stay: inference.

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Layout, Result, Shape, Tensor, bail};

use super::{Conv2dConfig, dense, depthwise, epilogue::Epilogue, geometry::Geometry};
use crate::{
    activation::Activation,
    batch_norm::Statistics,
    float::{Float, elements, ensure_alike, storage, with_float},
};

/// A convolution whose weights no longer change, with the batch norm after it folded in.
#[derive(Debug)]
pub struct PreparedConv2d {
    weight: Tensor,
    bias: Option<Tensor>,
    config: Conv2dConfig,
}

impl PreparedConv2d {
    /// The convolution of [`conv2d`](super::conv2d) with these operands, then, where given, the batch norm with fixed
    /// statistics and its `[gamma, beta]`: `w' = w s` and `b' = (b - mean) s + beta` with `s = gamma / sqrt(var + eps)`.
    /// The weights are copied if a batch norm is folded in, else shared.
    ///
    /// # Errors
    /// If the shapes do not fit each other.
    pub fn new(
        weight: &Tensor,
        bias: Option<&Tensor>,
        norm: Option<(&Statistics, [&Tensor; 2])>,
        config: Conv2dConfig,
    ) -> Result<Self> {
        let weight = weight.detach().contiguous()?;
        let bias = bias.map(Tensor::detach);
        let Some((Statistics { mean, var, eps }, [gamma, beta])) = norm else {
            return Ok(PreparedConv2d { weight, bias, config });
        };
        // In double precision: this is done once.
        let double = |t: &Tensor| t.detach().to_dtype(DType::F64);
        let scale = (double(gamma)? / (double(var)? + *eps)?.sqrt()?)?;
        let shift = match &bias {
            None => double(mean)?.neg()?,
            Some(bias) => (double(bias)? - double(mean)?)?,
        };
        let bias = ((shift * &scale)? + double(beta)?)?.to_dtype(weight.dtype())?;
        let scale = scale.to_dtype(weight.dtype())?.reshape(((), 1, 1, 1))?;
        Ok(PreparedConv2d { weight: weight.broadcast_mul(&scale)?, bias: Some(bias), config })
    }

    /// `activation(conv2d(x) + residual)`; `residual` is shaped as the output. No gradients flow.
    ///
    /// # Errors
    /// As [`conv2d`](super::conv2d), or if the residual is shaped differently.
    pub fn forward(&self, x: &Tensor, residual: Option<&Tensor>, activation: Activation) -> Result<Tensor> {
        let mut operands = vec![x, &self.weight];
        operands.extend(residual);
        ensure_alike("conv2d", &operands)?;
        let geometry = Geometry::new(x.dims(), self.weight.dims(), self.config)?;
        let x = x.contiguous()?;
        let op = Forward { prepared: self, geometry, activation };
        match residual {
            None => x.apply_op1_no_bwd(&op),
            Some(residual) if residual.dims() != geometry.out_dims() => bail!(
                "conv2d: expected a residual shaped as the output {:?}, got {:?}",
                geometry.out_dims(),
                residual.shape()
            ),
            Some(residual) => x.apply_op2_no_bwd(&residual.contiguous()?, &op),
        }
    }
}

/// `x` or `(x, residual) -> y`
struct Forward<'a> {
    prepared: &'a PreparedConv2d,
    geometry: Geometry,
    activation: Activation,
}

impl Forward<'_> {
    fn run<T: Float>(&self, x: &[T], residual: Option<&[T]>) -> Result<(CpuStorage, Shape)> {
        let g = &self.geometry;
        let (weight, layout) = self.prepared.weight.storage_and_layout();
        let candle_core::Storage::Cpu(weight) = &*weight else {
            bail!("conv2d: weight and x are on different devices")
        };
        let weight = elements::<T>("conv2d", weight, layout)?;
        let bias = self.prepared.bias.as_ref().map(Tensor::to_vec1::<T>).transpose()?;
        let epilogue = Epilogue { bias: bias.as_deref(), residual, activation: self.activation };
        let y = if g.is_depthwise() {
            depthwise::forward(g, x, weight, epilogue)
        } else {
            dense::forward(g, x, weight, epilogue)
        };
        Ok((storage(y), Shape::from(g.out_dims().to_vec())))
    }
}

impl CustomOp1 for Forward<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        with_float!(x, "conv2d", T => self.run(elements::<T>("conv2d", x, layout)?, None))
    }
}

impl CustomOp2 for Forward<'_> {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        with_float!(x, "conv2d", T => {
            let residual = elements("conv2d", residual, residual_layout)?;
            self.run(elements::<T>("conv2d", x, x_layout)?, Some(residual))
        })
    }
}
