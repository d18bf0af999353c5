//! The dense family (Huang et al. 2017) with bottlenecks and compression. Names are torchvision's.

use candle_core::{Result, Tensor};
use twograin_ops::{self as ops, Activation, Moments, Pool2dConfig};

use super::{
    Parameters,
    layers::{BatchNorm, Conv2d, ConvNorm, ConvShape, Mode},
};

/// One size of the family.
#[derive(Clone, Copy, Debug)]
pub struct DenseNetConfig {
    /// Side of the first convolution's kernel: 7, or 3 for small images.
    pub stem_kernel: usize,
    /// Channels after the first convolution.
    pub initial: usize,
    /// Channels that each layer adds.
    pub growth: usize,
    /// Layers of each block. Every block but the last is followed by a transition, which halves the map and its channels.
    pub blocks: [usize; 4],
}

impl DenseNetConfig {
    /// DenseNet121: 7.0 million parameters without its last layer.
    pub const DENSENET121: Self = Self { stem_kernel: 7, initial: 64, growth: 32, blocks: [6, 12, 24, 16] };
    /// For images of about 64 pixels: 0.2 million parameters, 12 million multiply-adds at 64×64.
    pub const TINY: Self = Self { stem_kernel: 3, initial: 24, growth: 16, blocks: [2, 4, 6, 4] };
}

/// A dense network without its last linear layer.
#[derive(Clone, Debug)]
pub struct DenseNet {
    stem: ConvNorm,
    blocks: Vec<Block>,
    norm5: BatchNorm,
    features: usize,
}

/// Dense layers, and the transition to the next block.
#[derive(Clone, Debug)]
struct Block {
    layers: Vec<DenseLayer>,
    transition: Option<(BatchNorm, Conv2d)>,
}

impl DenseNet {
    /// A new network.
    pub fn new(params: &mut Parameters, config: DenseNetConfig) -> Result<Self> {
        let DenseNetConfig { stem_kernel: kernel, initial, growth, blocks: depths } = config;
        let shape = ConvShape::new(3, initial, kernel).step(2);
        params.begin_group("stem");
        let conv = Conv2d::fan_in(params, "features.conv0", shape)?;
        let stem = ConvNorm { conv, norm: BatchNorm::new(params, "features.norm0", initial)? };
        let mut blocks = Vec::new();
        let mut channels = initial;
        for (number, depth) in (1..).zip(depths) {
            params.begin_group(format!("block{number}"));
            let mut layers = Vec::new();
            for layer in 1..=depth {
                let name = format!("features.denseblock{number}.denselayer{layer}");
                layers.push(DenseLayer::new(params, &name, channels, growth)?);
                channels += growth;
            }
            let transition = if number < depths.len() {
                let name = format!("features.transition{number}");
                let norm = BatchNorm::new(params, &format!("{name}.norm"), channels)?;
                let shape = ConvShape::new(channels, channels / 2, 1);
                channels /= 2;
                Some((norm, Conv2d::fan_in(params, &format!("{name}.conv"), shape)?))
            } else {
                None
            };
            blocks.push(Block { layers, transition });
        }
        let norm5 = BatchNorm::new(params, "features.norm5", channels)?;
        Ok(Self { stem, blocks, norm5, features: channels })
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        self.features
    }

    /// One layer group: the stem makes maps of `[n, 3, h, w]`, the last block `[n, features]`.
    pub fn group(&self, index: usize, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let Some(block) = index.checked_sub(1) else {
            let x = self.stem.forward(x, None, Activation::Relu, mode)?;
            return ops::max_pool2d(mode.tape(), &x, Pool2dConfig::new(3, 2, 1));
        };
        let Block { layers, transition } = &self.blocks[block];
        let (mut x, mut moments) = (x.clone(), moments_of(x, mode)?);
        for layer in layers {
            let more = layer.forward(&x, moments.as_ref(), mode)?;
            x = ops::cat(mode.tape(), &x, &more)?;
            moments = match (moments, moments_of(&more, mode)?) {
                (Some(moments), Some(more)) => Some(moments.cat(&more)?),
                (None, _) | (_, None) => None,
            };
        }
        match transition {
            Some((norm, conv)) => {
                let normed = norm.forward_given(&x, moments.as_ref(), Activation::Relu, mode)?;
                let narrow = conv.forward(&normed, Activation::Identity, mode)?;
                ops::avg_pool2d(mode.tape(), &narrow, Pool2dConfig::new(2, 2, 0))
            }
            None => {
                let normed = self.norm5.forward_given(&x, moments.as_ref(), Activation::Relu, mode)?;
                ops::global_avg_pool(mode.tape(), &normed)
            }
        }
    }
}

/// What every batch norm over these channels needs in training: computed once, where the channels are made.
fn moments_of(x: &Tensor, mode: Mode<'_>) -> Result<Option<Moments>> {
    match mode {
        Mode::Train { .. } => Moments::of(x).map(Some),
        Mode::Evaluate | Mode::Infer(_) => Ok(None),
    }
}

/// A 1×1 convolution that narrows the map and a 3×3 one, each after batch norm and ReLU.
#[derive(Clone, Debug)]
struct DenseLayer {
    norm1: BatchNorm,
    narrow: ConvNorm,
    conv2: Conv2d,
}

impl DenseLayer {
    /// Channels between the two convolutions, as a multiple of those that come out (torchvision's `bn_size`).
    const BOTTLENECK: usize = 4;

    fn new(params: &mut Parameters, name: &str, input: usize, growth: usize) -> Result<Self> {
        let between = Self::BOTTLENECK * growth;
        let first = ConvShape::new(input, between, 1);
        let second = ConvShape::new(between, growth, 3);
        let norm1 = BatchNorm::new(params, &format!("{name}.norm1"), input)?;
        let conv = Conv2d::fan_in(params, &format!("{name}.conv1"), first)?;
        let narrow = ConvNorm { conv, norm: BatchNorm::new(params, &format!("{name}.norm2"), between)? };
        Ok(Self { norm1, narrow, conv2: Conv2d::fan_in(params, &format!("{name}.conv2"), second)? })
    }

    /// `[n, input, h, w]` to the `[n, growth, h, w]` that it adds.
    fn forward(&self, x: &Tensor, moments: Option<&Moments>, mode: Mode<'_>) -> Result<Tensor> {
        let y = self.norm1.forward_given(x, moments, Activation::Relu, mode)?;
        let y = self.narrow.forward(&y, None, Activation::Relu, mode)?;
        self.conv2.forward(&y, Activation::Identity, mode)
    }
}
