//! Safetensors files, written and read tensor by tensor: the largest take gigabytes. The same content always gives the same
//! bytes, and a file is there whole or not at all.
//!
//! The `safetensors` crate keeps metadata in a hash map, so its own writer orders the header at random and the hash of a
//! file says nothing about its content. The format is an 8-byte little-endian header length, a JSON header padded with
//! spaces to a multiple of 8, and the tensors' bytes.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use safetensors::{Dtype, tensor::Metadata};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

// Values are copied between memory and file as they are, and files are little-endian.
const _: () = assert!(cfg!(target_endian = "little"), "twograin runs on little-endian machines");

/// A SHA-256 in lower-case hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256Hex(pub String);

impl Sha256Hex {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from(Sha256::new_with_prefix(bytes))
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
pub struct Entry<'a> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    content: Content<'a>,
}

/// Writes a tensor's bytes, in row-major order.
type Content<'a> = Box<dyn FnOnce(&mut dyn Write) -> io::Result<()> + 'a>;

impl<'a> Entry<'a> {
    /// A float32 tensor. `shape` has as many elements as `values`.
    pub fn f32(name: impl Into<String>, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = bytemuck::cast_slice(values).to_vec();
        Self {
            name: name.into(),
            dtype: Dtype::F32,
            shape: shape.to_vec(),
            content: Box::new(move |to| to.write_all(&bytes)),
        }
    }

    /// A float32 tensor that is not looked at before it is its turn to be written: `content` does it by [`write_f32`].
    pub fn f32_later(
        name: impl Into<String>,
        shape: &[usize],
        content: impl FnOnce(&mut dyn Write) -> io::Result<()> + 'a,
    ) -> Self {
        Self { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), content: Box::new(content) }
    }

    /// An int64 vector.
    pub fn i64(name: impl Into<String>, values: &[i64]) -> Self {
        let bytes: Vec<u8> = bytemuck::cast_slice(values).to_vec();
        let shape = vec![values.len()];
        Self { name: name.into(), dtype: Dtype::I64, shape, content: Box::new(move |to| to.write_all(&bytes)) }
    }

    fn length(&self) -> usize {
        self.shape.iter().product::<usize>() * self.dtype.bitsize() / 8
    }
}

/// Writes float32 values as they stand in a file.
pub fn write_f32(to: &mut dyn Write, values: &[f32]) -> io::Result<()> {
    to.write_all(bytemuck::cast_slice(values))
}

/// Writes `entries` to `path` through a temporary file beside it, flushed to the disk before it takes the name.
pub fn write(path: &Path, entries: Vec<Entry>, metadata: &BTreeMap<&str, String>) -> io::Result<Sha256Hex> {
    write_named(entries, metadata, folder(path), |_| path.into()).map(|(_, hash)| hash)
}

/// The same for a file whose path depends on the hash of its content; `folder` is where it will be.
pub fn write_named(
    mut entries: Vec<Entry>,
    metadata: &BTreeMap<&str, String>,
    folder: &Path,
    path: impl FnOnce(&Sha256Hex) -> PathBuf,
) -> io::Result<(PathBuf, Sha256Hex)> {
    // Wide types first, so that every tensor starts at a multiple of its element size.
    entries.sort_by(|a, b| b.dtype.bitsize().cmp(&a.dtype.bitsize()).then_with(|| a.name.cmp(&b.name)));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    let hash = {
        let to = BufWriter::with_capacity(1 << 16, file.as_file_mut());
        let mut writer = Hashing { to, hash: Sha256::new() };
        writer.write_all(&header(&entries, metadata)?)?;
        entries.into_iter().try_for_each(|entry| (entry.content)(&mut writer))?;
        writer.flush()?;
        Sha256Hex::from(writer.hash)
    };
    file.as_file().sync_all()?;
    let path = path(&hash);
    file.persist(&path)?;
    // The new name is part of the folder: without this it may be lost with the power.
    #[cfg(unix)]
    File::open(folder)?.sync_all()?;
    Ok((path, hash))
}

/// The SHA-256 of a file's content.
pub fn hash(path: &Path) -> io::Result<Sha256Hex> {
    let mut hashing = Hashing { to: io::sink(), hash: Sha256::new() };
    io::copy(&mut BufReader::with_capacity(1 << 16, File::open(path)?), &mut hashing)?;
    Ok(hashing.hash.into())
}

/// A safetensors file that is read tensor by tensor.
#[derive(Debug)]
pub struct Reader {
    file: BufReader<File>,
    header: Metadata,
    /// Where the tensors' bytes begin.
    start: u64,
}

impl Reader {
    /// Opens a file and reads its header.
    pub fn open(path: &Path) -> io::Result<Self> {
        let mut file = BufReader::with_capacity(1 << 16, File::open(path)?);
        let mut length = [0; 8];
        file.read_exact(&mut length)?;
        let length = u64::from_le_bytes(length);
        let header = serde_json::from_reader((&mut file).take(length))?;
        Ok(Self { file, header, start: 8 + length })
    }

    /// What the header says under `key`, beside the tensors.
    pub fn metadata(&self, key: &str) -> Option<&str> {
        self.header.metadata().as_ref()?.get(key).map(String::as_str)
    }

    /// The shape of a float32 tensor, if there is one of this name.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.header.info(name).filter(|info| info.dtype == Dtype::F32).map(|info| &*info.shape)
    }

    /// The values of a float32 tensor, in row-major order.
    pub fn f32(&mut self, name: &str) -> io::Result<Vec<f32>> {
        let info = self.header.info(name).filter(|info| info.dtype == Dtype::F32);
        let missing = || io::Error::new(io::ErrorKind::InvalidData, format!("there is no float32 tensor {name}"));
        let (start, end) = info.ok_or_else(missing)?.data_offsets;
        self.file.seek(SeekFrom::Start(self.start + start as u64))?;
        let mut values = vec![0.0; (end - start) / 4];
        self.file.read_exact(bytemuck::cast_slice_mut(&mut values))?;
        Ok(values)
    }
}

/// Passes on what is written, and computes its hash.
struct Hashing<W> {
    to: W,
    hash: Sha256,
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.hash.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn header(entries: &[Entry], metadata: &BTreeMap<&str, String>) -> io::Result<Vec<u8>> {
    let mut fields = BTreeMap::new();
    if !metadata.is_empty() {
        fields.insert("__metadata__", serde_json::json!(metadata));
    }
    let mut start = 0;
    for entry @ Entry { name, dtype, shape, .. } in entries {
        let end = start + entry.length();
        fields.insert(name, serde_json::json!({ "data_offsets": [start, end], "dtype": dtype, "shape": shape }));
        start = end;
    }
    let mut json = serde_json::to_vec(&fields)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.append(&mut json);
    Ok(bytes)
}

fn folder(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
