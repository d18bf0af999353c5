//! What Slurm says of a job → what became of its worker.
//!
//! Its versions differ in what they add; so fields are found by name, and what is not known is an error, not a guess.

use std::{collections::HashMap, io, path::Path};

use super::super::executor::{Exit, State};

/// A job's state and the reason for it, in Slurm's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    state: String,
    reason: String,
}

/// `squeue`'s lines `number|state|reason`. What is no such line, as of an array or a part of a heterogeneous job, is not ours.
pub fn list(said: &str) -> HashMap<u64, Word> {
    let line = |line: &str| {
        let mut parts = line.splitn(3, '|').map(str::trim);
        let job = parts.next()?.parse().ok()?;
        Some((job, Word { state: parts.next()?.into(), reason: parts.next()?.into() }))
    };
    said.lines().filter_map(line).collect()
}

impl Word {
    /// The state of a job that has not ended. The error names a state that is not known.
    pub fn unended(&self) -> io::Result<Option<State>> {
        Ok(match self.state.as_str() {
            "PENDING" | "CONFIGURING" | "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" | "RESV_DEL_HOLD"
            | "SPECIAL_EXIT" | "STOPPED" | "SUSPENDED" => Some(State::Waiting(self.waiting())),
            "RUNNING" | "COMPLETING" | "RESIZING" | "SIGNALING" | "STAGE_OUT" | "EXPEDITING" | "UPDATE_DB"
            | "POWER_UP_NODE" => Some(State::Alive),
            "BOOT_FAIL" | "CANCELLED" | "COMPLETED" | "DEADLINE" | "FAILED" | "LAUNCH_FAILED" | "NODE_FAIL"
            | "OUT_OF_MEMORY" | "PREEMPTED" | "RECONFIG_FAIL" | "REVOKED" | "TIMEOUT" => None,
            other => return Err(io::Error::other(format!("Slurm says “{other}” of a job, which is not known here"))),
        })
    }

    /// Why it waits, with Slurm's own word, which its manual explains.
    fn waiting(&self) -> String {
        let reason = self.reason.trim_matches(['(', ')']);
        let words = match self.state.as_str() {
            "SUSPENDED" | "STOPPED" => return format!("it is {} in Slurm", self.state.to_lowercase()),
            "CONFIGURING" => return "its node is being started".into(),
            "REQUEUE_HOLD" | "SPECIAL_EXIT" | "RESV_DEL_HOLD" => return "it is held in Slurm".into(),
            _ => match reason {
                "" | "None" | "null" => return "Slurm has not looked at it yet".into(),
                "Priority" => "others go first",
                "Resources" => "what it asks for is in use",
                "BeginTime" => "its time has not come",
                "JobHeldUser" | "JobHeldAdmin" => "it is held in Slurm",
                "PartitionDown" | "PartitionInactive" => "its partition takes no jobs",
                "PartitionTimeLimit" => "its time limit is longer than its partition allows",
                "PartitionConfig" | "PartitionNodeLimit" | "BadConstraints" => "no node has what it asks for",
                "ReqNodeNotAvail" | "Nodes_required_for_job_are_DOWN" => "the nodes it needs are not available",
                "InvalidAccount" => "its account is not valid",
                "InvalidQOS" => "its QOS is not valid",
                "Licenses" => "licenses are in use",
                "Reservation" => "its reservation has not begun",
                other if other.starts_with("QOS") || other.starts_with("Assoc") => "a limit of its account is reached",
                other => return other.to_owned(),
            },
        };
        format!("{words} ({reason})")
    }
}

/// A job in full.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Details {
    word: Word,
    /// Code and signal.
    exit: (u32, u32),
    time_limit: Option<String>,
    memory: Option<String>,
    log: Option<String>,
}

impl Details {
    /// From `scontrol show job -o`: `Name=value` with spaces between.
    pub fn read(said: &str) -> io::Result<Self> {
        let field = |name: &str| {
            let value = said.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
            Some(value.to_owned()).filter(|value| !value.is_empty() && value != "(null)" && value != "N/A")
        };
        let Some(state) = field("JobState") else {
            return Err(io::Error::other(format!("scontrol says no JobState of a job: {said}")));
        };
        let memory = field("MinMemoryNode").or_else(|| field("MinMemoryCPU")).filter(|memory| memory != "0");
        Ok(Self {
            word: Word { state, reason: field("Reason").unwrap_or_default() },
            exit: exit(field("ExitCode").as_deref()),
            time_limit: field("TimeLimit"),
            memory,
            // Shown as it was given to sbatch.
            log: path(said, "StdOut").map(|path| path.replace("%%", "%")),
        })
    }

    /// From `sacct`'s line `State|ExitCode|Timelimit|ReqMem`; `None` where there is none.
    pub fn of_accounting(said: &str) -> Option<Self> {
        let mut parts = said.lines().last()?.split('|').map(|part| part.trim().to_owned());
        // “CANCELLED by 1000”
        let state = parts.next()?.split_whitespace().next()?.to_owned();
        let exit = exit(parts.next().as_deref());
        let mut known = || parts.next().filter(|part| !part.is_empty());
        let (time_limit, memory) = (known(), known());
        Some(Self { word: Word { state, reason: String::new() }, exit, time_limit, memory, log: None })
    }

    /// What became of the worker. `log` reads the end of its output, where Slurm leaves a word.
    pub fn state(&self, log: impl FnOnce(&Path) -> Option<String>) -> io::Result<State> {
        if let Some(state) = self.word.unended()? {
            return Ok(state);
        }
        let memory = self.memory.as_deref().unwrap_or("what it asked for");
        let out_of_memory = || {
            Exit::Lost(format!(
                "out of memory: the job took more than {memory}; ask for more by memory=…, or use a smaller batch_size or \
                 input_size"
            ))
        };
        let time_limit = self.time_limit.as_deref().unwrap_or("the job");
        let said = || self.log.as_deref().and_then(|path| log(Path::new(path))).unwrap_or_default();
        Ok(State::Ended(match (self.word.state.as_str(), self.exit) {
            ("COMPLETED", _) => Exit::Done,
            // One that gets no further in its time must not go on for ever.
            ("TIMEOUT", _) => Exit::Lost(format!("the time limit of {time_limit} was reached")),
            ("DEADLINE", _) => Exit::Interrupted("the job's deadline was reached".into()),
            ("PREEMPTED", _) => Exit::Interrupted("the job was preempted by another one".into()),
            ("NODE_FAIL", _) => Exit::Interrupted("the node of the job failed".into()),
            ("BOOT_FAIL" | "RECONFIG_FAIL", _) => Exit::Interrupted("the node of the job did not start".into()),
            ("REVOKED", _) => Exit::Interrupted("the job was taken away by Slurm".into()),
            ("CANCELLED", _) => Exit::Lost("the job was canceled in Slurm".into()),
            ("OUT_OF_MEMORY", _) => out_of_memory(),
            ("FAILED", (_, 9)) if exceeded(&said()) => out_of_memory(),
            ("FAILED", (_, 9)) => Exit::Lost(format!(
                "the worker was killed (signal 9), as Slurm does when a job takes more memory than {memory}; more of it, or \
                 a smaller batch_size or input_size, may help"
            )),
            ("FAILED", (_, signal)) if signal != 0 => Exit::Lost(format!("the worker was ended by signal {signal}")),
            // A shell's way to tell of a signal.
            ("FAILED", (code @ 129..=192, _)) => Exit::Lost(format!("the worker was ended by signal {}", code - 128)),
            ("FAILED", (0, _)) | ("LAUNCH_FAILED", _) => {
                Exit::Lost(format!("Slurm could not start the job ({})", self.word.reason))
            }
            ("FAILED", (code, _)) => Exit::Failed(format!("the worker failed (exit code {code})")),
            (other, _) => return Err(io::Error::other(format!("Slurm says “{other}” of a job that has ended"))),
        }))
    }
}

/// Whether Slurm wrote that it killed the job for its memory.
fn exceeded(log: &str) -> bool {
    ["exceeded memory limit", "Exceeded job memory limit", "oom-kill", "oom_kill", "OOM Killed"]
        .iter()
        .any(|words| log.lines().any(|line| line.starts_with("slurmstepd") && line.contains(words)))
}

/// `code:signal`.
fn exit(text: Option<&str>) -> (u32, u32) {
    let (code, signal) = text.unwrap_or_default().split_once(':').unwrap_or((text.unwrap_or_default(), "0"));
    (code.parse().unwrap_or(0), signal.parse().unwrap_or(0))
}

/// A path may have spaces: it goes to the next word that is like `Name=`.
fn path(said: &str, name: &str) -> Option<String> {
    let (_, rest) = said.split_once(&format!(" {name}="))?;
    let is_field = |word: &str| {
        word.split_once('=').is_some_and(|(name, _)| {
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric())
        })
    };
    let words: Vec<_> = rest.lines().next()?.split(' ').take_while(|word| !is_field(word)).collect();
    Some(words.join(" ").trim_end().to_owned()).filter(|path| path.starts_with('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(said: &str) -> State {
        Details::read(said).unwrap().state(|_| None).unwrap()
    }

    #[test]
    fn the_list_says_what_waits_and_why() {
        let jobs =
            list("5|PENDING|BeginTime\n3|RUNNING|None\n7|COMPLETED|None\n8_[1-2]|PENDING|x\n\nnoise\n6|PENDING|(null)");
        assert_eq!(jobs.len(), 4);
        let of = |job| jobs[&job].unended().unwrap();
        assert_eq!(of(5), Some(State::Waiting("its time has not come (BeginTime)".into())));
        assert_eq!(of(6), Some(State::Waiting("Slurm has not looked at it yet".into())));
        assert_eq!((of(3), of(7)), (Some(State::Alive), None));
        let word = |state: &str, reason: &str| Word { state: state.into(), reason: reason.into() }.unended();
        for (state, reason, says) in [
            ("PENDING", "QOSMaxGRESPerUser", "a limit of its account is reached (QOSMaxGRESPerUser)"),
            ("PENDING", "PartitionConfig", "no node has what it asks for (PartitionConfig)"),
            ("PENDING", "SomethingNew", "SomethingNew"),
            ("SUSPENDED", "None", "it is suspended in Slurm"),
            ("CONFIGURING", "None", "its node is being started"),
        ] {
            assert_eq!(word(state, reason).unwrap(), Some(State::Waiting(says.into())));
        }
        assert!(word("DANCING", "").unwrap_err().to_string().contains("“DANCING”"));
    }

    #[test]
    fn each_end_of_a_job_is_told_from_the_others() {
        use Exit::{Done, Failed, Interrupted, Lost};
        let end = |words: &str| match details(&format!(
            "JobId=1 JobName=x {words} TimeLimit=00:01:00 Comment=JobState=COMPLETED MinMemoryNode=100M StdOut=/log Power="
        )) {
            State::Ended(exit) => exit,
            other => panic!("{other:?}"),
        };
        assert_eq!(end("JobState=COMPLETED Reason=None ExitCode=0:0"), Done);
        assert_eq!(
            end("JobState=FAILED Reason=NonZeroExitCode ExitCode=3:0"),
            Failed("the worker failed (exit code 3)".into())
        );
        let interrupted = |state| match end(&format!("JobState={state} Reason=None ExitCode=0:15")) {
            Interrupted(why) => why,
            other => panic!("{other:?}"),
        };
        let limit = "the time limit of 00:01:00 was reached";
        assert_eq!(end("JobState=TIMEOUT Reason=None ExitCode=0:15"), Lost(limit.into()));
        assert_eq!(interrupted("NODE_FAIL"), "the node of the job failed");
        assert!(interrupted("PREEMPTED").contains("preempted"));
        for state in ["DEADLINE", "BOOT_FAIL", "REVOKED"] {
            interrupted(state);
        }
        for (words, says) in [
            ("JobState=FAILED Reason=JobLaunchFailure ExitCode=0:9", "takes more memory than 100M"),
            ("JobState=OUT_OF_MEMORY Reason=OutOfMemory ExitCode=0:125", "out of memory: the job took more than 100M"),
            ("JobState=FAILED Reason=NonZeroExitCode ExitCode=0:6", "ended by signal 6"),
            ("JobState=FAILED Reason=NonZeroExitCode ExitCode=137:0", "ended by signal 9"),
            ("JobState=FAILED Reason=JobLaunchFailure ExitCode=0:0", "could not start the job (JobLaunchFailure)"),
            ("JobState=CANCELLED Reason=None ExitCode=0:15", "the job was canceled in Slurm"),
        ] {
            let Lost(why) = end(words) else { panic!("{words}") };
            assert!(why.contains(says), "{why}");
        }
    }

    #[test]
    fn what_slurm_wrote_to_the_log_tells_memory_from_a_kill() {
        let said = "JobState=FAILED Reason=JobLaunchFailure ExitCode=0:9 MinMemoryNode=100M StdIn=/dev/null \
                    StdOut=/data/a b=c 9%%/log Power= ";
        let state = |end: &'static str| {
            let log = |path: &Path| (path == Path::new("/data/a b=c 9%/log")).then(|| end.to_owned());
            format!("{:?}", Details::read(said).unwrap().state(log).unwrap())
        };
        assert!(state("slurmstepd-vm: error: Exceeded job memory limit\n").contains("out of memory: "));
        assert!(state("somebody says: Exceeded job memory limit\n").contains("killed (signal 9)"));
    }

    #[test]
    fn a_job_that_has_not_ended_is_no_end_and_an_answer_without_a_state_no_answer() {
        assert_eq!(details("JobId=1 JobState=RUNNING Reason=None ExitCode=0:0"), State::Alive);
        assert!(matches!(details("JobId=1 JobState=PENDING Reason=Priority"), State::Waiting(_)));
        assert!(Details::read("JobId=1").is_err());
    }

    #[test]
    fn accounting_knows_what_the_controller_has_forgotten() {
        let of = |said: &str| Details::of_accounting(said).map(|details| details.state(|_| None).unwrap());
        let ended = |exit| Some(State::Ended(exit));
        assert_eq!(of("COMPLETED|0:0|01:00:00|2G"), ended(Exit::Done));
        assert_eq!(of("CANCELLED by 1000|0:0||"), ended(Exit::Lost("the job was canceled in Slurm".into())));
        let time = Exit::Lost("the time limit of 01:00:00 was reached".into());
        assert_eq!(of("TIMEOUT|0:0|01:00:00|2G"), ended(time));
        assert_eq!(of(""), None);
    }
}
