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
            "the pickle names posix.system, which is no part of a tensor; nothing of a pickle is ever run; \
             save the network's state_dict() alone",
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

/// A legacy file whose storage “0” has these values.
fn legacy_of(pickle: &[u8], values: &[f32]) -> Vec<u8> {
    let mut bytes = legacy(pickle);
    bytes.truncate(bytes.len() - b".".len());
    bytes.extend([&text("0"), b"a.".as_slice(), &values.len().to_le_bytes()].concat());
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
    bytes
}

/// Puts a text on the stack.
fn text(text: &str) -> Vec<u8> {
    [b"X".as_slice(), &u32::try_from(text.len()).unwrap().to_le_bytes(), text.as_bytes()].concat()
}

/// `torch.load` of these bytes gives `OrderedDict([('a', tensor([3., 4.]))])`.
#[test]
fn files_of_early_versions_have_parts_of_storages_and_dictionaries_of_python_2() {
    let function = b"ctorch._utils\n_rebuild_tensor\n(";
    let storage = [b"(".as_slice(), &text("storage"), b"ctorch\nFloatStorage\n", &text("0"), &text("cpu"), b"K\x04"];
    let storage = storage.concat();
    let file = |part: &[u8]| {
        let tensor = [function.as_slice(), &storage, part, b"tQK\x00(K\x02t(K\x01ttR"].concat();
        let pickle = [b"\x80\x02ccollections\nOrderedDict\n]]".as_slice(), &text("a"), b"a", &tensor, b"aa\x85R."];
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&legacy_of(&pickle.concat(), &[1.0, 2.0, 3.0, 4.0])).unwrap();
        Checkpoint::read(file.path()).map_err(|error| error.to_string())
    };
    let part = [&text("part")[..], b"K\x02K\x02\x87"].concat();
    for (part, expected) in [(&part[..], [3.0, 4.0]), (b"N", [1.0, 2.0]), (b"", [1.0, 2.0])] {
        let values = file(part).unwrap().tensor("a").unwrap().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(values, expected);
    }
    assert!(file(b"K\x01").is_err(), "a part that is no part");
    let behind = [&text("part")[..], b"K\x03K\x02\x87"].concat();
    assert!(file(&behind).unwrap_err().contains("is larger than its bytes"));
}

#[test]
fn hostile_pickles_are_refused_in_little_time_and_memory() {
    let deep = [b"\x80\x02".as_slice(), b")", &b"\x85".repeat(900_000), b"."].concat();
    let wide = [b"\x80\x02".as_slice(), &b")".repeat(2_000_000), b"."].concat();
    let itself = b"\x80\x02}q\x00X\x01\x00\x00\x00ah\x00s.".to_vec();
    let huge = b"\x80\x02X\xff\xff\xff\xffab.".to_vec();
    let storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ";
    let tensor = |rest: &[u8]| [b"ctorch._utils\n_rebuild_tensor_v2\n(".as_slice(), storage, rest, b"tR"].concat();
    let call = |rest: &[u8]| [b"\x80\x02}X\x01\x00\x00\x00a".as_slice(), &tensor(rest), b"s."].concat();
    let name = [&text(&"x".repeat(1 << 20))[..], b"q\x00"].concat();
    let one = tensor(b"K\x00(K\x04t(K\x01t\x89)");
    let renamed = [&name[..], &one, b"q\x01}(", &b"h\x00h\x01".repeat(300_000), b"u."].concat();
    let kept: Vec<u8> = (0..1_100_000u32).flat_map(|index| [b"r".as_slice(), &index.to_le_bytes()].concat()).collect();
    let pairs = [b"](".as_slice(), &b"NN\x86".repeat(1000), b"e\x85q\x00"].concat();
    let copied = [&pairs[..], &b"ccollections\nOrderedDict\nh\x00R".repeat(10_000), b"."].concat();
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
        ("a long name for ever", renamed, "the storage “0” is missing"),
        ("marks", b"(".repeat(2_000_000), "larger than that of any network"),
        ("recalls", [b")q\x00".as_slice(), &b"h\x00".repeat(2_000_000)].concat(), "larger than that of any network"),
        ("keeps", [b")".as_slice(), &kept].concat(), "larger than that of any network"),
        ("copies a dictionary", copied, "larger than that of any network"),
    ] {
        let error = read_bytes(&legacy(&pickle)).unwrap_err();
        assert!(error.contains(expected), "{what}: {error}");
    }
    // One storage of 16 MB by 129 names is more than 2 GiB.
    let names: Vec<u8> = (0..129).flat_map(|name| [&text(&format!("{name}"))[..], b"h\x01"].concat()).collect();
    let shared = [&tensor(b"K\x00(J\x00\x00\x40\x00t(K\x01t\x89)")[..], b"q\x01}(", &names, b"u."].concat();
    let error = read_bytes(&legacy_of(&shared, &vec![0.0; 1 << 22])).unwrap_err();
    assert!(error.contains("its tensors have more than 2 GiB"), "{error}");
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

#[test]
fn an_archive_whose_checksum_is_wrong_is_refused() {
    let mut bytes = std::fs::read(reference("checkpoints/zip.pth")).unwrap();
    let mut archive = zip::ZipArchive::new(std::io::Cursor::new(&bytes)).unwrap();
    let place = (0..archive.len()).find_map(|index| {
        let file = archive.by_index(index).unwrap();
        file.name().unwrap().ends_with("data/0").then(|| file.data_start().unwrap())
    });
    bytes[usize::try_from(place.unwrap()).unwrap()] ^= 1;
    let error = read_bytes(&bytes).unwrap_err();
    assert!(error.contains("the archive is damaged: ") && error.contains("data/0: "), "{error}");
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
