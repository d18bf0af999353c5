//! The queue as its users arrange it: priority, pause, retry, clone; by API and page.

use std::time::{Duration, Instant};

use reqwest::blocking::Client;
use scraper::{Html, Selector};
use serde_json::{Value, json};

use crate::support::{TestServer, quick};

/// A server whose queue is paused, so that runs stay where they are put.
fn paused() -> TestServer {
    let server = TestServer::with_scenes();
    assert_eq!(server.post("/api/v1/queue/pause", &Value::Null).1["paused"], true);
    server
}

fn run(server: &TestServer, run: i64) -> Value {
    server.get(&format!("/api/v1/runs/{run}")).1
}

fn patch(server: &TestServer, run: i64, body: &Value) -> (u16, Value) {
    server.send(Client::new().patch(format!("{}/api/v1/runs/{run}", server.url)).json(body))
}

/// Sends a page's form, and returns the page that it leads to.
fn press(server: &TestServer, path: &str, fields: &str) -> Html {
    let request = Client::new().post(format!("{}{path}", server.url)).body(fields.to_owned());
    let response = request.header("content-type", "application/x-www-form-urlencoded").send().expect("an answer");
    assert_eq!(response.status(), 200, "{path}");
    Html::parse_document(&response.text().expect("text"))
}

fn has(page: &Html, selector: &str) -> bool {
    page.select(&Selector::parse(selector).expect("a selector")).next().is_some()
}

#[test]
fn a_paused_queue_starts_nothing_until_it_is_resumed_and_then_what_has_the_higher_priority() {
    let server = paused();
    let [first, second] = [0, 1].map(|seed| server.submit(&quick(json!({"seed": seed, "priority": 3}))));
    let third = server.submit(&quick(json!({"seed": 2})));
    let (status, changed) = patch(&server, third, &json!({"priority": 4}));
    assert_eq!((status, &changed["priority"], &changed["queue_position"]), (200, &json!(4), &json!(1)));
    for body in [json!({"priority": 101}), json!({"name": "n"}), json!({})] {
        assert_eq!(patch(&server, third, &body).0, 422);
    }
    assert_eq!(patch(&server, 99, &json!({"priority": 1})).0, 404);
    press(&server, &format!("/runs/{second}/priority"), "priority=-5");
    assert_eq!(run(&server, second)["priority"], -5);

    let server = server.crash_and_restart();
    assert_eq!(server.get("/api/v1/queue").1, json!({"paused": true, "queued": 3, "running": 0}));
    let page = Html::parse_document(&server.page("/runs"));
    assert!(has(&page, "#queue #resume") && !has(&page, "#queue #pause"));
    let page = press(&server, "/queue/resume", "");
    assert!(has(&page, "#queue #pause") && !has(&page, "#queue .notice"));
    let started = [third, first, second].map(|run| server.wait(run)["started_at"].as_str().unwrap().to_owned());
    assert!(started.is_sorted(), "{started:?}");
    assert_eq!(patch(&server, first, &json!({"priority": 1})).0, 409);
    assert!(has(&press(&server, "/queue/pause", ""), "#queue .notice"));
}

#[test]
fn a_retried_run_goes_on_from_its_checkpoint() {
    let server = TestServer::with_scenes();
    let id = server.submit(&quick(json!({"epochs": 10_000})));
    let training = || run(&server, id)["progress"]["loss"].is_number();
    let start = Instant::now();
    while !training() {
        assert!(start.elapsed() < Duration::from_secs(60), "it does not train");
        std::thread::sleep(Duration::from_millis(50));
    }
    let cancel = || server.post(&format!("/api/v1/runs/{id}/cancel"), &Value::Null).0;
    let retry = || server.post(&format!("/api/v1/runs/{id}/retry"), &Value::Null);
    assert_eq!(retry().0, 409);
    assert_eq!(cancel(), 202);
    assert_eq!(server.wait(id)["status"], "canceled");
    assert!(has(&Html::parse_document(&server.page(&format!("/runs/{id}"))), "#retry"));
    let (status, queued) = retry();
    assert!(status == 202 && queued["finished_at"].is_null() && queued["error"].is_null(), "{status} {queued}");
    while !run(&server, id)["log"].to_string().contains("goes on from ") {
        assert!(start.elapsed() < Duration::from_secs(60), "it begins anew: {}", run(&server, id));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(cancel(), 202);
    assert_eq!(server.wait(id)["status"], "canceled");
    assert_eq!(server.get("/api/v1/runs/1").1["id"], id, "it is the same run");
}

#[test]
fn a_clone_changes_what_it_is_told_and_an_unchanged_one_is_a_repeat() {
    let server = paused();
    let original = server.submit(&quick(json!({"tags": ["a"], "note": "n", "clip_norm": 1.0, "priority": 2})));
    let clone = |run: i64, body: Value| server.post(&format!("/api/v1/runs/{run}/clone"), &body);
    let (status, repeat) = clone(original, json!({}));
    assert_eq!((status, &repeat["existing"], &repeat["id"]), (201, &json!(false), &json!(2)));
    for field in ["spec", "tags", "note", "priority", "name"] {
        assert_eq!(repeat[field], run(&server, original)[field], "{field}");
    }
    let (status, changed) = clone(original, json!({"seed": 5, "clip_norm": null, "name": "mine"}));
    assert_eq!((status, &changed["spec"]["seed"], &changed["spec"]["clip_norm"]), (201, &json!(5), &Value::Null));
    // A name of its own is kept, one that was made is made again.
    assert_eq!(clone(3, json!({"seed": 6})).1["name"], "mine");
    assert_eq!(clone(original, json!({"seed": 7})).1["name"], "resnet-tiny sigmoid-threshold seed 7");
    // What is there already answers, unless it is forced.
    let (status, there) = clone(original, json!({"seed": 7}));
    assert_eq!((status, &there["existing"], &there["id"]), (200, &json!(true), &json!(5)));
    assert_eq!(clone(original, json!({"seed": 7, "force": true})).1["id"], 6);
    assert_eq!(clone(99, json!({})).0, 404);
    let (status, problem) = clone(original, json!({"epoch": 1}));
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("unknown field `epoch`"), "{problem}");
}

#[test]
fn a_sweep_is_shown_as_a_group_canceled_and_retried_whole() {
    let server = paused();
    let grid = json!({"objective": ["coarse-only", "sigmoid-threshold"], "seed": [0, 1]});
    let (status, made) = server.post("/api/v1/sweeps", &quick(json!({"grid": grid, "name": "trial"})));
    assert_eq!((status, &made["id"], made["items"].as_array().unwrap().len()), (201, &json!(1), 4));
    assert_eq!(server.post("/api/v1/sweeps", &quick(json!({}))).1["id"], Value::Null, "a single run is no sweep");
    let (_, sweep) = server.get("/api/v1/sweeps/1");
    assert_eq!((&sweep["name"], &sweep["fields"]), (&json!("trial"), &json!(["objective", "seed"])));
    assert_eq!(sweep["runs"][3]["differs"], json!({"objective": "sigmoid-threshold", "seed": 1}));
    assert_eq!(
        (&sweep["counts"]["queued"], &sweep["fraction"], &sweep["seconds_left"]),
        (&json!(4), &json!(0.0), &Value::Null)
    );
    assert_eq!(server.get("/api/v1/sweeps").1["items"][0]["counts"], sweep["counts"]);
    assert_eq!(run(&server, 2)["sweeps"], json!([{"id": 1, "name": "trial"}]));

    assert_eq!(server.post("/api/v1/sweeps/1/retry", &Value::Null).0, 409);
    let page = press(&server, "/sweeps/1/cancel", "");
    assert!(has(&page, "#retry") && !has(&page, "#cancel"));
    let (status, problem) = server.post("/api/v1/sweeps/1/cancel", &Value::Null);
    assert!(status == 409 && problem["detail"] == "no run of sweep 1 is queued or running", "{problem}");
    let (status, retried) = server.post("/api/v1/sweeps/1/retry", &Value::Null);
    assert_eq!((status, &retried["counts"]["queued"]), (202, &json!(4)));
    server.post("/api/v1/queue/resume", &Value::Null);
    for run in 1..=4 {
        assert_eq!(server.wait(run)["status"], "succeeded");
    }
    let (_, sweep) = server.get("/api/v1/sweeps/1");
    assert_eq!(
        (&sweep["counts"]["succeeded"], &sweep["fraction"], &sweep["fields"]),
        (&json!(4), &json!(1.0), &json!(["objective", "seed"]))
    );
    let member = &sweep["runs"][2]["run"];
    assert!(member["ia"].is_number() && member["coarse_accuracy"].is_number(), "{member}");
    for path in ["/api/v1/sweeps/9", "/api/v1/sweeps/9/cancel"] {
        let (status, _) = if path.ends_with("cancel") { server.post(path, &Value::Null) } else { server.get(path) };
        assert_eq!(status, 404, "{path}");
    }
}
