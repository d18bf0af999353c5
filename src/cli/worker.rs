//! `twograin worker`: one attempt of a run, in a process of its own. The server starts it.

use clap::Args;

use super::failure::Failure;
use crate::{
    domain::AttemptId,
    worker::{self, WorkerConfig, protocol},
};

/// Which attempt, and whom to report to. The token is read from the environment, where other users cannot list it.
#[derive(Args, Debug)]
pub struct WorkerArgs {
    /// Address of the server's worker endpoints
    #[arg(long, value_name = "URL")]
    server: String,
    /// Number of the attempt
    #[arg(long, value_name = "ID")]
    attempt: AttemptId,
    /// End when standard input ends, which the server holds open
    #[arg(long)]
    end_with_stdin: bool,
    /// Token of the attempt
    #[arg(long, value_name = "TOKEN", env = protocol::TOKEN_VARIABLE, hide = true, hide_env_values = true)]
    token: String,
}

/// Executes the attempt.
pub fn work(args: WorkerArgs) -> Result<(), Failure> {
    let WorkerArgs { server, attempt, token, end_with_stdin } = args;
    // The server keeps standard error as the run's log, and adds the time.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).without_time().try_init();
    worker::run(WorkerConfig { server, attempt, token, end_with_stdin }).map_err(Failure::Failed)
}
