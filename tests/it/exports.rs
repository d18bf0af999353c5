//! Frozen reports and tables for other programs: they say what the API says, and need nothing else.

use std::{collections::BTreeMap, path::Path, process::Command};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::RowAccessor,
};
use scraper::{Html, Selector};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::support::{TestServer, python, twograin};

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;

fn get(server: &TestServer, path: &str) -> Value {
    let (status, json) = server.get(&format!("/api/v1/{path}"));
    assert_eq!(status, 200, "{path}: {json}");
    json
}

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
    outcomes_are_the_same_in_every_format(&server);
    other_rules_and_conditions_hold_for_exports_too(&server);
    words_that_users_gave_are_not_computed(&server);
    a_comparison_is_a_table(&server);
    what_makes_no_file_is_refused(&server);
    pages_lead_to_their_files(&server);
    commands_save_files(&server);
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
    assert_eq!(report["command"], format!("twograin report --dataset=scenes --pick={TOP_K},{SIGMOID},{COARSE_ONLY}"));
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

/// The rows of an export as the API's listing has them.
fn listed(server: &TestServer, run: i64, query: &str) -> Vec<Value> {
    let listing = get(server, &format!("runs/{run}/outcomes?limit=500&{query}"));
    let row = |item: &Value| {
        let names = |field: &str| {
            item[field].as_array().map(|labels| labels.iter().map(|label| label["name"].clone()).collect::<Vec<_>>())
        };
        json!({
            "source_id": item["source_id"], "file_name": item["file_name"], "outcome": item["outcome"],
            "coarse_correct": item["coarse_correct"], "true_category": item["true_coarse"],
            "predicted_category": item["predicted_coarse"], "coarse_probability": item["coarse_probability"],
            "margin": item["margin"], "loss": item["loss"], "true_labels": item["true_fine"],
            "predicted_labels": names("predicted_fine"), "tags": item["tags"], "note": item["note"],
        })
    };
    listing["items"].as_array().unwrap().iter().map(row).collect()
}

fn exported(server: &TestServer, run: i64, query: &str) -> Vec<Value> {
    serde_json::from_str(&text(server, &format!("runs/{run}/outcomes/export?format=json&{query}"))).unwrap()
}

/// The rows of a CSV file by their columns' names.
fn csv_rows(text: &str) -> Vec<BTreeMap<String, String>> {
    csv::Reader::from_reader(text.as_bytes()).deserialize().map(|row| row.unwrap()).collect()
}

fn parquet_rows(bytes: Vec<u8>) -> SerializedFileReader<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, &bytes).unwrap();
    SerializedFileReader::new(file).unwrap()
}

fn outcomes_are_the_same_in_every_format(server: &TestServer) {
    for run in [COARSE_ONLY, TOP_K, SIGMOID] {
        let expected = listed(server, run, "");
        assert_eq!(expected.len(), 24);
        assert_eq!(exported(server, run, ""), expected);
        let (name, csv) = file(server, &format!("runs/{run}/outcomes/export?format=csv"));
        assert_eq!(name, format!("twograin-run-{run}-test.csv"));
        let rows = csv_rows(std::str::from_utf8(&csv).unwrap());
        assert_eq!(rows.len(), 24);
        for (row, expected) in rows.iter().zip(&expected) {
            for (column, cell) in row {
                let words =
                    |words: &Vec<Value>| words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join("; ");
                match &expected[column] {
                    Value::Null => assert_eq!(cell, "", "{column}"),
                    Value::String(text) => assert_eq!(cell, text),
                    Value::Array(labels) => assert_eq!(cell, &words(labels)),
                    Value::Number(number) => assert_eq!(cell.parse().ok(), number.as_f64(), "{column}"),
                    other => assert_eq!(cell, &other.to_string()),
                }
            }
        }
        let reader = parquet_rows(file(server, &format!("runs/{run}/outcomes/export?format=parquet")).1);
        assert_eq!(reader.metadata().file_metadata().num_rows(), 24);
        for (row, expected) in reader.get_row_iter(None).unwrap().zip(&expected) {
            let row = row.unwrap();
            assert_eq!(Some(row.get_long(0).unwrap()), expected["source_id"].as_i64());
            assert_eq!(row.get_string(1).unwrap(), expected["file_name"].as_str().unwrap());
            assert_eq!(row.get_string(2).ok().map(String::as_str), expected["outcome"].as_str());
            assert_eq!(Some(row.get_bool(3).unwrap()), expected["coarse_correct"].as_bool());
            assert_eq!(Some(row.get_double(6).unwrap()), expected["coarse_probability"].as_f64());
            let labels = row.get_list(9).unwrap().elements().len();
            assert_eq!(labels, expected["true_labels"].as_array().unwrap().len());
            assert_eq!(row.get_list(10).is_ok(), expected["predicted_labels"].is_array());
        }
    }
}

fn other_rules_and_conditions_hold_for_exports_too(server: &TestServer) {
    for query in [
        "rule=top-k&k=2",
        "threshold=0.1",
        "threshold=0",
        "rule=top-k&outcome=FFCT",
        "split=validation",
        "split=validation&k=1&sort=-loss",
        "correct=true&sort=margin",
    ] {
        assert_eq!(exported(server, SIGMOID, query), listed(server, SIGMOID, query), "{query}");
    }
    assert!(file(server, "runs/3/outcomes/export?format=csv&split=validation").0.ends_with("-validation.csv"));
    // Nothing that fits is a file with a heading.
    let nothing = "runs/3/outcomes/export?threshold=1&min_confidence=1&max_confidence=1";
    assert_eq!(text(server, &format!("{nothing}&format=csv")).lines().count(), 1);
    assert_eq!(text(server, &format!("{nothing}&format=json")), "[]\n");
    let reader = parquet_rows(file(server, &format!("{nothing}&format=parquet")).1);
    assert_eq!((reader.metadata().file_metadata().num_rows(), reader.metadata().num_row_groups()), (0, 0));
}

fn words_that_users_gave_are_not_computed(server: &TestServer) {
    let image = get(server, "runs/2/outcomes?limit=1")["items"][0]["image"].as_i64().unwrap();
    let put = |path: &str, body: Value| {
        let request = reqwest::blocking::Client::new().put(format!("{}/api/v1/images/{image}/{path}", server.url));
        assert!(request.json(&body).send().unwrap().status().is_success(), "{path}");
    };
    put("tags/%3D1%2B1", json!({}));
    put("note", json!({"text": "-2+3\",\nsaid <b>she</b>"}));
    let rows = csv_rows(&text(server, "runs/2/outcomes/export?format=csv&noted=true"));
    assert_eq!(
        (rows.len(), rows[0]["tags"].as_str(), rows[0]["note"].as_str()),
        (1, "'=1+1", "'-2+3\",\nsaid <b>she</b>")
    );
    let exact = exported(server, TOP_K, "noted=true");
    assert_eq!((&exact[0]["tags"], &exact[0]["note"]), (&json!(["=1+1"]), &json!("-2+3\",\nsaid <b>she</b>")));
    a_report_needs_nothing_but_itself(server, "runs/2/report");
}

fn a_comparison_is_a_table(server: &TestServer) {
    let comparison = get(server, "comparisons");
    let rows: Vec<Value> = serde_json::from_str(&text(server, "comparisons/export?format=json")).unwrap();
    let cells = comparison["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(rows.len(), cells.len());
    let baseline = &comparison["rows"][0]["coarse_only"];
    for (row, cell) in rows.iter().zip(cells) {
        assert_eq!(
            (&row["dataset"], &row["backbone"], &row["runs"]),
            (&json!("scenes"), &json!("resnet-tiny"), &json!(1))
        );
        assert_eq!((&row["objective"], &row["rule"]), (&cell["objective"], &cell["rule"]));
        assert_eq!(row["run_ids"], json!([cell["runs"][0].to_string()]));
        assert_eq!(row["fingerprint"], comparison["dataset"]["fingerprint"]);
        for count in ["ftct", "ftcf", "ffct", "ffcf"] {
            assert_eq!(row[count], cell["counts"][count]);
        }
        let figures = ["ia", "ip", "ir", "if1", "coarse_accuracy", "fine_exact_match"];
        let figures = figures.map(|name| (name, &cell["figures"][name]));
        for (name, figure) in figures.into_iter().chain([("coarse_only_accuracy", &baseline["accuracy"])]) {
            assert_eq!(row[name], figure["value"]);
            for part in ["low", "high", "spread"] {
                assert_eq!(row[format!("{name}_{part}")], figure[part], "{name}");
            }
        }
    }
    let csv = csv_rows(&text(server, "comparisons/export?format=csv"));
    assert_eq!(csv.len(), rows.len());
    assert_eq!(csv[0]["ia"].parse().ok(), rows[0]["ia"].as_f64());
    assert_eq!((csv[0]["ia_spread"].as_str(), csv[0]["coarse_only_run_ids"].as_str()), ("", "1"));
    let reader = parquet_rows(file(server, "comparisons/export?format=parquet").1);
    assert_eq!(reader.metadata().file_metadata().num_rows(), 2);
    assert_eq!(reader.metadata().file_metadata().created_by(), Some(concat!("twograin ", env!("CARGO_PKG_VERSION"))));
    let (name, latex) = file(server, "comparisons/export?format=latex&pick=2,3");
    let latex = String::from_utf8(latex).unwrap();
    assert_eq!(name, "twograin-comparison-scenes.tex");
    let body: Vec<&str> = latex.lines().filter(|line| line.trim_start().starts_with("resnet-tiny")).collect();
    assert_eq!(body.len(), 2);
    let ia = format!("${:.3}$", cells[0]["figures"]["ia"]["value"].as_f64().unwrap());
    assert!(body[0].contains(" & top-k-softmax & $1$ & ") && body[0].contains(&ia), "{}", body[0]);
    assert!(body.iter().all(|line| line.matches(" & ").count() == 8 && line.ends_with(" \\\\")));
    assert!(latex.contains("(oracle k)") && latex.contains("95\\% intervals"));
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

/// pandas and pyarrow, unless they are not there.
fn has_pandas() -> bool {
    let found = python().is_some_and(|mut python| {
        python.args(["-c", "import pandas, pyarrow"]).output().is_ok_and(|output| output.status.success())
    });
    assert!(found || std::env::var_os("TWOGRAIN_REQUIRE_PYTHON").is_none(), "Python has no pandas and pyarrow");
    if !found {
        println!("skipped: Python has no pandas and pyarrow");
    }
    found
}

#[test]
fn python_agrees_on_exported_tables() {
    if !has_pandas() {
        return;
    }
    let server = TestServer::with_runs();
    let folder = tempfile::tempdir().unwrap();
    for (run, query) in [(SIGMOID, "rule=top-k"), (SIGMOID, "threshold=0.1"), (TOP_K, "split=validation")] {
        let mut script = python().unwrap();
        script.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference/exported.py"));
        for format in ["parquet", "csv"] {
            let path = folder.path().join(format);
            std::fs::write(&path, file(&server, &format!("runs/{run}/outcomes/export?format={format}&{query}")).1)
                .unwrap();
            script.arg(path);
        }
        let output = script.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: Value = serde_json::from_slice(&output.stdout).unwrap();
        let expected = json!(exported(&server, run, query));
        assert_eq!(read["parquet"], expected);
        assert_eq!(read["csv"], expected);
        let types =
            ["source_id", "outcome", "coarse_correct", "loss"].map(|name| read["types"][name].as_str().unwrap());
        assert_eq!(types, ["int64", "string", "bool", "double"]);
        assert!(read["types"]["true_labels"].as_str().unwrap().starts_with("list<element: string"));
    }
}
