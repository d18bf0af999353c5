//! Runs whose process, server or machine goes away, with the real program.
#![cfg(target_os = "linux")]

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::{
    faults::{signal, within},
    support::TestServer,
};

/// A run of some seconds.
fn body(epochs: u32) -> Value {
    json!({
        "dataset": "scenes", "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "epochs": epochs, "input_size": 32,
        "batch_size": 16, "threshold": 0.2, "keep": "best-loss"
    })
}

#[track_caller]
fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(60), what, look)
}

/// The checkpoints of an attempt.
pub fn checkpoints(server: &TestServer, run: i64, attempt: u32) -> Vec<PathBuf> {
    let directory = server.data.path().join(format!("runs/{run}/attempt-{attempt}/checkpoints"));
    let files = fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path());
    files.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with('0')).collect()
}

/// Waits until an attempt is in its training.
fn training(server: &TestServer, run: i64, attempt: u32) {
    let directory = server.data.path().join(format!("runs/{run}/attempt-{attempt}"));
    until("it does not train", || {
        let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
        (directory.is_dir() && report["progress"]["loss"].is_number()).then_some(())
    });
}

fn log(report: &Value) -> Vec<&str> {
    report["log"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap()).collect()
}

/// The course of a run, without its times.
fn course(report: &Value) -> Vec<Value> {
    let mut epochs = report["epochs"].as_array().unwrap().clone();
    epochs.iter_mut().for_each(|epoch| epoch["seconds"] = Value::Null);
    epochs
}

fn left(directory: &Path) -> [Vec<u8>; 3] {
    ["scores-test", "scores-validation", "weights"]
        .map(|name| fs::read(directory.join(format!("{name}.safetensors"))).expect("a file"))
}

#[test]
fn a_run_survives_whatever_ends_its_process_and_leaves_the_same_weights() {
    let server = TestServer::with_scenes();
    let epochs = 100;
    let undisturbed = server.submit(&body(epochs));
    let expected = server.wait(undisturbed);
    assert_eq!(expected["status"], "succeeded", "{expected}");

    let mut again = body(epochs);
    again["force"] = true.into();
    let run = server.submit(&again);
    // The server is stopped in order: the run loses not a step.
    training(&server, run, 1);
    let server = server.interrupt_and_restart();
    assert_eq!(checkpoints(&server, run, 1).len(), 1);
    // Somebody ends the worker, as a system does that shuts down.
    training(&server, run, 2);
    signal("-TERM", server.worker(run));
    // The server crashes. Its worker goes on, and finds the next server at another address.
    training(&server, run, 3);
    let worker = server.worker(run);
    let server = server.crash_and_restart();
    training(&server, run, 3);
    assert_eq!(server.worker(run), worker);
    // The worker is killed: what was written last is gone on from.
    signal("-KILL", worker);

    let report = server.wait(run);
    assert_eq!(report["status"], "succeeded", "{report}");
    let log = log(&report);
    assert_eq!(log.iter().filter(|line| line.starts_with("goes on from ")).count(), 3, "{log:#?}");
    assert!(log.iter().any(|line| line.starts_with("the worker ended while no server watched it")), "{log:#?}");
    assert_eq!(course(&report), course(&expected), "the curve is whole");
    assert_eq!(report["kept_epoch"], expected["kept_epoch"]);
    let directory = |run: i64, attempt: u32| server.data.path().join(format!("runs/{run}/attempt-{attempt}"));
    assert!(left(&directory(run, 4)) == left(&directory(undisturbed, 1)), "the weights or scores differ");
    // What it needs no more is gone.
    let files = |directory: &Path| fs::read_dir(directory).unwrap().count();
    assert_eq!(files(&directory(run, 4)), 3);
    let beside = fs::read_dir(server.data.path().join(format!("runs/{run}"))).unwrap();
    let beside = beside.map(|entry| entry.unwrap()).filter(|entry| entry.path().is_dir()).count();
    assert_eq!(beside, 1, "only the logs of the other attempts are kept");
}

#[test]
fn a_canceled_run_keeps_its_checkpoint_until_it_is_deleted() {
    let server = TestServer::with_scenes();
    let run = server.submit(&body(10_000));
    // On a busy machine it may not come to write another one before it is killed.
    until("there is no checkpoint", || (!checkpoints(&server, run, 1).is_empty()).then_some(()));
    assert_eq!(server.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null).0, 202);
    assert_eq!(server.wait(run)["status"], "canceled");
    assert!(!checkpoints(&server, run, 1).is_empty());
    // It is shown what it takes, and freed with the run.
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    let attempt = server.data.path().join(format!("runs/{run}/attempt-1/checkpoints"));
    let bytes: u64 = fs::read_dir(attempt).unwrap().map(|entry| size(&entry.unwrap().path())).sum();
    let bytes = bytes + size(&server.data.path().join(format!("runs/{run}/attempt-1.log")));
    assert!(bytes > 1_000_000);
    let disk = || server.get("/api/v1/disk").1;
    let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
    let (_, listing) = server.get("/api/v1/runs");
    for found in [&report["disk_bytes"], &listing["items"][0]["disk_bytes"], &disk()["runs_bytes"]] {
        assert_eq!(*found, bytes);
    }
    let words = twograin::report::bytes_words(bytes);
    for page in [format!("/runs/{run}"), "/runs".into()] {
        assert!(server.page(&page).contains(&words), "{page} does not say {words}");
    }
    let (status, _) = server.send(Client::new().delete(format!("{}/api/v1/runs/{run}", server.url)));
    assert_eq!((status, server.data.path().join(format!("runs/{run}")).exists()), (204, false));
    assert_eq!(disk()["runs_bytes"], 0);
}

#[test]
fn a_run_that_is_killed_again_and_again_fails_with_the_reason_and_keeps_its_checkpoint() {
    let server = TestServer::with_scenes();
    let run = server.submit(&body(10_000));
    until("there is no checkpoint", || (!checkpoints(&server, run, 1).is_empty()).then_some(()));
    training(&server, run, 1);
    // The first one got further than none before it; the others are killed before they can.
    for attempt in 1..=3 {
        until("there is no next attempt", || {
            let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
            (report["attempts"].as_array().unwrap().len() >= attempt).then_some(())
        });
        signal("-KILL", server.worker(run));
        until("the attempt does not end", || {
            let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
            report["attempts"][attempt - 1]["exit"].as_str().map(|_| ())
        });
    }
    let report = server.wait(run);
    let error = report["error"].as_str().unwrap_or_default();
    let expected = "given up after 3 attempts that got no further; the last: the worker was killed (signal 9)";
    assert!(error.starts_with(expected), "{report}");
    assert!(!checkpoints(&server, run, 1).is_empty());
}
