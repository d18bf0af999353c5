//! Tables say what the API says, in every format.

use std::{collections::BTreeMap, path::Path};

use parquet::{
    file::reader::{FileReader, SerializedFileReader},
    record::RowAccessor,
};
use serde_json::{Value, json};

use super::{COARSE_ONLY, SIGMOID, TOP_K, a_report_needs_nothing_but_itself, file, get, text};
use crate::support::{TestServer, python};

/// The rows of an export as the API's listing has them.
pub fn listed(server: &TestServer, run: i64, query: &str) -> Vec<Value> {
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

pub fn outcomes_are_the_same_in_every_format(server: &TestServer) {
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

pub fn other_rules_and_conditions_hold_for_exports_too(server: &TestServer) {
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

pub fn words_that_users_gave_are_not_computed(server: &TestServer) {
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

pub fn a_comparison_is_a_table(server: &TestServer) {
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
    for (row, cell) in rows.iter().zip(cells) {
        let difference = &cell["difference"];
        let base = if difference.is_null() { &Value::Null } else { &comparison["base"] };
        assert_eq!(&row["base_run_id"], base);
        assert_eq!(row["ia_difference"], difference["figures"]["ia"]["value"]);
        assert_eq!(row["ia_difference_low"], difference["figures"]["ia"]["low"]);
        assert_eq!(
            (&row["mcnemar_p"], &row["mcnemar_p_adjusted"]),
            (&difference["ftct"]["p"], &difference["p_adjusted"])
        );
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
