//! The residual family (He et al. 2016) with basic blocks. Names are torchvision's.

use candle_core::{Result, Tensor};
use twograin_ops::{self as ops, Activation, Pool2dConfig};

use super::{
    Parameters,
    layers::{ConvNorm, ConvShape, Mode},
};

/// One size of the family.
#[derive(Clone, Copy, Debug)]
pub struct ResNetConfig {
    /// Side of the first convolution's kernel: 7, or 3 for small images.
    pub stem_kernel: usize,
    /// Channels of each stage; the first is the stem's too. Every stage but the first halves the map.
    pub widths: [usize; 4],
    /// Blocks of each stage.
    pub blocks: [usize; 4],
}

impl ResNetConfig {
    /// ResNet34: 21.3 million parameters without its last layer.
    pub const RESNET34: Self = Self { stem_kernel: 7, widths: [64, 128, 256, 512], blocks: [3, 4, 6, 3] };
    /// For images of about 64 pixels: 0.7 million parameters, 9 million multiply-adds at 64×64.
    pub const TINY: Self = Self { stem_kernel: 3, widths: [24, 48, 96, 192], blocks: [1, 1, 1, 1] };
}

/// A residual network without its last linear layer.
#[derive(Clone, Debug)]
pub struct ResNet {
    stem: ConvNorm,
    stages: [Vec<BasicBlock>; 4],
    features: usize,
}

impl ResNet {
    /// A new network.
    pub fn new(params: &mut Parameters, config: ResNetConfig) -> Result<Self> {
        let ResNetConfig { stem_kernel: kernel, widths, blocks: depths } = config;
        let shape = ConvShape::new(3, widths[0], kernel).step(2);
        params.begin_group("stem");
        let stem = ConvNorm::new(params, ["conv1", "bn1"], shape)?;
        let mut stages = [const { Vec::new() }; 4];
        let mut input = widths[0];
        for (stage, (output, depth)) in widths.into_iter().zip(depths).enumerate() {
            let name = format!("layer{}", stage + 1);
            params.begin_group(&*name);
            for index in 0..depth {
                let stride = if stage > 0 && index == 0 { 2 } else { 1 };
                let shape = ConvShape::new(input, output, 3).step(stride);
                stages[stage].push(BasicBlock::new(params, &format!("{name}.{index}"), shape)?);
                input = output;
            }
        }
        Ok(Self { stem, stages, features: input })
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        self.features
    }

    /// One layer group: the stem makes maps of `[n, 3, h, w]`, the last stage `[n, features]`.
    pub fn group(&self, index: usize, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let Some(stage) = index.checked_sub(1) else {
            let x = self.stem.forward(x, None, Activation::Relu, mode)?;
            return ops::max_pool2d(mode.tape(), &x, Pool2dConfig::new(3, 2, 1));
        };
        let mut x = x.clone();
        for block in &self.stages[stage] {
            x = block.forward(&x, mode)?;
        }
        if index < self.stages.len() { Ok(x) } else { ops::global_avg_pool(mode.tape(), &x) }
    }
}

/// Two 3×3 convolutions beside a shortcut.
#[derive(Clone, Debug)]
struct BasicBlock {
    first: ConvNorm,
    second: ConvNorm,
    /// 1×1, where the block changes the shape.
    downsample: Option<ConvNorm>,
}

impl BasicBlock {
    fn new(params: &mut Parameters, name: &str, shape: ConvShape) -> Result<Self> {
        let ConvShape { input, output, stride, .. } = shape;
        let mut layer = |[conv, norm]: [&str; 2], shape| {
            ConvNorm::new(params, [&format!("{name}.{conv}"), &format!("{name}.{norm}")], shape)
        };
        let first = layer(["conv1", "bn1"], shape)?;
        let second = layer(["conv2", "bn2"], ConvShape { input: output, stride: 1, ..shape })?;
        let reshapes = stride != 1 || input != output;
        let downsample = reshapes.then(|| layer(["downsample.0", "downsample.1"], ConvShape { kernel: 1, ..shape }));
        Ok(Self { first, second, downsample: downsample.transpose()? })
    }

    fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        let shortcut = match &self.downsample {
            Some(downsample) => downsample.forward(x, None, Activation::Identity, mode)?,
            None => x.clone(),
        };
        let y = self.first.forward(x, None, Activation::Relu, mode)?;
        self.second.forward(&y, Some(&shortcut), Activation::Relu, mode)
    }
}
