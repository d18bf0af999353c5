//! Several runs by one command.

use serde_json::{Value, json};

use super::{
    server::Server,
    talks::{SUBMIT, answers, run},
    twograin,
};

#[test]
fn several_seeds_and_a_grid_are_one_request() {
    let items = json!({"items": [{"existing": false, "run": run(7, "queued")}, {"existing": true, "run": run(3, "succeeded")}]});
    let server = Server::start(answers(&[(201, &items)]));
    let flags = ["--seeds", "0-1", "--grid", "learning-rate=0.1,0.01", "--force", "--server", &server.url];
    let done = twograin(&[&SUBMIT[..], &flags].concat());
    assert_eq!((done.code, done.err.as_str()), (Some(0), "1 run is new, 1 run was there already.\n"));
    assert!(done.out.contains("7  queued") && done.out.contains("3  succeeded"), "{}", done.out);
    let asked = server.asked();
    assert_eq!(asked[0].line, "POST /api/v1/sweeps");
    let expected = json!({"dataset": "demo", "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "epochs": 3,
        "grid": {"seed": [0, 1], "learning_rate": [0.1, 0.01]}, "force": true});
    assert_eq!(serde_json::from_str::<Value>(&asked[0].body).unwrap(), expected);
}

#[test]
fn what_has_no_default_is_asked_for() {
    for extra in [&[][..], &["--seeds", "0,1"]] {
        let done = twograin(&[&["run", "submit", "--dataset", "demo", "--objective", "coarse-only"], extra].concat());
        assert_eq!(done.code, Some(2));
        assert!(done.err.starts_with("error: --backbone is needed"), "{}", done.err);
    }
}
