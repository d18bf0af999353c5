use std::collections::BTreeMap;

use candle_core::{DType, Device};
use twograin::{
    domain::spec::Backbone,
    exchange::container::{self, Entry},
    model::{Classifier, ModelSpec, Network, Parameters},
    weights,
};

use super::{assert_close, model_spec, noise, norm, values};

const TINY: [Backbone; 3] = [Backbone::VggTiny, Backbone::ResNetTiny, Backbone::DenseNetTiny];

#[test]
fn tiny_backbones_have_less_than_a_million_parameters_and_take_any_input_size() {
    for backbone in TINY {
        let model = Classifier::new(model_spec(backbone), 7, DType::F32, &Device::Cpu).unwrap();
        assert!(model.params().count() < 1_000_000, "{backbone}: {}", model.params().count());
        for side in [32, 33, 50, 97] {
            takes(&model, side);
        }
    }
}

#[test]
fn large_backbones_take_any_input_size() {
    for backbone in [Backbone::EfficientNetLite0, Backbone::DenseNet121, Backbone::ResNet34] {
        let model = Classifier::new(model_spec(backbone), 7, DType::F32, &Device::Cpu).unwrap();
        for side in [32, 33, 97] {
            takes(&model, side);
        }
    }
}

fn takes(model: &Classifier, side: usize) {
    let logits = model.predictor().logits(vec![0.1; 2 * 3 * side * side], side).unwrap();
    let fine = logits.fine.unwrap();
    assert_eq!((logits.coarse.len(), fine.len()), (6, 10));
    assert!(logits.coarse.iter().chain(&fine).all(|logit| logit.is_finite()));
}

#[test]
fn an_images_logits_do_not_depend_on_its_batch() {
    for backbone in TINY {
        let model = Classifier::new(model_spec(backbone), 7, DType::F32, &Device::Cpu).unwrap();
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
        let variance = norm(&values(var)).powi(2) / var.elem_count() as f64;
        assert_close(&[variance * f64::from(fan)], &[2.0], 0.05, name);
    }
}

#[test]
fn the_seed_alone_decides_the_first_weights() {
    let weights = |seed| {
        let model = Classifier::new(model_spec(Backbone::VggTiny), seed, DType::F64, &Device::Cpu).unwrap();
        model.params().iter().map(|(name, var)| (name.clone(), values(var))).collect::<Vec<_>>()
    };
    assert_eq!(weights(3), weights(3));
    assert_ne!(weights(3), weights(4));
}

#[test]
fn weights_load_again_and_what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    let model = Classifier::new(model_spec(Backbone::ResNetTiny), 1, DType::F32, &Device::Cpu).unwrap();
    let hash = model.save(&path).unwrap();
    let again = Classifier::load(model.spec(), &path, &Device::Cpu).unwrap();
    assert_eq!(again.save(&folder.path().join("again")).unwrap(), hash);

    let other = ModelSpec { fine_count: 6, ..model.spec() };
    let error = Classifier::load(other, &path, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("of another shape: coarse.weight (expected [3, 6], found [3, 5]), fine.bias"), "{error}");
    let error = Classifier::load(model_spec(Backbone::VggTiny), &path, &Device::Cpu).unwrap_err().to_string();
    assert!(error.contains("missing: classifier.0.bias") && error.contains("unexpected: bn1.bias"), "{error}");
    let error = Classifier::load(model_spec(Backbone::VggTiny), &folder.path().join("none"), &Device::Cpu).unwrap_err();
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

        let model = Classifier::new(model_spec(backbone), 6, DType::F32, &Device::Cpu).unwrap();
        let flat = |name: &str, params: &Parameters| {
            let (_, var) = params.iter().find(|(found, _)| *found == name).unwrap();
            var.flatten_all().unwrap().to_vec1::<f32>().unwrap()
        };
        let head = flat("fine.weight", model.params());
        model.load_backbone(&path, weights::read(&path, backbone).unwrap()).unwrap();
        assert_eq!(flat(first, model.params()), flat(first, &params));
        assert_eq!(flat("fine.weight", model.params()), head);
        let other = TINY.into_iter().find(|&other| other != backbone).unwrap();
        let error = weights::read(&path, other).unwrap_err().to_string();
        assert!(error.contains("missing: "), "{backbone}");
    }
}

#[test]
fn layer_groups_hold_every_tensor_of_a_backbone_and_none_of_the_head() {
    // VGG16, which takes long to draw, is built as its small relative is.
    for &backbone in Backbone::ALL.iter().filter(|&&backbone| backbone != Backbone::Vgg16) {
        let model = Classifier::new(model_spec(backbone), 0, DType::F32, &Device::Cpu).unwrap();
        let params = model.params();
        assert_eq!(params.groups().collect::<Vec<_>>(), backbone.layer_groups(), "{backbone}");
        assert_eq!(model.groups(), backbone.layer_groups().len());
        for (name, _) in params.iter() {
            let head = name.starts_with("fine.") || name.starts_with("coarse.");
            assert_eq!(params.group_of(name).is_none(), head, "{backbone}: {name}");
        }
        for group in backbone.layer_groups() {
            assert!(params.iter_trained().any(|(name, _)| params.group_of(name) == Some(group)), "{backbone}: {group}");
        }
    }
}
