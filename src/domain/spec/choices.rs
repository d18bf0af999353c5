//! What is chosen by name: backbone, objective, optimizer, device, …

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

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
        /// The same, padded symmetrically and normalised as PyTorch does: timm's `efficientnet_lite0`.
        EfficientNetLite0Timm = "efficientnet-lite0-timm",
    }
);

impl Backbone {
    /// Its layer groups, from the image to the head: what is frozen and unfrozen together.
    pub fn layer_groups(self) -> &'static [&'static str] {
        match self {
            Self::VggTiny | Self::Vgg16 => &["block1", "block2", "block3", "block4", "block5", "classifier"],
            Self::ResNetTiny | Self::ResNet34 => &["stem", "layer1", "layer2", "layer3", "layer4"],
            Self::DenseNetTiny | Self::DenseNet121 => &["stem", "block1", "block2", "block3", "block4"],
            Self::EfficientNetLite0 | Self::EfficientNetLite0Timm => {
                &["stem", "stage1", "stage2", "stage3", "stage4", "stage5", "stage6", "stage7", "head"]
            }
        }
    }
}

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
    /// Which training images an epoch has.
    #[derive(Default)]
    Sampling, "a sampling" {
        /// Each once.
        #[default]
        Uniform = "uniform",
        /// As many, in which every fine label that occurs has its equal turn (class-aware sampling, Shen et al. 2016).
        LabelBalanced = "label-balanced",
    }
);

named!(
    /// Which epoch's weights a run leaves and evaluates. The test images have no say in it.
    #[derive(Default)]
    Keep, "an epoch to keep" {
        /// The last one's.
        #[default]
        Last = "last",
        /// Those of the lowest loss on the validation split; of equals, the first.
        BestLoss = "best-loss",
        /// Those of the highest coarse accuracy on the validation split; of equals, of the lower loss.
        BestCoarseAccuracy = "best-coarse-accuracy",
        /// Those of the highest IA on the validation split under the run's own rule; of equals, of the lower
        /// loss.
        BestIa = "best-ia",
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
        /// The same, then brightness, contrast and saturation times 0.6 to 1.4 each.
        CropFlipJitter = "crop-flip-jitter",
    }
);

/// Where a run computes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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
