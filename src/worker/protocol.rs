//! What worker and server say to each other.
//!
//! `GET /attempts/{id}/job` → [`Job`]; `POST /attempts/{id}/events` takes [`WorkerEvent`]s (none is a heartbeat) and answers
//! [`Reply`]; `POST /attempts/{id}/completion` takes a [`Completion`]. Each with `Authorization: Bearer TOKEN`; 409 tells a
//! worker that its attempt does not hold the run any more.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    dataset::TrainingData,
    domain::{EpochPoint, Progress, RunId, RunSpec},
    training::Files,
};

/// The environment variable that carries a worker's token.
pub const TOKEN_VARIABLE: &str = "TWOGRAIN_WORKER_TOKEN";

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// The run.
    pub run: RunId,
    /// What to train.
    pub spec: RunSpec,
    /// Where to leave files; it exists.
    pub directory: PathBuf,
    /// On what.
    pub data: TrainingData,
    /// Where the specification's files are.
    pub files: Files,
}

/// What a worker tells on the way.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WorkerEvent {
    /// How far it is.
    Progress(Progress),
    /// An epoch is done.
    Epoch(EpochPoint),
    /// A line for the log.
    Log {
        /// The line.
        text: String,
    },
}

/// What the server answers to events.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Reply {
    /// Somebody asked for the run to stop.
    pub cancel: bool,
}

/// How the attempt ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "completion", rename_all = "kebab-case")]
pub enum Completion {
    /// It left these files.
    Succeeded {
        /// The epoch whose weights were kept, from 1.
        epoch: u32,
        /// Scores of both splits, and the weights.
        artifacts: Vec<Artifact>,
    },
    /// It cannot be done.
    Failed {
        /// Why, in words.
        error: String,
    },
    /// Somebody asked for the run to stop.
    Canceled,
    /// Somebody asked the process to end: another attempt goes on.
    Released,
}

/// A file that an attempt left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Artifact {
    /// What it is.
    pub kind: ArtifactKind,
    /// Relative to the attempt's directory when a worker names it; absolute when the store does.
    pub path: PathBuf,
    /// Of its content, in hexadecimal.
    pub sha256: String,
}

/// What a file of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactKind {
    /// Scores of the test images.
    ScoresTest,
    /// Scores of the validation images.
    ScoresValidation,
    /// The model's weights.
    Weights,
}

impl ArtifactKind {
    /// As stored and as files are named.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ScoresTest => "scores-test",
            Self::ScoresValidation => "scores-validation",
            Self::Weights => "weights",
        }
    }
}
