//! HTTP that does not give up at once, and downloads that go on where they broke off.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use ureq::{
    Agent, Body, RequestBuilder,
    http::{Response, StatusCode, header},
    tls::{RootCerts, TlsConfig},
    typestate::WithoutBody,
};

use super::{FetchConfig, FetchError, FetchEvent, Published};
use crate::weights::{checkpoint::MAX_BYTES, file};

/// How long a server may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

const GO_ON: &str = "what has come is kept, the same command goes on from there";
const ELSEWHERE: &str =
    "HTTPS_PROXY may name a proxy, and `twograin weights import` takes a file that was downloaded elsewhere";

/// Asks servers, again and again if need be.
pub(super) struct Downloader<'a> {
    agent: Agent,
    config: &'a FetchConfig,
    report: &'a dyn Fn(FetchEvent),
}

/// A download's file, which no other process writes to as long as this is there.
pub(super) struct Part {
    path: PathBuf,
    file: File,
}

/// Why an attempt failed.
enum Trouble {
    /// It may go better next time; not before so long.
    Passing {
        because: String,
        wait: Option<Duration>,
    },
    Lasting(FetchError),
}

impl<'a> Downloader<'a> {
    pub fn new(config: &'a FetchConfig, report: &'a dyn Fn(FetchEvent)) -> Self {
        let tls = TlsConfig::builder().root_certs(RootCerts::PlatformVerifier).build();
        let agent = Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .user_agent(concat!("twograin/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: agent.new_agent(), config, report }
    }

    /// The answer to `HEAD`; where it leads elsewhere, that is not followed.
    pub fn head(&self, url: &str, authorization: Option<&str>) -> Result<Response<Body>, FetchError> {
        self.again(
            url,
            || 0,
            || {
                let request = self.agent.head(url).config().max_redirects(0).max_redirects_will_error(false).build();
                answered(url, authorized(request, authorization).call())
            },
        )
    }

    /// A page.
    pub fn text(&self, url: &str, authorization: Option<&str>) -> Result<String, FetchError> {
        self.again(
            url,
            || 0,
            || {
                let request = self.agent.get(url).header(header::ACCEPT, "text/html");
                let mut response = answered(url, authorized(request, authorization).call())?;
                response.body_mut().read_to_string().map_err(passing)
            },
        )
    }

    /// Downloads a file into `directory`, where what came of it before may be.
    pub fn download(&self, published: &Published, directory: &Path) -> Result<Part, FetchError> {
        let Published { url, sha256, .. } = published;
        let mut part = Part::open(directory.join(format!("{sha256}.part")))?;
        let path = part.path.clone();
        let come = || fs::metadata(&path).map_or(0, |metadata| metadata.len());
        self.again(url, come, || self.attempt(published, &mut part))?;
        let found = file::sha256(&part.path).map_err(|error| part.io(error))?;
        if found.0 != *sha256 {
            part.remove()?;
            return Err(FetchError::WrongBytes { url: url.clone(), expected: sha256.clone(), found: found.0 });
        }
        Ok(part)
    }

    /// Appends to the part what is missing of it.
    fn attempt(&self, published: &Published, part: &mut Part) -> Result<(), Trouble> {
        let Published { url, authorization, .. } = published;
        let path = part.path.clone();
        let lasting = |source| Trouble::Lasting(FetchError::Io { path: path.clone(), source });
        let have = part.file.seek(SeekFrom::End(0)).map_err(&lasting)?;
        let mut request = authorized(self.agent.get(url), authorization.as_deref());
        if have > 0 {
            request = request.header(header::RANGE, format!("bytes={have}-"));
        }
        let response = request.call();
        let rejected = matches!(&response, Ok(response) if response.status() == StatusCode::RANGE_NOT_SATISFIABLE);
        if rejected && have > 0 {
            // The part is as long as the file or longer; its hash will tell.
            return Ok(());
        }
        let mut response = answered(url, response)?;
        let range = format!("bytes {have}-");
        let mut done = match response.status() {
            StatusCode::OK => 0,
            StatusCode::PARTIAL_CONTENT
                if text(&response, header::CONTENT_RANGE).is_some_and(|found| found.starts_with(&range)) =>
            {
                have
            }
            status => {
                let what = format!("the server answers {status}, without the bytes from {have} on");
                return Err(Trouble::Lasting(FetchError::Answer { url: url.clone(), what }));
            }
        };
        part.file.set_len(done).and_then(|()| part.file.seek(SeekFrom::Start(done))).map_err(&lasting)?;
        let length = text(&response, header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
        let total = length.map(|length| done.saturating_add(length));
        if total.unwrap_or(done) > MAX_BYTES {
            let what = format!("the file has more than {} GiB", MAX_BYTES >> 30);
            return Err(Trouble::Lasting(FetchError::Answer { url: url.clone(), what }));
        }
        let mut body = response.body_mut().as_reader().take(MAX_BYTES - done);
        let mut buffer = vec![0; 1 << 16];
        loop {
            (self.report)(FetchEvent::Bytes { done, total });
            let count = body.read(&mut buffer).map_err(passing)?;
            if count == 0 {
                break;
            }
            part.file.write_all(&buffer[..count]).map_err(&lasting)?;
            done += count as u64;
        }
        match total {
            Some(total) if done < total => Err(passing("the connection broke off")),
            Some(_) | None => Ok(()),
        }
    }

    /// Tries until it goes well, the trouble lasts, or nothing came of several attempts. `come`: bytes that have come so far.
    fn again<T>(
        &self,
        url: &str,
        come: impl Fn() -> u64,
        mut attempt: impl FnMut() -> Result<T, Trouble>,
    ) -> Result<T, FetchError> {
        let (mut failed, mut before) = (0, come());
        loop {
            let (because, wait) = match attempt() {
                Ok(done) => return Ok(done),
                Err(Trouble::Lasting(error)) => return Err(error),
                Err(Trouble::Passing { because, wait }) => (because, wait),
            };
            // A server without ranges may begin anew for ever.
            let come = come();
            failed = if come > before { 1 } else { failed + 1 };
            before = before.max(come);
            let wait = wait.unwrap_or(self.config.wait * 2u32.pow((failed - 1).min(6)));
            if failed >= self.config.attempts || wait > LONGEST_WAIT {
                return Err(FetchError::GaveUp {
                    url: url.into(),
                    because,
                    advice: if come > 0 { GO_ON } else { ELSEWHERE },
                });
            }
            (self.report)(FetchEvent::Waiting { because, wait });
            thread::sleep(wait);
        }
    }
}

/// An answer that can be used, or what is wrong with it.
fn answered(url: &str, response: Result<Response<Body>, ureq::Error>) -> Result<Response<Body>, Trouble> {
    let response = match response {
        Ok(response) => response,
        // An address or a certificate does not become right by waiting.
        Err(
            error @ (ureq::Error::BadUri(_)
            | ureq::Error::Http(_)
            | ureq::Error::Tls(_)
            | ureq::Error::TooManyRedirects),
        ) => {
            return Err(Trouble::Lasting(FetchError::Answer { url: url.into(), what: error.to_string() }));
        }
        // So comes what is wrong with a secure connection: its certificate, most often.
        Err(ureq::Error::Io(error)) if error.kind() == io::ErrorKind::InvalidData => {
            let what = format!("{error}; SSL_CERT_FILE may name certificates to trust");
            return Err(Trouble::Lasting(FetchError::Answer { url: url.into(), what }));
        }
        Err(error) => return Err(passing(error)),
    };
    let status = response.status();
    if status.is_success() || status.is_redirection() {
        return Ok(response);
    }
    let url = url.to_owned();
    Err(match status.as_u16() {
        404 | 410 => Trouble::Lasting(FetchError::NotFound { url }),
        408 | 429 | 500.. => {
            let wait = text(&response, header::RETRY_AFTER).and_then(|seconds| seconds.parse().ok());
            Trouble::Passing { because: format!("the server answers {status}"), wait: wait.map(Duration::from_secs) }
        }
        status => Trouble::Lasting(FetchError::Refused { url, status }),
    })
}

fn authorized(request: RequestBuilder<WithoutBody>, authorization: Option<&str>) -> RequestBuilder<WithoutBody> {
    match authorization {
        Some(value) => request.header(header::AUTHORIZATION, value),
        None => request,
    }
}

fn passing(because: impl ToString) -> Trouble {
    Trouble::Passing { because: because.to_string(), wait: None }
}

/// A header's value.
pub(super) fn text(response: &Response<Body>, name: impl header::AsHeaderName) -> Option<&str> {
    response.headers().get(name)?.to_str().ok()
}

impl Part {
    fn open(path: PathBuf) -> Result<Self, FetchError> {
        let opened = path
            .parent()
            .map_or(Ok(()), fs::create_dir_all)
            .and_then(|()| OpenOptions::new().create(true).truncate(false).read(true).write(true).open(&path));
        match opened {
            Ok(file) => match file.try_lock() {
                Ok(()) => Ok(Self { path, file }),
                Err(TryLockError::WouldBlock) => Err(FetchError::Busy),
                Err(TryLockError::Error(source)) => Err(FetchError::Io { path, source }),
            },
            Err(source) => Err(FetchError::Io { path, source }),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// It is not needed any more.
    pub fn remove(self) -> Result<(), FetchError> {
        fs::remove_file(&self.path).map_err(|error| self.io(error))
    }

    fn io(&self, source: io::Error) -> FetchError {
        FetchError::Io { path: self.path.clone(), source }
    }
}
