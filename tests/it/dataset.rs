//! The data set from its source to tensors.

mod decode;
mod import;
mod loader;
mod scenes;
mod transform;
