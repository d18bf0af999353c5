//! Data sets: taxonomy, funnel and counts.

use serde::{Deserialize, Serialize};

use crate::{
    dataset::coco::Funnel,
    domain::{LabelSet, Taxonomy},
    store::{DatasetRow, Truths},
};

/// A data set in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
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

impl DatasetBrief {
    /// The brief of a recorded data set.
    pub fn of(row: &DatasetRow) -> Self {
        Self {
            name: row.name.clone(),
            drawn: row.drawn,
            labels_only: row.labels_only,
            train_images: row.train_funnel.kept,
            test_images: row.test_funnel.kept,
            fine_labels: row.taxonomy.fine().len(),
            coarse_categories: row.taxonomy.coarse().len(),
            fingerprint: row.fingerprint.clone(),
            created_at: row.created_at.clone(),
            runs: row.runs,
        }
    }
}

impl DatasetReport {
    /// The report of a recorded data set with these images.
    pub(super) fn of(row: &DatasetRow, train: &Truths, test: &Truths) -> Self {
        let taxonomy = &row.taxonomy;
        let kept = |funnel: &Funnel, index: usize| funnel.kept_per_coarse.get(index).copied().unwrap_or(0);
        let categories = taxonomy
            .coarse()
            .iter()
            .enumerate()
            .map(|(index, name)| CategoryCount {
                name: name.clone(),
                train: kept(&row.train_funnel, index),
                test: kept(&row.test_funnel, index),
            })
            .collect();
        let count = |truths: &Truths| {
            let mut images = vec![0; taxonomy.fine().len()];
            for label in truths.labels.iter().flat_map(LabelSet::iter) {
                images.get_mut(label.index()).into_iter().for_each(|images: &mut u64| *images += 1);
            }
            images
        };
        let labels = taxonomy
            .fine()
            .iter()
            .zip(count(train).into_iter().zip(count(test)))
            .map(|(label, (train, test))| LabelCount {
                name: label.name.clone(),
                coarse: label.parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
                train,
                test,
            })
            .collect();
        Self {
            brief: DatasetBrief::of(row),
            train_funnel: FunnelReport::of(&row.train_funnel),
            test_funnel: FunnelReport::of(&row.test_funnel),
            categories,
            labels,
            taxonomy: taxonomy.clone(),
        }
    }
}

impl FunnelReport {
    fn of(funnel: &Funnel) -> Self {
        let Funnel { read, unlabelled, public_only, several, kept, .. } = *funnel;
        Self { read, unlabelled, public_only, several, kept }
    }
}
