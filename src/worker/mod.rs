//! The child process that does one attempt at a run: it asks the server what to do, trains, and tells how it goes.
//!
//! It talks to the server over HTTP alone, with the token of its own attempt; scores and weights it leaves as files in the
//! attempt's directory.

mod client;
pub mod protocol;
mod reporter;
mod terminate;

use std::{io::Read, ops::ControlFlow, path::Path, process, sync::Arc, thread};

use candle_core::Device;

use crate::{
    domain::{RunSpec, Split, spec},
    training::{self, Fit, Trained},
    weights,
};
use client::{Client, ClientError};
use protocol::{Artifact, ArtifactKind, Completion, Job};
use reporter::Reporter;

/// How a worker finds its work.
#[derive(Clone, Debug)]
pub struct WorkerConfig {
    /// The server's worker listener, such as `http://127.0.0.1:40123`.
    pub server: String,
    /// The attempt.
    pub attempt: crate::domain::AttemptId,
    /// Proves that this process is the attempt's.
    pub token: String,
    /// End when standard input does, which the server holds open: no worker outlives its server.
    pub end_with_stdin: bool,
}

/// Does the attempt and reports its end. An error means that the server could not be told.
pub fn run(config: WorkerConfig) -> Result<(), String> {
    if config.end_with_stdin {
        thread::spawn(|| {
            // Whatever comes, only the end matters.
            while std::io::stdin().read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
            process::exit(3);
        });
    }
    let terminated = terminate::flag().map_err(|error| format!("SIGTERM cannot be heard: {error}"))?;
    let client = Arc::new(Client::new(&config)?);
    let job = client.job().map_err(|error| error.to_string())?;
    let mut reporter = Reporter::start(client.clone(), terminated);
    let completion = match attempt(&job, &mut reporter) {
        Ok(completion) => completion,
        Err(error) => Completion::Failed { error },
    };
    reporter.finish();
    match client.complete(&completion) {
        // Canceled or given to another attempt meanwhile: there is nobody to tell.
        Ok(()) | Err(ClientError::NotHeld) => Ok(()),
        Err(error @ (ClientError::Unreachable(_) | ClientError::Refused(_))) => Err(error.to_string()),
    }
}

fn attempt(job: &Job, reporter: &mut Reporter) -> Result<Completion, String> {
    rayon::ThreadPoolBuilder::new()
        .num_threads(job.spec.threads)
        .build_global()
        .map_err(|error| format!("{} threads cannot be started: {error}", job.spec.threads))?;
    let device = device(&job.spec)?;
    let (train, test) = (job.data.train.len(), job.data.test.len());
    reporter.log(format!("{} on {}: {train} train and {test} test images", job.spec.backbone, job.spec.device));
    if let (Some(name), Some(path)) = (&job.spec.initial_weights, &job.files.initial_weights) {
        let sha256 = weights::fingerprint(path).map_err(|error| format!("{}: {error}", path.display()))?;
        reporter.log(format!("starts from the weights {name}, SHA-256 {sha256}"));
    }
    let fit = training::fit(&job.spec, &job.data, &job.files, &device, reporter);
    let fit = fit.map_err(|error| error.to_string())?;
    match fit {
        Fit::Stopped if reporter.terminated() => {
            reporter.log("asked to stop: it goes on from here later".into());
            Ok(Completion::Released)
        }
        Fit::Stopped => Ok(Completion::Canceled),
        Fit::Finished(trained) => {
            let artifacts = write(&trained, &job.directory)?;
            let epoch = u32::try_from(trained.epoch).unwrap_or(u32::MAX);
            reporter.log("done".into());
            Ok(Completion::Succeeded { epoch, artifacts })
        }
    }
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
        self.after_step()
    }

    fn after_step(&mut self) -> ControlFlow<()> {
        if self.canceled() || self.terminated() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}
