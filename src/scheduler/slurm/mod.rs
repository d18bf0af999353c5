//! Workers as jobs of a Slurm cluster: submitted by `sbatch`, followed by `squeue` and `scontrol`, ended by `scancel`.
//!
//! No job is told a secret: script, command line and environment hold none, and what the worker has to know stands in a file
//! that its arguments name. Slurm's commands are started without a shell, with few variables and a time limit.

mod answer;
mod command;

use std::{collections::HashMap, io, path::Path, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use super::executor::{Executor, Exit, Handle, Order, State, Stop};
use crate::domain::{AttemptId, RunId, SlurmOptions, spec::Device};
use answer::{Details, Word};
use command::Said;

/// How old the list of jobs may be: each server asks the controller for all of its jobs at once, however many they are.
const FRESH: Duration = Duration::from_secs(2);

/// A job gets SIGTERM so many seconds before its time is up, to write a checkpoint. Slurm may take half a minute longer.
const WARNING: u32 = 60;

/// A Slurm cluster, reached by the commands on this machine.
#[derive(Clone, Debug)]
pub struct Slurm {
    options: SlurmOptions,
    jobs: Arc<Mutex<Option<Listed>>>,
}

/// Jobs by number, or why they are unknown; and since when.
#[derive(Debug)]
struct Listed {
    at: Instant,
    jobs: Result<HashMap<u64, Word>, String>,
}

impl Slurm {
    /// Jobs ask for `options` where their run asks for nothing else.
    pub fn new(options: SlurmOptions) -> Self {
        Self { options, jobs: Arc::default() }
    }

    /// Whether jobs can be submitted from this machine; the error says what is missing.
    pub async fn check(&self) -> io::Result<()> {
        for program in ["sbatch", "squeue", "scontrol", "scancel"] {
            let said = command::say(program, &["--version"], None).await.map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::new(
                    error.kind(),
                    format!(
                        "{program} is not on the PATH: --executor slurm needs Slurm's commands on the server's machine; \
                         install them (on Debian: slurm-client), or leave out --executor"
                    ),
                ),
                _ => error,
            })?;
            said.ok(program)?;
        }
        Ok(())
    }

    /// What the list says of the job, if it has it.
    async fn listed(&self, job: u64) -> io::Result<Option<Word>> {
        let mut cache = self.jobs.lock().await;
        let jobs = match cache.take().filter(|listed| listed.at.elapsed() < FRESH) {
            Some(listed) => cache.insert(listed),
            None => {
                let jobs = list().await.map_err(|error| error.to_string());
                cache.insert(Listed { at: Instant::now(), jobs })
            }
        };
        match &jobs.jobs {
            Ok(jobs) => Ok(jobs.get(&job).cloned()),
            Err(error) => Err(io::Error::other(error.clone())),
        }
    }

    fn arguments(&self, order: &Order) -> io::Result<Vec<String>> {
        let asked = self.options.with(&order.slurm);
        let text = |path: &Path| {
            let text = path.to_str().filter(|text| !text.chars().any(char::is_control)).map(str::to_owned);
            text.ok_or_else(|| io::Error::other(format!("{} is not a path that Slurm can be told", path.display())))
        };
        // In sbatch's patterns, % begins a name for something.
        let log = text(&order.log)?.replace('%', "%%");
        let mut arguments = vec![
            "--parsable".to_owned(),
            format!("--job-name={}", job_name(order.run, order.attempt)),
            "--no-requeue".into(),
            format!("--output={log}"),
            format!("--error={log}"),
            "--open-mode=append".into(),
            format!("--signal=B:TERM@{WARNING}"),
            // All of the few variables that sbatch itself is started with.
            "--export=ALL".into(),
            "--ntasks=1".into(),
            format!("--cpus-per-task={}", asked.cpus.unwrap_or(order.threads).max(1)),
        ];
        if let Some(directory) = order.log.parent() {
            arguments.push(format!("--chdir={}", text(directory)?));
        }
        let gpus = || asked.options.iter().any(|option| option.starts_with("--gpus"));
        let gres = match order.device {
            Device::Cuda(_) if asked.gres.is_none() && !gpus() => Some("gpu:1".to_owned()),
            Device::Cuda(_) | Device::Cpu => asked.gres.clone(),
        };
        for (name, value) in [
            ("partition", &asked.partition),
            ("account", &asked.account),
            ("gres", &gres),
            ("mem", &asked.memory),
            ("time", &asked.time),
        ] {
            arguments.extend(value.as_ref().map(|value| format!("--{name}={value}")));
        }
        arguments.extend(asked.options.iter().cloned());
        Ok(arguments)
    }
}

impl Executor for Slurm {
    /// A job is submitted. When `sbatch` does not answer in time, the job may be there all the same: then it is found.
    async fn start(&self, order: &Order) -> io::Result<Handle> {
        let (arguments, script) = (self.arguments(order)?, command::script(order)?);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let said = match command::say("sbatch", &arguments, Some(script)).await {
            Ok(said) => said.ok("sbatch").map_err(refused)?,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                return self.find(order.run, order.attempt, &order.log).await?.ok_or(error);
            }
            Err(error) => return Err(error),
        };
        // With the cluster's name behind it, where there are several.
        let job = said.lines().last().unwrap_or_default().split(';').next().unwrap_or_default().trim();
        job.parse::<u64>()
            .map(|job| Handle(job.to_string()))
            .map_err(|_| io::Error::other(format!("sbatch did not answer with a job's number: {said}")))
    }

    /// By its name, and by its directory, which is the run's.
    async fn find(&self, run: RunId, attempt: AttemptId, log: &Path) -> io::Result<Option<Handle>> {
        let name = format!("--name={}", job_name(run, attempt));
        let said =
            command::say("squeue", &["--me", "--noheader", &name, "--format=%i|%Z"], None).await?.ok("squeue")?;
        let directory = log.parent().and_then(Path::to_str);
        let mut jobs = said.lines().filter_map(|line| line.split_once('|'));
        let job = jobs.find(|(_, of)| Some(of.trim()) == directory).map(|(job, _)| job.trim());
        Ok(job.map(|job| Handle(job.to_owned())))
    }

    async fn state(&self, handle: &Handle) -> io::Result<State> {
        let job = number(handle)?;
        if let Some(word) = self.listed(job).await? {
            // How it ended is said by scontrol alone.
            if let Some(state) = word.unended()? {
                return Ok(state);
            }
        }
        let said = command::say("scontrol", &["show", "job", &job.to_string(), "-o"], None).await?;
        if said.does_not_know() {
            return forgotten(job).await;
        }
        let said = said.ok("scontrol")?;
        let details = Details::read(&said)?;
        // Reads the job's log, on a file system that may be slow.
        tokio::task::spawn_blocking(move || details.state(command::end_of)).await?
    }

    async fn stop(&self, handle: &Handle, stop: Stop) -> io::Result<()> {
        let job = number(handle)?.to_string();
        let steps: &[&[&str]] = match stop {
            // One that waits has nothing to lose.
            Stop::Ask => &[&["--state=PENDING"], &["--state=RUNNING", "--signal=TERM", "--batch"]],
            // Without the first two, Slurm would wait for what ignores SIGTERM. Children get SIGTERM while they can be
            // found as such; Slurm's cgroups, where it uses them, end the rest.
            Stop::Kill => &[
                &["--state=RUNNING", "--signal=TERM", "--full"],
                &["--state=RUNNING", "--signal=KILL", "--batch"],
                &[],
            ],
        };
        let mut trouble: Option<io::Error> = None;
        for step in steps {
            match command::say("scancel", &[*step, &[&job]].concat(), None).await {
                // It has ended, or is not in the state that this step is for.
                Ok(said) if said.does_not_know() || said.is_over() => {}
                Ok(said) => trouble = said.ok("scancel").err().or(trouble),
                Err(error) => trouble = Some(error),
            }
        }
        // What a later look says is not what it was before.
        *self.jobs.lock().await = None;
        trouble.map_or(Ok(()), Err)
    }
}

/// A controller that answers refuses what is asked of it, and would do so again; one that is away does not, nor one that takes
/// no more jobs of this user until others have ended.
fn refused(error: io::Error) -> io::Error {
    const PASSES: [&str; 7] = [
        "Unable to contact",
        "Socket timed out",
        "Connection",
        "communication",
        "temporarily",
        "Zero Bytes",
        "MaxSubmitJob",
    ];
    let text = error.to_string();
    let passes = PASSES.iter().any(|words| text.contains(words));
    if passes { error } else { io::Error::new(io::ErrorKind::InvalidInput, text) }
}

fn job_name(run: RunId, attempt: AttemptId) -> String {
    format!("twograin-run-{run}.{attempt}")
}

fn number(handle: &Handle) -> io::Result<u64> {
    handle.0.parse().map_err(|_| io::Error::other(format!("“{handle}” is not the number of a Slurm job")))
}

/// All jobs of this user.
async fn list() -> io::Result<HashMap<u64, Word>> {
    let said = command::say("squeue", &["--me", "--noheader", "--states=all", "--format=%i|%T|%r"], None).await?;
    Ok(answer::list(&said.ok("squeue")?))
}

/// What became of a job that the controller has forgotten, as far as accounting knows, if there is any.
async fn forgotten(job: u64) -> io::Result<State> {
    let job = format!("--jobs={job}");
    let columns = "--format=State,ExitCode,Timelimit,ReqMem";
    let said: io::Result<Said> =
        command::say("sacct", &[&job, "--noheader", "--parsable2", "--allocations", columns], None).await;
    let known = said.and_then(|said| said.ok("sacct")).ok().and_then(|said| Details::of_accounting(&said));
    match known {
        Some(details) => details.state(|_| None),
        None => Ok(State::Ended(Exit::Lost("Slurm does not know the job any more".into()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_asks_for_what_its_run_needs() {
        let slurm = Slurm::new(SlurmOptions::of_configuration("partition=main,memory=2G").unwrap());
        let order = |device, slurm: &str| Order {
            run: RunId(7),
            attempt: AttemptId(9),
            program: "/opt/two grain".into(),
            arguments: vec!["worker".into()],
            log: "/data/100%/log".into(),
            device,
            threads: 3,
            slurm: slurm.parse().unwrap(),
        };
        let arguments = |order: &Order| slurm.arguments(order).unwrap().join(" ");
        let plain = arguments(&order(Device::Cpu, ""));
        assert_eq!(
            plain,
            "--parsable --job-name=twograin-run-7.9 --no-requeue --output=/data/100%%/log --error=/data/100%%/log \
             --open-mode=append --signal=B:TERM@60 --export=ALL --ntasks=1 --cpus-per-task=3 --chdir=/data/100% \
             --partition=main --mem=2G"
        );
        for (device, options, ends) in [
            (Device::Cuda(0), "", "--partition=main --gres=gpu:1 --mem=2G"),
            (Device::Cuda(0), "gres=gpu:a100:1,time=5", "--gres=gpu:a100:1 --mem=2G --time=5"),
            (Device::Cuda(0), "--gpus=a100", "--partition=main --mem=2G --gpus=a100"),
            (Device::Cpu, "memory=4G,partition=big,--qos=x", "--partition=big --mem=4G --qos=x"),
        ] {
            let arguments = arguments(&order(device, options));
            assert!(arguments.ends_with(ends), "{arguments}");
        }
        assert!(arguments(&order(Device::Cpu, "cpus=8")).contains(" --cpus-per-task=8 "));
        let odd = Order { log: "/data/a\nb/log".into(), ..order(Device::Cpu, "") };
        assert!(slurm.arguments(&odd).is_err());
    }
}
