//! The full-sized backbones beside PyTorch itself, where there is one.

use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Command,
};

use candle_core::{DType, Device, Tensor};
use twograin::{
    domain::spec::Backbone,
    exchange::ScoreActivation,
    model::{Classifier, LossSpec, Mode, Tape, Targets},
};

use super::{model_spec, noise};
use crate::support::python;

/// A Python with everything that `full_size.py` imports. Says so and returns `None` where there is none. A Python with
/// PyTorch but without EfficientNet is refused if `TWOGRAIN_REQUIRE_PYTHON` is set.
fn pytorch() -> Option<impl Fn() -> Command> {
    let imports = |names: &str| {
        let output = python()?.args(["-c", &format!("import {names}")]).output();
        output.is_ok_and(|output| output.status.success()).then_some(())
    };
    if imports("torch, torchvision, efficientnet_lite_pytorch").is_some() {
        return Some(|| python().expect("it was there a moment ago"));
    }
    let required = std::env::var_os("TWOGRAIN_REQUIRE_PYTHON").is_some();
    assert!(
        !required || imports("torch").is_none(),
        "Python has torch without torchvision or efficientnet_lite_pytorch"
    );
    println!("skipped: Python has no torch, torchvision and efficientnet_lite_pytorch");
    None
}

const SIDE: usize = 224;

/// Weights, pixels and results of a network, with the gradients of one batch if it `trains`.
fn results(model: &Classifier, trains: bool) -> HashMap<String, Tensor> {
    let dtype = model.params().dtype();
    let tensor = |values: Vec<f64>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    };
    let pixels = tensor(noise(2 * 3 * SIDE * SIDE, 1000).collect(), &[2, 3, SIDE, SIDE]);
    let mut file = HashMap::from([("pixels".to_owned(), pixels.clone())]);
    for (name, var) in model.params().iter() {
        file.insert(format!("weights/{name}"), var.as_tensor().copy().unwrap());
    }
    let output = model.forward(&pixels, Mode::Evaluate).unwrap();
    file.insert("eval/fine".into(), output.fine.unwrap());
    file.insert("eval/coarse".into(), output.coarse);
    if trains {
        let tape = Tape::new();
        let output = model.forward(&pixels, Mode::Train { tape: &tape, dropout_seed: 0 }).unwrap();
        let targets = Targets {
            fine: tensor(vec![1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0], &[2, 5]),
            coarse: Tensor::new(&[0u32, 1], &Device::Cpu).unwrap(),
        };
        let activation = Some(ScoreActivation::Sigmoid);
        let loss = LossSpec { activation, focal_alpha: vec![1.0; 5], focal_gamma: 2.0 };
        let mut grads = loss.loss(&output, &targets).unwrap().total.backward().unwrap();
        tape.backward(&mut grads).unwrap();
        for (name, var) in model.params().iter_trained() {
            file.insert(format!("grad/{name}"), grads.get(var).unwrap().contiguous().unwrap());
        }
    }
    file
}

/// Evaluation logits of float32, and gradients where dropout does not draw them. Those are of float64. float32's are not
/// compared here: from the features back, ResNet34's are 3e-5 off up to a layer that differs from batch to batch, where a
/// ReLU near 0 that rounding takes past it would add the 2e-3 to 5e-3 that are found; its median one was 9e-3 off, while
/// PyTorch's was 1e-5 and its worst one 3e-3.
#[test]
fn python_agrees_at_full_size() {
    let Some(pytorch) = pytorch() else { return };
    for (backbone, dtype) in [
        (Backbone::ResNet34, DType::F32),
        (Backbone::ResNet34, DType::F64),
        (Backbone::DenseNet121, DType::F32),
        (Backbone::DenseNet121, DType::F64),
        (Backbone::EfficientNetLite0, DType::F32),
        (Backbone::Vgg16, DType::F32),
    ] {
        let model = Classifier::new(model_spec(backbone), 7, dtype, &Device::Cpu).unwrap();
        // Batch norms and biases as if they had been trained a little.
        let one_dimensional = model.params().iter().filter(|(_, var)| var.rank() == 1);
        for (stream, (name, var)) in (0..).zip(one_dimensional.collect::<BTreeMap<_, _>>()) {
            let shift = if name.ends_with("weight") || name.ends_with("running_var") { 1.0 } else { 0.0 };
            let values: Vec<f64> = noise(var.elem_count(), stream).map(|value| shift + 0.1 * value).collect();
            let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
            var.set(&values.to_dtype(dtype).unwrap()).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("network.safetensors");
        candle_core::safetensors::save(&results(&model, dtype == DType::F64), &path).unwrap();
        drop(model);

        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/full_size.py");
        let output = pytorch().arg(script).arg(backbone.as_str()).arg(&path).output().unwrap();
        assert!(output.status.success(), "{backbone}: {}", String::from_utf8_lossy(&output.stderr));
        let errors: BTreeMap<String, f64> = serde_json::from_slice(&output.stdout).unwrap();
        println!("{backbone} {dtype:?}: {errors:?}");
        let (count, bound) = if dtype == DType::F64 { (3, 1e-8) } else { (2, 1e-5) };
        assert_eq!(errors.len(), count);
        for (what, error) in errors {
            assert!(error <= bound, "{backbone}: {what} of {dtype:?} off by {error:e}");
        }
    }
}
