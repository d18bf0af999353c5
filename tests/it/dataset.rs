//! The data set from its source to tensors.

mod import;
mod loader;
mod scenes;
mod transform;

use std::path::{Path, PathBuf};

/// The data that tests may use but the repository does not contain. Says so and returns `None` where it is absent.
fn shared(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data").join(name);
    if path.exists() {
        return Some(path);
    }
    println!("skipped: {} is not here", path.display());
    None
}
