//! Labels and categories one by one: figures against a script that shares no code with the program (`recompute.py`), pages
//! and the command line against the API.

mod reference;

use std::fs;

use serde_json::{Value, json};
use twograin::dataset::scenes::SceneFiles;

use crate::support::{TestServer, api as get, attributes, quick, recompute, texts, twograin};

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;
const CANCELED: i64 = 4;

fn close(ours: Option<f64>, theirs: &Value, tolerance: f64, what: &str) {
    match (ours, theirs.as_f64()) {
        (Some(ours), Some(theirs)) => assert!((ours - theirs).abs() < tolerance, "{what}: {ours} and {theirs}"),
        (ours, theirs) => assert_eq!(ours, theirs, "{what}"),
    }
}

/// How many images a gallery lists.
fn listed_by(server: &TestServer, gallery: &str) -> String {
    texts(&server.page(gallery), "#total")[0].split(' ').next().unwrap().to_owned()
}

#[test]
fn labels_and_categories_are_told_alike_everywhere() {
    let server = TestServer::with_runs();
    python_agrees(&server);
    a_label_s_page_shows_what_the_api_says(&server);
    categories_are_shown_with_their_confusions(&server);
    a_category_s_page_shows_what_the_api_says(&server);
    a_coarse_only_run_has_categories_alone(&server);
    what_is_not_there_is_named(&server);
    the_command_line_says_the_same(&server);
    names_may_hold_anything(&server);
}

/// What both kinds of classes have, against the script's.
fn same_class(ours: &Value, theirs: &Value, what: &str) {
    for count in ["support", "predicted", "correct"] {
        assert_eq!(ours[count], theirs[count], "{count} of {what}");
    }
    close(ours["average_precision"]["value"].as_f64(), &theirs["average_precision"], 1e-12, what);
    let (curve, their_curve) = (&ours["curve"], &theirs["curve"]);
    assert_eq!(curve["points"], their_curve["points"], "{what}");
    if let Some(reached) = their_curve["at_recall"].as_array() {
        close(curve["best_f1"]["f1"].as_f64(), &their_curve["best_f1"], 1e-12, what);
        assert_eq!(curve["at_recall"].as_array().unwrap().len(), reached.len());
        for (ours, theirs) in curve["at_recall"].as_array().unwrap().iter().zip(reached) {
            for (index, name) in ["precision", "recall", "f1"].into_iter().enumerate() {
                close(ours[name].as_f64(), &theirs[index], 1e-12, what);
            }
        }
    }
    same_calibration(&ours["calibration"], &theirs["calibration"], what);
    for kind in ["missed", "extra"] {
        let theirs = theirs[kind].as_array().unwrap();
        assert_eq!(ours[kind].as_array().unwrap().len(), theirs.len(), "{kind} of {what}");
        for (image, theirs) in ours[kind].as_array().unwrap().iter().zip(theirs) {
            close(image["probability"].as_f64(), theirs, 1e-12, what);
        }
    }
}

fn same_calibration(ours: &Value, theirs: &Value, what: &str) {
    assert_eq!(ours.is_null(), theirs.is_null(), "{what}");
    if ours.is_null() {
        return;
    }
    close(ours["ece"].as_f64(), &theirs["ece"], 1e-12, what);
    let images: Vec<&Value> = ours["bins"].as_array().unwrap().iter().map(|bin| &bin["images"]).collect();
    assert_eq!(json!(images), theirs["images"], "{what}");
}

fn python_agrees(server: &TestServer) {
    let test = SceneFiles::in_directory(&server.data.path().join("images")).test;
    for (run, query, rule) in [
        (COARSE_ONLY, "", "oracle"),
        (TOP_K, "", "oracle"),
        (TOP_K, "?k=3", "k=3"),
        (SIGMOID, "", "threshold=0.2"),
        (SIGMOID, "?threshold=0.1", "threshold=0.1"),
    ] {
        let Some(theirs) = recompute(server, run, &test.annotations, rule) else { return };
        let labels = theirs["labels"].as_object().into_iter().flatten();
        // Labels that something is said of; the others are all alike.
        for (name, theirs) in labels.filter(|(_, label)| label["support"] != 0 || label["predicted"] != 0).take(25) {
            let ours = get(server, &format!("runs/{run}/labels/{name}{query}"));
            same_class(&ours, theirs, &format!("{name} of run {run} {query}"));
            for list in ["truly_with", "predicted_with", "missed_for", "extra_beside"] {
                let theirs = theirs[list].as_object().unwrap();
                let listed = ours[list]["labels"].as_array().unwrap();
                assert_eq!(listed.len(), theirs.len().min(10), "{list} of {name}");
                for label in listed {
                    let theirs = &theirs[label["name"].as_str().unwrap()];
                    assert_eq!(label["images"], theirs[0], "{list} of {name}");
                    close(label["share"].as_f64(), &theirs[1], 1e-12, list);
                    close(label["lift"].as_f64(), &theirs[2], 1e-12, list);
                }
            }
        }
        let index = get(server, &format!("runs/{run}/categories{query}"));
        same_calibration(&index["calibration"], &theirs["calibration"], "the predicted category");
        for (at, category) in index["categories"].as_array().unwrap().iter().enumerate() {
            let name = category["name"].as_str().unwrap();
            let theirs = &theirs["categories"][name];
            let ours = get(server, &format!("runs/{run}/categories/{name}{query}"));
            same_class(&ours, theirs, &format!("{name} of run {run} {query}"));
            for figure in ["support", "average_precision", "precision", "recall", "f1", "counts"] {
                assert_eq!(category[figure], ours[figure], "{figure} of {name}");
            }
            assert_eq!(index["confusion"][at], theirs["row"], "{name}");
            if run == COARSE_ONLY {
                continue;
            }
            assert_eq!(ours["counts"], theirs["outcomes"], "{name}");
            for (index, means) in ["predicted", "missed"].into_iter().enumerate() {
                close(ours["evidence"]["logit"][means].as_f64(), &theirs["logit"][index], 1e-4, name);
                for label in ours["evidence"]["labels"].as_array().unwrap() {
                    let theirs = &theirs["evidence"][label["name"].as_str().unwrap()][index];
                    close(label[means].as_f64(), theirs, 1e-6, name);
                }
            }
        }
    }
}

/// The label that most images have.
fn most_frequent(server: &TestServer, run: i64) -> String {
    let labels = get(server, &format!("runs/{run}/labels?sort=-support"));
    labels["labels"][0]["name"].as_str().unwrap().to_owned()
}

fn a_label_s_page_shows_what_the_api_says(server: &TestServer) {
    let name = most_frequent(server, SIGMOID);
    let before = get(server, &format!("runs/{SIGMOID}/labels/{name}?threshold=0.3"));
    let all = get(server, &format!("runs/{SIGMOID}/labels?threshold=0.3"));
    let listed = all["labels"].as_array().unwrap().iter().find(|label| label["name"] == *name).unwrap();
    // Intervals too: alone, and among all labels.
    for figure in ["support", "predicted", "correct", "average_precision", "precision", "recall", "f1", "category"] {
        assert_eq!(before[figure], listed[figure], "{figure}");
    }
    assert_eq!(get(server, &format!("runs/{SIGMOID}/labels/{name}?threshold=0.3")), before, "with what was kept");
    assert_eq!((&before["threshold"], &before["resamples"]), (&json!(0.3), &json!(10_000)));
    // θ, strictly exceeded, is a point of the curve or lies between two: the point is what the figures say.
    let drawn = before["curve"]["drawn"].as_array().unwrap();
    let above =
        drawn.iter().rfind(|point| point["threshold"].as_f64().is_none_or(|threshold| threshold > 0.3)).unwrap();
    close(before["recall"]["value"].as_f64(), &above["recall"], 1e-12, "recall on the curve");

    let page = server.page(&format!("/runs/{SIGMOID}/labels/{name}?threshold=0.3"));
    let own = texts(&page, "#curve tbody tr:first-child td");
    let shown = |value: &Value| value.as_f64().map_or("–".into(), |value| format!("{value:.3}"));
    let figures = ["precision", "recall"].map(|figure| shown(&before[figure]["value"]));
    assert_eq!(own, ["> 0.3".to_owned(), figures[0].clone(), figures[1].clone(), shown(&before["f1"])]);
    assert_eq!(texts(&page, "#ece"), [shown(&before["calibration"]["ece"])]);
    let bins = before["calibration"]["bins"].as_array().unwrap().iter().filter(|bin| bin["images"] != 0).count();
    assert_eq!(texts(&page, "#bins tbody tr").len(), bins);
    for (section, lists) in
        [("#goes-with", ["truly_with", "predicted_with"]), ("#confused-with", ["missed_for", "extra_beside"])]
    {
        let listed: Vec<_> = lists.iter().flat_map(|list| before[list]["labels"].as_array().unwrap()).collect();
        let names: Vec<_> = listed.iter().map(|label| label["name"].as_str().unwrap().to_owned()).collect();
        assert_eq!(texts(&page, &format!("{section} tbody th")), names);
    }
    let wrong = [&before["missed"], &before["extra"]].map(|images| images.as_array().unwrap().len());
    assert_eq!(texts(&page, "#worst li.card").len(), wrong[0] + wrong[1]);
    // The rule goes along.
    let links = attributes(&page, "dl.figures a", "href");
    let filters = ["fine", "predicted", "missing", "extra"]
        .map(|filter| format!("/runs/{SIGMOID}/images?{filter}={}&threshold=0.3", name.replace(' ', "%20")));
    assert_eq!(links, filters);
    assert!(attributes(&page, ".crumb a", "href").contains(&format!("/runs/{SIGMOID}/labels?threshold=0.3")));
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(get(server, footer[0].strip_prefix("/api/v1/").unwrap()), before);
    // It is linked from where the labels are.
    let labels = server.page(&format!("/runs/{SIGMOID}/labels?threshold=0.3"));
    let link = format!("/runs/{SIGMOID}/labels/{}?threshold=0.3", name.replace(' ', "%20"));
    assert!(attributes(&labels, "table.dense tbody th a", "href").contains(&link));

    // A softmax's probabilities are not held against the truth, label by label.
    let softmax = get(server, &format!("runs/{TOP_K}/labels/{name}"));
    assert_eq!((&softmax["calibration"], &softmax["threshold"]), (&Value::Null, &Value::Null));
    let page = server.page(&format!("/runs/{TOP_K}/labels/{name}"));
    assert!(texts(&page, "#calibration p")[0].contains("is not asked of a fine label"), "{page}");
    assert_eq!(texts(&page, "#curve tbody tr:first-child td")[0], "–");
}

fn categories_are_shown_with_their_confusions(server: &TestServer) {
    let report = get(server, &format!("runs/{SIGMOID}/categories"));
    let run = get(server, &format!("runs/{SIGMOID}"));
    assert_eq!(report["coarse_accuracy"], run["results"]["figures"]["coarse_accuracy"]);
    for outcome in ["ftct", "ftcf", "ffct", "ffcf"] {
        let categories = report["categories"].as_array().unwrap();
        let sum: u64 = categories.iter().map(|category| category["counts"][outcome].as_u64().unwrap()).sum();
        assert_eq!(run["results"]["counts"][outcome], sum, "{outcome}");
    }
    let page = server.page(&format!("/runs/{SIGMOID}/categories"));
    let cells: Vec<String> = texts(&page, "#confusion td");
    let matrix: Vec<String> = report["confusion"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|row| row.as_array().unwrap())
        .map(Value::to_string)
        .collect();
    assert_eq!(cells, matrix);
    let filled = matrix.iter().filter(|images| *images != "0").count();
    let links = attributes(&page, "#confusion td a", "href");
    assert_eq!(links.len(), filled);
    for (link, images) in links.iter().zip(matrix.iter().filter(|images| *images != "0")) {
        assert_eq!(listed_by(server, link), *images, "{link}");
    }
    assert_eq!(texts(&page, "#categories tbody th a").len(), report["categories"].as_array().unwrap().len());
    assert_eq!(texts(&page, "#ece").len(), 1);
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(get(server, footer[0].strip_prefix("/api/v1/").unwrap()), report);
    let run = server.page(&format!("/runs/{SIGMOID}"));
    assert!(attributes(&run, "#actions a", "href").contains(&format!("/runs/{SIGMOID}/categories")));
}

fn a_category_s_page_shows_what_the_api_says(server: &TestServer) {
    let report = get(server, &format!("runs/{SIGMOID}/categories/dining%20tools?k=2"));
    assert_eq!(report["rule_words"], "top-k, k = 2");
    let page = server.page(&format!("/runs/{SIGMOID}/categories/dining%20tools?k=2"));
    let listed = report["evidence"]["labels"].as_array().unwrap();
    assert_eq!(texts(&page, "#evidence tbody tr").len(), listed.len() + 3);
    let others = ["taken_for", "taken_from"].map(|list| report[list].as_array().unwrap().clone()).concat();
    let names: Vec<&str> = others.iter().map(|other| other["name"].as_str().unwrap()).collect();
    assert_eq!(texts(&page, "#confusions tbody th"), names);
    let outcomes = attributes(&page, "#outcomes li a", "href");
    assert_eq!(outcomes[0], format!("/runs/{SIGMOID}/images?coarse=dining%20tools&k=2&outcome=FTCT"));
    let codes = ["ftct", "ftcf", "ffct", "ffcf"];
    for (link, code) in outcomes.iter().zip(codes) {
        assert_eq!(listed_by(server, link), report["counts"][code].to_string(), "{link}");
    }
    for (link, images) in attributes(&page, "#confusions td a", "href").iter().zip(texts(&page, "#confusions td a")) {
        assert_eq!(listed_by(server, link), images, "{link}");
    }
    let wrong = attributes(&page, "#worst .heading a", "href");
    let both = report["correct"].as_u64().unwrap();
    let left =
        ["support", "predicted"].map(|of| report[of].as_u64().unwrap() - both).into_iter().filter(|left| *left > 0);
    assert_eq!(
        wrong.iter().map(|link| listed_by(server, link)).collect::<Vec<_>>(),
        left.map(|n| n.to_string()).collect::<Vec<_>>()
    );
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(get(server, footer[0].strip_prefix("/api/v1/").unwrap()), report);
    // Contributions, all others and the bias add up to the logit.
    for means in ["predicted", "missed"] {
        let Some(logit) = report["evidence"]["logit"][means].as_f64() else { continue };
        let labels: f64 = listed.iter().map(|label| label[means].as_f64().unwrap()).sum();
        let others = report["evidence"]["others"][means].as_f64().unwrap();
        let sum = labels + others + report["evidence"]["bias"].as_f64().unwrap();
        assert!((sum - logit).abs() < 1e-9, "{sum} and {logit}");
    }
}

fn a_coarse_only_run_has_categories_alone(server: &TestServer) {
    let report = get(server, &format!("runs/{COARSE_ONLY}/categories/food"));
    for nothing in ["rule", "rule_words", "counts", "evidence"] {
        assert!(report[nothing].is_null(), "{nothing}");
    }
    assert!(report["average_precision"]["low"].is_number() && report["calibration"]["ece"].is_number());
    let page = server.page(&format!("/runs/{COARSE_ONLY}/categories/food"));
    assert!(texts(&page, "#evidence").is_empty() && texts(&page, "#outcomes").is_empty());
    assert!(texts(&server.page(&format!("/runs/{COARSE_ONLY}/categories")), "form.filters").is_empty());
}

fn what_is_not_there_is_named(server: &TestServer) {
    for (path, status, says) in [
        (format!("runs/{COARSE_ONLY}/labels/dog"), 422, "is coarse-only: it has no scores of fine labels"),
        (format!("runs/{COARSE_ONLY}/categories?k=2"), 422, "a coarse-only run has no fine scores"),
        (format!("runs/{TOP_K}/labels/unicorn"), 404, "has no fine label “unicorn”"),
        (format!("runs/{TOP_K}/categories/dog"), 404, "has no category “dog”"),
        (format!("runs/{CANCELED}/labels/dog"), 409, "only a succeeded run"),
        (format!("runs/{CANCELED}/categories"), 409, "only a succeeded run"),
        (format!("runs/{TOP_K}/labels/dog?sort=size"), 422, "unknown field `sort`"),
        (format!("runs/{TOP_K}/labels/dog?k=0"), 422, "at least one label"),
        ("runs/99/categories/food".into(), 404, "there is no run 99"),
    ] {
        let (code, problem) = server.get(&format!("/api/v1/{path}"));
        let detail = problem["detail"].as_str().unwrap();
        assert!(code == status && detail.contains(says), "{path}: {code} {detail}");
    }
}

fn said(server: &TestServer, arguments: &[&str]) -> String {
    let output = twograin().args(["run"]).args(arguments).args(["--server", &server.url]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn the_command_line_says_the_same(server: &TestServer) {
    let (run, coarse_only) = (SIGMOID.to_string(), COARSE_ONLY.to_string());
    let shown = |value: &Value| value.as_f64().map_or("–".into(), |value| format!("{value:.3}"));
    let name = most_frequent(server, SIGMOID);
    let label = get(server, &format!("runs/{SIGMOID}/labels/{name}?k=1"));
    let text = said(server, &["labels", &run, "--label", &name, "--k", "1"]);
    for part in [
        format!("Label “{name}”"),
        format!("average precision  {}", shown(&label["average_precision"]["value"])),
        format!("calibration error  {}", shown(&label["calibration"]["ece"])),
        "recall of 1.0".into(),
        format!("Where it is, there are ({} images): ", label["support"]),
    ] {
        assert!(text.contains(&part), "{part} is missing in\n{text}");
    }
    let json = said(server, &["labels", &run, "--label", &name, "--k", "1", "--json"]);
    assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), label);

    let report = get(server, &format!("runs/{SIGMOID}/categories"));
    let text = said(server, &["categories", &run]);
    assert!(text.contains(&format!("calibration error  {}", shown(&report["calibration"]["ece"]))), "{text}");
    let row: Vec<String> = report["confusion"][10].as_array().unwrap().iter().map(Value::to_string).collect();
    let last: Vec<_> = text.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, [&["11", "indoor", "supply"][..], &row.iter().map(String::as_str).collect::<Vec<_>>()].concat());
    let text = said(server, &["categories", &run, "--category", "dining tools"]);
    assert!(text.contains("Category “dining tools”") && text.contains("sum: its logit"), "{text}");
    assert!(said(server, &["categories", &coarse_only]).contains("coarse accuracy"));
    let text = said(server, &["categories", &coarse_only, "--category", "food"]);
    assert!(text.contains("Its images were taken for: ") && !text.contains("contribution"), "{text}");
}

/// A data set whose names have spaces, slashes and other characters of addresses.
fn names_may_hold_anything(server: &TestServer) {
    const LABEL: &str = "cat / kitten? 100 % #1 “ü” & <b>";
    const CATEGORY: &str = "animals/pets & more";
    let images = server.data.path().join("images");
    let renamed = |text: String| {
        text.replace(r#""cat""#, &json!(LABEL).to_string()).replace(r#""animal""#, &json!(CATEGORY).to_string())
    };
    let folder = tempfile::tempdir().unwrap();
    let mut command = twograin();
    command.args(["dataset", "import-coco", "odd", "--data-dir"]).arg(server.data.path());
    for split in ["train", "test"] {
        let annotations = folder.path().join(split);
        let instances = fs::read_to_string(images.join(format!("instances_{split}.json"))).unwrap();
        fs::write(&annotations, renamed(instances)).unwrap();
        command.arg(format!("--{split}-annotations")).arg(&annotations);
        command.arg(format!("--{split}-images")).arg(images.join(split));
    }
    let taxonomy = folder.path().join("taxonomy");
    let (_, scenes) = server.get("/api/v1/datasets/scenes");
    fs::write(&taxonomy, renamed(scenes["taxonomy"].to_string())).unwrap();
    let output = command.arg("--taxonomy").arg(&taxonomy).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let run = server.submit(&quick(json!({"dataset": "odd"})));
    assert_eq!(server.wait(run)["status"], "succeeded");

    let labels = server.page(&format!("/runs/{run}/labels"));
    let link = attributes(&labels, "table.dense tbody th a", "href").into_iter().find(|link| link.contains("kitten"));
    let link = link.expect("the label is linked");
    assert_eq!(texts(&server.page(&link), "h1"), [format!("How well does it know “{LABEL}”?")]);
    assert_eq!(get(server, &link[1..])["name"], LABEL);
    assert!(said(server, &["labels", &run.to_string(), "--label", LABEL]).contains(&format!("Label “{LABEL}”")));
    let categories = server.page(&format!("/runs/{run}/categories"));
    let link = attributes(&categories, "#categories tbody th a", "href").into_iter().find(|link| link.contains("pets"));
    let link = link.expect("the category is linked");
    let page = server.page(&link);
    assert_eq!(texts(&page, "h1"), [format!("How well does it know “{CATEGORY}”?")]);
    assert_eq!(attributes(&page, "form.filters", "action"), std::slice::from_ref(&link));
    assert_eq!(get(server, &link[1..])["name"], CATEGORY);
}
