//! The HTTP client of the server's worker endpoints, which follows a server that moves.

use std::{
    path::{Path, PathBuf},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use reqwest::{
    StatusCode,
    blocking::{RequestBuilder, Response},
};
use serde::Serialize;

use super::{
    address::{self, Assignment, ServerRecord},
    protocol::{Completion, Hello, Job, News, Reply, VERSION, VERSION_HEADER},
};

/// How long a server that is there and cannot do what it is asked, such as for a full disk, is asked again.
const TROUBLE: Duration = Duration::from_secs(600);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(20);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(300);

pub(super) struct Client {
    http: reqwest::blocking::Client,
    assignment: Assignment,
    /// Where the server was last.
    server: Mutex<String>,
    lost: AtomicBool,
}

/// Why the server did not take a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the server was not to be found for {} s: {error}", .patience.as_secs())]
    Unreachable { patience: Duration, error: String },
    #[error("the attempt does not hold its run any more")]
    NotHeld,
    #[error("{0}")]
    Foreign(String),
    #[error("the server refused: {0}")]
    Refused(String),
}

impl Client {
    /// `file`: what the server left for this worker.
    pub fn new(file: &Path) -> Result<Self, String> {
        let wrong = |path: &Path, error: std::io::Error| format!("{}: {error}", path.display());
        let assignment: Assignment = address::read(file).map_err(|error| wrong(file, error))?;
        let record: ServerRecord =
            address::read(&assignment.server).map_err(|error| wrong(&assignment.server, error))?;
        let http = reqwest::blocking::Client::builder()
            .timeout(CALL)
            .no_proxy()
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        Ok(Self { http, assignment, server: Mutex::new(record.workers), lost: AtomicBool::new(false) })
    }

    pub fn job(&self, hello: &Hello) -> Result<Job, ClientError> {
        read(self.post("job", hello)?)
    }

    pub fn tell(&self, news: &News) -> Result<Reply, ClientError> {
        read(self.post("events", news)?)
    }

    pub fn complete(&self, completion: &Completion) -> Result<(), ClientError> {
        self.post("completion", completion).map(drop)
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        let path = format!("attempts/{}/{path}", self.assignment.attempt);
        self.call(|server| self.http.post(format!("{}/{path}", server.trim_end_matches('/'))).json(body))
    }

    fn call(&self, request: impl Fn(&str) -> RequestBuilder) -> Result<Response, ClientError> {
        let patience = Duration::from_secs(self.assignment.patience);
        let start = Instant::now();
        let mut answered = start;
        loop {
            let server = self.server().clone();
            let request = request(&server).bearer_auth(&self.assignment.token).header(VERSION_HEADER, VERSION);
            match request.send() {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if response.status() == StatusCode::UPGRADE_REQUIRED => {
                    return Err(ClientError::Foreign(response.text().unwrap_or_default()));
                }
                Ok(response) if response.status().is_client_error() => {
                    // Another program may have taken the port of a server that has moved.
                    if !self.moved() {
                        return Err(match response.status() {
                            StatusCode::CONFLICT | StatusCode::FORBIDDEN => ClientError::NotHeld,
                            _ => ClientError::Refused(response.text().unwrap_or_default()),
                        });
                    }
                }
                Ok(response) if start.elapsed() > TROUBLE => {
                    return Err(ClientError::Refused(response.text().unwrap_or_default()));
                }
                Ok(_) => answered = Instant::now(),
                Err(error) if answered.elapsed() > patience || self.lost.load(Ordering::Relaxed) => {
                    // Whoever calls next need not wait as long again.
                    self.lost.store(true, Ordering::Relaxed);
                    return Err(ClientError::Unreachable { patience, error: error.to_string() });
                }
                Err(_) => {}
            }
            self.moved();
            thread::sleep(PAUSE);
        }
    }

    /// Whether the server says that it is at another address than the last one.
    fn moved(&self) -> bool {
        let path: &PathBuf = &self.assignment.server;
        match address::read::<ServerRecord>(path) {
            Ok(record) if record.workers != *self.server() => {
                *self.server() = record.workers;
                true
            }
            // It is replaced as a whole; a file system that is away comes back.
            Ok(_) | Err(_) => false,
        }
    }

    fn server(&self) -> MutexGuard<'_, String> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn read<T: serde::de::DeserializeOwned>(response: Response) -> Result<T, ClientError> {
    response.json().map_err(|error| ClientError::Refused(error.to_string()))
}
