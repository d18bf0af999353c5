//! The queue at work: takes runs in their order, gives each to a worker where a slot is free, and records how it ended.

mod again;
mod attempts;
mod contacts;
mod dispatch;
pub mod executor;
mod executors;
mod local;
mod results;
mod slots;
pub mod slurm;
mod supervise;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{Notify, broadcast};

use crate::{
    domain::{
        DatasetId, RunId, RunSpec, SingleRun, SlurmOptions, Submission, Sweep, SweepId,
        spec::{Backbone, Device},
    },
    error::{Error, Result},
    store::{DatasetRow, Store, Submitted, labels_only},
    weights::Library,
};
use contacts::Contacts;

pub use dispatch::run;
pub use executors::{ExecutorKind, Executors};
pub use slots::Slots;
pub use slurm::Slurm;

/// The queue as pages, API and workers see it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Queue {
    store: Store,
    shared: Arc<Shared>,
}

/// What the queue works with.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the features of frozen backbones may take on disk.
    pub feature_cache_bytes: u64,
    /// A run writes a checkpoint each time that this has passed, beside those at the ends of epochs.
    pub checkpoint_every: Duration,
    /// How many runs may run on each device.
    pub slots: Slots,
    /// What starts workers.
    pub executors: Executors,
    /// What jobs of a cluster ask for, where their run asks for nothing else.
    pub slurm: SlurmOptions,
    /// When a worker is given up.
    pub limits: Limits,
    /// Whether workers go on when the server is stopped, and look for the next one.
    pub keep_workers: bool,
    /// Where a worker reads who its server is.
    pub server_file: PathBuf,
}

/// When a worker is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// It has not called for so long.
    pub lost_after: Duration,
    /// It has not got further for so long.
    pub stalled_after: Duration,
    /// How long a worker goes on without a server.
    pub patience: Duration,
}

#[derive(Debug)]
struct Shared {
    changes: broadcast::Sender<RunId>,
    /// Wakes the dispatcher: something was submitted.
    submitted: Notify,
    /// Wakes those who watch workers: there is something to see.
    woken: Notify,
    contacts: Contacts,
    settings: Settings,
}

impl Queue {
    /// A queue over the runs in `store`.
    pub fn new(store: Store, settings: Settings) -> Self {
        let changes = broadcast::Sender::new(256);
        let (submitted, woken, contacts) = (Notify::new(), Notify::new(), Contacts::default());
        Self { store, shared: Arc::new(Shared { changes, submitted, woken, contacts, settings }) }
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
        if let Some(attempt) = self.store.cancel(run, Timestamp::now()).await? {
            self.shared.contacts.cancel(attempt);
            self.shared.woken.notify_waiters();
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
