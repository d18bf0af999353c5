//! `twograin serve` and `twograin demo`: the server.

use std::io::{self, IsTerminal};

use super::{failure::Failure, output::print};
use crate::{
    app::{self, Start},
    config::{Config, ServeArgs},
};

pub const EXAMPLES: &str = "\
Examples:
  twograin serve
  twograin serve --listen 127.0.0.1:9000 --data-dir /srv/twograin
  TWOGRAIN_DATA_DIR=/srv/twograin twograin serve";

pub const DEMO_EXAMPLES: &str = "\
Examples:
  twograin demo
  twograin demo --data-dir /tmp/try-it --listen 127.0.0.1:9000";

/// Runs the server until it is told to stop.
pub fn serve(args: ServeArgs, start: Start) -> Result<(), Failure> {
    let config = Config::try_from(args).map_err(Failure::Usage)?;
    log_to_stderr();
    let runtime = tokio::runtime::Runtime::new();
    let runtime = runtime.map_err(|error| Failure::because("the program cannot start its threads", &error))?;
    // On standard output, for whoever starts the server with port 0 and reads where it is. If nobody does, it serves all the same.
    let started = |address| drop(print(&format!("Twograin is at http://{address}; Ctrl-C ends it")));
    Ok(runtime.block_on(app::run(&config, start, started))?)
}

/// One line per event on standard error, in colour on a terminal.
fn log_to_stderr() {
    let ansi = io::stderr().is_terminal();
    let log = tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(ansi).with_max_level(tracing::Level::INFO);
    // A second call finds the first one's in place, which is the same.
    let _ = log.with_target(false).try_init();
}
