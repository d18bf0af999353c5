//! Waiting for runs: it lives on events, and outlives the server.

use std::{process::Stdio, time::Duration};

use serde_json::{Value, json};

use super::{
    done,
    server::{Asked, Server},
    talks::{SUBMIT, run},
    twograin,
};
use crate::support::{self, TestServer};

/// A stream that tells these runs, from an id on, and is cut.
fn stream(first: u32, runs: &[Value]) -> (u16, String) {
    let events = runs.iter().zip(first + 1..).map(|(run, id)| format!("event: run\ndata: {run}\nid: db-{id}\n\n"));
    (200, format!("id: db-{first}\n\n:\n\n{}", events.collect::<String>()))
}

fn answer(run: &Value) -> (u16, String) {
    (200, run.to_string())
}

fn lines(asked: &[Asked]) -> Vec<(&str, Option<&str>)> {
    asked.iter().map(|asked| (asked.line.as_str(), asked.heard.as_deref())).collect()
}

const PROGRESS: &str = "epoch 2 of 3, 50%, loss 1.250, 310 images/s, 1 min 1 s left";

#[test]
fn waiting_shows_a_line_for_each_phase_and_ends_as_the_run_does() {
    for (end, code, said) in [
        ("succeeded", 0, "IA                0.409  0.309 – 0.509"),
        ("failed", 1, "out of memory"),
        ("canceled", 1, "canceled"),
    ] {
        let end = run(7, end);
        let told = [run(8, "running"), run(7, "queued"), run(7, "running"), run(7, "running"), end.clone()];
        let queued = answer(&run(7, "queued"));
        let server = Server::start(vec![queued.clone(), stream(1, &told), queued, answer(&end)]);
        let done = twograin(&[&SUBMIT[..], &["--wait", "--server", &server.url]].concat());
        assert_eq!(done.code, Some(code), "{}", done.err);
        assert_eq!(done.err, format!("run 7: queued, number 2\nrun 7: {PROGRESS}\n"));
        assert!(done.out.contains(said), "{}", done.out);
        let asked = server.asked();
        let look = ("GET /api/v1/runs/7", None);
        assert_eq!(lines(&asked)[1..], [("GET /api/v1/runs/7/events", None), look, look]);
    }
}

#[test]
fn a_stream_that_is_cut_is_gone_on_from_and_what_cannot_be_told_is_looked_up() {
    let (running, end) = (run(7, "running"), run(7, "succeeded"));
    // Cut off within an event, which therefore does not count.
    let (status, cut) = stream(4, &[running.clone(), end.clone()]);
    let cut = (status, cut[..cut.len() - 20].to_owned());
    let missed = (200, "event: missed\ndata: null\nid: other-9\n\n".to_owned());
    let looked = answer(&running);
    let answers = vec![
        looked.clone(),
        cut,
        looked.clone(),
        missed,
        looked.clone(),
        stream(9, std::slice::from_ref(&end)),
        answer(&end),
    ];
    let server = Server::start([answers, vec![]].concat());
    let done = twograin(&["run", "wait", "7", "--json", "--server", &server.url]);
    assert_eq!((done.code, done.err), (Some(0), format!("run 7: {PROGRESS}\n")));
    assert_eq!(serde_json::from_str::<Value>(&done.out).unwrap(), end);
    let asked = server.asked();
    let (look, events) = ("GET /api/v1/runs/7", "GET /api/v1/runs/7/events");
    let expected = [
        (look, None),
        (events, None),
        (look, None),
        (events, Some("db-5")),
        (look, None),
        (events, Some("other-9")),
        (look, None),
    ];
    assert_eq!(lines(&asked), expected);
}

#[test]
fn several_runs_are_followed_at_once_and_one_that_fails_fails_the_command() {
    for (end, code) in [("succeeded", 0), ("failed", 1)] {
        let item = |id, status| json!({"existing": false, "run": run(id, status)});
        let items = json!({"items": [item(7, "queued"), item(8, "queued")]});
        let told = [run(8, "running"), run(7, "running"), run(8, "succeeded"), run(9, "failed"), run(7, end)];
        let server = Server::start(vec![
            answer(&items),
            stream(1, &told),
            answer(&run(7, "queued")),
            answer(&run(8, "queued")),
            answer(&run(8, "succeeded")),
            answer(&run(7, end)),
        ]);
        let done = twograin(&[&SUBMIT[..], &["--seeds", "0,1", "--wait", "--json", "--server", &server.url]].concat());
        assert_eq!(done.code, Some(code), "{}", done.err);
        let why = if code == 1 { ": out of memory" } else { "" };
        let expected = format!(
            "run 7: queued, number 2\nrun 8: queued, number 2\nrun 8: {PROGRESS}\nrun 7: {PROGRESS}\n\
             run 8: succeeded (1 of 2)\nrun 7: {end} (2 of 2){why}\n"
        );
        assert_eq!(done.err, expected);
        let out: Value = serde_json::from_str(&done.out).unwrap();
        let status = |item: usize| out["items"][item]["run"]["status"].clone();
        assert_eq!((status(0), status(1)), (json!(end), json!("succeeded")));
        assert_eq!(server.asked()[1].line, "GET /api/v1/events");
    }
}

#[test]
fn a_run_that_is_not_there_or_deleted_meanwhile_is_said_at_once() {
    let missing = json!({"title": "Not found", "detail": "there is no run 7"});
    let server = Server::start(vec![(404, missing.to_string())]);
    let done = twograin(&["run", "wait", "7", "--server", &server.url]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), "error: Not found: there is no run 7\n"));
    let (queued, deleted) = (answer(&run(7, "queued")), (200, "event: deleted\ndata: 7\nid: db-2\n\n".to_owned()));
    let server = Server::start(vec![queued.clone(), deleted, queued]);
    let done = twograin(&["run", "wait", "7", "--server", &server.url]);
    assert_eq!((done.code, done.err.as_str()), (Some(1), "run 7: queued, number 2\nerror: run 7 was deleted\n"));
    let url = Server::start(Vec::new()).url;
    assert_eq!(twograin(&["run", "wait", "7", "--server", &url]).code, Some(1));
}

#[test]
fn runs_are_waited_for_through_a_crash_of_the_server() {
    let server = TestServer::with_scenes();
    let body = |seed: u64, epochs: u32| {
        json!({"dataset": "scenes", "backbone": "resnet-tiny", "objective": "coarse-only", "input_size": 32,
            "batch_size": 16, "epochs": epochs, "seed": seed})
    };
    let ids = [server.submit(&body(1, 60)), server.submit(&body(2, 2))].map(|id| id.to_string());
    let mut command = support::twograin();
    command.args(["run", "wait", &ids[0], &ids[1], "--json", "--server", &server.url]);
    let waiting = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while server.get(&format!("/api/v1/runs/{}", ids[0])).1["progress"]["loss"].is_null() {
        std::thread::sleep(Duration::from_millis(50));
    }
    let server = server.crash_and_return(Duration::from_secs(2));
    let done = done(waiting.wait_with_output());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let out: Value = serde_json::from_str(&done.out).unwrap();
    for (item, id) in out["items"].as_array().unwrap().iter().zip(&ids) {
        assert_eq!((item["id"].to_string(), &item["status"]), (id.clone(), &json!("succeeded")));
        assert_eq!(server.get(&format!("/api/v1/runs/{id}")).1["status"], "succeeded");
    }
    let said: Vec<&str> = done.err.lines().collect();
    for (line, times) in [("the server does not answer; waiting for it", 1), ("the server answers again", 1)] {
        assert_eq!(said.iter().filter(|said| **said == line).count(), times, "{}", done.err);
    }
    assert!(done.err.contains(&format!("run {}: succeeded (1 of 2)\n", ids[0])), "{}", done.err);
    assert!(done.err.ends_with(&format!("run {}: succeeded (2 of 2)\n", ids[1])), "{}", done.err);
}
