//! The queue at work: takes runs in order of submission, gives each to a worker process, and records how it ended.

mod local;
mod results;

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    domain::{AttemptId, RunId, Submission, spec::Device},
    error::{Error, Result},
    store::{Ending, Store, labels_only},
    worker::protocol::{Completion, Job, Reply, WorkerEvent},
};

/// The queue as pages, API and workers see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    changes: broadcast::Sender<RunId>,
    /// Wakes the scheduler: something was submitted.
    submitted: Notify,
    /// Wakes the supervisor of the running attempt: somebody asked it to stop.
    canceled: Notify,
}

impl Queue {
    /// A queue over the runs in `store`.
    pub fn new(store: Store) -> Self {
        let shared = Shared { changes: broadcast::Sender::new(256), submitted: Notify::new(), canceled: Notify::new() };
        Self { store, shared: Arc::new(shared) }
    }

    /// Puts a run at the end of the queue.
    pub async fn submit(&self, submission: Submission) -> Result<RunId> {
        let name = &submission.spec.dataset;
        let dataset = self.store.find_dataset(name).await?.ok_or_else(|| {
            Error::Invalid(format!(
                "dataset: there is no data set “{name}”; `twograin dataset list` shows those there are"
            ))
        })?;
        if dataset.labels_only {
            return Err(labels_only(name));
        }
        if dataset.train_funnel.kept < 2 || dataset.test_funnel.kept == 0 {
            return Err(Error::Conflict(format!("the data set “{name}” has too few images to train and test on")));
        }
        if submission.spec.device != Device::Cpu && !candle_core::utils::cuda_is_available() {
            return Err(Error::Invalid(format!(
                "device: this build of twograin has no CUDA, so {} cannot be used; leave it out for the processor",
                submission.spec.device
            )));
        }
        if let Some(path) = &submission.spec.initial_weights
            && !std::path::Path::new(path).is_file()
        {
            return Err(Error::Invalid(format!("initial_weights: there is no file {path} on the server")));
        }
        let run = self.store.submit(dataset.id, &submission, Timestamp::now()).await?;
        self.changed(run);
        self.shared.submitted.notify_one();
        Ok(run)
    }

    /// Cancels a queued run at once and asks a running one to stop.
    pub async fn cancel(&self, run: RunId) -> Result<()> {
        if self.store.cancel(run, Timestamp::now()).await?.is_some() {
            self.shared.canceled.notify_waiters();
        }
        self.changed(run);
        Ok(())
    }

    /// Deletes a run that has ended, its outcomes and its files.
    pub async fn delete(&self, run: RunId) -> Result<()> {
        self.store.delete_run(run).await?;
        self.changed(run);
        Ok(())
    }

    /// Hears of each run whose state or progress changed.
    pub fn subscribe(&self) -> broadcast::Receiver<RunId> {
        self.shared.changes.subscribe()
    }

    /// The run of the attempt that `token` belongs to, if it still holds it.
    pub async fn authorise(&self, attempt: AttemptId, token: &str) -> Result<Option<RunId>> {
        self.store.authorise(attempt, &hash(token)).await
    }

    /// What a worker is to do.
    pub async fn job(&self, attempt: AttemptId, run: RunId) -> Result<Job> {
        let row = self.store.run(run).await?;
        let directory = self.store.attempt_directory(attempt).await?;
        tokio::fs::create_dir_all(&directory)
            .await
            .map_err(|error| Error::internal(format!("{} could not be made", directory.display()), error))?;
        Ok(Job { run, spec: row.spec, directory, data: self.store.training_data(row.dataset_id).await? })
    }

    /// Records what a worker tells.
    pub async fn record(&self, attempt: AttemptId, run: RunId, events: &[WorkerEvent]) -> Result<Reply> {
        let cancel = self.store.record(attempt, events, Timestamp::now()).await?;
        if !events.is_empty() {
            self.changed(run);
        }
        Ok(Reply { cancel })
    }

    /// Records how an attempt ended, by its worker's word and what it left.
    pub async fn complete(&self, attempt: AttemptId, run: RunId, completion: Completion) -> Result<()> {
        let now = Timestamp::now();
        match completion {
            Completion::Succeeded { artifacts } => {
                match results::outcomes(&self.store, attempt, run, &artifacts).await {
                    Ok(outcomes) => self.store.succeed(attempt, &artifacts, &outcomes, now).await?,
                    Err(error @ (Error::Invalid(_) | Error::NotFound(_))) => {
                        self.store.end(attempt, Ending::Failed(error.to_string()), now).await?;
                    }
                    Err(error @ (Error::Conflict(_) | Error::Busy(_) | Error::Internal { .. })) => return Err(error),
                }
            }
            Completion::Failed { error } => self.store.end(attempt, Ending::Failed(error), now).await?,
            Completion::Canceled => self.store.end(attempt, Ending::Canceled, now).await?,
        }
        self.changed(run);
        Ok(())
    }

    fn changed(&self, run: RunId) {
        // Nobody listening is fine.
        let _ = self.shared.changes.send(run);
    }
}

/// Runs the queue until `stop` turns true. `worker_url` is where the worker endpoints are served.
///
/// Attempts that were under way when the last server died are put back into the queue first.
pub async fn run(queue: Queue, worker_url: String, mut stop: watch::Receiver<bool>) {
    if let Err(error) = recover(&queue).await {
        tracing::error!(error = ?error, "what the last server left could not be put back into the queue");
    }
    while !*stop.borrow() {
        match step(&queue, &worker_url, &mut stop).await {
            Ok(true) => {}
            Ok(false) => {
                tokio::select! {
                    () = queue.shared.submitted.notified() => {}
                    // Submissions of another process, such as the command line without a server, are none of ours.
                    _ = stop.changed() => {}
                }
            }
            Err(error) => {
                tracing::error!(error = ?error, "the queue cannot go on; it tries again in 5 s");
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        }
    }
}

async fn recover(queue: &Queue) -> Result<()> {
    for attempt in queue.store.orphans().await? {
        queue.store.end(attempt, Ending::Lost("the server ended while it ran".into()), Timestamp::now()).await?;
    }
    Ok(())
}

/// Runs the oldest queued run to its end; false if there is none.
async fn step(queue: &Queue, worker_url: &str, stop: &mut watch::Receiver<bool>) -> Result<bool> {
    let token = token();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(claim) = queue.store.claim(threads, &hash(&token), Timestamp::now()).await? else { return Ok(false) };
    queue.changed(claim.run);
    tracing::info!(run = %claim.run, "starts");
    let ending = local::supervise(queue, &claim, worker_url, &token, stop).await;
    match queue.store.end(claim.attempt, ending, Timestamp::now()).await {
        // The worker told the end itself, as it should.
        Ok(()) | Err(Error::Conflict(_)) => {}
        Err(error) => return Err(error),
    }
    queue.changed(claim.run);
    tracing::info!(run = %claim.run, "ended");
    Ok(true)
}

fn token() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
