//! Looks at the image files of an imported split.

use std::path::Path;

use rayon::prelude::*;

use super::{ImportError, ImportedImage, Meter};
use crate::dataset::decode;

/// Checks that every image is a file in `directory` and, with `verify`, that it decodes.
pub(super) fn check(
    directory: &Path,
    images: &[ImportedImage],
    verify: bool,
    meter: &Meter<'_>,
) -> Result<(), ImportError> {
    if let Err(error) = directory.read_dir() {
        return Err(ImportError::Unreadable { path: directory.to_owned(), error });
    }
    let absent = |image: &&ImportedImage| {
        if !verify {
            meter.add(1);
        }
        !directory.join(&image.file_name).is_file()
    };
    let missing: Vec<&ImportedImage> = images.par_iter().filter(absent).collect();
    if let Some(first) = missing.first() {
        return Err(ImportError::MissingImages {
            directory: directory.to_owned(),
            missing: missing.len(),
            kept: images.len(),
            first: first.file_name.clone(),
        });
    }
    if !verify {
        return Ok(());
    }
    let failure = |image: &ImportedImage| {
        let decoded = decode::open(&directory.join(&image.file_name));
        meter.add(1);
        decoded.err()
    };
    let mut failures: Vec<_> = images.par_iter().filter_map(failure).collect();
    let undecodable = failures.len();
    if undecodable == 0 {
        return Ok(());
    }
    Err(ImportError::UndecodableImages { undecodable, kept: images.len(), first: failures.swap_remove(0) })
}
