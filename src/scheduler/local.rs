//! Workers as processes on this machine.
//!
//! They are not tied to the server: one that loses it goes on for a while, and a later server finds it again by its number and
//! start time. Each is the leader of a process group, so that its children end with it.

use std::{
    collections::HashMap,
    fs::OpenOptions,
    io,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::process::{Child, Command};

use super::executor::{Executor, Exit, Handle, Order, State, Stop};
use crate::{
    domain::{AttemptId, RunId},
    training,
    worker::{self, process},
};

/// Starts processes.
#[derive(Debug, Default)]
pub struct Local {
    children: Mutex<HashMap<String, Started>>,
}

/// A process of this server.
#[derive(Debug)]
struct Started {
    child: Child,
    /// How many processes the system had killed for want of memory when it started.
    killed_before: Option<u64>,
}

impl Executor for Local {
    async fn start(&self, order: &Order) -> io::Result<Handle> {
        let log = OpenOptions::new().create(true).append(true).open(&order.log)?;
        let mut command = Command::new(&order.program);
        // Also: Ctrl-C in a terminal is for the server, which ends its workers itself.
        #[cfg(unix)]
        command.process_group(0);
        let child = command
            .args(&order.arguments)
            .envs(training::environment())
            // The server may be in a job itself, which is not the worker's.
            .env_remove(worker::SLURM_JOB)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        let identity = child.id().and_then(process::identity);
        // One that has ended already has no start time, and its number suffices as long as its status was not asked for.
        let handle = identity.unwrap_or_else(|| format!("{}:", child.id().unwrap_or_default()));
        self.children().insert(handle.clone(), Started { child, killed_before: killed_for_memory() });
        Ok(Handle(handle))
    }

    async fn find(&self, _: RunId, _: AttemptId, log: &Path) -> io::Result<Option<Handle>> {
        // Its assignment, which its command line names, stands in the attempt's directory beside the log.
        let directory = log.with_extension("");
        tokio::task::spawn_blocking(move || worker_of(&directory)).await?
    }

    async fn state(&self, handle: &Handle) -> io::Result<State> {
        let mut children = self.children();
        let Some(started) = children.get_mut(&handle.0) else {
            // A process of the server before this one.
            let Some(process) = number(handle) else { return Ok(State::Ended(Exit::Done)) };
            return Ok(match process::identity(process) {
                Some(identity) if identity == handle.0 => State::Alive,
                Some(_) | None => State::Ended(Exit::Lost("the worker ended while no server watched it".into())),
            });
        };
        let killed_before = started.killed_before;
        match ended(&mut started.child, handle)? {
            None => Ok(State::Alive),
            Some(status) => {
                children.remove(&handle.0);
                let killed = killed_for_memory().zip(killed_before).is_some_and(|(now, before)| now > before);
                Ok(State::Ended(exit(status, killed)))
            }
        }
    }

    async fn stop(&self, handle: &Handle, stop: Stop) -> io::Result<()> {
        let alive = number(handle).and_then(process::identity).is_some_and(|identity| identity == handle.0);
        if alive { signal(handle, stop) } else { Ok(()) }
    }
}

impl Local {
    fn children(&self) -> MutexGuard<'_, HashMap<String, Started>> {
        self.children.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The process whose command line names a file in this directory.
#[cfg(target_os = "linux")]
fn worker_of(directory: &Path) -> io::Result<Option<Handle>> {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt};

    let numbers = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let is_it = |process: &u32| {
        // One that ends meanwhile is none.
        let line = std::fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| Path::new(OsStr::from_bytes(word)).starts_with(directory))
    };
    Ok(numbers.filter(is_it).find_map(process::identity).map(Handle))
}

/// Elsewhere nobody can be asked.
#[cfg(not(target_os = "linux"))]
fn worker_of(_: &Path) -> io::Result<Option<Handle>> {
    Err(io::ErrorKind::Unsupported.into())
}

fn number(handle: &Handle) -> Option<u32> {
    handle.0.split_once(':')?.0.parse().ok()
}

/// How a child ended. What it started and did not wait for is killed while its number is still its own.
#[cfg(unix)]
fn ended(child: &mut Child, handle: &Handle) -> io::Result<Option<ExitStatus>> {
    use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process_group, waitid};

    if let Some(pid) = number(handle).and_then(|number| Pid::from_raw(number.cast_signed())) {
        let look = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(pid), look).is_ok_and(|ended| ended.is_none()) {
            return Ok(None);
        }
        // There is nothing to kill if it left no children.
        let _ = kill_process_group(pid, Signal::KILL);
    }
    child.try_wait()
}

#[cfg(not(unix))]
fn ended(child: &mut Child, _: &Handle) -> io::Result<Option<ExitStatus>> {
    child.try_wait()
}

#[cfg(unix)]
fn signal(handle: &Handle, stop: Stop) -> io::Result<()> {
    use rustix::process::{Pid, Signal, kill_process, kill_process_group};

    let Some(pid) = number(handle).and_then(|number| Pid::from_raw(number.cast_signed())) else { return Ok(()) };
    match stop {
        Stop::Ask => kill_process(pid, Signal::TERM)?,
        Stop::Kill => kill_process_group(pid, Signal::KILL)?,
    }
    Ok(())
}

/// Elsewhere a process cannot be asked, and the run goes on from its last checkpoint.
#[cfg(not(unix))]
fn signal(_: &Handle, _: Stop) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// How many processes the system has killed for want of memory since it started, where it says so.
fn killed_for_memory() -> Option<u64> {
    let counters = std::fs::read_to_string("/proc/vmstat").ok()?;
    counters.lines().find_map(|line| line.strip_prefix("oom_kill "))?.trim().parse().ok()
}

#[cfg(unix)]
fn exit(status: ExitStatus, killed_for_memory: bool) -> Exit {
    use std::os::unix::process::ExitStatusExt;

    match (status.code(), status.signal()) {
        (Some(0), _) => Exit::Done,
        (Some(code), _) => Exit::Failed(format!("the worker failed (exit status {code})")),
        (None, Some(9)) if killed_for_memory => Exit::Lost(
            "out of memory: the system killed the worker; a smaller batch_size or input_size needs less".into(),
        ),
        (None, Some(9)) => Exit::Lost("the worker was killed (signal 9)".into()),
        (None, Some(signal)) => Exit::Lost(format!("the worker was ended by signal {signal}")),
        (None, None) => Exit::Lost(format!("the worker ended ({status})")),
    }
}

#[cfg(not(unix))]
fn exit(status: ExitStatus, _: bool) -> Exit {
    match status.code() {
        Some(0) => Exit::Done,
        Some(_) | None => Exit::Failed(format!("the worker failed ({status})")),
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_worker_is_found_by_its_attempt_alone() {
        let run = tempfile::tempdir().unwrap();
        let assignment = |attempt: u32| run.path().join(format!("attempt-{attempt}/assignment.json"));
        let mut worker = std::process::Command::new("sh")
            .args(["-c", "sleep 60; true", "worker"])
            .arg(assignment(12))
            .spawn()
            .expect("a process");
        let find = async |attempt: u32| {
            let log = run.path().join(format!("attempt-{attempt}.log"));
            Local::default().find(RunId(1), AttemptId(1), &log).await.unwrap()
        };
        // Until it has become the shell, it is the test's own process.
        let start = std::time::Instant::now();
        while find(12).await.is_none() && start.elapsed().as_secs() < 10 {}
        assert_eq!(find(12).await.map(|handle| handle.0), process::identity(worker.id()));
        assert_eq!(find(1).await, None);
        worker.kill().unwrap();
        worker.wait().unwrap();
        assert_eq!(find(12).await, None);
    }
}
