//! The Hugging Face hub: where a repository's file is, and what its SHA-256 is; and the cache that its own programs keep.
//!
//! The hub answers for a large file with where to get it, and with the file's SHA-256 in `X-Linked-ETag`.

use std::{fs, path::PathBuf};

use ureq::http::header;

use super::{
    FetchConfig, FetchError, Published,
    download::{Downloader, text},
};
use crate::weights::file;

const FILE: &str = "model.safetensors";
/// Renamed repositories lead to their new name.
const MAX_RENAMES: usize = 4;

/// What the hub says of the newest file of a repository.
pub(super) fn published(
    config: &FetchConfig,
    repository: &str,
    downloader: &Downloader<'_>,
) -> Result<Published, FetchError> {
    let authorization = config.hub.authorization.clone();
    let mut url = format!("{}/{repository}/resolve/main/{FILE}", config.hub.url);
    for _ in 0..=MAX_RENAMES {
        let response = downloader.head(&url, authorization.as_deref())?;
        let hash = text(&response, "x-linked-etag").or_else(|| text(&response, header::ETAG)).and_then(sha256_of_etag);
        if let Some(sha256) = hash {
            // The file of this commit, whatever is published meanwhile.
            let pinned = text(&response, "x-repo-commit")
                .map(|commit| url.replace("/resolve/main/", &format!("/resolve/{commit}/")));
            return Ok(Published { url: pinned.unwrap_or(url), sha256, authorization });
        }
        match text(&response, header::LOCATION).filter(|place| place.starts_with('/')) {
            Some(place) => url = format!("{}{place}", config.hub.url),
            None => break,
        }
    }
    Err(FetchError::Answer { url, what: "the answer does not have the file's SHA-256 (header X-Linked-ETag)".into() })
}

fn sha256_of_etag(etag: &str) -> Option<String> {
    let hash = etag.trim_start_matches("W/").trim_matches('"');
    (hash.len() == 64 && hash.chars().all(|c| c.is_ascii_hexdigit())).then(|| hash.to_ascii_lowercase())
}

/// The file in the hub's cache on this machine, if its content is what the cache calls it by. Copies, which
/// the cache has where the system has no links, say no SHA-256 and are left alone.
pub(super) fn cached(config: &FetchConfig, repository: &str) -> Option<PathBuf> {
    let folder = config.hub_cache.as_ref()?.join(format!("models--{}", repository.replace('/', "--")));
    let commit = fs::read_to_string(folder.join("refs/main")).ok()?;
    let path = folder.join("snapshots").join(commit.trim()).join(FILE);
    // A link to a file whose name is its SHA-256.
    let name = fs::canonicalize(&path).ok()?.file_name()?.to_str()?.to_owned();
    (file::sha256(&path).ok()?.0 == sha256_of_etag(&name)?).then_some(path)
}
