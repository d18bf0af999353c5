//! What starts workers and knows what became of them: a process on this machine, or a job of a cluster.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
};

use crate::domain::{AttemptId, RunId, SlurmOptions, spec};

/// What is needed to start the worker of an attempt.
#[derive(Clone, Debug)]
pub struct Order {
    /// The run.
    pub run: RunId,
    /// This try at it.
    pub attempt: AttemptId,
    /// The program, absolute.
    pub program: PathBuf,
    /// Its arguments. They name a file with all it has to know, its token among them, which this user alone can read.
    pub arguments: Vec<OsString>,
    /// Where both its outputs are appended.
    pub log: PathBuf,
    /// What it computes on.
    pub device: spec::Device,
    /// With how many threads.
    pub threads: usize,
    /// What the run asked of the cluster, if it did.
    pub slurm: SlurmOptions,
}

/// Names a worker that was started, so that a later server finds it again: "number:start time" of a process, a job's number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handle(pub String);

impl fmt::Display for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a worker is at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// Waits in the cluster's queue, for this reason.
    Waiting(String),
    /// It runs.
    Alive,
    /// It has ended.
    Ended(Exit),
}

/// How a worker ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// By itself and without an error: it has told its result, or nobody will.
    Done,
    /// With an error of its own, which it would come to again.
    Failed(String),
    /// Killed, out of memory, aborted: the run may get further from its checkpoint.
    Lost(String),
    /// Taken away by the system: preempted, or its machine failed. Nobody's fault.
    Interrupted(String),
}

/// How a worker is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM: it writes a checkpoint and ends.
    Ask,
    /// At once, its children included.
    Kill,
}

/// Starts workers, watches and ends them.
pub trait Executor: Send + Sync + 'static {
    /// Starts a worker.
    fn start(&self, order: &Order) -> impl Future<Output = io::Result<Handle>> + Send;

    /// The worker of an attempt whose log is `log`, if a server that went away before it could note so started one, and it is still
    /// there.
    fn find(
        &self,
        run: RunId,
        attempt: AttemptId,
        log: &Path,
    ) -> impl Future<Output = io::Result<Option<Handle>>> + Send;

    /// What became of it. An error means that it is not known now, as when a cluster's controller restarts.
    fn state(&self, handle: &Handle) -> impl Future<Output = io::Result<State>> + Send;

    /// Ends it. One that has ended is no error.
    fn stop(&self, handle: &Handle, stop: Stop) -> impl Future<Output = io::Result<()>> + Send;
}
