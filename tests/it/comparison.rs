//! The comparison: differences to a base run, and who is right for the wrong reasons most often.

use scraper::{Html, Selector};
use serde_json::{Value, json};

use crate::support::{TestServer, api as get, attributes, quick};

const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;

fn cells(comparison: &Value) -> Vec<&Value> {
    let rows = comparison["rows"].as_array().unwrap().iter();
    rows.flat_map(|row| row["cells"].as_array().unwrap()).collect()
}

#[test]
fn runs_are_held_against_a_base_run_and_the_most_wrong_one_shows_its_images() {
    let server = TestServer::with_runs();
    let comparison = get(&server, "comparisons");
    let best = cells(&comparison)
        .into_iter()
        .max_by(|a, b| {
            let ia = |cell: &Value| cell["figures"]["ia"]["value"].as_f64().unwrap();
            // Of equals the first.
            ia(a).total_cmp(&ia(b)).then(std::cmp::Ordering::Greater)
        })
        .unwrap();
    assert_eq!(comparison["base"], best["runs"][0], "the base is the one with the highest IA");

    for base in [TOP_K, SIGMOID] {
        let other = TOP_K + SIGMOID - base;
        let comparison = get(&server, &format!("comparisons?base={base}"));
        let transitions = get(&server, &format!("transitions?a={base}&b={other}"));
        assert_eq!(comparison["base"], base);
        for cell in cells(&comparison) {
            if cell["runs"] == json!([base]) {
                assert!(cell["difference"].is_null());
                continue;
            }
            // Held against each other on a page of their own they differ by the same; one comparison needs no correction.
            assert_eq!(cell["difference"]["figures"], transitions["differences"]);
            assert_eq!(cell["difference"]["ftct"], transitions["ftct"]);
            assert_eq!(cell["difference"]["p_adjusted"], transitions["ftct"]["p"]);
        }
        let page = server.page(&format!("/?base={base}"));
        assert_eq!(attributes(&page, "#base option[selected]", "value"), [base.to_string()]);
        assert!(attributes(&page, "#differences td a", "href").contains(&format!("/transitions?a={base}&b={other}")));
        let json = attributes(&page, ".footer a", "href");
        assert_eq!(get(&server, json[0].strip_prefix("/api/v1/").unwrap()), comparison);
    }

    // Each number opens its definition, with its counts, its images and its query.
    let page = server.page("/");
    let opened = attributes(&page, "#indices button[popovertarget]", "popovertarget");
    assert_eq!(opened.len(), 11, "five figures of two runs, and the accuracy of the coarse-only one");
    assert_eq!(opened, attributes(&page, "#indices [popover]", "id"));
    let of_differences = attributes(&page, "#differences button[popovertarget]", "popovertarget");
    assert_eq!(of_differences.len(), 6, "five differences and p");
    assert_eq!(of_differences, attributes(&page, "#differences [popover]", "id"));
    // The verdicts open the same; where nothing is right for the right reasons, there is one alone.
    let of_verdicts = attributes(&page, ".verdict button[popovertarget]", "popovertarget");
    assert!(!of_verdicts.is_empty() && of_verdicts.iter().all(|id| opened.contains(id)), "{of_verdicts:?}");
    let about = attributes(&page, &format!("#ir-{TOP_K} a"), "href");
    assert!(about.contains(&format!("/runs/{TOP_K}/images?outcome=FFCT")), "{about:?}");
    let query = about.iter().find_map(|link| link.strip_prefix("/api/v1/")).unwrap();
    let [indices, run] = [get(&server, query), get(&server, &format!("runs/{TOP_K}"))];
    assert_eq!(indices["counts"], run["results"]["counts"]);
    assert_eq!(indices["ir"], run["results"]["figures"]["ir"]["value"]);

    // Three more comparisons: Holm's correction of four.
    let seeds: Vec<i64> = ["vgg-tiny", "densenet-tiny"]
        .into_iter()
        .flat_map(|backbone| ["top-k-softmax", "sigmoid-threshold"].map(|objective| (backbone, objective)))
        .map(|(backbone, objective)| {
            server
                .submit(&quick(json!({"dataset": "scenes", "backbone": backbone, "objective": objective, "epochs": 1})))
        })
        .collect();
    for run in &seeds {
        assert_eq!(server.wait(*run)["status"], "succeeded");
    }
    let comparison = get(&server, &format!("comparisons?base={TOP_K}"));
    let differences: Vec<&Value> =
        cells(&comparison).into_iter().map(|cell| &cell["difference"]).filter(|it| !it.is_null()).collect();
    assert_eq!(differences.len(), 5);
    let mut p: Vec<(f64, f64)> =
        differences.iter().map(|it| (it["ftct"]["p"].as_f64().unwrap(), it["p_adjusted"].as_f64().unwrap())).collect();
    p.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut highest = 0.0f64;
    for (rank, (raw, adjusted)) in p.iter().enumerate() {
        highest = highest.max((raw * (5 - rank) as f64).min(1.0));
        assert!((adjusted - highest).abs() < 1e-15, "{p:?}");
    }

    the_command_line_shows_the_same(&server, &comparison);

    // The start page says who is wrong most often, and shows ten of those images.
    let counted: Vec<(i64, u64)> = cells(&comparison)
        .iter()
        .map(|cell| (cell["runs"][0].as_i64().unwrap(), cell["counts"]["ffct"].as_u64().unwrap()))
        .collect();
    let most = counted.iter().map(|(_, images)| *images).max().unwrap();
    let (run, _) = *counted.iter().find(|(_, images)| *images == most).unwrap();
    let page = server.page("/");
    let shown = attributes(&page, "#wrong .strip a", "href");
    assert_eq!(shown.len() as u64, most.min(10));
    let listed = get(&server, &format!("runs/{run}/outcomes?outcome=FFCT&sort=-confidence"));
    for (link, item) in shown.iter().zip(listed["items"].as_array().unwrap()) {
        assert_eq!(*link, format!("/runs/{run}/images/{}?outcome=FFCT&sort=-confidence", item["image"]));
        assert!(server.page(link).contains("right for the wrong reasons"));
    }
    assert_eq!(
        attributes(&page, "#wrong .lead a", "href"),
        [format!("/runs/{run}/images?outcome=FFCT&sort=-confidence")]
    );
}

fn the_command_line_shows_the_same(server: &TestServer, comparison: &Value) {
    let compare = |flags: &[&str]| {
        let base = TOP_K.to_string();
        let args = [&["compare", "--dataset", "scenes", "--base", &base, "--server", &server.url], flags].concat();
        let output = crate::support::twograin().args(args).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(serde_json::from_str::<Value>(&compare(&["--json"])).unwrap(), *comparison);
    let text = compare(&[]);
    assert!(text.contains(&format!("Minus run {TOP_K}, each with its 95% interval")), "{text}");
    let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    for row in comparison["rows"].as_array().unwrap() {
        for cell in row["cells"].as_array().unwrap() {
            let names = [row["backbone"].as_str().unwrap(), cell["objective"].as_str().unwrap()];
            let of: Vec<_> = lines.iter().filter(|line| line.starts_with(&names)).collect();
            let run = cell["runs"][0].to_string();
            assert!(of.iter().all(|line| line[2] == run), "{text}");
            let ia = &cell["figures"]["ia"];
            let number = |value: &Value| format!("{:.3}", value.as_f64().unwrap());
            let interval = [format!("[{},", number(&ia["low"])), format!("{}]", number(&ia["high"]))];
            assert_eq!(of[0][3..6], [number(&ia["value"]), interval[0].clone(), interval[1].clone()], "{text}");
            let counts = ["ftct", "ftcf", "ffct", "ffcf"].map(|outcome| cell["counts"][outcome].to_string());
            assert_eq!(of[1][3..], counts, "{text}");
            let difference = &cell["difference"];
            assert_eq!(of.len(), if difference.is_null() { 2 } else { 3 }, "{text}");
            if let [_, _, of] = of.as_slice() {
                let minus = difference["figures"]["ia"]["value"].as_f64().unwrap();
                assert_eq!(of[3], format!("{minus:+.3}"), "{text}");
                let alone = ["only_b", "only_a"].map(|side| difference["ftct"][side].to_string());
                let [.., here, _, there] = of.as_slice() else { panic!("{text}") };
                assert_eq!([*here, *there], alone, "{text}");
            }
        }
    }
}

#[test]
fn a_group_of_seeds_has_mean_and_spread_and_no_test() {
    let server = TestServer::with_runs();
    let spec = |seed: u64| {
        quick(json!({"dataset": "scenes", "backbone": "vgg-tiny", "objective": "sigmoid-threshold", "epochs": 1,
            "seed": seed}))
    };
    let runs = [0, 1].map(|seed| server.submit(&spec(seed)));
    assert!(runs.iter().all(|run| server.wait(*run)["status"] == "succeeded"));
    let page = server.page("/");
    let newest = runs[1];
    let html = Html::parse_document(&page);
    let text = |selector: &str| -> String {
        html.select(&Selector::parse(selector).unwrap()).flat_map(|element| element.text()).collect()
    };
    let about = text(&format!("#ia-{newest}"));
    assert!(about.contains("Mean of 2 seeds") && about.contains("IA = FTCT / all ="), "{about}");
    let links = attributes(&page, &format!("#ia-{newest} a"), "href");
    assert_eq!(links, [newest, runs[0]].map(|run| format!("/api/v1/runs/{run}/indices")));
    assert!(text("#differences").contains("2 seeds: McNemar’s test is of one run against another"));
    assert!(
        !attributes(&page, "#differences button", "popovertarget").iter().any(|id| id.contains(&newest.to_string()))
    );
    assert!(!attributes(&page, "#base option", "value").contains(&newest.to_string()), "a group is no base");
}

#[test]
fn a_run_is_held_against_itself_under_another_rule() {
    let server = TestServer::with_runs();
    let query = format!("transitions?a={SIGMOID}&b={SIGMOID}&rule_b=top-k&k_b=1");
    let report = get(&server, &query);
    let other = get(&server, &format!("runs/{SIGMOID}/indices?rule=top-k&k=1"));
    assert_eq!(report["b"]["results"]["counts"], other["counts"]);
    assert_eq!(report["a"]["results"]["counts"], get(&server, &format!("runs/{SIGMOID}"))["results"]["counts"]);
    // The category does not depend on the rule.
    assert_eq!((&report["category"]["only_a"], &report["category"]["only_b"]), (&json!(0), &json!(0)));
    let page = server.page(&format!("/{query}"));
    let links = attributes(&page, "table.transitions a", "href");
    assert!(!links.is_empty());
    let images: usize =
        links.iter().map(|link| attributes(&server.page(&format!("{link}&limit=500")), "li.card", "id").len()).sum();
    assert_eq!(images, 24, "each image is behind one cell");
    let (status, problem) = server.get(&format!("/api/v1/transitions?a={SIGMOID}&b={SIGMOID}&rule=top-k"));
    assert!(status == 422 && problem["detail"].as_str().unwrap().contains("another rule by rule_a, rule_b"));
    for (query, words) in [
        ("comparisons?base=1", "coarse-only"),
        ("comparisons?base=4", "is canceled"),
        ("comparisons?base=99", "there is no run 99"),
        ("comparisons?base=x", "“x” is not a run's number"),
    ] {
        let (_, problem) = server.get(&format!("/api/v1/{query}"));
        assert!(problem["detail"].as_str().unwrap_or_default().contains(words), "{query}: {problem}");
    }
}
