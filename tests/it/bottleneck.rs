//! Whether a run's bottleneck is honest: interventions, lookup baseline, consistency and completeness against numpy
//! (`tests/reference/bottleneck.py`) and by their properties; API and page say the same.

use proptest::prelude::*;
use serde_json::{Value, json};
use twograin::{
    analysis::{
        Agreement, Decision, Estimate, Interventions, Truth, completeness, consistency, decide_all,
        interval::RESAMPLES, intervene, read_labels,
    },
    domain::{CoarseId, DecisionRule, FineId, LabelSet, Split, Taxonomy, Threshold, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation, Scores},
};

use crate::support::{TestServer, attributes, quick, texts};

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;
const CANCELED: i64 = 4;

/// Scores with their truths.
#[derive(Debug)]
struct Case {
    scores: Scores,
    labels: Vec<LabelSet>,
    coarse: Vec<CoarseId>,
}

impl Case {
    fn truths(&self) -> Vec<Truth<'_>> {
        self.labels.iter().zip(&self.coarse).map(|(fine, coarse)| Truth { fine, coarse: *coarse }).collect()
    }

    fn intervene(&self, seed: u64) -> Interventions {
        intervene(&self.scores, &self.truths(), &taxonomy(), seed).unwrap()
    }
}

/// That of the reference: three categories with labels that are not in order, and two public labels.
fn taxonomy() -> Taxonomy {
    let parents = ["a", "b", "a", "", "c", "b", "a", "c", ""];
    let fine = parents.iter().enumerate().map(|(label, parent)| match *parent {
        "" => serde_json::json!({"name": format!("label {label}"), "public": true}),
        parent => serde_json::json!({"name": format!("label {label}"), "parent": parent}),
    });
    let file = serde_json::json!({"name": "t", "coarse": ["a", "b", "c"], "fine": fine.collect::<Vec<_>>()});
    Taxonomy::from_json(&file.to_string()).unwrap()
}

fn list<T>(values: &Value, of: impl Fn(&Value) -> T) -> Vec<T> {
    values.as_array().unwrap().iter().map(of).collect()
}

fn floats(values: &Value) -> Vec<f32> {
    list(values, |value| value.as_f64().unwrap() as f32)
}

fn counts(values: &Value) -> Vec<u64> {
    list(values, |value| value.as_u64().unwrap())
}

fn flat(rows: &Value) -> Vec<f32> {
    rows.as_array().unwrap().iter().flat_map(floats).collect()
}

fn references() -> Vec<(Case, Value)> {
    let all: Value = serde_json::from_str(include_str!("../reference/bottleneck.json")).unwrap();
    let case = |value: &Value| {
        let coarse: Vec<CoarseId> = counts(&value["category"]).into_iter().map(|id| CoarseId(id as u16)).collect();
        let fine = FineScores {
            fine_count: 9,
            logits: flat(&value["z"]),
            activation: value["activation"].as_str().unwrap().parse().unwrap(),
            coarse_input: value["reads"].as_str().unwrap().parse().unwrap(),
            weight: flat(&value["weight"]),
            bias: floats(&value["bias"]),
            p05: floats(&value["p05"]),
            p95: floats(&value["p95"]),
        };
        let scores = Scores {
            split: Split::Test,
            image_ids: (0..coarse.len() as i64).collect(),
            coarse_count: 3,
            coarse_logits: flat(&value["coarse"]),
            fine: Some(fine),
        };
        let label_set = |labels: &Value| counts(labels).into_iter().map(|label| FineId(label as u16)).collect();
        (Case { scores, labels: list(&value["truth"], label_set), coarse }, value.clone())
    };
    all.as_array().unwrap().iter().map(case).collect()
}

/// The same figure, and an interval that agrees within the error of two bootstraps: a few percent of its width, and `step`, by
/// which the figure can jump.
fn agrees(ours: Estimate, theirs: &Value, step: f64, what: &str) {
    let [value, low, high] = ["value", "low", "high"].map(|name| theirs[name].as_f64().unwrap());
    let interval = ours.interval.unwrap();
    assert!((ours.value.unwrap() - value).abs() < 1e-9, "{what}: {ours:?} and {theirs}");
    let allowed = 0.05 * (high - low) + step;
    assert!(
        (interval.low - low).abs() < allowed && (interval.high - high).abs() < allowed,
        "{what}: {ours:?} and {theirs}"
    );
}

#[test]
fn curves_of_intervention_are_numpys() {
    for (case, theirs) in references() {
        let what = format!("{} of {}", theirs["activation"], theirs["reads"]);
        let ours = case.intervene(1);
        assert_eq!(ours.largest_error, counts(&theirs["largest_error"]), "{what}");
        assert_eq!(ours.most_uncertain, theirs["most_uncertain"].as_array().map(|_| counts(&theirs["most_uncertain"])));
        // Every order of the four groups is as probable: 800 draws, and a share's standard error below 0.018.
        for (ours, theirs) in ours.random.iter().zip(theirs["expected"].as_array().unwrap()) {
            let (ours, theirs) = (ours.value.unwrap(), theirs.as_f64().unwrap());
            assert!((ours - theirs).abs() < 0.05, "{what}: {ours} and {theirs}");
        }
        assert!(ours.deviation < 1e-6, "{what}: {}", ours.deviation);
    }
}

#[test]
fn what_labels_say_by_the_taxonomy_is_numpys() {
    for (case, theirs) in references() {
        let fine = case.scores.fine.as_ref().unwrap();
        let rule = match fine.activation {
            ScoreActivation::Sigmoid => DecisionRule::Threshold { threshold: Threshold::new(0.5).unwrap() },
            ScoreActivation::Softmax => DecisionRule::TopK { k: std::num::NonZeroU16::new(3).into() },
        };
        let decisions = decide_all(&case.scores, case.truths(), Some(&rule));
        let readings = read_labels(&case.scores, &decisions, &taxonomy());
        let categories: Vec<_> = readings.iter().map(|reading| reading.category.map(|id| u64::from(id.0))).collect();
        assert_eq!(categories, list(&theirs["reading"], Value::as_u64));
        let consistent: Vec<_> = readings.iter().map(|reading| vec![reading.consistent, reading.labels]).collect();
        assert_eq!(consistent, list(&theirs["consistent"], counts));
        agrees(consistency(&readings, 2), &theirs["consistency"], 0.005, "consistency");

        let right = |decision: &Decision| decision.coarse_correct;
        let other = list(&theirs["coarse_only"], |right| right.as_bool().unwrap());
        let agreement: Agreement = other.into_iter().zip(decisions.iter().map(right)).collect();
        let ours = completeness(agreement, theirs["majority"].as_f64().unwrap(), 2);
        agrees(ours, &theirs["completeness"], 0.03, "completeness");
        let dropped = ours.interval.unwrap().dropped as f64 / RESAMPLES as f64;
        assert!((dropped - theirs["completeness"]["dropped"].as_f64().unwrap()).abs() < 0.01);
    }
}

/// Scores of some images whose coarse logits are what the head makes of them.
fn any_case() -> impl Strategy<Value = Case> {
    let image = (prop::collection::vec(-6f32..6.0, 9), prop::collection::btree_set(0u16..9, 1..5), 0u16..3);
    let head = (prop::collection::vec(-3f32..3.0, 27), any::<bool>(), any::<bool>());
    (prop::collection::vec(image, 1..12), head).prop_map(|(images, (weight, softmax, reads_logits))| {
        let activation = if softmax { ScoreActivation::Softmax } else { ScoreActivation::Sigmoid };
        let coarse_input = if reads_logits { CoarseInput::Logits } else { CoarseInput::Probabilities };
        let bias = vec![0.5f32, -0.25, 0.0];
        let mut coarse_logits = Vec::new();
        for (logits, ..) in &images {
            let inputs = match coarse_input {
                CoarseInput::Probabilities => activation.probabilities(logits),
                CoarseInput::Logits => logits.iter().copied().map(f64::from).collect(),
            };
            let rows = weight.chunks_exact(9).zip(&bias);
            let logit = |(row, bias): (&[f32], &f32)| {
                f64::from(*bias) + row.iter().zip(&inputs).map(|(w, x)| f64::from(*w) * x).sum::<f64>()
            };
            coarse_logits.extend(rows.map(|row| logit(row) as f32));
        }
        let labels = images.iter().map(|(_, labels, _)| labels.iter().copied().map(FineId).collect()).collect();
        let coarse = images.iter().map(|(.., category)| CoarseId(*category)).collect();
        let logits = images.iter().flat_map(|(logits, ..)| logits.clone()).collect();
        let (p05, p95) = (vec![-4.0; 9], vec![4.0; 9]);
        let fine = FineScores { fine_count: 9, logits, activation, coarse_input, weight, bias, p05, p95 };
        let image_ids = (0..images.len() as i64).collect();
        Case {
            scores: Scores { split: Split::Test, image_ids, coarse_count: 3, coarse_logits, fine: Some(fine) },
            labels,
            coarse,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn curves_begin_at_the_coarse_accuracy_and_end_where_all_labels_are_right(case in any_case(), seed: u64) {
        let (ours, images) = (case.intervene(seed), case.labels.len() as f64);
        let right = decide_all(&case.scores, case.truths(), None).iter().filter(|one| one.coarse_correct).count() as u64;
        prop_assert_eq!((ours.largest_error[0], ours.all.both + ours.all.only_a), (right, right));
        let last = ours.all.both + ours.all.only_b;
        for counts in std::iter::once(&ours.largest_error).chain(&ours.most_uncertain) {
            prop_assert_eq!((counts.len(), counts[0], counts[4]), (5, right, last));
        }
        for (end, count) in [(0, right), (4, last)] {
            let share = ours.random[end];
            prop_assert_eq!((share.value, share.interval.map(|interval| interval.degenerate)), (Some(count as f64 / images), Some(true)));
        }
        prop_assert!(ours.deviation < 1e-5, "contributions and bias do not add up: {}", ours.deviation);
        // Other seeds are other random orders, and nothing else.
        let other = case.intervene(seed.wrapping_add(1));
        prop_assert_eq!((&ours.largest_error, &ours.most_uncertain), (&other.largest_error, &other.most_uncertain));
    }

    #[test]
    fn labels_that_are_right_already_are_corrected_to_no_effect(case in any_case()) {
        let mut case = case;
        let fine = case.scores.fine.as_mut().unwrap();
        // What a logits head reads is at its targets where the truth says so.
        fine.coarse_input = CoarseInput::Logits;
        for (row, labels) in fine.logits.chunks_exact_mut(9).zip(&case.labels) {
            (0u16..9).zip(row).for_each(|(label, logit)| *logit = if labels.contains(FineId(label)) { 4.0 } else { -4.0 });
        }
        for (logits, inputs) in case.scores.coarse_logits.chunks_exact_mut(3).zip(fine.logits.chunks_exact(9)) {
            for ((logit, row), bias) in logits.iter_mut().zip(fine.weight.chunks_exact(9)).zip(&fine.bias) {
                *logit = bias + row.iter().zip(inputs).map(|(w, x)| w * x).sum::<f32>();
            }
        }
        let ours = case.intervene(0);
        prop_assert!(ours.largest_error[..4].iter().all(|right| *right == ours.largest_error[0]));
    }
}

fn report(server: &TestServer, run: i64, query: &str) -> Value {
    let (status, json) = server.get(&format!("/api/v1/runs/{run}/bottleneck?{query}"));
    assert_eq!(status, 200, "{json}");
    json
}

#[test]
fn a_runs_bottleneck_is_told_alike_everywhere() {
    let server = TestServer::with_runs();
    for run in [TOP_K, SIGMOID] {
        curves_go_from_the_runs_own_accuracy_to_that_of_right_labels(&server, run);
        the_head_is_shown_label_by_label(&server, run);
        the_page_shows_what_the_api_says(&server, run);
    }
    another_rule_changes_what_labels_say_and_nothing_else(&server);
    completeness_is_measured_by_a_coarse_only_run_that_can_be_chosen(&server);
    what_has_no_bottleneck_is_refused(&server);
}

fn curves_go_from_the_runs_own_accuracy_to_that_of_right_labels(server: &TestServer, run: i64) {
    let report = report(server, run, "");
    let (_, alone) = server.get(&format!("/api/v1/runs/{run}"));
    assert_eq!(
        report["coarse_accuracy"], alone["results"]["figures"]["coarse_accuracy"],
        "the run itself says the same"
    );
    let curves = &report["intervention"];
    let groups = curves["groups"].as_array().unwrap().len();
    assert_eq!(curves["groups"][groups - 1], "public labels");
    assert_eq!(curves["most_uncertain"].is_null(), run == TOP_K);
    let names = ["random", "largest_error", "most_uncertain"];
    for curve in names.iter().filter_map(|name| curves[name].as_array()) {
        assert_eq!((curve.len(), &curve[0]["value"]), (groups + 1, &report["coarse_accuracy"]["value"]));
        assert_eq!(curve[groups]["value"], curves["largest_error"][groups]["value"]);
    }
    let count = |name: &str| curves[name].as_u64().unwrap() as f64;
    let gained = (count("only_b") - count("only_a")) / 24.0;
    assert!((curves["difference"]["value"].as_f64().unwrap() - gained).abs() < 1e-12);
    assert!(report["deviation"].as_f64().unwrap() < 1e-5, "contributions and bias do not add up");
}

fn the_head_is_shown_label_by_label(server: &TestServer, run: i64) {
    let head = &report(server, run, "")["head"];
    let (_, dataset) = server.get("/api/v1/datasets/scenes");
    let taxonomy: Taxonomy = serde_json::from_value(dataset["taxonomy"].clone()).unwrap();
    let labels = head["labels"].as_array().unwrap();
    assert_eq!(
        (head["categories"].as_array().unwrap().len(), labels.len()),
        (taxonomy.coarse().len(), taxonomy.fine().len())
    );
    // Category by category, public labels last.
    let place = |label: &Value| {
        label["category"].as_str().and_then(|name| taxonomy.find_coarse(name)).map_or(usize::MAX, |id| id.index())
    };
    assert!(labels.iter().map(place).is_sorted());
    for (index, category) in head["by_category"].as_array().unwrap().iter().enumerate() {
        let of = |label: &Value| label["weights"][index].as_f64().unwrap();
        let largest = labels.iter().map(of).fold(f64::NEG_INFINITY, f64::max);
        assert_eq!(category["in_favour"][0]["weight"].as_f64(), Some(largest));
        let own = labels.iter().filter(|label| label["category"] == category["name"]);
        let least = own.map(of).fold(f64::INFINITY, f64::min);
        let foreign =
            labels.iter().filter(|label| !label["category"].is_null() && label["category"] != category["name"]);
        assert_eq!(category["intruders"], foreign.filter(|label| of(label) > least).count());
    }
}

fn the_page_shows_what_the_api_says(server: &TestServer, run: i64) {
    let (report, page) = (report(server, run, ""), server.page(&format!("/runs/{run}/bottleneck")));
    assert_eq!(attributes(&page, ".footer a", "href"), [format!("/api/v1/runs/{run}/bottleneck")]);
    let shown = |value: &Value| value.as_f64().map_or_else(|| "–".into(), |value| format!("{value:.3}"));
    let figures = ["/coarse_accuracy", "/lookup/accuracy", "/consistency/share", "/completeness/value"];
    let values = texts(&page, "table.named:not(.weights) td .value");
    for figure in figures.map(|path| shown(&report.pointer(path).unwrap()["value"])) {
        assert!(values.contains(&figure), "{figure} is not among {values:?}");
    }
    let rows = texts(&page, "section:nth-of-type(3) table tbody tr");
    assert_eq!(rows.len(), report["intervention"]["random"].as_array().unwrap().len());
    let charts: Vec<Value> = texts(&page, "script[type='application/json']")
        .iter()
        .map(|chart| serde_json::from_str(chart).unwrap())
        .collect();
    let orders = if run == TOP_K { 2 } else { 3 };
    // A band and a line for each order, and the labels of the heat map from the bottom up.
    assert_eq!(charts[0]["data"].as_array().unwrap().len(), 2 * orders);
    let labels = report["head"]["labels"].as_array().unwrap();
    assert_eq!(charts[1]["data"][0]["z"][0], labels.last().unwrap()["weights"]);
    let cells = texts(&page, "details table.weights tbody td");
    assert_eq!(cells.len(), labels.len() * report["head"]["categories"].as_array().unwrap().len());
    // Labels and categories lead to their own pages.
    let links = attributes(&page, "table.weights tbody th a", "href");
    assert_eq!(links.len(), labels.len() + report["head"]["by_category"].as_array().unwrap().len());
    for link in [&links[0], links.last().unwrap()] {
        server.page(link);
    }
    let run_page = server.page(&format!("/runs/{run}"));
    assert!(attributes(&run_page, "#actions a", "href").contains(&format!("/runs/{run}/bottleneck")));
}

fn another_rule_changes_what_labels_say_and_nothing_else(server: &TestServer) {
    let (own, other) = (report(server, SIGMOID, ""), report(server, SIGMOID, "rule=top-k&k=2"));
    assert_eq!(other["rule_words"], "top-k, k = 2");
    for same in ["coarse_accuracy", "intervention", "head", "completeness", "deviation"] {
        assert_eq!(own[same], other[same], "{same}");
    }
    // Two labels of every image, some of them public.
    let labels = other["consistency"]["labels"].as_u64().unwrap();
    assert!((24..=48).contains(&labels), "{labels}");
    let lookup = |name: &str| other["lookup"][name].as_u64().unwrap();
    assert_eq!(lookup("both") + lookup("only_a") + lookup("only_b") + lookup("neither"), 24);
    let accuracy = (lookup("both") + lookup("only_a")) as f64 / 24.0;
    assert!((other["lookup"]["accuracy"]["value"].as_f64().unwrap() - accuracy).abs() < 1e-12);
    let page = server.page(&format!("/runs/{SIGMOID}/bottleneck?rule=top-k&k=2"));
    assert_eq!(attributes(&page, ".footer a", "href"), [format!("/api/v1/runs/{SIGMOID}/bottleneck?k=2&rule=top-k")]);
}

fn completeness_is_measured_by_a_coarse_only_run_that_can_be_chosen(server: &TestServer) {
    let newer = server.submit(&quick(json!({"objective": "coarse-only"})));
    assert_eq!(server.wait(newer)["status"], "succeeded");
    for (query, by) in [("", newer), ("coarse_only=1", COARSE_ONLY)] {
        let report = report(server, TOP_K, query);
        let completeness = &report["completeness"];
        assert_eq!(completeness["coarse_only"]["id"], by);
        let (_, other) = server.get(&format!("/api/v1/runs/{by}"));
        assert_eq!(completeness["coarse_only_accuracy"], other["results"]["figures"]["coarse_accuracy"]);
        let [ours, theirs, majority] =
            [&report["coarse_accuracy"]["value"], &other["coarse_accuracy"], &completeness["majority_share"]]
                .map(|value| value.as_f64().unwrap());
        match completeness["value"]["value"].as_f64() {
            Some(value) => assert!((value - (ours - majority) / (theirs - majority)).abs() < 1e-9),
            None => {
                assert!(theirs <= majority && completeness["undefined"].as_str().unwrap().contains("always saying"))
            }
        }
        let choices: Vec<_> = completeness["choices"].as_array().unwrap().iter().map(|run| run["id"].clone()).collect();
        assert_eq!(choices, [newer, COARSE_ONLY]);
    }
    let page = server.page(&format!("/runs/{TOP_K}/bottleneck?coarse_only=1"));
    assert_eq!(attributes(&page, "select[name='coarse_only'] option[selected]", "value"), ["1"]);

    let alone = server.submit(&quick(json!({"backbone": "vgg-tiny"})));
    assert_eq!(server.wait(alone)["status"], "succeeded");
    let completeness = &report(server, alone, "")["completeness"];
    assert!(completeness["value"]["value"].is_null() && completeness["coarse_only"].is_null());
    assert!(completeness["undefined"].as_str().unwrap().contains("no succeeded coarse-only run of vgg-tiny"));
    let page = server.page(&format!("/runs/{alone}/bottleneck"));
    assert!(
        texts(&page, "table.named th")
            .iter()
            .any(|row| row.contains("Undefined: there is no succeeded coarse-only run"))
    );
}

fn what_has_no_bottleneck_is_refused(server: &TestServer) {
    for (path, status, says) in [
        (format!("{COARSE_ONLY}/bottleneck"), 422, "is coarse-only: it has no fine labels between image and category"),
        (format!("{CANCELED}/bottleneck"), 409, "only a succeeded run"),
        ("99/bottleneck".into(), 404, "there is no run 99"),
        (format!("{TOP_K}/bottleneck?coarse_only=3"), 422, "run 3 is not a succeeded coarse-only run of resnet-tiny"),
        (format!("{TOP_K}/bottleneck?k=0"), 422, "at least one label"),
        (format!("{TOP_K}/bottleneck?groups=2"), 422, "unknown field `groups`"),
    ] {
        let (code, problem) = server.get(&format!("/api/v1/runs/{path}"));
        assert!(code == status && problem["detail"].as_str().unwrap().contains(says), "{path}: {code} {problem}");
    }
    let run_page = server.page(&format!("/runs/{COARSE_ONLY}"));
    assert!(!run_page.contains(&format!("/runs/{COARSE_ONLY}/bottleneck")));
}
