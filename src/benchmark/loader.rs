//! How fast images are decoded and transformed for training.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::peak_memory;
use crate::{
    dataset::{LoadError, Loader, LoaderConfig, Sample, shuffle},
    domain::{CoarseId, LabelSet, spec::Augmentation},
};

/// One measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct LoaderCase {
    /// What is done to the images.
    pub augmentation: Augmentation,
    /// Images in a batch.
    pub batch: usize,
    /// Side of the square input, in pixels.
    pub input_size: usize,
    /// Threads that decode and transform.
    pub threads: usize,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LoaderRow {
    /// Image files found; each is read several times.
    pub files: usize,
    /// What was done to the images.
    pub augmentation: Augmentation,
    /// Images in a batch.
    pub batch: usize,
    /// Side of the square input, in pixels.
    pub input_size: usize,
    /// Threads that decoded and transformed.
    pub threads: usize,
    /// Over whole epochs after a first one.
    pub images_per_second: f64,
    /// The largest resident memory of the process, in MiB; `None` where the system does not say.
    pub peak_memory_mb: Option<f64>,
}

/// Why nothing was measured.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoaderBenchError {
    /// A directory cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The directory.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// There is no image.
    #[error("{}: there is no .jpg, .jpeg, .png or .webp file in it or in its folders", path.display())]
    Empty {
        /// The directory.
        path: PathBuf,
    },
    /// An image cannot be loaded.
    #[error(transparent)]
    Load(#[from] LoadError),
}

/// Loads the images of a directory and its folders epoch by epoch for about `duration`, after an epoch that fills the system's
/// file cache.
///
/// # Errors
/// The directory cannot be read or has no image, and those of the loader.
pub fn measure_loader(directory: &Path, case: LoaderCase, duration: Duration) -> Result<LoaderRow, LoaderBenchError> {
    let mut paths = Vec::new();
    collect(directory, &mut paths)?;
    paths.sort();
    let sample = |path| Sample { source_id: 0, path, labels: LabelSet::default(), coarse: CoarseId(0) };
    let samples: Arc<[Sample]> = paths.into_iter().map(sample).collect();
    if samples.is_empty() {
        return Err(LoaderBenchError::Empty { path: directory.to_owned() });
    }

    let LoaderCase { augmentation, batch, input_size, threads } = case;
    let epoch = |epoch| {
        let config = LoaderConfig {
            input_size,
            augmentation,
            batch_size: batch,
            seed: 0,
            epoch,
            drop_last: false,
            first_batch: 0,
            threads,
        };
        let mut order: Vec<usize> = (0..samples.len()).collect();
        shuffle(&mut order, config.seed, epoch);
        Loader::new(Arc::clone(&samples), order, config)?.try_for_each(|batch| batch.map(drop))
    };
    epoch(0)?;
    let (began, mut epochs) = (Instant::now(), 0);
    while epochs == 0 || began.elapsed() < duration {
        epochs += 1;
        epoch(epochs)?;
    }
    Ok(LoaderRow {
        files: samples.len(),
        augmentation,
        batch,
        input_size,
        threads,
        images_per_second: (epochs as usize * samples.len()) as f64 / began.elapsed().as_secs_f64(),
        peak_memory_mb: peak_memory(),
    })
}

fn collect(directory: &Path, paths: &mut Vec<PathBuf>) -> Result<(), LoaderBenchError> {
    let unreadable = |error| LoaderBenchError::Unreadable { path: directory.to_owned(), error };
    for entry in fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let path = entry.path();
        let is_image =
            |extension: &str| ["jpg", "jpeg", "png", "webp"].contains(&extension.to_ascii_lowercase().as_str());
        if entry.file_type().map_err(unreadable)?.is_dir() {
            collect(&path, paths)?;
        } else if path.extension().and_then(|extension| extension.to_str()).is_some_and(is_image) {
            paths.push(path);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use image::RgbImage;
    use tempfile::TempDir;

    use super::*;

    const CASE: LoaderCase = LoaderCase { augmentation: Augmentation::CropFlip, batch: 2, input_size: 32, threads: 1 };

    #[test]
    fn every_image_of_a_directory_and_its_folders_is_loaded() {
        let directory = TempDir::new().unwrap();
        let error = measure_loader(directory.path(), CASE, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("there is no .jpg"), "{error}");
        fs::create_dir(directory.path().join("more")).unwrap();
        fs::write(directory.path().join("labels.json"), "{}").unwrap();
        for name in ["a.png", "b.JPG", "more/c.jpeg"] {
            RgbImage::new(40, 30).save(directory.path().join(name)).unwrap();
        }
        let row = measure_loader(directory.path(), CASE, Duration::ZERO).unwrap();
        assert_eq!((row.files, row.batch, row.input_size, row.threads), (3, 2, 32, 1));
        assert!(row.images_per_second > 0.0);
        fs::write(directory.path().join("d.png"), "damaged").unwrap();
        let error = measure_loader(directory.path(), CASE, Duration::ZERO).unwrap_err();
        assert!(error.to_string().contains("d.png"), "{error}");
    }
}
