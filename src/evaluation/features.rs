//! What a frozen backbone makes of images: computed once, and kept on disk.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
    time::SystemTime,
};

use candle_core::Tensor;
use rayon::prelude::*;
use safetensors::SafeTensors;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{EvaluationConfig, EvaluationError, test_batches};
use crate::{
    dataset::{LoadError, Sample, decode::DecodeError},
    exchange::{
        Sha256Hex,
        container::{self, Entry},
    },
    model::{Classifier, Mode, Prepared},
};

/// Images whose features share a file.
const CHUNK: usize = 256;
/// Images at once, whatever the run's batches: another number could give other last bits.
const BATCH: usize = 32;
/// To be raised when the same image, weights and input size give other features than before.
const VERSION: u32 = 1;
/// The name of the tensor, and of its hash in the metadata.
const FEATURES: &str = "features";

/// Features on disk. A file's name is the hash of all that its content depends on: the backbone and its weights, input size, device, the
/// bytes of [`CHUNK`] image files, and the number of threads, which decides the last bits. What is there may be deleted at any
/// time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureCache {
    /// Where the files are; it is made when needed.
    pub directory: PathBuf,
    /// What they may take in all; beyond it those go that were not used for longest.
    pub limit_bytes: u64,
}

/// The backbone's features of `samples` under the test transform: `[samples, features]`, row-major. `progress` is told how many
/// are done; `None` if it breaks. A cache that cannot be read or written costs time alone.
pub fn features(
    model: &Classifier,
    samples: &Arc<[Sample]>,
    config: EvaluationConfig,
    cache: Option<&FeatureCache>,
    progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
) -> Result<Option<Tensor>, EvaluationError> {
    let config = EvaluationConfig { batch_size: BATCH, ..config };
    let prepared = Prepared::default();
    let weights = cache.map(|_| weights_hash(model)).transpose()?;
    let (mut done, mut values) = (0, Vec::new());
    for start in (0..samples.len()).step_by(CHUNK) {
        let chunk: Vec<usize> = (start..(start + CHUNK).min(samples.len())).collect();
        let place = match (cache, &weights) {
            (Some(cache), Some(weights)) => Some(cache.path(&key((model, weights), samples, &chunk, config)?)),
            (Some(_) | None, Some(_) | None) => None,
        };
        let count = chunk.len();
        match place.as_ref().and_then(|path| read(path, count)) {
            Some(found) => {
                values.extend(found);
                done += count;
                if progress(done).is_break() {
                    return Ok(None);
                }
            }
            None => {
                let first = values.len();
                for batch in test_batches(samples, chunk, config)? {
                    let batch = batch?;
                    done += batch.indices.len();
                    let pixels = model.pixels(batch.pixels, config.input_size)?;
                    let features = model.through(0..model.groups(), &pixels, Mode::Infer(&prepared))?;
                    values.extend(features.flatten_all()?.to_vec1::<f32>()?);
                    if progress(done).is_break() {
                        return Ok(None);
                    }
                }
                if let (Some(cache), Some(path)) = (cache, &place) {
                    // Out of space, for one: the next run computes them again.
                    let _ = cache.write(path, count, &values[first..]);
                }
            }
        }
    }
    let width = values.len() / samples.len().max(1);
    Ok(Some(Tensor::from_vec(values, (samples.len(), width), model.params().device())?))
}

/// Of the backbone's tensors, names and shapes included.
fn weights_hash(model: &Classifier) -> candle_core::Result<Sha256Hex> {
    let params = model.params();
    let mut hash = Sha256::new();
    for (name, var) in params.iter().filter(|(name, _)| params.group_of(name).is_some()) {
        hash.update(format!("{name} {:?}\n", var.dims()));
        let values = var.flatten_all()?.to_dtype(candle_core::DType::F32)?.to_vec1::<f32>()?;
        values.chunks(1 << 14).for_each(|part| {
            hash.update(part.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
        });
    }
    Ok(hash.into())
}

fn key(
    (model, weights): (&Classifier, &Sha256Hex),
    samples: &[Sample],
    chunk: &[usize],
    config: EvaluationConfig,
) -> Result<Sha256Hex, LoadError> {
    let content = |&index: &usize| {
        let path = &samples[index].path;
        let bytes = fs::read(path).map_err(|error| DecodeError::Unreadable { path: path.clone(), error });
        bytes.map(|bytes| Sha256Hex::of(&bytes))
    };
    let images = chunk.par_iter().map(content).collect::<Result<Vec<_>, DecodeError>>()?;
    let mut hash = Sha256::new();
    let threads = rayon::current_num_threads();
    let program = env!("CARGO_PKG_VERSION");
    // Networks of the same tensors may differ in what they do with them.
    let (backbone, device) = (model.spec().backbone, model.params().device().location());
    let input = config.input_size;
    hash.update(format!("{program} {VERSION} {backbone} {weights} {input} {threads} {device:?}\n"));
    images.iter().for_each(|image| hash.update(format!("{image}\n")));
    Ok(hash.into())
}

impl FeatureCache {
    fn path(&self, key: &Sha256Hex) -> PathBuf {
        self.directory.join(format!("{key}.safetensors"))
    }

    fn write(&self, path: &Path, count: usize, values: &[f32]) -> io::Result<()> {
        fs::create_dir_all(&self.directory)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let metadata = BTreeMap::from([(FEATURES, Sha256Hex::of(&bytes).0)]);
        let shape = [count, values.len() / count.max(1)];
        container::write(path, vec![Entry::f32(FEATURES, &shape, values)], &metadata)?;
        self.shrink()
    }

    /// Deletes what was not used for longest, until the rest keeps to the limit.
    fn shrink(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            // Another run may have deleted it meanwhile.
            let Ok(metadata) = entry.metadata() else { continue };
            files.push((metadata.modified()?, metadata.len(), entry.path()));
        }
        files.sort();
        let mut total: u64 = files.iter().map(|(_, length, _)| length).sum();
        for (_, length, path) in files {
            if total <= self.limit_bytes {
                break;
            }
            remove(&path)?;
            total -= length;
        }
        Ok(())
    }
}

/// The features of `count` images; `None` if they are not there, or damaged.
fn read(path: &Path, count: usize) -> Option<Vec<f32>> {
    let bytes = fs::read(path).ok()?;
    let (_, header) = SafeTensors::read_metadata(&bytes).ok()?;
    let file = SafeTensors::deserialize(&bytes).ok()?;
    let tensor = file.tensor(FEATURES).ok()?;
    let whole = header.metadata().as_ref()?.get(FEATURES)? == &Sha256Hex::of(tensor.data()).0;
    let &[rows, _] = tensor.shape() else { return None };
    if !whole || rows != count || tensor.dtype() != safetensors::Dtype::F32 {
        return None;
    }
    // What is used stays; a time that cannot be set makes it go a little earlier.
    #[expect(clippy::disallowed_methods, reason = "the age of a file that may go at any time decides no outcome")]
    let _ = File::options().append(true).open(path).and_then(|file| file.set_modified(SystemTime::now()));
    Some(tensor.data().as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}
