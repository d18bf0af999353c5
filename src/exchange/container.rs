//! Writing safetensors files: the same content always gives the same bytes, and a file is there whole or not at all.
//!
//! The `safetensors` crate keeps metadata in a hash map, so its own writer orders the header at random and the hash of a
//! file says nothing about its content. The format is an 8-byte little-endian header length, a JSON header padded with
//! spaces to a multiple of 8, and the tensors' bytes.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::Path,
};

use safetensors::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256Hex(pub String);

impl Sha256Hex {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Sha256::new_with_prefix(bytes).into()
    }
}

impl From<Sha256> for Sha256Hex {
    fn from(hash: Sha256) -> Self {
        Self(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One tensor on its way into a file.
#[derive(Debug)]
pub struct Entry {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Entry {
    /// A float32 tensor. `shape` has as many elements as `values`.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes }
    }

    /// An int64 vector.
    pub fn i64(name: impl Into<String>, values: &[i64]) -> Self {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self { name: name.into(), dtype: Dtype::I64, shape: vec![values.len()], bytes }
    }
}

/// Writes `entries` to `path` through a temporary file beside it, flushed to the disk before it takes the name.
pub fn write(path: &Path, mut entries: Vec<Entry>, metadata: &BTreeMap<&str, String>) -> io::Result<Sha256Hex> {
    // Wide types first, so that every tensor starts at a multiple of its element size.
    entries.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    let mut bytes = header(&entries, metadata)?;
    entries.iter().for_each(|entry| bytes.extend_from_slice(&entry.bytes));
    write_atomically(path, &bytes)?;
    Ok(Sha256Hex::of(&bytes))
}

fn header(entries: &[Entry], metadata: &BTreeMap<&str, String>) -> io::Result<Vec<u8>> {
    let mut fields = BTreeMap::new();
    if !metadata.is_empty() {
        fields.insert("__metadata__", serde_json::json!(metadata));
    }
    let mut start = 0;
    for Entry { name, dtype, shape, bytes } in entries {
        let end = start + bytes.len();
        fields.insert(name, serde_json::json!({ "data_offsets": [start, end], "dtype": dtype, "shape": shape }));
        start = end;
    }
    let mut json = serde_json::to_vec(&fields)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    // The new name is part of the folder: without this it may be lost with the power.
    #[cfg(unix)]
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}
