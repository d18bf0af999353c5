//! Labelled images on disk: importing them, splitting them, and turning them into tensors.
//!
//! [`coco::import`] reads COCO instances files and keeps what the two-level rule allows; [`validation_split`] divides train, and
//! [`label_balanced`] draws an epoch from it. A [`loader::Loader`] decodes and transforms the images into batches; a single
//! upload goes through [`transform::test_tensor`], the same path. Knows nothing of where a data set is recorded.

pub mod coco;
pub mod decode;
pub mod loader;
mod random;
mod sampling;
pub mod scenes;
mod split;
pub mod transform;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::domain::{CoarseId, LabelSet, Taxonomy};

pub use loader::{Batch, LoadError, Loader, LoaderConfig, shuffle};
pub use sampling::label_balanced;
pub use split::validation_split;

/// One labelled image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// The image's id in the file it was imported from.
    pub source_id: i64,
    /// The image file.
    pub path: PathBuf,
    /// All of its fine labels, public ones included.
    pub labels: LabelSet,
    /// The category that its non-public labels share.
    pub coarse: CoarseId,
}

/// What a run learns from and is tested on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrainingData {
    /// What the labels of the samples mean.
    pub taxonomy: Taxonomy,
    /// The samples to learn from; [`validation_split`] takes its part from them.
    pub train: Vec<Sample>,
    /// The samples of the final evaluation.
    pub test: Vec<Sample>,
}
