//! Weights from elsewhere: files, names, the library, and the way from the network.

mod fetch;
mod files;
mod library;
mod published;
mod server;

use std::path::PathBuf;

use serde::de::DeserializeOwned;

/// A file of `tests/reference`.
fn reference(name: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "tests/reference", name].iter().collect()
}

fn json<T: DeserializeOwned>(name: &str) -> T {
    serde_json::from_slice(&std::fs::read(reference(name)).unwrap()).unwrap()
}
