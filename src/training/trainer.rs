//! The loop.

use std::{ops::ControlFlow, sync::Arc, time::Instant};

use candle_core::{DType, Device, Tensor};

use super::{
    Files, LearningRate, Losses, Observer, Optimizer, StepConfig, Trained, TrainingError, TrainingEvent,
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
};

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

pub(super) fn train(
    spec: &RunSpec,
    data: &TrainingData,
    files: &Files,
    device: &Device,
    observer: &mut dyn Observer,
) -> Stoppable<Trained> {
    let mut trainer = Trainer::new(spec, data, files, device)?;
    go_on!(observer.on(trainer.started(data.test.len())));
    for epoch in 1..=spec.epochs {
        go_on!(trainer.epoch(epoch, observer)?);
        if trainer.selection.exhausted(spec, epoch) {
            break;
        }
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
    model: Classifier,
    loss: LossSpec,
    optimizer: Optimizer,
    learning_rate: LearningRate,
    batch_size: usize,
    throttle: Throttle,
    frozen: Frozen,
    /// Epochs so far.
    trained: usize,
    selection: Selection,
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
        match (&spec.initial_weights, &files.initial_weights) {
            (None, _) => {}
            (Some(_), Some(path)) => model.load_backbone(path)?,
            (Some(name), None) => {
                return Err(TrainingError::Specification(format!("initial_weights: the file of {name} is not known")));
            }
        }
        Ok(Self {
            spec,
            device,
            samples: data.train.clone().into(),
            loss: LossSpec::of(spec, &data.taxonomy).map_err(TrainingError::Specification)?,
            optimizer: Optimizer::new(spec, model.params())?,
            learning_rate: LearningRate::new(spec, train.len() / batch_size),
            train,
            validation,
            model,
            batch_size,
            throttle: Throttle::default(),
            frozen: Frozen::new(files.features.clone()),
            trained: 0,
            selection: Selection::default(),
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
            parameters: self.model.params().count(),
            steps_per_epoch: self.steps(),
            epochs: self.spec.epochs,
        }
    }

    /// Trains for one epoch and looks at the validation split.
    fn epoch(&mut self, epoch: usize, observer: &mut dyn Observer) -> Stoppable<()> {
        let (spec, steps, began) = (self.spec, self.steps(), Instant::now());
        self.frozen.set_groups(spec.unfreeze.frozen(spec.backbone, epoch));
        go_on!(self.prepare_features(observer)?);
        let (mut sum, mut learning_rate) = (0.0, 0.0);
        let mut batches = self.batches(epoch as u64)?;
        for step in 1..=steps {
            let Some((indices, input)) = self.input(&mut batches)? else { break };
            let global = (epoch - 1) * steps + step - 1;
            learning_rate = self.learning_rate.at(global);
            let losses = self.step(&indices, &input, global, learning_rate)?;
            if !losses.total.is_finite() {
                return Err(TrainingError::NonFinite { epoch, step, loss: losses.total });
            }
            sum += losses.total;
            if self.throttle.ready() {
                go_on!(observer.on(TrainingEvent::Step {
                    epoch,
                    step,
                    steps,
                    loss: losses.total,
                    fine_loss: losses.fine,
                    coarse_loss: losses.coarse,
                    learning_rate,
                    images_per_second: (step * self.batch_size) as f64 / began.elapsed().as_secs_f64(),
                }));
            }
        }
        self.trained = epoch;
        let logits = match self.frozen.features(&self.validation)? {
            Some(features) => head(&self.model, &features)?,
            None => go_on!(self.logits(&self.samples, &self.validation, &mut |_| ControlFlow::Continue(()))?),
        };
        let validation_loss = self.validation_loss(&logits)?;
        let scores =
            evaluation::scores(&self.model, Split::Validation, self.ids(), logits.clone(), &Percentiles::default())?;
        let truths = self.validation.iter().map(|&index| &self.samples[index]);
        let truths = truths.map(|sample| Truth { fine: &sample.labels, coarse: sample.coarse });
        let tally = tally(&decide_all(&scores, truths, spec.own_rule()), spec.own_rule());
        let validation_counts = tally.counts.filter(|counts| counts.total() > 0);
        let figures = Figures {
            loss: validation_loss,
            coarse_accuracy: tally.coarse_accuracy(),
            ia: validation_counts.and_then(|counts| counts.indices().ia),
        };
        if self.selection.improves(spec.keep, figures) {
            let learns = |group: Option<&str>| spec.learning_rate_of(group).is_some();
            let weights = (spec.keep != Keep::Last).then(|| self.model.params().snapshot(learns)).transpose()?;
            self.selection.kept = Kept { epoch, weights, logits };
        }
        Ok(observer.on(TrainingEvent::EpochEnded {
            epoch,
            train_loss: sum / steps as f64,
            validation_loss,
            validation_counts,
            validation_coarse_accuracy: figures.coarse_accuracy,
            learning_rate,
            seconds: began.elapsed().as_secs_f64(),
        }))
    }

    /// A backbone that is frozen as a whole, and sees each image as it is, need see it only once.
    fn prepare_features(&mut self, observer: &mut dyn Observer) -> Stoppable<()> {
        if self.frozen.groups() < self.model.groups() || self.spec.augmentation != Augmentation::None {
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
        Ok(self.frozen.prepare(&self.model, &self.samples, self.evaluation(), &mut progress)?)
    }

    fn batches(&self, epoch: u64) -> Result<Batches, TrainingError> {
        let (spec, mut order) = (self.spec, self.train.clone());
        match spec.sampling {
            Sampling::Uniform => shuffle(&mut order, spec.seed, epoch),
            Sampling::LabelBalanced => order = label_balanced(&self.samples, &self.train, spec.seed, epoch),
        }
        if self.frozen.has_features() {
            let batches: Vec<_> = order.chunks_exact(self.batch_size).map(<[usize]>::to_vec).collect();
            return Ok(Batches::Features(batches.into_iter()));
        }
        let loader = LoaderConfig {
            input_size: spec.input_size,
            augmentation: spec.augmentation,
            batch_size: self.batch_size,
            seed: spec.seed,
            epoch,
            shuffle: false,
            drop_last: true,
            threads: self.loader_threads(),
        };
        Ok(Batches::Images(Loader::new(self.samples.clone(), order, loader)?))
    }

    /// The images of the next batch, and what the frozen layer groups make of them.
    fn input(&self, batches: &mut Batches) -> Result<Option<(Vec<usize>, Tensor)>, TrainingError> {
        match batches {
            Batches::Images(loader) => {
                let Some(Batch { indices, pixels }) = loader.next().transpose()? else { return Ok(None) };
                let pixels = self.model.pixels(pixels, self.spec.input_size)?;
                Ok(Some((indices, self.frozen.forward(&self.model, &pixels)?)))
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
        Ok(step::step(&self.model, &self.loss, &mut self.optimizer, (input, &targets), config)?)
    }

    fn targets(&self, indices: &[usize]) -> candle_core::Result<Targets> {
        let fine_count = self.model.spec().fine_count;
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

    /// Percentiles over the images learned from, then the scores of validation and test, all of the epoch that is kept.
    fn finish(mut self, test: &[Sample], observer: &mut dyn Observer) -> Stoppable<Trained> {
        let Kept { epoch, weights, logits } = std::mem::take(&mut self.selection.kept);
        if let Some(weights) = weights {
            weights.restore()?;
        }
        go_on!(observer.on(TrainingEvent::Kept { epoch, trained: self.trained }));
        let samples = self.samples.clone();
        let train = std::mem::take(&mut self.train);
        let percentiles = match self.model.spec().activation {
            Some(_) => {
                let logits = match self.frozen.features(&train)? {
                    Some(features) => head(&self.model, &features)?,
                    None => go_on!(self.reported(Split::Train, &samples, &train, observer)?),
                };
                Percentiles::of(&logits.fine.unwrap_or_default(), self.model.spec().fine_count)
            }
            None => Percentiles::default(),
        };
        let validation = evaluation::scores(&self.model, Split::Validation, self.ids(), logits, &percentiles)?;
        let test: Arc<[Sample]> = test.into();
        let order: Vec<usize> = (0..test.len()).collect();
        let logits = go_on!(self.reported(Split::Test, &test, &order, observer)?);
        let ids = test.iter().map(|sample| sample.source_id).collect();
        let test = evaluation::scores(&self.model, Split::Test, ids, logits, &percentiles)?;
        Ok(ControlFlow::Continue(Trained { model: self.model, epoch, scores: vec![validation, test] }))
    }

    fn reported(
        &mut self,
        split: Split,
        samples: &Arc<[Sample]>,
        order: &[usize],
        observer: &mut dyn Observer,
    ) -> Stoppable<Logits> {
        let total = order.len();
        let mut throttle = std::mem::take(&mut self.throttle);
        let mut progress = |done| {
            if done == total || throttle.ready() {
                observer.on(TrainingEvent::Evaluating { split, done, total })
            } else {
                ControlFlow::Continue(())
            }
        };
        let logits = self.logits(samples, order, &mut progress);
        self.throttle = throttle;
        logits
    }

    fn logits(
        &self,
        samples: &Arc<[Sample]>,
        order: &[usize],
        progress: &mut dyn FnMut(usize) -> ControlFlow<()>,
    ) -> Stoppable<Logits> {
        // Of a backbone that has not learned, the features of all samples are worth keeping.
        let logits = if self.frozen.has_features() {
            self.frozen.logits(&self.model, samples, self.evaluation(), progress)?
        } else {
            evaluation::logits(&self.model, samples, order, self.evaluation(), progress)?
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
