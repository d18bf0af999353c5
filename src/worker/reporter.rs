//! Tells the server how it goes, from a thread of its own: training never waits for the network.

use std::{
    ops::ControlFlow,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, RecvTimeoutError, Sender},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use super::{
    client::{Client, ClientError},
    log,
    protocol::{News, WorkerEvent},
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
    flags: Arc<Flags>,
    start: Instant,
    epochs: usize,
    /// Share of the run that was over before the first step.
    prepared: f64,
    /// Share of the run that earlier attempts did.
    resumed: f64,
}

/// What the two threads tell each other.
struct Flags {
    /// Somebody asked for the run to stop.
    cancel: AtomicBool,
    /// The process was asked to end.
    terminated: Arc<AtomicBool>,
    /// Why the process has to end, where the server is the reason.
    alone: OnceLock<String>,
    /// It got further since the server was last told.
    progressed: AtomicBool,
}

impl Reporter {
    pub fn start(client: Arc<Client>, terminated: Arc<AtomicBool>) -> Self {
        let (events, inbox) = mpsc::channel();
        let progressed = AtomicBool::new(false);
        let flags = Flags { cancel: AtomicBool::new(false), terminated, alone: OnceLock::new(), progressed };
        let flags = Arc::new(flags);
        let shared = flags.clone();
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
                open &= tell(&client, &shared, batch);
            }
        });
        let start = Instant::now();
        Self { events: Some(events), thread: Some(thread), flags, start, epochs: 1, prepared: 0.0, resumed: 0.0 }
    }

    /// Why the process has to end although the run is to go on, in words.
    pub fn released(&self) -> Option<String> {
        // Who asks for the run to stop may ask the process to end as well.
        if self.flags.cancel.load(Ordering::Relaxed) {
            return None;
        }
        let asked = self.flags.terminated.load(Ordering::Relaxed).then(|| "it was asked to end (SIGTERM)".to_owned());
        asked.or_else(|| self.flags.alone.get().cloned())
    }

    /// A unit of work is done. Breaks when there is to be none after it.
    pub fn worked(&self) -> ControlFlow<()> {
        let Flags { cancel, terminated, alone, progressed } = &*self.flags;
        progressed.store(true, Ordering::Relaxed);
        let stop = cancel.load(Ordering::Relaxed) || terminated.load(Ordering::Relaxed) || alone.get().is_some();
        if stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }

    pub fn event(&mut self, event: TrainingEvent) {
        match event {
            TrainingEvent::Started { train_images, validation_images, test_images, parameters, epochs, .. } => {
                self.epochs = epochs;
                log(format!(
                    "{parameters} parameters; {train_images} images to learn from, {validation_images} for validation, \
                     {test_images} for the test"
                ));
            }
            TrainingEvent::Resumed { epochs, step, ended } => {
                log(match step {
                    0 => format!("goes on from the end of epoch {epochs}"),
                    step => format!("goes on from epoch {}, step {step}", epochs + 1),
                });
                self.resumed = (1.0 - EVALUATION_SHARE) * epochs as f64 / self.epochs as f64;
                // The curve is this attempt's alone.
                ended.into_iter().filter_map(epoch_point).for_each(|point| self.send(WorkerEvent::Epoch(point)));
            }
            TrainingEvent::Warning { text } => log(text),
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
                log(format!(
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
                log(format!("epoch {epoch} is kept; trained {trained}{all}"));
            }
            // That it got further is told in any case; loss and speed stay those of the epoch.
            TrainingEvent::Validating { .. } => {}
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

/// Tells the server what happened; whether there is one to go on telling.
fn tell(client: &Client, flags: &Flags, events: Vec<WorkerEvent>) -> bool {
    let progressed = flags.progressed.swap(false, Ordering::Relaxed);
    match client.tell(&News { progressed, events }) {
        Ok(reply) => {
            flags.cancel.fetch_or(reply.cancel, Ordering::Relaxed);
            true
        }
        // Whoever does not hold its run any more need not go on.
        Err(ClientError::NotHeld) => {
            flags.cancel.store(true, Ordering::Relaxed);
            false
        }
        Err(error @ (ClientError::Unreachable { .. } | ClientError::Foreign(_))) => {
            log(error.to_string());
            // It is the first reason: the thread ends here.
            let _ = flags.alone.set(error.to_string());
            false
        }
        Err(error @ ClientError::Refused(_)) => {
            log(error.to_string());
            true
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
