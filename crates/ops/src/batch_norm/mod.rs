//! Batch norm, with the addition of a residual and the activation that follow it in a residual network.

use std::sync::{Arc, OnceLock};

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, bail};

use crate::{
    activation::Activation,
    float::{Float, elements, ensure_alike, image_dims, storage, with_float},
};

mod kernels;
mod passes;

use passes::{Backward, Channels, Forward};

/// What [`batch_norm_train`] gives.
pub struct BatchNormOutput {
    /// The normalised, activated tensor, shaped as the input.
    pub y: Tensor,
    /// The mean of each channel over batch and pixels: `[c]`, detached.
    pub mean: Tensor,
    /// The *biased* variance of each channel (divided by the number of values `m = n h w`): `[c]`, detached. PyTorch's
    /// `running_var` averages the unbiased one, which is this times `m / (m - 1)`.
    pub var: Tensor,
}

/// `activation(gamma (x - mean) / sqrt(var + eps) + beta + residual)` with the mean and variance of this batch.
///
/// `x`, `residual`: `[n, c, h, w]`; `gamma`, `beta`: `[c]`. Gradients flow to `x`, also through mean and variance, and to
/// `gamma`, `beta` and `residual`; none flow through the returned statistics.
/// Source: Ioffe and Szegedy 2015.
///
/// # Errors
/// If the shapes do not fit each other, a channel has a single value (its variance says nothing), or the tensors are not all
/// `f32` or all `f64` on the CPU.
pub fn batch_norm_train(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
    eps: f64,
    activation: Activation,
) -> Result<BatchNormOutput> {
    const OP: &str = "batch_norm_train";
    let [n, _, h, w] = image_dims(OP, x)?;
    if n * h * w == 1 {
        bail!("{OP}: expected more than one value per channel, got {:?}", x.shape())
    }
    let of_batch = Arc::new(OnceLock::new());
    let op = BatchNorm { eps, activation, statistics: Statistics::OfBatch(of_batch.clone()) };
    let y = apply(OP, op, x, gamma, beta, residual)?;
    match of_batch.get() {
        Some(Moments { mean, var }) => Ok(BatchNormOutput { y, mean: mean.clone(), var: var.clone() }),
        None => bail!("{OP}: the forward pass left no statistics"),
    }
}

/// `activation(gamma (x - running_mean) / sqrt(running_var + eps) + beta + residual)`: batch norm with fixed statistics.
///
/// Shapes as in [`batch_norm_train`]; `running_mean`, `running_var`: `[c]`. Gradients flow to `x`, `gamma`, `beta` and
/// `residual`, none to the statistics.
///
/// # Errors
/// If the shapes do not fit each other, or the tensors are not all `f32` or all `f64` on the CPU.
#[expect(clippy::too_many_arguments, reason = "they are the terms of one formula")]
pub fn batch_norm_eval(
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    running_mean: &Tensor,
    running_var: &Tensor,
    residual: Option<&Tensor>,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    const OP: &str = "batch_norm_eval";
    let [_, c, ..] = image_dims(OP, x)?;
    ensure_alike(OP, &[x, running_mean, running_var])?;
    ensure_per_channel(OP, x, c, "running_mean", running_mean)?;
    ensure_per_channel(OP, x, c, "running_var", running_var)?;
    let op = BatchNorm {
        eps,
        activation,
        statistics: Statistics::Fixed(Moments { mean: running_mean.detach(), var: running_var.detach() }),
    };
    apply(OP, op, x, gamma, beta, residual)
}

fn apply(
    name: &str,
    op: BatchNorm,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    residual: Option<&Tensor>,
) -> Result<Tensor> {
    let mut operands = vec![x, gamma, beta];
    operands.extend(residual);
    ensure_alike(name, &operands)?;
    let [_, c, ..] = image_dims(name, x)?;
    ensure_per_channel(name, x, c, "gamma", gamma)?;
    ensure_per_channel(name, x, c, "beta", beta)?;
    // A custom operation has at most three operands.
    let affine = Tensor::stack(&[gamma, beta], 0)?;
    let x = x.contiguous()?;
    match residual {
        None => x.apply_op2(&affine, op),
        Some(residual) if residual.dims() != x.dims() => {
            bail!("{name}: expected a residual shaped as x {:?}, got {:?}", x.shape(), residual.shape())
        }
        Some(residual) => x.apply_op3(&affine, &residual.contiguous()?, op),
    }
}

fn ensure_per_channel(op: &str, x: &Tensor, c: usize, name: &str, values: &Tensor) -> Result<()> {
    if values.dims() != [c] {
        bail!("{op}: expected {name} [{c}] for x {:?}, got {:?}", x.shape(), values.shape())
    }
    Ok(())
}

/// Mean and biased variance, each `[c]`.
struct Moments {
    mean: Tensor,
    var: Tensor,
}

enum Statistics {
    /// Left here by the forward pass: a custom operation returns one tensor.
    OfBatch(Arc<OnceLock<Moments>>),
    Fixed(Moments),
}

/// `(x, affine)` or `(x, affine, residual) -> y`. `affine`: `[2, c]`, gamma above beta.
struct BatchNorm {
    eps: f64,
    activation: Activation,
    statistics: Statistics,
}

const NAME: &str = "batch-norm";

impl BatchNorm {
    fn forward<T: Float>(&self, x: &[T], shape: &Shape, affine: &[T], residual: Option<&[T]>) -> Result<CpuStorage> {
        let channels = Channels::new(shape.dims4()?);
        let fixed = match &self.statistics {
            Statistics::OfBatch(_) => None,
            Statistics::Fixed(Moments { mean, var }) => Some((mean.to_vec1::<T>()?, var.to_vec1::<T>()?)),
        };
        let pass = Forward { channels, x, affine, residual, eps: self.eps, activation: self.activation };
        let (y, mean, var) = pass.run(fixed);
        if let Statistics::OfBatch(cell) = &self.statistics {
            let c = mean.len();
            let moments = Moments {
                mean: Tensor::from_vec(mean, c, &Device::Cpu)?,
                var: Tensor::from_vec(var, c, &Device::Cpu)?,
            };
            if cell.set(moments).is_err() {
                bail!("{NAME}: an operation runs forward once")
            }
        }
        Ok(storage(y))
    }

    fn backward(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: Option<&Tensor>,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Tensor, Tensor, Option<Tensor>)> {
        let (moments, of_batch) = match &self.statistics {
            Statistics::OfBatch(cell) => (cell.get(), true),
            Statistics::Fixed(moments) => (Some(moments), false),
        };
        let Some(Moments { mean, var }) = moments else { bail!("{NAME}: backward before forward") };
        let op = BatchNormBackward {
            gamma: affine.get(0)?.detach(),
            mean: mean.clone(),
            var: var.clone(),
            of_batch,
            eps: self.eps,
            activation: self.activation,
            residual: residual.is_some(),
            others: OnceLock::new(),
        };
        let dx = x.apply_op3_no_bwd(y, &dy.contiguous()?, &op)?;
        match op.others.into_inner() {
            Some(OtherGradients { affine, residual }) => Ok((dx, affine, residual)),
            None => bail!("{NAME}: the backward pass left no parameter gradients"),
        }
    }
}

impl CustomOp2 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape();
        let y = with_float!(x, NAME, T => {
            let x = elements::<T>(NAME, x, x_layout)?;
            self.forward(x, shape, elements(NAME, affine, affine_layout)?, None)?
        });
        Ok((y, shape.clone()))
    }

    fn bwd(&self, x: &Tensor, affine: &Tensor, y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let (dx, daffine, _) = self.backward(x, affine, None, y, dy)?;
        Ok((Some(dx), Some(daffine)))
    }
}

impl CustomOp3 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        affine: &CpuStorage,
        affine_layout: &Layout,
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape();
        let y = with_float!(x, NAME, T => {
            let x = elements::<T>(NAME, x, x_layout)?;
            let residual = elements(NAME, residual, residual_layout)?;
            self.forward(x, shape, elements(NAME, affine, affine_layout)?, Some(residual))?
        });
        Ok((y, shape.clone()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        affine: &Tensor,
        residual: &Tensor,
        y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, daffine, dresidual) = self.backward(x, affine, Some(residual), y, dy)?;
        Ok((Some(dx), Some(daffine), dresidual))
    }
}

/// `(x, y, dy) -> dx`, and the other gradients on the side: one pass over memory gives all of them.
struct BatchNormBackward {
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    /// Whether mean and variance depend on `x`.
    of_batch: bool,
    eps: f64,
    activation: Activation,
    residual: bool,
    others: OnceLock<OtherGradients>,
}

struct OtherGradients {
    /// `[2, c]`
    affine: Tensor,
    residual: Option<Tensor>,
}

impl CustomOp3 for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch-norm-backward"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
        dy: &CpuStorage,
        dy_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape();
        let (dx, others) = with_float!(x, self.name(), T => {
            let pass = Backward::<T> {
                channels: Channels::new(shape.dims4()?),
                x: elements(self.name(), x, x_layout)?,
                y: elements(self.name(), y, y_layout)?,
                dy: elements(self.name(), dy, dy_layout)?,
                gamma: &self.gamma.to_vec1()?,
                mean: &self.mean.to_vec1()?,
                var: &self.var.to_vec1()?,
                of_batch: self.of_batch,
                eps: self.eps,
                activation: self.activation,
            };
            let gradients = pass.run(self.residual);
            let c = self.gamma.dims1()?;
            let affine = Tensor::from_vec(gradients.affine, (2, c), &Device::Cpu)?;
            let residual = gradients
                .residual
                .map(|residual| Tensor::from_vec(residual, shape.clone(), &Device::Cpu));
            let others = OtherGradients { affine, residual: residual.transpose()? };
            (storage(gradients.x), others)
        });
        if self.others.set(others).is_err() {
            bail!("{}: an operation runs once", self.name())
        }
        Ok((dx, shape.clone()))
    }
}
