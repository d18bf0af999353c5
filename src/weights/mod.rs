//! Weights from elsewhere.

mod checkpoint;
mod file;
mod naming;
mod pickle;
mod torch;

pub use checkpoint::{Checkpoint, Format, ReadError};
pub use file::{Cause, FileError, check, read, sha256};
