//! Batches of tensors, prepared ahead by threads of their own.

use std::{
    collections::HashMap,
    io, iter,
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use rand::seq::SliceRandom;
use thiserror::Error;

use super::{
    Sample,
    decode::{self, DecodeError, Source},
    random::{Purpose, stream},
    transform::{Pixels, Transform},
};
use crate::domain::spec::Augmentation;

/// How samples become batches.
#[derive(Clone, Copy, Debug)]
pub struct LoaderConfig {
    /// Side of the square input, in pixels.
    pub input_size: usize,
    /// What is done to the images; [`Augmentation::None`] is the test transform.
    pub augmentation: Augmentation,
    /// Samples per batch; at least one.
    pub batch_size: usize,
    /// Seeds the augmentation.
    pub seed: u64,
    /// Another epoch has other augmentations.
    pub epoch: u64,
    /// Leave out the last batch if it is incomplete.
    pub drop_last: bool,
    /// Begin with this batch, counted from 0: the images of those before it are not opened.
    pub first_batch: usize,
    /// Threads that decode and transform; at least one.
    pub threads: usize,
}

/// Samples as the input of a network.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Which samples, by their index.
    pub indices: Vec<usize>,
    /// Their tensors: `[indices.len(), 3, input_size, input_size]`.
    pub pixels: Vec<f32>,
}

/// Why there is no next batch.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoadError {
    /// An image cannot be decoded.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The decoder panicked on an image.
    #[error("{}: the decoder crashed on it", path.display())]
    Crashed {
        /// The image.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("a loader thread cannot be started: {0}")]
    Spawn(io::Error),
}

/// An iterator over the batches of one epoch. After an error it ends.
///
/// The batches depend on the samples, the order and the configuration, but not on the number of threads. Two batches are
/// prepared ahead, in bytes, and one image in each thread, however slow the consumer is. Dropping the loader stops its threads.
#[derive(Debug)]
pub struct Loader {
    samples: Arc<[Sample]>,
    order: Vec<usize>,
    input_size: usize,
    batch_size: usize,
    /// Positions in `order`: the next to deliver, and the end.
    next: usize,
    end: usize,
    workers: Vec<Worker>,
}

/// Prepares every n-th sample of the order, so that its channel needs no sorting.
#[derive(Debug)]
struct Worker {
    images: Receiver<Result<Pixels, DecodeError>>,
    thread: JoinHandle<()>,
}

impl Loader {
    /// Starts loading the `samples` whose indices are in `order`.
    ///
    /// # Errors
    /// A thread cannot be started.
    ///
    /// # Panics
    /// `order` names a sample that does not exist.
    pub fn new(samples: Arc<[Sample]>, order: Vec<usize>, config: LoaderConfig) -> Result<Self, LoadError> {
        assert!(order.iter().all(|&index| index < samples.len()), "the order names samples that do not exist");
        let batch_size = config.batch_size.max(1);
        let end = if config.drop_last { order.len() - order.len() % batch_size } else { order.len() };
        let threads = config.threads.clamp(1, end.max(1));
        let draws = number_draws(&order);
        let next = config.first_batch.saturating_mul(batch_size).min(end);
        let mut loader =
            Self { samples, order, input_size: config.input_size, batch_size, next, end, workers: Vec::new() };
        for number in 0..threads {
            let (sender, images) = sync_channel((2 * batch_size).div_ceil(threads));
            let (samples, draws) = (Arc::clone(&loader.samples), Arc::clone(&draws));
            let positions = (number..end).step_by(threads).filter(move |&position| position >= next);
            let work = move || prepare(&samples, positions.map(|position| draws[position]), config, &sender);
            let builder = thread::Builder::new().name(format!("loader-{number}"));
            loader.workers.push(Worker { images, thread: builder.spawn(work).map_err(LoadError::Spawn)? });
        }
        Ok(loader)
    }

    /// How many batches the epoch has.
    pub fn batches(&self) -> usize {
        self.end.div_ceil(self.batch_size)
    }

    fn batch(&self, positions: std::ops::Range<usize>) -> Result<Batch, LoadError> {
        let values = 3 * self.input_size * self.input_size * positions.len();
        let mut batch = Batch { indices: self.order[positions.clone()].to_vec(), pixels: Vec::with_capacity(values) };
        for position in positions {
            let worker = &self.workers[position % self.workers.len()];
            let crashed = |_| LoadError::Crashed { path: self.samples[self.order[position]].path.clone() };
            worker.images.recv().map_err(crashed)??.normalise_into(&mut batch.pixels);
        }
        Ok(batch)
    }

    fn stop(&mut self) {
        // A worker ends at its next delivery once nobody receives; hang up on all of them before waiting for one.
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        for thread in threads {
            // A panic has been reported as `Crashed`, or concerns a batch that nobody asked for.
            let _ = thread.join();
        }
    }
}

/// Puts samples into the order of an epoch.
pub fn shuffle(order: &mut [usize], seed: u64, epoch: u64) {
    order.shuffle(&mut stream(Purpose::Order, seed, epoch, 0));
}

/// The samples of an order, each with how often it came before.
fn number_draws(order: &[usize]) -> Arc<[(usize, u32)]> {
    let mut seen = HashMap::new();
    let number = |&index| {
        let times = seen.entry(index).or_insert(0);
        *times += 1;
        (index, *times - 1)
    };
    order.iter().map(number).collect()
}

/// What a worker does: the images of the samples drawn, in their order, until nobody receives them.
fn prepare(
    samples: &[Sample],
    draws: impl Iterator<Item = (usize, u32)>,
    config: LoaderConfig,
    sender: &SyncSender<Result<Pixels, DecodeError>>,
) {
    let mut transform = Transform::new(config.input_size);
    for (index, times) in draws {
        // A sample that comes again is augmented anew.
        let draw = u64::from(times) << 32 | index as u64;
        let mut rng = stream(Purpose::Augmentation, config.seed, config.epoch, draw);
        let path = &samples[index].path;
        let image = decode::read(path).and_then(|bytes| {
            transform.train(Source::new(&bytes, &path.display().to_string())?, config.augmentation, &mut rng)
        });
        if sender.send(image).is_err() {
            return;
        }
    }
}

impl Iterator for Loader {
    type Item = Result<Batch, LoadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.next >= self.end {
            return None;
        }
        let positions = self.next..(self.next + self.batch_size).min(self.end);
        self.next = positions.end;
        let batch = self.batch(positions);
        if batch.is_err() {
            self.next = self.end;
            self.stop();
        }
        Some(batch)
    }
}

impl iter::FusedIterator for Loader {}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CoarseId, LabelSet};

    #[test]
    fn a_thread_that_panics_is_reported_with_the_image_in_hand() {
        let sample =
            |name: &str| Sample { source_id: 0, path: name.into(), labels: LabelSet::default(), coarse: CoarseId(0) };
        let (sender, images) = sync_channel::<Result<Pixels, DecodeError>>(1);
        let thread = thread::spawn(move || {
            let _sender = sender;
            panic!("as a decoder might");
        });
        let mut loader = Loader {
            samples: Arc::from([sample("a.jpg"), sample("b.jpg")]),
            order: vec![1, 0],
            input_size: 32,
            batch_size: 2,
            next: 0,
            end: 2,
            workers: vec![Worker { images, thread }],
        };
        let error = loader.next().unwrap().unwrap_err();
        assert_eq!(error.to_string(), "b.jpg: the decoder crashed on it");
        assert!(loader.next().is_none());
    }
}
