//! Files by which a worker and its server find each other, also when the server is a new one.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::domain::AttemptId;

/// `server.json` in the data directory: the server that has it, or had it last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRecord {
    /// Where pages and API are served.
    pub url: String,
    /// Where workers report.
    pub workers: String,
    /// The machine's name.
    pub host: String,
    /// The process's number.
    pub process: u32,
    /// The program's version.
    pub version: String,
    /// RFC 3339.
    pub started_at: String,
}

impl ServerRecord {
    /// In a data directory.
    pub fn path(data_dir: &Path) -> PathBuf {
        data_dir.join("server.json")
    }
}

/// What the server leaves for the worker of an attempt, for the eyes of this user alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Assignment {
    /// The attempt.
    pub attempt: AttemptId,
    /// Proves that the process is the attempt's.
    pub token: String,
    /// Where the server is, and where it says so when it has moved.
    pub server: PathBuf,
    /// How long it goes on without a server, in seconds.
    pub patience: u64,
}

/// Reads one of these files.
pub fn read<T: DeserializeOwned>(path: &Path) -> io::Result<T> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

/// Writes a file whole or not at all; other users cannot read it.
pub fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("."));
    // A temporary file is its user's alone.
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.persist(path).map(drop).map_err(|error| error.error)
}
