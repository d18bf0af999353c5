//! A worker process on this machine, from start to end.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use jiff::Timestamp;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, ChildStderr, Command},
    sync::watch,
};

use super::Queue;
use crate::{
    store::{Claim, Ending},
    training,
    worker::protocol::{TOKEN_VARIABLE, WorkerEvent},
};

/// How long a worker that was asked to stop is waited for: a step, then the checkpoint of a large network.
const GRACE: Duration = Duration::from_secs(10);
/// How long a canceled run is shown as running when its worker takes its time.
const PROMPT: Duration = Duration::from_millis(1500);

/// How the attempt ended, unless the worker has told so itself: then nobody asks for the returned value. An error means that
/// there was no worker at all.
pub(super) async fn supervise(
    queue: &Queue,
    claim: &Claim,
    worker_url: &str,
    token: &str,
    stop: &mut watch::Receiver<bool>,
) -> std::io::Result<Ending> {
    let mut child = spawn(claim, worker_url, token)?;
    // Held open: its end tells the worker that the server is gone.
    let _stdin = child.stdin.take();
    let log = tokio::spawn(relay(queue.clone(), claim.attempt, claim.run, child.stderr.take()));
    let exit = tokio::select! {
        exit = child.wait() => exit,
        () = canceled(queue, claim) => {
            if tokio::time::timeout(PROMPT, child.wait()).await.is_err() {
                // Another one that fails is tried again by the caller.
                let _ = queue.store.end(claim.attempt, Ending::Canceled, Timestamp::now()).await;
                queue.changed(claim.run);
            }
            end(&mut child).await;
            return Ok(Ending::Canceled);
        }
        _ = stop.changed() => {
            terminate(&child);
            end(&mut child).await;
            return Ok(Ending::Released);
        }
    };
    let last_line = log.await.ok().flatten();
    Ok(match exit {
        Ok(status) if status.success() => Ending::Failed("the worker ended without telling a result".into()),
        // A signal: memory ran out, somebody killed it, or a library aborted. The run may get further from its last checkpoint.
        Ok(status) if status.code().is_none() => {
            let reason = reason(status, last_line);
            say(queue, claim, reason.clone()).await;
            Ending::Lost(reason)
        }
        Ok(status) => Ending::Failed(reason(status, last_line)),
        Err(error) => Ending::Lost(format!("the worker process could not be watched: {error}")),
    })
}

fn spawn(claim: &Claim, worker_url: &str, token: &str) -> std::io::Result<Child> {
    let mut command = Command::new(program()?);
    // Ctrl-C in a terminal is for the server, which ends its worker itself and gives the run back.
    #[cfg(unix)]
    command.process_group(0);
    command
        .args(["worker", "--end-with-stdin", "--server", worker_url, "--attempt", &claim.attempt.to_string()])
        .env(TOKEN_VARIABLE, token)
        .envs(training::environment())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
}

/// This very program, also after its file was replaced by a newer one.
fn program() -> std::io::Result<PathBuf> {
    let running = Path::new("/proc/self/exe");
    if running.exists() { Ok(running.into()) } else { std::env::current_exe() }
}

async fn canceled(queue: &Queue, claim: &Claim) {
    loop {
        let notified = queue.shared.canceled.notified();
        match queue.store.cancel_requested(claim.attempt).await {
            Ok(true) => return,
            Ok(false) => notified.await,
            Err(error) => {
                tracing::warn!(error = ?error, "whether a run is to be canceled is unknown");
                notified.await;
            }
        }
    }
}

/// Asks a worker to write a checkpoint and to end.
#[cfg(unix)]
fn terminate(child: &Child) {
    use rustix::process::{Pid, Signal, kill_process};

    let pid = child.id().and_then(|id| Pid::from_raw(id.cast_signed()));
    if let Some(Err(error)) = pid.map(|pid| kill_process(pid, Signal::TERM)) {
        tracing::warn!(%error, "a worker could not be asked to end");
    }
}

/// Elsewhere it is killed, and the run goes on from its last checkpoint.
#[cfg(not(unix))]
fn terminate(_: &Child) {}

/// Waits for a worker that was asked to stop, and kills it when it takes too long.
async fn end(child: &mut Child) {
    if tokio::time::timeout(GRACE, child.wait()).await.is_ok() {
        return;
    }
    if let Err(error) = child.kill().await {
        tracing::warn!(%error, "a worker could not be killed");
    }
}

/// A line for the run's log.
async fn say(queue: &Queue, claim: &Claim, text: String) {
    if let Err(error) = queue.store.record(claim.attempt, &[WorkerEvent::Log { text }], Timestamp::now()).await {
        tracing::debug!(error = ?error, run = %claim.run, "a line came too late");
    }
}

/// What the worker writes to standard error goes to the run's log; returns the last line.
async fn relay(
    queue: Queue,
    attempt: crate::domain::AttemptId,
    run: crate::domain::RunId,
    stderr: Option<ChildStderr>,
) -> Option<String> {
    let mut stderr = BufReader::new(stderr?);
    let mut last = None;
    let mut line = Vec::new();
    while stderr.read_until(b'\n', &mut line).await.is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        line.clear();
        // What Rust says after each panic tells nothing about this one.
        if text.is_empty() || text.starts_with("note: run with `RUST_BACKTRACE") {
            continue;
        }
        let event = WorkerEvent::Log { text: text.clone() };
        if let Err(error) = queue.store.record(attempt, &[event], Timestamp::now()).await {
            tracing::debug!(error = ?error, %run, "a line of a worker came too late: {text}");
        }
        last = Some(text);
    }
    last
}

#[cfg(unix)]
fn reason(status: std::process::ExitStatus, last_line: Option<String>) -> String {
    use std::os::unix::process::ExitStatusExt;
    match status.signal() {
        Some(9) => {
            "the worker was killed (signal 9), as the system does when memory runs out; a smaller batch_size or \
                    input_size needs less"
                .into()
        }
        Some(signal) => with_last_line(format!("the worker was ended by signal {signal}"), last_line),
        None => with_last_line(format!("the worker failed ({status})"), last_line),
    }
}

#[cfg(not(unix))]
fn reason(status: std::process::ExitStatus, last_line: Option<String>) -> String {
    with_last_line(format!("the worker failed ({status})"), last_line)
}

fn with_last_line(reason: String, last_line: Option<String>) -> String {
    match last_line {
        Some(line) => format!("{reason}: {line}"),
        None => reason,
    }
}
