//! Workers and servers that go away, fall silent, or come back late.

use std::{
    fs,
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};

use reqwest::blocking::{Client, Response};
use serde_json::{Value, json};

use super::{cancel, endless, exit, is_alive, is_sound, left, report, short, signal, succeeds, training, until};
use crate::support::{Launch, TestServer};

/// A server that gives up soon, and whose workers do.
fn impatient() -> Launch {
    Launch::with(&["--patience", "2", "--lost-after", "4", "--stalled-after", "6"])
}

#[test]
fn a_server_that_dies_in_any_state_of_a_run_loses_none_and_runs_none_twice() {
    let mut server = TestServer::with_scenes();
    let undisturbed = server.submit(&short(1));
    succeeds(&server, undisturbed);
    let expected = left(&server, undisturbed);
    let mut runs = Vec::new();
    // From the moment of its submission to after its end, which comes in about two seconds.
    for delay in [0, 30, 100, 300, 800, 1500, 2200] {
        let run = server.submit(&short(1));
        thread::sleep(Duration::from_millis(delay));
        server = server.crash_and_restart();
        runs.push(run);
        succeeds(&server, run);
        assert!(left(&server, run) == expected, "killed after {delay} ms, it left something else");
        let attempts = report(&server, run)["attempts"].as_array().unwrap().len();
        assert_eq!(attempts, 1, "killed after {delay} ms, it was run twice: {:#}", report(&server, run));
        until("a worker is left over", || server.workers().is_empty().then_some(()));
    }
    // While it is being canceled.
    let run = server.submit(&endless());
    training(&server, run, 1);
    signal("-STOP", server.worker(run));
    cancel(&server, run);
    let server = server.crash_and_restart();
    assert_eq!(server.wait(run)["status"], "canceled");
    until("a worker is left over", || server.workers().is_empty().then_some(()));
    is_sound(server.data.path());
}

#[test]
fn a_worker_whose_server_stays_away_writes_a_checkpoint_and_ends() {
    let mut server = TestServer::with_scenes_and(impatient());
    let undisturbed = server.submit(&short(1));
    succeeds(&server, undisturbed);
    let run = server.submit(&endless());
    training(&server, run, 1);
    let worker = server.worker(run);
    server.crash();
    let start = Instant::now();
    until("the worker does not end", || (!is_alive(worker)).then_some(()));
    assert!(start.elapsed() > Duration::from_secs(1), "it did not wait for a server");
    assert!(start.elapsed() < Duration::from_secs(12), "it waited for {:?}", start.elapsed());
    let server = server.restart();
    assert!(exit(&server, run, 1).starts_with("the server was not to be found for 2 s"), "{}", exit(&server, run, 1));
    training(&server, run, 2);
    let report = report(&server, run);
    let log: Vec<&str> = report["log"].as_array().unwrap().iter().filter_map(|line| line["text"].as_str()).collect();
    assert!(log.iter().any(|line| line.starts_with("goes on from ")), "{log:#?}");
    is_sound(server.data.path());
}

#[test]
fn a_result_that_no_server_was_there_to_take_is_taken_by_the_next_one() {
    let mut server = TestServer::with_scenes();
    let mut body = short(1);
    body["epochs"] = 100.into();
    let run = server.submit(&body);
    training(&server, run, 1);
    let worker = server.worker(run);
    server.crash();
    // It comes to its end alone, and then does not live to tell.
    let completion = server.data.path().join(format!("runs/{run}/attempt-1/completion.json"));
    until("it leaves no result", || completion.exists().then_some(()));
    signal("-KILL", worker);
    let told: Value = serde_json::from_slice(&fs::read(&completion).expect("a result")).unwrap();
    assert_eq!(told["completion"], "succeeded");
    let server = server.restart();
    let report = succeeds(&server, run);
    assert_eq!(report["attempts"].as_array().unwrap().len(), 1, "{report:#}");
    assert!(!completion.exists());
    is_sound(server.data.path());
}

#[test]
fn a_worker_that_is_stopped_is_given_up_and_its_run_goes_on() {
    let server = TestServer::with_scenes_and(impatient());
    let run = server.submit(&endless());
    training(&server, run, 1);
    let worker = server.worker(run);
    signal("-STOP", worker);
    let reason = exit(&server, run, 1);
    assert!(reason.starts_with("lost contact: the worker has not been heard of for "), "{reason}");
    training(&server, run, 2);
    assert!(!is_alive(worker), "it would wake up some day");
    is_sound(server.data.path());
}

#[test]
fn a_worker_that_answers_and_gets_no_further_is_given_up() {
    let server = TestServer::with_scenes_and(impatient());
    let run = server.submit(&endless());
    training(&server, run, 1);
    let stand_in = StandIn::of(&server, run, 1);
    signal("-STOP", server.worker(run));
    let start = Instant::now();
    // The heartbeat of a worker whose training hangs.
    let reason = until("it is not given up", || {
        stand_in.post("events", &json!({"progressed": false, "events": []}));
        thread::sleep(Duration::from_millis(200));
        report(&server, run)["attempts"][0]["exit"].as_str().map(str::to_owned)
    });
    assert!(reason.starts_with("no progress: the worker is there and has not got further for 6 s"), "{reason}");
    assert!(start.elapsed() > Duration::from_secs(5));
    // Whoever comes late is told so, and changes nothing.
    training(&server, run, 2);
    for (path, body) in [
        ("events", json!({"progressed": true, "events": [{"event": "progress", "phase": "late", "fraction": 1.0}]})),
        ("completion", json!({"completion": "failed", "error": "late"})),
        ("job", json!({"handle": "1:1", "host": "elsewhere"})),
    ] {
        assert_eq!(stand_in.post(path, &body).status(), 403, "{path}");
    }
    let report = report(&server, run);
    assert_eq!((&report["status"], &report["attempts"][1]["exit"]), (&json!("running"), &Value::Null));
    assert_ne!(report["progress"]["phase"], "late");
    is_sound(server.data.path());
}

#[test]
fn canceling_ends_a_worker_that_ignores_it_within_two_seconds() {
    let server = TestServer::with_scenes();
    let run = server.submit(&endless());
    training(&server, run, 1);
    let worker = server.worker(run);
    signal("-STOP", worker);
    let start = Instant::now();
    cancel(&server, run);
    let answered = report(&server, run);
    assert_eq!((&answered["status"], &answered["stopping"]), (&json!("running"), &json!(true)));
    assert!(server.page(&format!("/runs/{run}")).contains("stopping …"));
    until("the worker does not end", || (!is_alive(worker)).then_some(()));
    assert!(start.elapsed() < Duration::from_millis(2500), "it took {:?}", start.elapsed());
    assert_eq!(server.wait(run)["status"], "canceled");
    is_sound(server.data.path());
}

#[test]
fn a_worker_of_another_version_is_refused_and_its_run_goes_on() {
    let mut server = TestServer::with_scenes();
    let run = server.submit(&endless());
    training(&server, run, 1);
    let stand_in = StandIn { version: "0.0.1", ..StandIn::of(&server, run, 1) };
    let refused = stand_in.post("completion", &json!({"completion": "failed", "error": "of another version"}));
    assert_eq!(refused.status(), 426);
    assert!(refused.text().unwrap().starts_with("the worker is of version 0.0.1, the server of version "));
    assert_eq!(report(&server, run)["status"], "running");

    // Its server is replaced by one of another version, which says so.
    let worker = server.worker(run);
    server.crash();
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let record = server.data.path().join("server.json");
    let mut moved: Value = serde_json::from_slice(&fs::read(&record).unwrap()).unwrap();
    moved["workers"] = format!("http://{}", other.local_addr().unwrap()).into();
    fs::write(&record, moved.to_string()).unwrap();
    let text = "the worker is of version 1, the server of version 2";
    let answer =
        format!("HTTP/1.1 426 Upgrade Required\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    thread::spawn(move || {
        for stream in other.incoming() {
            let mut stream = stream.unwrap();
            // The request is small and comes at once; its body need not be understood.
            let _ = stream.read(&mut [0; 65_536]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    until("the worker does not end", || (!is_alive(worker)).then_some(()));
    let server = server.restart();
    assert_eq!(exit(&server, run, 1), text);
    training(&server, run, 2);
    is_sound(server.data.path());
}

#[test]
fn a_worker_that_runs_out_of_memory_says_so() {
    let server = TestServer::with_scenes();
    let run = server.submit(&endless());
    training(&server, run, 1);
    let limit = ["--pid", &server.worker(run).to_string(), "--as=100000000"];
    assert!(std::process::Command::new("prlimit").args(limit).status().expect("prlimit is there").success());
    let reason = exit(&server, run, 1);
    assert!(reason.starts_with("out of memory: "), "{reason}: {:#}", report(&server, run)["log"]);
}

#[test]
fn workers_that_are_kept_outlive_a_server_that_is_stopped_in_order() {
    // A server that is in a job of Slurm itself, which its workers are not.
    let environment = vec![("SLURM_JOB_ID".into(), "7".into())];
    let mut server = TestServer::with_scenes_and(Launch { environment, ..Launch::with(&["--keep-workers"]) });
    let run = server.submit(&endless());
    training(&server, run, 1);
    let worker = server.worker(run);
    let start = Instant::now();
    server.interrupt();
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    assert!(is_alive(worker));
    let server = server.restart();
    training(&server, run, 1);
    assert_eq!(server.worker(run), worker);
    is_sound(server.data.path());
}

#[test]
fn a_server_waits_for_a_lock_that_is_held_for_an_instant() {
    let data = tempfile::tempdir().unwrap();
    let held = fs::File::create(data.path().join("server.lock")).unwrap();
    held.lock().unwrap();
    let holder = thread::spawn(move || {
        thread::sleep(Duration::from_millis(500));
        drop(held);
    });
    let server = TestServer::start(data);
    assert!(holder.is_finished(), "it did not wait");
    assert_eq!(server.get("/api/v1/queue").0, 200);
}

#[test]
fn as_many_runs_run_at_once_as_there_are_slots() {
    let server = TestServer::with_scenes_and(Launch::with(&["--slots", "cpu=2"]));
    let runs = [1, 2, 3].map(|seed| {
        let mut body = endless();
        body["seed"] = seed.into();
        server.submit(&body)
    });
    training(&server, runs[0], 1);
    training(&server, runs[1], 1);
    assert_eq!(report(&server, runs[2])["status"], "queued");
    assert_eq!(server.workers().len(), 2);
    cancel(&server, runs[0]);
    training(&server, runs[2], 1);
    // What is meant by no number of threads is the processors' number, shared.
    let processors = thread::available_parallelism().unwrap().get();
    assert_eq!(report(&server, runs[2])["spec"]["threads"], (processors / 2).max(1));
}

/// Speaks as the worker of an attempt would.
struct StandIn {
    base: String,
    token: String,
    version: &'static str,
}

impl StandIn {
    fn of(server: &TestServer, run: i64, attempt: u32) -> Self {
        let read = |path: &str| -> Value {
            serde_json::from_slice(&fs::read(server.data.path().join(path)).expect("a file")).expect("JSON")
        };
        let assignment = read(&format!("runs/{run}/attempt-{attempt}/assignment.json"));
        let workers = read("server.json")["workers"].as_str().unwrap().to_owned();
        let base = format!("{workers}/attempts/{}", assignment["attempt"]);
        Self { base, token: assignment["token"].as_str().unwrap().to_owned(), version: env!("CARGO_PKG_VERSION") }
    }

    fn post(&self, path: &str, body: &Value) -> Response {
        let request = Client::new().post(format!("{}/{path}", self.base)).bearer_auth(&self.token).json(body);
        request.header("twograin-version", self.version).send().expect("an answer")
    }
}
