//! Convolution with weights that stay: inference.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, DType, Device, Layout, Result, Shape, Storage, Tensor, bail};

use super::{Conv2dConfig, dense, depthwise, epilogue::Epilogue, geometry::Geometry, winograd};
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
    /// For Winograd's way; made when it is first used.
    transformed: OnceLock<Tensor>,
}

impl PreparedConv2d {
    /// The convolution of [`conv2d`](super::conv2d) with these operands, then, where given, the batch norm with fixed
    /// statistics and its `[gamma, beta]`: `w' = w s` and `b' = (b - mean) s + beta` with `s = gamma / sqrt(var + eps)`.
    /// The weights are copied if a batch norm is folded in, else shared.
    ///
    /// # Errors
    /// If the shapes do not fit each other.
    pub fn new(weight: &Tensor, bias: Option<&Tensor>, norm: Option<(&Statistics, [&Tensor; 2])>) -> Result<Self> {
        let weight = weight.detach().contiguous()?;
        let bias = bias.map(Tensor::detach);
        let Some((Statistics { mean, var, eps }, [gamma, beta])) = norm else {
            return Ok(PreparedConv2d { weight, bias, transformed: OnceLock::new() });
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
        let weight = weight.broadcast_mul(&scale)?;
        Ok(PreparedConv2d { weight, bias: Some(bias), transformed: OnceLock::new() })
    }

    /// `activation(conv2d(x) + residual)`; `residual` is shaped as the output, `config` the one of
    /// [`conv2d`](super::conv2d). No gradients flow.
    ///
    /// # Errors
    /// As [`conv2d`](super::conv2d), or if the residual is shaped differently.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        config: Conv2dConfig,
    ) -> Result<Tensor> {
        let mut operands = vec![x, &self.weight];
        operands.extend(residual);
        ensure_alike("conv2d", &operands)?;
        let geometry = Geometry::new(x.dims(), self.weight.dims(), config)?;
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
        let bias = self.prepared.bias.as_ref().map(Tensor::to_vec1::<T>).transpose()?;
        let epilogue = Epilogue { bias: bias.as_deref(), residual, activation: self.activation };
        let weight = &self.prepared.weight;
        let y = if winograd::applies(g) {
            if self.prepared.transformed.get().is_none() {
                let values =
                    with_elements(weight, |weight| Ok(winograd::transformed_weight::<T>(g, weight, false).to_vec()))?;
                let len = values.len();
                // Another thread may have been faster; then this one's is dropped.
                let _ = self.prepared.transformed.set(Tensor::from_vec(values, len, &Device::Cpu)?);
            }
            let Some(transformed) = self.prepared.transformed.get() else { bail!("conv2d: no transformed weight") };
            with_elements(transformed, |transformed| Ok(winograd::forward(g, x, transformed, epilogue)))?
        } else if g.is_depthwise() {
            with_elements(weight, |weight| Ok(depthwise::forward(g, x, weight, epilogue)))?
        } else {
            with_elements(weight, |weight| Ok(dense::forward(g, x, weight, epilogue)))?
        };
        Ok((storage(y), Shape::from(g.out_dims().to_vec())))
    }
}

/// Calls `f` with the elements of a tensor on the CPU.
fn with_elements<T: Float, R>(tensor: &Tensor, f: impl FnOnce(&[T]) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cpu(values) => f(elements("conv2d", values, layout)?),
        Storage::Cuda(_) | Storage::Metal(_) => bail!("conv2d: weight and x are on different devices"),
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
