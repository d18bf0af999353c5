//! The header of a safetensors file, read without the tensors behind it.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, Read},
    path::Path,
};

use safetensors::tensor::Metadata;

use super::library::Manifest;

/// Headers are smaller; the limit of the safetensors crate is higher.
const MAX_HEADER: u64 = 16 << 20;

/// What a whole safetensors file says of itself.
pub(super) struct Header {
    /// Size of the whole file.
    pub bytes: u64,
    /// Where the file is one of a library.
    pub manifest: Option<Manifest>,
    shapes: HashMap<String, Vec<usize>>,
}

impl Header {
    /// Of a file that is there to its end; the error of any other is `InvalidData` or `UnexpectedEof`.
    pub fn read(path: &Path) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let mut length = [0; size_of::<u64>()];
        file.read_exact(&mut length)?;
        let mut json = Vec::new();
        file.by_ref().take(u64::from_le_bytes(length).min(MAX_HEADER)).read_to_end(&mut json)?;
        let header: Metadata = serde_json::from_slice(&json)?;
        let bytes = file.metadata()?.len();
        if Some(bytes) != (length.len() + json.len()).checked_add(header.data_len()).map(|sum| sum as u64) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "it has other bytes than its header says"));
        }
        let manifest = Manifest::of(&header);
        let shapes = header.tensors().into_iter().map(|(name, info)| (name, info.shape.clone())).collect();
        Ok(Self { bytes, manifest, shapes })
    }

    /// Names and shapes.
    pub fn shapes(&self) -> impl Iterator<Item = (&str, &[usize])> + Clone {
        self.shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()))
    }
}
