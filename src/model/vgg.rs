//! The VGG family (Simonyan & Zisserman 2015), with or without batch normalisation. Names are torchvision's `vgg*_bn` and
//! `vgg*`.
//!
//! Without batch normalisation these stacks hardly learn from random weights in a few epochs, so the small member of the
//! family, which always starts from random weights, has it. VGG16 is the original, without.

use candle_core::{Result, Tensor};
use twograin_ops::{self as ops, Activation, Pool2dConfig};

use super::{
    Parameters,
    layers::{BatchNorm, Conv2d, ConvNorm, ConvShape, Dropout, Linear, Mode},
};

/// One size of the family.
#[derive(Clone, Copy, Debug)]
pub struct VggConfig {
    /// Stages: the widths of their 3×3 convolutions. 2×2 max pooling follows each stage.
    pub stages: &'static [&'static [usize]],
    /// Whether batch normalisation follows each convolution.
    pub batch_norm: bool,
    /// Side of the map that the linear layers read, whatever the input's size.
    pub pooled: usize,
    /// Width of the two linear layers.
    pub hidden: usize,
    /// Dropout after each linear layer.
    pub dropout: f64,
}

impl VggConfig {
    /// For images of about 64 pixels: 0.4 million parameters, 11 million multiply-adds at 64×64.
    pub const TINY: Self =
        Self { stages: &[&[8], &[24], &[48], &[96], &[192]], batch_norm: true, pooled: 1, hidden: 256, dropout: 0.1 };
    /// VGG16: 134 million parameters without its last layer, nine tenths of them in the two linear layers.
    pub const VGG16: Self = Self {
        stages: &[&[64, 64], &[128, 128], &[256, 256, 256], &[512, 512, 512], &[512, 512, 512]],
        batch_norm: false,
        pooled: 7,
        hidden: 4096,
        dropout: 0.5,
    };
}

/// A VGG network without its last linear layer.
#[derive(Clone, Debug)]
pub struct Vgg {
    stages: Vec<Vec<Layer>>,
    pooled: usize,
    linear: [Linear; 2],
    dropout: f64,
    hidden: usize,
}

impl Vgg {
    /// A new network.
    pub fn new(params: &mut Parameters, config: VggConfig) -> Result<Self> {
        let mut index = 0; // in torchvision's list, where convolution, batch norm, ReLU and pooling each count
        let mut input = 3;
        let mut stages = Vec::new();
        for (number, widths) in (1..).zip(config.stages) {
            params.begin_group(format!("block{number}"));
            let mut stage = Vec::new();
            for &output in *widths {
                let shape = ConvShape::new(input, output, 3);
                let conv = Conv2d::new(params, &format!("features.{index}"), shape, true)?;
                stage.push(if config.batch_norm {
                    let norm = BatchNorm::new(params, &format!("features.{}", index + 1), output)?;
                    Layer::Normed(ConvNorm { conv, norm })
                } else {
                    Layer::Plain(conv)
                });
                index += if config.batch_norm { 3 } else { 2 };
                input = output;
            }
            stages.push(stage);
            index += 1;
        }
        let VggConfig { pooled, hidden, dropout, .. } = config;
        params.begin_group("classifier");
        let linear = [
            Linear::before_relu(params, "classifier.0", input * pooled * pooled, hidden)?,
            Linear::before_relu(params, "classifier.3", hidden, hidden)?,
        ];
        Ok(Self { stages, pooled, linear, dropout, hidden })
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        self.hidden
    }

    /// One layer group: the first makes maps of `[n, 3, h, w]`, the linear layers, which are the last, `[n, features]`.
    pub fn group(&self, index: usize, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        if let Some(stage) = self.stages.get(index) {
            let mut x = x.clone();
            for layer in stage {
                x = layer.forward(&x, mode)?;
            }
            return ops::max_pool2d(mode.tape(), &x, Pool2dConfig::new(2, 2, 0));
        }
        let x = ops::adaptive_avg_pool2d(mode.tape(), x, (self.pooled, self.pooled))?;
        let mut x = ops::flatten(mode.tape(), &x)?;
        for (index, linear) in (0..).zip(&self.linear) {
            x = ops::relu(mode.tape(), &linear.forward(&x, mode)?)?;
            x = Dropout { p: self.dropout, index }.forward(&x, mode)?;
        }
        Ok(x)
    }
}

/// A convolution, with or without batch norm, and ReLU.
#[derive(Clone, Debug)]
enum Layer {
    Plain(Conv2d),
    Normed(ConvNorm),
}

impl Layer {
    fn forward(&self, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        match self {
            Self::Plain(conv) => conv.forward(x, Activation::Relu, mode),
            Self::Normed(layer) => layer.forward(x, None, Activation::Relu, mode),
        }
    }
}
