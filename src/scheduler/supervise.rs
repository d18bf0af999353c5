//! Watches the worker of one attempt until it has ended, whatever started it.
//!
//! Time is taken by monotonic clocks alone: the wall clock may be set, and a machine that slept has not lost its workers.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::watch;

use super::{
    Queue,
    executor::{Executor, Exit, Handle, State, Stop},
};
use crate::{
    domain::{AttemptId, Progress, RunId},
    error::Error,
    store::Ending,
    worker::{
        address, completion_file,
        protocol::{Completion, News, WorkerEvent},
    },
};

/// Between two looks at the worker.
const TICK: Duration = Duration::from_millis(200);
/// Between two stamps that it is there.
const BEAT: Duration = Duration::from_secs(5);
/// How long a worker that was asked to end is waited for: a step, then the checkpoint of a large network.
const GRACE: Duration = Duration::from_secs(10);
/// The same, when its run was canceled.
const PROMPT: Duration = Duration::from_millis(1500);
/// How long one that was killed is waited for.
const KILLED: Duration = Duration::from_secs(10);

/// The attempt to watch.
pub(super) struct Watched {
    pub run: RunId,
    pub attempt: AttemptId,
    /// `None`: the server that started it went away before it knew.
    pub handle: Option<Handle>,
}

/// How the server leaves its workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// They write a checkpoint and end.
    Stop,
    /// They go on, and look for the next server.
    Alone,
}

/// Something that was done about a worker.
struct Measure {
    /// How the attempt ends by it; `None` if the worker has told.
    ending: Option<Ending>,
    since: Instant,
    grace: Duration,
    killed: bool,
}

impl Measure {
    fn new(ending: Option<Ending>, grace: Duration) -> Self {
        Self { ending, since: Instant::now(), grace, killed: false }
    }
}

/// Returns how the attempt ended, unless the worker has told so itself, or was left alone.
pub(super) async fn supervise<E: Executor>(
    queue: &Queue,
    executor: &E,
    mut watched: Watched,
    (leave, stop): (Leave, &mut watch::Receiver<bool>),
) -> Option<Ending> {
    let (attempt, limits) = (watched.attempt, queue.shared.settings.limits);
    let mut measure: Option<Measure> = None;
    let mut beat = Instant::now();
    let mut waits_for: Option<String> = None;
    loop {
        if watched.handle.is_none() {
            watched.handle = queue.store.handle(attempt).await.ok().flatten().map(Handle);
        }
        let state = match &watched.handle {
            Some(handle) => executor.state(handle).await,
            // Its worker, if there is one, says who it is.
            None => Ok(State::Alive),
        };
        match state {
            Ok(State::Ended(exit)) => return ended(queue, &watched, measure, (exit, stop)).await,
            Ok(State::Waiting(reason)) => {
                queue.shared.contacts.seen(attempt, true);
                if waits_for.as_ref() != Some(&reason) {
                    say_that_it_waits(queue, &watched, &reason).await;
                    waits_for = Some(reason);
                }
            }
            Ok(State::Alive) => {
                waits_for = None;
                if watched.handle.is_some() && beat.elapsed() > BEAT {
                    beat = Instant::now();
                    if let Err(error) = queue.store.beat(attempt, Timestamp::now()).await {
                        tracing::warn!(error = ?error, %attempt, "a heartbeat was not recorded");
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, %attempt, "the state of a worker is not known");
                // A job that waited when the cluster's controller was last there has not fallen silent.
                if waits_for.is_some() {
                    queue.shared.contacts.seen(attempt, true);
                }
            }
        }

        let contact = queue.shared.contacts.get(attempt);
        let canceling = matches!(&measure, Some(Measure { ending: Some(Ending::Canceled) | None, .. }));
        if contact.told && measure.as_ref().is_none_or(|measure| measure.ending.is_some()) {
            // It tidies up, if anything.
            measure = Some(Measure { ending: None, ..measure.unwrap_or_else(|| Measure::new(None, GRACE)) });
        } else if contact.cancel && !canceling {
            measure = Some(Measure::new(Some(Ending::Canceled), PROMPT));
            order(executor, &watched, Stop::Ask).await;
        } else if measure.is_none() && *stop.borrow() {
            if leave == Leave::Alone {
                return None;
            }
            measure = Some(Measure::new(Some(Ending::Interrupted("the server was stopped".into())), GRACE));
            order(executor, &watched, Stop::Ask).await;
        } else if measure.is_none() {
            let silent = |what: &str, since: Instant| format!("{what} for {} s", since.elapsed().as_secs());
            let reason = if contact.seen.elapsed() > limits.lost_after {
                Some(silent("lost contact: the worker has not been heard of", contact.seen))
            } else if contact.progressed.elapsed() > limits.stalled_after {
                Some(silent("no progress: the worker is there and has not got further", contact.progressed))
            } else {
                None
            };
            measure = reason.map(|reason| Measure::new(Some(Ending::Lost(reason)), Duration::ZERO));
        }
        if let Some(measure) = &mut measure {
            let waited = measure.since.elapsed();
            if !measure.killed && waited >= measure.grace {
                order(executor, &watched, Stop::Kill).await;
                measure.killed = true;
                measure.since = Instant::now();
            } else if measure.killed && (waited > KILLED || watched.handle.is_none()) {
                // It cannot be killed, as one that waits for a disk; it holds the run no more.
                return measure.ending.take();
            }
        }
        let slept = Instant::now();
        tokio::select! {
            () = tokio::time::sleep(TICK) => {}
            () = queue.shared.woken.notified() => {}
            _ = stop.changed(), if measure.is_none() && !*stop.borrow() => {}
        }
        if slept.elapsed() > BEAT {
            // This process was stopped, or the machine slept: the worker may have called in vain.
            queue.shared.contacts.seen(attempt, true);
        }
    }
}

/// How an attempt ended whose worker has.
async fn ended(
    queue: &Queue,
    watched: &Watched,
    measure: Option<Measure>,
    (exit, stop): (Exit, &watch::Receiver<bool>),
) -> Option<Ending> {
    let attempt = watched.attempt;
    if let Some(ending) = measure.map(|measure| measure.ending) {
        return ending;
    }
    if queue.shared.contacts.get(attempt).told || left(queue, watched, stop).await {
        return None;
    }
    let words = queue.store.last_words(attempt).await.unwrap_or_default();
    // As Rust and the C library say it, before the process aborts.
    let memory = |line: &&String| line.contains("memory allocation of") || line.contains("Cannot allocate memory");
    let said = |reason: String| match (words.iter().find(memory), words.last()) {
        (Some(memory), _) => format!("out of memory: {memory}"),
        (None, Some(last)) => format!("{reason}: {last}"),
        (None, None) => reason,
    };
    Some(match exit {
        Exit::Done => Ending::Lost("the worker ended without telling a result".into()),
        Exit::Failed(reason) => Ending::Failed(said(reason)),
        Exit::Lost(reason) => Ending::Lost(said(reason)),
        Exit::Interrupted(reason) => Ending::Interrupted(reason),
    })
}

/// Whether the worker left its result in a file, which then is recorded: no server was there when it ended.
pub(super) async fn left(queue: &Queue, watched: &Watched, stop: &watch::Receiver<bool>) -> bool {
    let Ok(directory) = queue.store.attempt_directory(watched.attempt).await else { return false };
    let Ok(completion) = address::read::<Completion>(&completion_file(&directory)) else { return false };
    loop {
        match queue.complete(watched.attempt, watched.run, completion.clone()).await {
            Ok(()) | Err(Error::Conflict(_)) => return true,
            // The next server finds it.
            Err(_) if *stop.borrow() => return true,
            Err(error) => {
                tracing::warn!(error = ?error, run = %watched.run, "a result was not recorded; again in 1 s");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        }
    }
}

/// In the place of its progress.
async fn say_that_it_waits(queue: &Queue, watched: &Watched, reason: &str) {
    let phase = format!("waits in the cluster's queue ({reason})");
    let progress = Progress { phase, fraction: 0.0, loss: None, images_per_second: None, seconds_left: None };
    let news = News { progressed: true, events: vec![WorkerEvent::Progress(progress)] };
    if let Err(error) = queue.record(watched.attempt, watched.run, &news).await {
        tracing::warn!(error = ?error, run = %watched.run, "that a run waits was not recorded");
    }
}

async fn order<E: Executor>(executor: &E, watched: &Watched, stop: Stop) {
    let Some(handle) = &watched.handle else { return };
    if let Err(error) = executor.stop(handle, stop).await {
        tracing::warn!(%error, attempt = %watched.attempt, "a worker was not told to end");
    }
}
