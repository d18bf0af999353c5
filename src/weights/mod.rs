//! Backbone weights from elsewhere: files in the formats they come in, other people's names for the tensors, and the library of
//! what is here.

pub mod catalogue;
mod checkpoint;
pub mod fetch;
mod file;
mod header;
mod library;
mod naming;
mod pickle;
mod torch;

pub use checkpoint::{Checkpoint, Format, ReadError};
pub use file::{Cause, FileError, read};
pub use library::{Installed, Library, LibraryError, Listed, Manifest, Origin, fingerprint};
