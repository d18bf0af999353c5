//! Decision rules: all thresholds and all k against numpy and `decide_all`, tuned thresholds and macro F1 against scikit-learn
//! (`tests/reference/decision.py`), and the explorer, which says the same everywhere.

use proptest::prelude::*;
use serde_json::{Value, json};
use twograin::{
    analysis::{LabelCounts, MacroF1, Separations, Truth, decide_all, label_counts, tally, tune},
    domain::{
        CoarseId, Counts, DecisionRule, FineId, LabelSet, Split, Threshold, TopK, decision::sigmoid, spec::CoarseInput,
    },
    exchange::{FineScores, ScoreActivation, Scores},
};

use crate::{
    analysis::agrees,
    support::{TestServer, api as get, attributes, texts, twograin},
};

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;
const CANCELED: i64 = 4;

/// Scores of some images and what is true of them.
#[derive(Clone, Debug)]
struct Case {
    scores: Scores,
    labels: Vec<LabelSet>,
    coarse: Vec<CoarseId>,
}

impl Case {
    /// Of images with fine logits, true labels, coarse logits and a category.
    fn of(images: impl IntoIterator<Item = (Vec<f32>, LabelSet, Vec<f32>, u16)>) -> Self {
        let (mut logits, mut labels, mut coarse_logits, mut coarse) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (fine, set, coarse_row, category) in images {
            logits.push(fine);
            labels.push(set);
            coarse_logits.push(coarse_row);
            coarse.push(CoarseId(category));
        }
        let (fine_count, coarse_count) = (logits[0].len(), coarse_logits[0].len());
        let fine = FineScores {
            fine_count,
            logits: logits.concat(),
            activation: ScoreActivation::Sigmoid,
            coarse_input: CoarseInput::Probabilities,
            weight: vec![0.0; fine_count * coarse_count],
            bias: vec![0.0; coarse_count],
            p05: vec![0.0; fine_count],
            p95: vec![0.0; fine_count],
        };
        let image_ids = (0..labels.len() as i64).collect();
        let coarse_logits = coarse_logits.concat();
        let scores = Scores { split: Split::Test, image_ids, coarse_count, coarse_logits, fine: Some(fine) };
        Self { scores, labels, coarse }
    }

    fn truths(&self) -> Vec<Truth<'_>> {
        self.labels.iter().zip(&self.coarse).map(|(fine, coarse)| Truth { fine, coarse: *coarse }).collect()
    }

    fn separations(&self) -> Separations {
        Separations::of(&self.scores, &self.truths()).unwrap()
    }

    /// Image by image, label by label.
    fn counts(&self, rule: &DecisionRule) -> Counts {
        tally(&decide_all(&self.scores, self.truths(), Some(rule)), Some(rule)).counts.unwrap()
    }

    fn tuned(&self, own: f64) -> Vec<Threshold> {
        tune(self.scores.fine.as_ref().unwrap(), &self.truths(), theta(own)).to_vec()
    }
}

fn theta(value: f64) -> Threshold {
    Threshold::new(value).unwrap()
}

fn at(threshold: f64) -> DecisionRule {
    DecisionRule::Threshold { threshold: theta(threshold) }
}

fn top(k: u16) -> DecisionRule {
    DecisionRule::TopK { k: std::num::NonZeroU16::new(k).into() }
}

fn floats(value: &Value) -> Vec<f64> {
    value.as_array().unwrap().iter().map(|number| number.as_f64().unwrap()).collect()
}

fn set(value: &Value) -> LabelSet {
    floats(value).into_iter().map(|label| FineId(label as u16)).collect()
}

/// The images of the reference, and what numpy and scikit-learn make of them.
fn reference() -> (Case, Value) {
    let value: Value = serde_json::from_str(include_str!("../reference/decision.json")).unwrap();
    let rows = |name: &str| value[name].as_array().unwrap().clone();
    let logits = |value: &Value| floats(value).into_iter().map(|logit| logit as f32).collect::<Vec<_>>();
    let images = rows("logits").into_iter().zip(rows("truth")).zip(rows("coarse_logits")).zip(rows("category"));
    let case = Case::of(images.map(|(((fine, truth), coarse), category)| {
        (logits(&fine), set(&truth), logits(&coarse), category.as_u64().unwrap() as u16)
    }));
    (case, value)
}

fn counts(value: &Value) -> Counts {
    let [ftct, ftcf, ffct, ffcf] = floats(value).try_into().unwrap();
    Counts { ftct: ftct as u64, ftcf: ftcf as u64, ffct: ffct as u64, ffcf: ffcf as u64 }
}

#[test]
fn outcomes_under_every_rule_are_numpys() {
    let (case, theirs) = reference();
    let separations = case.separations();
    let thresholds: Vec<Threshold> = floats(&theirs["thresholds"]).into_iter().map(theta).collect();
    let expected = |name: &str| theirs[name].as_array().unwrap().iter().map(counts).collect::<Vec<_>>();
    assert_eq!(separations.at_thresholds(&thresholds), expected("at_thresholds"));
    // Numpy goes on to as many as there are labels, where no image has the right ones any more.
    let (ours, theirs_at_k) = (separations.at_each_k(), expected("at_k"));
    assert_eq!(ours, theirs_at_k[..ours.len()]);
    assert!(theirs_at_k[ours.len()..].iter().all(|counts| counts.ftct + counts.ftcf == 0));
    for (k, theirs) in (1..).zip(&theirs_at_k) {
        assert_eq!(case.counts(&top(k)), *theirs, "k = {k}");
    }
    let oracle = DecisionRule::TopK { k: TopK::Oracle };
    assert_eq!(separations.judge(&oracle).unwrap().tally().counts, Some(counts(&theirs["oracle"])));
}

#[test]
fn tuned_thresholds_take_what_scikit_learns_best_threshold_takes() {
    let (case, theirs) = reference();
    let fine = case.scores.fine.as_ref().unwrap();
    for ((label, threshold), theirs) in (0u16..).zip(case.tuned(0.7)).zip(theirs["tuned"].as_array().unwrap()) {
        let Some(best) = theirs["f1"].as_f64() else {
            assert_eq!(threshold, theta(0.7), "label {label} is never true, and keeps the run's threshold");
            continue;
        };
        let rows = fine.logits.chunks_exact(fine.fine_count).enumerate();
        let takes = |(_, logits): &(usize, &[f32])| sigmoid(logits[usize::from(label)]) > threshold.get();
        let taken: Vec<f64> = rows.filter(takes).map(|(row, _)| row as f64).collect();
        assert_eq!(taken, floats(&theirs["taken"]), "label {label}");
        let decisions = decide_all(&case.scores, case.truths(), Some(&at(threshold.get())));
        let f1 = label_counts(&decisions, case.truths(), fine.fine_count)[usize::from(label)].f1().unwrap();
        assert!((f1 - best).abs() < 1e-12, "label {label}: {f1} and {best}");
    }
}

#[test]
fn macro_f1_and_its_difference_are_those_of_scikit_learn() {
    let (case, theirs) = reference();
    let theirs = &theirs["macro_f1"];
    let thresholds = floats(&theirs["thresholds"]).into_iter().map(theta).collect();
    let [before, after] = [at(0.7), DecisionRule::PerLabel { thresholds }]
        .map(|rule| decide_all(&case.scores, case.truths(), Some(&rule)));
    let ours = MacroF1::of(&before, &after, case.truths(), 7, 10_000, 5);
    for (what, ours) in [("before", ours.before), ("after", ours.after), ("difference", ours.difference)] {
        agrees(ours, &theirs[what], 0.003, what);
    }
    assert_eq!(ours, MacroF1::of(&before, &after, case.truths(), 7, 10_000, 5));
    let same = MacroF1::of(&before, &before, case.truths(), 7, 160, 5).difference;
    assert!(same.value == Some(0.0) && same.interval.unwrap().degenerate);
    assert_eq!(MacroF1::of(&before, &after, case.truths(), 7, 0, 5).difference.interval, None);
}

/// Few distinct logits, zeros of either sign among them, saturated ones, and sets of any size.
fn any_case() -> impl Strategy<Value = Case> {
    let logit = prop::sample::select(vec![-800.0f32, -2.0, -1.0, -0.0, 0.0, 1e-8, 1.0, 2.0, 40.0, 41.0]);
    let coarse = prop::sample::select(vec![-1.0f32, 0.0, 1.0]);
    (1usize..6).prop_flat_map(move |labels| {
        let truth = prop::collection::btree_set(0..labels as u16, 0..=labels);
        let truth = truth.prop_map(|set| set.into_iter().map(FineId).collect::<LabelSet>());
        let fine = prop::collection::vec(logit.clone(), labels);
        let image = (fine, truth, prop::collection::vec(coarse.clone(), 2), 0u16..2);
        prop::collection::vec(image, 1..12).prop_map(Case::of)
    })
}

proptest! {
    #[test]
    fn one_pass_says_what_deciding_image_by_image_says(case in any_case(), other in 0.0f64..=1.0) {
        let separations = case.separations();
        let mut thresholds = vec![0.0, 1e-300, 0.25, sigmoid(-1.0), 0.5, sigmoid(1e-8), sigmoid(2.0), sigmoid(36.0), 1.0, other];
        thresholds.sort_by(f64::total_cmp);
        let thresholds: Vec<Threshold> = thresholds.into_iter().map(theta).collect();
        let at_once = separations.at_thresholds(&thresholds);
        for (threshold, at_once) in thresholds.iter().zip(at_once) {
            prop_assert_eq!(at_once, case.counts(&at(threshold.get())), "θ = {}", threshold.get());
        }
        let rules = (1..8).map(top).chain(thresholds.iter().map(|threshold| at(threshold.get())));
        for rule in rules.chain([DecisionRule::TopK { k: TopK::Oracle }]) {
            let decided = decide_all(&case.scores, case.truths(), Some(&rule));
            let judged = separations.judge(&rule).unwrap();
            prop_assert!(judged.outcomes().unwrap().eq(decided.iter().filter_map(|one| one.outcome())), "{:?}", rule);
        }
        for (k, at_k) in (1..).zip(separations.at_each_k()) {
            prop_assert_eq!(at_k, case.counts(&top(k)), "k = {}", k);
        }
    }

    #[test]
    fn no_threshold_has_a_higher_f1_than_the_tuned_one(case in any_case(), other in 0.0f64..1.0) {
        let f1s = |rule: DecisionRule| -> Vec<Option<f64>> {
            let decisions = decide_all(&case.scores, case.truths(), Some(&rule));
            let labels = case.scores.fine.as_ref().unwrap().fine_count;
            label_counts(&decisions, case.truths(), labels).into_iter().map(LabelCounts::f1).collect()
        };
        let tuned = f1s(DecisionRule::PerLabel { thresholds: case.tuned(0.7).into() });
        for threshold in [0.0, 0.2, sigmoid(-0.0), 0.7, sigmoid(2.0), sigmoid(40.0), other] {
            for (tuned, (label, f1)) in tuned.iter().zip(f1s(at(threshold)).into_iter().enumerate()) {
                let positive = case.labels.iter().any(|labels| labels.contains(FineId(label as u16)));
                prop_assert!(!positive || *tuned >= f1, "label {label}: {tuned:?} below {f1:?} at {threshold}");
            }
        }
    }
}

#[test]
fn a_run_under_any_rule_is_told_alike_everywhere() {
    let server = TestServer::with_runs();
    every_step_says_what_the_indices_say(&server);
    a_rule_is_held_against_the_runs_own(&server);
    thresholds_are_tuned_on_validation_wherever_a_rule_is_taken(&server);
    the_page_leads_to_rules_images_and_differences(&server);
    the_command_line_says_the_same(&server);
    what_cannot_be_asked_is_refused(&server);
}

fn every_step_says_what_the_indices_say(server: &TestServer) {
    for run in [TOP_K, SIGMOID] {
        let over_theta = get(server, &format!("runs/{run}/sweep?steps=11"));
        let over_k = get(server, &format!("runs/{run}/sweep?over=k"));
        assert_eq!(
            (&over_theta["images"], &over_theta["best"]),
            (&json!(24), &Value::Null),
            "nothing is chosen on test"
        );
        let steps = |sweep: &Value| sweep["steps"].as_array().unwrap().clone();
        assert_eq!(steps(&over_theta).len(), 11);
        for step in steps(&over_theta).into_iter().chain(steps(&over_k)).chain([over_k["oracle"].clone()]) {
            let query = match step["rule"].as_str().unwrap() {
                "threshold" => format!("rule=threshold&threshold={}", step["threshold"]),
                _ if step["k"].is_null() => "rule=top-k".into(),
                _ => format!("rule=top-k&k={}", step["k"]),
            };
            let indices = get(server, &format!("runs/{run}/indices?{query}"));
            for field in ["counts", "ia", "ip", "ir", "if1", "coarse_accuracy", "fine_exact_match"] {
                assert_eq!(step[field], indices[field], "{field} with {query}");
            }
        }
    }
    for run in [TOP_K, SIGMOID] {
        let validation = get(server, &format!("runs/{run}/sweep?split=validation"));
        let steps = validation["steps"].as_array().unwrap();
        let best = steps.iter().filter_map(|step| step["ia"].as_f64()).fold(0.0, f64::max);
        let first = steps.iter().find(|step| best > 0.0 && step["ia"] == best).unwrap_or(&Value::Null);
        assert_eq!(validation["best"]["ia"], *first, "of equals the lowest");
    }
}

fn a_rule_is_held_against_the_runs_own(server: &TestServer) {
    let own = get(server, &format!("runs/{SIGMOID}/decision"));
    let run = get(server, &format!("runs/{SIGMOID}"));
    assert_eq!((&own["results"], &own["own"]), (&run["results"], &run["results"]));
    assert!(own["against_own"].is_null() && own["own_threshold"] == 0.2);

    let other = get(server, &format!("runs/{SIGMOID}/decision?rule=top-k&outcome=FFCF"));
    let transitions = get(server, &format!("transitions?a={SIGMOID}&b={SIGMOID}&rule_b=top-k"));
    assert_eq!(other["results"], transitions["b"]["results"]);
    assert_eq!(other["against_own"]["outcomes"], transitions["outcomes"]);
    assert_eq!(other["against_own"]["differences"], transitions["differences"]);
    let images = get(server, &format!("runs/{SIGMOID}/outcomes?rule=top-k&outcome=FFCF&limit=12"));
    assert_eq!((&other["images"], &other["outcome"]), (&images["items"], &json!("FFCF")));
    // The best threshold is one of validation's, and its figure on test is that of the same step there.
    let report = get(server, &format!("runs/{TOP_K}/decision"));
    let on_validation = get(server, &format!("runs/{TOP_K}/sweep?split=validation"));
    for index in ["ia", "if1"] {
        let best = &report["best"][index];
        assert_eq!(best["threshold"], on_validation["best"][index]["threshold"]);
        let mut steps = report["thresholds"].as_array().unwrap().iter();
        let step = steps.find(|step| step["threshold"] == best["threshold"]).unwrap_or(&Value::Null);
        assert_eq!(best["test"], step[index]);
    }
}

fn thresholds_are_tuned_on_validation_wherever_a_rule_is_taken(server: &TestServer) {
    for run in [TOP_K, SIGMOID] {
        let tuned = get(server, &format!("runs/{run}/decision?rule=tuned"));
        let tuning = &tuned["tuning"];
        let thresholds: Vec<_> =
            tuning["labels"].as_array().unwrap().iter().map(|label| label["threshold"].clone()).collect();
        assert_eq!(tuned["rule"], json!({"rule": "per-label", "thresholds": thresholds}));
        let value = |figures: &Value, name: &str| figures[name]["value"].clone();
        assert_eq!(value(&tuning["after"], "ia"), value(&tuned["results"]["figures"], "ia"));
        // The gain is over one threshold for all labels, which for a sigmoid run is its own rule.
        let before = get(server, &format!("runs/{run}/decision?rule=threshold"));
        assert_eq!(value(&tuning["before"], "if1"), value(&before["results"]["figures"], "if1"));
        for query in ["rule=tuned", "rule=threshold"] {
            let labels = get(server, &format!("runs/{run}/labels?{query}"));
            let (side, field) = if query == "rule=tuned" { ("after", "test_after") } else { ("before", "test_before") };
            assert_eq!(value(&tuning["macro_f1"], side), labels["macro_mean"]["f1"], "{query}");
            for (tuned, label) in tuning["labels"].as_array().unwrap().iter().zip(labels["labels"].as_array().unwrap())
            {
                assert_eq!((&tuned["name"], &tuned[field]), (&label["name"], &label["f1"]), "{query}");
            }
        }
        for label in tuning["labels"].as_array().unwrap() {
            let (before, after) = (label["validation_before"].as_f64(), label["validation_after"].as_f64());
            assert!(label["found"] == false || after >= before, "{label}");
        }
    }
    // A label's page says which threshold is its own.
    let label = &get(server, &format!("runs/{SIGMOID}/decision"))["tuning"]["labels"][0];
    let name = label["name"].as_str().unwrap();
    assert_eq!(get(server, &format!("runs/{SIGMOID}/labels/{name}?rule=tuned"))["threshold"], label["threshold"]);
}

fn the_page_leads_to_rules_images_and_differences(server: &TestServer) {
    assert!(
        attributes(&server.page(&format!("/runs/{SIGMOID}")), "#actions a", "href")
            .contains(&format!("/runs/{SIGMOID}/decision"))
    );
    let page = server.page(&format!("/runs/{SIGMOID}/decision?rule=threshold&threshold=0.35"));
    let report = get(server, &format!("runs/{SIGMOID}/decision?rule=threshold&threshold=0.35"));
    assert_eq!(attributes(&page, "#theta", "value"), ["0.35"]);
    assert_eq!(texts(&page, "#results h2"), ["p > 0.35"]);
    let ia = report["results"]["figures"]["ia"]["value"].as_f64().unwrap();
    assert!(texts(&page, "#results tbody tr:first-child td")[0].starts_with(&format!("{ia:.3}")));
    assert_eq!(texts(&page, "#threshold-steps tbody tr").len(), 101);
    assert_eq!(attributes(&page, "#threshold-steps [aria-current]", "href").len(), 1);
    assert_eq!(texts(&page, "#k-steps tbody tr").len(), report["ks"].as_array().unwrap().len() + 1);
    // Without scripts: each slider is a form of its own, each rule without a slider a link.
    for (slider, fields) in [("theta", ["rule", "threshold"]), ("k", ["rule", "k"])] {
        assert_eq!(attributes(&page, &format!("form:has(#{slider}) input"), "name"), fields);
    }
    for offer in attributes(&page, "#offers a", "href") {
        let chosen = server.page(&offer);
        assert!(attributes(&chosen, "#offers [aria-current]", "href").contains(&offer), "{offer}");
    }
    let counts = &report["results"]["counts"];
    for (tab, outcome) in attributes(&page, ".tabs a", "href").iter().zip(["ftct", "ftcf", "ffct", "ffcf"]) {
        let listed = server.page(tab.trim_end_matches("#images"));
        let shown = attributes(&listed, ".cards li", "id").len() as u64;
        assert_eq!(shown, counts[outcome].as_u64().unwrap().min(12), "{tab}");
    }
    for link in attributes(&page, "#images .heading a, #results a, #best a, #tuning tbody a", "href") {
        let link = if link.starts_with('?') { format!("/runs/{SIGMOID}/decision{link}") } else { link };
        server.page(&link);
    }
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(get(server, footer[0].strip_prefix("/api/v1/").unwrap()), report);
    let oracle = server.page(&format!("/runs/{TOP_K}/decision"));
    assert!(texts(&oracle, "#results .verdict")[0].contains("Oracle k"));
}

fn the_command_line_says_the_same(server: &TestServer) {
    let run = |arguments: &[&str]| {
        let output =
            twograin().args(["run", "decision", "3", "--server", &server.url]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let report = get(server, &format!("runs/{SIGMOID}/decision?rule=tuned"));
    assert_eq!(serde_json::from_str::<Value>(&run(&["--rule", "tuned", "--json"])).unwrap(), report);
    let text = run(&["--threshold", "0.35"]);
    assert!(text.contains("this rule: p > 0.35\n") && text.contains("its own rule: p > 0.2\n"), "{text}");
    let best = report["best"]["ia"]["threshold"].as_f64();
    let best =
        best.map_or("IA: 0 or undefined at every threshold".into(), |best| format!("IA: θ = {best}, where it is"));
    assert!(text.contains(&best) && text.contains("Macro F1 of labels"), "{text}");
}

fn what_cannot_be_asked_is_refused(server: &TestServer) {
    for (query, status, says) in [
        (format!("runs/{COARSE_ONLY}/decision"), 422, "is coarse-only"),
        (format!("runs/{COARSE_ONLY}/sweep"), 422, "is coarse-only"),
        (format!("runs/{COARSE_ONLY}/indices?rule=tuned"), 422, "no fine scores"),
        (format!("runs/{CANCELED}/decision"), 409, "only a succeeded run"),
        (format!("runs/{SIGMOID}/decision?rule=tuned&k=2"), 422, "k: it goes with rule=top-k"),
        (format!("runs/{SIGMOID}/decision?rule=best"), 422, "top-k, threshold and tuned"),
        (format!("runs/{SIGMOID}/decision?steps=3"), 422, "unknown field"),
        (format!("runs/{SIGMOID}/sweep?steps=1"), 422, "outside 2 to 10001"),
        (format!("runs/{SIGMOID}/sweep?over=k&steps=5"), 422, "goes with over=theta"),
        (format!("runs/{SIGMOID}/sweep?over=j"), 422, "unknown variant"),
        (format!("runs/{SIGMOID}/sweep?split=train"), 422, "test and validation only"),
        ("runs/99/sweep".into(), 404, "there is no run 99"),
    ] {
        let (code, problem) = server.get(&format!("/api/v1/{query}"));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(code == status && detail.contains(says), "{query}: {code} {detail}");
    }
}
