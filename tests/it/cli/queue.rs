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
