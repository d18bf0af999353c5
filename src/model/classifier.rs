//! The classifier: backbone → fine logits → activation → coarse logits (method, "Model").

use std::{collections::HashMap, ops::Range, path::Path};

use candle_core::{D, DType, Device, Result, Tensor};

use super::{
    Parameters, WeightsError,
    densenet::{DenseNet, DenseNetConfig},
    efficientnet::{EfficientNet, EfficientNetConfig},
    layers::{Linear, Mode, Prepared},
    loss::log_softmax,
    resnet::{ResNet, ResNetConfig},
    vgg::{Vgg, VggConfig},
};
use crate::{
    domain::{
        RunSpec, Taxonomy,
        spec::{Backbone, CoarseInput},
    },
    exchange::{ScoreActivation, Sha256Hex},
};

/// What fixes the shape of a classifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ModelSpec {
    /// The network before the head.
    pub backbone: Backbone,
    /// What makes probabilities of the fine logits; `None` for a coarse-only model.
    pub activation: Option<ScoreActivation>,
    /// What the coarse layer reads.
    pub coarse_input: CoarseInput,
    /// Number of fine labels.
    pub fine_count: usize,
    /// Number of coarse categories.
    pub coarse_count: usize,
}

impl ModelSpec {
    /// The classifier that a run trains.
    pub fn of(spec: &RunSpec, taxonomy: &Taxonomy) -> Self {
        Self {
            backbone: spec.backbone,
            activation: ScoreActivation::of(spec.objective),
            coarse_input: spec.coarse_input,
            fine_count: taxonomy.fine().len(),
            coarse_count: taxonomy.coarse().len(),
        }
    }
}

/// A backbone without its last linear layer.
#[derive(Clone, Debug)]
pub enum Network {
    /// The dense family.
    Dense(DenseNet),
    /// EfficientNet-Lite.
    Efficient(EfficientNet),
    /// The residual family.
    Residual(ResNet),
    /// The VGG family.
    Vgg(Vgg),
}

impl Network {
    /// A new backbone whose tensors are added to `params`.
    pub fn new(params: &mut Parameters, backbone: Backbone) -> Result<Self> {
        Ok(match backbone {
            Backbone::VggTiny => Self::Vgg(Vgg::new(params, VggConfig::TINY)?),
            Backbone::ResNetTiny => Self::Residual(ResNet::new(params, ResNetConfig::TINY)?),
            Backbone::DenseNetTiny => Self::Dense(DenseNet::new(params, DenseNetConfig::TINY)?),
            Backbone::Vgg16 => Self::Vgg(Vgg::new(params, VggConfig::VGG16)?),
            Backbone::ResNet34 => Self::Residual(ResNet::new(params, ResNetConfig::RESNET34)?),
            Backbone::DenseNet121 => Self::Dense(DenseNet::new(params, DenseNetConfig::DENSENET121)?),
            Backbone::EfficientNetLite0 => Self::Efficient(EfficientNet::new(params, EfficientNetConfig::LITE0)?),
            Backbone::EfficientNetLite0Timm => {
                Self::Efficient(EfficientNet::new(params, EfficientNetConfig::LITE0_TIMM)?)
            }
        })
    }

    /// Width of the feature vector.
    pub fn features(&self) -> usize {
        match self {
            Self::Dense(net) => net.features(),
            Self::Efficient(net) => net.features(),
            Self::Residual(net) => net.features(),
            Self::Vgg(net) => net.features(),
        }
    }

    /// What some layer groups make of the output of those before them: of normalised pixels `[n, 3, s, s]`, if there are
    /// none. The last one makes features `[n, features]`.
    pub fn forward(&self, groups: Range<usize>, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        groups.into_iter().try_fold(x.clone(), |x, group| self.group(group, &x, mode))
    }

    fn group(&self, index: usize, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        match self {
            Self::Dense(net) => net.group(index, x, mode),
            Self::Efficient(net) => net.group(index, x, mode),
            Self::Residual(net) => net.group(index, x, mode),
            Self::Vgg(net) => net.group(index, x, mode),
        }
    }

    /// Whether a tensor of such a file belongs to the last layer, which the head replaces, or is a counter that
    /// nothing here reads.
    pub(crate) fn ignores(&self, name: &str) -> bool {
        name.ends_with(".num_batches_tracked")
            || match self {
                Self::Dense(_) => name.starts_with("classifier."),
                Self::Efficient(_) => name.starts_with("_fc."),
                Self::Residual(_) => name.starts_with("fc."),
                Self::Vgg(_) => name.starts_with("classifier.6."),
            }
    }
}

/// A backbone with its head. Cloning shares the tensors.
#[derive(Clone, Debug)]
pub struct Classifier {
    spec: ModelSpec,
    network: Network,
    head: Head,
    params: Parameters,
    /// How many layer groups the backbone has.
    groups: usize,
}

#[derive(Clone, Debug)]
enum Head {
    TwoLevel { fine: Linear, activation: ScoreActivation, coarse: Linear },
    CoarseOnly { coarse: Linear },
}

/// Logits of one batch.
#[derive(Clone, Debug)]
pub struct Output {
    /// z: `[n, fine]`; `None` for a coarse-only model.
    pub fine: Option<Tensor>,
    /// `[n, coarse]`.
    pub coarse: Tensor,
}

impl Output {
    /// Its values.
    pub fn logits(&self) -> Result<Logits> {
        let rows = |tensor: &Tensor| tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1();
        Ok(Logits { fine: self.fine.as_ref().map(rows).transpose()?, coarse: rows(&self.coarse)? })
    }
}

/// Logits of some images, row-major.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Logits {
    /// `[n, fine]`; `None` for a coarse-only model.
    pub fine: Option<Vec<f32>>,
    /// `[n, coarse]`.
    pub coarse: Vec<f32>,
}

impl Classifier {
    /// A classifier with weights drawn from `seed`. Its tensors bear torchvision's names, the head's are `fine.*` and
    /// `coarse.*`.
    pub fn new(spec: ModelSpec, seed: u64, dtype: DType, device: &Device) -> Result<Self> {
        let mut params = Parameters::new(seed, dtype, device);
        let network = Network::new(&mut params, spec.backbone)?;
        Self::with_network(spec, network, params)
    }

    /// The head on a backbone of any size. `params` are those of `network`; `spec.backbone` is not looked at.
    pub fn with_network(spec: ModelSpec, network: Network, mut params: Parameters) -> Result<Self> {
        let features = network.features();
        let groups = params.groups().count();
        params.end_groups();
        let head = match spec.activation {
            Some(activation) => {
                let fine = Linear::new(&mut params, "fine", features, spec.fine_count)?;
                if activation == ScoreActivation::Sigmoid && spec.fine_count > 1 {
                    // A label starts as improbable as one of `fine_count` equally probable ones, or the first epochs
                    // would be spent on learning that most labels are absent (Lin et al. 2017, section 4.1).
                    fine.fill_bias(-((spec.fine_count - 1) as f64).ln())?;
                }
                let coarse = Linear::new(&mut params, "coarse", spec.fine_count, spec.coarse_count)?;
                Head::TwoLevel { fine, activation, coarse }
            }
            None => Head::CoarseOnly { coarse: Linear::new(&mut params, "coarse", features, spec.coarse_count)? },
        };
        Ok(Self { spec, network, head, params, groups })
    }

    /// Normalised pixels `[n, 3, s, s]` to logits. In training the mode's tape ends at the features; the head is in candle's
    /// graph.
    pub fn forward(&self, pixels: &Tensor, mode: Mode<'_>) -> Result<Output> {
        self.forward_after(0, pixels, mode)
    }

    /// The same from what the first `groups` layer groups of the backbone made.
    pub fn forward_after(&self, groups: usize, x: &Tensor, mode: Mode<'_>) -> Result<Output> {
        let features = self.through(groups..self.groups, x, mode)?;
        let features = match mode.tape() {
            Some(tape) => tape.output(&features)?,
            None => features,
        };
        match &self.head {
            Head::CoarseOnly { coarse } => Ok(Output { fine: None, coarse: coarse.forward_in_graph(&features, mode)? }),
            Head::TwoLevel { fine, activation, coarse } => {
                let logits = fine.forward_in_graph(&features, mode)?;
                let input = match self.spec.coarse_input {
                    CoarseInput::Logits => logits.clone(),
                    CoarseInput::Probabilities => probabilities(&logits, *activation)?,
                };
                Ok(Output { fine: Some(logits), coarse: coarse.forward_in_graph(&input, mode)? })
            }
        }
    }

    /// [`Network::forward`] of its backbone.
    pub fn through(&self, groups: Range<usize>, x: &Tensor, mode: Mode<'_>) -> Result<Tensor> {
        self.network.forward(groups, x, mode)
    }

    /// Images as its input: `[n, 3, side, side]`, row-major, normalised.
    pub fn pixels(&self, values: Vec<f32>, side: usize) -> Result<Tensor> {
        let n = values.len() / (3 * side * side).max(1);
        Tensor::from_vec(values, (n, 3, side, side), self.params.device())?.to_dtype(self.params.dtype())
    }

    /// How many layer groups the backbone has.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// It with its weights prepared for inference. They must not change as long as the predictor is used.
    pub fn predictor(&self) -> Predictor {
        Predictor { model: self.clone(), prepared: Prepared::default() }
    }

    /// What fixes its shape.
    pub fn spec(&self) -> ModelSpec {
        self.spec
    }

    /// Its tensors.
    pub fn params(&self) -> &Parameters {
        &self.params
    }

    /// W (`[coarse, fine]`) and b (`[coarse]`) of the layer from the fine to the coarse level; `None` for a coarse-only
    /// model.
    pub fn coarse_layer(&self) -> Result<Option<(Vec<f32>, Vec<f32>)>> {
        match &self.head {
            Head::CoarseOnly { .. } => Ok(None),
            Head::TwoLevel { coarse, .. } => {
                let values = |tensor: Tensor| tensor.flatten_all()?.to_dtype(DType::F32)?.to_vec1();
                Ok(Some((values(coarse.weight())?, values(coarse.bias())?)))
            }
        }
    }

    /// Writes all weights as float32 safetensors.
    pub fn save(&self, path: &Path) -> std::result::Result<Sha256Hex, WeightsError> {
        self.params.save(path)
    }

    /// A classifier with the weights of a file that [`save`](Self::save) wrote.
    pub fn load(spec: ModelSpec, path: &Path, device: &Device) -> std::result::Result<Self, WeightsError> {
        let model = Self::new(spec, 0, DType::F32, device)
            .map_err(|source| WeightsError::Read { path: path.into(), source })?;
        model.params.load(path)?;
        Ok(model)
    }

    /// Replaces the backbone's weights by the `tensors` of a file, which has them by the names that they have here
    /// ([`crate::weights::read`]). Its last layer is ignored: the head stays as it was drawn.
    pub fn load_backbone(
        &self,
        path: &Path,
        tensors: HashMap<String, Tensor>,
    ) -> std::result::Result<(), WeightsError> {
        let head = |name: &str| name.starts_with("fine.") || name.starts_with("coarse.");
        self.params.replace_some(path, tensors, |name| !head(name), |name| self.network.ignores(name))
    }
}

/// A classifier that only infers: its weights stay, so that batch norms are folded into convolutions, once.
#[derive(Debug)]
pub struct Predictor {
    model: Classifier,
    prepared: Prepared,
}

impl Predictor {
    /// The logits of images. `pixels`: `[n, 3, side, side]`, row-major, normalised.
    pub fn logits(&self, pixels: Vec<f32>, side: usize) -> Result<Logits> {
        let pixels = self.model.pixels(pixels, side)?;
        self.model.forward(&pixels, Mode::Infer(&self.prepared))?.logits()
    }

    /// Multiplications and additions of the backbone's convolutions and linear layers so far, as their definitions count them.
    pub fn multiply_adds(&self) -> u64 {
        self.prepared.multiply_adds()
    }

    /// The classifier.
    pub fn classifier(&self) -> &Classifier {
        &self.model
    }
}

/// Softmax or sigmoid of `[n, fine]`, with finite gradients everywhere.
fn probabilities(logits: &Tensor, activation: ScoreActivation) -> Result<Tensor> {
    match activation {
        ScoreActivation::Softmax => log_softmax(logits)?.exp(),
        // softmax over the pair (logit, 0).
        ScoreActivation::Sigmoid => {
            let pair = Tensor::stack(&[logits, &logits.zeros_like()?], D::Minus1)?;
            log_softmax(&pair)?.narrow(D::Minus1, 0, 1)?.squeeze(D::Minus1)?.exp()
        }
    }
}
