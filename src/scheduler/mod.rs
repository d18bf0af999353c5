//! The queue at work: takes runs in order of submission, gives each to a worker process, and records how it ended.

mod again;
mod local;
mod results;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::{Notify, broadcast, watch};

use crate::{
    domain::{
        AttemptId, DatasetId, RunId, RunSpec, SingleRun, Submission, Sweep, SweepId,
        spec::{Backbone, Device},
    },
    error::{Error, Result},
    evaluation::FeatureCache,
    store::{DatasetRow, Ending, Store, Submitted, labels_only},
    training::{CheckpointFiles, Files},
    weights::Library,
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
    feature_cache_bytes: u64,
    checkpoint_every: Duration,
}

impl Queue {
    /// A queue over the runs in `store`. Features of frozen backbones may take `feature_cache_bytes` there; a run writes a
    /// checkpoint each time that `checkpoint_every` has passed, beside those at the ends of epochs.
    pub fn new(store: Store, feature_cache_bytes: u64, checkpoint_every: Duration) -> Self {
        let changes = broadcast::Sender::new(256);
        let (submitted, canceled) = (Notify::new(), Notify::new());
        let shared = Shared { changes, submitted, canceled, feature_cache_bytes, checkpoint_every };
        Self { store, shared: Arc::new(shared) }
    }

    /// Puts a run at the end of the queue, unless it is there already.
    pub async fn submit(&self, run: SingleRun) -> Result<Submitted> {
        let (submitted, _) = self.submit_all(run.into()).await?;
        submitted
            .first()
            .copied()
            .ok_or_else(|| Error::internal("a run was not submitted", "the store answered without it"))
    }

    /// Puts runs at the end of the queue, all or none; those that are there already are not submitted again.
    /// Several are kept as a sweep.
    pub async fn submit_all(&self, sweep: Sweep) -> Result<(Vec<Submitted>, Option<SweepId>)> {
        let (force, name) = (sweep.force, sweep.name.clone());
        let runs = self.checked(sweep).await?;
        let (submitted, sweep) = self.store.submit(&runs, force, Some(&name), Timestamp::now()).await?;
        for run in submitted.iter().filter(|run| !run.existing) {
            self.changed(run.run);
        }
        self.shared.submitted.notify_one();
        Ok((submitted, sweep))
    }

    /// For each run, the one that is there already; an error where [`Self::submit_all`] would refuse them.
    pub async fn existing(&self, sweep: Sweep) -> Result<Vec<Option<RunId>>> {
        if sweep.force {
            return Ok(vec![None; self.checked(sweep).await?.len()]);
        }
        self.store.existing(&self.checked(sweep).await?).await
    }

    /// The runs with their data sets, if each can be run here.
    async fn checked(&self, sweep: Sweep) -> Result<Vec<(DatasetId, Submission)>> {
        let mut datasets = BTreeMap::new();
        for name in sweep.runs.iter().map(|run| &run.spec.dataset) {
            if !datasets.contains_key(name) {
                datasets.insert(name.clone(), self.store.find_dataset(name).await?);
            }
        }
        let weights = self.check_weights(&sweep.runs).await?;
        let check = |run: &Submission| {
            let dataset = datasets.get(&run.spec.dataset).and_then(Option::as_ref);
            let id = runnable(&run.spec, dataset)?;
            match run.spec.initial_weights.clone().and_then(|name| weights.get(&(name, run.spec.backbone))) {
                Some(Err(error)) => Err(Error::Invalid(format!("initial_weights: {error}"))),
                Some(Ok(())) | None => Ok(id),
            }
        };
        let ids = sweep.settle(sweep.runs.iter().map(check).collect()).map_err(|(error, text)| match error {
            Error::Invalid(_) => Error::Invalid(text),
            Error::Conflict(_) => Error::Conflict(text),
            Error::NotFound(_) | Error::Busy(_) | Error::Internal { .. } => error,
        })?;
        Ok(ids.into_iter().zip(sweep.runs).collect())
    }

    /// Whether the initial weights of these runs are there and fit their backbones: each file is looked at once.
    async fn check_weights(
        &self,
        runs: &[Submission],
    ) -> Result<BTreeMap<(String, Backbone), std::result::Result<(), String>>> {
        let starts = runs.iter().filter_map(|run| Some((run.spec.initial_weights.clone()?, run.spec.backbone)));
        let (starts, library) = (starts.collect::<BTreeSet<_>>(), self.library());
        let check = move || {
            let check = |(name, backbone): (String, Backbone)| {
                let checked = library.check(&name, backbone).map_err(|error| error.to_string());
                ((name, backbone), checked)
            };
            starts.into_iter().map(check).collect()
        };
        let checked = tokio::task::spawn_blocking(check).await;
        checked.map_err(|error| Error::internal("initial weights were not looked at", error))
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
        let features = FeatureCache {
            directory: self.store.data_dir().join("cache/features"),
            limit_bytes: self.shared.feature_cache_bytes,
        };
        let initial_weights = row.spec.initial_weights.as_ref().and_then(|name| self.library().locate(name));
        let (own, earlier) = self.store.checkpoints(attempt).await?;
        let checkpoints = CheckpointFiles { directory: own, earlier, every: self.shared.checkpoint_every };
        let files = Files { initial_weights, features: Some(features), checkpoints: Some(checkpoints) };
        Ok(Job { run, spec: row.spec, directory, data: self.store.training_data(row.dataset_id).await?, files })
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
            Completion::Succeeded { epoch, artifacts } => {
                match results::outcomes(&self.store, attempt, run, &artifacts).await {
                    Ok(outcomes) => {
                        self.store.succeed(attempt, epoch, (&artifacts, &outcomes), now).await?;
                        self.store.drop_checkpoints(attempt).await?;
                    }
                    Err(error @ (Error::Invalid(_) | Error::NotFound(_))) => {
                        self.store.end(attempt, Ending::Failed(error.to_string()), now).await?;
                    }
                    Err(error @ (Error::Conflict(_) | Error::Busy(_) | Error::Internal { .. })) => return Err(error),
                }
            }
            Completion::Failed { error } => self.store.end(attempt, Ending::Failed(error), now).await?,
            Completion::Canceled => self.store.end(attempt, Ending::Canceled, now).await?,
            Completion::Released => self.store.end(attempt, Ending::Released, now).await?,
        }
        self.changed(run);
        Ok(())
    }

    fn library(&self) -> Library {
        Library::new(self.store.data_dir())
    }

    fn changed(&self, run: RunId) {
        // Nobody listening is fine.
        let _ = self.shared.changes.send(run);
    }
}

/// The data set's id, if the specification fits it and this machine.
fn runnable(spec: &RunSpec, dataset: Option<&DatasetRow>) -> Result<DatasetId> {
    let name = &spec.dataset;
    let dataset = dataset.ok_or_else(|| {
        Error::Invalid(format!("dataset: there is no data set “{name}”; `twograin dataset list` shows those there are"))
    })?;
    if dataset.labels_only {
        return Err(labels_only(name));
    }
    if dataset.train_funnel.kept < 2 || dataset.test_funnel.kept == 0 {
        return Err(Error::Conflict(format!("the data set “{name}” has too few images to train and test on")));
    }
    spec.focal_alphas(&dataset.taxonomy).map_err(Error::Invalid)?;
    if spec.device != Device::Cpu && !candle_core::utils::cuda_is_available() {
        return Err(Error::Invalid(format!(
            "device: this build of twograin has no CUDA, so {} cannot be used; leave it out for the processor",
            spec.device
        )));
    }
    Ok(dataset.id)
}

/// Runs the queue until `stop` turns true. `worker_url` is where the worker endpoints are served.
///
/// Attempts that were under way when the last server died are put back into the queue first.
pub async fn run(queue: Queue, worker_url: String, mut stop: watch::Receiver<bool>) {
    while let Err(error) = recover(&queue, &stop).await {
        tracing::error!(error = ?error, "what the last server left is not back in the queue yet");
        if pause(&mut stop).await.is_break() {
            return;
        }
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
                if pause(&mut stop).await.is_break() {
                    return;
                }
            }
        }
    }
}

async fn recover(queue: &Queue, stop: &watch::Receiver<bool>) -> Result<()> {
    let ending = Ending::Lost("the server ended while it ran".into());
    for attempt in queue.store.orphans().await? {
        end(queue, attempt, &ending, stop).await?;
    }
    Ok(())
}

/// A few seconds, for what is wrong to pass; breaks when the server is stopped.
async fn pause(stop: &mut watch::Receiver<bool>) -> ControlFlow<()> {
    match tokio::time::timeout(Duration::from_secs(5), stop.wait_for(|stop| *stop)).await {
        Ok(_) => ControlFlow::Break(()),
        Err(_) => ControlFlow::Continue(()),
    }
}

/// Runs the oldest queued run to its end; false if there is none.
async fn step(queue: &Queue, worker_url: &str, stop: &mut watch::Receiver<bool>) -> Result<bool> {
    let token = token();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let Some(claim) = queue.store.claim(threads, &hash(&token), Timestamp::now()).await? else { return Ok(false) };
    queue.changed(claim.run);
    tracing::info!(run = %claim.run, "starts");
    let supervised = local::supervise(queue, &claim, worker_url, &token, stop).await;
    let (ending, result) = match supervised {
        Ok(ending) => (ending, Ok(true)),
        // Not the run's fault: it waits until workers can be started again.
        Err(error) => (Ending::Released, Err(Error::internal("the worker process could not be started", error))),
    };
    end(queue, claim.attempt, &ending, stop).await?;
    queue.changed(claim.run);
    tracing::info!(run = %claim.run, "ended");
    result
}

/// Records the end of an attempt, again and again while the database does not take it: a run that nobody watches must not stay
/// running.
async fn end(queue: &Queue, attempt: AttemptId, ending: &Ending, stop: &watch::Receiver<bool>) -> Result<()> {
    loop {
        match queue.store.end(attempt, ending.clone(), Timestamp::now()).await {
            // In a conflict the worker told the end itself, as it should.
            Ok(()) | Err(Error::Conflict(_)) => return Ok(()),
            Err(error) if *stop.borrow() => return Err(error),
            Err(error) => {
                tracing::warn!(error = ?error, %attempt, "the end of an attempt was not recorded; again in 1 s")
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

fn token() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
