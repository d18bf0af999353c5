//! Imports a data set from COCO instances files: one for train, one for test.
//!
//! A file's categories are matched to the taxonomy's fine labels by *name*; ids and supercategories are the file's own
//! business. An image is kept iff its fine labels without the public ones all have one parent; crowd annotations count.
//! Of an image only `id`, `file_name`, `width` and `height` are needed, of an annotation `id`, `image_id` and `category_id`.

mod error;
mod file;
mod filter;
mod images;

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use serde::{Deserialize, Serialize};

use crate::domain::{CoarseId, LabelSet, Taxonomy};

pub use error::ImportError;
use file::CocoFile;

/// One split to import.
#[derive(Clone, Debug)]
pub struct CocoSource {
    /// The instances file.
    pub annotations: PathBuf,
    /// The directory that the `file_name`s are relative to; without one, the labels alone are imported.
    pub images: Option<PathBuf>,
}

/// How much is checked.
#[derive(Clone, Copy, Debug, Default)]
pub struct ImportOptions {
    /// Decode every kept image, not only look whether it is there.
    pub verify: bool,
    /// Do not look at images at all, even where a source names their directory.
    pub labels_only: bool,
}

/// An image that the rule keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedImage {
    /// The file's id of the image.
    pub source_id: i64,
    /// Relative to the images directory, and inside it.
    pub file_name: String,
    /// In pixels, as the file says.
    pub width: u32,
    /// In pixels, as the file says.
    pub height: u32,
    /// All of its fine labels, public ones included.
    pub labels: LabelSet,
    /// The category that its non-public labels share.
    pub coarse: CoarseId,
}

/// An imported data set. The splits number their images independently: an id may occur in both.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The taxonomy that was given.
    pub taxonomy: Taxonomy,
    /// The split to learn from.
    pub train: ImportedSplit,
    /// The split to test on.
    pub test: ImportedSplit,
}

/// One imported split.
#[derive(Clone, Debug)]
pub struct ImportedSplit {
    /// How many images were read, kept and left out.
    pub funnel: Funnel,
    /// The kept images, by ascending `source_id`.
    pub images: Vec<ImportedImage>,
}

/// What became of the images of one file: `read = unlabelled + public_only + several + kept`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Funnel {
    /// Images in the file.
    pub read: u64,
    /// Left out: no annotation.
    pub unlabelled: u64,
    /// Left out: public labels only.
    pub public_only: u64,
    /// Left out: labels of several categories.
    pub several: u64,
    /// In the data set.
    pub kept: u64,
    /// The kept ones by coarse category.
    pub kept_per_coarse: Vec<u64>,
}

/// How far an import is. Called from several threads; counts never go back within a phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportProgress {
    /// What is being done.
    pub phase: ImportPhase,
    /// Bytes or files done.
    pub done: u64,
    /// Bytes or files in all.
    pub total: u64,
}

/// The phases of an import, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportPhase {
    /// Both instances files are read, at once; counted in bytes.
    Annotations,
    /// The kept images are looked for, or decoded; counted in files.
    Images,
}

/// Receives an import's progress.
pub type OnProgress<'a> = &'a (dyn Fn(ImportProgress) + Sync);

/// Imports a train and a test split under `taxonomy`.
///
/// Memory grows with the number of images and annotations, not with the size of the files.
///
/// # Errors
/// The first thing wrong with a file, with its place; train's error comes first if both files have one.
pub fn import(
    taxonomy: Taxonomy,
    train: &CocoSource,
    test: &CocoSource,
    options: ImportOptions,
    progress: OnProgress<'_>,
) -> Result<Imported, ImportError> {
    let meter = Meter::new(ImportPhase::Annotations, size(train)? + size(test)?, progress);
    let read = |source| read_split(source, &taxonomy, &meter);
    let (train_split, test_split) = rayon::join(|| read(train), || read(test));
    let (train_split, test_split) = (train_split?, test_split?);

    if !options.labels_only {
        let splits =
            [(train, &train_split), (test, &test_split)].map(|(source, split)| (source.images.as_deref(), split));
        let total = splits.iter().filter(|(images, _)| images.is_some()).map(|(_, split)| split.funnel.kept).sum();
        let meter = Meter::new(ImportPhase::Images, total, progress);
        for (directory, split) in splits {
            if let Some(directory) = directory {
                images::check(directory, &split.images, options.verify, &meter)?;
            }
        }
    }
    Ok(Imported { taxonomy, train: train_split, test: test_split })
}

fn size(source: &CocoSource) -> Result<u64, ImportError> {
    let metadata = source.annotations.metadata().map_err(|error| unreadable(&source.annotations, error))?;
    Ok(metadata.len())
}

fn read_split(source: &CocoSource, taxonomy: &Taxonomy, meter: &Meter<'_>) -> Result<ImportedSplit, ImportError> {
    let path = &source.annotations;
    let reader = File::open(path).map_err(|error| unreadable(path, error))?;
    let file = CocoFile::read(Metered { reader, meter }).map_err(|error| match error.io_error_kind() {
        Some(_) => unreadable(path, error.into()),
        None => ImportError::Malformed { file: path.clone(), error },
    })?;
    filter::filter(file, taxonomy).map_err(|defect| ImportError::Inconsistent { file: path.clone(), defect })
}

fn unreadable(path: &Path, error: io::Error) -> ImportError {
    ImportError::Unreadable { path: path.to_owned(), error }
}

/// Counts what is done in one phase and reports about a thousand steps of it.
struct Meter<'a> {
    phase: ImportPhase,
    done: AtomicU64,
    total: u64,
    progress: OnProgress<'a>,
}

impl<'a> Meter<'a> {
    fn new(phase: ImportPhase, total: u64, progress: OnProgress<'a>) -> Self {
        progress(ImportProgress { phase, done: 0, total });
        Self { phase, done: AtomicU64::new(0), total, progress }
    }

    fn add(&self, amount: u64) {
        let before = self.done.fetch_add(amount, Ordering::Relaxed);
        // A file that grows while it is read must not show more than all of it.
        let done = (before + amount).min(self.total);
        let step = self.total / 1000 + 1;
        if before / step != done / step || done == self.total {
            (self.progress)(ImportProgress { phase: self.phase, done, total: self.total });
        }
    }
}

/// A reader whose bytes are counted.
struct Metered<'a, R> {
    reader: R,
    meter: &'a Meter<'a>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        self.meter.add(count as u64);
        Ok(count)
    }
}
