//! EfficientNet-Lite0 (Tan & Le 2019, without squeeze-and-excitation and with ReLU6): inverted bottlenecks around depthwise
//! convolutions, padded as TensorFlow pads or as PyTorch does. Names are those of the `efficientnet-lite-pytorch` package.

use candle_core::{Result, Tensor};
use twograin_ops::{self as ops, Activation};

use super::{
    Parameters,
    layers::{BatchNorm, Conv2d, ConvNorm, ConvShape, Dropout, Mode, NormConstants},
};

/// One size of the family.
#[derive(Clone, Copy, Debug)]
pub struct EfficientNetConfig {
    /// Channels after the first convolution, which halves the image.
    pub stem: usize,
    /// Inverted bottlenecks, from the image on.
    pub stages: &'static [Stage],
    /// Width of the feature vector.
    pub head: usize,
    /// Dropout of the features.
    pub dropout: f64,
    /// Probability that training leaves out a block, if there were one more of them; it grows in a line from 0 at the first.
    pub drop_connect: f64,
    /// Whose padding and batch norms.
    pub convention: Convention,
}

/// In what implementations of the family differ, so that the weights of one are not the other's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Convention {
    /// “SAME” padding, asymmetric at a stride of 2; ε is 1e-3. TensorFlow's original, and those that took its weights over.
    TensorFlow,
    /// Symmetric padding; ε is 1e-5. Trained in PyTorch, such as timm's `efficientnet_lite0`.
    PyTorch,
}

/// Blocks of one shape. The first changes the number of channels, and the size of the map if the stride is 2.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Number of blocks.
    pub blocks: usize,
    /// Side of the depthwise kernel.
    pub kernel: usize,
    /// Step of the first block.
    pub stride: usize,
    /// Width between the 1×1 convolutions, as a multiple of the input's channels; 1 leaves the first of them out.
    pub expansion: usize,
    /// Channels that come out.
    pub output: usize,
}

impl EfficientNetConfig {
    /// EfficientNet-Lite0: 3.4 million parameters without its last layer.
    pub const LITE0: Self = Self {
        stem: 32,
        stages: &[
            Stage { blocks: 1, kernel: 3, stride: 1, expansion: 1, output: 16 },
            Stage { blocks: 2, kernel: 3, stride: 2, expansion: 6, output: 24 },
            Stage { blocks: 2, kernel: 5, stride: 2, expansion: 6, output: 40 },
            Stage { blocks: 3, kernel: 3, stride: 2, expansion: 6, output: 80 },
            Stage { blocks: 3, kernel: 5, stride: 1, expansion: 6, output: 112 },
            Stage { blocks: 4, kernel: 5, stride: 2, expansion: 6, output: 192 },
            Stage { blocks: 1, kernel: 3, stride: 1, expansion: 6, output: 320 },
        ],
        head: 1280,
        dropout: 0.2,
        drop_connect: 0.2,
        convention: Convention::TensorFlow,
    };
    /// The same as timm's `efficientnet_lite0`.
    pub const LITE0_TIMM: Self = Self { convention: Convention::PyTorch, ..Self::LITE0 };
}

/// A network of the family without its last linear layer.
#[derive(Clone, Debug)]
pub struct EfficientNet {
    stem: ConvNorm,
    stages: Vec<Vec<Block>>,
    head: ConvNorm,
    dropout: Dropout,
    features: usize,
}

impl EfficientNet {
    /// A new network.
    pub fn new(params: &mut Parameters, config: EfficientNetConfig) -> Result<Self> {
        let EfficientNetConfig { stem: mut input, stages, head: features, dropout, drop_connect, convention } = config;
        params.begin_group("stem");
        let stem = convention.layer(params, ["_conv_stem", "_bn0"], ConvShape::new(3, input, 3).step(2))?;
        let count: usize = stages.iter().map(|stage| stage.blocks).sum();
        let mut number = 0;
        let mut parts = Vec::new();
        for (part, stage) in (1..).zip(stages) {
            params.begin_group(format!("stage{part}"));
            let mut blocks = Vec::new();
            for index in 0..stage.blocks {
                let stage = Stage { stride: if index == 0 { stage.stride } else { 1 }, ..*stage };
                let depth = Dropout { p: drop_connect * number as f64 / count as f64, index: number as u64 };
                blocks.push(Block::new(params, convention, &format!("_blocks.{number}"), input, stage, depth)?);
                input = stage.output;
                number += 1;
            }
            parts.push(blocks);
        }
        params.begin_group("head");
        let head = convention.layer(params, ["_conv_head", "_bn1"], ConvShape::new(input, features, 1))?;
        Ok(Self { stem, stages: parts, head, dropout: Dropout { p: dropout, index: count as u64 }, features })
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        self.features
    }

    /// One layer group: the stem makes maps of `[n, 3, h, w]`, the head, which is the last, `[n, features]`.
    pub fn group(&self, index: usize, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let Some(stage) = index.checked_sub(1) else {
            return self.stem.forward(x, None, Activation::Relu6, mode);
        };
        if let Some(blocks) = self.stages.get(stage) {
            let mut x = x.clone();
            for block in blocks {
                x = block.forward(&x, mode)?;
            }
            return Ok(x);
        }
        let x = self.head.forward(x, None, Activation::Relu6, mode)?;
        self.dropout.forward(&ops::global_avg_pool(mode.tape(), &x)?, mode)
    }
}

impl Convention {
    fn layer(self, params: &mut Parameters, [conv, norm]: [&str; 2], shape: ConvShape) -> Result<ConvNorm> {
        let (conv, constants) = match self {
            Self::TensorFlow => {
                (Conv2d::tensorflow_same(params, conv, shape)?, NormConstants { eps: 1e-3, momentum: 0.01 })
            }
            Self::PyTorch => (Conv2d::new(params, conv, shape, false)?, NormConstants::TORCHVISION),
        };
        Ok(ConvNorm { conv, norm: BatchNorm::with(params, norm, shape.output, constants)? })
    }
}

/// An inverted bottleneck: widen, filter each channel, narrow; beside a shortcut where the shape stays.
#[derive(Clone, Debug)]
struct Block {
    expand: Option<ConvNorm>,
    depthwise: ConvNorm,
    project: ConvNorm,
    shortcut: bool,
    depth: Dropout,
}

impl Block {
    fn new(
        params: &mut Parameters,
        convention: Convention,
        name: &str,
        input: usize,
        stage: Stage,
        depth: Dropout,
    ) -> Result<Self> {
        let Stage { kernel, stride, expansion, output, .. } = stage;
        let wide = input * expansion;
        let mut layer = |[conv, norm]: [&str; 2], shape| {
            convention.layer(params, [&format!("{name}.{conv}"), &format!("{name}.{norm}")], shape)
        };
        let expand = (expansion != 1).then(|| layer(["_expand_conv", "_bn0"], ConvShape::new(input, wide, 1)));
        let depthwise = ConvShape { groups: wide, ..ConvShape::new(wide, wide, kernel).step(stride) };
        Ok(Self {
            expand: expand.transpose()?,
            depthwise: layer(["_depthwise_conv", "_bn1"], depthwise)?,
            project: layer(["_project_conv", "_bn2"], ConvShape::new(wide, output, 1))?,
            shortcut: stride == 1 && input == output,
            depth,
        })
    }

    fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let y = match &self.expand {
            Some(expand) => expand.forward(x, None, Activation::Relu6, mode)?,
            None => x.clone(),
        };
        let y = self.depthwise.forward(&y, None, Activation::Relu6, mode)?;
        let narrow = |residual| self.project.forward(&y, residual, Activation::Identity, mode);
        match mode {
            _ if !self.shortcut => narrow(None),
            Mode::Evaluate | Mode::Infer(_) => narrow(Some(x)),
            Mode::Train { tape, .. } if self.depth.p > 0.0 => {
                ops::add(Some(tape), &self.depth.of_images(&narrow(None)?, mode)?, x)
            }
            Mode::Train { .. } => narrow(Some(x)),
        }
    }
}
