//! Two runs held against each other, and a run's labels: API, pages and galleries say the same.

use serde_json::{Value, json};
use twograin::dataset::scenes::{self, ScenesConfig};

use crate::support::{TestServer, api as get, attributes, import, texts};

const OUTCOMES: [&str; 4] = ["FTCT", "FTCF", "FFCT", "FFCF"];
// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;
const CANCELED: i64 = 4;

fn refused(server: &TestServer, path: &str) -> (u16, String) {
    let (status, problem) = server.get(&format!("/api/v1/{path}"));
    (status, problem["detail"].as_str().unwrap_or_else(|| panic!("{problem}")).to_owned())
}

#[test]
fn two_runs_and_the_labels_of_one_are_told_alike_everywhere() {
    let server = TestServer::with_runs();
    each_cell_of_two_runs_leads_to_its_images(&server);
    another_rule_is_applied_to_both(&server);
    a_coarse_only_run_is_compared_by_category_alone(&server);
    what_cannot_be_compared_is_refused(&server);
    labels_are_sorted_and_lead_to_their_images(&server);
}

fn each_cell_of_two_runs_leads_to_its_images(server: &TestServer) {
    let report = get(server, &format!("transitions?a={TOP_K}&b={SIGMOID}"));
    assert_eq!((&report["images"], &report["resamples"]), (&json!(24), &json!(10_000)));
    let cell = |a: usize, b: usize| report["outcomes"][a][b].as_u64().unwrap();
    for (side, run) in [("a", TOP_K), ("b", SIGMOID)] {
        let alone = get(server, &format!("runs/{run}"));
        assert_eq!(report[side]["results"], alone["results"], "the run itself says the same");
        for (index, outcome) in OUTCOMES.iter().enumerate() {
            let sum: u64 = (0..4).map(|other| if side == "a" { cell(index, other) } else { cell(other, index) }).sum();
            assert_eq!(alone["results"]["counts"][outcome.to_lowercase()], sum);
        }
    }
    for index in ["ia", "ip", "ir", "if1", "coarse_accuracy", "fine_exact_match"] {
        let of = |side: &str| report[side]["results"]["figures"][index]["value"].as_f64();
        let difference = of("b").zip(of("a")).map(|(b, a)| b - a);
        assert_eq!(report["differences"][index]["value"].as_f64(), difference, "{index}");
    }
    assert_eq!(report["ftct"]["both"], cell(0, 0));
    assert_eq!(report["ftct"]["only_b"], cell(1, 0) + cell(2, 0) + cell(3, 0));
    assert!(report["ftct"]["p"].as_f64().unwrap() <= 1.0 && report["ftct"]["method"] == "exact");
    let right = |outcome: usize| outcome == 0 || outcome == 2;
    let only_a: u64 = (0..16).filter(|at| right(at / 4) && !right(at % 4)).map(|at| cell(at / 4, at % 4)).sum();
    assert_eq!(report["category"]["only_a"], only_a);

    let page = server.page(&format!("/transitions?a={TOP_K}&b={SIGMOID}"));
    let links = attributes(&page, "table.transitions a", "href");
    let filled: Vec<u64> = (0..16).map(|at| cell(at / 4, at % 4)).filter(|images| *images > 0).collect();
    assert_eq!(links.len(), filled.len());
    for (link, images) in links.iter().zip(filled) {
        let gallery = server.page(link);
        assert_eq!(attributes(&gallery, "li.card", "id").len() as u64, images, "{link}");
        assert!(attributes(&gallery, "header a", "href").contains(&format!("/transitions?a={TOP_K}&b={SIGMOID}")));
    }
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(get(server, footer[0].strip_prefix("/api/v1/").unwrap()), report);
    // A run's own page offers the others.
    let run = server.page(&format!("/runs/{SIGMOID}"));
    assert_eq!(attributes(&run, "form[action='/transitions'] option", "value"), ["2", "1"]);
    assert!(attributes(&run, "#actions a", "href").contains(&format!("/runs/{SIGMOID}/labels")));
}

fn another_rule_is_applied_to_both(server: &TestServer) {
    let query = format!("transitions?a={TOP_K}&b={SIGMOID}&rule=top-k&k=1");
    let report = get(server, &query);
    for (side, run) in [("a", TOP_K), ("b", SIGMOID)] {
        let indices = get(server, &format!("runs/{run}/indices?rule=top-k&k=1"));
        assert_eq!(report[side]["results"]["counts"], indices["counts"]);
        assert_eq!(report[side]["results"]["rule"], "top-k, k = 1");
    }
    // Galleries follow.
    let links = attributes(&server.page(&format!("/{query}")), "table.transitions a", "href");
    let images: usize = links.iter().map(|link| attributes(&server.page(link), "li.card", "id").len()).sum();
    assert_eq!(images, 24, "{links:?}");
}

fn a_coarse_only_run_is_compared_by_category_alone(server: &TestServer) {
    let report = get(server, &format!("transitions?a={COARSE_ONLY}&b={TOP_K}"));
    assert_eq!((&report["outcomes"], &report["ftct"]), (&Value::Null, &Value::Null));
    assert!(report["differences"]["ia"]["value"].is_null() && report["differences"]["ia"]["low"].is_null());
    assert!(report["differences"]["coarse_accuracy"]["low"].is_number());
    let page = server.page(&format!("/transitions?a={COARSE_ONLY}&b={TOP_K}"));
    let cells = ["both", "only_a", "only_b", "neither"].map(|cell| report["category"][cell].to_string());
    assert_eq!(texts(&page, "table.transitions td"), cells);
}

fn what_cannot_be_compared_is_refused(server: &TestServer) {
    let config = ScenesConfig { train: 40, test: 12, side: 40, seed: 10 };
    let files = scenes::generate(&server.data.path().join("others"), &config, &|_, _| {}).expect("scenes");
    import("others", server.data.path(), &files.train, &files.test);
    let other = server.submit(&json!({
        "dataset": "others", "backbone": "resnet-tiny", "objective": "top-k-softmax", "epochs": 1, "input_size": 32,
        "warmup_epochs": 0
    }));
    assert_eq!(server.wait(other)["status"], "succeeded");
    for (query, status, says) in [
        (format!("transitions?a={TOP_K}&b={TOP_K}"), 422, "name another run"),
        (format!("transitions?a={TOP_K}"), 422, "missing field `b`"),
        (format!("transitions?a={TOP_K}&b=99"), 404, "there is no run 99"),
        (format!("transitions?a={CANCELED}&b={TOP_K}"), 409, "run 4 is canceled"),
        (format!("transitions?a={TOP_K}&b={other}"), 422, "have different test sets"),
        (format!("transitions?a={TOP_K}&b={SIGMOID}&k=0"), 422, "at least one label"),
        (format!("transitions?a={TOP_K}&b={COARSE_ONLY}&k=1"), 422, "a coarse-only run has no fine scores"),
        (format!("runs/{TOP_K}/outcomes?other_outcome=FTCT"), 422, "name it as other"),
        (format!("runs/{TOP_K}/outcomes?other={other}&other_outcome=FTCT"), 422, "of the data set “others”"),
        (format!("runs/{COARSE_ONLY}/labels"), 422, "is coarse-only: it has no scores of fine labels"),
        (format!("runs/{CANCELED}/labels"), 409, "only a succeeded run"),
        (format!("runs/{TOP_K}/labels?sort=size"), 422, "“size” is not a column"),
    ] {
        let (code, detail) = refused(server, &query);
        assert!(code == status && detail.contains(says), "{query}: {code} {detail}");
    }
    // It is not offered either.
    let run = server.page(&format!("/runs/{other}"));
    assert!(attributes(&run, "form[action='/transitions']", "action").is_empty());
}

fn labels_are_sorted_and_lead_to_their_images(server: &TestServer) {
    let own = get(server, &format!("runs/{SIGMOID}/labels"));
    let sorted = get(server, &format!("runs/{SIGMOID}/labels?sort=-average_precision&k=3"));
    let labels = |report: &Value| report["labels"].as_array().unwrap().clone();
    let supported = labels(&own).iter().filter(|label| label["support"] != 0).count();
    assert_eq!(own["supported"], supported);
    let precisions: Vec<_> = labels(&sorted).iter().map(|label| label["average_precision"]["value"].as_f64()).collect();
    assert!(precisions.windows(2).all(|pair| pair[1].is_none() || pair[0] >= pair[1]), "{precisions:?}");
    // The rule changes what is predicted, and not how images are ranked.
    assert_eq!(own["macro_mean"]["average_precision"], sorted["macro_mean"]["average_precision"]);
    let predicted = labels(&sorted).iter().map(|label| label["predicted"].as_u64().unwrap()).sum::<u64>();
    assert_eq!(predicted, 3 * 24);

    let page = server.page(&format!("/runs/{SIGMOID}/labels?sort=-support"));
    assert_eq!(attributes(&page, "th[aria-sort]", "aria-sort"), ["descending"]);
    let again = attributes(&page, "th[aria-sort] a", "href");
    assert_eq!(again, [format!("/runs/{SIGMOID}/labels?sort=support")]);
    let most = &get(server, &format!("runs/{SIGMOID}/labels?sort=-support"))["labels"][0];
    let gallery = server.page(&attributes(&page, "table.dense tbody td a", "href")[0]);
    assert_eq!(attributes(&gallery, "li.card", "id").len() as u64, most["support"].as_u64().unwrap());
    let footer = attributes(&page, ".footer a", "href");
    assert_eq!(footer, [format!("/api/v1/runs/{SIGMOID}/labels?sort=-support")]);
}
