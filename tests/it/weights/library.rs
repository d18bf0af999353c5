//! The library, its commands, and runs that start from it.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use serde_json::{Value, json};
use twograin::{
    domain::spec::Backbone,
    model::{Network, Parameters},
    weights::{self, Library},
};

use super::reference;
use crate::support::{TestServer, twograin};

/// A file of weights drawn from `seed`.
fn file(folder: &Path, backbone: Backbone, seed: u64) -> PathBuf {
    let mut params = Parameters::new(seed, DType::F32, &Device::Cpu);
    Network::new(&mut params, backbone).unwrap();
    let path = folder.join(format!("{backbone}-{seed}.safetensors"));
    params.save(&path).unwrap();
    path
}

/// `twograin weights …` on a data directory: what it printed, or its error.
fn command(data: &Path, args: &[&str]) -> Result<String, String> {
    let output = twograin().arg("weights").args(args).arg("--data-dir").arg(data).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn import(data: &Path, file: &Path, args: &[&str]) -> Result<String, String> {
    command(data, &[&["import", file.to_str().unwrap()], args].concat())
}

#[test]
fn weights_are_imported_listed_and_shown() {
    let data = tempfile::tempdir().unwrap();
    let (data, path) = (data.path(), file(data.path(), Backbone::ResNetTiny, 1));
    let listed = command(data, &["list"]).unwrap();
    assert!(listed.contains("vgg16.tv_in1k") && !data.join("weights").exists(), "looking makes nothing");

    let said = import(data, &path, &[]).unwrap();
    for part in [
        "Weights “resnet-tiny-1”",
        "backbone    resnet-tiny",
        "from        resnet-tiny-1.safetensors",
        "last layer  none",
    ] {
        assert!(said.contains(part), "{part} is missing in\n{said}");
    }
    let shown: Value = serde_json::from_str(&command(data, &["show", "resnet-tiny-1", "--json"]).unwrap()).unwrap();
    assert_eq!(shown["tensors"]["conv1.weight"].as_array().unwrap().len(), 4);
    assert_eq!((&shown["format"], &shown["classes"]), (&json!("safetensors"), &Value::Null));
    assert!(command(data, &["show", "resnet-tiny-1"]).unwrap().contains("conv1.weight"));
    std::fs::write(data.join("weights/stray.safetensors"), "no weights").unwrap();
    let error = import(data, &path, &["--name", "stray"]).unwrap_err();
    assert!(error.contains("from a file that Twograin did not put there"), "{error}");
    std::fs::create_dir(data.join("weights/unreadable.safetensors")).unwrap();
    assert!(command(data, &["show", "unreadable"]).unwrap_err().contains("unreadable.safetensors: "));
    let listed: Value = serde_json::from_str(&command(data, &["list", "--json"]).unwrap()).unwrap();
    let installed: Vec<_> =
        listed["items"].as_array().unwrap().iter().filter(|item| item["installed"] == true).collect();
    assert_eq!(
        (installed.len(), &installed[0]["name"], &installed[0]["sha256"]),
        (1, &json!("resnet-tiny-1"), &shown["sha256"])
    );
}

/// Both networks have the same tensors by our names; a file of a library says which it is of.
#[test]
fn a_file_of_another_library_keeps_its_backbone() {
    let data = tempfile::tempdir().unwrap();
    let (data, original) = (data.path(), file(data.path(), Backbone::EfficientNetLite0Timm, 1));
    import(data, &original, &["--name", "timm", "--backbone", "efficientnet-lite0-timm"]).unwrap();
    let installed = data.join("weights/timm.safetensors");
    let said = import(data, &installed, &["--name", "again"]).unwrap();
    assert!(said.contains("backbone    efficientnet-lite0-timm\n"), "{said}");
    let expected = "its weights are of efficientnet-lite0-timm, not of efficientnet-lite0";
    let error = import(data, &installed, &["--name", "other", "--backbone", "efficientnet-lite0"]).unwrap_err();
    assert!(error.contains(expected), "{error}");
    let library = Library::new(data);
    let path = installed.to_str().unwrap();
    library.check(path, Backbone::EfficientNetLite0Timm).unwrap();
    for error in [
        library.check(path, Backbone::EfficientNetLite0).unwrap_err().to_string(),
        weights::read(&installed, Backbone::EfficientNetLite0).unwrap_err().to_string(),
    ] {
        assert!(error.contains(expected), "{error}");
    }
    // Its header alone does not do.
    let bytes = std::fs::read(&installed).unwrap();
    std::fs::write(&installed, &bytes[..bytes.len() - 1]).unwrap();
    let error = library.check(path, Backbone::EfficientNetLite0Timm).unwrap_err().to_string();
    assert!(error.contains("it is not a whole safetensors file"), "{error}");
}

#[test]
fn a_name_keeps_its_weights() {
    let data = tempfile::tempdir().unwrap();
    let (data, first, second) =
        (data.path(), file(data.path(), Backbone::ResNetTiny, 1), file(data.path(), Backbone::ResNetTiny, 2));
    import(data, &first, &["--name", "mine"]).unwrap();
    let before = std::fs::read(data.join("weights/mine.safetensors")).unwrap();
    import(data, &first, &["--name", "mine", "--backbone", "resnet-tiny"]).unwrap();
    let error = import(data, &second, &["--name", "mine"]).unwrap_err();
    assert!(error.contains("other weights are called “mine” already, from resnet-tiny-1.safetensors"), "{error}");
    assert_eq!(std::fs::read(data.join("weights/mine.safetensors")).unwrap(), before);
    for name in ["../mine", ".mine", "", "a/b", "ä"] {
        let error = import(data, &first, &["--name", name]).unwrap_err();
        assert!(error.contains("is not a name for weights"), "{name}: {error}");
    }
}

#[test]
fn what_is_no_file_of_weights_is_refused_with_the_reason() {
    let data = tempfile::tempdir().unwrap();
    let (data, tiny) = (data.path(), file(data.path(), Backbone::ResNetTiny, 1));
    for (error, expected) in [
        (
            import(data, &tiny, &["--backbone", "vgg-tiny"]),
            "as vgg-tiny, not of this network; missing: classifier.0.bias, ",
        ),
        (
            import(data, &reference("checkpoints/network.pth"), &[]),
            "it is of no network that Twograin has; its tensors are 0.bias, ",
        ),
        (import(data, &reference("checkpoints/zip-evil.pth"), &[]), "the pickle names posix.system"),
        (import(data, &data.join("none.pth"), &[]), "none.pth: No such file"),
        (command(data, &["show", "vgg16.tv_in1k"]), "`twograin weights fetch vgg16.tv_in1k` installs them"),
        (command(data, &["fetch", "resnet50"]), "no weights “resnet50” are known; there are resnet34.tv_in1k, "),
    ] {
        let error = error.unwrap_err();
        assert!(error.starts_with("error: ") && error.contains(expected) && error.lines().count() == 1, "{error}");
    }
    assert!(!data.join("weights").exists());
}

#[test]
fn a_run_starts_from_installed_weights_or_a_file_and_says_so() {
    let server = TestServer::with_scenes();
    let data = server.data.path();
    let path = file(data, Backbone::ResNetTiny, 1);
    let run = |weights: &str, backbone: &str| {
        json!({"dataset": "scenes", "backbone": backbone, "objective": "coarse-only", "epochs": 1, "input_size": 32,
            "batch_size": 16, "initial_weights": weights})
    };
    for (weights, backbone, expected) in [
        ("mine", "resnet-tiny", "there are no weights “mine”, and no such file on the server"),
        ("resnet34.tv_in1k", "resnet34", "`twograin weights fetch resnet34.tv_in1k` installs them"),
        (path.to_str().unwrap(), "vgg-tiny", "as vgg-tiny, not of this network; missing: "),
    ] {
        let (status, problem) = server.post("/api/v1/runs", &run(weights, backbone));
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 422 && detail.starts_with("initial_weights: ") && detail.contains(expected), "{problem}");
    }
    import(data, &path, &["--name", "mine"]).unwrap();
    let (_, problem) = server.post("/api/v1/runs", &run("mine", "vgg-tiny"));
    let expected = "initial_weights: the weights “mine” are of resnet-tiny, and the run's backbone is vgg-tiny";
    assert_eq!(problem["detail"], expected);

    let (_, listed) = server.get("/api/v1/weights");
    let item = listed["items"].as_array().unwrap().iter().find(|item| item["installed"] == true).unwrap();
    let form = server.page("/runs/new");
    assert!(form.contains(r#"<datalist id="initial_weights-names"><option value="mine"></datalist>"#), "{form}");
    for weights in ["mine", path.to_str().unwrap()] {
        let report = server.wait(server.submit(&run(weights, "resnet-tiny")));
        assert_eq!(report["status"], "succeeded", "{report}");
        let said = format!("starts from the weights {weights}, SHA-256 {}", item["sha256"].as_str().unwrap());
        assert!(report["log"].to_string().contains(&said), "{report}");
    }
}
