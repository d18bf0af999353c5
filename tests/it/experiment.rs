//! `twograin experiment`, with a server and a small data set.

use candle_core::{DType, Device};
use serde_json::{Value, json};
use twograin::{
    domain::spec::Backbone,
    model::{Network, Parameters},
};

use crate::support::{TestServer, twograin};

/// Exit code, standard output, standard error.
fn paper(server: &TestServer, extra: &[&str]) -> (Option<i32>, String, String) {
    experiment(server, &[&["paper", "--weights", "random"], extra].concat())
}

fn experiment(server: &TestServer, extra: &[&str]) -> (Option<i32>, String, String) {
    let mut command = twograin();
    command.args(["experiment", extra[0], "--dataset", "scenes", "--server", &server.url]);
    let extra = &extra[1..];
    command.args(["--input-size", "32", "--epochs", "1", "--batch-size", "16"]).args(extra);
    let output = command.output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const BACKBONES: [&str; 2] = ["--backbones", "vgg-tiny,resnet34,densenet-tiny"];

#[test]
fn the_papers_experiment_is_made_and_goes_on_from_what_is_there() {
    let server = TestServer::with_scenes();
    let (code, out, said) = paper(&server, &["--backbones", "resnet34", "--yes", "--wait", "--json"]);
    assert_eq!(code, Some(0), "{said}");
    let out: Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error} in {out}"));
    let items = out["items"].as_array().unwrap();
    assert!(items.len() == 3 && items.iter().all(|item| item["run"]["status"] == "succeeded"), "{out}");
    assert_eq!(out["results"]["rows"][0]["coarse_only"]["runs"], json!([1]));
    assert_eq!(
        (&out["estimate"]["backbones"][0]["runs"], &out["results"]["paper"][0]["objective"]),
        (&json!(3), &json!("coarse-only"))
    );
    assert!(out["estimate"]["seconds"].as_f64().unwrap() > 0.0);

    let (code, out, said) = paper(&server, &[&BACKBONES[..], &["--yes", "--wait"]].concat());
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("6 runs are new, 3 runs were there already.") && said.contains("Estimate"), "{said}");
    assert!(!said.contains("measuring resnet34"), "{said}");
    assert_eq!(out.matches("run ").count(), 9, "{out}");
    assert!(out.contains(&format!("The comparison: {}/?dataset=scenes", server.url)), "{out}");
    // The paper's rows stand beneath those of ResNet34, and ours beneath those of the paper on the page.
    assert_eq!(out.lines().filter(|line| line.trim_start().starts_with("paper ")).count(), 3, "{out}");
    assert!(out.contains("0.684  0.998  0.777  0.872"), "{out}");
    assert_eq!(server.page("/?dataset=scenes").matches("class=\"measured\"").count(), 3);
    let (_, out, said) = paper(&server, &[&BACKBONES[..], &["--dry-run", "--json"]].concat());
    assert!(said.contains("0 runs are new, 9 runs were there already. Nothing was submitted."), "{said}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["estimate"], Value::Null);
}

#[test]
fn canceled_runs_are_submitted_again_and_waiting_ones_are_not() {
    let server = TestServer::with_scenes();
    let one = |extra: &[&str]| paper(&server, &[&["--backbones", "resnet-tiny"], extra].concat());
    let endless = server
        .submit(&json!({"dataset": "scenes", "backbone": "vgg-tiny", "objective": "coarse-only", "epochs": 9999}));
    let (code, _, said) = one(&[]);
    assert!(code == Some(2) && said.ends_with("error: add --yes to submit 3 runs\n"), "{said}");
    let (code, out, said) = one(&["--yes"]);
    assert!(code == Some(0) && said.contains("3 runs are new."), "{said}");
    assert!(out.contains("resnet-tiny top-k-softmax"), "{out}");
    assert_eq!(server.post("/api/v1/runs/3/cancel", &Value::Null).0, 202);
    let (_, _, said) = one(&["--dry-run"]);
    assert!(said.contains("1 run is new, 2 runs were there already. Nothing was submitted."), "{said}");
    let (_, _, said) = one(&["--yes"]);
    assert!(said.contains("1 run is new, 2 runs were there already."), "{said}");
    for run in [2, 4, 5, endless] {
        server.post(&format!("/api/v1/runs/{run}/cancel"), &Value::Null);
    }
}

#[test]
fn transfer_ends_with_the_differences_to_random_weights() {
    let server = TestServer::with_scenes();
    let mut params = Parameters::new(1, DType::F32, &Device::Cpu);
    Network::new(&mut params, Backbone::ResNetTiny).unwrap();
    let path = server.data.path().join("start.safetensors");
    params.save(&path).unwrap();
    let weights = format!("resnet-tiny={}", path.display());
    let arguments = ["transfer", "--backbones", "resnet-tiny", "--weights", &weights, "--yes", "--wait"];
    let (code, out, said) = experiment(&server, &arguments);
    assert_eq!(code, Some(0), "{said}");
    for b in [1, 2] {
        assert!(out.contains(&format!("{}/transitions?a=3&b={b}", server.url)), "{out}");
    }
    assert!(out.contains("B: run 1 “resnet-tiny frozen”") && out.contains("coarse accuracy"), "{out}");
    let (_, tuned) = server.get("/api/v1/runs/2");
    let (_, random) = server.get("/api/v1/runs/3");
    assert_eq!(
        (&tuned["spec"]["unfreeze"], random["spec"].get("initial_weights")),
        (&random["spec"]["unfreeze"], None)
    );
    // The same without weights makes no sense.
    let (code, _, said) = experiment(&server, &["transfer", "--weights", "random"]);
    assert!(code == Some(2) && said.contains("there is nothing to transfer"), "{said}");
}

#[test]
fn what_is_missing_is_said_before_anything_is_measured() {
    let server = TestServer::with_scenes();
    for (extra, code, says) in [
        (&["--weights", "imagenet", "--backbones", "resnet34,vgg16"][..], 2, "add --yes to submit 6 runs"),
        (&["--weights", "imagenet", "--backbones", "resnet-tiny"], 2, "no ImageNet weights are known for resnet-tiny"),
        (&["--dataset", "nothing"], 1, "there is no data set “nothing”"),
        (&["--learning-rate", "0"], 2, "learning_rate: 0 is outside"),
        (&["--weights", "best"], 2, "“best” is none of imagenet, random and BACKBONE=NAME"),
    ] {
        let mut command = twograin();
        command
            .args(["experiment", "paper", "--server", &server.url, "--data-dir"])
            .arg(server.data.path())
            .args(extra);
        command.envs([("HF_HUB_OFFLINE", "1"), ("HF_HUB_CACHE", "/nonexistent")]);
        if !extra.contains(&"--dataset") {
            command.args(["--dataset", "scenes"]);
        }
        let output = command.output().expect("the program starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(code) && said.contains(says), "{extra:?}: {said}");
        assert!(!said.contains("measuring"), "{said}");
    }
}
