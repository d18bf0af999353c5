//! Every family beside torchvision's network, or the EfficientNet package's: logits, every gradient, running statistics, and
//! a step of each optimizer, by the figures of `backbones.py`.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::json;
use twograin::{
    domain::{RunSpec, spec::Backbone},
    exchange::ScoreActivation,
    model::{
        Classifier, LossSpec, Mode, Network, Output, Parameters, Prepared, Tape, Targets,
        densenet::{DenseNet, DenseNetConfig},
        efficientnet::{Convention, EfficientNet, EfficientNetConfig, Stage},
        resnet::{ResNet, ResNetConfig},
        vgg::{Vgg, VggConfig},
    },
    training::Optimizer,
};

use super::{assert_close, model_spec, noise, norm, reference, values};

/// What `backbones.py` says of one family.
#[derive(Deserialize)]
struct Reference {
    eval: Logits,
    train: Logits,
    /// By kind and name: how far PyTorch's own float32 comes from float64.
    spread: BTreeMap<String, BTreeMap<String, f64>>,
    names: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct Logits {
    fine: Vec<f64>,
    coarse: Vec<f64>,
    #[serde(default)]
    loss: f64,
}

type Tensors = BTreeMap<String, Vec<f64>>;

/// What one batch came to here.
struct Found {
    /// Of evaluation, and of inference with its folded batch norms.
    eval: [Logits; 2],
    train: Logits,
    kinds: [(&'static str, Tensors); 4],
}

const LEARNING_RATE: f64 = 0.01;

fn family(name: &str) -> Reference {
    reference::<BTreeMap<String, Reference>>("backbones.json").remove(name).unwrap()
}

/// The same weights as `fill` in `backbones.py`.
fn fill(params: &Parameters) {
    let tensors: BTreeMap<_, _> = params.iter().collect();
    for (stream, (name, var)) in (0..).zip(tensors) {
        let scale = match *var.dims() {
            [out, _, kernel, _] => (6.0 / (out * kernel * kernel) as f64).sqrt(),
            _ => 0.1,
        };
        let norm_weight = var.rank() == 1 && name.ends_with("weight");
        let shift = if norm_weight || name.ends_with("running_var") { 1.0 } else { 0.0 };
        let values: Vec<f64> = noise(var.elem_count(), stream).map(|value| shift + scale * value).collect();
        let values = Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap();
        var.set(&values.to_dtype(params.dtype()).unwrap()).unwrap();
    }
}

fn run(dtype: DType, name: &str) -> Found {
    let (model, pixels, targets) = classifier(name, dtype);
    let logits = |output: &Output, loss| Logits {
        fine: values(output.fine.as_ref().unwrap()),
        coarse: values(&output.coarse),
        loss,
    };
    let eval = [Mode::Evaluate, Mode::Infer(&Prepared::default())]
        .map(|mode| logits(&model.forward(&pixels, mode).unwrap(), 0.0));

    let tape = Tape::new();
    let output = model.forward(&pixels, Mode::Train { tape: &tape, dropout_seed: 0 }).unwrap();
    let loss = loss().loss(&output, &targets).unwrap();
    let mut grads = loss.total.backward().unwrap();
    tape.backward(&mut grads).unwrap();

    let gradient = |(name, var): (&String, &candle_core::Var)| (name.clone(), values(grads.get(var).unwrap()));
    let gradients = model.params().iter_trained().map(gradient).collect();
    let buffers = model.params().iter().filter(|(name, _)| name.contains("running"));
    let running = buffers.map(|(name, var)| (name.clone(), values(var))).collect();
    let change = |optimizer: &str| -> Tensors {
        fill(model.params());
        let weights = || model.params().iter_trained().map(|(name, var)| (name.clone(), values(var)));
        let old: Tensors = weights().collect();
        let spec: RunSpec = serde_json::from_value(json!({
            "dataset": "d", "backbone": "resnet-tiny", "objective": "coarse-only", "optimizer": optimizer,
            "momentum": 0.9, "weight_decay": 0.01, "nesterov": false, "decay_biases_and_norms": true
        }))
        .unwrap();
        Optimizer::new(&spec, model.params()).unwrap().step(&grads, LEARNING_RATE).unwrap();
        let change = |(name, new): (String, Vec<f64>)| {
            let change = new.iter().zip(&old[&name]).map(|(new, old)| new - old).collect();
            (name, change)
        };
        weights().map(change).collect()
    };
    Found {
        eval,
        train: logits(&output, values(&loss.total)[0]),
        kinds: [("grad", gradients), ("running", running), ("sgd", change("sgd")), ("adamw", change("adamw"))],
    }
}

fn difference(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    norm(&found.iter().zip(expected).map(|(found, expected)| found - expected).collect::<Vec<_>>())
}

fn worst_and_median(errors: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut errors: Vec<_> = errors.collect();
    errors.sort_by(f64::total_cmp);
    [*errors.last().unwrap(), errors[errors.len() / 2]]
}

/// How much farther float32 may come from float64 here than PyTorch's does: the network's worst tensor and its median one.
/// Measured are 1.9 times for the worst tensor of a gradient and 1.3 times for its median one, and 1.1 times at most for
/// running statistics and steps. One run here is compared with the largest of PyTorch's twelve.
const BESIDE_PYTORCH: [f64; 2] = [3.0, 2.0];

/// A network beside the reference's, in float64 and in float32.
fn agrees(name: &str) {
    let expected = family(name);
    let path = format!("{}/tests/reference/backbones.safetensors", env!("CARGO_MANIFEST_DIR"));
    let mut tensors: BTreeMap<&str, Tensors> = BTreeMap::new();
    let kinds = ["grad", "running", "sgd", "adamw"];
    for (key, tensor) in candle_core::safetensors::load(path, &Device::Cpu).unwrap() {
        let (found, rest) = key.split_once('/').unwrap();
        let (kind, tensor_name) = rest.split_once('/').unwrap();
        if found == name {
            let kind = kinds.into_iter().find(|known| *known == kind).unwrap();
            tensors.entry(kind).or_default().insert(tensor_name.into(), values(&tensor));
        }
    }
    let tensors = |kind| tensors.get(kind).cloned().unwrap_or_default();
    // Of a weight that has no effect, such as a bias in front of a batch norm, all of the gradient is rounding.
    let gradients = tensors("grad");
    let without_effect = |name: &String| gradients.get(name).is_some_and(|gradient| norm(gradient) < 1e-12);

    let exact = run(DType::F64, name);
    for (found, expected) in
        [(&exact.eval[0], &expected.eval), (&exact.eval[1], &expected.eval), (&exact.train, &expected.train)]
    {
        assert_close(&found.fine, &expected.fine, 1e-9, "fine logits");
        assert_close(&found.coarse, &expected.coarse, 1e-9, "coarse logits");
        assert_close(&[found.loss], &[expected.loss], 1e-10, "loss");
    }
    for (kind, found) in &exact.kinds {
        let expected = tensors(kind);
        assert!(found.keys().eq(expected.keys()), "{name}/{kind}");
        for (tensor, expected) in &expected {
            let error = difference(&found[tensor], expected);
            // The file's float32 rounds by 6e-8. AdamW divides a gradient of rounding by ε = 1e-8.
            let bound = match *kind {
                "grad" if without_effect(tensor) => 1e-12,
                "adamw" if without_effect(tensor) => LEARNING_RATE * 1e-5,
                _ => 1e-6 * norm(expected),
            };
            assert!(error <= bound, "{name}/{kind}/{tensor}: off by {error:e}, {:e} at most", bound);
        }
    }

    let single = run(DType::F32, name);
    for (what, found, expected) in [
        ("evaluation", &single.eval[0], &expected.eval),
        ("inference", &single.eval[1], &expected.eval),
        ("training", &single.train, &expected.train),
    ] {
        for (found, expected) in [(&found.fine, &expected.fine), (&found.coarse, &expected.coarse)] {
            let error = difference(found, expected) / norm(expected);
            assert!(error <= 1e-5, "{name}: {what} logits of float32 off by {error:e}");
        }
    }
    for (kind, found) in single.kinds.iter().filter(|(_, found)| !found.is_empty()) {
        let error = |tensor: &String, expected: &[f64]| {
            let largest = gradients
                .get(tensor)
                .map_or(0.0, |gradient| gradient.iter().map(|value| value.abs()).fold(0.0, f64::max));
            // AdamW's first step is almost the gradient's sign, which rounding decides where there is almost no gradient:
            // behind a ReLU that passes nothing it is 0 in PyTorch and may be 1e-10 here.
            let clear = |index: usize| *kind != "adamw" || gradients[tensor][index].abs() > 1e-4 * largest;
            let clear = |values: &[f64]| -> Vec<f64> {
                let clear = values.iter().enumerate().filter(|(index, _)| clear(*index));
                clear.map(|(_, value)| *value).collect()
            };
            let expected = clear(expected);
            difference(&clear(&found[tensor]), &expected) / norm(&expected)
        };
        let expected_tensors = tensors(kind);
        let compared = || expected_tensors.iter().filter(|(tensor, _)| !without_effect(tensor));
        let ours = worst_and_median(compared().map(|(tensor, expected)| error(tensor, expected)));
        let theirs = worst_and_median(compared().map(|(tensor, _)| expected.spread[*kind][tensor]));
        let figures = format!(
            "{name}/{kind}: worst and median {:.1e} {:.1e}, PyTorch's {:.1e} {:.1e}",
            ours[0], ours[1], theirs[0], theirs[1]
        );
        for ((ours, theirs), factor) in ours.into_iter().zip(theirs).zip(BESIDE_PYTORCH) {
            assert!(ours <= factor * theirs, "{figures}");
        }
    }
}

#[test]
fn a_residual_network_agrees_with_torchvisions_forward_and_backward() {
    agrees("resnet");
}

#[test]
fn a_dense_network_agrees_with_torchvisions_forward_and_backward() {
    agrees("densenet");
}

#[test]
fn an_efficient_network_agrees_with_the_packages_forward_and_backward() {
    agrees("efficientnet");
}

#[test]
fn a_vgg_network_agrees_with_torchvisions_forward_and_backward() {
    agrees("vgg");
    agrees("vgg_bn");
}

/// One of the small networks of `backbones.py`, and the side of its images.
pub fn network(name: &str, params: &mut Parameters) -> (Network, usize) {
    const STAGES: &[Stage] = &[
        Stage { blocks: 1, kernel: 3, stride: 1, expansion: 1, output: 12 },
        Stage { blocks: 2, kernel: 3, stride: 2, expansion: 3, output: 16 },
        Stage { blocks: 2, kernel: 5, stride: 2, expansion: 6, output: 20 },
        Stage { blocks: 1, kernel: 5, stride: 1, expansion: 2, output: 24 },
    ];
    match name {
        "resnet" => {
            let config = ResNetConfig { stem_kernel: 7, widths: [16, 16, 24, 32], blocks: [1; 4] };
            (Network::Residual(ResNet::new(params, config).unwrap()), 64)
        }
        "densenet" => {
            let config = DenseNetConfig { stem_kernel: 7, initial: 16, growth: 8, blocks: [2, 3, 2, 2] };
            (Network::Dense(DenseNet::new(params, config).unwrap()), 75)
        }
        "efficientnet" => {
            let config = EfficientNetConfig {
                stem: 8,
                stages: STAGES,
                head: 320,
                dropout: 0.0,
                drop_connect: 0.0,
                convention: Convention::TensorFlow,
            };
            (Network::Efficient(EfficientNet::new(params, config).unwrap()), 70)
        }
        "vgg" | "vgg_bn" => {
            let stages: &[&[usize]] = &[&[8, 8], &[16], &[16, 24]];
            let config = VggConfig { stages, batch_norm: name == "vgg_bn", pooled: 7, hidden: 32, dropout: 0.0 };
            (Network::Vgg(Vgg::new(params, config).unwrap()), 75)
        }
        name => panic!("there is no network {name}"),
    }
}

/// A classifier on it with the weights of `fill` in `backbones.py`, its pixels, and its targets.
pub fn classifier(name: &str, dtype: DType) -> (Classifier, Tensor, Targets) {
    let mut params = Parameters::new(0, dtype, &Device::Cpu);
    let (network, side) = network(name, &mut params);
    let model = Classifier::with_network(model_spec(Backbone::ResNet34), network, params).unwrap();
    fill(model.params());
    let tensor = |values: Vec<f64>, shape: &[usize]| {
        Tensor::from_vec(values, shape, &Device::Cpu).unwrap().to_dtype(dtype).unwrap()
    };
    let pixels = tensor(noise(3 * 3 * side * side, 1000).collect(), &[3, 3, side, side]);
    let fine = [[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]].as_flattened().iter().copied().map(f64::from);
    let targets =
        Targets { fine: tensor(fine.collect(), &[3, 5]), coarse: Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap() };
    (model, pixels, targets)
}

/// Eq. 6 and 7.
pub fn loss() -> LossSpec {
    LossSpec { activation: Some(ScoreActivation::Sigmoid), focal_alpha: vec![1.0; 5], focal_gamma: 2.0 }
}

/// With linear layers of a hundredth of the width, as drawing them would take most of the test's time.
#[test]
fn vgg16_has_torchvisions_names_and_shapes() {
    const HIDDEN: usize = 40;
    assert_eq!((VggConfig::VGG16.hidden, VggConfig::VGG16.dropout), (4096, 0.5));
    for (name, batch_norm) in [("vgg", false), ("vgg_bn", true)] {
        let mut params = Parameters::new(0, DType::F32, &Device::Cpu);
        Vgg::new(&mut params, VggConfig { batch_norm, hidden: HIDDEN, ..VggConfig::VGG16 }).unwrap();
        let width = |dim: &usize| if *dim == HIDDEN { VggConfig::VGG16.hidden } else { *dim };
        let shape = |var: &candle_core::Var| var.dims().iter().map(width).collect();
        let found: BTreeMap<String, Vec<usize>> = params.iter().map(|(name, var)| (name.clone(), shape(var))).collect();
        assert_eq!(found, family(name).names, "{name}");
    }
}

#[test]
fn large_backbones_have_the_references_names_and_shapes() {
    for (backbone, name) in [
        (Backbone::ResNet34, "resnet"),
        (Backbone::DenseNet121, "densenet"),
        (Backbone::EfficientNetLite0, "efficientnet"),
    ] {
        let mut params = Parameters::new(0, DType::F32, &Device::Cpu);
        Network::new(&mut params, backbone).unwrap();
        let found: BTreeMap<_, _> = params.iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
        assert_eq!(found, family(name).names, "{backbone}");
    }
}
