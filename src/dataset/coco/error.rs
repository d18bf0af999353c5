//! What can be wrong with an import.

use std::{io, path::PathBuf};

use thiserror::Error;

use crate::dataset::decode::DecodeError;

/// Why a data set was not imported. The message names the file, the place in it and what is wrong there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The file or directory cannot be opened or read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is not JSON, or not of the shape of a COCO instances file.
    #[error("{}: {error}", file.display())]
    Malformed {
        /// The instances file.
        file: PathBuf,
        /// The entry with line and column.
        error: serde_json::Error,
    },
    /// Its entries contradict each other or the taxonomy.
    #[error("{}: {defect}", file.display())]
    Inconsistent {
        /// The instances file.
        file: PathBuf,
        /// The entry and what is wrong with it.
        defect: Defect,
    },
    /// Kept images are not where they should be.
    #[error("{}: {missing} of {kept} images are missing, the first is {first}", directory.display())]
    MissingImages {
        /// The images directory.
        directory: PathBuf,
        /// How many of the kept images are missing.
        missing: usize,
        /// How many images were kept.
        kept: usize,
        /// The `file_name` of the first missing one, by ascending id.
        first: String,
    },
    /// Kept images do not decode.
    #[error("{undecodable} of {kept} images cannot be decoded, the first is {first}")]
    UndecodableImages {
        /// How many of the kept images do not decode.
        undecodable: usize,
        /// How many images were kept.
        kept: usize,
        /// The first of them, by ascending id, and what is wrong with it.
        first: DecodeError,
    },
}

/// What is wrong with one entry of an instances file.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Defect {
    /// Two entries of a list have one id.
    #[error("{list}[{index}]: its id {id} is already that of {list}[{first}]")]
    DuplicateId {
        /// `images`, `annotations` or `categories`.
        list: &'static str,
        /// The later entry.
        index: usize,
        /// The earlier entry.
        first: usize,
        /// Their id.
        id: i64,
    },
    /// An annotation belongs to no image of the file.
    #[error("annotations[{index}]: the file has no image with its image_id {image_id}")]
    UnknownImage {
        /// The annotation.
        index: usize,
        /// What it names.
        image_id: i64,
    },
    /// An annotation has no category of the file.
    #[error("annotations[{index}]: the file has no category with its category_id {category_id}")]
    UnknownCategory {
        /// The annotation.
        index: usize,
        /// What it names.
        category_id: i64,
    },
    /// A category is not a fine label of the taxonomy.
    #[error("categories[{index}]: the taxonomy “{taxonomy}” has no fine label “{name}”")]
    NotInTaxonomy {
        /// The category.
        index: usize,
        /// Its name.
        name: String,
        /// The taxonomy's name.
        taxonomy: String,
    },
    /// An image is outside the images directory.
    #[error("images[{index}]: its file_name “{file_name}” leads out of the images directory")]
    OutsideDirectory {
        /// The image.
        index: usize,
        /// What it names.
        file_name: String,
    },
}
