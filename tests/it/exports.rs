//! Frozen reports and tables for other programs: they say what the API says, and need nothing else.

use std::{path::Path, process::Command};

use scraper::{Html, Selector};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{TestServer, api as get, quick, twograin};
use tables::listed;

mod tables;

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;

/// A file: its name and its bytes.
fn file(server: &TestServer, path: &str) -> (String, Vec<u8>) {
    let answer = reqwest::blocking::get(format!("{}/api/v1/{path}", server.url)).unwrap();
    assert_eq!(answer.status(), 200, "{path}");
    let disposition = answer.headers()["content-disposition"].to_str().unwrap();
    let name = disposition.strip_prefix("attachment; filename=\"").unwrap().trim_end_matches('"').to_owned();
    (name, answer.bytes().unwrap().to_vec())
}

fn text(server: &TestServer, path: &str) -> String {
    String::from_utf8(file(server, path).1).unwrap()
}

fn texts(html: &Html, selector: &str) -> Vec<String> {
    let found = html
        .select(&Selector::parse(selector).unwrap())
        .map(|element| element.text().collect::<String>())
        .collect::<Vec<_>>();
    found.into_iter().map(|text| text.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

fn attributes(html: &Html, selector: &str, name: &str) -> Vec<String> {
    let selector = Selector::parse(selector).unwrap();
    html.select(&selector).filter_map(|element| element.attr(name)).map(str::to_owned).collect()
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The figures that a report holds for programs.
fn embedded(html: &Html) -> Value {
    let script = html.select(&Selector::parse("script#report").unwrap()).next().unwrap();
    serde_json::from_str(&script.text().collect::<String>()).unwrap()
}

#[test]
fn what_is_saved_says_what_the_server_says() {
    let server = TestServer::with_runs();
    for path in ["reports/comparison?dataset=scenes", "runs/1/report", "runs/2/report", "runs/3/report"] {
        a_report_needs_nothing_but_itself(&server, path);
    }
    a_comparison_is_frozen_with_the_figures_of_its_page(&server);
    a_run_is_frozen_with_its_images(&server);
    stamps_are_those_of_the_files_and_commands_submit_the_same(&server);
    tables::outcomes_are_the_same_in_every_format(&server);
    tables::other_rules_and_conditions_hold_for_exports_too(&server);
    tables::words_that_users_gave_are_not_computed(&server);
    tables::a_comparison_is_a_table(&server);
    what_makes_no_file_is_refused(&server);
    pages_lead_to_their_files(&server);
    commands_save_files(&server);
    a_base_that_is_not_shown_is_stamped_too(&server);
}

fn a_report_needs_nothing_but_itself(server: &TestServer, path: &str) {
    let page = text(server, path);
    for outside in ["http:", "https:", "url(", "@import", "<link", "<iframe", "src=\"/", "href="] {
        assert!(!page.contains(outside), "{path} contains {outside}");
    }
    let html = Html::parse_document(&page);
    assert_eq!(attributes(&html, "script", "type"), ["application/json"]);
    assert!(attributes(&html, "[src]", "src").iter().all(|source| source.starts_with("data:image/jpeg;base64,/9j/")));
    assert_eq!(texts(&html, "h1").len(), 1);
    assert!(attributes(&html, "meta", "content").iter().any(|content| content.contains("default-src 'none'")));
    assert!(page.len() < 2_000_000, "{path} has {} bytes", page.len());
}

fn a_comparison_is_frozen_with_the_figures_of_its_page(server: &TestServer) {
    let (name, bytes) = file(server, "reports/comparison");
    assert_eq!(name, "twograin-comparison-scenes.html");
    let html = Html::parse_document(std::str::from_utf8(&bytes).unwrap());
    let report = embedded(&html);
    let comparison = get(server, "comparisons?dataset=scenes");
    assert_eq!(report["report"], comparison);
    assert_eq!(report["dataset"], comparison["dataset"]);
    assert_eq!(report["twograin"], env!("CARGO_PKG_VERSION"));
    assert!(report["frozen_at"].as_str().unwrap().parse::<jiff::Timestamp>().is_ok());
    let base = &comparison["base"];
    let groups = format!("{TOP_K},{SIGMOID},{COARSE_ONLY}");
    assert_eq!(report["command"], format!("twograin report --dataset=scenes --pick={groups} --base={base}"));
    // Charts and tables show the figures; the last column is coarse accuracy.
    let three = |value: &Value| value.as_f64().map_or("–".to_owned(), |value| format!("{value:.3}"));
    let cells = comparison["rows"][0]["cells"].as_array().unwrap();
    let indices = ["ia", "ip", "ir", "if1"];
    let of = |names: &[&str]| -> Vec<String> {
        cells.iter().flat_map(|cell| names.iter().map(|name| three(&cell["figures"][*name]["value"]))).collect()
    };
    assert_eq!(texts(&html, "svg.still text:not([class])"), of(&indices));
    let mut shown = of(&[&indices[..], &["coarse_accuracy"]].concat());
    shown.push(three(&comparison["rows"][0]["coarse_only"]["accuracy"]["value"]));
    // Behind the figures of the one that is not the base stands its difference.
    let held = cells.iter().position(|cell| cell["difference"].is_object()).unwrap();
    let difference = cells[held]["difference"]["figures"]["ia"]["value"].as_f64().unwrap();
    let difference =
        format!("{difference:+.3}").replace('-', "−").replace("+0.000", "0.000").replace("−0.000", "0.000");
    shown.insert(5 * (held + 1), difference);
    assert_eq!(texts(&html, "#indices td .value"), shown);
    let counts: Vec<String> = cells
        .iter()
        .flat_map(|cell| ["ftct", "ftcf", "ffct", "ffcf"].map(|name| cell["counts"][name].to_string()))
        .collect();
    assert_eq!(texts(&html, "#outcomes td.number"), counts);
    // Images are those of the run with the highest IA, of equals the first.
    let ia = |cell: &Value| cell["figures"]["ia"]["value"].as_f64().unwrap();
    let best = if ia(&cells[1]) > ia(&cells[0]) { SIGMOID } else { TOP_K };
    assert_eq!(report["examples"]["run"]["id"], best);
}

fn a_run_is_frozen_with_its_images(server: &TestServer) {
    for run in [COARSE_ONLY, TOP_K, SIGMOID] {
        let html = Html::parse_document(&text(server, &format!("runs/{run}/report")));
        let report = embedded(&html);
        let mut expected = get(server, &format!("runs/{run}"));
        // What names machines is left out.
        (expected["log"], expected["attempts"]) = (json!([]), json!([]));
        assert_eq!(report["report"], expected);
        let groups = report["examples"]["of"].as_array().unwrap();
        let queries = if run == COARSE_ONLY {
            vec!["correct=false", "correct=true"]
        } else {
            vec!["outcome=FFCT", "outcome=FTCF", "outcome=FFCF", "outcome=FTCT"]
        };
        assert_eq!(groups.len(), queries.len());
        let mut images = 0;
        for (group, query) in groups.iter().zip(queries) {
            let listing = get(server, &format!("runs/{run}/outcomes?limit=12&{query}"));
            assert_eq!((&group["images"], &group["total"]), (&listing["items"], &listing["total"]), "{run} {query}");
            images += group["images"].as_array().unwrap().len();
        }
        assert_eq!(attributes(&html, "li.card img", "src").len(), images);
        assert_eq!(texts(&html, "li.card").len(), images);
        // A chart and a table of two epochs, a point for each figure that there is.
        assert_eq!(texts(&html, "#training tbody tr").len(), 2);
        let figures = ["train_loss", "validation_loss", "validation_ia", "validation_coarse_accuracy"];
        let points = expected["epochs"].as_array().unwrap().iter();
        let known: usize = points.map(|point| figures.iter().filter(|name| point[**name].is_number()).count()).sum();
        assert_eq!(attributes(&html, "svg.still circle", "r").len(), known);
    }
}

fn stamps_are_those_of_the_files_and_commands_submit_the_same(server: &TestServer) {
    let html = Html::parse_document(&text(server, "reports/comparison"));
    let report = embedded(&html);
    let stamps = report["runs"].as_array().unwrap();
    assert_eq!(stamps.len(), 3);
    assert_eq!(server.post("/api/v1/queue/pause", &Value::Null).0, 200);
    let dataset = get(server, "datasets/scenes");
    assert!(texts(&html, "#stamps .hash").contains(&dataset["fingerprint"].as_str().unwrap().to_owned()));
    for stamp in stamps {
        let id = stamp["id"].as_i64().unwrap();
        let run = get(server, &format!("runs/{id}"));
        let text = stamp["specification"].as_str().unwrap();
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), run["spec"]);
        assert_eq!(stamp["specification_sha256"], sha256(text.as_bytes()));
        assert_eq!((&stamp["seed"], &stamp["name"]), (&run["spec"]["seed"], &run["name"]));
        let attempt = server.data.path().join(format!("runs/{id}/attempt-1"));
        for file in stamp["files"].as_array().unwrap() {
            let path = attempt.join(format!("{}.safetensors", file["kind"].as_str().unwrap()));
            assert_eq!(file["sha256"], sha256(&std::fs::read(path).unwrap()));
        }
        let shown = texts(&html, "#stamps .stamp");
        let shown = shown.iter().find(|shown| shown.starts_with(&format!("Run {id}: "))).unwrap();
        let command = stamp["command"].as_str().unwrap();
        assert!(shown.contains(command) && shown.contains(stamp["specification_sha256"].as_str().unwrap()), "{shown}");
        // As somebody would do who copies it into a shell.
        let again = shell(server, &format!("{command} --json"));
        assert_eq!((&again["existing"], &again["id"], &again["spec"]), (&json!(true), &json!(id), &run["spec"]));
        let anew = shell(server, &format!("{command} --json --force"));
        assert_eq!(anew["spec"], run["spec"]);
        let anew = anew["id"].as_i64().unwrap();
        server.post(&format!("/api/v1/runs/{anew}/cancel"), &Value::Null);
    }
    server.post("/api/v1/queue/resume", &Value::Null);
    // The report again, from its own command.
    let folder = tempfile::tempdir().unwrap();
    let command = report["command"].as_str().unwrap();
    run_shell(server, &format!("{command} --out {}", folder.path().join("again.html").display()));
    let again = std::fs::read_to_string(folder.path().join("again.html")).unwrap();
    let again = embedded(&Html::parse_document(&again));
    assert_eq!(again["runs"], report["runs"]);
    assert_eq!(again["report"]["rows"], report["report"]["rows"]);
    assert_eq!(again["command"], report["command"]);
}

fn run_shell(server: &TestServer, line: &str) -> String {
    let program = Path::new(env!("CARGO_BIN_EXE_twograin")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let output =
        Command::new("sh").args(["-c", line]).env("PATH", path).env("TWOGRAIN_SERVER", &server.url).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn shell(server: &TestServer, line: &str) -> Value {
    serde_json::from_str(&run_shell(server, line)).unwrap()
}

fn what_makes_no_file_is_refused(server: &TestServer) {
    for (path, status, says) in [
        ("runs/3/outcomes/export", 422, "format: it is missing; give csv, json, parquet"),
        ("runs/3/outcomes/export?format=xls", 422, "“xls” is not a format"),
        ("runs/3/outcomes/export?format=csv&format=json", 422, "format: it is there twice"),
        ("runs/3/outcomes/export?format=latex", 422, "take csv, json or parquet"),
        ("runs/3/outcomes/export?format=csv&limit=3", 422, "leave them out"),
        ("runs/3/outcomes/export?format=csv&cursor=3", 422, "leave them out"),
        ("runs/3/outcomes/export?format=csv&fin=dog", 422, "unknown field `fin`"),
        ("runs/3/outcomes/export?format=csv&k=0", 422, "at least one label"),
        ("runs/1/outcomes/export?format=csv&k=1", 422, "a coarse-only run has no fine scores"),
        ("runs/4/outcomes/export?format=csv", 409, "only a succeeded run"),
        ("runs/99/outcomes/export?format=csv", 404, "there is no run 99"),
        ("runs/4/report", 409, "only a succeeded run"),
        ("runs/99/report", 404, "there is no run 99"),
        ("reports/comparison?dataset=none", 404, "none"),
        ("reports/comparison?picks=1", 422, "unknown field `picks`"),
        ("comparisons/export?format=pdf", 422, "“pdf” is not a format"),
    ] {
        let (code, problem) = server.get(&format!("/api/v1/{path}"));
        let detail = problem["detail"].as_str().unwrap_or_else(|| panic!("{path}: {problem}"));
        assert!(code == status && detail.contains(says), "{path}: {code} {detail}");
    }
}

fn pages_lead_to_their_files(server: &TestServer) {
    for (page, selector) in [
        ("/?dataset=scenes", "#save-report, .footer a[download]"),
        ("/runs/3", "#save-report, .footer a[download]"),
        ("/runs/3/images?rule=top-k&outcome=FFCT&limit=2", ".footer a[download]"),
    ] {
        let html = Html::parse_document(&server.page(page));
        let links = attributes(&html, selector, "href");
        assert!(links.len() >= 3, "{page}: {links:?}");
        for link in links {
            file(server, link.strip_prefix("/api/v1/").unwrap());
        }
    }
    let html = Html::parse_document(&server.page("/runs/3/images?rule=top-k&outcome=FFCT&limit=2"));
    let json = attributes(&html, ".footer a[download]", "href").into_iter().find(|link| link.contains("format=json"));
    let rows: Value = serde_json::from_str(&text(server, json.unwrap().strip_prefix("/api/v1/").unwrap())).unwrap();
    assert_eq!(rows, json!(listed(server, SIGMOID, "rule=top-k&outcome=FFCT")));
}

fn commands_save_files(server: &TestServer) {
    let folder = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let output = twograin().current_dir(folder.path()).args(args).args(["--server", &server.url]).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let read = |name: &str| std::fs::read(folder.path().join(name)).unwrap();
    let (code, out, _) = run(&["report", "--run", "3"]);
    assert!(code == Some(0) && out.starts_with("Wrote twograin-run-3.html ("), "{out}");
    let (code, out, err) = run(&["report", "--run", "3"]);
    assert_eq!((code, out.as_str()), (Some(1), ""));
    assert_eq!(err, "error: twograin-run-3.html is there already; --force replaces it\n");
    assert_eq!(run(&["report", "--run", "3", "--force"]).0, Some(0));
    let (_, out, _) = run(&["report", "--dataset", "scenes", "--pick", "2,3", "--out", "-"]);
    assert_eq!(embedded(&Html::parse_document(&out))["report"], get(server, "comparisons?dataset=scenes&pick=2,3"));
    assert_eq!(run(&["report", "--run", "3", "--dataset", "scenes"]).0, Some(2));

    // The end of the name says which kind it is.
    for (name, args) in [
        ("a.parquet", vec!["export", "outcomes", "3", "--threshold", "0.1"]),
        ("b.tex", vec!["export", "comparison"]),
        ("c.json", vec!["export", "outcomes", "3", "--split", "validation"]),
        ("d.txt", vec!["export", "comparison", "--dataset", "scenes", "--format", "json"]),
        ("e", vec!["export", "outcomes", "1"]),
    ] {
        let (code, _, err) = run(&[&args[..], &["-o", name]].concat());
        assert_eq!(code, Some(0), "{name}: {err}");
    }
    assert!(read("a.parquet").starts_with(b"PAR1") && read("b.tex").starts_with(b"% Needs"));
    let rows: Value = serde_json::from_slice(&read("c.json")).unwrap();
    assert_eq!(rows, json!(listed(server, SIGMOID, "split=validation")));
    assert!(read("d.txt").starts_with(b"[") && read("e").starts_with(b"source_id,"));
    let (_, out, _) = run(&["export", "outcomes", "3", "--rule", "top-k", "-o", "-"]);
    assert_eq!(out, text(server, "runs/3/outcomes/export?rule=top-k&format=csv&split=test"));
    for (args, says) in [
        (vec!["export", "outcomes", "4"], "run 4 is canceled"),
        (vec!["export", "outcomes", "3", "--format", "latex"], "take csv, json or parquet"),
        (vec!["export", "comparison", "-o", "no/such/folder.csv"], "no/such/folder.csv cannot be written"),
    ] {
        let (code, _, err) = run(&args);
        assert!(code == Some(1) && err.contains(says), "{err}");
    }
    // Nothing half is left.
    let mut names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["a.parquet", "b.tex", "c.json", "d.txt", "e", "twograin-run-3.html"]);
}

fn a_base_that_is_not_shown_is_stamped_too(server: &TestServer) {
    let newer = server.submit(&quick(json!({"objective": "top-k-softmax"})));
    assert_eq!(server.wait(newer)["status"], "succeeded");
    let report = embedded(&Html::parse_document(&text(server, &format!("reports/comparison?base={TOP_K}"))));
    let ids: Vec<i64> = report["runs"].as_array().unwrap().iter().map(|run| run["id"].as_i64().unwrap()).collect();
    assert_eq!(ids, [newer, SIGMOID, COARSE_ONLY, TOP_K]);
    let groups = format!("{newer},{SIGMOID},{COARSE_ONLY}");
    assert_eq!(report["command"], format!("twograin report --dataset=scenes --pick={groups} --base={TOP_K}"));
}

#[test]
fn without_runs_there_is_nothing_to_freeze() {
    let server = TestServer::with_scenes();
    let (status, problem) = server.get("/api/v1/reports/comparison");
    assert_eq!(
        (status, problem["detail"].as_str()),
        (409, Some("no run on “scenes” has succeeded yet: there is nothing to report"))
    );
    assert_eq!(text(&server, "comparisons/export?format=json"), "[]\n");
    assert!(attributes(&Html::parse_document(&server.page("/")), "[download]", "href").is_empty());
    let (status, _) = TestServer::empty().get("/api/v1/reports/comparison");
    assert_eq!(status, 404);
}
