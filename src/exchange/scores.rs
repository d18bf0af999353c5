//! The score file: what a run's model said about every image of a split, as one safetensors file.
//!
//! | tensor | shape | |
//! |---|---|---|
//! | `image_ids` | `[n]`, int64 | the images' ids in their source |
//! | `coarse_logits` | `[n, coarse]` | |
//! | `fine_logits` | `[n, fine]` | this and the rest only with a two-level head |
//! | `coarse_weight`, `coarse_bias` | `[coarse, fine]`, `[coarse]` | the coarse layer's W and b |
//! | `fine_p05`, `fine_p95` | `[fine]` | percentiles of each fine logit over the training images |
//!
//! Floats are float32. Metadata: `twograin_version` ("1"), `split`, and with a two-level head `activation` and
//! `coarse_input`. Any decision rule, threshold or statistic is computed from this file, without the model.

use std::{
    collections::BTreeMap,
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
};

use safetensors::{Dtype, SafeTensorError, SafeTensors};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::container::{self, Entry, Sha256Hex};
use crate::domain::{
    Split, decision,
    spec::{CoarseInput, Objective},
};

const VERSION: &str = "1";

/// What one model said about every image of one split.
#[derive(Clone, Debug, PartialEq)]
pub struct Scores {
    /// The part of the data set.
    pub split: Split,
    /// The images' ids in their source, one per row. Length `n`.
    pub image_ids: Vec<i64>,
    /// Number of coarse categories.
    pub coarse_count: usize,
    /// `[n, coarse]`, row-major.
    pub coarse_logits: Vec<f32>,
    /// `None` for a coarse-only model.
    pub fine: Option<FineScores>,
}

/// The fine half of [`Scores`], and the layer that leads from it to the coarse half.
#[derive(Clone, Debug, PartialEq)]
pub struct FineScores {
    /// Number of fine labels.
    pub fine_count: usize,
    /// `[n, fine]`, row-major.
    pub logits: Vec<f32>,
    /// What makes probabilities of the logits.
    pub activation: ScoreActivation,
    /// What the coarse layer reads.
    pub coarse_input: CoarseInput,
    /// W of the coarse layer: `[coarse, fine]`, row-major.
    pub weight: Vec<f32>,
    /// b of the coarse layer: `[coarse]`.
    pub bias: Vec<f32>,
    /// 5th percentile of each fine logit over the images trained on: `[fine]`.
    pub p05: Vec<f32>,
    /// 95th percentile of each fine logit over the images trained on: `[fine]`.
    pub p95: Vec<f32>,
}

/// What makes probabilities of fine logits; the same as in the loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ScoreActivation {
    /// One distribution over all fine labels.
    Softmax,
    /// One probability per fine label.
    Sigmoid,
}

/// Why a score file could not be written or read.
#[derive(Debug, Error)]
pub enum ScoreFileError {
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// The score file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Not a safetensors file.
    #[error("{}: not a safetensors file: {source}", path.display())]
    Format {
        /// The score file.
        path: PathBuf,
        /// What the parser said.
        source: SafeTensorError,
    },
    /// Not the file that was recorded.
    #[error("{}: its SHA-256 is {found}, {expected} was recorded", path.display())]
    Hash {
        /// The score file.
        path: PathBuf,
        /// The recorded hash.
        expected: String,
        /// The hash of the file as it is.
        found: Sha256Hex,
    },
    /// A safetensors file, of something else or damaged.
    #[error("{}: {what}", path.display())]
    Content {
        /// The score file.
        path: PathBuf,
        /// What differs from what a score file holds.
        what: String,
    },
}

impl Scores {
    /// Number of images.
    pub fn len(&self) -> usize {
        self.image_ids.len()
    }

    /// Whether there are no images.
    pub fn is_empty(&self) -> bool {
        self.image_ids.is_empty()
    }

    /// The fine logits of image `i`: `[fine]`. `None` for a coarse-only model, and past the last image.
    pub fn fine_row(&self, i: usize) -> Option<&[f32]> {
        let fine = self.fine.as_ref()?;
        fine.logits.chunks_exact(fine.fine_count).nth(i)
    }

    /// The coarse logits of image `i`: `[coarse]`. Panics past the last image, as indexing does.
    pub fn coarse_row(&self, i: usize) -> &[f32] {
        &self.coarse_logits[i * self.coarse_count..][..self.coarse_count]
    }

    /// Writes the file, whole or not at all, and returns its hash: the same scores always have the same.
    pub fn write(&self, path: &Path) -> Result<Sha256Hex, ScoreFileError> {
        self.check().map_err(|what| ScoreFileError::Content { path: path.into(), what })?;
        let (n, coarse) = (self.len(), self.coarse_count);
        let mut entries = vec![
            Entry::i64("image_ids", &self.image_ids),
            Entry::f32("coarse_logits", &[n, coarse], &self.coarse_logits),
        ];
        let mut metadata =
            BTreeMap::from([("twograin_version", VERSION.to_owned()), ("split", self.split.to_string())]);
        if let Some(fine) = &self.fine {
            let count = fine.fine_count;
            entries.extend([
                Entry::f32("fine_logits", &[n, count], &fine.logits),
                Entry::f32("coarse_weight", &[coarse, count], &fine.weight),
                Entry::f32("coarse_bias", &[coarse], &fine.bias),
                Entry::f32("fine_p05", &[count], &fine.p05),
                Entry::f32("fine_p95", &[count], &fine.p95),
            ]);
            metadata.insert("activation", fine.activation.to_string());
            metadata.insert("coarse_input", fine.coarse_input.to_string());
        }
        container::write(path, entries, &metadata).map_err(|source| ScoreFileError::Io { path: path.into(), source })
    }

    /// Reads a file. With `expected_sha` (hexadecimal), refuses any other file.
    pub fn read(path: &Path, expected_sha: Option<&str>) -> Result<Self, ScoreFileError> {
        let bytes = fs::read(path).map_err(|source| ScoreFileError::Io { path: path.into(), source })?;
        // The hash takes as long as all the rest.
        let (found, scores) = rayon::join(|| expected_sha.map(|_| Sha256Hex::of(&bytes)), || Self::parse(path, &bytes));
        if let Some((expected, found)) = expected_sha.zip(found)
            && !found.0.eq_ignore_ascii_case(expected)
        {
            return Err(ScoreFileError::Hash { path: path.into(), expected: expected.into(), found });
        }
        scores
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self, ScoreFileError> {
        let format = |source| ScoreFileError::Format { path: path.into(), source };
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(format)?;
        let file = File {
            tensors: SafeTensors::deserialize(bytes).map_err(format)?,
            metadata: header.metadata().clone().unwrap_or_default().into_iter().collect(),
        };
        let scores = file.scores().map_err(|what| ScoreFileError::Content { path: path.into(), what })?;
        scores.check().map_err(|what| ScoreFileError::Content { path: path.into(), what })?;
        Ok(scores)
    }

    /// Lengths that belong together and finite values; the error names the first tensor that differs.
    fn check(&self) -> Result<(), String> {
        let (n, coarse) = (self.len(), self.coarse_count);
        if coarse == 0 {
            return Err("coarse_logits: there are no categories".into());
        }
        let mut tensors = vec![("coarse_logits", &self.coarse_logits, vec![n, coarse])];
        if let Some(fine) = &self.fine {
            let count = fine.fine_count;
            if count == 0 {
                return Err("fine_logits: there are no fine labels".into());
            }
            tensors.extend([
                ("fine_logits", &fine.logits, vec![n, count]),
                ("coarse_weight", &fine.weight, vec![coarse, count]),
                ("coarse_bias", &fine.bias, vec![coarse]),
                ("fine_p05", &fine.p05, vec![count]),
                ("fine_p95", &fine.p95, vec![count]),
            ]);
        }
        for (name, values, shape) in tensors {
            if values.len() != shape.iter().product::<usize>() {
                return Err(format!("{name}: {} values, shape {shape:?} has others", values.len()));
            }
            // Without a way out of the loop the processor looks at many at once.
            let all_finite = |values: &[f32]| values.iter().fold(true, |all, value| all & value.is_finite());
            if !values.chunks(1 << 12).all(all_finite)
                && let Some(index) = values.iter().position(|value| !value.is_finite())
            {
                return Err(format!("{name}: value {index} is {}", values[index]));
            }
        }
        Ok(())
    }
}

/// A parsed safetensors file.
struct File<'a> {
    tensors: SafeTensors<'a>,
    metadata: BTreeMap<String, String>,
}

impl File<'_> {
    fn scores(&self) -> Result<Scores, String> {
        let version: String = self.value("twograin_version")?;
        if version != VERSION {
            return Err(format!("twograin_version: it is “{version}”, this program reads “{VERSION}”"));
        }
        let split = self.value("split")?;
        let (_, ids) = self.tensor("image_ids", Dtype::I64, &[None])?;
        let image_ids = numbers(ids, i64::from_le_bytes);
        let n = image_ids.len();
        let (coarse_count, coarse_logits) = self.floats("coarse_logits", &[Some(n), None])?;
        let names = self.tensors.names();
        let fine = if names.contains(&"fine_logits") { Some(self.fine(n, coarse_count)?) } else { None };
        let expected = if fine.is_some() { 7 } else { 2 };
        if names.len() != expected {
            return Err(format!("it has {} tensors where a score file has {expected}: {}", names.len(), {
                let mut names = names;
                names.sort_unstable();
                names.join(", ")
            }));
        }
        Ok(Scores { split, image_ids, coarse_count, coarse_logits, fine })
    }

    fn fine(&self, n: usize, coarse: usize) -> Result<FineScores, String> {
        let (fine_count, logits) = self.floats("fine_logits", &[Some(n), None])?;
        let floats = |name, shape: &[usize]| {
            let shape: Vec<_> = shape.iter().copied().map(Some).collect();
            self.floats(name, &shape).map(|(_, values)| values)
        };
        Ok(FineScores {
            fine_count,
            logits,
            activation: self.value("activation")?,
            coarse_input: self.value("coarse_input")?,
            weight: floats("coarse_weight", &[coarse, fine_count])?,
            bias: floats("coarse_bias", &[coarse])?,
            p05: floats("fine_p05", &[fine_count])?,
            p95: floats("fine_p95", &[fine_count])?,
        })
    }

    fn value<T: FromStr<Err: fmt::Display>>(&self, key: &str) -> Result<T, String> {
        let text = self.metadata.get(key).ok_or_else(|| format!("its metadata has no `{key}`"))?;
        text.parse().map_err(|error| format!("{key}: {error}"))
    }

    /// The last dimension and the values of a float32 tensor; `None` in `shape` stands for any size.
    fn floats(&self, name: &str, shape: &[Option<usize>]) -> Result<(usize, Vec<f32>), String> {
        let (last, bytes) = self.tensor(name, Dtype::F32, shape)?;
        Ok((last, numbers(bytes, f32::from_le_bytes)))
    }

    fn tensor(&self, name: &str, dtype: Dtype, shape: &[Option<usize>]) -> Result<(usize, &[u8]), String> {
        let view = self.tensors.tensor(name).map_err(|_| format!("{name}: there is no such tensor"))?;
        if view.dtype() != dtype {
            return Err(format!("{name}: its type is {}, not {dtype}", view.dtype()));
        }
        let found = view.shape();
        let fits = |(&size, &expected): (&usize, &Option<usize>)| expected.is_none_or(|expected| expected == size);
        if found.len() != shape.len() || !found.iter().zip(shape).all(fits) {
            let shape: Vec<_> = shape.iter().map(|d| d.map_or("any".into(), |d| d.to_string())).collect();
            return Err(format!("{name}: its shape is {found:?}, not [{}]", shape.join(", ")));
        }
        Ok((found.last().copied().unwrap_or(0), view.data()))
    }
}

fn numbers<T, const N: usize>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

impl ScoreActivation {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Softmax => "softmax",
            Self::Sigmoid => "sigmoid",
        }
    }

    /// The activation an objective trains; `None` for the coarse-only baseline, which has no fine level.
    pub fn of(objective: Objective) -> Option<Self> {
        match objective {
            Objective::CoarseOnly => None,
            Objective::TopKSoftmax => Some(Self::Softmax),
            Objective::SigmoidThreshold => Some(Self::Sigmoid),
        }
    }

    /// The probabilities of one image's fine logits, in float64.
    pub fn probabilities(self, logits: &[f32]) -> Vec<f64> {
        match self {
            Self::Softmax => decision::softmax(logits),
            Self::Sigmoid => logits.iter().copied().map(decision::sigmoid).collect(),
        }
    }

    /// What a coarse layer that `reads` this is given of one image's fine logits, in float64; `inputs` is written over.
    pub fn coarse_inputs(self, reads: CoarseInput, logits: &[f32], inputs: &mut Vec<f64>) {
        inputs.clear();
        match (reads, self) {
            (CoarseInput::Logits, _) => inputs.extend(logits.iter().copied().map(f64::from)),
            (CoarseInput::Probabilities, Self::Softmax) => decision::softmax_into(logits, inputs),
            (CoarseInput::Probabilities, Self::Sigmoid) => inputs.extend(logits.iter().copied().map(decision::sigmoid)),
        }
    }
}

impl fmt::Display for ScoreActivation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ScoreActivation {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Softmax, Self::Sigmoid]
            .into_iter()
            .find(|activation| activation.as_str() == text)
            .ok_or_else(|| format!("“{text}” is not an activation; they are softmax and sigmoid"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores() -> Scores {
        Scores {
            split: Split::Test,
            image_ids: vec![42, -7, 9_000_000_000],
            coarse_count: 2,
            coarse_logits: vec![0.5, -1.0, 2.0, 3.0, 1e4, -1e4],
            fine: Some(FineScores {
                fine_count: 1,
                logits: vec![1.0, 2.0, -3.5],
                activation: ScoreActivation::Sigmoid,
                coarse_input: CoarseInput::Logits,
                weight: vec![0.25, -0.25],
                bias: vec![0.0, 1.0],
                p05: vec![-3.0],
                p95: vec![1.5],
            }),
        }
    }

    #[test]
    fn a_file_reads_back_equal_and_the_same_scores_have_the_same_hash() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        let hash = scores().write(&a).unwrap();
        assert_eq!(scores().write(&b).unwrap(), hash);
        assert_eq!(Scores::read(&a, Some(&hash.0)).unwrap(), scores());
        let coarse_only = Scores { fine: None, split: Split::Validation, ..scores() };
        coarse_only.write(&a).unwrap();
        assert_eq!(Scores::read(&a, None).unwrap(), coarse_only);
        assert!(matches!(Scores::read(&a, Some(&hash.0)), Err(ScoreFileError::Hash { .. })));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "no temporary file is left");
    }

    #[test]
    fn rows_are_per_image() {
        assert_eq!(scores().coarse_row(1), [2.0, 3.0]);
        assert_eq!(scores().fine_row(2), Some(&[-3.5][..]));
        assert_eq!(scores().fine_row(3), None);
    }

    #[test]
    fn what_differs_is_named() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let refused = |change: &dyn Fn(&mut Scores), expected: &str| {
            let mut scores = scores();
            change(&mut scores);
            let error = scores.write(&path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        refused(&|s| s.coarse_logits[3] = f32::NAN, "coarse_logits: value 3 is NaN");
        refused(&|s| s.image_ids.push(1), "coarse_logits: 6 values, shape [4, 2]");
        refused(&|s| s.fine.as_mut().unwrap().p05.clear(), "fine_p05: 0 values");

        let file = |entries, version: &str| {
            let metadata = BTreeMap::from([("twograin_version", version.into()), ("split", "test".into())]);
            container::write(&path, entries, &metadata).unwrap();
            Scores::read(&path, None).unwrap_err().to_string()
        };
        let ids = || Entry::i64("image_ids", &[1, 2]);
        assert!(file(vec![], "2").contains("this program reads “1”"));
        assert!(file(vec![], "1").contains("image_ids: there is no such tensor"));
        let logits = Entry::f32("coarse_logits", &[3, 1], &[0.0; 3]);
        assert!(file(vec![ids(), logits], "1").contains("coarse_logits: its shape is [3, 1], not [2, any]"));
        let logits = Entry::f32("coarse_logits", &[2, 1], &[0.0; 2]);
        let extra = Entry::f32("fine_p05", &[1], &[0.0]);
        assert!(file(vec![ids(), logits, extra], "1").contains("3 tensors where a score file has 2"));
        fs::write(&path, "{}").unwrap();
        assert!(matches!(Scores::read(&path, None), Err(ScoreFileError::Format { .. })));
    }
}
