//! The specification of a training run: everything that decides its outcomes, in one validated value.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{DecisionRule, Threshold, TopK};

/// A training run's specification. Flat in JSON; every field but the first three has a default. The same specification on
/// the same machine gives the same outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct RunSpec(Fields);

/// The fields of a [`RunSpec`], as they stand in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The data set's name.
    pub dataset: String,
    /// The network before the two-level head.
    pub backbone: Backbone,
    /// What is learned.
    pub objective: Objective,
    /// α of the focal loss (eq. 5).
    #[serde(default = "defaults::focal_alpha")]
    pub focal_alpha: f64,
    /// γ of the focal loss (eq. 5).
    #[serde(default = "defaults::focal_gamma")]
    pub focal_gamma: f64,
    /// θ of the run's own decision rule in the sigmoid mode.
    #[serde(default = "defaults::threshold")]
    pub threshold: Threshold,
    /// What the coarse layer reads.
    #[serde(default)]
    pub coarse_input: CoarseInput,
    /// Side of the square input, in pixels.
    #[serde(default = "defaults::input_size")]
    pub input_size: usize,
    /// Passes over the training images.
    #[serde(default = "defaults::epochs")]
    pub epochs: usize,
    /// Images per step.
    #[serde(default = "defaults::batch_size")]
    pub batch_size: usize,
    /// The optimizer.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The highest learning rate of the schedule.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: f64,
    /// Momentum of SGD (β₁ of AdamW).
    #[serde(default = "defaults::momentum")]
    pub momentum: f64,
    /// How the learning rate goes after the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// Epochs of linear warm-up at the start; fractions are allowed.
    #[serde(default = "defaults::warmup_epochs")]
    pub warmup_epochs: f64,
    /// Weight decay.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// What is done to training images.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Seeds initialisation, validation split, order, augmentation and dropout.
    #[serde(default)]
    pub seed: u64,
    /// CPU threads; 0 means one per core, and is replaced by their number when the run starts.
    #[serde(default)]
    pub threads: usize,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// A safetensors file of backbone weights to start from; without one, the weights are drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<String>,
}

mod defaults {
    use super::Threshold;

    pub fn focal_alpha() -> f64 {
        1.0
    }
    pub fn focal_gamma() -> f64 {
        2.0
    }
    pub fn threshold() -> Threshold {
        Threshold::PAPER
    }
    pub fn input_size() -> usize {
        224
    }
    pub fn epochs() -> usize {
        10
    }
    pub fn batch_size() -> usize {
        32
    }
    pub fn learning_rate() -> f64 {
        0.02
    }
    pub fn momentum() -> f64 {
        0.9
    }
    pub fn warmup_epochs() -> f64 {
        1.0
    }
    pub fn weight_decay() -> f64 {
        1e-4
    }
}

/// Declares an enum whose variants have a name used in JSON, on the command line, in the database and on pages.
macro_rules! named {
    ($(#[$doc:meta])* $name:ident, $noun:literal { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant,)+ }

        impl $name {
            /// Every one, in the order they are shown.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name used everywhere.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl FromStr for $name {
            type Err = String;
            fn from_str(text: &str) -> Result<Self, String> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text).ok_or_else(|| {
                    let names: Vec<_> = Self::ALL.iter().map(|value| value.as_str()).collect();
                    format!("“{text}” is not {}; choose one of {}", $noun, names.join(", "))
                })
            }
        }
    };
}

named!(
    /// A backbone: one of a family at one size.
    Backbone, "a backbone" {
        /// VGG family, under a million parameters.
        VggTiny = "vgg-tiny",
        /// Residual family, under a million parameters.
        ResNetTiny = "resnet-tiny",
        /// Dense family, under a million parameters.
        DenseNetTiny = "densenet-tiny",
        /// VGG16 without batch normalisation (Simonyan & Zisserman 2015) with torchvision's parameter names.
        Vgg16 = "vgg16",
        /// ResNet34 (He et al. 2016) with torchvision's parameter names.
        ResNet34 = "resnet34",
        /// DenseNet121 (Huang et al. 2017) with torchvision's parameter names.
        DenseNet121 = "densenet121",
        /// EfficientNet-Lite0 (Tan & Le 2019) with the parameter names of the `efficientnet-lite-pytorch` package.
        EfficientNetLite0 = "efficientnet-lite0",
    }
);

named!(
    /// What a run learns; it fixes the loss and the run's own decision rule.
    Objective, "an objective" {
        /// The baseline of table 2: one linear layer to the categories, eq. 7 alone. Has no fine scores.
        CoarseOnly = "coarse-only",
        /// Focal loss on softmaxed fine scores (eq. 5) + eq. 7; decided by top-k with the true k.
        TopKSoftmax = "top-k-softmax",
        /// Binary cross-entropy on fine scores (eq. 6) + eq. 7; decided by the threshold θ.
        SigmoidThreshold = "sigmoid-threshold",
    }
);

named!(
    /// What the coarse layer reads.
    #[derive(Default)]
    CoarseInput, "a coarse input" {
        /// The fine probabilities.
        #[default]
        Probabilities = "probabilities",
        /// The fine logits.
        Logits = "logits",
    }
);

named!(
    /// The optimizer.
    #[derive(Default)]
    Optimizer, "an optimizer" {
        /// Stochastic gradient descent with momentum.
        #[default]
        Sgd = "sgd",
        /// Adam with decoupled weight decay.
        AdamW = "adamw",
    }
);

named!(
    /// How the learning rate goes after the warm-up.
    #[derive(Default)]
    Schedule, "a schedule" {
        /// It stays.
        Constant = "constant",
        /// Divided by ten after each third of the epochs.
        Step = "step",
        /// Half a cosine down to zero.
        #[default]
        Cosine = "cosine",
    }
);

named!(
    /// What is done to training images.
    #[derive(Default)]
    Augmentation, "an augmentation" {
        /// Nothing: the test transform.
        None = "none",
        /// Horizontal flip of every other image.
        Flip = "flip",
        /// Random resized crop and horizontal flip.
        #[default]
        CropFlip = "crop-flip",
    }
);

/// Where a run computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Device {
    /// The processor.
    #[default]
    Cpu,
    /// The NVIDIA GPU of this number.
    Cuda(usize),
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

impl FromStr for Device {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            None if text == "cpu" => Ok(Self::Cpu),
            None if text == "cuda" => Ok(Self::Cuda(0)),
            Some(("cuda", ordinal)) => ordinal.parse().map(Self::Cuda).map_err(|_| format!("“{text}” is not a device")),
            Some(_) | None => Err(format!("“{text}” is not a device; choose cpu, or cuda:0, cuda:1, …")),
        }
    }
}

impl TryFrom<String> for Device {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Device> for String {
    fn from(device: Device) -> String {
        device.to_string()
    }
}

impl RunSpec {
    /// The smallest input side, in pixels: a backbone halves it five times.
    pub const MIN_INPUT_SIZE: usize = 32;
    /// The largest input side, in pixels.
    pub const MAX_INPUT_SIZE: usize = 1024;

    /// A specification with every default.
    pub fn new(dataset: impl Into<String>, backbone: Backbone, objective: Objective) -> Self {
        Self(Fields {
            dataset: dataset.into(),
            backbone,
            objective,
            focal_alpha: defaults::focal_alpha(),
            focal_gamma: defaults::focal_gamma(),
            threshold: defaults::threshold(),
            coarse_input: CoarseInput::default(),
            input_size: defaults::input_size(),
            epochs: defaults::epochs(),
            batch_size: defaults::batch_size(),
            optimizer: Optimizer::default(),
            learning_rate: defaults::learning_rate(),
            momentum: defaults::momentum(),
            schedule: Schedule::default(),
            warmup_epochs: defaults::warmup_epochs(),
            weight_decay: defaults::weight_decay(),
            augmentation: Augmentation::default(),
            seed: 0,
            threads: 0,
            device: Device::default(),
            initial_weights: None,
        })
    }

    /// The same with some fields changed, validated again.
    pub fn with(self, change: impl FnOnce(&mut Fields)) -> Result<Self, String> {
        let mut fields = self.0;
        change(&mut fields);
        fields.try_into()
    }

    /// The run's own decision rule: the one of its loss. `None` for the coarse-only baseline, which decides no fine label.
    pub fn own_rule(&self) -> Option<DecisionRule> {
        match self.objective {
            Objective::CoarseOnly => None,
            Objective::TopKSoftmax => Some(DecisionRule::TopK { k: TopK::Oracle }),
            Objective::SigmoidThreshold => Some(DecisionRule::Threshold { threshold: self.threshold }),
        }
    }

    /// The specification without its seed: runs that agree in it form a group.
    pub fn group_key(&self) -> String {
        serde_json::to_string(&Fields { seed: 0, threads: 0, ..self.0.clone() }).unwrap_or_default()
    }
}

impl std::ops::Deref for RunSpec {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl From<RunSpec> for Fields {
    fn from(spec: RunSpec) -> Fields {
        spec.0
    }
}

impl TryFrom<Fields> for RunSpec {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        let check = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        check(!fields.dataset.trim().is_empty(), "dataset: it is empty".into())?;
        let size = fields.input_size;
        let (min, max) = (Self::MIN_INPUT_SIZE, Self::MAX_INPUT_SIZE);
        check((min..=max).contains(&size), format!("input_size: {size} is outside {min} to {max} pixels"))?;
        check((1..=10_000).contains(&fields.epochs), format!("epochs: {} is outside 1 to 10000", fields.epochs))?;
        check(
            (2..=4096).contains(&fields.batch_size),
            format!("batch_size: {} is outside 2 to 4096", fields.batch_size),
        )?;
        check(fields.threads <= 1024, format!("threads: {} is more than 1024", fields.threads))?;
        for (name, value, min, max) in [
            ("focal_alpha", fields.focal_alpha, f64::MIN_POSITIVE, 1e3),
            ("focal_gamma", fields.focal_gamma, 0.0, 20.0),
            ("learning_rate", fields.learning_rate, f64::MIN_POSITIVE, 100.0),
            ("momentum", fields.momentum, 0.0, 0.9999),
            ("warmup_epochs", fields.warmup_epochs, 0.0, fields.epochs as f64),
            ("weight_decay", fields.weight_decay, 0.0, 10.0),
        ] {
            let (shown, exclusive) = if min == f64::MIN_POSITIVE { (0.0, " (exclusive)") } else { (min, "") };
            check((min..=max).contains(&value), format!("{name}: {value} is outside {shown}{exclusive} to {max}"))?;
        }
        if let Some(path) = &fields.initial_weights {
            check(
                !path.trim().is_empty(),
                "initial_weights: it is empty; leave it out to start from random weights".into(),
            )?;
        }
        Ok(Self(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<RunSpec, String> {
        let text = format!(r#"{{"dataset":"coco","backbone":"resnet-tiny","objective":"sigmoid-threshold"{extra}}}"#);
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_but_three_fields_has_a_default_that_round_trips() {
        let spec = parse("").unwrap();
        assert_eq!(spec, RunSpec::new("coco", Backbone::ResNetTiny, Objective::SigmoidThreshold));
        assert_eq!((spec.focal_alpha, spec.focal_gamma, spec.threshold.get(), spec.momentum), (1.0, 2.0, 0.7, 0.9));
        assert_eq!(serde_json::from_str::<RunSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, expected) in [
            (r#","input_size":16"#, "input_size: 16 is outside 32 to 1024"),
            (r#","threshold":1.5"#, "a threshold lies between 0 and 1"),
            (r#","learning_rate":0"#, "learning_rate: 0 is outside 0 (exclusive) to 100"),
            (r#","warmup_epochs":11"#, "warmup_epochs: 11 is outside 0 to 10"),
            (r#","epoch":3"#, "unknown field `epoch`"),
            (r#","device":"tpu""#, "“tpu” is not a device"),
            (r#","optimizer":"adam""#, "unknown variant `adam`"),
        ] {
            let error = parse(extra).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_the_seed_separates_the_runs_of_a_group() {
        assert_eq!(parse(r#","seed":1"#).unwrap().group_key(), parse(r#","seed":2"#).unwrap().group_key());
        assert_ne!(parse(r#","epochs":1"#).unwrap().group_key(), parse(r#","epochs":2"#).unwrap().group_key());
    }
}
