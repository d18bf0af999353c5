//! The JSON API: what it takes, what it refuses and how it says so, and the life of a run.

use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::support::{TestServer, quick, twograin};

/// A run that nobody waits for.
fn endless() -> Value {
    quick(json!({ "epochs": 10_000 }))
}

fn wait_for(server: &TestServer, run: i64, status: &str) -> Value {
    let start = Instant::now();
    loop {
        let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
        if report["status"] == status {
            return report;
        }
        assert!(start.elapsed() < Duration::from_secs(60), "run {run} is not {status}: {report}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn errors_are_problem_documents_that_name_what_is_wrong() {
    let server = TestServer::with_scenes();
    let client = Client::new();
    let url = |path: &str| format!("{}{path}", server.url);
    let runs = || client.post(url("/api/v1/runs"));
    for (request, status, says) in [
        (client.get(url("/api/v1/runs/99")), 404, "there is no run 99"),
        (client.get(url("/api/v1/nothing")), 404, "nothing"),
        (client.get(url("/api/v1/datasets/nothing")), 404, "there is no data set “nothing”"),
        (client.put(url("/api/v1/datasets")), 405, ""),
        (client.get(url("/api/v1/runs?colour=red")), 422, "colour"),
        (client.get(url("/api/v1/runs?limit=0")), 422, "limit: 0 is outside 1 to 500"),
        (client.get(url("/api/v1/runs/1/indices?rule=best")), 404, "there is no run 1"),
        (runs().body("{}"), 415, ""),
        (runs().header("content-type", "application/json").body("{"), 400, ""),
        (runs().json(&json!({"dataset": "scenes", "backbone": "vgg-tiny"})), 422, "missing field `objective`"),
        (runs().json(&quick(json!({"epoch": 2}))), 422, "unknown field `epoch`"),
        (runs().json(&quick(json!({"dataset": "other"}))), 422, "there is no data set “other”"),
        (runs().json(&quick(json!({"input_size": 8}))), 422, "input_size: 8 is outside 32 to 1024"),
        (runs().json(&quick(json!({"device": "cuda:0"}))), 422, "has no CUDA"),
        (runs().json(&quick(json!({"initial_weights": "/no/such/file"}))), 422, "/no/such/file"),
        (runs().json(&quick(json!({"nesterov": true, "optimizer": "adamw"}))), 422, "nesterov: it needs"),
        (
            runs().json(&quick(json!({"focal_alpha": {"dog": 2, "unicorn": 3}}))),
            422,
            "focal_alpha: the data set “scenes” has no fine label “unicorn”",
        ),
        (client.post(url("/api/v1/predictions?run=1")).body("x"), 415, ""),
    ] {
        let response = request.send().expect("an answer");
        assert_eq!(response.headers()["content-type"], "application/problem+json", "{says}");
        let got = response.status().as_u16();
        let problem: Value = response.json().expect("JSON");
        assert_eq!((got, problem["status"].as_u64()), (status, Some(u64::from(status))), "{problem}");
        let detail = problem["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{detail} does not say {says}");
        assert!(problem["title"].is_string() && problem["type"].is_string(), "{problem}");
    }
    // The same, as a page.
    let page = client.get(url("/runs/99")).send().expect("an answer");
    assert_eq!(
        (page.status().as_u16(), page.headers()["content-type"].to_str().unwrap()),
        (404, "text/html; charset=utf-8")
    );
    assert!(page.text().expect("text").contains("there is no run 99"));
}

#[test]
fn labels_without_images_are_shown_and_not_trained_on() {
    let server = TestServer::with_scenes();
    let annotations = |split: &str| server.data.path().join(format!("images/instances_{split}.json"));
    let mut import = twograin();
    import.args(["dataset", "import-coco", "labels", "--labels-only", "--data-dir"]).arg(server.data.path());
    import.arg("--train-annotations").arg(annotations("train")).arg("--test-annotations").arg(annotations("test"));
    assert!(import.status().expect("the program starts").success());
    let (_, dataset) = server.get("/api/v1/datasets/labels");
    assert_eq!((&dataset["labels_only"], &dataset["train_images"]), (&json!(true), &json!(60)));
    let (_, with_images) = server.get("/api/v1/datasets/scenes");
    assert_eq!(dataset["fingerprint"], with_images["fingerprint"]);
    let (status, problem) = server.post("/api/v1/runs", &quick(json!({"dataset": "labels"})));
    assert_eq!(status, 409);
    assert!(problem["detail"].as_str().unwrap().contains("has labels only and cannot be trained on"), "{problem}");
}

#[test]
fn the_same_specification_gives_the_same_outcomes() {
    let server = TestServer::with_scenes();
    let runs = [1, 1, 2].map(|seed| {
        server.submit(&quick(json!({"seed": seed, "name": "twin", "tags": ["a"], "note": "n", "force": true})))
    });
    let scores = runs.map(|run| {
        let report = server.wait(run);
        assert_eq!(report["status"], "succeeded", "{report}");
        assert_eq!((&report["name"], &report["tags"], &report["note"]), (&json!("twin"), &json!(["a"]), &json!("n")));
        let directory = server.data.path().join(format!("runs/{run}/attempt-1"));
        ["scores-test", "scores-validation", "weights"]
            .map(|name| std::fs::read(directory.join(format!("{name}.safetensors"))).expect("a file"))
    });
    assert!(scores[0] == scores[1], "two runs of one specification differ");
    assert!(scores[0] != scores[2], "the seed changes nothing");
    // The two seeds are one group of the comparison, shown as mean and spread.
    let (_, comparison) = server.get("/api/v1/comparisons");
    let cell = &comparison["rows"][0]["cells"][0];
    assert_eq!((&cell["runs"], &cell["counts"]), (&json!([runs[2], runs[1]]), &Value::Null));
    assert!(cell["figures"]["ia"]["spread"].is_number() && cell["figures"]["ia"]["low"].is_null());
}

#[test]
fn a_run_that_is_there_answers_the_same_submission_unless_a_repeat_is_asked_for() {
    let server = TestServer::with_scenes();
    let submit = |changes: Value| {
        let (status, run) = server.post("/api/v1/runs", &quick(changes));
        (status, run["id"].as_i64().unwrap(), run["existing"] == true)
    };
    assert_eq!(submit(json!({})), (201, 1, false));
    assert_eq!(submit(json!({"name": "another name decides nothing"})), (200, 1, true));
    assert_eq!(server.wait(1)["status"], "succeeded");
    assert_eq!(submit(json!({})), (200, 1, true));
    assert_eq!(submit(json!({"seed": 1})), (201, 2, false));
    assert_eq!(submit(json!({"force": true})), (201, 3, false));
    server.wait(3);
}

#[test]
fn a_sweep_is_answered_by_the_runs_that_are_there_and_makes_the_others() {
    let server = TestServer::with_scenes();
    let sweep = |changes: Value| {
        let (status, answer) = server.post("/api/v1/sweeps", &quick(changes));
        let items = answer["items"].as_array().unwrap_or_else(|| panic!("{answer}")).iter();
        (status, items.map(|item| (item["run"]["id"].as_i64(), item["existing"] == true)).collect::<Vec<_>>())
    };
    let seeds = |seeds: Value| json!({"grid": {"seed": seeds}, "tags": ["sweep"]});
    let first = sweep(json!({"grid": {"seed": [0, 1, 2]}, "dry_run": true}));
    assert_eq!(first, (200, vec![(None, false); 3]));
    assert_eq!(sweep(seeds(json!([0, 1]))), (201, vec![(Some(1), false), (Some(2), false)]));
    assert_eq!(sweep(seeds(json!([2, 1, 2]))), (201, vec![(Some(3), false), (Some(2), true), (Some(3), true)]));
    let runs = json!({"runs": [{"seed": 2}, {"seed": 3, "name": "mine"}]});
    assert_eq!(sweep(runs), (201, vec![(Some(3), true), (Some(4), false)]));
    for run in 1..=4 {
        assert_eq!(server.wait(run)["status"], "succeeded");
    }
    // Their threads are known by now.
    assert_eq!(sweep(seeds(json!([0, 3]))), (201, vec![(Some(1), true), (Some(4), true)]));
    assert_eq!(sweep(json!({"force": true})), (201, vec![(Some(5), false)]));
    // The four seeds are one group, shown as mean and sample standard deviation.
    let (_, comparison) = server.get("/api/v1/comparisons");
    let cell = &comparison["rows"][0]["cells"][0];
    assert_eq!(cell["runs"], json!([4, 3, 2, 1]));
    let ia: Vec<f64> =
        (1..=4).map(|run| server.get(&format!("/api/v1/runs/{run}")).1["ia"].as_f64().unwrap()).collect();
    let mean = ia.iter().sum::<f64>() / 4.0;
    let spread = (ia.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / 3.0).sqrt();
    for (name, expected) in [("value", mean), ("spread", spread)] {
        let found = cell["figures"]["ia"][name].as_f64().unwrap();
        assert!((found - expected).abs() < 1e-12, "{name}: {found} and {expected}");
    }
    let page = server.page("/");
    assert!(page.contains("mean ± spread of 4 seeds") && page.contains(&format!("± {spread:.3}")), "{page}");
}

#[test]
fn a_sweep_with_a_run_that_cannot_be_is_refused_whole() {
    let server = TestServer::with_scenes();
    let unicorn = json!({"focal_alpha": {"unicorn": 3}});
    for (changes, says) in [
        (
            json!({"grid": {"seed": [0, 1], "epochs": [1, 0]}}),
            "epochs: 0 is outside 1 to 10000 (epochs 0, seed 0; epochs 0, seed 1)",
        ),
        (json!({"grid": {"dataset": ["scenes", "other"]}}), "dataset: there is no data set “other”"),
        (json!({"grid": {"dataset": ["scenes", "other"]}}), "(dataset other)"),
        (json!({"runs": [{}, unicorn]}), "has no fine label “unicorn” (runs[1])"),
        (json!({"grid": {"colour": ["red"]}}), "unknown field `colour`"),
        (json!({"grid": {"seed": (0..1001).collect::<Vec<_>>()}}), "grid: 1001 runs are more than the 1000"),
        (json!({"grid": {"seed": []}, "runs": []}), "grid: it does not go with runs"),
    ] {
        let (status, problem) = server.post("/api/v1/sweeps", &quick(changes));
        let detail = problem["detail"].as_str().unwrap();
        assert!(status == 422 && detail.contains(says), "{status}: {detail} does not say {says}");
    }
    assert_eq!(server.get("/api/v1/runs").1["items"], json!([]));
}

#[test]
fn a_run_is_canceled_within_two_seconds_and_deleted_with_its_files() {
    let server = TestServer::with_scenes();
    let (running, queued) = (server.submit(&endless()), server.submit(&quick(json!({}))));
    let path = |run: i64, rest: &str| format!("/api/v1/runs/{run}{rest}");
    let started = wait_for(&server, running, "running");
    assert!(started["spec"]["threads"].as_u64().unwrap() > 0);
    let (_, waiting) = server.get(&path(queued, ""));
    assert_eq!((&waiting["status"], &waiting["queue_position"]), (&json!("queued"), &json!(1)));

    let (status, problem) = server.send(Client::new().delete(format!("{}{}", server.url, path(running, ""))));
    assert_eq!(status, 409, "{problem}");
    let (status, problem) = server.get(&path(running, "/indices"));
    assert_eq!(
        (status, problem["detail"].as_str().unwrap().contains("only a succeeded run")),
        (409, true),
        "{problem}"
    );

    let asked = Instant::now();
    let (status, _) = server.post(&path(running, "/cancel"), &Value::Null);
    assert_eq!(status, 202, "it is asked, and ends soon");
    wait_for(&server, running, "canceled");
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    assert_eq!(server.post(&path(running, "/cancel"), &Value::Null).0, 409);
    assert_eq!(server.wait(queued)["status"], "succeeded", "the next one has its turn");

    let directory = server.data.path().join(format!("runs/{queued}"));
    assert!(directory.is_dir());
    let (status, _) = server.send(Client::new().delete(format!("{}{}", server.url, path(queued, ""))));
    assert_eq!((status, directory.exists(), server.get(&path(queued, "")).0), (204, false, 404));
}

#[test]
fn a_run_fails_with_its_reason() {
    let server = TestServer::with_scenes();
    for split in ["test", "train"] {
        let image = first_file(&server.data.path().join("images").join(split));
        let bytes = std::fs::read(&image).expect("an image");
        // Damaged since it was imported, as by a disk that is full.
        std::fs::write(&image, &bytes[..bytes.len() / 2]).expect("written");
        let report = server.wait(server.submit(&quick(json!({}))));
        assert_eq!(report["status"], "failed");
        let error = report["error"].as_str().expect("a reason");
        let name = image.file_name().unwrap().to_str().unwrap();
        assert!(error.contains(&format!("{name}: the file ends before the image does")), "{error}");
        std::fs::write(&image, bytes).expect("written");
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_in_a_terminal_gives_the_running_run_back() {
    let server = TestServer::with_scenes();
    let run = server.submit(&endless());
    wait_for(&server, run, "running");
    // What a terminal does: the signal goes to the server and to whatever shares its process group.
    let server = server.interrupt_and_restart();
    let report = wait_for(&server, run, "running");
    assert!(report["error"].is_null(), "{report}");
    assert_eq!(server.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null).0, 202);
    wait_for(&server, run, "canceled");
}

#[test]
fn a_second_server_on_the_same_directory_is_refused() {
    let server = TestServer::empty();
    let output = twograin()
        .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
        .arg(server.data.path())
        .output()
        .expect("the program starts");
    let error = String::from_utf8_lossy(&output.stderr);
    let named = format!("another server at {} (process ", server.url);
    assert!(!output.status.success() && error.contains(&named), "{error}");
}

fn first_file(directory: &std::path::Path) -> std::path::PathBuf {
    std::fs::read_dir(directory).expect("images").next().expect("one").expect("readable").path()
}
