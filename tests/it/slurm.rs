//! Workers as jobs of a real Slurm: of the cluster that `SLURM_CONF` names, with partitions `main` and `urgent`, of which
//! the second preempts the first. They run one after the other, as they share its one node.

#[cfg(target_os = "linux")]
mod runs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, MutexGuard},
    time::sleep,
};
use twograin::{
    domain::{AttemptId, RunId, SlurmOptions, spec::Device},
    scheduler::{
        executor::{Executor, Exit, Handle, Order, State, Stop},
        slurm::Slurm,
    },
};

use crate::support::TestServer;

static ALONE: Mutex<()> = Mutex::const_new(());

/// Whether there is a cluster. Says so where there is none, unless `TWOGRAIN_REQUIRE_SLURM` is set.
fn is_there() -> bool {
    let missing = match std::env::var_os("SLURM_CONF") {
        None => "SLURM_CONF is not set",
        Some(_) if Command::new("sbatch").arg("--version").output().is_err() => "there is no sbatch",
        Some(_) => return true,
    };
    assert!(std::env::var_os("TWOGRAIN_REQUIRE_SLURM").is_none(), "{missing}");
    println!("skipped: {missing}");
    false
}

/// The cluster, for one test at a time, if there is one.
async fn cluster() -> Option<(Slurm, MutexGuard<'static, ()>)> {
    let options = SlurmOptions::of_configuration("partition=main,memory=100M").expect("options");
    if is_there() { Some((Slurm::new(options), ALONE.lock().await)) } else { None }
}

/// A program that a job runs, in a directory whose name is no easy one.
struct Work {
    directory: PathBuf,
    _root: tempfile::TempDir,
}

impl Work {
    fn new(script: &str) -> Self {
        let root = tempfile::tempdir().expect("a temporary directory");
        let directory = root.path().join("it's 100% odd");
        fs::create_dir(&directory).expect("a directory");
        let program = directory.join("program");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("a script");
        let made = Command::new("chmod").arg("+x").arg(&program).status().expect("chmod is there");
        assert!(made.success());
        fs::write(directory.join("log"), "from before\n").expect("a log");
        Self { directory, _root: root }
    }

    fn order(&self, slurm: &str) -> Order {
        Order {
            run: RunId(7),
            attempt: AttemptId(8),
            program: self.directory.join("program"),
            arguments: vec!["worker".into(), "it's $HOME".into()],
            log: self.directory.join("log"),
            device: Device::Cpu,
            threads: 1,
            slurm: slurm.parse().expect("options"),
        }
    }

    async fn start(&self, slurm: &Slurm, options: &str) -> Handle {
        slurm.start(&self.order(options)).await.unwrap_or_else(|error| panic!("{error}"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).expect("the log")
    }

    /// Waits until the job has written this.
    async fn says(&self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            assert!(start.elapsed() < Duration::from_secs(60), "the job does not say {text}: {}", self.log());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Waits for a state; what is not known now may be known soon.
async fn wait(slurm: &Slurm, job: &Handle, patience: u64, is_it: fn(&State) -> bool) -> State {
    let start = Instant::now();
    loop {
        let state = slurm.state(job).await;
        match state {
            Ok(state) if is_it(&state) => return state,
            Ok(_) | Err(_) => {
                assert!(start.elapsed() < Duration::from_secs(patience), "job {job} stays {state:?}");
            }
        }
        sleep(Duration::from_millis(300)).await;
    }
}

async fn end(slurm: &Slurm, job: &Handle) -> Exit {
    match wait(slurm, job, 60, |state| matches!(state, State::Ended(_))).await {
        State::Ended(exit) => exit,
        State::Waiting(_) | State::Alive => unreachable!("it has ended"),
    }
}

async fn alive(slurm: &Slurm, job: &Handle) {
    wait(slurm, job, 60, |state| *state == State::Alive).await;
}

fn say(program: &str, arguments: &[&str]) -> String {
    let said = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program}: {error}"));
    String::from_utf8(said.stdout).expect("text") + &String::from_utf8_lossy(&said.stderr)
}

fn lost(exit: Exit, says: &str) {
    let Exit::Lost(why) = exit else { panic!("{exit:?}") };
    assert!(why.contains(says), "{why}");
}

#[tokio::test]
async fn a_job_runs_to_its_end_and_is_told_nothing_secret() {
    let Some((slurm, _alone)) = cluster().await else { return };
    slurm.check().await.expect("Slurm's commands");
    // Stands for a secret of the server: a variable that is in the environment of this process.
    let secret = std::env::var("CARGO_PKG_DESCRIPTION").expect("cargo sets it");
    let work = Work::new(
        "echo \"given: $2\"; env; pwd; tr '\\0' ' ' < /proc/self/cmdline; echo on the other end >&2; sleep 2",
    );
    let job = work.start(&slurm, "time=5").await;
    alive(&slurm, &job).await;
    let script = say("scontrol", &["write", "batch_script", &job.0, "-"]);
    let shown = say("scontrol", &["show", "job", &job.0]);
    assert!(shown.contains("JobName=twograin-run-7") && shown.contains("TimeLimit=00:05:00"), "{shown}");
    assert!(shown.contains("Requeue=0") && shown.contains("Partition=main"), "{shown}");
    assert_eq!(end(&slurm, &job).await, Exit::Done);
    let log = work.log();
    for words in ["from before", "given: it's $HOME", "on the other end", "CANDLE_NUM_THREADS=1", "/it's 100% odd\n"] {
        assert!(log.contains(words), "{words} is missing: {log}");
    }
    for text in [&log, &script, &shown] {
        for leak in ["CARGO_", "TWOGRAIN_", &secret] {
            assert!(!text.contains(leak), "{leak} has come along: {text}");
        }
    }
}

#[tokio::test]
async fn a_job_of_slurm_that_fails_is_told_from_one_that_was_killed() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let failed = Work::new("exit 3");
    let killed = Work::new("kill -KILL $$");
    let aborted = Work::new("kill -ABRT $$");
    let failed = failed.start(&slurm, "").await;
    assert_eq!(end(&slurm, &failed).await, Exit::Failed("the worker failed (exit code 3)".into()));
    lost(end(&slurm, &killed.start(&slurm, "").await).await, "killed (signal 9)");
    lost(end(&slurm, &aborted.start(&slurm, "").await).await, "signal 6");
}

#[tokio::test]
async fn a_job_that_slurm_has_forgotten_is_lost() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let forgotten = Handle("987654".into());
    lost(end(&slurm, &forgotten).await, "Slurm does not know the job any more");
    for stop in [Stop::Ask, Stop::Kill] {
        slurm.stop(&forgotten, stop).await.expect("nothing to do");
    }
}

#[tokio::test]
async fn a_job_that_waits_in_slurm_says_why_and_is_canceled() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("exit 0");
    for stop in [Stop::Ask, Stop::Kill] {
        let job = work.start(&slurm, "--begin=now+1hour").await;
        let state =
            wait(&slurm, &job, 30, |state| matches!(state, State::Waiting(why) if why.contains("BeginTime"))).await;
        assert_eq!(state, State::Waiting("its time has not come (BeginTime)".into()));
        slurm.stop(&job, stop).await.expect("it is canceled");
        lost(end(&slurm, &job).await, "the job was canceled in Slurm");
    }
}

#[tokio::test]
async fn a_job_of_slurm_that_runs_is_asked_to_end_and_ends_itself() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("trap 'echo saved; exit 0' TERM\necho ready\nwhile :; do sleep 0.1; done");
    let job = work.start(&slurm, "").await;
    work.says("ready").await;
    slurm.stop(&job, Stop::Ask).await.expect("it is asked");
    assert_eq!(end(&slurm, &job).await, Exit::Done);
    assert!(work.log().contains("saved"));
}

#[tokio::test]
async fn a_job_of_slurm_that_ignores_sigterm_is_killed_with_its_children() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("trap '' TERM\n(trap - TERM; exec sleep 301.5) &\necho ready\nwhile :; do sleep 0.1; done");
    let job = work.start(&slurm, "").await;
    work.says("ready").await;
    slurm.stop(&job, Stop::Ask).await.expect("it is asked");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(slurm.state(&job).await.expect("a state"), State::Alive);
    let start = Instant::now();
    slurm.stop(&job, Stop::Kill).await.expect("it is killed");
    assert!(matches!(end(&slurm, &job).await, Exit::Lost(_)));
    assert!(start.elapsed() < Duration::from_secs(6), "it took {:?}", start.elapsed());
    let left = say("ps", &["-eo", "stat,args"]);
    let left: Vec<_> = left.lines().filter(|line| line.contains("sleep 301.5") && !line.starts_with('Z')).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_job_that_somebody_ends_behind_slurms_back_is_lost() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("echo process $$\nexec sleep 100");
    let job = work.start(&slurm, "").await;
    work.says("process").await;
    let log = work.log();
    let process = log.split("process ").nth(1).and_then(|rest| rest.split_whitespace().next()).expect("its number");
    say("kill", &["-KILL", process]);
    lost(end(&slurm, &job).await, "signal 9");

    let work = Work::new("echo ready\nexec sleep 100");
    let job = work.start(&slurm, "").await;
    work.says("ready").await;
    say("scancel", &[&job.0]);
    lost(end(&slurm, &job).await, "the job was canceled in Slurm");
}

#[tokio::test]
async fn a_job_outlives_a_restart_of_slurms_controller() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let Some(controller) = controller() else { return };
    let work = Work::new("echo ready\nwhile [ ! -e go ]; do sleep 0.2; done\necho went on");
    let job = work.start(&slurm, "").await;
    alive(&slurm, &job).await;
    say("kill", &[&controller]);
    while Path::new("/proc").join(&controller).exists() {
        sleep(Duration::from_millis(100)).await;
    }
    sleep(Duration::from_secs(3)).await;
    let unknown = slurm.state(&job).await.expect_err("nobody answers");
    assert!(unknown.to_string().starts_with("squeue"), "{unknown}");
    assert!(slurm.start(&work.order("")).await.is_err(), "a job was submitted to nobody");
    say("slurmctld", &[]);
    alive(&slurm, &job).await;
    fs::write(work.directory.join("go"), "").expect("a file");
    assert_eq!(end(&slurm, &job).await, Exit::Done);
    assert!(work.log().contains("went on"));
}

/// The controller's process, where it is one of this machine that can be restarted.
fn controller() -> Option<String> {
    let conf = PathBuf::from(std::env::var_os("SLURM_CONF")?);
    let id = fs::read_to_string(conf.with_file_name("slurmctld.pid"));
    if id.is_err() {
        println!("skipped: the controller's number is not beside {}", conf.display());
    }
    Some(id.ok()?.trim().to_owned())
}

#[tokio::test]
async fn a_job_that_slurm_preempts_is_interrupted() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let cpus = std::thread::available_parallelism().expect("processors").get();
    let work = Work::new("echo ready\nexec sleep 100");
    let job = work.start(&slurm, &format!("cpus={cpus}")).await;
    work.says("ready").await;
    let urgent = Work::new("exit 0");
    let other = urgent.start(&slurm, &format!("partition=urgent,cpus={cpus}")).await;
    assert_eq!(end(&slurm, &job).await, Exit::Interrupted("the job was preempted by another one".into()));
    assert_eq!(end(&slurm, &other).await, Exit::Done);
}

#[tokio::test]
async fn a_job_is_warned_by_slurm_before_its_time_is_up() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("trap 'echo warned; trap - TERM' TERM\necho ready\nwhile :; do sleep 0.2; done");
    let job = work.start(&slurm, "time=1").await;
    work.says("ready").await;
    work.says("warned").await;
    let State::Ended(exit) = wait(&slurm, &job, 180, |state| matches!(state, State::Ended(_))).await else {
        panic!("it goes on");
    };
    assert_eq!(exit, Exit::Lost("the time limit of 00:01:00 was reached".into()));
}

#[tokio::test]
async fn a_job_over_its_memory_is_told_so_by_slurm() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let work = Work::new("x=$(head -c 300000000 /dev/zero | tr '\\0' x)\nsleep 60");
    let job = work.start(&slurm, "").await;
    lost(end(&slurm, &job).await, "out of memory: the job took more than 100M");
}

#[tokio::test]
async fn what_slurm_refuses_is_said_in_its_words() {
    let Some((slurm, _alone)) = cluster().await else { return };
    let refused =
        slurm.start(&Work::new("exit 0").order("partition=nowhere")).await.expect_err("there is no such partition");
    assert!(refused.to_string().contains("invalid partition"), "{refused}");
}

#[test]
fn a_run_keeps_what_it_asks_of_slurm() {
    let server = TestServer::with_scenes();
    let run = |slurm: Value| json!({"dataset": "scenes", "backbone": "vgg-tiny", "objective": "coarse-only", "epochs": 9999, "slurm": slurm});
    let asked = json!({"partition": "gpu", "time": "2:00:00", "options": ["--qos=high"]});
    let id = server.submit(&run(asked.clone()));
    assert_eq!(server.get(&format!("/api/v1/runs/{id}")).1["slurm"], asked);
    assert!(server.page(&format!("/runs/{id}")).contains("partition=gpu,time=2:00:00,--qos=high"));
    let form = server.page(&format!("/runs/new?from={id}"));
    assert!(form.contains("value=\"partition=gpu,time=2:00:00,--qos=high\""), "a clone asks for something else");
    let (status, problem) = server.post("/api/v1/runs", &run(json!({"options": ["--uid=0"]})));
    assert_eq!(status, 422, "{problem}");
    assert!(problem["detail"].as_str().is_some_and(|text| text.contains("a run may not set --uid")), "{problem}");
}
