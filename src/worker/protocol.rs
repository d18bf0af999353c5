//! What worker and server say to each other.
//!
//! `POST /attempts/{id}/job` takes a [`Hello`] and answers [`Job`]; `POST /attempts/{id}/events` takes a [`News`] and answers
//! [`Reply`]; `POST /attempts/{id}/completion` takes a [`Completion`]. Each with `Authorization: Bearer TOKEN` and the program's
//! version. 403 and 409 tell a worker that its attempt does not hold the run any more, 426 that the server is of another version.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{
    dataset::TrainingData,
    domain::{EpochPoint, Progress, RunId, RunSpec},
    training::Files,
};

/// The header with the program's version: worker and server must be of the same one.
pub const VERSION_HEADER: &str = "twograin-version";

/// This program's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Who a worker is.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Hello {
    /// By what its executor finds it again.
    pub handle: String,
    /// The machine's name.
    pub host: String,
}

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

/// What a worker tells from time to time, also when there is nothing new.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct News {
    /// Whether it has got further since it last told.
    pub progressed: bool,
    /// What happened.
    pub events: Vec<WorkerEvent>,
}

/// What a worker tells on the way. Its log is a file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum WorkerEvent {
    /// How far it is.
    Progress(Progress),
    /// An epoch is done.
    Epoch(EpochPoint),
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
    /// It could not begin: another attempt may.
    Lost {
        /// Why, in words.
        reason: String,
    },
    /// The process has to end, and nobody asked for the run to stop: another attempt goes on.
    Released {
        /// Why, in words.
        reason: String,
    },
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
