//! Curves of several runs over one another: page, API and command line say the same.

use scraper::{Html, Selector};
use serde_json::{Value, json};

use crate::support::{TestServer, twograin};

fn select(page: &str, selector: &str) -> Vec<(String, Option<String>)> {
    let page = Html::parse_document(page);
    let selector = Selector::parse(selector).unwrap();
    let found = page.select(&selector).map(|element| {
        let text = element.text().collect::<String>();
        let link = element.attr("href").or(element.attr("value")).map(str::to_owned);
        (text.split_whitespace().collect::<Vec<_>>().join(" "), link)
    });
    found.collect()
}

fn texts(page: &str, selector: &str) -> Vec<String> {
    select(page, selector).into_iter().map(|(text, _)| text).collect()
}

#[test]
fn curves_are_the_epochs_of_each_run_wherever_they_are_shown() {
    let server = TestServer::with_runs();
    let reports: Vec<Value> = (1..=3).map(|run| server.get(&format!("/api/v1/runs/{run}")).1).collect();
    for (measure, field) in [
        ("training-loss", "train_loss"),
        ("validation-loss", "validation_loss"),
        ("validation-ia", "validation_ia"),
        ("validation-coarse-accuracy", "validation_coarse_accuracy"),
    ] {
        let query = format!("run=3&run=1,2&run=3&measure={measure}&x=seconds");
        let (status, curves) = server.get(&format!("/api/v1/curves?{query}"));
        assert_eq!((status, &curves["measure"], &curves["x"]), (200, &json!(measure), &json!("seconds")));
        let ids: Vec<&Value> = curves["curves"].as_array().unwrap().iter().map(|curve| &curve["run"]["id"]).collect();
        assert_eq!(ids, [3, 1, 2]);
        let page = server.page(&format!("/curves?{query}"));
        let cells = texts(&page, "#curves tbody td");
        let drawn: Value = serde_json::from_str(&texts(&page, "#chart-curves")[0]).unwrap();
        for (column, curve) in curves["curves"].as_array().unwrap().iter().enumerate() {
            let report = reports.iter().find(|report| report["id"] == curve["run"]["id"]).unwrap();
            let mut seconds = 0.0;
            for (row, (point, epoch)) in
                curve["points"].as_array().unwrap().iter().zip(report["epochs"].as_array().unwrap()).enumerate()
            {
                seconds += epoch["seconds"].as_f64().unwrap();
                let expected = json!({"epoch": epoch["epoch"], "seconds": seconds, "value": epoch[field]});
                assert_eq!(*point, expected);
                let cell = &cells[row * 3 + column];
                let shown = cell.split(' ').next().unwrap_or_default().parse::<f64>();
                match point["value"].as_f64() {
                    Some(value) => assert!((shown.unwrap() - value).abs() < 6e-4 * value.max(1.0), "{cell}: {value}"),
                    None => assert!(cell.starts_with('–'), "{cell}"),
                }
                assert_eq!(drawn["data"][column]["y"][row], point["value"]);
                assert_eq!(drawn["data"][column]["x"][row], point["seconds"]);
            }
            assert_eq!(curve["points"].as_array().unwrap().len(), 2);
        }
    }
    // Two looks in common would be one line.
    let page = server.page("/curves?run=1&run=2&run=3");
    let drawn: Value = serde_json::from_str(&texts(&page, "#chart-curves")[0]).unwrap();
    let dashes: Vec<&Value> = drawn["data"].as_array().unwrap().iter().map(|line| &line["line"]["dash"]).collect();
    assert_eq!(dashes, ["solid", "dash", "dot"]);
    assert_eq!(drawn["data"][0]["x"], json!([1.0, 2.0]));
    assert!(page.contains("different losses"), "{page}");
    assert_eq!(texts(&page, "select[name=measure] [selected]"), ["validation loss"]);
    let left: Vec<Option<String>> = select(&page, "#legend a[aria-label]").into_iter().map(|(_, link)| link).collect();
    assert_eq!(left[1].as_deref(), Some("/curves?run=1&run=3&measure=validation-loss&x=epoch"));

    let mut command = twograin();
    command.args(["run", "curves", "2", "1", "--measure", "validation-coarse-accuracy", "--server", &server.url]);
    let out = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let value = |run: usize| reports[run - 1]["epochs"][1]["validation_coarse_accuracy"].as_f64().unwrap();
    let line = format!("      2  {:.3}  {:.3}\n", value(2), value(1));
    assert!(out.contains("  epoch  run 2  run 1\n") && out.ends_with(&line), "{out}\n{line}");
    let json = command.arg("--json").output().unwrap().stdout;
    let (_, curves) = server.get("/api/v1/curves?run=2,1&measure=validation-coarse-accuracy");
    assert_eq!(serde_json::from_slice::<Value>(&json).unwrap(), curves);
}

#[test]
fn curves_are_chosen_by_forms_and_too_many_are_refused() {
    let server = TestServer::with_scenes();
    assert_eq!(texts(&server.page("/curves"), ".panel p").len(), 1);
    let body = json!({"dataset": "scenes", "backbone": "resnet-tiny", "objective": "coarse-only", "epochs": 10_000,
        "input_size": 32, "grid": {"seed": (0..25).collect::<Vec<_>>()}});
    assert_eq!(server.post("/api/v1/sweeps", &body).0, 201);
    // A form without scripts: ticked boxes that belong to it, and its button.
    let list = server.page("/runs");
    let boxes = select(&list, "#runs input[form=choose][name=run]");
    assert_eq!((boxes.len(), boxes[0].1.as_deref()), (25, Some("25")));
    assert_eq!(texts(&list, "form#choose[action='/curves'] button"), ["Curves of the chosen runs"]);
    let page = server.page("/curves?run=1&run=2");
    let hidden: Vec<_> =
        select(&page, "form input[type=hidden][name=run]").into_iter().map(|(_, value)| value).collect();
    assert_eq!(hidden, [Some("1".into()), Some("2".into())]);
    // What stands there already is not offered again, and “none” adds none.
    assert_eq!(select(&page, "select[name=run] option").len(), 24);
    assert_eq!(server.page("/curves?run=1&run=2&run=&measure=validation-ia&x=epoch").matches("<li>").count(), 2);

    let of = |count: usize| (1..=count).map(|run| format!("run={run}")).collect::<Vec<_>>().join("&");
    assert_eq!(server.get(&format!("/api/v1/curves?{}", of(24))).0, 200);
    assert_eq!(select(&server.page(&format!("/curves?{}", of(24))), "select[name=run]").len(), 0);
    let (status, problem) = server.get(&format!("/api/v1/curves?{}", of(25)));
    let says = "run: 25 runs are more than the 24 whose curves can be told apart; name fewer";
    assert_eq!((status, &problem["detail"]), (422, &json!(says)));
    assert_eq!(server.get("/api/v1/curves?run=99").0, 404);
    assert_eq!(server.get("/api/v1/curves?run=1&measure=loss").0, 422);
}

#[test]
fn a_curve_has_a_way_to_others_from_its_run() {
    let server = TestServer::with_scenes();
    let run = server.submit(&json!({"dataset": "scenes", "backbone": "resnet-tiny", "objective": "coarse-only",
        "epochs": 1, "input_size": 32, "batch_size": 16}));
    server.wait(run);
    let links = select(&server.page(&format!("/runs/{run}")), "#training a");
    assert_eq!(links, [("Curves beside other runs".into(), Some(format!("/curves?run={run}")))]);
}
