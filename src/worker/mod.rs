//! The child process that does one attempt at a run: it asks the server what to do, trains, and tells how it goes.
//!
//! It talks to the server over HTTP alone, with the token of its own attempt; scores and weights it leaves as files in the
//! attempt's directory.

pub mod address;
mod client;
pub mod process;
pub mod protocol;
mod reporter;
mod terminate;

use std::{
    io::Write,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use candle_core::Device;
use jiff::Timestamp;

use crate::{
    domain::{RunSpec, Split, spec},
    evaluation::EvaluationError,
    training::{self, Fit, Trained, TrainingError},
    weights,
};
use client::{Client, ClientError};
use protocol::{Artifact, ArtifactKind, Completion, Hello, Job};
use reporter::Reporter;

/// The variable that names the job a Slurm worker is.
pub const SLURM_JOB: &str = "SLURM_JOB_ID";

/// Does the attempt of an assignment's `file` and reports its end. An error means that the server could not be told; it finds the
/// result in the attempt's directory.
pub fn run(file: &Path) -> Result<(), String> {
    let terminated = terminate::flag().map_err(|error| format!("SIGTERM cannot be heard: {error}"))?;
    let client = Arc::new(Client::new(file)?);
    let job = match client.job(&hello()) {
        Ok(job) => job,
        // Canceled meanwhile.
        Err(ClientError::NotHeld) => return Ok(()),
        // The run is not at fault, as the end of this process alone would have it.
        Err(error) => {
            let directory = file.parent().unwrap_or(Path::new("."));
            leave(directory, &Completion::Lost { reason: error.to_string() });
            return Err(error.to_string());
        }
    };
    let mut reporter = Reporter::start(client.clone(), terminated);
    let completion = match attempt(&job, &mut reporter) {
        Ok(completion) => completion,
        Err(error) => Completion::Failed { error },
    };
    // Before the last news, which may wait for a server longer than this process has.
    leave(&job.directory, &completion);
    reporter.finish();
    match client.complete(&completion) {
        // Canceled or given to another attempt meanwhile: there is nobody to tell.
        Ok(()) | Err(ClientError::NotHeld) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn leave(directory: &Path, completion: &Completion) {
    if let Err(error) = address::write(&completion_file(directory), completion) {
        log(format!("the result could not be written for a later server: {error}"));
    }
}

/// Where a worker leaves its [`Completion`], below its attempt's directory: the server may be away when it ends.
pub fn completion_file(directory: &Path) -> PathBuf {
    directory.join("completion.json")
}

/// A line of the log, which is this process's standard error.
fn log(text: String) {
    // There is nobody to tell that it cannot be written, as on a full disk.
    let _ = std::io::stderr().write_all(line(&text, Timestamp::now()).as_bytes());
}

/// As the log has it.
pub fn line(text: &str, at: Timestamp) -> String {
    format!("{at:.3} {}\n", text.replace('\n', " "))
}

fn hello() -> Hello {
    let handle = std::env::var(SLURM_JOB).ok();
    let handle = handle.or_else(|| process::identity(std::process::id())).unwrap_or_default();
    Hello { handle, host: process::host() }
}

fn attempt(job: &Job, reporter: &mut Reporter) -> Result<Completion, String> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(job.spec.threads)
        .build_global()
        .map_err(|error| format!("{} threads cannot be started: {error}", job.spec.threads))?;
    let device = device(&job.spec)?;
    let (train, test) = (job.data.train.len(), job.data.test.len());
    log(format!("{} on {}: {train} train and {test} test images", job.spec.backbone, job.spec.device));
    if let (Some(name), Some(path)) = (&job.spec.initial_weights, &job.files.initial_weights) {
        let sha256 = weights::fingerprint(path).map_err(|error| format!("{}: {error}", path.display()))?;
        log(format!("starts from the weights {name}, SHA-256 {sha256}"));
    }
    let fit = training::fit(&job.spec, &job.data, &job.files, &device, reporter);
    match fit.map_err(|error| in_words(&error))? {
        Fit::Stopped => match reporter.released() {
            Some(reason) => {
                log(format!("{reason}; it goes on from here later"));
                Ok(Completion::Released { reason })
            }
            None => Ok(Completion::Canceled),
        },
        Fit::Finished(trained) => {
            let artifacts = write(&trained, &job.directory)?;
            let epoch = u32::try_from(trained.epoch).unwrap_or(u32::MAX);
            log("done".into());
            Ok(Completion::Succeeded { epoch, artifacts })
        }
    }
}

/// Why a run failed, beginning with what kind of reason it is.
fn in_words(error: &TrainingError) -> String {
    let kind = match error {
        TrainingError::NonFinite { .. } => "non-finite loss: ",
        TrainingError::Load(_) | TrainingError::Evaluation(EvaluationError::Load(_)) => "bad data: ",
        TrainingError::Compute(_) | TrainingError::Evaluation(_) if error.to_string().contains("OUT_OF_MEMORY") => {
            "out of memory: "
        }
        TrainingError::TooFewImages(_)
        | TrainingError::Specification(_)
        | TrainingError::NoValidation
        | TrainingError::Weights(_)
        | TrainingError::WeightsFile(_)
        | TrainingError::Checkpoint(_)
        | TrainingError::Compute(_)
        | TrainingError::Evaluation(_) => "",
    };
    format!("{kind}{error}")
}

fn device(spec: &RunSpec) -> Result<Device, String> {
    match spec.device {
        spec::Device::Cpu => Ok(Device::Cpu),
        spec::Device::Cuda(ordinal) => {
            Device::new_cuda(ordinal).map_err(|error| format!("the device {} cannot be used: {error}", spec.device))
        }
    }
}

fn write(trained: &Trained, directory: &Path) -> Result<Vec<Artifact>, String> {
    let mut artifacts = Vec::new();
    for scores in &trained.scores {
        let kind = match scores.split {
            Split::Train => continue,
            Split::Validation => ArtifactKind::ScoresValidation,
            Split::Test => ArtifactKind::ScoresTest,
        };
        let path = format!("{}.safetensors", kind.as_str());
        let sha256 = scores.write(&directory.join(&path)).map_err(|error| error.to_string())?;
        artifacts.push(Artifact { kind, path: path.into(), sha256: sha256.0 });
    }
    let path = "weights.safetensors";
    let sha256 = trained.model.save(&directory.join(path)).map_err(|error| error.to_string())?;
    artifacts.push(Artifact { kind: ArtifactKind::Weights, path: path.into(), sha256: sha256.0 });
    Ok(artifacts)
}

impl training::Observer for Reporter {
    fn on(&mut self, event: training::TrainingEvent) -> ControlFlow<()> {
        self.event(event);
        self.worked()
    }

    fn after_step(&mut self) -> ControlFlow<()> {
        self.worked()
    }
}
