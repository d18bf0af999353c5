//! Runs as jobs of a real Slurm, by the real server: what the cluster does to them, and what is done to the cluster.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    sync::OnceLock,
    thread::{self, sleep},
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::sync::MutexGuard;

use super::{ALONE, controller, is_there, say};
use crate::{
    faults::{self, cancel, exit, is_alive, is_sound, left, report, short, signal, succeeds, training, until},
    support::{Launch, TestServer},
    survival::checkpoints,
};

/// The cluster for one test, which leaves no job behind.
struct Cluster {
    _alone: MutexGuard<'static, ()>,
}

impl Cluster {
    fn get() -> Option<Self> {
        is_there().then(|| Self { _alone: ALONE.blocking_lock() })
    }

    /// A job that takes the whole node.
    fn fill(&self, partition: &str, script: &str) -> String {
        let (wrap, partition) = (format!("--wrap={script}"), format!("--partition={partition}"));
        let cpus = format!("--cpus-per-task={}", processors());
        let directory = format!("--chdir={}", std::env::temp_dir().display());
        let said =
            say("sbatch", &["--parsable", "--output=/dev/null", "--mem=100M", &directory, &cpus, &partition, &wrap]);
        said.trim().parse::<u64>().unwrap_or_else(|_| panic!("{said}")).to_string()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Jobs of tests alone: whoever runs them may have others.
        let jobs = say("squeue", &["--me", "--noheader", "--format=%i|%Z"]);
        for (job, directory) in jobs.lines().filter_map(|line| line.split_once('|')) {
            if Path::new(directory).starts_with(std::env::temp_dir()) {
                say("scancel", &[job]);
            }
        }
    }
}

fn processors() -> usize {
    thread::available_parallelism().expect("processors").get()
}

/// A server whose runs are jobs.
fn on_slurm(more: &[&str]) -> Launch {
    Launch::with(&[&["--executor", "slurm", "--slurm", "partition=main,memory=1G"], more].concat())
}

/// One that gives up soon.
fn impatient() -> TestServer {
    TestServer::with_scenes_and(on_slurm(&["--patience", "2", "--lost-after", "4", "--stalled-after", "5"]))
}

/// A run of some seconds, on one thread wherever it runs.
fn body() -> Value {
    let mut body = short(1);
    body["epochs"] = 120.into();
    body["threads"] = 1.into();
    body
}

/// One that does not end.
fn endless() -> Value {
    let mut body = faults::endless();
    body["threads"] = 1.into();
    body
}

/// What it leaves when nothing disturbs it, by a process of the server's own machine.
fn undisturbed() -> &'static [Vec<u8>; 3] {
    static LEFT: OnceLock<[Vec<u8>; 3]> = OnceLock::new();
    LEFT.get_or_init(|| {
        let server = TestServer::with_scenes();
        let run = server.submit(&body());
        succeeds(&server, run);
        left(&server, run)
    })
}

/// It has come to the same as if nothing had happened, after so many attempts.
#[track_caller]
fn comes_to_the_same(server: &TestServer, run: i64, attempts: usize) -> Value {
    let report = succeeds(server, run);
    assert_eq!(report["attempts"].as_array().expect("attempts").len(), attempts, "{report:#}");
    assert!(left(server, run) == *undisturbed(), "it left something else");
    is_sound(server.data.path());
    report
}

/// Waits until an attempt trains, and the run has a checkpoint.
#[track_caller]
fn has_come_far(server: &TestServer, run: i64, attempt: u32) {
    training(server, run, attempt as usize);
    until("it has no checkpoint", || (!checkpoints(server, run, attempt).is_empty()).then_some(()));
}

fn owner(server: &TestServer, run: i64) -> String {
    until("its job is not known", || {
        Some(report(server, run)["attempts"].as_array()?.last()?["owner"].as_str()?.to_owned())
    })
}

/// The number of the latest attempt's job.
fn job(server: &TestServer, run: i64) -> String {
    let owner = owner(server, run);
    let number = owner.strip_prefix("Slurm job ").and_then(|rest| rest.split(' ').next());
    number.unwrap_or_else(|| panic!("{owner}")).to_owned()
}

/// The process that a server's only job runs.
fn worker(server: &TestServer) -> u32 {
    until("there is not one worker", || <[u32; 1]>::try_from(server.workers()).ok())[0]
}

fn state(job: &str) -> String {
    say("squeue", &["--noheader", "--states=all", "--format=%T", "--jobs", job]).trim().to_owned()
}

/// Waits until the run's page says that it waits in Slurm for this reason.
#[track_caller]
fn waits(server: &TestServer, run: i64, reason: &str) {
    let mut last = Value::Null;
    until(&format!("it does not wait for {reason}"), || {
        last = report(server, run)["progress"]["phase"].clone();
        let phase = last.as_str()?;
        (phase.starts_with("waits in the cluster's queue (") && phase.contains(reason)).then_some(())
    });
    let page = server.page(&format!("/runs/{run}"));
    assert!(page.contains("queue (") && page.contains(reason), "the page does not say that it waits");
}

fn log(server: &TestServer, run: i64) -> String {
    let lines = report(server, run)["log"].as_array().expect("a log").clone();
    lines.iter().filter_map(|line| line["text"].as_str()).flat_map(|text| [text, "\n"]).collect()
}

#[test]
fn a_run_leaves_the_same_as_on_this_machine_and_tells_no_secret() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let run = server.submit(&body());
    training(&server, run, 1);
    let (owner, job) = (owner(&server, run), job(&server, run));
    let host = say("hostname", &[]);
    assert_eq!(owner, format!("Slurm job {job} on {}", host.trim()));
    let assignment =
        fs::read(server.data.path().join(format!("runs/{run}/attempt-1/assignment.json"))).expect("a file");
    let assignment: Value = serde_json::from_slice(&assignment).expect("JSON");
    let token = assignment["token"].as_str().expect("a token").to_owned();
    let process = worker(&server);
    let read = |what: &str| fs::read(format!("/proc/{process}/{what}")).expect("a process");
    let [command, environment] = ["cmdline", "environ"].map(|what| String::from_utf8_lossy(&read(what)).into_owned());
    let shown = say("scontrol", &["show", "job", &job]);
    let script = say("scontrol", &["write", "batch_script", &job, "-"]);
    assert!(shown.contains("JobState=RUNNING") && shown.contains("Partition=main"), "{shown}");
    assert!(
        script.contains("'worker'") && command.contains("worker") && environment.contains("SLURM_JOB_ID"),
        "{script}"
    );
    comes_to_the_same(&server, run, 1);
    let log = log(&server, run);
    assert!(log.contains("resnet-tiny on cpu: 60 train and 24 test images") && log.ends_with("done\n"), "{log}");
    for text in [&command, &environment, &shown, &script, &log] {
        assert!(!text.contains(&token), "the token has come along: {text}");
    }
}

#[test]
fn a_run_that_waits_in_the_cluster_says_why_is_not_given_up_and_is_found_again() {
    let Some(cluster) = Cluster::get() else { return };
    let other = cluster.fill("main", "sleep 600");
    let server = impatient();
    let run = server.submit(&body());
    waits(&server, run, "what it asks for is in use (Resources)");
    let first = job(&server, run);
    assert_eq!(owner(&server, run), format!("Slurm job {first}"));
    // Longer than a silent worker is waited for.
    sleep(Duration::from_secs(6));
    let server = server.crash_and_restart();
    sleep(Duration::from_secs(6));
    assert_eq!((state(&first).as_str(), job(&server, run)), ("PENDING", first.clone()));

    let canceled = server.submit(&endless());
    cancel(&server, canceled);
    say("scancel", &[&other]);
    training(&server, run, 1);
    assert_eq!(job(&server, run), first);
    comes_to_the_same(&server, run, 1);
}

#[test]
fn canceling_ends_a_job_that_waits_and_one_that_runs() {
    let Some(cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let other = cluster.fill("main", "sleep 600");
    let run = server.submit(&endless());
    waits(&server, run, "Resources");
    let waiting = job(&server, run);
    let canceled = |run: i64, job: &str| {
        let start = Instant::now();
        cancel(&server, run);
        assert_eq!(server.wait(run)["status"], "canceled");
        assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
        until("its job goes on", || (!["PENDING", "RUNNING"].contains(&state(job).as_str())).then_some(()));
    };
    canceled(run, &waiting);
    say("scancel", &[&other]);

    let run = server.submit(&endless());
    training(&server, run, 1);
    canceled(run, &job(&server, run));
    // One that does not listen is killed.
    let run = server.submit(&endless());
    training(&server, run, 1);
    let process = worker(&server);
    signal("-STOP", process);
    canceled(run, &job(&server, run));
    until("the worker does not end", || (!is_alive(process)).then_some(()));
    is_sound(server.data.path());
}

#[test]
fn a_job_that_is_killed_goes_on_in_another_one() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let run = server.submit(&body());
    has_come_far(&server, run, 1);
    let first = job(&server, run);
    signal("-KILL", worker(&server));
    let reason = exit(&server, run, 1);
    assert!(reason.contains("the worker was killed (signal 9)"), "{reason}");
    has_come_far(&server, run, 2);
    let second = job(&server, run);
    say("scancel", &[&second]);
    let reason = exit(&server, run, 2);
    assert!(reason.contains("the job was canceled in Slurm") || reason.contains("SIGTERM"), "{reason}");
    training(&server, run, 3);
    assert_eq!(BTreeSet::from([first, second, job(&server, run)]).len(), 3);
    comes_to_the_same(&server, run, 3);
    assert_eq!(log(&server, run).matches("\ngoes on from ").count(), 2, "{}", log(&server, run));
}

#[test]
fn a_job_that_is_preempted_goes_on_when_there_is_room_again() {
    let Some(cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let run = server.submit(&body());
    has_come_far(&server, run, 1);
    let urgent = cluster.fill("urgent", "sleep 5");
    let reason = exit(&server, run, 1);
    assert!(reason.contains("preempted") || reason.contains("SIGTERM"), "{reason}");
    waits(&server, run, "");
    let report = comes_to_the_same(&server, run, 2);
    assert!(log(&server, run).contains("\ngoes on from "), "{report:#}");
    assert_eq!(state(&urgent), "COMPLETED");
}

#[test]
fn a_job_whose_time_is_up_writes_a_checkpoint_and_goes_on_in_another_one() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let mut body = endless();
    body["slurm"] = json!({"time": "1"});
    let run = server.submit(&body);
    // Slurm warns it at some time of that minute's first half.
    assert_eq!(exit(&server, run, 1), "it was asked to end (SIGTERM)");
    until("it does not go on", || log(&server, run).contains("\ngoes on from ").then_some(()));
    assert!(log(&server, run).contains("it was asked to end (SIGTERM); it goes on from here later"));
    cancel(&server, run);
    assert_eq!(server.wait(run)["status"], "canceled");
    is_sound(server.data.path());
}

#[test]
fn a_job_that_takes_more_memory_than_it_asked_for_says_so_and_its_run_fails() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let run = server.submit(&json!({
        "dataset": "scenes", "backbone": "resnet34", "objective": "sigmoid-threshold", "epochs": 2, "input_size": 224,
        "batch_size": 32, "threshold": 0.2, "threads": 1, "slurm": {"memory": "300M"}
    }));
    let report = server.wait(run);
    assert_eq!(report["status"], "failed", "{report:#}");
    let error = report["error"].as_str().expect("an error");
    assert!(error.starts_with("given up after 3 attempts that got no further; the last: out of memory: "), "{error}");
    assert!(error.contains("the job took more than 300M"), "{error}");
    let attempts = report["attempts"].as_array().expect("attempts");
    assert_eq!(attempts.len(), 3, "{report:#}");
    is_sound(server.data.path());
}

#[test]
fn a_restart_of_slurms_controller_disturbs_neither_a_run_nor_one_that_waits() {
    let Some(_cluster) = Cluster::get() else { return };
    let Some(process) = controller() else { return };
    let flags = ["--patience", "2", "--lost-after", "4", "--stalled-after", "5", "--slots", "cpu=2"];
    let server = TestServer::with_scenes_and(on_slurm(&flags));
    let all = |seed: u64| {
        let mut body = endless();
        body["seed"] = seed.into();
        body["slurm"] = json!({"cpus": processors()});
        server.submit(&body)
    };
    let (running, waiting) = (all(1), all(2));
    training(&server, running, 1);
    waits(&server, waiting, "Resources");
    let jobs = [running, waiting].map(|run| job(&server, run));
    let before = report(&server, running)["progress"]["fraction"].as_f64();
    signal("-TERM", process.parse().expect("a number"));
    until("the controller does not end", || (!Path::new("/proc").join(&process).exists()).then_some(()));
    // Longer than a silent worker is waited for.
    sleep(Duration::from_secs(10));
    say("slurmctld", &[]);
    until("the controller does not answer", || (state(&jobs[0]) == "RUNNING").then_some(()));
    sleep(Duration::from_secs(3));
    for (run, before) in [running, waiting].into_iter().zip(&jobs) {
        let report = report(&server, run);
        assert_eq!((&report["status"], &job(&server, run)), (&json!("running"), before), "{report:#}");
        assert_eq!(report["attempts"].as_array().expect("attempts").len(), 1, "{report:#}");
    }
    assert!(report(&server, running)["progress"]["fraction"].as_f64() > before);
    cancel(&server, running);
    training(&server, waiting, 1);
    assert_eq!(job(&server, waiting), jobs[1]);
    is_sound(server.data.path());
}

#[test]
fn a_server_that_was_killed_finds_its_job_again() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&["--patience", "10"]));
    let run = server.submit(&body());
    training(&server, run, 1);
    let before = job(&server, run);
    let server = server.crash_and_restart();
    training(&server, run, 1);
    assert_eq!(job(&server, run), before);
    comes_to_the_same(&server, run, 1);
    // One that ended while there was no server.
    let mut server = server;
    let mut brief = body();
    brief["epochs"] = 40.into();
    let run = server.submit(&brief);
    training(&server, run, 1);
    let process = worker(&server);
    server.crash();
    until("the worker does not end", || (!is_alive(process)).then_some(()));
    let server = server.restart();
    let report = succeeds(&server, run);
    assert_eq!(report["attempts"].as_array().map(Vec::len), Some(1), "{report:#}");
}

#[test]
fn a_server_that_is_stopped_in_order_ends_its_job_and_the_next_one_goes_on() {
    let Some(_cluster) = Cluster::get() else { return };
    let mut server = TestServer::with_scenes_and(on_slurm(&[]));
    let run = server.submit(&body());
    training(&server, run, 1);
    let before = job(&server, run);
    let start = Instant::now();
    server.interrupt();
    assert!(start.elapsed() < Duration::from_secs(12), "it took {:?}", start.elapsed());
    assert_eq!(server.workers(), [0; 0]);
    until("its job goes on", || (state(&before) == "COMPLETED").then_some(()));
    let server = server.restart();
    comes_to_the_same(&server, run, 2);
    let log = log(&server, run);
    assert!(log.contains("it goes on from here later") && log.contains("\ngoes on from "), "{log}");
}

#[test]
fn a_run_whose_partition_does_not_exist_fails_at_once_with_slurms_words() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&[]));
    let mut body = short(1);
    body["slurm"] = json!({"partition": "nowhere"});
    let run = server.submit(&body);
    let report = server.wait(run);
    assert_eq!((&report["status"], report["attempts"].as_array().map(Vec::len)), (&json!("failed"), Some(1)));
    assert!(report["error"].as_str().is_some_and(|error| error.contains("invalid partition")), "{report:#}");
    is_sound(server.data.path());
}

#[test]
fn as_many_jobs_run_at_once_as_there_are_slots() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(on_slurm(&["--slots", "cpu=2"]));
    let runs = [1, 2, 3].map(|seed| {
        let mut body = endless();
        body["seed"] = seed.into();
        server.submit(&body)
    });
    for run in &runs[..2] {
        training(&server, *run, 1);
    }
    assert_eq!(report(&server, runs[2])["status"], "queued");
    assert_eq!(server.workers().len(), 2);
    assert_ne!(job(&server, runs[0]), job(&server, runs[1]));
    cancel(&server, runs[0]);
    training(&server, runs[2], 1);
}

#[test]
fn a_class_of_devices_that_is_not_the_clusters_stays_on_this_machine() {
    let Some(_cluster) = Cluster::get() else { return };
    let server = TestServer::with_scenes_and(Launch::with(&["--executor", "cpu=local,cuda=slurm"]));
    let run = server.submit(&body());
    training(&server, run, 1);
    assert!(owner(&server, run).starts_with("process "), "{}", owner(&server, run));
    assert!(say("squeue", &["--me", "--noheader"]).is_empty());
    comes_to_the_same(&server, run, 1);
}
