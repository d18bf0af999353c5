//! The HTTP client of the server's worker endpoints.

use std::{
    thread,
    time::{Duration, Instant},
};

use reqwest::{
    StatusCode,
    blocking::{RequestBuilder, Response},
};
use serde::Serialize;

use super::{
    WorkerConfig,
    protocol::{Completion, Job, Reply, WorkerEvent},
};

/// How long a server that does not answer is asked again: it may be suspended, or its disk may stall. One that has ended takes
/// its workers with it.
const PATIENCE: Duration = Duration::from_secs(600);

pub(super) struct Client {
    http: reqwest::blocking::Client,
    base: String,
    token: String,
}

/// Why the server did not take a call.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    #[error("the server does not answer: {0}")]
    Unreachable(reqwest::Error),
    #[error("the attempt does not hold its run any more")]
    NotHeld,
    #[error("the server refused: {0}")]
    Refused(String),
}

impl Client {
    pub fn new(config: &WorkerConfig) -> Result<Self, String> {
        let http = reqwest::blocking::Client::builder()
            .timeout(Duration::from_secs(60))
            .no_proxy()
            .build()
            .map_err(|error| format!("no HTTP client: {error}"))?;
        let base = format!("{}/attempts/{}", config.server.trim_end_matches('/'), config.attempt);
        Ok(Self { http, base, token: config.token.clone() })
    }

    pub fn job(&self) -> Result<Job, ClientError> {
        let response = self.call(|| self.http.get(format!("{}/job", self.base)))?;
        response.json().map_err(ClientError::Unreachable)
    }

    pub fn events(&self, events: &[WorkerEvent]) -> Result<Reply, ClientError> {
        self.post("events", &events)?.json().map_err(ClientError::Unreachable)
    }

    pub fn complete(&self, completion: &Completion) -> Result<(), ClientError> {
        self.post("completion", completion).map(drop)
    }

    fn post(&self, path: &str, body: &impl Serialize) -> Result<Response, ClientError> {
        self.call(|| self.http.post(format!("{}/{path}", self.base)).json(body))
    }

    fn call(&self, request: impl Fn() -> RequestBuilder) -> Result<Response, ClientError> {
        let start = Instant::now();
        loop {
            match request().bearer_auth(&self.token).send() {
                Ok(response) if response.status().is_success() => return Ok(response),
                Ok(response) if matches!(response.status(), StatusCode::CONFLICT | StatusCode::FORBIDDEN) => {
                    return Err(ClientError::NotHeld);
                }
                Ok(response) if response.status().is_client_error() => {
                    return Err(ClientError::Refused(response.text().unwrap_or_default()));
                }
                Ok(response) if start.elapsed() > PATIENCE => {
                    return Err(ClientError::Refused(response.text().unwrap_or_default()));
                }
                Err(error) if start.elapsed() > PATIENCE => return Err(ClientError::Unreachable(error)),
                Ok(_) | Err(_) => thread::sleep(Duration::from_millis(500)),
            }
        }
    }
}
