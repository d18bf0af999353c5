//! Tells the server how it goes, from a thread of its own: training never waits for the network.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    client::{Client, ClientError},
    protocol::WorkerEvent,
};
use crate::{
    domain::{EpochPoint, Progress},
    training::TrainingEvent,
};

/// Between two messages, and so the pace of the heartbeat and the delay of a cancelation.
const PACE: Duration = Duration::from_millis(300);

/// Share of a run's time that the features of a frozen backbone are taken for.
const FEATURES_SHARE: f64 = 0.5;

/// Share of a run's time that the final evaluation is taken for, before it is known.
const EVALUATION_SHARE: f64 = 0.1;

pub(super) struct Reporter {
    events: Option<Sender<WorkerEvent>>,
    thread: Option<JoinHandle<()>>,
    cancel: Arc<AtomicBool>,
    terminated: Arc<AtomicBool>,
    start: Instant,
    epochs: usize,
    /// Share of the run that was over before the first step.
    prepared: f64,
    /// Share of the run that earlier attempts did.
    resumed: f64,
}

impl Reporter {
    pub fn start(client: Arc<Client>, terminated: Arc<AtomicBool>) -> Self {
        let (events, inbox) = mpsc::channel();
        let cancel = Arc::new(AtomicBool::new(false));
        let flag = cancel.clone();
        let thread = thread::spawn(move || {
            let mut open = true;
            while open {
                let mut batch = Vec::new();
                let until = Instant::now() + PACE;
                loop {
                    match inbox.recv_timeout(until.saturating_duration_since(Instant::now())) {
                        Ok(event) => push(&mut batch, event),
                        Err(RecvTimeoutError::Timeout) => break,
                        Err(RecvTimeoutError::Disconnected) => {
                            open = false;
                            break;
                        }
                    }
                }
                match client.events(&batch) {
                    Ok(reply) => flag.fetch_or(reply.cancel, Ordering::Relaxed),
                    // Whoever does not hold its run any more, or nobody listens to, need not go on.
                    Err(ClientError::NotHeld | ClientError::Unreachable(_)) => flag.fetch_or(true, Ordering::Relaxed),
                    Err(error @ ClientError::Refused(_)) => {
                        eprintln!("{error}");
                        false
                    }
                };
            }
        });
        let start = Instant::now();
        Self {
            events: Some(events),
            thread: Some(thread),
            cancel,
            terminated,
            start,
            epochs: 1,
            prepared: 0.0,
            resumed: 0.0,
        }
    }

    /// Whether the run is to stop.
    pub fn canceled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// Whether the process was asked to end.
    pub fn terminated(&self) -> bool {
        self.terminated.load(Ordering::Relaxed)
    }

    pub fn log(&self, text: String) {
        self.send(WorkerEvent::Log { text });
    }

    pub fn event(&mut self, event: TrainingEvent) {
        match event {
            TrainingEvent::Started { train_images, validation_images, test_images, parameters, epochs, .. } => {
                self.epochs = epochs;
                self.log(format!(
                    "{parameters} parameters; {train_images} images to learn from, {validation_images} for validation, \
                     {test_images} for the test"
                ));
            }
            TrainingEvent::Resumed { epochs, step, ended } => {
                self.log(match step {
                    0 => format!("goes on from the end of epoch {epochs}"),
                    step => format!("goes on from epoch {}, step {step}", epochs + 1),
                });
                self.resumed = (1.0 - EVALUATION_SHARE) * epochs as f64 / self.epochs as f64;
                // The curve is this attempt's alone.
                ended.into_iter().filter_map(epoch_point).for_each(|point| self.send(WorkerEvent::Epoch(point)));
            }
            TrainingEvent::Warning { text } => self.log(text),
            TrainingEvent::Features { done, total } => {
                self.prepared = FEATURES_SHARE;
                let fraction = FEATURES_SHARE * done as f64 / total.max(1) as f64;
                self.progress(format!("features of {total} images"), fraction, None, None);
            }
            TrainingEvent::Step { epoch, step, steps, loss, images_per_second, .. } => {
                let done = (epoch - 1) as f64 + step as f64 / steps.max(1) as f64;
                let training = 1.0 - EVALUATION_SHARE - self.prepared;
                let fraction = self.prepared + training * done / self.epochs as f64;
                let phase = format!("epoch {epoch} of {}", self.epochs);
                self.progress(phase, fraction, Some(loss), Some(images_per_second));
            }
            ended @ TrainingEvent::EpochEnded { .. } => {
                let Some(point) = epoch_point(ended) else { return };
                let shown = |value: Option<f64>| value.map_or("–".into(), |value| format!("{value:.3}"));
                self.log(format!(
                    "epoch {}: loss {:.4}, validation loss {}, IA {}, coarse accuracy {}, {:.1} s",
                    point.epoch,
                    point.train_loss,
                    shown(point.validation_loss),
                    shown(point.validation_ia),
                    shown(point.validation_coarse_accuracy),
                    point.seconds
                ));
                self.send(WorkerEvent::Epoch(point));
            }
            TrainingEvent::Kept { epoch, trained } => {
                let all = if trained < self.epochs {
                    format!(" of {}, as none was better for long", self.epochs)
                } else {
                    String::new()
                };
                self.log(format!("epoch {epoch} is kept; trained {trained}{all}"));
            }
            TrainingEvent::Evaluating { split, done, total } => {
                let fraction = 1.0 - EVALUATION_SHARE + EVALUATION_SHARE * done as f64 / total.max(1) as f64;
                self.progress(format!("evaluating {split}"), fraction.min(0.99), None, None);
            }
        }
    }

    /// Sends what is left and ends the thread.
    pub fn finish(&mut self) {
        self.events = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been printed; the completion is still to be sent.
            let _ = thread.join();
        }
    }

    fn progress(&self, phase: String, fraction: f64, loss: Option<f64>, images_per_second: Option<f64>) {
        let seconds = self.start.elapsed().as_secs_f64();
        let done = fraction - self.resumed;
        let seconds_left = (done > 0.01).then(|| seconds * (1.0 - fraction) / done);
        self.send(WorkerEvent::Progress(Progress { phase, fraction, loss, images_per_second, seconds_left }));
    }

    fn send(&self, event: WorkerEvent) {
        if let Some(events) = &self.events {
            // The thread is gone only if it panicked, which ends the attempt in any case.
            let _ = events.send(event);
        }
    }
}

/// The end of an epoch as it is stored; `None` of any other event.
fn epoch_point(event: TrainingEvent) -> Option<EpochPoint> {
    let TrainingEvent::EpochEnded {
        epoch,
        train_loss,
        validation_loss,
        validation_counts,
        validation_coarse_accuracy,
        learning_rate,
        seconds,
    } = event
    else {
        return None;
    };
    Some(EpochPoint {
        epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
        train_loss,
        validation_loss,
        validation_ia: validation_counts.and_then(|counts| counts.indices().ia),
        validation_coarse_accuracy,
        learning_rate,
        seconds,
    })
}

/// Of several progress reports in one message the last one counts.
fn push(batch: &mut Vec<WorkerEvent>, event: WorkerEvent) {
    if let (Some(last @ WorkerEvent::Progress(_)), WorkerEvent::Progress(_)) = (batch.last_mut(), &event) {
        *last = event;
    } else {
        batch.push(event);
    }
}
