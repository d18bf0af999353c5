use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use twograin::{
    domain::spec::{Backbone, CoarseInput},
    exchange::{
        ScoreActivation,
        container::{self, Entry},
    },
    model::{
        Classifier, LossSpec, Mode, ModelSpec, Network, Output, Parameters, Prepared, Tape, Targets,
        densenet::{DenseNet, DenseNetConfig},
        resnet::{ResNet, ResNetConfig},
        vgg::{Vgg, VggConfig},
    },
};

use super::{assert_close, reference};

/// What `backbones.py` says of one family.
#[derive(Deserialize)]
struct Reference {
    eval: Logits,
    train: Logits,
    grad_norms: BTreeMap<String, f64>,
    running_norms: BTreeMap<String, f64>,
    names: BTreeMap<String, Vec<usize>>,
}

#[derive(Deserialize)]
struct Logits {
    fine: Vec<f64>,
    coarse: Vec<f64>,
    #[serde(default)]
    loss: f64,
}

const TINY: [Backbone; 3] = [Backbone::VggTiny, Backbone::ResNetTiny, Backbone::DenseNetTiny];

fn family(name: &str) -> Reference {
    reference::<BTreeMap<String, Reference>>("backbones.json").remove(name).unwrap()
}

fn spec(backbone: Backbone) -> ModelSpec {
    ModelSpec {
        backbone,
        activation: Some(ScoreActivation::Sigmoid),
        coarse_input: CoarseInput::Probabilities,
        fine_count: 5,
        coarse_count: 3,
    }
}

/// The same numbers as `noise` in `backbones.py`.
fn noise(count: usize, stream: u64) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |k| {
        let h = (k.wrapping_mul(k).wrapping_add(3 * k + 7919 * stream) % (1 << 32)).wrapping_mul(2_654_435_761);
        (h % (1 << 32)) as f64 / 2f64.powi(31) - 1.0
    })
}

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
        var.set(&Tensor::from_vec(values, var.shape(), &Device::Cpu).unwrap()).unwrap();
    }
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

fn norm(tensor: &Tensor) -> f64 {
    values(tensor).iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// Logits, loss, gradients and running statistics of a network beside those of torchvision's at images of this side.
fn agrees_with_torchvision(expected: &Reference, side: usize, network: impl FnOnce(&mut Parameters) -> Network) {
    let mut params = Parameters::new(0, DType::F64, &Device::Cpu);
    let network = network(&mut params);
    let model = Classifier::with_network(spec(Backbone::ResNet34), network, params).unwrap();
    fill(model.params());
    let pixels: Vec<f64> = noise(3 * 3 * side * side, 1000).collect();
    let pixels = Tensor::from_vec(pixels, (3, 3, side, side), &Device::Cpu).unwrap();
    let agrees = |output: &Output, expected: &Logits| {
        assert_close(&values(output.fine.as_ref().unwrap()), &expected.fine, 1e-9, "fine logits");
        assert_close(&values(&output.coarse), &expected.coarse, 1e-9, "coarse logits");
    };

    agrees(&model.forward(&pixels, Mode::Evaluate).unwrap(), &expected.eval);
    agrees(&model.forward(&pixels, Mode::Infer(&Prepared::default())).unwrap(), &expected.eval);
    let tape = Tape::new();
    let output = model.forward(&pixels, Mode::Train { tape: &tape, dropout_seed: 0 }).unwrap();
    agrees(&output, &expected.train);

    let fine: Vec<f64> =
        [[1, 0, 0, 1, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1]].as_flattened().iter().copied().map(f64::from).collect();
    let targets = Targets {
        fine: Tensor::from_vec(fine, (3, 5), &Device::Cpu).unwrap(),
        coarse: Tensor::new(&[0u32, 1, 2], &Device::Cpu).unwrap(),
    };
    let loss = LossSpec { activation: Some(ScoreActivation::Sigmoid), focal_alpha: vec![1.0; 5], focal_gamma: 2.0 };
    let loss = loss.loss(&output, &targets).unwrap();
    assert_close(&values(&loss.total), &[expected.train.loss], 1e-10, "loss");
    let mut grads = loss.total.backward().unwrap();
    tape.backward(&mut grads).unwrap();
    let norms: BTreeMap<_, _> =
        model.params().iter_trained().map(|(name, var)| (name.clone(), norm(grads.get(var).unwrap()))).collect();
    assert!(norms.keys().eq(expected.grad_norms.keys()));
    for (name, expected) in &expected.grad_norms {
        // A bias in front of a batch norm has no effect: all of its gradient is rounding.
        let error = (norms[name] - expected).abs();
        assert!(error <= 1e-7 * expected + 1e-13, "{name}: {}, expected {expected}", norms[name]);
    }
    // The training pass has moved the running statistics: momentum 0.1, unbiased variance.
    let tensors: BTreeMap<_, _> = model.params().iter().collect();
    for (name, expected) in &expected.running_norms {
        assert_close(&[norm(tensors[name])], &[*expected], 1e-10, name);
    }
}

#[test]
fn a_residual_network_agrees_with_torchvisions_forward_and_backward() {
    let config = ResNetConfig { stem_kernel: 7, widths: [64, 128, 256, 512], blocks: [1; 4] };
    agrees_with_torchvision(&family("resnet"), 64, |params| Network::Residual(ResNet::new(params, config).unwrap()));
}

#[test]
fn a_dense_network_agrees_with_torchvisions_forward_and_backward() {
    let config = DenseNetConfig { stem_kernel: 7, initial: 16, growth: 8, blocks: [2, 3, 2, 2] };
    agrees_with_torchvision(&family("densenet"), 75, |params| Network::Dense(DenseNet::new(params, config).unwrap()));
}

#[test]
fn a_vgg_network_agrees_with_torchvisions_forward_and_backward() {
    for (name, batch_norm) in [("vgg", false), ("vgg_bn", true)] {
        let stages: &[&[usize]] = &[&[8, 8], &[16], &[16, 24]];
        let config = VggConfig { stages, batch_norm, pooled: 7, hidden: 32, dropout: 0.0 };
        agrees_with_torchvision(&family(name), 75, |params| Network::Vgg(Vgg::new(params, config).unwrap()));
    }
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
fn large_backbones_have_torchvisions_names_and_shapes() {
    for (backbone, name) in [(Backbone::ResNet34, "resnet"), (Backbone::DenseNet121, "densenet")] {
        let mut params = Parameters::new(0, DType::F32, &Device::Cpu);
        Network::new(&mut params, backbone).unwrap();
        let found: BTreeMap<_, _> = params.iter().map(|(name, var)| (name.clone(), var.dims().to_vec())).collect();
        assert_eq!(found, family(name).names, "{backbone}");
    }
}

#[test]
fn tiny_backbones_have_less_than_a_million_parameters_and_take_any_input_size() {
    for backbone in TINY {
        let model = Classifier::new(spec(backbone), 7, DType::F32, &Device::Cpu).unwrap();
        assert!(model.params().count() < 1_000_000, "{backbone}: {}", model.params().count());
        for side in [32, 33, 50, 97] {
            let logits = model.predictor().logits(vec![0.1; 2 * 3 * side * side], side).unwrap();
            assert_eq!((logits.coarse.len(), logits.fine.map(|fine| fine.len())), (6, Some(10)));
        }
    }
}

#[test]
fn an_images_logits_do_not_depend_on_its_batch() {
    for backbone in TINY {
        let model = Classifier::new(spec(backbone), 7, DType::F32, &Device::Cpu).unwrap();
        let pixels: Vec<f32> = noise(9 * 3 * 64 * 64, 1).map(|value| value as f32).collect();
        let together = model.predictor().logits(pixels.clone(), 64).unwrap();
        let singly: Vec<_> =
            pixels.chunks(3 * 64 * 64).map(|one| model.predictor().logits(one.to_vec(), 64).unwrap()).collect();
        let f64s = |values: &[f32]| values.iter().copied().map(f64::from).collect::<Vec<_>>();
        let fine: Vec<f32> = singly.iter().flat_map(|one| one.fine.clone().unwrap()).collect();
        let coarse: Vec<f32> = singly.iter().flat_map(|one| one.coarse.clone()).collect();
        assert_close(&f64s(&fine), &f64s(together.fine.as_ref().unwrap()), 1e-5, "fine");
        assert_close(&f64s(&coarse), &f64s(&together.coarse), 1e-5, "coarse");
    }
}

#[test]
fn the_first_weights_spread_as_torchvisions() {
    for (backbone, name, fan) in [
        (Backbone::ResNet34, "conv1.weight", 64 * 49),
        (Backbone::ResNet34, "layer4.0.conv1.weight", 512 * 9),
        (Backbone::DenseNet121, "features.conv0.weight", 3 * 49),
        (Backbone::DenseNet121, "features.transition2.conv.weight", 512),
        (Backbone::DenseNet121, "features.denseblock4.denselayer16.conv2.weight", 128 * 9),
    ] {
        let mut params = Parameters::new(0, DType::F64, &Device::Cpu);
        Network::new(&mut params, backbone).unwrap();
        let (_, var) = params.iter().find(|(found, _)| *found == name).unwrap();
        let variance = norm(var).powi(2) / var.elem_count() as f64;
        assert_close(&[variance * f64::from(fan)], &[2.0], 0.05, name);
    }
}

#[test]
fn the_seed_alone_decides_the_first_weights() {
    let weights = |seed| {
        let model = Classifier::new(spec(Backbone::VggTiny), seed, DType::F64, &Device::Cpu).unwrap();
        model.params().iter().map(|(name, var)| (name.clone(), values(var))).collect::<Vec<_>>()
    };
    assert_eq!(weights(3), weights(3));
    assert_ne!(weights(3), weights(4));
}

#[test]
fn weights_load_again_and_what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let model = Classifier::new(spec(Backbone::ResNetTiny), 1, DType::F32, &Device::Cpu).unwrap();
    let hash = model.save(&path).unwrap();
    let again = Classifier::load(model.spec(), &path, &Device::Cpu).unwrap();
    assert_eq!(again.save(&folder.path().join("again")).unwrap(), hash);

    let other = ModelSpec { fine_count: 6, ..model.spec() };
    let error = Classifier::load(other, &path, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("of another shape: coarse.weight (expected [3, 6], found [3, 5]), fine.bias"), "{error}");
    let error = Classifier::load(spec(Backbone::VggTiny), &path, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing: classifier.0.bias") && error.contains("unexpected: bn1.bias"), "{error}");
    let error = Classifier::load(spec(Backbone::VggTiny), &folder.path().join("none"), &Device::Cpu).unwrap_err();
    assert!(error.to_string().contains("No such file"), "{error}");
}

#[test]
fn a_torchvision_file_is_a_start_and_its_last_layer_is_ignored() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("backbone.safetensors");
    for (backbone, first, last, counter) in [
        (Backbone::ResNetTiny, "conv1.weight", "fc.weight", "bn1.num_batches_tracked"),
        (Backbone::VggTiny, "features.0.weight", "classifier.6.weight", "features.1.num_batches_tracked"),
        (Backbone::DenseNetTiny, "features.conv0.weight", "classifier.weight", "features.norm0.num_batches_tracked"),
    ] {
        let mut params = Parameters::new(5, DType::F32, &Device::Cpu);
        Network::new(&mut params, backbone).unwrap();
        let entry = |(name, var): (&String, &candle_core::Var)| {
            Entry::f32(name, var.dims(), &var.flatten_all().unwrap().to_vec1::<f32>().unwrap())
        };
        let mut entries: Vec<_> = params.iter().map(entry).collect();
        entries.extend([Entry::f32(last, &[1000, 128], &vec![0.0; 128_000]), Entry::i64(counter, &[1])]);
        container::write(&path, entries, &BTreeMap::new()).unwrap();

        let model = Classifier::new(spec(backbone), 6, DType::F32, &Device::Cpu).unwrap();
        let flat = |name: &str, params: &Parameters| {
            let (_, var) = params.iter().find(|(found, _)| *found == name).unwrap();
            var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let head = flat("fine.weight", model.params());
        model.load_backbone(&path).unwrap();
        assert_eq!(flat(first, model.params()), flat(first, &params));
        assert_eq!(flat("fine.weight", model.params()), head);
        let other = TINY.into_iter().find(|&other| other != backbone).unwrap();
        let error = Classifier::new(spec(other), 6, DType::F32, &Device::Cpu).unwrap().load_backbone(&path);
        assert!(error.unwrap_err().to_string().contains("missing: "), "{backbone}");
    }
}
