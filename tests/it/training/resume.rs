//! Runs that are interrupted and go on.

use std::{fs, ops::ControlFlow, path::Path, path::PathBuf, time::Duration};

use candle_core::Device;
use twograin::{
    dataset::TrainingData,
    domain::{
        RunSpec,
        spec::{Augmentation, Backbone, Fields, Keep, Objective, Optimizer, Sampling},
    },
    evaluation::FeatureCache,
    exchange::{Scores, Sha256Hex},
    training::{CheckpointFiles, Files, Fit, Observer, TrainingEvent, fit},
};

use super::fit::{data, spec};

/// What a run leaves: the hash of its weights, its scores, and its epochs without their times.
type Left = (String, Vec<Scores>, Vec<TrainingEvent>);

/// Stops after some steps or at some event, and keeps what it hears.
#[derive(Default)]
struct Watch {
    after_steps: Option<usize>,
    at_event: Option<fn(&TrainingEvent) -> bool>,
    steps: usize,
    events: Vec<TrainingEvent>,
}

impl Observer for Watch {
    fn on(&mut self, event: TrainingEvent) -> ControlFlow<()> {
        let stop = self.at_event.is_some_and(|is| is(&event));
        self.events.push(event);
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    fn after_step(&mut self) -> ControlFlow<()> {
        self.steps += 1;
        if self.after_steps == Some(self.steps) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

impl Watch {
    fn warnings(&self) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match event {
                TrainingEvent::Warning { text } => Some(&**text),
                _ => None,
            })
            .collect()
    }

    fn resumed(&self) -> Option<(usize, usize)> {
        self.events.iter().find_map(|event| match event {
            TrainingEvent::Resumed { epochs, step, .. } => Some((*epochs, *step)),
            _ => None,
        })
    }

    /// All epochs of the run, those of earlier attempts too.
    fn epochs(&self) -> Vec<TrainingEvent> {
        let ended = self.events.iter().flat_map(|event| match event {
            TrainingEvent::Resumed { ended, .. } => ended.clone(),
            TrainingEvent::EpochEnded { .. } => vec![event.clone()],
            _ => Vec::new(),
        });
        let timeless = |mut event| {
            if let TrainingEvent::EpochEnded { seconds, .. } = &mut event {
                assert!(*seconds > 0.0);
                *seconds = 0.0;
            }
            event
        };
        ended.map(timeless).collect()
    }
}

/// A run whose attempts have directories in a folder.
struct Run<'a> {
    spec: RunSpec,
    data: &'a TrainingData,
    folder: &'a Path,
    every: Duration,
}

impl Run<'_> {
    fn checkpoints(&self, attempt: usize) -> CheckpointFiles {
        let directory = |attempt| self.folder.join(format!("attempt-{attempt}"));
        let earlier = (1..attempt).map(directory).collect();
        CheckpointFiles { directory: directory(attempt), earlier, every: self.every }
    }

    fn attempt(&self, number: usize, watch: &mut Watch) -> Option<Left> {
        let files = Files {
            initial_weights: None,
            // Features from disk are those that would be computed: the third attempt does.
            features: (number != 3)
                .then(|| FeatureCache { directory: self.folder.join("features"), limit_bytes: 1 << 30 }),
            checkpoints: Some(self.checkpoints(number)),
        };
        match fit(&self.spec, self.data, &files, &Device::Cpu, watch).unwrap() {
            Fit::Stopped => None,
            Fit::Finished(trained) => {
                let weights = trained.model.save(&self.folder.join("weights")).unwrap();
                Some((weights.0, trained.scores, watch.epochs()))
            }
        }
    }

    fn to_its_end(&self, number: usize) -> (Left, Watch) {
        let mut watch = Watch::default();
        (self.attempt(number, &mut watch).expect("nobody stops it"), watch)
    }
}

/// A new folder.
fn made(path: PathBuf) -> PathBuf {
    fs::create_dir(&path).unwrap();
    path
}

const HOUR: Duration = Duration::from_secs(3600);

/// Runs to its end at once; then from each moment on that it can be stopped at.
fn goes_on_exactly(backbone: Backbone, change: impl Fn(&mut Fields)) {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let spec = spec(backbone, Objective::SigmoidThreshold, |spec| {
        (spec.epochs, spec.batch_size, spec.augmentation) = (3, 10, Augmentation::CropFlip);
        change(spec);
    });
    let whole = made(folder.path().join("whole"));
    let (expected, watch) = Run { spec: spec.clone(), data: &data, folder: &whole, every: HOUR }.to_its_end(1);
    let steps = watch.steps;
    assert!(steps >= 6, "{steps} steps");
    for stop in 1..=steps {
        let place = made(folder.path().join(format!("stop-{stop}")));
        let run = Run { spec: spec.clone(), data: &data, folder: &place, every: HOUR };
        let mut watch = Watch { after_steps: Some(stop), ..Watch::default() };
        assert!(run.attempt(1, &mut watch).is_none());
        // The second attempt is stopped a step later, the third goes to the end.
        let mut again = Watch { after_steps: Some(1), ..Watch::default() };
        let second = run.attempt(2, &mut again);
        assert_eq!(again.resumed().map(|(epochs, step)| epochs * 3 + step), Some(stop), "{:?}", again.warnings());
        let (found, _) = second.map_or_else(|| run.to_its_end(3), |left| (left, again));
        assert!(found == expected, "stopped after step {stop}: {:?} is not {:?}", found.2, expected.2);
    }
}

#[test]
fn a_run_goes_on_exactly_with_adamw() {
    goes_on_exactly(Backbone::ResNetTiny, |_| {});
}

#[test]
fn a_run_goes_on_exactly_with_momentum_and_label_balanced_sampling() {
    goes_on_exactly(Backbone::ResNetTiny, |spec| {
        (spec.optimizer, spec.learning_rate, spec.nesterov) = (Optimizer::Sgd, 0.01, true);
        (spec.sampling, spec.clip_norm) = (Sampling::LabelBalanced, Some(1.0));
    });
}

#[test]
fn a_run_goes_on_exactly_with_dropout() {
    goes_on_exactly(Backbone::VggTiny, |_| {});
}

#[test]
fn a_run_goes_on_exactly_when_layer_groups_thaw() {
    goes_on_exactly(Backbone::ResNetTiny, |spec| {
        spec.unfreeze = "layer4@2, layer3@3".parse().unwrap();
        spec.augmentation = Augmentation::None;
    });
}

#[test]
fn a_run_goes_on_exactly_from_features() {
    goes_on_exactly(Backbone::ResNetTiny, |spec| {
        spec.unfreeze = "none".parse().unwrap();
        spec.augmentation = Augmentation::None;
    });
}

#[test]
fn a_run_goes_on_exactly_when_it_keeps_the_best_epoch_and_waits() {
    goes_on_exactly(Backbone::ResNetTiny, |spec| {
        (spec.keep, spec.patience, spec.epochs) = (Keep::BestIa, Some(2), 6);
        spec.learning_rate = 1e-5;
    });
}

/// A run in progress: the first attempt was stopped after `steps`, having written a checkpoint after each.
fn interrupted<'a>(folder: &'a Path, data: &'a TrainingData, steps: usize) -> Run<'a> {
    let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |spec| {
        (spec.batch_size, spec.keep) = (10, Keep::BestLoss);
    });
    let run = Run { spec, data, folder, every: Duration::ZERO };
    let mut watch = Watch { after_steps: Some(steps), ..Watch::default() };
    assert!(run.attempt(1, &mut watch).is_none());
    assert_eq!(watch.warnings(), [""; 0]);
    run
}

/// The checkpoints of an attempt, oldest first, then the files of kept weights.
fn files(run: &Run, attempt: usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(run.checkpoints(attempt).directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

fn name(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

#[test]
fn the_last_two_checkpoints_are_there_and_earlier_attempts_make_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let run = interrupted(folder.path(), &data, 5);
    let first = files(&run, 1);
    let starts = |files: &[PathBuf], names: &[&str]| {
        assert_eq!(files.len(), names.len(), "{files:?}");
        assert!(files.iter().zip(names).all(|(path, start)| name(path).starts_with(start)), "{files:?}");
    };
    starts(&first, &["00001-0000001-", "00001-0000002-", "kept-00001-"]);
    // A worker that was killed while it wrote leaves something behind.
    fs::write(run.checkpoints(1).directory.join(".tmp123"), "half").unwrap();
    let mut watch = Watch { after_steps: Some(1), ..Watch::default() };
    assert!(run.attempt(2, &mut watch).is_none());
    assert_eq!(watch.resumed(), Some((1, 2)));
    starts(&files(&run, 2), &["00001-0000003-", "kept-00001-"]);
    // One checkpoint alone might be damaged.
    starts(&files(&run, 1), &["00001-0000002-", "kept-00001-"]);
    let (_, watch) = run.to_its_end(3);
    assert_eq!(watch.resumed(), Some((1, 3)));
    starts(&files(&run, 2), &["00001-0000003-", "kept-00001-"]);
    assert!(!run.checkpoints(1).directory.exists());
}

type Damage = fn(&Path);

#[test]
fn a_damaged_checkpoint_gives_way_to_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let whole = made(folder.path().join("whole"));
    let expected = interrupted(&whole, &data, 5).to_its_end(2).0;
    let damages: [(Damage, &str); 4] = [
        (
            |path| {
                let mut bytes = fs::read(path).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                fs::write(path, bytes).unwrap();
            },
            "it is damaged",
        ),
        (|path| fs::write(path, &fs::read(path).unwrap()[..1000]).unwrap(), "it is damaged"),
        (|path| fs::write(path, "").unwrap(), "it is damaged"),
        (
            |path| {
                fs::remove_file(path).unwrap();
                fs::create_dir(path).unwrap();
            },
            "it cannot be read",
        ),
    ];
    for (index, (damage, says)) in damages.into_iter().enumerate() {
        let place = made(folder.path().join(index.to_string()));
        let run = interrupted(&place, &data, 5);
        damage(&files(&run, 1)[1]);
        let (found, watch) = run.to_its_end(2);
        assert_eq!(watch.resumed(), Some((1, 1)));
        let [warning] = watch.warnings()[..] else { panic!("{:?}", watch.warnings()) };
        assert!(warning.starts_with("a checkpoint is not gone on from: ") && warning.contains(says), "{warning}");
        assert!(found == expected, "{says}");
    }
    // With all of them damaged, or the kept weights that they name, it starts over.
    for damaged in [&[0, 1][..], &[2]] {
        let place = made(folder.path().join(format!("{damaged:?}")));
        let run = interrupted(&place, &data, 5);
        let all = files(&run, 1);
        damaged.iter().for_each(|&index| fs::write(&all[index], "damaged").unwrap());
        let (found, watch) = run.to_its_end(2);
        assert_eq!((watch.resumed(), watch.warnings().len()), (None, 2));
        assert!(found == expected);
    }
}

#[test]
fn a_checkpoint_of_something_else_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let run = interrupted(folder.path(), &data, 5);
    let mut other_data = data.clone();
    other_data.train[0].coarse.0 ^= 1;
    let other_spec = run.spec.clone().with(|spec| spec.seed = 1).unwrap();
    for (spec, data) in [(other_spec, &data), (run.spec.clone(), &other_data)] {
        let other = Run { spec, data, ..run };
        let mut watch = Watch { after_steps: Some(1), ..Watch::default() };
        assert!(other.attempt(2, &mut watch).is_none());
        assert_eq!((watch.resumed(), watch.warnings().len()), (None, 2));
        assert!(watch.warnings()[0].contains("it belongs to another specification or other images"));
        fs::remove_dir_all(other.checkpoints(2).directory).unwrap();
    }
}

#[test]
fn a_checkpoint_of_another_version_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let run = interrupted(folder.path(), &data, 5);
    let [_, last, _] = &files(&run, 1)[..] else { panic!() };
    let mut bytes = fs::read(last).unwrap();
    let version = env!("CARGO_PKG_VERSION").as_bytes();
    let at = bytes.windows(version.len()).position(|part| part == version).unwrap();
    bytes[at] = b'9';
    let place = last.with_file_name(format!("00001-0000002-{}.safetensors", Sha256Hex::of(&bytes)));
    fs::write(place, bytes).unwrap();
    fs::remove_file(last).unwrap();
    let (_, watch) = run.to_its_end(2);
    assert_eq!(watch.resumed(), Some((1, 1)));
    assert!(watch.warnings()[0].contains(" of twograin wrote it"), "{:?}", watch.warnings());
}

#[test]
fn a_checkpoint_that_cannot_be_written_costs_no_run() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let spec = spec(Backbone::ResNetTiny, Objective::CoarseOnly, |_| {});
    // There is no such folder, as when the run was deleted meanwhile: it is not made again.
    let run = Run { spec, data: &data, folder: &folder.path().join("gone"), every: Duration::ZERO };
    let files = Files { checkpoints: Some(run.checkpoints(1)), ..Files::default() };
    let mut watch = Watch::default();
    assert!(matches!(fit(&run.spec, &data, &files, &Device::Cpu, &mut watch).unwrap(), Fit::Finished(_)));
    assert!(watch.warnings()[0].starts_with("no checkpoint could be written: "), "{:?}", watch.warnings());
    assert!(!run.folder.exists());
}

#[test]
fn a_run_that_is_stopped_while_it_looks_at_the_validation_images_trains_no_step_twice() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |_| {});
    let whole = made(folder.path().join("whole"));
    let (expected, all) = Run { spec: spec.clone(), data: &data, folder: &whole, every: HOUR }.to_its_end(1);
    let place = made(folder.path().join("stopped"));
    let run = Run { spec, data: &data, folder: &place, every: HOUR };
    let stop = |event: &TrainingEvent| matches!(event, TrainingEvent::Validating { epoch: 1, .. });
    let mut first = Watch { at_event: Some(stop), ..Watch::default() };
    assert!(run.attempt(1, &mut first).is_none());
    let (found, second) = run.to_its_end(2);
    assert_eq!((second.resumed(), first.steps + second.steps), (Some((0, first.steps)), all.steps));
    assert!(found == expected);
}

#[test]
fn a_run_that_is_stopped_after_training_trains_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let data = data(folder.path(), 48);
    let stops: [fn(&TrainingEvent) -> bool; 3] = [
        |event| matches!(event, TrainingEvent::EpochEnded { epoch: 2, .. }),
        |event| matches!(event, TrainingEvent::Kept { .. }),
        |event| matches!(event, TrainingEvent::Evaluating { .. }),
    ];
    for unfreeze in ["all", "layer4@2", "none"] {
        let spec = spec(Backbone::ResNetTiny, Objective::TopKSoftmax, |spec| {
            (spec.keep, spec.unfreeze) = (Keep::BestLoss, unfreeze.parse().unwrap());
        });
        let place = |name: &str| made(folder.path().join(format!("{unfreeze}-{name}")));
        let whole = place("whole");
        let (expected, _) = Run { spec: spec.clone(), data: &data, folder: &whole, every: HOUR }.to_its_end(1);
        for (index, stop) in stops.into_iter().enumerate() {
            let folder = place(&index.to_string());
            let run = Run { spec: spec.clone(), data: &data, folder: &folder, every: HOUR };
            assert!(run.attempt(1, &mut Watch { at_event: Some(stop), ..Watch::default() }).is_none());
            let (found, watch) = run.to_its_end(2);
            assert_eq!((watch.resumed(), watch.steps), (Some((2, 0)), 0));
            assert!(found == expected, "{unfreeze}, stop {index}");
        }
    }
}
