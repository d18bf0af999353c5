//! Batch norm, with the addition of a residual and the activation that follow it in a residual network.

use std::sync::OnceLock;

use candle_core::{CpuStorage, CustomOp1, CustomOp2, Device, InplaceOp3, Layout, Result, Shape, Tensor, bail};

use crate::{
    activation::Activation,
    float::{Float, elements, elements_mut, ensure_alike, image_dims, storage, with_float},
    tape::{Tape, record},
};

mod kernels;
mod passes;

use passes::{Backward, Channels, Forward};

/// What [`batch_norm_train`] gives.
pub struct BatchNormOutput {
    /// The normalised, activated tensor, shaped as the input.
    pub y: Tensor,
    /// Of the input.
    pub moments: Moments,
}

/// Mean and variance of each channel over batch and pixels, detached.
#[derive(Clone, Debug)]
pub struct Moments {
    /// `[c]`
    pub mean: Tensor,
    /// The *biased* variance (divided by the number of values `m = n h w`): `[c]`. PyTorch's `running_var` averages the
    /// unbiased one, which is this times `m / (m - 1)`.
    pub var: Tensor,
}

impl Moments {
    /// Of `x`, `[n, c, h, w]`.
    ///
    /// # Errors
    /// If `x` is not such a tensor, is empty, neither `f32` nor `f64`, or not on the CPU.
    pub fn of(x: &Tensor) -> Result<Self> {
        ensure_alike("moments", &[x])?;
        let [_, c, ..] = image_dims("moments", x)?;
        let both = x.contiguous()?.apply_op1_no_bwd(&MeanAndVariance)?;
        Ok(Moments { mean: both.narrow(0, 0, c)?, var: both.narrow(0, c, c)? })
    }

    /// Of the channels of one tensor and those of another behind them.
    ///
    /// # Errors
    /// If their element types differ.
    pub fn cat(&self, other: &Moments) -> Result<Self> {
        let cat = |a: &Tensor, b: &Tensor| Tensor::cat(&[a, b], 0);
        Ok(Moments { mean: cat(&self.mean, &other.mean)?, var: cat(&self.var, &other.var)? })
    }
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
    tape: Option<&Tape>,
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
    let (y, moments) = apply(OP, tape, [x, gamma, beta], residual, Source::Batch(None), eps, activation)?;
    Ok(BatchNormOutput { y, moments })
}

/// [`batch_norm_train`] of a tensor whose [`Moments`] are known already, as those of a dense block's channels are from the layer
/// that made them. The gradient of `x` is the same: it flows through mean and variance too.
///
/// # Errors
/// As [`batch_norm_train`], or if there are not as many moments as channels.
pub fn batch_norm_train_given(
    tape: Option<&Tape>,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    moments: &Moments,
    eps: f64,
    activation: Activation,
) -> Result<Tensor> {
    const OP: &str = "batch_norm_train_given";
    let [n, c, h, w] = image_dims(OP, x)?;
    if n * h * w == 1 {
        bail!("{OP}: expected more than one value per channel, got {:?}", x.shape())
    }
    ensure_alike(OP, &[x, &moments.mean, &moments.var])?;
    ensure_per_channel(OP, x, c, "mean", &moments.mean)?;
    ensure_per_channel(OP, x, c, "var", &moments.var)?;
    let source = Source::Batch(Some(moments.clone()));
    Ok(apply(OP, tape, [x, gamma, beta], None, source, eps, activation)?.0)
}

/// Fixed statistics of each channel, as training has gathered them.
#[derive(Clone, Debug)]
pub struct Statistics {
    /// `[c]`
    pub mean: Tensor,
    /// `[c]`
    pub var: Tensor,
    /// Added to the variance.
    pub eps: f64,
}

/// `activation(gamma (x - mean) / sqrt(var + eps) + beta + residual)`: batch norm with fixed statistics.
///
/// Shapes as in [`batch_norm_train`]. Gradients flow to `x`, `gamma`, `beta` and `residual`, none to the statistics.
///
/// # Errors
/// If the shapes do not fit each other, or the tensors are not all `f32` or all `f64` on the CPU.
pub fn batch_norm_eval(
    tape: Option<&Tape>,
    x: &Tensor,
    gamma: &Tensor,
    beta: &Tensor,
    statistics: &Statistics,
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    const OP: &str = "batch_norm_eval";
    let [_, c, ..] = image_dims(OP, x)?;
    let Statistics { mean, var, eps } = statistics;
    ensure_alike(OP, &[x, mean, var])?;
    ensure_per_channel(OP, x, c, "mean", mean)?;
    ensure_per_channel(OP, x, c, "var", var)?;
    let fixed = Moments { mean: mean.detach(), var: var.detach() };
    Ok(apply(OP, tape, [x, gamma, beta], residual, Source::Fixed(fixed), *eps, activation)?.0)
}

/// Where mean and variance come from.
enum Source {
    /// The values themselves, of which they may have been computed before.
    Batch(Option<Moments>),
    /// Elsewhere: no gradient flows through them.
    Fixed(Moments),
}

fn apply(
    name: &str,
    tape: Option<&Tape>,
    [x, gamma, beta]: [&Tensor; 3],
    residual: Option<&Tensor>,
    source: Source,
    eps: f64,
    activation: Activation,
) -> Result<(Tensor, Moments)> {
    let mut operands = vec![x, gamma, beta];
    operands.extend(residual);
    ensure_alike(name, &operands)?;
    let [_, c, ..] = image_dims(name, x)?;
    ensure_per_channel(name, x, c, "gamma", gamma)?;
    ensure_per_channel(name, x, c, "beta", beta)?;
    let (of_batch, known) = match source {
        Source::Batch(known) => (true, known),
        Source::Fixed(moments) => (false, Some(moments)),
    };
    let moments = known.map_or_else(OnceLock::new, OnceLock::from);
    let op = BatchNorm { gamma: gamma.detach(), beta: beta.detach(), eps, activation, moments };
    let input = x.contiguous()?;
    let y = match residual {
        None => input.apply_op1_no_bwd(&op)?,
        Some(residual) if residual.dims() != x.dims() => {
            bail!("{name}: expected a residual shaped as x {:?}, got {:?}", x.shape(), residual.shape())
        }
        Some(residual) => input.apply_op2_no_bwd(&residual.contiguous()?, &op)?,
    };
    let BatchNorm { gamma: scale, moments, .. } = op;
    let Some(moments) = moments.into_inner() else { bail!("{name}: the forward pass left no statistics") };
    let (output, Moments { mean, var }) = (y.clone(), moments.clone());
    let inputs = [Some(x), Some(gamma), Some(beta), residual];
    record(tape, inputs, &y, move |dy, [to_x, to_gamma, to_beta, to_residual], gradients| {
        let gradient_before = to_residual.is_some();
        let op = BatchNormBackward {
            gamma: scale,
            mean,
            var,
            of_batch,
            eps,
            activation,
            gradient_before,
            others: OnceLock::new(),
        };
        dy.inplace_op3(&input, &output, &op)?;
        let Some(Others { gamma, beta, x }) = op.others.into_inner() else {
            bail!("{NAME}: the backward pass left no parameter gradients")
        };
        gradients.add(to_gamma, || Ok(gamma))?;
        gradients.add(to_beta, || Ok(beta))?;
        match x {
            None => gradients.add(to_x, || Ok(dy)),
            Some(x) => {
                gradients.add(to_x, || Ok(x))?;
                gradients.add(to_residual, || Ok(dy))
            }
        }
    })?;
    Ok((y, moments))
}

fn ensure_per_channel(op: &str, x: &Tensor, c: usize, name: &str, values: &Tensor) -> Result<()> {
    if values.dims() != [c] {
        bail!("{op}: expected {name} [{c}] for x {:?}, got {:?}", x.shape(), values.shape())
    }
    Ok(())
}

/// `x -> [mean of each channel, variance of each channel]`
struct MeanAndVariance;

impl CustomOp1 for MeanAndVariance {
    fn name(&self) -> &'static str {
        "moments"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let channels = Channels::new(layout.shape().dims4()?);
        let moments = with_float!(x, self.name(), T => {
            let (mean, var) = channels.moments(elements::<T>(self.name(), x, layout)?);
            storage([mean, var].concat())
        });
        Ok((moments, Shape::from(2 * channels.count())))
    }
}

/// `x` or `(x, residual) -> y`
struct BatchNorm {
    gamma: Tensor,
    beta: Tensor,
    eps: f64,
    activation: Activation,
    /// Fixed, or left here by the forward pass: a custom operation returns one tensor.
    moments: OnceLock<Moments>,
}

const NAME: &str = "batch-norm";

impl BatchNorm {
    fn forward<T: Float>(&self, x: &[T], shape: &Shape, residual: Option<&[T]>) -> Result<CpuStorage> {
        let fixed = match self.moments.get() {
            None => None,
            Some(Moments { mean, var }) => Some((mean.to_vec1::<T>()?, var.to_vec1::<T>()?)),
        };
        let pass = Forward {
            channels: Channels::new(shape.dims4()?),
            x,
            gamma: &self.gamma.to_vec1()?,
            beta: &self.beta.to_vec1()?,
            residual,
            eps: self.eps,
            activation: self.activation,
        };
        let (y, mean, var) = pass.run(fixed);
        let moments = Moments { mean: vector(mean)?, var: vector(var)? };
        self.moments.get_or_init(|| moments);
        Ok(storage(y))
    }
}

fn vector<T: Float>(values: Vec<T>) -> Result<Tensor> {
    let len = values.len();
    Tensor::from_vec(values, len, &Device::Cpu)
}

impl CustomOp1 for BatchNorm {
    fn name(&self) -> &'static str {
        NAME
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let shape = layout.shape();
        let y = with_float!(x, NAME, T => self.forward(elements::<T>(NAME, x, layout)?, shape, None)?);
        Ok((y, shape.clone()))
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
        residual: &CpuStorage,
        residual_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let shape = x_layout.shape();
        let y = with_float!(x, NAME, T => {
            let residual = elements(NAME, residual, residual_layout)?;
            self.forward(elements::<T>(NAME, x, x_layout)?, shape, Some(residual))?
        });
        Ok((y, shape.clone()))
    }
}

/// `(dy, x, y)`: `dy` becomes the gradient of `x`, or of the sum before the activation if that is asked for; the other
/// gradients are left on the side, as one pass over memory gives all of them.
struct BatchNormBackward {
    gamma: Tensor,
    mean: Tensor,
    var: Tensor,
    /// Whether mean and variance depend on `x`.
    of_batch: bool,
    eps: f64,
    activation: Activation,
    /// Whether the gradient before the activation, which is a residual's, is wanted too.
    gradient_before: bool,
    others: OnceLock<Others>,
}

struct Others {
    gamma: Tensor,
    beta: Tensor,
    /// Where the residual's has taken the place of `dy`.
    x: Option<Tensor>,
}

impl InplaceOp3 for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch-norm-backward"
    }

    fn cpu_fwd(
        &self,
        dy: &mut CpuStorage,
        dy_layout: &Layout,
        x: &CpuStorage,
        x_layout: &Layout,
        y: &CpuStorage,
        y_layout: &Layout,
    ) -> Result<()> {
        let shape = x_layout.shape();
        let others = with_float!(x, self.name(), T => {
            let pass = Backward::<T> {
                channels: Channels::new(shape.dims4()?),
                x: elements(self.name(), x, x_layout)?,
                y: elements(self.name(), y, y_layout)?,
                gamma: &self.gamma.to_vec1()?,
                mean: &self.mean.to_vec1()?,
                var: &self.var.to_vec1()?,
                of_batch: self.of_batch,
                eps: self.eps,
                activation: self.activation,
            };
            let dy = elements_mut(self.name(), dy, dy_layout)?;
            let (x, (gamma, beta)) = if self.gradient_before {
                let (dx, parameters) = pass.beside(dy);
                (Some(Tensor::from_vec(dx, shape.clone(), &Device::Cpu)?), parameters)
            } else {
                (None, pass.in_place(dy))
            };
            Others { gamma: vector(gamma)?, beta: vector(beta)?, x }
        });
        if self.others.set(others).is_err() {
            bail!("{}: an operation runs once", self.name())
        }
        Ok(())
    }
}
