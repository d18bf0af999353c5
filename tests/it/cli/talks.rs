//! The commands that talk to a server.

use serde_json::{Value, json};

use super::{server::Server, twograin};

pub fn run(id: u32, status: &str) -> Value {
    let progress = (status == "running").then(|| {
        json!({"phase": "epoch 2 of 3", "fraction": 0.5, "loss": 1.25,
        "images_per_second": 310.4, "seconds_left": 61.0})
    });
    let figure = |value: Option<f64>| json!({"value": value, "low": value.map(|v| v - 0.1), "high": value.map(|v| v + 0.1), "spread": null});
    let results = (status == "succeeded").then(|| json!({"rule": "p > 0.7", "test_images": 2447, "coarse_correct": 1400,
        "counts": {"ftct": 1000, "ftcf": 0, "ffct": 400, "ffcf": 1047}, "figures": {"ia": figure(Some(0.40866)), "ip": figure(Some(1.0)),
        "ir": figure(Some(0.71429)), "if1": figure(None), "coarse_accuracy": figure(Some(0.57213)), "fine_exact_match": figure(Some(0.40866))}}));
    json!({"id": id, "name": "a run", "tags": ["t"], "status": status, "dataset": "demo", "drawn": true,
        "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "progress": progress,
        "ia": results.as_ref().map(|_| 0.40866), "coarse_accuracy": null, "error": (status == "failed").then_some("out of memory"),
        "submitted_at": "2026-01-01T00:00:00Z", "started_at": null, "finished_at": null,
        "note": "", "spec": {
            "dataset": "demo", "backbone": "resnet-tiny", "objective": "sigmoid-threshold",
            "focal_alpha": {"person": 0.5, "dog": 2}
        },
        "queue_position": (status == "queued").then_some(2), "seconds": null, "epochs": [], "log": [], "results": results})
}

pub fn answers(values: &[(u16, &Value)]) -> Vec<(u16, String)> {
    values.iter().map(|(status, value)| (*status, value.to_string())).collect()
}

pub const SUBMIT: [&str; 10] = [
    "run",
    "submit",
    "--dataset",
    "demo",
    "--backbone",
    "resnet-tiny",
    "--objective",
    "sigmoid-threshold",
    "--epochs",
    "3",
];

#[test]
fn no_server_is_said_plainly() {
    let url = Server::start(Vec::new()).url;
    for command in [&["run", "list"][..], &["run", "show", "1"], &SUBMIT[..]] {
        let done = twograin(&[command, &["--server", &url]].concat());
        let expected = format!(
            "error: no server answers at {url}; start one with `twograin serve`, or name another with --server\n"
        );
        assert_eq!((done.code, done.out.as_str(), done.err), (Some(1), "", expected));
    }
}

#[test]
fn a_submission_sends_what_was_given_and_nothing_else() {
    let server = Server::start(answers(&[(201, &run(7, "queued"))]));
    let url = server.url.clone();
    let done = twograin(&[&SUBMIT[..], &["--tag", "a", "--note", "n", "--server", &url]].concat());
    assert_eq!(done.out, format!("Run 7 “a run” is queued, number 2 in the queue: {url}/runs/7\n"), "{}", done.err);
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/v1/runs");
    let sent: Value = serde_json::from_str(&asked[0].body).unwrap();
    let expected = json!({"dataset": "demo", "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "epochs": 3,
        "tags": ["a"], "note": "n"});
    assert_eq!(sent, expected);
}

#[test]
fn a_run_that_was_there_already_is_named_and_force_makes_a_new_one() {
    let mut there = run(7, "succeeded");
    there["existing"] = true.into();
    let server = Server::start(answers(&[(200, &there), (201, &run(8, "queued"))]));
    let done = twograin(&[&SUBMIT[..], &["--server", &server.url]].concat());
    assert_eq!(done.err, "Run 7 was there already; --force makes a new one.\n");
    assert!(done.out.starts_with("Run 7 “a run” is succeeded: "), "{}", done.out);
    let forced = twograin(&[&SUBMIT[..], &["--force", "--server", &server.url]].concat());
    assert_eq!((forced.code, forced.err.as_str()), (Some(0), ""));
    let sent =
        server.asked().into_iter().map(|asked| serde_json::from_str::<Value>(&asked.body).unwrap()["force"].clone());
    assert_eq!(sent.collect::<Vec<_>>(), [Value::Null, true.into()]);
}

#[test]
fn json_is_the_servers_unchanged() {
    let odd = "{\"items\": [],\n  \"next_cursor\":null, \"more\": 1.50}";
    let server = Server::start(vec![(200, odd.to_owned())]);
    let done = twograin(&["run", "list", "--json", "--status", "failed", "--dataset", "a b", "--server", &server.url]);
    assert_eq!((done.code, done.out), (Some(0), format!("{odd}\n")), "{}", done.err);
    assert_eq!(server.asked()[0].line, "GET /api/v1/runs?dataset=a+b&status=failed&limit=50");
}

#[test]
fn a_run_is_shown_with_its_counts_and_undefined_figures() {
    let server = Server::start(answers(&[(200, &run(7, "succeeded"))]));
    let out = twograin(&["run", "show", "7", "--server", &format!("{}/", server.url)]).out;
    for part in [
        "demo (drawn, not photographed)",
        "FTCT 1,000",
        "FFCF 1,047",
        "IF1                   –  –",
        "p > 0.7",
        "input_size              224",
        "clip_norm               off",
        "focal_alpha             dog=2, person=0.5",
    ] {
        assert!(out.contains(part), "{part} is missing in\n{out}");
    }
    assert_eq!(server.asked()[0].line, "GET /api/v1/runs/7");
}

#[test]
fn two_runs_are_compared_and_labels_listed() {
    let side = |id| json!({"run": run(id, "succeeded"), "results": run(id, "succeeded")["results"]});
    let figure = |value: f64| json!({"value": value, "low": value - 0.1, "high": value + 0.1, "spread": null});
    let test = json!({"both": 900, "only_a": 30, "only_b": 10, "neither": 1507, "method": "chi-squared", "statistic": 9.025,
        "p": 0.00266});
    let none = json!({"value": null, "low": null, "high": null, "spread": null});
    let transitions = json!({"a": side(3), "b": side(7), "images": 2447, "resamples": 10000,
        "outcomes": [[900, 0, 30, 0], [0, 0, 0, 0], [10, 0, 1000, 7], [0, 0, 0, 500]],
        "differences": {"ia": figure(-0.008), "ip": none, "ir": figure(0.01), "if1": none, "coarse_accuracy": none,
            "fine_exact_match": none}, "ftct": test, "category": test});
    let means = json!({"average_precision": figure(0.5), "precision": 0.25, "recall": 0.75, "f1": null});
    let labels = json!({"run": run(7, "succeeded"), "rule": {"rule": "top-k", "k": 2}, "rule_words": "top-k, k = 2",
        "images": 2447, "resamples": 10000, "supported": 79, "never_predicted": 1, "macro_mean": means, "micro_mean": means,
        "labels": [{"name": "dog", "category": "animal", "support": 20, "predicted": 0, "correct": 0,
            "average_precision": figure(0.6), "precision": none, "recall": figure(0.125), "f1": 0.0}]});
    let server = Server::start(answers(&[(200, &transitions), (200, &labels)]));
    let compared = twograin(&["run", "compare", "3", "7", "--threshold", "0.5", "--server", &server.url]);
    for part in [
        "A: run 3 “a run”, decision rule: p > 0.7",
        "IA                0.409  0.409  -0.008  -0.108 – +0.092",
        "IP                1.000  1.000       –  –",
        "FFCT    10     0  1,000     7",
        "FTCT (tests IA)                          900       30       10    1,507  0.003  χ² = 9.025",
    ] {
        assert!(compared.out.contains(part), "{part} is missing in\n{}{}", compared.out, compared.err);
    }
    let listed = twograin(&["run", "labels", "7", "--sort", "-support", "--server", &server.url]);
    for part in [
        "decision rule: top-k, k = 2",
        "dog         animal            20  0.600  0.500 – 0.700          –   0.125  0.000",
    ] {
        assert!(listed.out.contains(part), "{part} is missing in\n{}{}", listed.out, listed.err);
    }
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["GET /api/v1/transitions?a=3&b=7&threshold=0.5", "GET /api/v1/runs/7/labels?sort=-support"]);
}

#[test]
fn problem_documents_and_strange_servers_are_told_apart() {
    let problem = json!({"type": "about:blank", "title": "Not found", "status": 404, "detail": "there is no run 9"});
    let server = Server::start(vec![(404, problem.to_string()), (502, "<html>".into()), (200, "{}".into())]);
    let mut errors = Vec::new();
    for args in [["run", "delete", "9"], ["run", "cancel", "9"], ["run", "show", "9"]] {
        let done = twograin(&[&args[..], &["--server", &server.url]].concat());
        assert_eq!(done.code, Some(1));
        errors.push(done.err);
    }
    assert_eq!(errors[0], "error: Not found: there is no run 9\n");
    assert!(errors[1].contains("answered 502 Bad Gateway, and not in the way of a Twograin server"), "{}", errors[1]);
    assert!(errors[2].contains("is it of another version?"), "{}", errors[2]);
    let lines: Vec<String> = server.asked().into_iter().map(|asked| asked.line).collect();
    assert_eq!(lines, ["DELETE /api/v1/runs/9", "POST /api/v1/runs/9/cancel", "GET /api/v1/runs/9"]);
}

#[test]
fn a_deletion_without_a_body_is_acknowledged() {
    let server = Server::start(vec![(200, String::new())]);
    let done = twograin(&["run", "delete", "9", "--server", &server.url]);
    assert_eq!((done.code, done.out.as_str()), (Some(0), "Run 9 is deleted.\n"), "{}", done.err);
}

#[test]
fn photographs_are_uploaded_one_by_one_and_a_bad_one_is_named() {
    let decision = json!({"run": run(3, "succeeded"), "rule": {"rule": "top-k", "k": 2}, "rule_words": "top 2",
        "category": "animal", "runner_up": "food", "sentence": "animal, because of dog 0.93 (+4.1)",
        "fine": [{"name": "dog", "parent": "animal", "logit": 2.0, "probability": 0.93, "taken": true, "contribution": 4.1,
            "runner_up_contribution": -1.0, "contributions": []}],
        "rest_contribution": 0.25, "coarse": [{"name": "animal", "logit": 4.5, "bias": 0.15, "probability": 0.99}]});
    let prediction = json!({"name": "dog.jpg", "width": 2, "height": 2, "decisions": [decision]});
    let listing = json!({"items": [prediction], "next_cursor": null});
    let directory = tempfile::tempdir().unwrap();
    let image = directory.path().join("dog.jpg");
    std::fs::write(&image, "pixels").unwrap();
    let server = Server::start(answers(&[(200, &listing), (422, &json!({"title": "Not an image"}))]));
    let (image, missing) = (image.to_str().unwrap(), directory.path().join("cat.jpg"));
    let args = ["predict", image, missing.to_str().unwrap(), image, "--run", "3", "--k", "2", "--server", &server.url];
    let done = twograin(&args);
    assert_eq!(done.code, Some(1));
    assert!(done.out.contains("animal, because of dog 0.93 (+4.1)\n  decision rule: top 2"), "{}", done.out);
    assert!(done.out.contains("yes    dog         animal          0.930     +4.100   -1.000"), "{}", done.out);
    assert!(done.err.contains("cat.jpg: ") && done.err.contains("dog.jpg: Not an image"), "{}", done.err);
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/v1/predictions?run=3&k=2");
    assert!(asked[0].body.contains("name=\"image\"; filename=\"dog.jpg\"") && asked[0].body.contains("pixels"));
}
