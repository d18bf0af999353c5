//! Data sets: taxonomy, funnel and counts.

use serde::Serialize;

use crate::domain::Taxonomy;

/// A data set in a list.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetBrief {
    /// Its name, unique.
    pub name: String,
    /// Whether its images are drawn, not photographed: the built-in demo. Every page that shows it says so.
    pub drawn: bool,
    /// Whether it has labels alone and cannot be trained on.
    pub labels_only: bool,
    /// Training images kept by the rule.
    pub train_images: u64,
    /// Test images kept by the rule.
    pub test_images: u64,
    /// Fine labels of its taxonomy.
    pub fine_labels: usize,
    /// Coarse categories of its taxonomy.
    pub coarse_categories: usize,
    /// Identifies the test set (images and labels): runs are comparable iff theirs is equal.
    pub fingerprint: String,
    /// When it was imported (RFC 3339).
    pub created_at: String,
    /// How many runs use it.
    pub runs: u64,
}

/// A data set in full.
#[derive(Clone, Debug, Serialize)]
pub struct DatasetReport {
    /// The brief.
    #[serde(flatten)]
    pub brief: DatasetBrief,
    /// The funnel of the train annotations.
    pub train_funnel: FunnelReport,
    /// The funnel of the test annotations.
    pub test_funnel: FunnelReport,
    /// Kept images per coarse category, in taxonomy order.
    pub categories: Vec<CategoryCount>,
    /// Kept images per fine label, in taxonomy order.
    pub labels: Vec<LabelCount>,
    /// The taxonomy.
    pub taxonomy: Taxonomy,
}

/// images read → unlabelled → public labels only → several coarse categories → kept.
#[derive(Clone, Debug, Serialize)]
pub struct FunnelReport {
    /// Images in the annotations.
    pub read: u64,
    /// Dropped: without any annotation.
    pub unlabelled: u64,
    /// Dropped: with public labels (person) only.
    pub public_only: u64,
    /// Dropped: with labels of several coarse categories.
    pub several: u64,
    /// Kept.
    pub kept: u64,
}

/// Kept images of one coarse category.
#[derive(Clone, Debug, Serialize)]
pub struct CategoryCount {
    /// The category.
    pub name: String,
    /// In train.
    pub train: u64,
    /// In test.
    pub test: u64,
}

/// Kept images with one fine label.
#[derive(Clone, Debug, Serialize)]
pub struct LabelCount {
    /// The label.
    pub name: String,
    /// Its category; `None` for a public label.
    pub coarse: Option<String>,
    /// In train.
    pub train: u64,
    /// In test.
    pub test: u64,
}
