//! Files of every format beside what PyTorch says is in them (`checkpoints.py`), and files that want to do harm.

use std::{collections::BTreeMap, io::Write};

use proptest::{prelude::*, test_runner::FileFailurePersistence};
use serde::Deserialize;
use twograin::weights::{Checkpoint, Format};

use super::{json, reference};

#[derive(Deserialize)]
struct Expected {
    shape: Vec<usize>,
    values: Vec<f32>,
}

fn read(name: &str) -> Result<Checkpoint, String> {
    Checkpoint::read(&reference(&format!("checkpoints/{name}"))).map_err(|error| error.to_string())
}

#[test]
fn every_format_has_the_tensors_that_pytorch_wrote() {
    let files: BTreeMap<String, BTreeMap<String, Expected>> = json("checkpoints.json");
    assert!(files.values().map(BTreeMap::len).max() > Some(10));
    for (name, tensors) in files.iter().filter(|(_, tensors)| !tensors.is_empty()) {
        let Ok(file) = read(name) else { continue };
        for (tensor, expected) in tensors {
            let found = file.tensor(tensor).unwrap_or_else(|| panic!("{name} has no {tensor}")).unwrap();
            assert_eq!(found.dims(), expected.shape, "{name}: {tensor}");
            assert_eq!(found.flatten_all().unwrap().to_vec1::<f32>().unwrap(), expected.values, "{name}: {tensor}");
        }
        for (other, _) in file.shapes().filter(|(name, _)| !tensors.contains_key(*name)) {
            let error = file.tensor(other).unwrap().unwrap_err().to_string();
            assert!(error.contains("is not of floating-point numbers"), "{name}: {other}: {error}");
        }
    }
    for (name, format) in [
        ("zip.pth", Format::TorchZip),
        ("zip-protocol-4.pth", Format::TorchZip),
        ("network.pth", Format::TorchZip),
        ("nested.pth", Format::TorchZip),
        ("legacy.pth", Format::TorchLegacy),
        ("legacy-protocol-4.pth", Format::TorchLegacy),
        ("model.pth", Format::TorchLegacy),
        ("plain.safetensors", Format::Safetensors),
    ] {
        assert_eq!(read(name).unwrap().format, format, "{name}");
        assert!(!files[name].is_empty(), "{name}");
    }
}

#[test]
fn nothing_of_a_pickle_is_run_and_what_it_names_is_said() {
    for (name, expected) in [
        (
            "zip-evil.pth",
            "the pickle names posix.system, which is no part of a tensor; nothing of a pickle is ever run",
        ),
        ("legacy-evil.pth", "the pickle names posix.system, "),
        ("whole-module.pth", "the pickle names torch.nn.modules.container.Sequential, "),
        (
            "no-tensors.pth",
            "no tensors under “state_dict” or “model”; there are: epoch, loss, name, best, seed, sizes, done",
        ),
    ] {
        let error = read(name).err().unwrap();
        assert!(error.contains(expected), "{name}: {error}");
    }
}

/// What reading these bytes as a file comes to; reading every tensor of it as well.
fn read_bytes(bytes: &[u8]) -> Result<usize, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    let file = Checkpoint::read(file.path()).map_err(|error| error.to_string())?;
    let names: Vec<String> = file.shapes().map(|(name, _)| name.to_owned()).collect();
    Ok(names.iter().filter(|name| file.tensor(name).unwrap().is_ok()).count())
}

/// A legacy file whose fourth pickle is `pickle`, without storages.
fn legacy(pickle: &[u8]) -> Vec<u8> {
    let magic = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.";
    [&magic[..], b"\x80\x02M\xe9\x03.", b"\x80\x02}.", pickle, b"\x80\x02]."].concat()
}

#[test]
fn hostile_pickles_are_refused_in_little_time_and_memory() {
    let deep = [b"\x80\x02".as_slice(), b")", &b"\x85".repeat(900_000), b"."].concat();
    let wide = [b"\x80\x02".as_slice(), &b")".repeat(2_000_000), b"."].concat();
    let itself = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.".to_vec();
    let huge = b"\x80\x02X\xff\xff\xff\xffab.".to_vec();
    let storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ";
    let call = |rest: &[u8]| {
        [b"\x80\x02}X\x01\x00\x00\x00actorch._utils\n_rebuild_tensor_v2\n(".as_slice(), storage, rest, b"tRs."].concat()
    };
    let expanded = call(b"K\x00(J\xff\xff\xff\x7fJ\xff\xff\xff\x7ft(K\x00K\x00t\x89)");
    let behind = call(b"J\xff\xff\xff\x7f(K\x01t(K\x01t\x89)");
    let negative = call(b"K\x00(J\xff\xff\xff\xfft(K\x01t\x89)");
    for (what, pickle, expected) in [
        ("deep", deep, "it holds no dictionary of tensors"),
        ("wide", wide, "larger than that of any network"),
        ("contains itself", itself, "no tensors under"),
        ("a text of 4 GB", huge, "ends in the middle"),
        ("repeats one number", expanded, "the storage “0” is missing"),
        ("behind its storage", behind, "the storage “0” is missing"),
        ("negative", negative, "the tensor a has a negative size"),
        ("unknown instruction", b"\x80\x02P0\n.".to_vec(), "an instruction 0x50"),
        ("no end", b"\x80\x02}".to_vec(), ""),
        ("recalls what is not there", b"h\x07.".to_vec(), "recalled that was not kept"),
        ("calls a number", b"K\x01)R.".to_vec(), "called that is no function"),
        ("pops past a mark", b"}(s.".to_vec(), "a value is missing"),
    ] {
        let error = read_bytes(&legacy(&pickle)).unwrap_err();
        assert!(error.contains(expected), "{what}: {error}");
    }
    for (bytes, expected) in [
        (&b""[..], "neither a safetensors file"),
        (b"PK\x03\x04", "the archive is damaged"),
        (b"\xff\xff\xff\xff\xff\xff\xff\xff{", "not a whole safetensors file"),
        (b"hello, world", "neither a safetensors file"),
    ] {
        let error = read_bytes(bytes).unwrap_err();
        assert!(error.contains(expected), "{error}");
    }
}

/// Shapes and strides that a tensor's bytes do not have, in a file that is whole otherwise.
#[test]
fn a_tensor_larger_than_its_bytes_is_refused() {
    let whole = std::fs::read(reference("checkpoints/legacy.pth")).unwrap();
    // The transposed [2, 3] has strides (1, 2): BININT1 1, BININT1 2.
    let shape = b"K\x02K\x03\x86";
    let place = whole.windows(shape.len()).position(|window| window == shape).unwrap();
    for (rows, columns) in [(2, 255), (255, 3), (255, 255)] {
        let mut bytes = whole.clone();
        (bytes[place + 1], bytes[place + 3]) = (rows, columns);
        let error = read_bytes(&bytes).unwrap_err();
        assert!(error.contains("is larger than its bytes"), "{error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: Some(Box::new(FileFailurePersistence::Off)),
        ..ProptestConfig::default()
    })]

    #[test]
    fn damaged_files_are_errors_or_other_numbers_never_a_panic(
        which in 0..4usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        let name = ["zip.pth", "legacy.pth", "legacy-protocol-4.pth", "plain.safetensors"][which];
        let mut bytes = std::fs::read(reference(&format!("checkpoints/{name}"))).unwrap();
        for (index, value) in changes {
            let index = index.index(bytes.len());
            bytes[index] = value;
        }
        if cut {
            bytes.truncate(end.index(bytes.len()));
        }
        let _ = read_bytes(&bytes);
    }
}

#[test]
fn a_file_that_ends_early_is_refused_wherever_it_ends() {
    for name in ["zip.pth", "legacy.pth", "plain.safetensors"] {
        let bytes = std::fs::read(reference(&format!("checkpoints/{name}"))).unwrap();
        assert_eq!(read_bytes(&bytes).unwrap(), 12, "{name}");
        for end in (0..bytes.len()).step_by(7) {
            assert!(read_bytes(&bytes[..end]).is_err(), "{name} of {end} bytes");
        }
    }
}
