//! Composition: configuration → store → scheduler → router → graceful shutdown.

use std::{
    fs::{File, TryLockError},
    net::SocketAddr,
    path::Path,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use crate::{
    config::{Config, DataConfig},
    demo,
    error::{Error, Result},
    report::{Reports, RunQuery},
    scheduler::{self, Queue, Settings, Slurm},
    services::{Activity, Annotations, Images, Predictor, Services, Weights},
    store::{Store, StoreConfig},
    web,
    worker::{
        address::{self, ServerRecord},
        process,
        protocol::VERSION,
    },
};

/// How long a lock that is taken is waited for: a worker that a killed server was about to start holds it until it has become the
/// worker.
const HANDOVER: Duration = Duration::from_secs(2);

/// What the server does on its own when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Nothing.
    Serve,
    /// Makes the demo data set and queues its comparison, as far as they are not there yet.
    Demo,
}

/// A running server.
pub struct Server {
    /// Where pages and API are served.
    pub address: SocketAddr,
    stop: watch::Sender<bool>,
    stop_workers: watch::Sender<bool>,
    pages: JoinHandle<std::io::Result<()>>,
    workers: JoinHandle<std::io::Result<()>>,
    scheduler: JoinHandle<()>,
    // Held until the end: one server per data directory.
    _lock: Vec<File>,
}

impl Server {
    /// Opens the data directory, binds the addresses and starts serving.
    pub async fn start(config: &Config, start: Start) -> Result<Self> {
        let pages = bind(config.listen, "--listen").await?;
        let workers = bind(config.worker_listen, "--worker-listen").await?;
        let local = |listener: &TcpListener| {
            listener.local_addr().map_err(|error| Error::internal("a listener has no address", error))
        };
        let (address, worker_address) = (local(&pages)?, local(&workers)?);

        if config.executors.any_slurm() {
            if config.worker_listen.ip().is_loopback() && config.worker_url.is_none() {
                tracing::warn!(
                    "jobs on other nodes cannot find the server at {}: add --worker-listen 0.0.0.0:PORT and --worker-url",
                    config.worker_listen
                );
            }
            Slurm::new(config.slurm.clone()).check().await.map_err(|error| Error::Invalid(error.to_string()))?;
        }
        let lock = lock(&config.data).await?;
        let store = StoreConfig { data_dir: config.data.data_dir.clone(), database: config.data.database.clone() };
        let store = Store::open(&store).await?;
        let server_file = ServerRecord::path(store.data_dir());
        let record = ServerRecord {
            url: format!("http://{address}"),
            workers: config.worker_url.clone().unwrap_or_else(|| format!("http://{worker_address}")),
            host: process::host(),
            process: std::process::id(),
            version: VERSION.into(),
            started_at: Timestamp::now().to_string(),
        };
        address::write(&server_file, &record)
            .map_err(|error| Error::Invalid(format!("{} cannot be written: {error}", server_file.display())))?;
        let settings = Settings {
            feature_cache_bytes: config.feature_cache_bytes,
            checkpoint_every: config.checkpoint_every,
            slots: config.slots.clone(),
            executors: config.executors,
            slurm: config.slurm.clone(),
            limits: config.limits,
            keep_workers: config.keep_workers,
            server_file,
        };
        let queue = Queue::new(store.clone(), settings);
        let (activity, watched) = watch::channel::<Option<Activity>>(None);
        let reports = Reports::new(store.clone());
        let services = Services {
            queue: queue.clone(),
            predictor: Predictor::new(store.clone(), reports.clone()),
            reports,
            images: Images::new(store.clone()),
            weights: Weights::new(&store),
            annotations: Annotations::new(store.clone()),
            activity: watched,
        };
        // So that the first page is as fast as the next.
        let warm = services.reports.clone();
        tokio::spawn(async move { warm.runs(&RunQuery::default()).await.map(drop) });
        let security = web::Security { loopback_only: address.ip().is_loopback() };
        let (stop, stopped) = watch::channel(false);
        let (stop_workers, workers_stopped) = watch::channel(false);
        let pages = tokio::spawn(web::serve(pages, web::router(services, security), stopped.clone()));
        let workers = tokio::spawn(web::serve(workers, web::worker::router(queue.clone()), workers_stopped));
        let scheduler = tokio::spawn(scheduler::run(queue.clone(), stopped));
        match start {
            Start::Serve => {}
            Start::Demo => drop(tokio::spawn(demo::prepare(store, queue, activity))),
        }
        Ok(Self { address, stop, stop_workers, pages, workers, scheduler, _lock: lock })
    }

    /// Ends the server: what was asked is answered, the running worker writes a checkpoint, and its run goes back to the queue.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        // The scheduler first: the worker still tells how far it came, and the pages may wait for slow readers.
        let scheduler = self.scheduler.await;
        self.stop_workers.send_replace(true);
        for (what, end) in
            [("scheduler", scheduler), ("pages", flat(self.pages).await), ("workers", flat(self.workers).await)]
        {
            if let Err(error) = end {
                tracing::error!(%error, "{what}");
            }
        }
    }
}

/// Runs a server until Ctrl-C or SIGTERM. `started` is called with its address.
pub async fn run(config: &Config, start: Start, started: impl FnOnce(SocketAddr)) -> Result<()> {
    let server = Server::start(config, start).await?;
    started(server.address);
    asked_to_stop().await;
    tracing::info!("stopping");
    server.stop().await;
    Ok(())
}

async fn flat(task: JoinHandle<std::io::Result<()>>) -> std::result::Result<(), tokio::task::JoinError> {
    match task.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            tracing::error!(%error, "a listener failed");
            Ok(())
        }
        Err(error) => Err(error),
    }
}

async fn bind(address: SocketAddr, flag: &str) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        Error::Invalid(format!("{flag} {address} cannot be used: {error}; choose another one, or end what uses it"))
    })
}

/// One server per data directory and database: two would give the same run to two workers. Taken before the database is opened,
/// which a newer version changes.
pub(crate) async fn lock(data: &DataConfig) -> Result<Vec<File>> {
    let directory = &data.data_dir;
    std::fs::create_dir_all(directory).map_err(|error| not_writable(directory, &error))?;
    let beside_database = data.database.iter().map(|database| database.with_extension("lock"));
    let files = [directory.join("server.lock")].into_iter().chain(beside_database);
    let mut locks = Vec::new();
    for path in files {
        locks.push(lock_file(directory, &path).await?);
    }
    Ok(locks)
}

async fn lock_file(directory: &Path, path: &Path) -> Result<File> {
    let file = File::create(path).map_err(|error| not_writable(directory, &error))?;
    let start = Instant::now();
    let refused = loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if start.elapsed() < HANDOVER => {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            Err(refused) => break refused,
        }
    };
    Err(match refused {
        TryLockError::WouldBlock => {
            let other = address::read::<ServerRecord>(&ServerRecord::path(directory)).ok();
            let named = other.map(|ServerRecord { url, host, process, started_at, .. }| {
                format!(" at {url} (process {process} on {host}, started {started_at})")
            });
            Error::Conflict(format!(
                "another server{} runs on the data directory {}; end it, or choose another one with --data-dir",
                named.unwrap_or_default(),
                directory.display()
            ))
        }
        TryLockError::Error(error) => not_writable(directory, &error),
    })
}

fn not_writable(directory: &Path, error: &std::io::Error) -> Error {
    Error::Invalid(format!(
        "the data directory {} cannot be written: {error}; make it writable, or choose another one with --data-dir",
        directory.display()
    ))
}

#[cfg(unix)]
async fn asked_to_stop() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                _ = terminate.recv() => {}
            }
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be heard");
            let _ = tokio::signal::ctrl_c().await;
        }
    }
}

#[cfg(not(unix))]
async fn asked_to_stop() {
    let _ = tokio::signal::ctrl_c().await;
}
