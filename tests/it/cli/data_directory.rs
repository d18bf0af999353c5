//! The commands that work on the data directory itself.

use std::{fs, path::Path};

use serde_json::{Value, json};

use super::{Done, twograin_in};

/// Two instances files of a dog, a person alone, a dog with a car, and nothing; and one photograph.
fn coco(directory: &Path) {
    let categories = json!([{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}, {"id": 3, "name": "car"}]);
    let images: Vec<Value> =
        (1..=4).map(|id| json!({"id": id, "file_name": format!("{id}.png"), "width": 4, "height": 4})).collect();
    let annotation = |id: u32, image: u32, category: u32| json!({"id": id, "image_id": image, "category_id": category});
    let annotations = [(1, 18), (2, 1), (3, 18), (3, 3)]
        .iter()
        .zip(1..)
        .map(|(&(image, category), id)| annotation(id, image, category));
    let file = json!({"images": images, "annotations": annotations.collect::<Vec<_>>(), "categories": categories});
    for split in ["train", "test"] {
        fs::create_dir(directory.join(split)).unwrap();
        fs::write(directory.join(format!("{split}.json")), file.to_string()).unwrap();
        image::RgbImage::new(4, 4).save(directory.join(split).join("1.png")).unwrap();
    }
}

fn import(directory: &Path, extra: &[&str]) -> Done {
    let files = ["--train-annotations", "train.json", "--test-annotations", "test.json"];
    twograin_in(directory, &[&["dataset", "import-coco", "pets"][..], &files, extra].concat())
}

const IMAGES: [&str; 4] = ["--train-images", "train", "--test-images", "test"];

#[test]
fn a_data_set_is_imported_listed_shown_and_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    coco(here);
    let none = twograin_in(here, &["dataset", "list"]);
    assert!(none.code == Some(1) && none.err.contains("there is no data directory ./twograin-data"), "{}", none.err);
    assert!(!here.join("twograin-data").exists(), "looking makes nothing");

    let done = import(here, &[&IMAGES[..], &["--verify"]].concat());
    assert_eq!(done.code, Some(0), "{}", done.err);
    let words: Vec<&str> = done.out.split_whitespace().collect();
    let out = words.join(" ");
    for part in ["images read 4 4", "no label 1 1", "public labels only 1 1", "several categories 1 1", "kept 1 1"] {
        assert!(out.contains(part), "{part} is missing in\n{}", done.out);
    }
    assert!(done.err.contains("reading annotations") && done.err.contains("checking images: 2"), "{}", done.err);

    let listed: Value = serde_json::from_str(&twograin_in(here, &["dataset", "list", "--json"]).out).unwrap();
    assert_eq!(listed["items"][0]["name"], "pets");
    let shown = twograin_in(here, &["dataset", "show", "pets", "--json", "--data-dir", "twograin-data"]).out;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!((&shown["train_funnel"]["several"], &shown["test_images"]), (&json!(1), &json!(1)));

    let again = import(here, &IMAGES);
    assert!(again.code == Some(1) && again.err.contains("there is a data set “pets” already"), "{}", again.err);
    assert_eq!(twograin_in(here, &["dataset", "delete", "pets"]).code, Some(0));
    let gone = twograin_in(here, &["dataset", "show", "pets"]);
    assert!(gone.code == Some(1) && gone.err.starts_with("error: ") && gone.err.lines().count() == 1, "{}", gone.err);
}

#[test]
fn what_cannot_be_imported_is_named_and_leaves_nothing_behind() {
    let directory = tempfile::tempdir().unwrap();
    let here = directory.path();
    coco(here);
    fs::write(here.join("taxonomy.json"), r#"{"name":"t","coarse":["a","b"],"fine":[{"name":"x","parent":"c"}]}"#)
        .unwrap();
    fs::write(here.join("broken.json"), r#"{"images": [{"id": 1"#).unwrap();
    let failures = [
        (import(here, &[&IMAGES[..], &["--taxonomy", "taxonomy.json"]].concat()), "taxonomy.json: fine[0] “x”"),
        (import(here, &["--train-images", "nowhere", "--test-images", "test"]), "--train-images nowhere: "),
        (import(here, &["--train-images", "test.json", "--test-images", "test"]), "it is not a directory"),
        (
            twograin_in(
                here,
                &[
                    "dataset",
                    "import-coco",
                    "x",
                    "--labels-only",
                    "--train-annotations",
                    "broken.json",
                    "--test-annotations",
                    "test.json",
                ],
            ),
            "broken.json: ",
        ),
    ];
    for (done, expected) in failures {
        assert_eq!(done.code, Some(1), "{}", done.err);
        assert!(done.err.lines().last().unwrap().starts_with("error: ") && done.err.contains(expected), "{}", done.err);
    }
    assert_eq!(import(here, &[]).code, Some(2), "images or --labels-only is needed");
    assert!(twograin_in(here, &["dataset", "list"]).out.starts_with("No data sets."));
    let labels_only = import(here, &["--labels-only"]);
    assert!(labels_only.code == Some(0) && labels_only.out.contains("labels only"), "{}", labels_only.err);
}
