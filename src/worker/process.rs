//! Processes by a name that no later process has.

/// “number:start time” of a process that runs; `None` if it has ended. The time is in clock ticks since the machine started.
#[cfg(target_os = "linux")]
pub fn identity(process: u32) -> Option<String> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The program's name stands in parentheses and may contain anything; see proc_pid_stat(5) for what follows it.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let ended = matches!(fields.next()?, "Z" | "X");
    let started = fields.nth(18)?;
    (!ended).then(|| format!("{process}:{started}"))
}

/// Its number alone, where a later process of the same number cannot be told.
#[cfg(all(unix, not(target_os = "linux")))]
pub fn identity(process: u32) -> Option<String> {
    let pid = rustix::process::Pid::from_raw(process.cast_signed())?;
    rustix::process::test_kill_process(pid).is_ok().then(|| format!("{process}:0"))
}

/// No process is found again.
#[cfg(not(unix))]
pub fn identity(process: u32) -> Option<String> {
    let _ = process;
    None
}

/// This machine's name.
pub fn host() -> String {
    #[cfg(unix)]
    return rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    return std::env::var("COMPUTERNAME").unwrap_or_default();
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_has_one_name_until_it_ends() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().expect("a process");
        let name = identity(child.id()).expect("it runs");
        assert_eq!(identity(child.id()), Some(name.clone()));
        assert!(name.starts_with(&format!("{}:", child.id())), "{name}");
        assert_ne!(identity(std::process::id()), Some(name));
        child.kill().expect("killed");
        let start = std::time::Instant::now();
        // Nobody has asked for its status: it is still in the table of processes.
        while identity(child.id()).is_some() {
            assert!(start.elapsed().as_secs() < 10, "a process that was killed is taken for one that runs");
        }
        child.wait().expect("its status");
        assert_eq!(identity(child.id()), None);
    }
}
