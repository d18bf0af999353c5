use std::{ops::ControlFlow, path::Path};

use candle_core::Device;
use twograin::{
    dataset::{Sample, TrainingData},
    domain::{
        CoarseId, FineId, LabelSet, RunSpec, Split, Taxonomy,
        spec::{Augmentation, Backbone, CoarseInput, Fields, FocalAlpha, Objective, Optimizer, Sampling},
    },
    explanation::{Head, decision_path},
    training::{Files, Fit, Trained, TrainingError, TrainingEvent, fit},
};

const TAXONOMY: &str = r#"{"name": "colours", "coarse": ["warm", "cold"], "fine": [
    {"name": "red", "parent": "warm"}, {"name": "yellow", "parent": "warm"},
    {"name": "green", "parent": "cold"}, {"name": "blue", "parent": "cold"}, {"name": "white", "public": true}]}"#;

/// `count` images of 48 pixels: a square of one of four colours on noise, every third with a white one beside it.
pub fn data(folder: &Path, count: usize) -> TrainingData {
    let sample = |index: usize| {
        let colour = index % 4;
        let white = index.is_multiple_of(3);
        let rgb = [[220, 30, 30], [220, 210, 30], [30, 200, 30], [30, 30, 220]][colour];
        let image = image::RgbImage::from_fn(48, 48, |x, y| match (x, y) {
            (4..24, 10..34) => image::Rgb(rgb),
            (28..44, 10..34) if white => image::Rgb([255; 3]),
            _ => image::Rgb([((x * 31 + y * 17 + index as u32 * 97) % 64 + 60) as u8; 3]),
        });
        let path = folder.join(format!("{index}.png"));
        image.save(&path).unwrap();
        let labels: LabelSet = std::iter::once(colour as u16).chain(white.then_some(4)).map(FineId).collect();
        Sample { source_id: 1000 + index as i64, path, labels, coarse: CoarseId(colour as u16 / 2) }
    };
    let mut train: Vec<_> = (0..count).map(sample).collect();
    let test = train.split_off(count - count / 4);
    TrainingData { taxonomy: Taxonomy::from_json(TAXONOMY).unwrap(), train, test }
}

pub fn spec(backbone: Backbone, objective: Objective, change: impl FnOnce(&mut Fields)) -> RunSpec {
    let fast = |spec: &mut Fields| {
        (spec.input_size, spec.epochs, spec.batch_size) = (32, 2, 8);
        (spec.optimizer, spec.learning_rate) = (Optimizer::AdamW, 3e-3);
        spec.augmentation = Augmentation::None;
        change(spec);
    };
    RunSpec::new("colours", backbone, objective).with(fast).unwrap()
}

pub fn files(spec: &RunSpec) -> Files {
    Files { initial_weights: spec.initial_weights.as_ref().map(Into::into), ..Files::default() }
}

/// Trains to the end and returns the result and what was reported.
pub fn finished(spec: &RunSpec, data: &TrainingData) -> (Trained, Vec<TrainingEvent>) {
    finished_with(spec, data, &files(spec))
}

/// The same with these files.
pub fn finished_with(spec: &RunSpec, data: &TrainingData, files: &Files) -> (Trained, Vec<TrainingEvent>) {
    let mut events = Vec::new();
    let mut observer = |event| {
        events.push(event);
        ControlFlow::Continue(())
    };
    match fit(spec, data, files, &Device::Cpu, &mut observer).unwrap() {
        Fit::Finished(trained) => (trained, events),
        Fit::Stopped => panic!("nobody stopped it"),
    }
}

#[test]
fn every_objective_learns_sixteen_images_by_heart() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data(folder.path(), 36);
    // One label each: two would share the softmax, and eq. 5 has a minimum above zero then.
    data.train.retain(|sample| sample.labels.len() == 1);
    data.train.truncate(16);
    for &objective in Objective::ALL {
        for backbone in [Backbone::ResNetTiny, Backbone::VggTiny, Backbone::DenseNetTiny] {
            let spec = spec(backbone, objective, |spec| {
                (spec.epochs, spec.batch_size, spec.learning_rate) = (120, 16, 5e-3);
                spec.coarse_input = CoarseInput::Logits;
            });
            let (_, events) = finished(&spec, &data);
            let last = events.iter().rev().find_map(|event| match event {
                TrainingEvent::EpochEnded { train_loss, .. } => Some(*train_loss),
                _ => None,
            });
            assert!(last.unwrap() < 0.1, "{backbone} {objective}: {last:?}");
        }
    }
}

#[test]
fn the_same_specification_gives_the_same_bits() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 64);
    let spec = spec(Backbone::VggTiny, Objective::SigmoidThreshold, |spec| spec.augmentation = Augmentation::CropFlip);
    let (first, _) = finished(&spec, &data);
    let (second, _) = finished(&spec, &data);
    assert_eq!(first.scores, second.scores);
    let hash = |trained: &Trained| trained.model.save(&folder.path().join("weights")).unwrap();
    assert_eq!(hash(&first), hash(&second));
    let (other, _) = finished(&spec.with(|spec| spec.seed = 1).unwrap(), &data);
    assert_ne!(first.scores[1], other.scores[1]);
}

#[test]
fn a_run_reports_its_course_and_scores_every_image_once() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 64);
    let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |_| {});
    let (trained, events) = finished(&spec, &data);
    // 48 images to learn from, of which each category gives 24 / 10, rounded.
    assert!(matches!(
        events[0],
        TrainingEvent::Started { train_images: 44, validation_images: 4, test_images: 16, steps_per_epoch: 5, .. }
    ));
    let ended: Vec<_> = events.iter().filter(|event| matches!(event, TrainingEvent::EpochEnded { .. })).collect();
    let TrainingEvent::EpochEnded { epoch: 2, validation_counts: Some(counts), validation_loss: Some(_), .. } =
        ended[1]
    else {
        panic!("{ended:?}")
    };
    assert_eq!((ended.len(), counts.total()), (2, 4));
    assert!(
        events.iter().any(|event| matches!(event, TrainingEvent::Step { epoch: 1, step: 1, fine_loss: Some(_), .. }))
    );
    assert_eq!(events.last(), Some(&TrainingEvent::Evaluating { split: Split::Test, done: 16, total: 16 }));
    let json = serde_json::to_string(ended[1]).unwrap();
    assert!(json.starts_with(r#"{"event":"epoch-ended","epoch":2"#), "{json}");
    assert_eq!(serde_json::from_str::<TrainingEvent>(&json).unwrap(), *ended[1]);

    let [validation, test] = &trained.scores[..] else { panic!() };
    assert_eq!((validation.split, validation.len(), test.split), (Split::Validation, 4, Split::Test));
    assert_eq!(test.image_ids, (1048..1064).collect::<Vec<i64>>());
    let fine = test.fine.as_ref().unwrap();
    assert!(fine.p05.iter().zip(&fine.p95).all(|(low, high)| low < high));
    test.write(&folder.path().join("scores")).unwrap();
}

#[test]
fn every_option_of_training_changes_what_is_learned() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let logits = |change: &dyn Fn(&mut Fields)| {
        let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |spec| {
            (spec.optimizer, spec.learning_rate) = (Optimizer::Sgd, 0.01);
            change(spec);
        });
        finished(&spec, &data).0.scores[1].coarse_logits.clone()
    };
    let changes: [&dyn Fn(&mut Fields); 6] = [
        &|_| {},
        &|spec| spec.nesterov = true,
        &|spec| spec.decay_biases_and_norms = false,
        &|spec| spec.clip_norm = Some(0.1),
        &|spec| spec.sampling = Sampling::LabelBalanced,
        &|spec| spec.focal_alpha = FocalAlpha::ByLabel([("red".into(), 2.0)].into()),
    ];
    let logits: Vec<_> = changes.iter().map(|change| logits(change)).collect();
    for (index, found) in logits.iter().enumerate() {
        assert!(!logits[..index].contains(found), "option {index} has no effect");
    }
}

#[test]
fn contributions_and_bias_add_up_to_the_models_own_coarse_logit() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    for objective in [Objective::TopKSoftmax, Objective::SigmoidThreshold] {
        for &input in CoarseInput::ALL {
            let spec = spec(Backbone::ResNetTiny, objective, |spec| (spec.epochs, spec.coarse_input) = (1, input));
            let (trained, _) = finished(&spec, &data);
            let scores = &trained.scores[1];
            let head = Head::from(scores.fine.as_ref().unwrap());
            for row in 0..scores.len() {
                let path = decision_path(scores.fine_row(row).unwrap(), &head, &spec.own_rule().unwrap(), 1);
                for (evidence, &logit) in path.coarse.iter().zip(scores.coarse_row(row)) {
                    let scale =
                        path.fine.iter().map(|fine| fine.contributions[evidence.coarse.index()].abs()).sum::<f64>();
                    assert!((evidence.logit - f64::from(logit)).abs() <= 1e-5 * scale.max(1.0), "{evidence:?} {logit}");
                }
            }
        }
    }
}

#[test]
fn a_coarse_only_run_has_no_fine_scores() {
    let folder = tempfile::tempdir().unwrap();
    let (trained, events) = finished(&spec(Backbone::VggTiny, Objective::CoarseOnly, |_| {}), &data(folder.path(), 48));
    assert!(trained.scores.iter().all(|scores| scores.fine.is_none()));
    let counts = |event: &TrainingEvent| matches!(event, TrainingEvent::EpochEnded { validation_counts: Some(_), .. });
    assert!(!events.iter().any(counts));
    assert!(!events.iter().any(|event| matches!(event, TrainingEvent::Evaluating { split: Split::Train, .. })));
}

#[test]
fn breaking_stops_the_run_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let spec = spec(Backbone::ResNetTiny, Objective::SigmoidThreshold, |spec| spec.epochs = 1);
    let all = finished(&spec, &data).1.len();
    for at in 0..all {
        let mut seen = 0;
        let mut observer = |_| {
            seen += 1;
            if seen > at { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        // How many steps are reported depends on the clock, so a run may have ended before the last of them.
        match fit(&spec, &data, &files(&spec), &Device::Cpu, &mut observer).unwrap() {
            Fit::Stopped => assert_eq!(seen, at + 1),
            Fit::Finished(_) => assert!(seen <= at && at > 3),
        }
    }
}

#[test]
fn what_goes_wrong_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let failed = |data: &TrainingData, change: &dyn Fn(&mut Fields)| {
        let spec = spec(Backbone::ResNetTiny, Objective::SigmoidThreshold, change);
        fit(&spec, data, &files(&spec), &Device::Cpu, &mut |_| ControlFlow::Continue(())).unwrap_err()
    };
    let error = failed(&data, &|spec| {
        (spec.optimizer, spec.learning_rate, spec.warmup_epochs, spec.epochs) = (Optimizer::Sgd, 100.0, 0.0, 50);
        spec.weight_decay = 10.0;
    });
    assert!(matches!(error, TrainingError::NonFinite { epoch: 1.., step: 1.., .. }), "{error}");
    let error = failed(&data, &|spec| spec.initial_weights = Some("/none.safetensors".into())).to_string();
    assert!(error.contains("initial weights: /none.safetensors"), "{error}");
    let error = failed(&data, &|spec| spec.focal_alpha = FocalAlpha::ByLabel([("pink".into(), 2.0)].into()));
    assert!(error.to_string().contains("the data set “colours” has no fine label “pink”"), "{error}");
    let few = TrainingData { train: data.train[..1].to_vec(), ..data.clone() };
    assert!(matches!(failed(&few, &|_| {}), TrainingError::TooFewImages(1)));
    std::fs::write(&data.train[5].path, "not an image").unwrap();
    std::fs::write(&data.train[6].path, "not an image").unwrap();
    let error = failed(&data, &|_| {}).to_string();
    assert!(error.contains(".png"), "{error}");
}

#[test]
fn an_image_that_is_damaged_during_training_ends_the_run_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let mut data = data(folder.path(), 48);
    // Photographs, of which half a file still decodes to half an image.
    for sample in &mut data.train {
        let jpeg = sample.path.with_extension("jpg");
        image::open(&sample.path).unwrap().save(&jpeg).unwrap();
        sample.path = jpeg;
    }
    let damaged = &data.train[5].path;
    let spec = spec(Backbone::ResNetTiny, Objective::SigmoidThreshold, |spec| {
        (spec.epochs, spec.augmentation) = (3, Augmentation::CropFlip);
    });
    let mut ended = 0;
    let mut observer = |event| {
        if matches!(event, TrainingEvent::EpochEnded { .. }) {
            ended += 1;
            let bytes = std::fs::read(damaged).unwrap();
            std::fs::write(damaged, &bytes[..bytes.len() / 2]).unwrap();
        }
        ControlFlow::Continue(())
    };
    let error = fit(&spec, &data, &files(&spec), &Device::Cpu, &mut observer).unwrap_err().to_string();
    assert_eq!(ended, 1, "{error}");
    assert!(error.contains(&format!("{}: the file ends before the image does", damaged.display())), "{error}");
}
