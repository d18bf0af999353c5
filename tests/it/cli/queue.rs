//! The commands that arrange the queue.

use serde_json::{Value, json};

use super::{
    server::Server,
    talks::{answers, run},
    twograin,
};

#[test]
fn the_queue_is_shown_paused_and_resumed() {
    let state = |paused| json!({"paused": paused, "queued": 1, "running": 2});
    let server = Server::start(answers(&[(200, &state(false)), (200, &state(true)), (200, &state(false))]));
    let said = ["show", "pause", "resume"].map(|command| twograin(&["queue", command, "--server", &server.url]).out);
    assert_eq!(said[0], "The queue is open. 1 run waits, 2 running.\n");
    assert_eq!(
        said[1],
        "The queue is paused: nothing new starts until `twograin queue resume`. 1 run waits, 2 running.\n"
    );
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /api/v1/queue", "POST /api/v1/queue/pause", "POST /api/v1/queue/resume"]);
}

#[test]
fn runs_are_prioritized_retried_and_cloned() {
    let all = [(200, &run(7, "queued")), (202, &run(3, "queued")), (202, &run(4, "queued")), (201, &run(9, "queued"))];
    let server = Server::start(answers(&all));
    let ask = |args: &[&str]| {
        let done = twograin(&[&["run"], args, &["--server", &server.url]].concat());
        assert_eq!(done.code, Some(0), "{}", done.err);
        done.out
    };
    assert_eq!(ask(&["prioritize", "7", "-20"]), "Run 7 has priority -20, number 2 in the queue.\n");
    assert_eq!(ask(&["retry", "3", "4"]), "Run 3 is queued again.\nRun 4 is queued again.\n");
    assert!(ask(&["clone", "7", "--seed", "3", "--priority", "-1", "--force"]).starts_with("Run 9 “a run” is queued"));
    let asked = server.asked();
    let lines: Vec<&str> = asked.iter().map(|asked| asked.line.as_str()).collect();
    let expected =
        ["PATCH /api/v1/runs/7", "POST /api/v1/runs/3/retry", "POST /api/v1/runs/4/retry", "POST /api/v1/runs/7/clone"];
    assert_eq!(lines, expected);
    let body = |index: usize| serde_json::from_str::<Value>(&asked[index].body).unwrap();
    assert_eq!((body(0), body(3)), (json!({"priority": -20}), json!({"seed": 3, "priority": -1, "force": true})));
}

#[test]
fn sweeps_are_listed_shown_and_canceled() {
    let counts = json!({"queued": 1, "running": 1, "succeeded": 0, "failed": 0, "canceled": 0});
    let brief = json!({"id": 4, "name": "trial", "submitted_at": "2026-01-01T00:00:00Z", "counts": counts, "fraction": 0.25,
        "seconds_left": 61.0});
    let mut sweep = brief.clone();
    sweep["fields"] = json!(["clip_norm", "objective"]);
    sweep["runs"] = json!([
        {"differs": {"clip_norm": null, "objective": "coarse-only"}, "run": run(7, "running")},
        {"differs": {"clip_norm": 0.5, "objective": "coarse-only"}, "run": run(8, "queued")},
    ]);
    let list = json!({"items": [brief], "next_cursor": null});
    let server = Server::start(answers(&[(200, &list), (200, &sweep), (202, &sweep), (202, &sweep)]));
    let said = [&["list"][..], &["show", "4"], &["cancel", "4"], &["retry", "4", "--json"]]
        .map(|args| twograin(&[&["sweep"], args, &["--server", &server.url]].concat()).out);
    assert!(said[0].contains("1 queued, 1 running"), "{}", said[0]);
    for part in ["Sweep 4 “trial”: 1 queued, 1 running; 25% done, 1 min 1 s left", "–  coarse-only", "0.5  coarse-only"]
    {
        assert!(said[1].contains(part) && said[2].contains(part), "{part} is missing in {}", said[1]);
    }
    assert_eq!(said[3], format!("{sweep}\n"));
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    let expected = [
        "GET /api/v1/sweeps?limit=50",
        "GET /api/v1/sweeps/4",
        "POST /api/v1/sweeps/4/cancel",
        "POST /api/v1/sweeps/4/retry",
    ];
    assert_eq!(lines, expected);
}
