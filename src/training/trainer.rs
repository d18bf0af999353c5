//! The loop.

use std::{
    ops::ControlFlow,
    sync::Arc,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Tensor};

use super::{
    Files, LearningRate, Losses, Observer, Optimizer, StepConfig, Trained, TrainingError, TrainingEvent,
    checkpoint::{Checkpoints, Position, State},
    event::Throttle,
    frozen::{Frozen, head},
    selection::{Figures, Kept, Selection},
    step::{self, number},
};
use crate::{
    analysis::{Truth, decide_all, tally},
    dataset::{Batch, Loader, LoaderConfig, Sample, TrainingData, label_balanced, shuffle, validation_split},
    domain::{
        RunSpec, Split,
        spec::{Augmentation, Keep, Sampling},
    },
    evaluation::{self, EvaluationConfig, Percentiles},
    model::{Classifier, Logits, LossSpec, ModelSpec, Output, Targets, loss::multi_hot},
    weights,
};

/// An epoch's end is worth a checkpoint when the newest one is this old: tiny runs have several epochs a second.
const BETWEEN_EPOCHS: Duration = Duration::from_secs(3);

/// `Break` when the observer stopped it.
type Stoppable<T> = Result<ControlFlow<(), T>, TrainingError>;

/// Takes the value, or passes the stop on.
macro_rules! go_on {
    ($stoppable:expr) => {
        match $stoppable {
            ControlFlow::Continue(value) => value,
            ControlFlow::Break(()) => return Ok(ControlFlow::Break(())),
        }
    };
}

mod finish;

pub(super) fn train(
    spec: &RunSpec,
    data: &TrainingData,
    files: &Files,
    device: &Device,
    observer: &mut dyn Observer,
) -> Stoppable<Trained> {
    let mut trainer = Trainer::new(spec, data, files, device)?;
    go_on!(observer.on(trainer.started(data.test.len())));
    go_on!(trainer.begin(files, observer)?);
    let trained = trainer.epochs(observer)?;
    // A run that is stopped loses nothing; and what follows may take long.
    let saved = trainer.save(observer);
    if trained.is_break() || saved.is_break() {
        return Ok(ControlFlow::Break(()));
    }
    trainer.finish(&data.test, observer)
}

/// An epoch's batches: of images, or of features.
enum Batches {
    Images(Loader),
    Features(std::vec::IntoIter<Vec<usize>>),
}

struct Trainer<'a> {
    spec: &'a RunSpec,
    device: &'a Device,
    /// Of the train and the validation split.
    samples: Arc<[Sample]>,
    train: Vec<usize>,
    validation: Vec<usize>,
    loss: LossSpec,
    learning_rate: LearningRate,
    batch_size: usize,
    throttle: Throttle,
    /// Follows from the epoch and the weights.
    frozen: Frozen,
    state: State,
    checkpoints: Option<Checkpoints>,
}

impl<'a> Trainer<'a> {
    fn new(spec: &'a RunSpec, data: &TrainingData, files: &Files, device: &'a Device) -> Result<Self, TrainingError> {
        let (train, validation) = validation_split(&data.train, spec.seed);
        if train.len() < 2 {
            return Err(TrainingError::TooFewImages(train.len()));
        }
        if spec.keep != Keep::Last && validation.is_empty() {
            return Err(TrainingError::NoValidation);
        }
        let batch_size = spec.batch_size.min(train.len());
        let model = Classifier::new(ModelSpec::of(spec, &data.taxonomy), spec.seed, DType::F32, device)?;
        let optimizer = Optimizer::new(spec, model.params())?;
        let checkpoints = files.checkpoints.clone().map(|files| Checkpoints::new(files, spec, data));
        Ok(Self {
            spec,
            device,
            samples: data.train.clone().into(),
            loss: LossSpec::of(spec, &data.taxonomy).map_err(TrainingError::Specification)?,
            learning_rate: LearningRate::new(spec, train.len() / batch_size),
            train,
            validation,
            batch_size,
            throttle: Throttle::default(),
            frozen: Frozen::new(files.features.clone()),
            state: State { model, optimizer, selection: Selection::default(), position: Position::default() },
            checkpoints,
        })
    }

    /// Images that do not fill a batch wait for another epoch's order.
    fn steps(&self) -> usize {
        self.train.len() / self.batch_size
    }

    fn started(&self, test_images: usize) -> TrainingEvent {
        TrainingEvent::Started {
            train_images: self.train.len(),
            validation_images: self.validation.len(),
            test_images,
            parameters: self.state.model.params().count(),
            steps_per_epoch: self.steps(),
            epochs: self.spec.epochs,
        }
    }

    /// Goes on from a checkpoint; without one, starts from the initial weights.
    fn begin(&mut self, files: &Files, observer: &mut dyn Observer) -> Stoppable<()> {
        if let Some(checkpoints) = &mut self.checkpoints {
            for reason in checkpoints.load(self.spec, &mut self.state)? {
                let text = format!("a checkpoint is not gone on from: {reason}");
                go_on!(observer.on(TrainingEvent::Warning { text }));
            }
            let Position { epochs, step, ref ended, .. } = self.state.position;
            if (epochs, step) != (0, 0) {
                return Ok(observer.on(TrainingEvent::Resumed { epochs, step, ended: ended.clone() }));
            }
        }
        match (&self.spec.initial_weights, &files.initial_weights) {
            (None, _) => {}
            (Some(_), Some(path)) => {
                self.state.model.load_backbone(path, weights::read(path, self.spec.backbone)?)?;
            }
            (Some(name), None) => {
                return Err(TrainingError::Specification(format!(
                    "initial_weights: there are no weights {name} any more; fetch or import them again, and submit the run anew"
                )));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Writes a checkpoint. A run that cannot is worth going on with.
    fn save(&mut self, observer: &mut dyn Observer) -> ControlFlow<()> {
        match self.checkpoints.as_mut().map(|checkpoints| checkpoints.save(&self.state)) {
            Some(Err(error)) => {
                observer.on(TrainingEvent::Warning { text: format!("no checkpoint could be written: {error}") })
            }
            Some(Ok(())) | None => ControlFlow::Continue(()),
        }
    }

    fn epochs(&mut self, observer: &mut dyn Observer) -> Stoppable<()> {
        while self.state.position.epochs < self.spec.epochs
            && !self.state.selection.exhausted(self.spec, self.state.position.epochs)
        {
            go_on!(self.epoch(observer)?);
            if self.checkpoints.as_ref().is_some_and(|checkpoints| checkpoints.older_than(BETWEEN_EPOCHS)) {
                go_on!(self.save(observer));
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Trains for one epoch, or for the rest of one, and looks at the validation split.
    fn epoch(&mut self, observer: &mut dyn Observer) -> Stoppable<()> {
        let (spec, steps, began) = (self.spec, self.steps(), Instant::now());
        let Position { epochs, step: first, seconds: before, .. } = self.state.position;
        let epoch = epochs + 1;
        self.frozen.set_groups(spec.unfreeze.frozen(spec.backbone, epoch));
        go_on!(self.prepare_features(observer)?);
        let mut batches = self.batches(epoch as u64, first)?;
        for step in first + 1..=steps {
            let Some((indices, input)) = self.input(&mut batches)? else { break };
            let global = epochs * steps + step - 1;
            let learning_rate = self.learning_rate.at(global);
            let losses = self.step(&indices, &input, global, learning_rate)?;
            if !losses.total.is_finite() {
                return Err(TrainingError::NonFinite { epoch, step, loss: losses.total });
            }
            let position = &mut self.state.position;
            position.step = step;
            position.loss += losses.total;
            position.seconds = before + began.elapsed().as_secs_f64();
            if self.throttle.ready() {
                go_on!(observer.on(TrainingEvent::Step {
                    epoch,
                    step,
                    steps,
                    loss: losses.total,
                    fine_loss: losses.fine,
                    coarse_loss: losses.coarse,
                    learning_rate,
                    images_per_second: ((step - first) * self.batch_size) as f64 / began.elapsed().as_secs_f64(),
                }));
            }
            go_on!(observer.after_step());
            if self.checkpoints.as_ref().is_some_and(Checkpoints::due) {
                go_on!(self.save(observer));
            }
        }
        let logits = match self.frozen.features(&self.validation)? {
            Some(features) => head(&self.state.model, &features)?,
            None => {
                let total = self.validation.len();
                let mut report = |done| observer.on(TrainingEvent::Validating { epoch, done, total });
                go_on!(self.logits(&self.samples, &self.validation, &mut report)?)
            }
        };
        let validation_loss = self.validation_loss(&logits)?;
        let scores = evaluation::scores(
            &self.state.model,
            Split::Validation,
            self.ids(),
            logits.clone(),
            &Percentiles::default(),
        )?;
        let truths = self.validation.iter().map(|&index| &self.samples[index]);
        let truths = truths.map(|sample| Truth { fine: &sample.labels, coarse: sample.coarse });
        let rule = spec.own_rule();
        let tally = tally(&decide_all(&scores, truths, rule.as_ref()), rule.as_ref());
        let validation_counts = tally.counts.filter(|counts| counts.total() > 0);
        let figures = Figures {
            loss: validation_loss,
            coarse_accuracy: tally.coarse_accuracy(),
            ia: validation_counts.and_then(|counts| counts.indices().ia),
        };
        if self.state.selection.improves(spec.keep, figures) {
            let learns = |group: Option<&str>| spec.learning_rate_of(group).is_some();
            // Not two copies at a time.
            self.state.selection.kept.weights = None;
            let weights = (spec.keep != Keep::Last).then(|| self.state.model.params().snapshot(learns)).transpose()?;
            self.state.selection.kept = Kept { epoch, weights, logits };
        }
        let event = TrainingEvent::EpochEnded {
            epoch,
            train_loss: self.state.position.loss / steps as f64,
            validation_loss,
            validation_counts,
            validation_coarse_accuracy: figures.coarse_accuracy,
            learning_rate: self.learning_rate.at(epoch * steps - 1),
            seconds: before + began.elapsed().as_secs_f64(),
        };
        let mut ended = std::mem::take(&mut self.state.position.ended);
        ended.push(event.clone());
        self.state.position = Position { epochs: epoch, ended, ..Position::default() };
        Ok(observer.on(event))
    }

    /// A backbone that is frozen as a whole, and sees each image as it is, need see it only once.
    fn prepare_features(&mut self, observer: &mut dyn Observer) -> Stoppable<()> {
        if self.frozen.groups() < self.state.model.groups() || self.spec.augmentation != Augmentation::None {
            return Ok(ControlFlow::Continue(()));
        }
        let (total, mut throttle) = (self.samples.len(), Throttle::default());
        let mut progress = |done| {
            if done == total || throttle.ready() {
                observer.on(TrainingEvent::Features { done, total })
            } else {
                ControlFlow::Continue(())
            }
        };
        Ok(self.frozen.prepare(&self.state.model, &self.samples, self.evaluation(), &mut progress)?)
    }

    /// Those of an epoch from `first` on, counted from 0.
    fn batches(&self, epoch: u64, first: usize) -> Result<Batches, TrainingError> {
        let (spec, mut order) = (self.spec, self.train.clone());
        match spec.sampling {
            Sampling::Uniform => shuffle(&mut order, spec.seed, epoch),
            Sampling::LabelBalanced => order = label_balanced(&self.samples, &self.train, spec.seed, epoch),
        }
        if self.frozen.has_features() {
            let batches: Vec<_> = order.chunks_exact(self.batch_size).skip(first).map(<[usize]>::to_vec).collect();
            return Ok(Batches::Features(batches.into_iter()));
        }
        let loader = LoaderConfig {
            input_size: spec.input_size,
            augmentation: spec.augmentation,
            batch_size: self.batch_size,
            seed: spec.seed,
            epoch,
            drop_last: true,
            first_batch: first,
            threads: self.loader_threads(),
        };
        Ok(Batches::Images(Loader::new(self.samples.clone(), order, loader)?))
    }

    /// The images of the next batch, and what the frozen layer groups make of them.
    fn input(&self, batches: &mut Batches) -> Result<Option<(Vec<usize>, Tensor)>, TrainingError> {
        match batches {
            Batches::Images(loader) => {
                let Some(Batch { indices, pixels }) = loader.next().transpose()? else { return Ok(None) };
                let pixels = self.state.model.pixels(pixels, self.spec.input_size)?;
                Ok(Some((indices, self.frozen.forward(&self.state.model, &pixels)?)))
            }
            Batches::Features(batches) => {
                let Some(indices) = batches.next() else { return Ok(None) };
                Ok(self.frozen.features(&indices)?.map(|features| (indices, features)))
            }
        }
    }

    /// One step of the optimizer on one batch, `input` being what the frozen layer groups made of it. `global` counts the steps
    /// of the whole run.
    fn step(
        &mut self,
        indices: &[usize],
        input: &Tensor,
        global: usize,
        learning_rate: f64,
    ) -> Result<Losses, TrainingError> {
        let targets = self.targets(indices)?;
        // A seed of its own for each step; the multiplier keeps neighbouring runs' seeds apart.
        let dropout_seed = self.spec.seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(global as u64);
        let config = StepConfig { frozen: self.frozen.groups(), dropout_seed, learning_rate };
        Ok(step::step(&self.state.model, &self.loss, &mut self.state.optimizer, (input, &targets), config)?)
    }

    fn targets(&self, indices: &[usize]) -> candle_core::Result<Targets> {
        let fine_count = self.state.model.spec().fine_count;
        let fine = multi_hot(indices.iter().map(|&index| &self.samples[index].labels), fine_count);
        let coarse: Vec<u32> = indices.iter().map(|&index| u32::from(self.samples[index].coarse.0)).collect();
        Ok(Targets {
            fine: Tensor::from_vec(fine, (indices.len(), fine_count), self.device)?,
            coarse: Tensor::from_vec(coarse, indices.len(), self.device)?,
        })
    }

    /// Eq. 8 over the whole validation split; `None` where that is empty.
    fn validation_loss(&self, logits: &Logits) -> Result<Option<f64>, TrainingError> {
        let n = self.validation.len();
        if n == 0 {
            return Ok(None);
        }
        let tensor = |values: &[f32]| Tensor::from_slice(values, (n, values.len() / n), self.device);
        let output = Output { fine: logits.fine.as_deref().map(tensor).transpose()?, coarse: tensor(&logits.coarse)? };
        Ok(Some(number(&self.loss.loss(&output, &self.targets(&self.validation)?)?.total)?))
    }

    fn logits(
        &self,
        samples: &Arc<[Sample]>,
        order: &[usize],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Stoppable<Logits> {
        // Of a backbone that has not learned, the features of all samples are worth keeping.
        let logits = if self.frozen.has_features() {
            self.frozen.logits(&self.state.model, samples, self.evaluation(), progress)?
        } else {
            evaluation::logits(&self.state.model, samples, order, self.evaluation(), progress)?
        };
        Ok(logits.map_or(ControlFlow::Break(()), ControlFlow::Continue))
    }

    fn evaluation(&self) -> EvaluationConfig {
        EvaluationConfig {
            input_size: self.spec.input_size,
            batch_size: self.spec.batch_size,
            loader_threads: self.loader_threads(),
        }
    }

    fn ids(&self) -> Vec<i64> {
        self.validation.iter().map(|&index| self.samples[index].source_id).collect()
    }

    /// On the processor the arithmetic needs the cores; beside a GPU they are free to decode.
    fn loader_threads(&self) -> usize {
        let threads = rayon::current_num_threads();
        if self.device.is_cpu() { threads.div_ceil(8) } else { threads }
    }
}
