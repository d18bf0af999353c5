//! Lists of images: what is filtered and sorted is what is shown, one image in full, tags, notes and views.

use candle_core::{Device, Tensor};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reqwest::{blocking::Client, redirect::Policy};
use serde_json::{Value, json};
use twograin::{
    analysis::{Columns, Truth, columns::FineLoss},
    domain::{CoarseId, FineId, LabelSet, Split, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation, Scores},
    model::loss,
};

use crate::support::{TestServer, api as get, attributes};

// The runs of `TestServer::with_runs`.
const COARSE_ONLY: i64 = 1;
const TOP_K: i64 = 2;
const SIGMOID: i64 = 3;

fn outcomes(server: &TestServer, run: i64, query: &str) -> Vec<Value> {
    get(server, &format!("runs/{run}/outcomes?limit=500&{query}"))["items"].as_array().unwrap().clone()
}

fn ids(items: &[Value]) -> Vec<i64> {
    items.iter().map(|item| item["image"].as_i64().unwrap()).collect()
}

#[test]
fn images_are_found_sorted_walked_through_and_annotated() {
    let server = TestServer::with_runs();
    each_condition_finds_what_the_items_say(&server);
    another_rule_decides_anew(&server);
    every_order_can_be_paged_and_walked_through(&server);
    a_data_set_shows_what_its_runs_made_of_each_image(&server);
    tags_and_notes_stay_with_an_image(&server);
    views_keep_an_address(&server);
    forms_lead_to_pages(&server);
    wrong_conditions_are_named(&server);
}

fn each_condition_finds_what_the_items_say(server: &TestServer) {
    // After two epochs no label exceeds its threshold.
    let all = outcomes(server, SIGMOID, "rule=top-k");
    assert_eq!(all.len(), 24);
    let names = |item: &Value, field: &str| -> Vec<String> {
        let labels = item[field].as_array().unwrap().iter();
        labels.map(|label| label["name"].as_str().or(label.as_str()).unwrap().to_owned()).collect()
    };
    let expect = |query: &str, fits: &dyn Fn(&Value) -> bool| {
        let expected: Vec<i64> =
            all.iter().filter(|item| fits(item)).map(|item| item["image"].as_i64().unwrap()).collect();
        assert_eq!(ids(&outcomes(server, SIGMOID, &format!("rule=top-k&{query}"))), expected, "{query}");
        expected.len()
    };
    let taxonomy = get(server, "datasets/scenes")["taxonomy"].clone();
    let mut found = [0; 4];
    for label in taxonomy["fine"].as_array().unwrap() {
        let name = label["name"].as_str().unwrap().to_owned();
        let (truly, said) = (
            |item: &Value| names(item, "true_fine").contains(&name),
            |item: &Value| names(item, "predicted_fine").contains(&name),
        );
        found[0] += expect(&format!("fine={name}"), &truly);
        found[1] += expect(&format!("predicted={name}"), &said);
        found[2] += expect(&format!("missing={name}"), &|item| truly(item) && !said(item));
        found[3] += expect(&format!("extra={name}"), &|item| said(item) && !truly(item));
    }
    assert!(found.iter().all(|found| *found > 0), "nothing to tell: {found:?}");
    for name in taxonomy["coarse"].as_array().unwrap() {
        let name = name.as_str().unwrap();
        expect(&format!("coarse={name}"), &|item| item["true_coarse"] == name);
        expect(&format!("predicted_coarse={name}"), &|item| item["predicted_coarse"] == name);
    }
    expect("correct=true", &|item| item["coarse_correct"] == true);
    expect("min_labels=2&max_labels=3", &|item| (2..=3).contains(&names(item, "true_fine").len()));
    let confidence = |item: &Value| item["coarse_probability"].as_f64().unwrap() as f32 as f64;
    let middle = confidence(&all[7]);
    assert!(expect(&format!("min_confidence={middle}"), &|item| confidence(item) >= middle) > 0);
    expect(&format!("max_confidence={middle}"), &|item| confidence(item) <= middle);

    let other = outcomes(server, TOP_K, "");
    let theirs = |item: &Value| {
        let same = other.iter().find(|other| other["image"] == item["image"]).unwrap();
        same["outcome"].clone()
    };
    expect(&format!("other={TOP_K}&differs=true"), &|item| theirs(item) != item["outcome"]);
    expect(&format!("other={TOP_K}&differs=false"), &|item| theirs(item) == item["outcome"]);
    for outcome in ["FTCT", "FTCF", "FFCT", "FFCF"] {
        expect(&format!("outcome={outcome}"), &|item| item["outcome"] == outcome);
        expect(&format!("other={TOP_K}&other_outcome={outcome}"), &|item| theirs(item) == outcome);
        let both = format!("outcome={outcome}&correct=true&min_labels=2");
        let page = get(server, &format!("runs/{SIGMOID}/outcomes?rule=top-k&{both}"));
        let fits = |item: &Value| item["coarse_correct"] == true && names(item, "true_fine").len() >= 2;
        // Counts are of what fits but for the outcome, so that each tab says what it would show.
        let counted = all.iter().filter(|item| fits(item) && item["outcome"] == outcome).count();
        assert_eq!(page["counts"][outcome.to_lowercase()], counted);
        assert_eq!(page["total"], counted);
    }
    // The page shows the same images, each condition with a link without it.
    let page = server.page(&format!("/runs/{SIGMOID}/images?rule=top-k&outcome=FFCT&min_labels=2&coarse=animal"));
    let cards = attributes(&page, "li.card", "id");
    let shown: Vec<String> = ids(&outcomes(server, SIGMOID, "rule=top-k&outcome=FFCT&min_labels=2&coarse=animal"))
        .iter()
        .map(|id| format!("image-{id}"))
        .collect();
    assert_eq!(cards, shown);
    let without = attributes(&page, ".chips a", "href");
    assert!(without.contains(&format!("/runs/{SIGMOID}/images?coarse=animal&outcome=FFCT&rule=top-k")), "{without:?}");
    assert!(without.contains(&format!("/runs/{SIGMOID}/images?min_labels=2&outcome=FFCT&rule=top-k")), "{without:?}");
}

fn another_rule_decides_anew(server: &TestServer) {
    let indices = get(server, &format!("runs/{SIGMOID}/indices?rule=top-k"));
    let page = get(server, &format!("runs/{SIGMOID}/outcomes?rule=top-k&limit=500"));
    assert_eq!(page["counts"], indices["counts"]);
    for item in page["items"].as_array().unwrap() {
        let (said, truly) = (item["predicted_fine"].as_array().unwrap(), item["true_fine"].as_array().unwrap());
        assert_eq!(said.len(), truly.len(), "the oracle takes as many as are true");
        let wrong = said.iter().any(|label| label["correct"] == false);
        assert_eq!(item["outcome"].as_str().unwrap().starts_with("FT"), !wrong);
    }
    // A run against itself under another rule.
    let differing = outcomes(server, SIGMOID, &format!("other={SIGMOID}&other_rule=top-k&differs=true"));
    let own = outcomes(server, SIGMOID, "");
    let top_k = page["items"].as_array().unwrap();
    let expected: Vec<Value> =
        own.iter().zip(top_k).filter(|(a, b)| a["outcome"] != b["outcome"]).map(|(a, _)| a.clone()).collect();
    assert_eq!(ids(&differing), ids(&expected));
}

fn every_order_can_be_paged_and_walked_through(server: &TestServer) {
    for sort in ["image", "-image", "loss", "-loss", "margin", "-margin", "confidence", "-confidence"] {
        let all = outcomes(server, TOP_K, &format!("sort={sort}"));
        let field = match sort.trim_start_matches('-') {
            "image" => "source_id",
            "confidence" => "coarse_probability",
            other => other,
        };
        let values: Vec<f64> = all.iter().map(|item| item[field].as_f64().unwrap()).collect();
        let in_order = |a: &f64, b: &f64| if sort.starts_with('-') { a >= b } else { a <= b };
        assert!(values.is_sorted_by(in_order), "{sort}: {values:?}");
        let (mut paged, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(server, &format!("runs/{TOP_K}/outcomes?limit=7&sort={sort}&cursor={cursor}"));
            paged.extend(ids(page["items"].as_array().unwrap()));
            match page["next_cursor"].as_str() {
                Some(next) => cursor = next.to_owned(),
                None => break,
            }
        }
        assert_eq!(paged, ids(&all), "{sort}");
    }
    // From the first image along the links, as the arrow keys go.
    let query = "correct=false&sort=-loss";
    let listed = ids(&outcomes(server, TOP_K, query));
    let mut page = server.page(&format!("/runs/{TOP_K}/images/{}?{query}", listed[0]));
    assert!(attributes(&page, "a[rel=prev]", "href").is_empty());
    for (position, image) in listed.iter().enumerate() {
        let json = attributes(&page, ".footer a", "href")[0].clone();
        let report = get(server, json.strip_prefix("/api/v1/").unwrap());
        assert_eq!((&report["item"]["image"], &report["position"]), (&json!(image), &json!(position + 1)));
        assert_eq!(report["total"], listed.len());
        assert_eq!(report["previous"].as_i64(), position.checked_sub(1).map(|before| listed[before]));
        let probabilities: f64 =
            report["coarse"].as_array().unwrap().iter().map(|category| category["probability"].as_f64().unwrap()).sum();
        assert!((probabilities - 1.0).abs() < 1e-9);
        match attributes(&page, "a[rel=next]", "href").first() {
            Some(next) => page = server.page(next),
            None => assert_eq!(position + 1, listed.len()),
        }
    }
    assert_eq!(
        attributes(&page, "a[rel=up]", "href"),
        [format!("/runs/{TOP_K}/images?{query}#image-{}", listed[listed.len() - 1])]
    );
    // One that does not fit has no position, and its neighbours all the same.
    let right = outcomes(server, TOP_K, "correct=true")[0]["image"].clone();
    let report = get(server, &format!("runs/{TOP_K}/outcomes/{right}?{query}"));
    assert!(report["position"].is_null());
    let others: Vec<&Value> = report["others"].as_array().unwrap().iter().map(|other| &other["run"]).collect();
    assert_eq!(others, [SIGMOID, COARSE_ONLY]);
}

fn a_data_set_shows_what_its_runs_made_of_each_image(server: &TestServer) {
    let page = get(server, "datasets/scenes/images?limit=500");
    let runs: Vec<i64> = page["runs"].as_array().unwrap().iter().map(|run| run["id"].as_i64().unwrap()).collect();
    assert_eq!((runs.as_slice(), &page["total"]), (&[SIGMOID, TOP_K, COARSE_ONLY][..], &json!(24)));
    let items = page["items"].as_array().unwrap();
    for (column, run) in runs.iter().enumerate() {
        for (item, own) in items.iter().zip(outcomes(server, *run, "")) {
            assert_eq!(item["image"], own["image"]);
            assert_eq!(item["outcomes"][column]["outcome"], own["outcome"]);
            assert_eq!(item["outcomes"][column]["coarse_correct"], own["coarse_correct"]);
        }
    }
    let two = format!("runs={TOP_K},{SIGMOID}");
    let differ = outcomes(server, SIGMOID, &format!("other={TOP_K}&differs=true"));
    let found = get(server, &format!("datasets/scenes/images?limit=500&{two}&outcomes=differ"));
    assert_eq!(ids(found["items"].as_array().unwrap()), ids(&differ));
    let right =
        |item: &Value| item["outcomes"].as_array().unwrap().iter().filter(|under| under["outcome"] == "FTCT").count();
    let sorted = get(server, &format!("datasets/scenes/images?limit=500&{two}&sort=-right"));
    let counts: Vec<usize> = sorted["items"].as_array().unwrap().iter().map(right).collect();
    assert!(counts.is_sorted_by(|a, b| a >= b) && counts.len() == 24, "{counts:?}");
    let none = get(server, &format!("datasets/scenes/images?limit=500&{two}&max_right=0"));
    assert_eq!(none["total"], counts.iter().filter(|count| **count == 0).count());
    let train = get(server, "datasets/scenes/images?split=train&coarse=animal");
    assert!(train["runs"].as_array().unwrap().is_empty() && train["total"].as_u64().unwrap() > 0);
    let shown = server.page(&format!("/datasets/scenes/images?{two}&outcomes=differ"));
    assert_eq!(attributes(&shown, "li.card", "id").len(), differ.len());
}

fn tags_and_notes_stay_with_an_image(server: &TestServer) {
    let image = outcomes(server, TOP_K, "")[5]["image"].as_i64().unwrap();
    let client = Client::builder().redirect(Policy::none()).build().unwrap();
    let url = |path: String| format!("{}{path}", server.url);
    let tags = |tag: &str| url(format!("/api/v1/images/{image}/tags/{tag}"));
    for tag in ["Mislabelled%20", "small%20object", "small%20object"] {
        assert_eq!(server.send(client.put(tags(tag))).0, 204);
    }
    let note = client.put(url(format!("/api/v1/images/{image}/note"))).json(&json!({"text": " a <b>bold</b> claim "}));
    assert_eq!(server.send(note).0, 204);
    let found = outcomes(server, TOP_K, "tag=mislabelled");
    assert_eq!(ids(&found), [image]);
    assert_eq!(found[0]["tags"], json!(["mislabelled", "small object"]));
    assert_eq!(found[0]["note"], "a <b>bold</b> claim");
    // Whatever run is looked at.
    assert_eq!(ids(&outcomes(server, SIGMOID, "noted=true&tag=small%20object")), [image]);
    assert_eq!(get(server, "datasets/scenes/images?noted=true")["total"], 1);
    let page = server.page(&format!("/runs/{TOP_K}/images/{image}"));
    assert!(page.contains("a &#60;b&#62;bold&#60;/b&#62; claim"), "escaped");
    // The forms do the same and lead back, to this program alone.
    let form = |path: &str, body: String| {
        let kind = ("content-type", "application/x-www-form-urlencoded");
        client.post(url(path.into())).header(kind.0, kind.1).body(body).send().unwrap()
    };
    let back = format!("/runs/{TOP_K}/images/{image}");
    let answer = form(&format!("/images/{image}/tags/remove"), format!("tag=mislabelled&back={back}"));
    assert_eq!((answer.status().as_u16(), answer.headers()["location"].to_str().unwrap()), (303, &*back));
    let away = form(&format!("/images/{image}/note"), "text=&back=//elsewhere.example/".into());
    assert_eq!(away.headers()["location"], "/");
    let found = outcomes(server, TOP_K, "tag=small%20object");
    assert_eq!((&found[0]["tags"], &found[0]["note"]), (&json!(["small object"]), &Value::Null));
    assert_eq!(ids(&outcomes(server, TOP_K, "tag=Small%20Object")), [image], "however it is written");
    assert_eq!(server.send(client.delete(tags("Small%20object"))).0, 204);
    assert!(outcomes(server, TOP_K, "tag=small%20object").is_empty());
    assert_eq!(server.send(client.put(tags("a%2Cb"))).0, 422);
    assert_eq!(server.send(client.put(url("/api/v1/images/99999/tags/x".into()))).0, 404);
}

fn views_keep_an_address(server: &TestServer) {
    let address = format!("/runs/{TOP_K}/images?outcome=FFCT&sort=-loss");
    let save = |name: &str, address: &str| server.post("/api/v1/views", &json!({"name": name, "address": address}));
    let (status, view) = save("worst", &address);
    assert_eq!((status, &view["address"]), (201, &json!(address)));
    // The same name again: the later address.
    let (_, again) = save(" worst ", "/datasets/scenes/images");
    assert_eq!(again["id"], view["id"]);
    assert_eq!(get(server, "views")["items"].as_array().unwrap().len(), 1);
    let page = server.page(&address);
    assert!(attributes(&page, "#views a", "href").contains(&"/datasets/scenes/images".to_owned()));
    for wrong in ["https://elsewhere.example", "//elsewhere.example", "/\\elsewhere.example", ""] {
        assert_eq!(save("away", wrong).0, 422, "{wrong}");
    }
    assert_eq!(save("", "/").0, 422);
    let url = format!("{}/api/v1/views/{}", server.url, view["id"]);
    assert_eq!(server.send(Client::new().delete(&url)).0, 204);
    assert_eq!(server.send(Client::new().delete(&url)).0, 404);
}

/// What the forms send along, where it belongs to something that is not chosen.
fn forms_lead_to_pages(server: &TestServer) {
    let query = format!("other={SIGMOID}&other_outcome=FFCF&other_rule=top-k&rule=threshold");
    let page = server.page(&format!("/runs/{SIGMOID}/images?{query}"));
    let differ = format!("/transitions?a={SIGMOID}&b={SIGMOID}&rule_a=top-k&rule_b=threshold");
    assert!(attributes(&page, "header a", "href").contains(&differ), "under the rules in force");
    assert_eq!(attributes(&page, "select[name=other] option[selected]", "value"), [SIGMOID.to_string()]);
    server.page(&format!("/runs/{SIGMOID}/images?other_outcome=FFCF&differs=true&coarse=animal"));
    server.page("/datasets/scenes/images?split=train&outcomes=differ&min_right=1");
}

fn wrong_conditions_are_named(server: &TestServer) {
    for (path, status, words) in [
        (format!("runs/{TOP_K}/outcomes?predicted=dragon"), 422, "predicted: “dragon” is not a fine label"),
        (format!("runs/{TOP_K}/outcomes?sort=size"), 422, "sort: “size” is not a column"),
        (format!("runs/{TOP_K}/outcomes?min_confidence=2"), 422, "outside 0 to 1"),
        (format!("runs/{TOP_K}/outcomes?differs=true"), 422, "name it as other"),
        (format!("runs/{TOP_K}/outcomes?noted=false"), 422, "noted=true is the one condition"),
        (format!("runs/{TOP_K}/outcomes?other={COARSE_ONLY}&differs=true"), 422, "coarse-only"),
        (format!("runs/{COARSE_ONLY}/outcomes?missing=cat"), 422, "decides no fine labels"),
        (format!("runs/{TOP_K}/outcomes?cursor=99999"), 404, "there is no image 99999"),
        (format!("runs/{TOP_K}/outcomes/99999"), 404, "there is no image 99999"),
        ("datasets/scenes/images?runs=x".into(), 422, "“x” is not a run's number"),
        ("datasets/scenes/images?split=validation".into(), 422, "choose train or test"),
        ("datasets/scenes/images?split=train&outcomes=same".into(), 422, "no run has decided"),
    ] {
        let (found, problem) = server.get(&format!("/api/v1/{path}"));
        let detail = problem["detail"].as_str().unwrap_or_default();
        assert!(found == status && detail.contains(words), "{path}: {found} {problem}");
    }
}

/// Against the losses that train, which are tested against PyTorch's.
#[test]
fn the_loss_of_an_image_is_the_one_that_was_trained_on() {
    let (images, fine_count, coarse_count) = (40, 7, 3);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let mut logits = |count: usize| -> Vec<f32> {
        (0..count).map(|index| rng.random_range(-4.0..4.0f32) * if index % 50 == 7 { 200.0 } else { 1.0 }).collect()
    };
    let (fine, coarse) = (logits(images * fine_count), logits(images * coarse_count));
    let labels: Vec<LabelSet> = (0..images)
        .map(|image| {
            (0..fine_count as u16)
                .filter(|label| (image as u16 * 5 + label * 3).is_multiple_of(4))
                .map(FineId)
                .collect()
        })
        .collect();
    let categories: Vec<CoarseId> = (0..images).map(|image| CoarseId((image % coarse_count) as u16)).collect();
    let truths: Vec<Truth> =
        labels.iter().zip(&categories).map(|(fine, coarse)| Truth { fine, coarse: *coarse }).collect();
    let alpha: Vec<f64> = (0..fine_count).map(|label| 0.5 + label as f64 / 4.0).collect();
    for activation in [None, Some(ScoreActivation::Softmax), Some(ScoreActivation::Sigmoid)] {
        let scores = Scores {
            split: Split::Test,
            image_ids: (0..images as i64).collect(),
            coarse_count,
            coarse_logits: coarse.clone(),
            fine: activation.map(|activation| FineScores {
                fine_count,
                logits: fine.clone(),
                activation,
                coarse_input: CoarseInput::Probabilities,
                weight: vec![0.0; coarse_count * fine_count],
                bias: vec![0.0; coarse_count],
                p05: vec![0.0; fine_count],
                p95: vec![0.0; fine_count],
            }),
        };
        let kind = match activation {
            None => FineLoss::None,
            Some(ScoreActivation::Softmax) => FineLoss::Focal { alpha: alpha.clone(), gamma: 2.0 },
            Some(ScoreActivation::Sigmoid) => FineLoss::BinaryCrossEntropy,
        };
        let columns = Columns::of(&scores, &truths, &kind);
        for image in 0..images {
            let row = |values: &[f32], width: usize| {
                let values: Vec<f64> = values[image * width..][..width].iter().map(|value| f64::from(*value)).collect();
                Tensor::from_vec(values, (1, width), &Device::Cpu).unwrap()
            };
            let (z, c) = (row(&fine, fine_count), row(&coarse, coarse_count));
            let y = loss::multi_hot(std::iter::once(&labels[image]), fine_count);
            let y: Vec<f64> = y.into_iter().map(f64::from).collect();
            let y = Tensor::from_vec(y, (1, fine_count), &Device::Cpu).unwrap();
            let category = Tensor::new(&[u32::from(categories[image].0)], &Device::Cpu).unwrap();
            let scalar = |loss: Tensor| loss.to_scalar::<f64>().unwrap();
            let expected = scalar(loss::cross_entropy(&c, &category).unwrap())
                + match activation {
                    None => 0.0,
                    Some(ScoreActivation::Softmax) => scalar(loss::focal(&z, &y, &alpha, 2.0).unwrap()),
                    Some(ScoreActivation::Sigmoid) => scalar(loss::binary_cross_entropy(&z, &y).unwrap()),
                };
            let ours = f64::from(columns.loss[image]);
            assert!(
                (ours - expected).abs() < 1e-5 * expected.abs().max(1.0),
                "{activation:?} {image}: {ours} {expected}"
            );
        }
        // Wrong is negative, right is not, and the predicted category's probability is the highest.
        for (image, category) in categories.iter().enumerate() {
            assert_eq!(columns.margin[image] >= 0.0, columns.predicted[image] == *category, "{image}");
            assert!(columns.confidence[image] >= 1.0 / coarse_count as f32);
        }
    }
}
