//! Synthetic data: what is made, that pages and API show it as what it is, and that a list of runs follows every change.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use reqwest::blocking::Client;
use serde_json::{Value, json};
use twograin::{
    benchmark::synthetic::NOTE,
    report::{Reports, RunQuery},
    store::{Store, StoreConfig},
};

use crate::support::{TestServer, quick, twograin};

/// Runs `twograin bench populate`, which must work, and returns what it says.
fn populate(data: &Path, flags: &[&str]) -> String {
    let output =
        twograin().args(["bench", "populate", "--data-dir"]).arg(data).args(flags).output().expect("it starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn populated(flags: &[&str]) -> TestServer {
    let data = tempfile::tempdir().expect("a temporary directory");
    populate(data.path(), flags);
    TestServer::start(data)
}

/// Every file below a directory by its path there.
fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            found.extend(files(&path).into_iter().map(|(below, bytes)| (format!("{name}/{below}"), bytes)));
        } else {
            found.insert(name, fs::read(&path).expect("a file"));
        }
    }
    found
}

fn items(server: &TestServer, path: &str) -> Vec<Value> {
    let (status, list) = server.get(path);
    assert_eq!(status, 200, "{path}: {list}");
    list["items"].as_array().expect("items").clone()
}

#[test]
fn the_same_numbers_make_the_same_bytes_and_more_runs_are_added() {
    let once = tempfile::tempdir().unwrap();
    let says = populate(once.path(), &["--images", "60", "--runs", "7"]);
    assert!(says.contains("“synthetic-60” has 7 runs, 7 of them new"), "{says}");
    let twice = tempfile::tempdir().unwrap();
    populate(twice.path(), &["--images", "60", "--runs", "3"]);
    let says = populate(twice.path(), &["--images", "60", "--runs", "7"]);
    assert!(says.contains("7 runs, 4 of them new"), "{says}");
    let says = populate(twice.path(), &["--images", "60", "--runs", "5"]);
    assert!(says.contains("7 runs, 0 of them new"), "{says}");

    let scores = files(&once.path().join("runs"));
    assert_eq!(scores.len(), 14, "{:?}", scores.keys());
    assert!(scores == files(&twice.path().join("runs")), "the scores differ");
    let [once, twice] = [once, twice].map(TestServer::start);
    for path in
        ["/api/v1/runs", "/api/v1/runs/2/outcomes", "/api/v1/datasets/synthetic-60", "/api/v1/curves?run=1&run=2"]
    {
        assert_eq!(once.get(path), twice.get(path), "{path}");
    }

    // A server that runs would not hear of new runs' files.
    let output = twograin()
        .args(["bench", "populate", "--images", "60", "--runs", "9", "--data-dir"])
        .arg(once.data.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("another server at http://127.0.0.1:"), "{error}");
}

/// Pages and the API's answers beside them. Run 1 is coarse-only, 2 takes the top k, 3 goes by a threshold.
fn addresses() -> Vec<String> {
    let mut all: Vec<String> =
        ["/", "/runs", "/runs/new", "/sweeps", "/datasets", "/predict", "/api", "/api/v1/runs", "/api/v1/disk"]
            .map(String::from)
            .into();
    for prefix in ["", "/api/v1"] {
        for path in
            ["/datasets/synthetic-80", "/datasets/synthetic-80/images", "/curves?run=1&run=2", "/runs/1", "/runs/2"]
        {
            all.push(format!("{prefix}{path}"));
        }
        all.extend([1, 2, 3].map(|run| format!("{prefix}/transitions?a=5&b={run}")));
    }
    all.push("/api/v1/comparisons".into());
    all.push("/api/v1/runs/3/indices".into());
    all
}

/// The same, of what is computed from scores.
fn addresses_of_scores(server: &TestServer) -> Vec<String> {
    let image = &items(server, "/api/v1/datasets/synthetic-80/images?limit=1")[0]["image"];
    let mut all = vec!["/api/v1/runs/3/indices?rule=top-k".into(), "/transitions?a=2&b=3&rule_a=threshold".into()];
    for run in [1, 2, 3] {
        for list in [format!("/runs/{run}/images"), format!("/api/v1/runs/{run}/outcomes")] {
            all.extend(["?sort=-loss", "?correct=false", "?split=validation"].map(|query| format!("{list}{query}")));
            all.push(format!("{list}/{image}"));
        }
    }
    for prefix in ["", "/api/v1"] {
        for path in ["labels", "labels/dog", "categories", "categories/animal", "bottleneck"] {
            all.extend([2, 3].map(|run| format!("{prefix}/runs/{run}/{path}")));
        }
    }
    all
}

fn status_and_text(server: &TestServer, path: &str) -> (u16, String) {
    let response = reqwest::blocking::get(format!("{}{path}", server.url)).expect("an answer");
    (response.status().as_u16(), response.text().expect("text"))
}

#[test]
fn every_page_shows_synthetic_runs_and_says_that_they_are() {
    let server = populated(&["--images", "80", "--runs", "18"]);
    for path in addresses().into_iter().chain(addresses_of_scores(&server)) {
        let (status, text) = status_and_text(&server, &path);
        assert_eq!(status, 200, "{path}: {text}");
    }
    for run in items(&server, "/api/v1/runs") {
        let id = &run["id"];
        assert_eq!((&run["tags"], &run["dataset"]), (&json!(["synthetic"]), &json!("synthetic-80")));
        assert!(run["name"].as_str().unwrap().starts_with("synthetic "), "{run}");
        let (_, report) = server.get(&format!("/api/v1/runs/{id}"));
        assert_eq!(report["note"], NOTE);
        assert_eq!(report["attempts"][0]["exit"], "succeeded");
        assert_eq!(report["epochs"].as_array().unwrap().len(), report["spec"]["epochs"]);
        assert_eq!(report["kept_epoch"], report["spec"]["epochs"]);
        // What is counted image by image, from the scores, is what was recorded.
        let count = |query: &str| server.get(&format!("/api/v1/runs/{id}/outcomes?limit=1{query}")).1;
        assert_eq!((&count("")["total"], &count("")["counts"]), (&json!(80), &report["results"]["counts"]));
        assert_eq!(count("&correct=true")["total"], report["results"]["coarse_correct"]);
        assert_eq!(count("&split=validation")["total"], 50);
        // The files are where they count.
        let directory = server.data.path().join(format!("runs/{id}"));
        let bytes: usize = files(&directory).values().map(Vec::len).sum();
        assert_eq!(
            (run["disk_bytes"].as_u64(), report["disk_bytes"].as_u64()),
            (Some(bytes as u64), Some(bytes as u64))
        );
    }
    let page = server.page("/runs/2");
    assert!(
        page.contains("Nothing was trained") && page.contains("bench populate"),
        "the note is not on the run's page"
    );
    assert!(server.page("/runs").contains("<span class=\"tag\">synthetic</span>"));

    let part = reqwest::blocking::multipart::Part::bytes(b"x".to_vec()).file_name("x.jpg");
    let form = reqwest::blocking::multipart::Form::new().part("image", part);
    let request = Client::new().post(format!("{}/api/v1/predictions?run=2", server.url)).multipart(form);
    let (status, problem) = server.send(request);
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().starts_with("run 2 has no weights: it is synthetic"), "{problem}");
    // A picture that is not there is one that says so; who follows a link is told in words.
    let image = &items(&server, "/api/v1/datasets/synthetic-80/images?limit=1")[0]["image"];
    for path in [format!("/images/{image}"), format!("/images/{image}/thumbnail")] {
        let get = || Client::new().get(format!("{}{path}", server.url));
        let picture = get().header("accept", "image/webp,image/*,*/*;q=0.8").send().unwrap();
        assert_eq!(
            (picture.status().as_u16(), &picture.headers()["content-type"]),
            (404, &"image/svg+xml".parse().unwrap())
        );
        assert!(get().send().unwrap().text().unwrap().contains("labels only"), "{path}");
    }
}

#[test]
fn without_scores_there_are_outcomes_and_the_rest_says_why_it_is_not_there() {
    let server = populated(&["--images", "80", "--runs", "18", "--without-scores"]);
    assert!(!server.data.path().join("runs").exists());
    for path in &addresses() {
        let (status, text) = status_and_text(&server, path);
        assert_eq!(status, 200, "{path}: {text}");
    }
    for path in addresses_of_scores(&server) {
        let (status, text) = status_and_text(&server, &path);
        assert_eq!(status, 409, "{path}: {text}");
        let says = "images: it is synthetic, and was recorded without them: `twograin bench populate` makes";
        assert!(text.contains(says), "{path}: {text}");
    }
}

/// `GET` of a list with the tag of the answer that one has: status, tag, items.
fn since(server: &TestServer, tag: Option<&str>) -> (u16, Option<String>, Vec<Value>) {
    let request = Client::new().get(format!("{}/api/v1/runs?limit=100", server.url));
    let request = match tag {
        Some(tag) => request.header("if-none-match", tag),
        None => request,
    };
    let response = request.send().expect("an answer");
    let tag = response.headers().get("etag").map(|tag| tag.to_str().expect("text").to_owned());
    let status = response.status().as_u16();
    let text = response.text().expect("text");
    let list: Value = if text.is_empty() { json!({"items": []}) } else { serde_json::from_str(&text).expect("JSON") };
    (status, tag, list["items"].as_array().expect("items").clone())
}

/// The newest run as the list has it, which must be as the run's own report has it.
fn newest(server: &TestServer) -> Value {
    for _ in 0..50 {
        let (_, _, list) = since(server, None);
        let (_, report) = server.get(&format!("/api/v1/runs/{}", list[0]["id"]));
        let same = list[0].as_object().unwrap().iter().all(|(key, value)| report[key] == *value);
        if same {
            return list[0].clone();
        }
        // It may have changed between the two.
        std::thread::sleep(Duration::from_millis(20));
    }
    panic!("the list does not follow");
}

#[test]
fn a_list_of_runs_follows_every_change() {
    let server = TestServer::with_scenes();
    let post = |path: &str| assert!(server.post(path, &Value::Null).0 < 300, "{path}");
    let (status, mut tag, list) = since(&server, None);
    assert_eq!((status, list.len()), (200, 0));
    // Whoever has the answer is told that he has, until something changes.
    let mut changes = |what: &str| {
        let (status, next, _) = since(&server, tag.as_deref());
        assert_eq!(status, 200, "{what}");
        let (status, _, list) = since(&server, next.as_deref());
        assert_eq!((status, list.len()), (304, 0), "{what}");
        tag = next;
    };
    post("/api/v1/queue/pause");
    let run = server.submit(&quick(json!({"epochs": 30})));
    changes("submitted");
    assert_eq!((&newest(&server)["id"], &newest(&server)["status"]), (&json!(run), &json!("queued")));
    let patch = Client::new().patch(format!("{}/api/v1/runs/{run}", server.url)).json(&json!({"priority": 7}));
    assert_eq!(server.send(patch).0, 200);
    changes("priority");
    assert_eq!(newest(&server)["priority"], 7);
    post(&format!("/api/v1/runs/{run}/cancel"));
    changes("canceled");
    assert_eq!(newest(&server)["status"], "canceled");
    post(&format!("/api/v1/runs/{run}/retry"));
    changes("retried");
    assert_eq!(newest(&server)["status"], "queued");

    post("/api/v1/queue/resume");
    let mut phases = Vec::new();
    while newest(&server)["status"] != "succeeded" {
        let (_, tag, list) = since(&server, None);
        assert!(list[0]["status"] != "running" || tag.is_none(), "its files grow without a revision");
        let (_, comparison) = server.get("/api/v1/comparisons");
        if comparison["pending"][0]["progress"].is_object() {
            phases.push(list[0]["progress"]["phase"].to_string());
        }
        phases.dedup();
    }
    assert!(phases.len() >= 2, "{phases:?}");
    assert!(newest(&server)["ia"].is_f64());
    let (_, comparison) = server.get("/api/v1/comparisons");
    assert_eq!((&comparison["pending"], &comparison["rows"][0]["cells"][0]["runs"]), (&json!([]), &json!([run])));
    // Once its files are measured, nothing changes any more.
    while since(&server, tag.as_deref()).1 != since(&server, None).1 {
        tag = since(&server, None).1;
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(newest(&server)["disk_bytes"].as_u64() > Some(100_000));
    let delete = Client::new().delete(format!("{}/api/v1/runs/{run}", server.url));
    assert_eq!(server.send(delete).0, 204);
    let (status, _, list) = since(&server, tag.as_deref());
    assert_eq!((status, list.len()), (200, 0));
    assert!(server.page("/runs").contains("No run yet"));
}

#[tokio::test]
async fn a_list_is_read_anew_where_deletions_are_forgotten_or_the_database_is_another_one() {
    let directory = tempfile::tempdir().unwrap();
    populate(directory.path(), &["--images", "10", "--runs", "3", "--without-scores"]);
    let config = StoreConfig { data_dir: directory.path().into(), database: None };
    let store = Store::open(&config).await.unwrap();
    let reports = Reports::new(store.clone());
    let ids = async || {
        let list = reports.runs(&RunQuery::default()).await.unwrap();
        list.items.into_iter().map(|run| run.id.0).collect::<Vec<_>>()
    };
    assert_eq!(ids().await, [3, 2, 1]);
    let pool =
        sqlx::SqlitePool::connect(&format!("sqlite://{}/twograin.db", directory.path().display())).await.unwrap();
    let by_hand = async |sql: &'static str| {
        sqlx::query(sql).execute(&pool).await.unwrap();
    };
    by_hand("delete from run where id = 2").await;
    by_hand("delete from deleted_run").await;
    by_hand("update revision set forgotten = value").await;
    assert_eq!(ids().await, [3, 1]);
    by_hand("delete from run where id = 1").await;
    by_hand("drop trigger run_is_deleted").await;
    by_hand("delete from run").await;
    by_hand("update revision set database = 'other'").await;
    assert!(ids().await.is_empty());
    assert_eq!(store.next_run().await.unwrap().0, 4, "numbers are not given twice");
}
