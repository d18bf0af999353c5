//! Gives queued runs to workers wherever a slot is free, and takes up again what an earlier server began.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tokio::{sync::watch, task::JoinSet};

use super::{
    ExecutorKind, Queue, Slurm,
    executor::{Executor, Handle, Order},
    local::Local,
    supervise::{Leave, Watched, left, supervise},
};
use crate::{
    domain::{AttemptId, RunId, SlurmOptions, spec::Device},
    error::{Error, Result},
    store::{Claim, Ending, Underway},
    worker::{
        address::{self, Assignment},
        process,
    },
};

/// What is wrong now may have passed by then.
const PAUSE: Duration = Duration::from_secs(5);

/// What was wrong for long is tried again so often.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// Threads of a job that asks for no number of processors.
const CLUSTER_THREADS: usize = 4;

/// Runs the queue until `stop` turns true.
pub async fn run(queue: Queue, stop: watch::Receiver<bool>) {
    let (local, slurm) = (Arc::default(), Arc::new(Slurm::new(queue.shared.settings.slurm.clone())));
    let mut dispatcher = Dispatcher { queue, stop, local, slurm, tasks: JoinSet::new(), running: HashMap::new() };
    let mut stop = dispatcher.stop.clone();
    // Until it is known what runs, nothing is started: it might be started twice.
    while let Err(error) = dispatcher.take_up().await {
        tracing::error!(error = ?error, "what the last server left is not known yet; again in 5 s");
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
    tokio::spawn(measure_all(dispatcher.queue.clone()));
    let mut pause = PAUSE;
    while !*stop.borrow() {
        let trouble = dispatcher.fill_slots().await.err();
        if let Some(error) = &trouble {
            tracing::error!(error = ?error, "the queue cannot go on; it tries again in {} s", pause.as_secs());
        }
        tokio::select! {
            () = dispatcher.queue.shared.submitted.notified(), if trouble.is_none() => pause = PAUSE,
            // Each try leaves an attempt: trouble that lasts is not asked for every few seconds.
            () = tokio::time::sleep(pause), if trouble.is_some() => pause = (2 * pause).min(LONGEST_PAUSE),
            Some(ended) = dispatcher.tasks.join_next() => dispatcher.over(ended),
            _ = stop.wait_for(|stop| *stop) => {}
        }
    }
    while let Some(ended) = dispatcher.tasks.join_next().await {
        dispatcher.over(ended);
    }
}

struct Dispatcher {
    queue: Queue,
    stop: watch::Receiver<bool>,
    local: Arc<Local>,
    slurm: Arc<Slurm>,
    /// One for each attempt that is under way.
    tasks: JoinSet<AttemptId>,
    running: HashMap<AttemptId, Device>,
}

impl Dispatcher {
    /// Watches the attempts that an earlier server began: their workers may be alive.
    async fn take_up(&mut self) -> Result<()> {
        for underway in self.queue.store.underway().await? {
            if self.running.contains_key(&underway.attempt) {
                // Taken up when this was tried before.
                continue;
            }
            tracing::info!(run = %underway.run, handle = underway.handle, "was under way; its worker is looked for");
            self.queue.shared.contacts.begin(underway.attempt, underway.cancel);
            match underway.executor {
                ExecutorKind::Local => self.take_up_one(underway, self.local.clone()).await?,
                ExecutorKind::Slurm => self.take_up_one(underway, self.slurm.clone()).await?,
            }
        }
        Ok(())
    }

    async fn take_up_one<E: Executor>(&mut self, underway: Underway, executor: Arc<E>) -> Result<()> {
        let (run, attempt, device) = (underway.run, underway.attempt, underway.device);
        let mut watched = Watched { run, attempt, handle: underway.handle.map(Handle) };
        if watched.handle.is_none() {
            let log = self.queue.store.log_file(attempt).await?;
            match executor.find(run, attempt, &log).await {
                Ok(Some(handle)) => watched.handle = Some(handle),
                Ok(None) => {
                    // One that was started has ended and left its result, or there was none.
                    if !left(&self.queue, &watched, &self.stop).await {
                        if underway.cancel {
                            end(&self.queue, run, attempt, Ending::Canceled, &self.stop).await;
                        } else {
                            self.queue.store.unclaim(attempt).await?;
                        }
                        self.queue.changed(run);
                    }
                    self.queue.shared.contacts.end(attempt);
                    return Ok(());
                }
                // It says so itself, if it is there.
                Err(error) => tracing::warn!(%error, %run, "whether a run has a worker is not known"),
            }
        }
        self.watch(watched, device, executor);
        Ok(())
    }

    /// Starts queued runs until no slot is free, or none waits, or the server stops. An error means that some could not be started.
    async fn fill_slots(&mut self) -> Result<()> {
        let (mut without, mut done) = (Vec::new(), Ok(()));
        while !*self.stop.borrow() {
            let mut full = self.queue.shared.settings.slots.full(self.running.values().copied());
            full.extend(&without);
            let token = token();
            let by = (self.queue.shared.settings.executors, |device, slurm: &_| self.threads(device, slurm));
            let claim = self.queue.store.claim(&full, by, &hash(&token), Timestamp::now()).await?;
            let Some(claim) = claim else { break };
            self.queue.shared.contacts.begin(claim.attempt, false);
            self.queue.changed(claim.run);
            let device = claim.device;
            let begun = match claim.executor {
                ExecutorKind::Local => self.begin(claim, token, self.local.clone()).await,
                ExecutorKind::Slurm => self.begin(claim, token, self.slurm.clone()).await,
            };
            if begun.is_err() {
                // A cluster that is away holds up no run on this machine.
                without.push(device);
                done = begun;
            }
        }
        done
    }

    /// Starts the worker of a claimed run. An error means that none can be started now.
    async fn begin<E: Executor>(&mut self, claim: Claim, token: String, executor: Arc<E>) -> Result<()> {
        let (run, attempt, device) = (claim.run, claim.attempt, claim.device);
        match start(&self.queue, claim, token, &*executor).await {
            Ok(handle) => {
                self.watch(Watched { run, attempt, handle: Some(handle) }, device, executor);
                Ok(())
            }
            // It asks for what there is not, and would ask again.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                end(&self.queue, run, attempt, Ending::Failed(error.to_string()), &self.stop).await;
                self.queue.changed(run);
                Ok(())
            }
            // Not the run's fault: it waits until workers can be started again.
            Err(error) => {
                let ending = Ending::Interrupted(format!("the worker could not be started: {error}"));
                end(&self.queue, run, attempt, ending, &self.stop).await;
                Err(Error::internal("a worker could not be started", error))
            }
        }
    }

    /// What a specification's 0 threads mean: on this machine the processors, shared among the slots; in a cluster what the job
    /// asks for.
    fn threads(&self, device: Device, slurm: &SlurmOptions) -> usize {
        let settings = &self.queue.shared.settings;
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        match (settings.executors.of(device), device) {
            (ExecutorKind::Slurm, _) => slurm.cpus.or(settings.slurm.cpus).unwrap_or(CLUSTER_THREADS),
            (ExecutorKind::Local, Device::Cpu) => (processors / settings.slots.of(device).max(1)).max(1),
            (ExecutorKind::Local, Device::Cuda(_)) => processors,
        }
    }

    fn watch<E: Executor>(&mut self, watched: Watched, device: Device, executor: Arc<E>) {
        let (queue, mut stop) = (self.queue.clone(), self.stop.clone());
        let (run, attempt) = (watched.run, watched.attempt);
        let leave = if queue.shared.settings.keep_workers { Leave::Alone } else { Leave::Stop };
        self.running.insert(attempt, device);
        self.tasks.spawn(async move {
            if let Some(ending) = supervise(&queue, &*executor, watched, (leave, &mut stop)).await {
                end(&queue, run, attempt, ending, &stop).await;
            }
            queue.shared.contacts.end(attempt);
            measure(&queue, run).await;
            queue.changed(run);
            attempt
        });
    }

    fn over(&mut self, ended: std::result::Result<AttemptId, tokio::task::JoinError>) {
        match ended {
            Ok(attempt) => {
                self.running.remove(&attempt);
            }
            // Its slot stays taken until the server restarts and looks for the worker.
            Err(error) => tracing::error!(%error, "an attempt is not watched any more"),
        }
    }
}

/// Starts the worker of a claimed run.
async fn start(queue: &Queue, claim: Claim, token: String, executor: &impl Executor) -> io::Result<Handle> {
    let assignment = Assignment {
        attempt: claim.attempt,
        token,
        server: queue.shared.settings.server_file.clone(),
        patience: queue.shared.settings.limits.patience.as_secs(),
    };
    let file = queue.store.assignment_file(claim.attempt).await.map_err(io::Error::other)?;
    write(&file, &assignment).await?;
    let order = Order {
        run: claim.run,
        attempt: claim.attempt,
        program: program(claim.executor)?,
        arguments: vec![OsString::from("worker"), file.into()],
        log: queue.store.log_file(claim.attempt).await.map_err(io::Error::other)?,
        device: claim.device,
        threads: claim.threads,
        slurm: claim.slurm,
    };
    let handle = executor.start(&order).await?;
    tracing::info!(run = %claim.run, %handle, "starts");
    // Where a job runs, its worker says.
    let host = match claim.executor {
        ExecutorKind::Local => Some(process::host()),
        ExecutorKind::Slurm => None,
    };
    if let Err(error) = queue.store.introduce(claim.attempt, &handle.0, host.as_deref()).await {
        // The worker says it again.
        tracing::warn!(error = ?error, run = %claim.run, "a worker's number was not recorded");
    }
    Ok(handle)
}

async fn write(file: &Path, assignment: &Assignment) -> io::Result<()> {
    let (file, assignment) = (file.to_owned(), assignment.clone());
    tokio::task::spawn_blocking(move || {
        file.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        address::write(&file, &assignment)
    })
    .await
    .map_err(io::Error::other)?
}

/// This very program: on this machine also after its file was replaced by a newer one, elsewhere by its path.
fn program(executor: ExecutorKind) -> io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    match executor {
        ExecutorKind::Local if running.exists() => Ok(running.into()),
        ExecutorKind::Local | ExecutorKind::Slurm => std::env::current_exe(),
    }
}

/// Records the end of an attempt, again and again while the database does not take it: a run that nobody watches must not stay
/// running. When the server stops, the next one sees to it.
async fn end(queue: &Queue, run: RunId, attempt: AttemptId, ending: Ending, stop: &watch::Receiver<bool>) {
    let reason = match &ending {
        Ending::Failed(reason) | Ending::Lost(reason) | Ending::Interrupted(reason) => reason,
        Ending::Canceled => "canceled",
    };
    queue.store.note(attempt, reason, Timestamp::now()).await;
    loop {
        match queue.store.end(attempt, ending.clone(), Timestamp::now()).await {
            // In a conflict the worker told the end itself, as it should.
            Ok(()) | Err(Error::Conflict(_)) => break,
            Err(error) if *stop.borrow() => {
                tracing::error!(error = ?error, %run, "the end of an attempt was not recorded");
                return;
            }
            Err(error) => {
                tracing::warn!(error = ?error, %run, "the end of an attempt was not recorded; again in 1 s")
            }
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    if let Err(error) = queue.store.drop_messages(attempt).await {
        tracing::warn!(error = ?error, %run, "files of an attempt were not deleted");
    }
    // Its turn may come at once.
    queue.shared.submitted.notify_one();
}

/// Notes what the files of a run take, now that its worker is gone. Where that fails they are looked at whenever they are shown.
async fn measure(queue: &Queue, run: RunId) {
    if let Err(error) = queue.store.measure(run).await {
        tracing::warn!(error = ?error, %run, "the files of a run were not measured");
    }
}

/// Does so for runs that ended in an earlier version, or whose server went away at that moment.
async fn measure_all(queue: Queue) {
    for run in queue.store.unmeasured().await.unwrap_or_default() {
        measure(&queue, run).await;
    }
}

fn token() -> String {
    format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>())
}

pub(super) fn hash(token: &str) -> String {
    Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect()
}
