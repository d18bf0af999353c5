//! Slurm's commands as they are started, and what they say.

use std::{
    ffi::OsString,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    process::Stdio,
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command};

use super::super::executor::Order;
use crate::training;

/// How long a command is waited for. A controller that restarts answers nothing for some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a job gets from the server's environment. Nothing of Twograin's own, and nothing that could be a secret.
const PASSED: &[&str] = &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "LD_LIBRARY_PATH"];
const PASSED_PREFIXES: &[&str] = &["CANDLE_", "MIMALLOC_", "RUST_"];
/// What Slurm's commands need to find the cluster and to say who asks.
const OF_SLURM: &[&str] = &["SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_JWT"];

/// What a command said.
#[derive(Debug)]
pub struct Said {
    succeeded: bool,
    output: String,
    errors: String,
}

impl Said {
    /// Its output, unless it failed.
    pub fn ok(self, program: &str) -> io::Result<String> {
        if self.succeeded {
            return Ok(self.output);
        }
        let errors: Vec<_> = self.errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Err(io::Error::other(format!("{program} failed: {}", errors.join("; "))))
    }

    /// Whether there is no such job. Also of one that has ended, when it should be signaled.
    pub fn does_not_know(&self) -> bool {
        self.errors.contains("Invalid job id")
    }

    /// Whether the job is ending or has ended.
    pub fn is_over(&self) -> bool {
        self.errors.contains("already completing or completed")
    }
}

/// Starts a command of Slurm, and waits for what it says. Nothing of it survives the wait.
pub async fn say(program: &str, arguments: &[&str], input: Option<Vec<u8>>) -> io::Result<Said> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment()).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|error| {
        let kind = error.kind();
        io::Error::new(kind, format!("{program} cannot be started: {error}"))
    })?;
    let stdin = child.stdin.take();
    let talk = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // One that fails at once does not read, and says why on its other end.
            let _ = stdin.write_all(&input).await;
        }
        child.wait_with_output().await
    };
    let output = tokio::time::timeout(PATIENCE, talk).await.map_err(|_| {
        let seconds = PATIENCE.as_secs();
        io::Error::new(io::ErrorKind::TimedOut, format!("{program} did not answer within {seconds} s"))
    })??;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    Ok(Said { succeeded: output.status.success(), output: text(&output.stdout), errors: text(&output.stderr) })
}

/// What Slurm's commands are started with, and jobs with them.
fn environment() -> Vec<(OsString, OsString)> {
    let passed = |name: &str| {
        PASSED.contains(&name)
            || OF_SLURM.contains(&name)
            || PASSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
    };
    let ours = std::env::vars_os().filter(|(name, _)| name.to_str().is_some_and(passed));
    ours.chain(training::environment().map(|(name, value)| (name.into(), value.into()))).collect()
}

/// The job's script: becomes the program, so that signals reach it.
pub fn script(order: &Order) -> io::Result<Vec<u8>> {
    let mut script = b"#!/bin/sh\nexec".to_vec();
    for word in std::iter::once(order.program.as_os_str()).chain(order.arguments.iter().map(|word| word.as_os_str())) {
        let word = word.as_encoded_bytes();
        if word.contains(&0) {
            return Err(io::Error::other("an argument of the worker has a zero byte"));
        }
        script.extend(b" '");
        for byte in word {
            match byte {
                // Ends the quotation, quotes one quote, and begins again.
                b'\'' => script.extend(br"'\''"),
                _ => script.push(*byte),
            }
        }
        script.push(b'\'');
    }
    script.push(b'\n');
    Ok(script)
}

/// The last lines of a job's output.
pub fn end_of(log: &Path) -> Option<String> {
    const BYTES: u64 = 4096;
    let mut file = std::fs::File::open(log).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(BYTES))).ok()?;
    let mut end = Vec::new();
    file.take(BYTES).read_to_end(&mut end).ok()?;
    Some(String::from_utf8_lossy(&end).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{AttemptId, RunId, SlurmOptions, spec::Device};

    #[test]
    fn the_script_hands_every_word_over_as_it_is() {
        let words = ["$HOME `id`", "it's", "", "-x=\\\"", "a\n#SBATCH --uid=0"];
        let order = Order {
            run: RunId(1),
            attempt: AttemptId(1),
            program: "/bin/echo".into(),
            arguments: words.iter().map(OsString::from).collect(),
            log: "/log".into(),
            device: Device::Cpu,
            threads: 1,
            slurm: SlurmOptions::default(),
        };
        let script = String::from_utf8(script(&order).unwrap()).unwrap();
        let said = std::process::Command::new("/bin/sh").args(["-c", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&said.stdout), format!("{}\n", words.join(" ")));
        let nothing = Order { arguments: vec!["a\0".into()], ..order };
        assert!(super::script(&nothing).is_err());
    }

    #[tokio::test]
    async fn a_command_that_is_missing_or_fails_says_so() {
        let missing = say("no-such-command-of-slurm", &[], None).await.unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let failed = say("sh", &["-c", "echo wrong >&2; exit 3"], Some(b"unread".to_vec())).await.unwrap();
        assert_eq!(failed.ok("sh").unwrap_err().to_string(), "sh failed: wrong");
    }
}
