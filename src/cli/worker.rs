//! `twograin worker`: one attempt of a run, in a process of its own. The server starts it.

use std::path::PathBuf;

use clap::Args;

use super::failure::Failure;
use crate::worker;

/// Which attempt.
#[derive(Args, Debug)]
pub struct WorkerArgs {
    /// What the server left for the worker: the attempt, its token, and where the server is
    #[arg(value_name = "FILE")]
    assignment: PathBuf,
}

/// Executes the attempt.
pub fn work(args: WorkerArgs) -> Result<(), Failure> {
    // Standard error is the run's log, whose lines of ours begin with the time.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).try_init();
    worker::run(&args.assignment).map_err(Failure::Failed)
}
