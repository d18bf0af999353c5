//! Transfer learning: frozen layer groups, cached features, learning rates of groups, the epoch that is kept.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
};

use candle_core::DType;
use serde::Deserialize;
use twograin::{
    domain::{
        Threshold,
        spec::{Augmentation, Backbone, Fields, Keep, Objective, Optimizer, Schedule},
    },
    evaluation::FeatureCache,
    exchange::{
        Sha256Hex,
        container::{self, Entry},
    },
    model::{Mode, Prepared, Tape},
    training::{self, Files, Trained, TrainingEvent},
};

use super::{
    assert_close,
    fit::{data, finished, finished_with, spec},
    noise, norm, reference, torchvision, values,
};

/// What `frozen.py` says of one network: norm and product with noise of each tensor.
#[derive(Deserialize)]
struct Reference {
    groups: usize,
    loss: f64,
    grad: BTreeMap<String, [f64; 2]>,
    running: BTreeMap<String, [f64; 2]>,
}

#[test]
fn what_is_left_of_a_frozen_network_learns_as_in_pytorch() {
    for (name, expected) in reference::<BTreeMap<String, Reference>>("frozen.json") {
        let (model, pixels, targets) = torchvision::classifier(&name, DType::F64);
        let middle = model.through(0..expected.groups, &pixels, Mode::Infer(&Prepared::default())).unwrap();
        let tape = Tape::new();
        let mode = Mode::Train { tape: &tape, dropout_seed: 0 };
        let output = model.forward_after(expected.groups, &middle, mode).unwrap();
        let loss = torchvision::loss().loss(&output, &targets).unwrap();
        assert_close(&values(&loss.total), &[expected.loss], 1e-10, &name);
        let mut grads = loss.total.backward().unwrap();
        tape.backward(&mut grads).unwrap();
        let params = model.params();
        let learned = params.iter_trained().filter_map(|(name, var)| Some((name, values(grads.get(var)?))));
        let running = params.iter().filter(|(name, _)| name.contains("running"));
        let running = running.map(|(name, var)| (name, values(var)));
        agree(&name, learned, &expected.grad);
        agree(&name, running, &expected.running);
    }
}

fn agree<'a>(
    network: &str,
    found: impl Iterator<Item = (&'a String, Vec<f64>)>,
    expected: &BTreeMap<String, [f64; 2]>,
) {
    let mut seen = 0;
    for (name, values) in found {
        let product: f64 = values.iter().zip(noise(values.len(), 5)).map(|(value, noise)| value * noise).sum();
        let [expected_norm, expected_product] = expected[name];
        // Of a weight that has no effect, such as a bias in front of a batch norm, all of the gradient is rounding.
        let bound = 1e-9 * expected_norm + 1e-12;
        let error = (norm(&values) - expected_norm).abs().max((product - expected_product).abs());
        assert!(error <= bound, "{network}/{name}: off by {error:e}, {bound:e} at most");
        seen += 1;
    }
    assert_eq!(seen, expected.len(), "{network}");
}

/// The tensors of a trained model.
fn tensors(trained: &Trained) -> BTreeMap<String, Vec<f64>> {
    trained.model.params().iter().map(|(name, var)| (name.clone(), values(var))).collect()
}

/// The layer groups (“” is the head) of which a tensor differs.
fn differing(a: &Trained, b: &Trained) -> BTreeSet<String> {
    let others = tensors(b);
    let differs = tensors(a).into_iter().filter(|(name, values)| *values != others[name]);
    differs.map(|(name, _)| a.model.params().group_of(&name).unwrap_or_default().to_owned()).collect()
}

#[test]
fn a_frozen_backbone_stays_as_it_was_with_and_without_augmentation() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    for backbone in [Backbone::ResNetTiny, Backbone::VggTiny, Backbone::DenseNetTiny] {
        for augmentation in [Augmentation::None, Augmentation::CropFlip] {
            let trained = |epochs| {
                let change = |spec: &mut Fields| {
                    (spec.epochs, spec.augmentation, spec.unfreeze) = (epochs, augmentation, "none".parse().unwrap());
                };
                finished(&spec(backbone, Objective::SigmoidThreshold, change), &data)
            };
            let ((one, events), (two, _)) = (trained(1), trained(2));
            assert_eq!(differing(&one, &two), BTreeSet::from([String::new()]), "{backbone} {augmentation}");
            // With augmentation no two epochs see the same images.
            let features = events.iter().filter(|event| matches!(event, TrainingEvent::Features { .. })).count();
            assert_eq!(features > 0, augmentation == Augmentation::None);
        }
    }
}

#[test]
fn groups_thaw_at_their_epoch() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let trained = |epochs, unfreeze: &str| {
        let change = |spec: &mut Fields| {
            (spec.epochs, spec.schedule, spec.unfreeze) = (epochs, Schedule::Constant, unfreeze.parse().unwrap());
        };
        finished(&spec(Backbone::ResNetTiny, Objective::TopKSoftmax, change), &data).0
    };
    let first = trained(1, "none");
    for (other, groups) in [
        (trained(2, "layer4@2"), vec!["", "layer4"]),
        (trained(3, "layer4@2"), vec!["", "layer4"]),
        (trained(3, "layer4@2, layer3@3"), vec!["", "layer3", "layer4"]),
        (trained(1, "layer4, layer3, layer2, layer1, stem"), vec!["", "layer1", "layer2", "layer3", "layer4", "stem"]),
    ] {
        assert_eq!(differing(&first, &other), groups.into_iter().map(String::from).collect());
    }
    // The same steps, whether the groups are named or not.
    let all = trained(1, "layer4, layer3, layer2, layer1, stem");
    assert_eq!(differing(&all, &trained(1, "all")), BTreeSet::new());
}

#[test]
fn a_group_moves_by_its_own_learning_rate() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let trained = |rate: &str| {
        let change = |spec: &mut Fields| {
            (spec.epochs, spec.batch_size, spec.warmup_epochs) = (1, 64, 0.0);
            (spec.optimizer, spec.momentum, spec.weight_decay) = (Optimizer::Sgd, 0.0, 0.0);
            (spec.learning_rate, spec.unfreeze) = (0.1, format!("layer4{rate}").parse().unwrap());
        };
        tensors(&finished(&spec(Backbone::ResNetTiny, Objective::TopKSoftmax, change), &data).0)
    };
    // One step of each.
    let [whole, half, none] = ["", ":0.05", ":1e-30"].map(trained);
    let name = "layer4.0.conv2.weight";
    let moved = |by: &BTreeMap<String, Vec<f64>>| -> Vec<f64> {
        by[name].iter().zip(&none[name]).map(|(new, old)| new - old).collect()
    };
    let (whole, half) = (moved(&whole), moved(&half));
    assert!(norm(&whole) > 0.0);
    let doubled: Vec<f64> = half.iter().map(|value| 2.0 * value).collect();
    assert_close(&doubled, &whole, 1e-6, name);
}

#[test]
fn features_are_computed_once_for_the_same_weights_transform_and_images() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let cache = folder.path().join("cache");
    let features = FeatureCache { directory: cache.clone(), limit_bytes: 1 << 30 };
    let files = Files { features: Some(features), ..Files::default() };
    let probe = |change: &dyn Fn(&mut Fields)| {
        spec(Backbone::VggTiny, Objective::SigmoidThreshold, |spec| {
            spec.unfreeze = "none".parse().unwrap();
            change(spec);
        })
    };
    let cached = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>();
    let plain = finished(&probe(&|_| {}), &data).0.scores;
    let first = finished_with(&probe(&|_| {}), &data, &files).0.scores;
    let places = cached();
    let again = finished_with(&probe(&|spec| spec.threshold = Threshold::new(0.5).unwrap()), &data, &files).0.scores;
    // One file for the training images, one for the test images.
    assert_eq!((&plain, &plain, cached(), places.len()), (&first, &again, places.clone(), 2));

    // A damaged file is not believed, a whole one is.
    let zeros = vec![0.0; 12 * 256];
    let bytes: Vec<u8> = zeros.iter().flat_map(|value: &f32| value.to_le_bytes()).collect();
    for (hash, believed) in [("wrong".to_owned(), false), (Sha256Hex::of(&bytes).0, true)] {
        for path in &places {
            let entry = Entry::f32("features", &[12, 256], &zeros);
            container::write(path, vec![entry], &[("features", hash.clone())].into()).unwrap();
        }
        let scores = finished_with(&probe(&|_| {}), &data, &files).0.scores;
        assert_eq!(scores[1] != plain[1], believed);
    }

    // Other weights, another input size, another image: other files.
    finished_with(&probe(&|spec| spec.seed = 1), &data, &files);
    assert_eq!(cached().len(), 4);
    finished_with(&probe(&|spec| spec.input_size = 40), &data, &files);
    assert_eq!(cached().len(), 6);
    fs::copy(&data.train[0].path, &data.train[1].path).unwrap();
    finished_with(&probe(&|_| {}), &data, &files);
    assert_eq!(cached().len(), 7);
}

#[test]
fn a_full_cache_forgets_what_was_not_used_for_longest() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let cache = folder.path().join("cache");
    // The training images' file has 37 kB, the test images' 12 kB.
    let features = FeatureCache { directory: cache.clone(), limit_bytes: 55_000 };
    let files = Files { features: Some(features), ..Files::default() };
    let cached = || fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>();
    let run = |seed| {
        let change = |spec: &mut Fields| (spec.seed, spec.unfreeze) = (seed, "none".parse().unwrap());
        finished_with(&spec(Backbone::VggTiny, Objective::CoarseOnly, change), &data, &files);
        cached()
    };
    let first = run(0);
    let second = run(1);
    assert_eq!((first.len(), second.len(), first.intersection(&second).count()), (2, 2, 0));
    let size = |path| fs::metadata(path).unwrap().len();
    assert!(second.iter().map(size).sum::<u64>() <= 55_000);
}

#[test]
fn the_best_epoch_by_the_validation_split_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data(folder.path(), 80);
    // Labels of other images: what is learned of them by heart makes the validation split worse.
    let labels: Vec<_> = data.train.iter().map(|sample| (sample.labels.clone(), sample.coarse)).collect();
    for (sample, labels) in data.train.iter_mut().zip(labels.iter().cycle().skip(17).step_by(7)) {
        (sample.labels, sample.coarse) = labels.clone();
    }
    let trained = |keep, epochs| {
        let change = |spec: &mut Fields| (spec.keep, spec.epochs, spec.schedule) = (keep, epochs, Schedule::Constant);
        finished(&spec(Backbone::ResNetTiny, Objective::SigmoidThreshold, change), &data)
    };
    let (best, events) = trained(Keep::BestLoss, 16);
    let losses: Vec<f64> = events
        .iter()
        .filter_map(|event| match event {
            TrainingEvent::EpochEnded { validation_loss, .. } => *validation_loss,
            _ => None,
        })
        .collect();
    let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
    let epoch = losses.iter().position(|&loss| loss == lowest).unwrap() + 1;
    assert!(epoch < 16, "the last epoch is the best: {losses:?}");
    assert_eq!(best.epoch, epoch);
    assert!(events.contains(&TrainingEvent::Kept { epoch, trained: 16 }));
    let (last, _) = trained(Keep::Last, epoch);
    assert_eq!((&best.scores, tensors(&best)), (&last.scores, tensors(&last)));
}

#[test]
fn a_run_without_progress_ends_when_its_patience_does() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let change = |spec: &mut Fields| {
        // So slow that nothing changes.
        (spec.learning_rate, spec.epochs, spec.optimizer) = (1e-30, 10, Optimizer::Sgd);
        (spec.keep, spec.patience) = (Keep::BestCoarseAccuracy, Some(3));
        spec.unfreeze = "none".parse().unwrap();
    };
    let (trained, events) = finished(&spec(Backbone::ResNetTiny, Objective::TopKSoftmax, change), &data);
    let epochs = events.iter().filter(|event| matches!(event, TrainingEvent::EpochEnded { .. })).count();
    assert_eq!((trained.epoch, epochs), (1, 4));
    assert!(events.contains(&TrainingEvent::Kept { epoch: 1, trained: 4 }));
}

#[test]
fn the_best_of_nothing_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data(folder.path(), 48);
    // One image of each category: none is left for validation.
    data.train.truncate(4);
    let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |spec| spec.keep = Keep::BestLoss);
    let fit = training::fit(&spec, &data, &Files::default(), &candle_core::Device::Cpu, &mut |_| {
        std::ops::ControlFlow::Continue(())
    });
    assert!(fit.unwrap_err().to_string().contains("there are no validation images"));
}
