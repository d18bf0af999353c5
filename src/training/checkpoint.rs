//! What a run needs to go on as if it had never been interrupted, bit for bit on a CPU.
//!
//! A checkpoint is one file, `EPOCHS-STEP-SHA256.safetensors`: weights, running statistics, the optimizer's memory, and in its
//! header how far the run is. The weights of the best epoch, where one is kept, are a file of their own, written once for all
//! checkpoints that name it. Each name ends with the hash of the content, so a damaged file shows as such; the last two
//! checkpoints are there, so the one before can take its place. Each attempt has a directory of its own: a worker that was given
//! up cannot damage what its successor writes.
//!
//! No generator has a state that would have to be kept. Every random number is a function of the run's seed and of where the run
//! is: the order and the label-balanced draws of the epoch; augmentation of the epoch, the image and how often it came before in
//! the epoch's order; dropout of the number of the step. Which layer groups are frozen follows from the epoch, and features from
//! the frozen weights, which are in the checkpoint.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use candle_core::Tensor;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::{Optimizer, TrainingEvent, selection::Selection};
use crate::{
    dataset::TrainingData,
    domain::{RunSpec, spec::Keep},
    exchange::{
        Sha256Hex,
        container::{self, Entry, Reader},
    },
    model::{Classifier, Logits, Parameters, parameters::tensor_entry},
};

/// To be raised when a run would go on otherwise than before from the same file.
const FORMAT: u32 = 1;
/// The key of the header's own part.
const CHECKPOINT: &str = "checkpoint";
const COARSE_LOGITS: &str = "kept/coarse_logits";
const FINE_LOGITS: &str = "kept/fine_logits";
/// How many checkpoints there are at a time.
const COPIES: usize = 2;

/// Where a run keeps its checkpoints, and how often it writes one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointFiles {
    /// Of this attempt alone; it is made when needed, in a directory that exists.
    pub directory: PathBuf,
    /// Of earlier attempts at the same run. What is there is deleted when it is not needed any more.
    pub earlier: Vec<PathBuf>,
    /// In the middle of an epoch, after this time.
    pub every: Duration,
}

/// All that changes while a run trains.
#[derive(Debug)]
pub(super) struct State {
    pub model: Classifier,
    pub optimizer: Optimizer,
    pub selection: Selection,
    pub position: Position,
}

/// How far a run is.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Position {
    /// Epochs that are over.
    pub epochs: usize,
    /// Steps done of the next one.
    pub step: usize,
    /// Sum of their losses.
    pub loss: f64,
    /// How long they took.
    pub seconds: f64,
    /// What was reported of the epochs that are over.
    pub ended: Vec<TrainingEvent>,
}

/// The part of a checkpoint that is not tensors.
#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    program: String,
    run: Sha256Hex,
    position: Position,
    optimizer_steps: Vec<i32>,
    /// The bits of the best score, which may be infinite.
    best: Option<[u64; 2]>,
    kept_epoch: usize,
    /// The file of the kept weights, beside this one.
    kept_weights: Option<String>,
}

/// Why a checkpoint is not gone on from.
#[derive(Debug, Error)]
enum Refusal {
    #[error("it is damaged")]
    Damaged,
    #[error("it cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("version {0} of twograin wrote it, and this one may compute otherwise")]
    Version(String),
    #[error("it belongs to another specification or other images")]
    Other,
}

/// The checkpoints of a run.
#[derive(Debug)]
pub(super) struct Checkpoints {
    files: CheckpointFiles,
    /// Of the specification and the images learned from.
    run: Sha256Hex,
    last: Instant,
    /// Epochs and step of the newest one.
    saved: (usize, usize),
    /// The one that was gone on from, then those of this attempt, each with the file of kept weights that it names.
    written: Vec<(PathBuf, Option<PathBuf>)>,
    /// The newest file of kept weights, and their epoch.
    kept: Option<(usize, PathBuf)>,
}

impl Checkpoints {
    pub fn new(files: CheckpointFiles, spec: &RunSpec, data: &TrainingData) -> Self {
        let run = identity(spec, data);
        Self { files, run, last: Instant::now(), saved: (0, 0), written: Vec::new(), kept: None }
    }

    /// Whether the newest checkpoint, or the start, is at least so old.
    pub fn older_than(&self, age: Duration) -> bool {
        self.last.elapsed() >= age
    }

    /// The same for the time between two checkpoints in the middle of an epoch.
    pub fn due(&self) -> bool {
        self.older_than(self.files.every)
    }

    /// Writes a checkpoint, unless the newest one is of the same moment, and deletes what it replaces.
    pub fn save(&mut self, state: &State) -> io::Result<()> {
        let moment = (state.position.epochs, state.position.step);
        if moment == self.saved {
            return Ok(());
        }
        // Also after a failure: a full disk is not tried again at every step.
        self.last = Instant::now();
        match fs::create_dir(&self.files.directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let kept = self.save_kept(&state.selection)?;
        let header = Header {
            format: FORMAT,
            program: env!("CARGO_PKG_VERSION").into(),
            run: self.run.clone(),
            position: state.position.clone(),
            optimizer_steps: state.optimizer.steps(),
            best: state.selection.best.map(|best| best.map(f64::to_bits)),
            kept_epoch: state.selection.kept.epoch,
            kept_weights: kept.as_deref().and_then(|path| Some(path.file_name()?.to_str()?.to_owned())),
        };
        let metadata = BTreeMap::from([(CHECKPOINT, serde_json::to_string(&header)?)]);
        let mut entries: Vec<Entry> =
            tensors(state.model.params(), &state.optimizer).map(|(name, var)| tensor_entry(name, var)).collect();
        let Logits { fine, coarse } = &state.selection.kept.logits;
        entries.push(Entry::f32(COARSE_LOGITS, &[coarse.len()], coarse));
        entries.extend(fine.as_ref().map(|fine| Entry::f32(FINE_LOGITS, &[fine.len()], fine)));
        let name = format!("{:05}-{:07}", moment.0, moment.1);
        let path = self.write(entries, &metadata, &name)?;
        self.written.retain(|(other, _)| other != &path);
        self.written.push((path, kept));
        self.saved = moment;
        self.clean();
        Ok(())
    }

    /// The file of the kept weights, which is written when it is not there yet.
    fn save_kept(&mut self, selection: &Selection) -> io::Result<Option<PathBuf>> {
        let Some(weights) = &selection.kept.weights else { return Ok(None) };
        let epoch = selection.kept.epoch;
        if let Some((_, path)) = self.kept.as_ref().filter(|(kept, _)| *kept == epoch) {
            return Ok(Some(path.clone()));
        }
        let entries = weights.iter().map(|(name, tensor)| tensor_entry(name.into(), tensor)).collect();
        let path = self.write(entries, &BTreeMap::new(), &format!("kept-{epoch:05}"))?;
        self.kept = Some((epoch, path.clone()));
        Ok(Some(path))
    }

    fn write(&self, entries: Vec<Entry>, metadata: &BTreeMap<&str, String>, name: &str) -> io::Result<PathBuf> {
        let directory = &self.files.directory;
        let path = |hash: &Sha256Hex| directory.join(format!("{name}-{hash}.safetensors"));
        container::write_named(entries, metadata, directory, path).map(|(path, _)| path)
    }

    /// Deletes what is not needed any more. What cannot be deleted costs space alone.
    fn clean(&mut self) {
        if self.written.len() < COPIES {
            return;
        }
        self.written.drain(..self.written.len() - COPIES);
        let needed = |path: &PathBuf| {
            self.written.iter().any(|(checkpoint, kept)| checkpoint == path || kept.as_ref() == Some(path))
        };
        for directory in self.files.earlier.iter().chain([&self.files.directory]) {
            list(directory).filter(|path| !needed(path)).for_each(|path| drop(fs::remove_file(path)));
        }
        // Of the directories only those go that are empty now.
        self.files.earlier.retain(|directory| fs::remove_dir(directory).is_err());
    }

    /// Goes on from the furthest checkpoint that is whole and of this run, if there is one. Returns why others were not taken;
    /// then `state` may still be what it was.
    pub fn load(&mut self, spec: &RunSpec, state: &mut State) -> Result<Vec<String>, CheckpointError> {
        let directories = std::iter::once(&self.files.directory).chain(&self.files.earlier);
        let mut found: Vec<_> = directories.flat_map(|directory| list(directory)).filter_map(Found::of).collect();
        found.sort_by_key(|found| std::cmp::Reverse(found.moment));
        let mut refused = Vec::new();
        for Found { path, moment, .. } in &found {
            match self.open(path, spec, state) {
                Ok(opened) => {
                    let own = path.parent() == Some(&self.files.directory);
                    let kept = opened.kept.as_ref().map(|(path, _)| path.clone());
                    opened.apply(spec, state).map_err(|source| CheckpointError { path: path.clone(), source })?;
                    // A checkpoint names files beside it alone.
                    self.kept = kept.clone().filter(|_| own).map(|path| (state.selection.kept.epoch, path));
                    self.written.push((path.clone(), kept));
                    self.saved = *moment;
                    break;
                }
                Err(refusal) => refused.push(format!("{}: {refusal}", path.display())),
            }
        }
        Ok(refused)
    }

    /// Looks at everything before anything is changed.
    fn open(&self, path: &Path, spec: &RunSpec, state: &State) -> Result<Opened, Refusal> {
        let file = verified(path)?;
        let header = file.metadata(CHECKPOINT).and_then(|text| serde_json::from_str::<serde_json::Value>(text).ok());
        let header = header.ok_or(Refusal::Damaged)?;
        // Of another version, nothing but its name need be as it is here.
        let program = header["program"].as_str().unwrap_or("unknown").to_owned();
        if (header["format"].as_u64(), &*program) != (Some(FORMAT.into()), env!("CARGO_PKG_VERSION")) {
            return Err(Refusal::Version(program));
        }
        let header: Header = serde_json::from_value(header).map_err(|_| Refusal::Damaged)?;
        if header.run != self.run {
            return Err(Refusal::Other);
        }
        let mut tensors = tensors(state.model.params(), &state.optimizer);
        let fits = tensors.all(|(name, var)| file.shape(&name) == Some(var.dims()));
        let kept = header.kept_weights.as_ref().map(|name| path.with_file_name(name));
        let kept = kept.map(|path| verified(&path).map(|file| (path, file))).transpose()?;
        // Without the kept weights of a run that keeps some, it would go on wrongly.
        let complete = kept.is_some() || spec.keep == Keep::Last || header.kept_epoch == 0;
        if !fits || !complete || header.optimizer_steps.len() != state.optimizer.steps().len() {
            return Err(Refusal::Damaged);
        }
        Ok(Opened { header, file, kept })
    }
}

/// A checkpoint that went wrong while it was taken up.
#[derive(Debug, Error)]
#[error("the checkpoint {}: {source}", path.display())]
pub struct CheckpointError {
    path: PathBuf,
    source: candle_core::Error,
}

/// A checkpoint that is whole and of this run.
struct Opened {
    header: Header,
    file: Reader,
    kept: Option<(PathBuf, Reader)>,
}

impl Opened {
    /// Makes `state` what it was. Never is more than one tensor held twice.
    fn apply(mut self, spec: &RunSpec, state: &mut State) -> candle_core::Result<()> {
        let State { model, optimizer, selection, position } = state;
        let params = model.params();
        for (name, var) in tensors(params, optimizer) {
            var.set(&read(&mut self.file, &name, var)?)?;
        }
        optimizer.set_steps(&self.header.optimizer_steps);
        *position = self.header.position;
        selection.best = self.header.best.map(|best| best.map(f64::from_bits));
        selection.kept.epoch = self.header.kept_epoch;
        let fine = self.file.shape(FINE_LOGITS).is_some();
        selection.kept.logits = Logits {
            fine: fine.then(|| self.file.f32(FINE_LOGITS)).transpose()?,
            coarse: self.file.f32(COARSE_LOGITS)?,
        };
        if let Some((_, mut file)) = self.kept {
            let mut snapshot = params.snapshot(|group| spec.learning_rate_of(group).is_some())?;
            for (name, tensor) in snapshot.iter_mut() {
                *tensor = read(&mut file, name, tensor)?;
            }
            selection.kept.weights = Some(snapshot);
        }
        Ok(())
    }
}

/// A tensor of a file, made as `like` is.
fn read(file: &mut Reader, name: &str, like: &Tensor) -> candle_core::Result<Tensor> {
    Tensor::from_vec(file.f32(name)?, like.dims(), like.device())?.to_dtype(like.dtype())
}

/// A file whose name says that it is a checkpoint.
struct Found {
    path: PathBuf,
    /// Epochs and step.
    moment: (usize, usize),
}

impl Found {
    fn of(path: PathBuf) -> Option<Self> {
        let (epochs, rest) = path.file_stem()?.to_str()?.split_once('-')?;
        let (step, _) = rest.split_once('-')?;
        let moment = (epochs.parse().ok()?, step.parse().ok()?);
        Some(Self { path, moment })
    }
}

/// A file whose content has the hash that its name ends with.
fn verified(path: &Path) -> Result<Reader, Refusal> {
    let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    if !name.ends_with(&container::hash(path)?.0) {
        return Err(Refusal::Damaged);
    }
    Ok(Reader::open(path)?)
}

/// What is in a directory; nothing where there is none.
fn list(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()))
}

/// The tensors of a checkpoint, by their names there.
fn tensors<'a>(
    params: &'a Parameters,
    optimizer: &'a Optimizer,
) -> impl Iterator<Item = (String, &'a candle_core::Var)> {
    let weights = params.iter().map(|(name, var)| (format!("weights/{name}"), var));
    weights.chain(optimizer.memories().map(|(name, var)| (format!("optimizer/{name}"), var)))
}

/// Of all that decides what is learned, but the content of files: the specification, and which images have which labels.
fn identity(spec: &RunSpec, data: &TrainingData) -> Sha256Hex {
    let mut hash = Sha256::new();
    hash.update(spec.text());
    for sample in &data.train {
        hash.update(format!("\n{} {} {:?}", sample.source_id, sample.coarse.0, sample.labels.as_slice()));
    }
    hash.into()
}
