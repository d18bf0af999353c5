//! The whole job, end to end, as a user does it: import, train under each objective, compare, look, predict.

use std::path::Path;

use scraper::{Html, Selector};
use serde_json::{Value, json};
use twograin::dataset::{
    coco::CocoSource,
    scenes::{self, ScenesConfig},
};

use crate::support::{TestServer, import, recompute, shared};

/// Imports `train` and `test` as `photos` and trains a run of each objective; their numbers.
fn trained(server: &TestServer, train: &CocoSource, test: &CocoSource, epochs: u32) -> [i64; 3] {
    import("photos", server.data.path(), train, test);
    let runs = ["coarse-only", "top-k-softmax", "sigmoid-threshold"].map(|objective| {
        server.submit(&json!({
            "dataset": "photos", "backbone": "resnet-tiny", "objective": objective, "epochs": epochs, "input_size": 32,
            "batch_size": 16, "optimizer": "adamw", "learning_rate": 0.005, "augmentation": "flip", "threshold": 0.2,
            "warmup_epochs": 0, "seed": 1
        }))
    });
    for run in runs {
        let report = server.wait(run);
        assert_eq!(report["status"], "succeeded", "{report}");
        assert_eq!(report["epochs"].as_array().map(Vec::len), Some(epochs as usize));
    }
    runs
}

fn select<'a>(html: &'a Html, selector: &str) -> Vec<scraper::ElementRef<'a>> {
    html.select(&Selector::parse(selector).expect("a selector")).collect()
}

/// Everything that is said of a run is the same wherever it is said.
fn reports_agree(server: &TestServer, runs: [i64; 3]) {
    let (_, comparison) = server.get("/api/v1/comparisons?dataset=photos");
    let row = &comparison["rows"][0];
    assert_eq!(comparison["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(row["coarse_only"]["runs"], json!([runs[0]]));
    let page = server.page("/?dataset=photos");
    for (cell, run) in row["cells"].as_array().expect("cells").iter().zip(&runs[1..]) {
        let (_, report) = server.get(&format!("/api/v1/runs/{run}"));
        let (_, indices) = server.get(&format!("/api/v1/runs/{run}/indices"));
        assert_eq!(cell["runs"], json!([run]));
        assert_eq!(cell["counts"], indices["counts"]);
        assert_eq!(report["results"]["counts"], indices["counts"]);
        for index in ["ia", "ip", "ir", "if1", "coarse_accuracy", "fine_exact_match"] {
            assert_eq!(cell["figures"][index]["value"], indices[index], "{index}");
        }
        assert_eq!(report["ia"], indices["ia"]);
        let shown = format!("{:.3}", indices["ia"].as_f64().expect("IA is defined"));
        assert!(page.contains(&shown), "IA {shown} of run {run} is not on the comparison page");

        // The gallery has as many images of each outcome as there are counted, and the API lists the same.
        for outcome in ["FTCT", "FTCF", "FFCT", "FFCF"] {
            let count = indices["counts"][outcome.to_lowercase()].as_u64().expect("a count");
            let (_, listing) = server.get(&format!("/api/v1/runs/{run}/outcomes?outcome={outcome}&limit=500"));
            assert_eq!(listing["total"], count);
            let items = listing["items"].as_array().expect("items");
            assert_eq!(items.len() as u64, count.min(500));
            assert!(items.iter().all(|item| item["outcome"] == outcome));
            let gallery =
                Html::parse_document(&server.page(&format!("/runs/{run}/images?outcome={outcome}&limit=500")));
            assert_eq!(select(&gallery, "li.card").len() as u64, count.min(500), "{outcome} of run {run}");
        }
    }
}

/// An independent script reads the score files and comes to the same numbers.
fn python_agrees(server: &TestServer, runs: [i64; 3], test: &CocoSource) {
    let recompute = |run: i64, rule: &str| recompute(server, run, &test.annotations, rule);
    if recompute(runs[0], "oracle").is_none() {
        return;
    }
    let recompute = |run: i64, rule: &str| recompute(run, rule).expect("Python was there a moment ago");
    let same = |ours: &Value, theirs: &Value, what: &str| match (ours.as_f64(), theirs.as_f64()) {
        (Some(a), Some(b)) => assert!((a - b).abs() < 1e-12, "{what}: {a} and {b}"),
        (a, b) => assert_eq!(a, b, "{what}"),
    };
    let [coarse_only, top_k, sigmoid] = runs;
    let (_, indices) = server.get(&format!("/api/v1/runs/{coarse_only}/indices"));
    same(&indices["coarse_accuracy"], &recompute(coarse_only, "oracle")["coarse_accuracy"], "coarse-only");
    assert_eq!((&indices["counts"], &indices["ia"]), (&Value::Null, &Value::Null));

    for (run, query, rule) in [
        (top_k, "", "oracle"),
        (top_k, "?k=1", "k=1"),
        (top_k, "?threshold=0.05", "threshold=0.05"),
        (sigmoid, "", "threshold=0.2"),
        (sigmoid, "?rule=threshold&threshold=0.4", "threshold=0.4"),
        (sigmoid, "?rule=top-k", "oracle"),
    ] {
        let (status, ours) = server.get(&format!("/api/v1/runs/{run}/indices{query}"));
        assert_eq!(status, 200, "{ours}");
        let theirs = recompute(run, rule);
        assert_eq!(ours["counts"], theirs["counts"], "run {run} under {rule}");
        for index in ["ia", "ip", "ir", "if1", "coarse_accuracy", "fine_exact_match"] {
            same(&ours[index], &theirs[index], index);
        }
    }
    for (run, rule) in [(top_k, "oracle"), (sigmoid, "threshold=0.2")] {
        let theirs = recompute(run, rule);
        let (_, ours) = server.get(&format!("/api/v1/runs/{run}/labels"));
        for label in ours["labels"].as_array().expect("labels") {
            let name = label["name"].as_str().expect("a name");
            same(&label["average_precision"]["value"], &theirs["labels"][name]["average_precision"], name);
        }
    }
    // Image by image, under the runs' own rules.
    for (run, rule) in [(top_k, "oracle"), (sigmoid, "threshold=0.2")] {
        let theirs = recompute(run, rule);
        let mut cursor = String::new();
        let mut seen = 0;
        loop {
            let (_, page) = server.get(&format!("/api/v1/runs/{run}/outcomes?limit=37&cursor={cursor}"));
            for item in page["items"].as_array().expect("items") {
                assert_eq!(item["outcome"], theirs["outcomes"][item["source_id"].to_string()], "{item}");
                seen += 1;
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.into(),
                None => break,
            }
        }
        assert_eq!(Some(seen), theirs["images"].as_u64());
    }
}

fn predictions_add_up(server: &TestServer, runs: [i64; 3], photograph: &Path) {
    let bytes = std::fs::read(photograph).expect("a photograph");
    for run in runs {
        let part = reqwest::blocking::multipart::Part::bytes(bytes.clone()).file_name("photo.jpg");
        let form = reqwest::blocking::multipart::Form::new().part("image", part);
        let url = format!("{}/api/v1/predictions?run={run}&top=1000", server.url);
        let (status, answer) = server.send(reqwest::blocking::Client::new().post(url).multipart(form));
        assert_eq!(status, 200, "{answer}");
        assert_eq!(answer["items"][0]["name"], "photo.jpg");
        let prediction = &answer["items"][0]["decisions"][0];
        let winner = &prediction["coarse"][0];
        assert_eq!(prediction["category"], winner["name"]);
        if run == runs[0] {
            assert_eq!((&prediction["rule"], &prediction["fine"]), (&Value::Null, &json!([])));
            continue;
        }
        let contributions: f64 = prediction["fine"]
            .as_array()
            .expect("fine labels")
            .iter()
            .map(|label| label["contribution"].as_f64().expect("a contribution"))
            .sum();
        let logit = winner["logit"].as_f64().expect("a logit");
        let sum = contributions + winner["bias"].as_f64().expect("a bias");
        assert!((sum - logit).abs() <= 1e-5 * logit.abs().max(1.0), "{sum} and {logit}");
    }
}

#[test]
fn drawn_scenes_go_all_the_way_and_python_agrees() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = ScenesConfig { train: 160, test: 80, side: 48, seed: 5 };
    let files = scenes::generate(&directory.path().join("scenes"), &config, &|_, _| {}).expect("scenes");
    let server = TestServer::empty();
    let runs = trained(&server, &files.train, &files.test, 2);
    reports_agree(&server, runs);
    python_agrees(&server, runs, &files.test);
    let first = std::fs::read_dir(files.test.images.expect("scenes have images"))
        .expect("images")
        .next()
        .expect("one")
        .expect("readable")
        .path();
    predictions_add_up(&server, runs, &first);
}

#[test]
fn photographs_go_all_the_way_and_python_agrees() {
    let Some(subset) = shared("coco-subset") else { return };
    let source = |split: &str| CocoSource {
        annotations: subset.join(format!("annotations/instances_{split}2017.json")),
        images: Some(subset.join(format!("{split}2017"))),
    };
    let (train, test) = (source("train"), source("val"));
    let server = TestServer::empty();
    let runs = trained(&server, &train, &test, 2);
    let (_, dataset) = server.get("/api/v1/datasets/photos");
    assert_eq!((&dataset["train_images"], &dataset["test_images"]), (&json!(188), &json!(172)));
    reports_agree(&server, runs);
    python_agrees(&server, runs, &test);
    predictions_add_up(&server, runs, &subset.join("val2017/000000000139.jpg"));
}
