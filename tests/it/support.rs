//! What tests share: the neighbouring data, and a server in this process.

use std::path::{Path, PathBuf};

use twograin::{
    app::{Server, Start},
    config::{Config, DataConfig},
};

/// `shared/data` beside the repository, or a printed reason to skip.
pub fn shared_data() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    if path.is_dir() {
        return Some(path);
    }
    eprintln!("SKIPPED: there is no {}", path.display());
    None
}

/// A server on a data directory of its own, ended and cleaned up when dropped.
pub struct TestServer {
    /// Such as `http://127.0.0.1:40123`.
    pub url: String,
    /// The data directory.
    pub data: tempfile::TempDir,
    // In the order of being dropped: first the server, then what it runs on.
    server: Option<Server>,
    runtime: tokio::runtime::Runtime,
}

impl TestServer {
    /// A server without data sets.
    pub fn empty() -> Self {
        Self::start(tempfile::tempdir().expect("a temporary directory"))
    }

    /// A server on this data directory.
    pub fn start(data: tempfile::TempDir) -> Self {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        let any = "127.0.0.1:0".parse().expect("an address");
        let config = Config {
            listen: any,
            worker_listen: any,
            data: DataConfig { data_dir: data.path().into(), database: None },
            insecure: false,
        };
        let server = runtime.block_on(Server::start(&config, Start::Serve)).expect("the server starts");
        Self { url: format!("http://{}", server.address), data, server: Some(server), runtime }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            self.runtime.block_on(server.stop());
        }
    }
}
