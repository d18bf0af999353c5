//! Layers: named parameters and the operation on them. Activations are NCHW.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use candle_core::{Module, Result, Tensor, TensorId, Var};
use twograin_ops::{self as ops, Activation, Conv2dConfig, Moments, Padding, PreparedConv2d, Statistics, Tape};

use super::{Init, Parameters};

/// Whether a forward pass trains.
#[derive(Clone, Copy, Debug)]
pub enum Mode<'a> {
    /// Batch statistics, which also move the running ones, and dropout drawn from this seed.
    Train {
        /// Where the backbone's operations are noted for the backward pass.
        tape: &'a Tape,
        /// Of this step.
        dropout_seed: u64,
    },
    /// Running statistics, no dropout: an image's result does not depend on the others of its batch. No gradient reaches
    /// the parameters, so nothing is kept for a backward pass.
    Evaluate,
    /// The same, faster, by weights that were prepared before.
    Infer(&'a Prepared),
}

/// Convolutions with the batch norm after them folded in, each made when it is first used. It belongs to parameters that do
/// not change as long as it lives.
#[derive(Debug, Default)]
pub struct Prepared {
    convolutions: Mutex<HashMap<TensorId, Arc<PreparedConv2d>>>,
    multiply_adds: AtomicU64,
}

impl Prepared {
    fn of(&self, weight: &Var, prepare: impl FnOnce() -> Result<PreparedConv2d>) -> Result<Arc<PreparedConv2d>> {
        // Nothing panics while it is locked; and what is in it is whole at all times.
        let mut prepared = self.convolutions.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match prepared.entry(weight.id()) {
            Entry::Occupied(entry) => entry.get().clone(),
            Entry::Vacant(entry) => entry.insert(Arc::new(prepare()?)).clone(),
        })
    }

    /// Multiplications and additions of the convolutions and linear layers so far, as their definitions count them.
    pub fn multiply_adds(&self) -> u64 {
        self.multiply_adds.load(Ordering::Relaxed)
    }

    /// Counts the layer that made `y` of its weights, `[out, …]`.
    fn count(&self, y: &Tensor, weight: &Var) {
        let per_output = weight.elem_count() / weight.dims().first().copied().unwrap_or(1).max(1);
        self.multiply_adds.fetch_add((y.elem_count() * per_output) as u64, Ordering::Relaxed);
    }
}

impl<'a> Mode<'a> {
    /// For the operations of [`twograin_ops`].
    pub fn tape(self) -> Option<&'a Tape> {
        match self {
            Self::Train { tape, .. } => Some(tape),
            Self::Evaluate | Self::Infer(_) => None,
        }
    }

    fn read(self, var: &Var) -> Tensor {
        match self {
            Self::Train { .. } => var.as_tensor().clone(),
            Self::Evaluate | Self::Infer(_) => var.as_detached_tensor(),
        }
    }
}

/// A square convolution.
#[derive(Clone, Debug)]
pub struct Conv2d {
    weight: Var,
    bias: Option<Var>,
    shape: ConvShape,
    padding: Margin,
}

/// Zeros around the input of a [`Conv2d`].
#[derive(Clone, Copy, Debug)]
enum Margin {
    /// Half of the kernel on every side, whatever the stride.
    HalfKernel,
    /// TensorFlow's “SAME”: of an odd number of zeros the larger half is below and to the right.
    TensorFlowSame,
}

/// Size of a [`Conv2d`].
#[derive(Clone, Copy, Debug)]
pub struct ConvShape {
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Step of the kernel.
    pub stride: usize,
    /// Parts that channels are split into, each with filters of its own.
    pub groups: usize,
}

impl ConvShape {
    /// One group, a step of 1.
    pub const fn new(input: usize, output: usize, kernel: usize) -> Self {
        Self { input, output, kernel, stride: 1, groups: 1 }
    }

    /// With this step.
    pub const fn step(self, stride: usize) -> Self {
        Self { stride, ..self }
    }
}

impl Conv2d {
    /// `NAME.weight` `[out, in / groups, k, k]` (Kaiming, fan out) and, if asked for, `NAME.bias` `[out]` (zeros). Padded by
    /// half of the kernel on every side.
    pub fn new(params: &mut Parameters, name: &str, shape: ConvShape, bias: bool) -> Result<Self> {
        Self::drawn(params, name, shape, bias, Init::kaiming_fan_out(shape.output / shape.groups, shape.kernel))
    }

    /// The same without a bias, padded as TensorFlow's “SAME”.
    pub fn tensorflow_same(params: &mut Parameters, name: &str, shape: ConvShape) -> Result<Self> {
        Ok(Self { padding: Margin::TensorFlowSame, ..Self::new(params, name, shape, false)? })
    }

    /// `NAME.weight` `[out, in, k, k]` (Kaiming, fan in), without a bias.
    pub fn fan_in(params: &mut Parameters, name: &str, shape: ConvShape) -> Result<Self> {
        Self::drawn(params, name, shape, false, Init::kaiming_fan_in(shape.input, shape.kernel))
    }

    fn drawn(params: &mut Parameters, name: &str, shape: ConvShape, bias: bool, init: Init) -> Result<Self> {
        let ConvShape { input, output, kernel, groups, .. } = shape;
        let weight = params.trained(format!("{name}.weight"), &[output, input / groups, kernel, kernel], init)?;
        let bias =
            if bias { Some(params.trained(format!("{name}.bias"), &[output], Init::Constant(0.0))?) } else { None };
        Ok(Self { weight, bias, shape, padding: Margin::HalfKernel })
    }

    fn config(&self, x: &Tensor) -> Result<Conv2dConfig> {
        let ConvShape { kernel, stride, groups, .. } = self.shape;
        let padding = match self.padding {
            Margin::HalfKernel => Padding::same(kernel / 2),
            Margin::TensorFlowSame => {
                let (.., height, width) = x.dims4()?;
                Padding::tensorflow_same((height, width), kernel, stride)
            }
        };
        Ok(Conv2dConfig { stride, padding, groups })
    }

    /// `[n, in, h, w]` to `activation` of `[n, out, h', w']`.
    pub fn forward(&self, x: &Tensor, activation: Activation, mode: Mode<'_>) -> Result<Tensor> {
        if let Mode::Infer(prepared) = mode {
            return self.infer(x, None, None, activation, prepared, mode);
        }
        let bias = self.bias.as_ref().map(|bias| mode.read(bias));
        let weight = mode.read(&self.weight);
        ops::conv2d_activated(mode.tape(), x, &weight, bias.as_ref(), self.config(x)?, activation)
    }

    /// With the batch norm folded in, and what follows it fused.
    fn infer(
        &self,
        x: &Tensor,
        norm: Option<&BatchNorm>,
        residual: Option<&Tensor>,
        activation: Activation,
        prepared: &Prepared,
        mode: Mode<'_>,
    ) -> Result<Tensor> {
        let conv = prepared.of(&self.weight, || self.prepare(norm, mode))?;
        let y = conv.forward(x, residual, activation, self.config(x)?)?;
        prepared.count(&y, &self.weight);
        Ok(y)
    }

    fn prepare(&self, norm: Option<&BatchNorm>, mode: Mode<'_>) -> Result<PreparedConv2d> {
        let bias = self.bias.as_ref().map(|bias| mode.read(bias));
        let norm = norm.map(|norm| (norm.statistics(mode), [mode.read(&norm.weight), mode.read(&norm.bias)]));
        let norm = norm.as_ref().map(|(statistics, [gamma, beta])| (statistics, [gamma, beta]));
        PreparedConv2d::new(&mode.read(&self.weight), bias.as_ref(), norm)
    }
}

/// A convolution and the batch norm after it.
#[derive(Clone, Debug)]
pub struct ConvNorm {
    /// The convolution.
    pub conv: Conv2d,
    /// The batch norm.
    pub norm: BatchNorm,
}

impl ConvNorm {
    /// A convolution without a bias (see [`Conv2d::new`]) and a batch norm of these names.
    pub fn new(params: &mut Parameters, [conv, norm]: [&str; 2], shape: ConvShape) -> Result<Self> {
        let conv = Conv2d::new(params, conv, shape, false)?;
        Ok(Self { conv, norm: BatchNorm::new(params, norm, shape.output)? })
    }

    /// `activation(norm(conv(x)) + residual)`; shapes as in [`Conv2d::forward`].
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        mode: Mode<'_>,
    ) -> Result<Tensor> {
        if let Mode::Infer(prepared) = mode {
            return self.conv.infer(x, Some(&self.norm), residual, activation, prepared, mode);
        }
        self.norm.forward(&self.conv.forward(x, Activation::Identity, mode)?, residual, activation, mode)
    }
}

/// Batch normalisation over n, h and w (Ioffe & Szegedy 2015), with what follows it.
#[derive(Clone, Debug)]
pub struct BatchNorm {
    weight: Var,
    bias: Var,
    running_mean: Var,
    running_var: Var,
    constants: NormConstants,
}

/// What a [`BatchNorm`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct NormConstants {
    /// Added to the variance.
    pub eps: f64,
    /// Share of the batch in the new running statistics.
    pub momentum: f64,
}

impl NormConstants {
    /// torchvision's.
    pub const TORCHVISION: Self = Self { eps: 1e-5, momentum: 0.1 };
}

impl BatchNorm {
    /// torchvision's: `NAME.weight` (ones), `NAME.bias` (zeros), `NAME.running_mean` (zeros), `NAME.running_var` (ones), all `[channels]`.
    pub fn new(params: &mut Parameters, name: &str, channels: usize) -> Result<Self> {
        Self::with(params, name, channels, NormConstants::TORCHVISION)
    }

    /// The same with other constants.
    pub fn with(params: &mut Parameters, name: &str, channels: usize, constants: NormConstants) -> Result<Self> {
        Ok(Self {
            constants,
            weight: params.trained(format!("{name}.weight"), &[channels], Init::Constant(1.0))?,
            bias: params.trained(format!("{name}.bias"), &[channels], Init::Constant(0.0))?,
            running_mean: params.buffer(format!("{name}.running_mean"), &[channels], 0.0)?,
            running_var: params.buffer(format!("{name}.running_var"), &[channels], 1.0)?,
        })
    }

    /// `activation(batch_norm(x) + residual)`; shapes `[n, channels, h, w]`. In training the running statistics move
    /// towards the batch's mean and unbiased variance.
    pub fn forward(
        &self,
        x: &Tensor,
        residual: Option<&Tensor>,
        activation: Activation,
        mode: Mode<'_>,
    ) -> Result<Tensor> {
        let (gamma, beta) = (mode.read(&self.weight), mode.read(&self.bias));
        match mode {
            Mode::Evaluate | Mode::Infer(_) => {
                ops::batch_norm_eval(None, x, &gamma, &beta, &self.statistics(mode), residual, activation)
            }
            Mode::Train { tape, .. } => {
                let eps = self.constants.eps;
                let out = ops::batch_norm_train(Some(tape), x, &gamma, &beta, residual, eps, activation)?;
                self.learn(x, &out.moments)?;
                Ok(out.y)
            }
        }
    }

    /// [`forward`](Self::forward) without a residual, of a tensor whose moments are known, as training has them.
    pub fn forward_given(
        &self,
        x: &Tensor,
        moments: Option<&Moments>,
        activation: Activation,
        mode: Mode<'_>,
    ) -> Result<Tensor> {
        let (Mode::Train { tape, .. }, Some(moments)) = (mode, moments) else {
            return self.forward(x, None, activation, mode);
        };
        self.learn(x, moments)?;
        let (gamma, beta) = (mode.read(&self.weight), mode.read(&self.bias));
        ops::batch_norm_train_given(Some(tape), x, &gamma, &beta, moments, self.constants.eps, activation)
    }

    fn statistics(&self, mode: Mode<'_>) -> Statistics {
        Statistics { mean: mode.read(&self.running_mean), var: mode.read(&self.running_var), eps: self.constants.eps }
    }

    /// Moves the running statistics towards the batch's.
    fn learn(&self, x: &Tensor, moments: &Moments) -> Result<()> {
        let count = x.elem_count() / x.dim(1)?;
        let unbiased = count as f64 / (count.max(2) - 1) as f64;
        self.move_towards(&self.running_mean, &moments.mean)?;
        self.move_towards(&self.running_var, &(&moments.var * unbiased)?)
    }

    fn move_towards(&self, running: &Var, batch: &Tensor) -> Result<()> {
        let NormConstants { momentum, .. } = self.constants;
        let kept = (running.as_detached_tensor() * (1.0 - momentum))?;
        running.set(&(kept + (batch.detach() * momentum)?)?)
    }
}

/// A fully connected layer.
#[derive(Clone, Debug)]
pub struct Linear {
    weight: Var,
    bias: Var,
}

impl Linear {
    /// `NAME.weight` `[out, in]` and `NAME.bias` `[out]`, both uniform within `±1/sqrt(in)`.
    pub fn new(params: &mut Parameters, name: &str, input: usize, output: usize) -> Result<Self> {
        let init = Init::Uniform(1.0 / (input as f64).sqrt());
        Ok(Self {
            weight: params.trained(format!("{name}.weight"), &[output, input], init)?,
            bias: params.trained(format!("{name}.bias"), &[output], init)?,
        })
    }

    /// The same in front of a ReLU: weights Kaiming normal over the inputs, biases zero.
    pub fn before_relu(params: &mut Parameters, name: &str, input: usize, output: usize) -> Result<Self> {
        let init = Init::kaiming_fan_in(input, 1);
        Ok(Self {
            weight: params.trained(format!("{name}.weight"), &[output, input], init)?,
            bias: params.trained(format!("{name}.bias"), &[output], Init::Constant(0.0))?,
        })
    }

    /// Sets every bias to `value`.
    pub fn fill_bias(&self, value: f64) -> Result<()> {
        self.bias.set(&(self.bias.ones_like()? * value)?)
    }

    /// `[n, in]` to `[n, out]`.
    pub fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let y = ops::linear(mode.tape(), x, &mode.read(&self.weight), Some(&mode.read(&self.bias)))?;
        if let Mode::Infer(prepared) = mode {
            prepared.count(&y, &self.weight);
        }
        Ok(y)
    }

    /// [`forward`](Self::forward) in candle's graph, for what comes after the tape.
    pub fn forward_in_graph(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        candle_nn::Linear::new(mode.read(&self.weight), Some(mode.read(&self.bias))).forward(x)
    }

    /// W, `[out, in]`.
    pub fn weight(&self) -> Tensor {
        self.weight.as_detached_tensor()
    }

    /// b, `[out]`.
    pub fn bias(&self) -> Tensor {
        self.bias.as_detached_tensor()
    }
}

/// Zeroes each value with this probability in training and scales the rest to keep the mean.
#[derive(Clone, Copy, Debug)]
pub struct Dropout {
    /// Probability of being dropped.
    pub p: f64,
    /// Which one of the network's: each has its own stream.
    pub index: u64,
}

impl Dropout {
    /// The shape stays.
    pub fn forward(self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        self.draw(x, mode, ops::dropout)
    }

    /// All of an image's values are dropped or none, where `x` is `[n, ...]`.
    pub fn of_images(self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        self.draw(x, mode, ops::stochastic_depth)
    }

    fn draw(
        self,
        x: &Tensor,
        mode: Mode<'_>,
        operation: impl Fn(Option<&Tape>, &Tensor, f64, u64) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match mode {
            Mode::Evaluate | Mode::Infer(_) => Ok(x.clone()),
            // The multiplier spreads the streams over the 64 bits (the golden ratio's fraction).
            Mode::Train { tape, dropout_seed } => {
                let seed = dropout_seed ^ (self.index + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                operation(Some(tape), x, self.p, seed)
            }
        }
    }
}
