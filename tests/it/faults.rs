//! What goes wrong around a run, each thing made to happen to the real program.
#![cfg(target_os = "linux")]

mod chaos;
mod cluster;
mod machine;
mod workers;

use std::{
    fs,
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::support::TestServer;

/// A run that ends in some seconds.
pub fn short(seed: u64) -> Value {
    json!({
        "dataset": "scenes", "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "epochs": 40, "input_size": 32,
        "batch_size": 16, "threshold": 0.2, "seed": seed, "force": true
    })
}

/// One that does not.
pub fn endless() -> Value {
    let mut body = short(0);
    body["epochs"] = 10_000.into();
    body
}

#[track_caller]
pub fn until<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(Duration::from_secs(90), what, look)
}

/// What is looked for, once it is there.
#[track_caller]
pub fn within<T>(limit: Duration, what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < limit, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn signal(name: &str, process: u32) {
    let sent = Command::new("kill").args([name, &process.to_string()]).status().expect("kill is there");
    assert!(sent.success(), "the signal was not sent");
}

pub fn is_alive(process: u32) -> bool {
    twograin::worker::process::identity(process).is_some()
}

pub fn report(server: &TestServer, run: i64) -> Value {
    server.get(&format!("/api/v1/runs/{run}")).1
}

/// Waits until an attempt of a run trains.
#[track_caller]
pub fn training(server: &TestServer, run: i64, attempt: usize) {
    until("it does not train", || {
        let report = report(server, run);
        let attempts = report["attempts"].as_array()?.len();
        (attempts == attempt && report["progress"]["loss"].is_number()).then_some(())
    });
}

/// Waits until an attempt has ended, and returns why it did.
#[track_caller]
pub fn exit(server: &TestServer, run: i64, attempt: usize) -> String {
    until("the attempt does not end", || {
        report(server, run)["attempts"][attempt - 1]["exit"].as_str().map(str::to_owned)
    })
}

#[track_caller]
pub fn succeeds(server: &TestServer, run: i64) -> Value {
    let report = server.wait(run);
    assert_eq!(report["status"], "succeeded", "{report:#}");
    report
}

pub fn cancel(server: &TestServer, run: i64) {
    let (status, answer) = server.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null);
    assert_eq!(status, 202, "{answer}");
}

/// The weights and scores that a run left.
pub fn left(server: &TestServer, run: i64) -> [Vec<u8>; 3] {
    let attempt = report(server, run)["attempts"].as_array().expect("attempts").len();
    let directory = server.data.path().join(format!("runs/{run}/attempt-{attempt}"));
    ["scores-test", "scores-validation", "weights"]
        .map(|name| fs::read(directory.join(format!("{name}.safetensors"))).expect("a file"))
}

/// The database is sound, and says of each run what is true of it.
#[track_caller]
pub fn is_sound(directory: &Path) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(directory.join("twograin.db"));
    let rows = runtime.block_on(async {
        use sqlx::ConnectOptions;
        let mut database = options.connect().await.expect("the database");
        let integrity: String =
            sqlx::query_scalar("pragma integrity_check").fetch_one(&mut database).await.expect("ok");
        let foreign: Vec<(String,)> = sqlx::query_as("select \"table\" from pragma_foreign_key_check")
            .fetch_all(&mut database)
            .await
            .expect("ok");
        let untrue: Vec<(i64, String)> = sqlx::query_as(
            "select run.id, status from run
             where (status = 'succeeded') <> (select count(*) = 3 from artifact where run_id = run.id)
                or (status = 'succeeded') <> exists (select 1 from tally where run_id = run.id)
                or (select count(*) from attempt where run_id = run.id and ended_at is null) <> (status = 'running')",
        )
        .fetch_all(&mut database)
        .await
        .expect("ok");
        (integrity, foreign, untrue)
    });
    assert_eq!(rows, ("ok".to_owned(), vec![], vec![]));
}
