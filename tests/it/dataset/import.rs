//! The COCO import: what it keeps, and what it says of a bad file.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::Mutex,
    time::Instant,
};

use tempfile::TempDir;
use twograin::{
    dataset::coco::{self, CocoSource, Funnel, ImportOptions, ImportPhase, Imported},
    domain::Taxonomy,
};

use crate::support::shared;

/// Images 1 to 6 and what they show: a dog and a person, nothing, a person, a dog and a car, two dogs (one a crowd), a car.
const IMAGES: &str = r#"[
    {"id": 1, "file_name": "1.png", "width": 4, "height": 3}, {"id": 2, "file_name": "2.png", "width": 4, "height": 3},
    {"id": 3, "file_name": "3.png", "width": 4, "height": 3}, {"id": 4, "file_name": "4.png", "width": 4, "height": 3},
    {"id": 9000000000, "file_name": "sub/5.png", "width": 4, "height": 3, "license": 3, "flickr_url": "http://x"},
    {"id": 6, "file_name": "6.png", "width": 4, "height": 3}]"#;
const ANNOTATIONS: &str = r#"[
    {"id": 10, "image_id": 1, "category_id": 18}, {"id": 11, "image_id": 1, "category_id": 1, "bbox": [0, 0, 1, 1], "area": 1.5},
    {"id": 12, "image_id": 3, "category_id": 1}, {"id": 13, "image_id": 4, "category_id": 18},
    {"id": 14, "image_id": 4, "category_id": 3}, {"id": 15, "image_id": 9000000000, "category_id": 18,
     "segmentation": [[1, 2, 3.5, 4e2]]},
    {"id": 16, "image_id": 9000000000, "category_id": 18, "iscrowd": 1, "segmentation": {"counts": [1, 2], "size": [4, 3]}},
    {"id": 17, "image_id": 6, "category_id": 3}]"#;
const CATEGORIES: &str = r#"[{"id": 1, "name": "person"}, {"id": 3, "name": "car", "supercategory": "anything"},
    {"id": 18, "name": "dog"}, {"id": 90, "name": "toothbrush"}]"#;

fn instances(images: &str, annotations: &str, categories: &str) -> String {
    format!(r#"{{"info": {{}}, "images": {images}, "annotations": {annotations}, "categories": {categories}}}"#)
}

fn good() -> String {
    instances(IMAGES, ANNOTATIONS, CATEGORIES)
}

/// Imports `train` and a good test file, labels only.
fn import_labels(train: &str) -> Result<Imported, String> {
    let directory = TempDir::new().unwrap();
    let source = |name: &str, text: &str| {
        let annotations = directory.path().join(name);
        fs::write(&annotations, text).unwrap();
        CocoSource { annotations, images: None }
    };
    let (train, test) = (source("train.json", train), source("test.json", &good()));
    let error_text = |error: coco::ImportError| error.to_string().replace(&directory.path().display().to_string(), "");
    coco::import(Taxonomy::coco(), &train, &test, ImportOptions::default(), &|_| ()).map_err(error_text)
}

fn refused(train: &str, expected: &str) {
    let error = import_labels(train).unwrap_err();
    assert!(error.contains("train.json: ") && error.contains(expected), "{error}");
}

#[test]
fn images_of_one_category_are_kept() {
    let imported = import_labels(&good()).unwrap();
    let coco = Taxonomy::coco();
    let Funnel { read, unlabelled, public_only, several, kept, kept_per_coarse } = imported.train.funnel.clone();
    assert_eq!((read, unlabelled, public_only, several, kept), (6, 1, 1, 1, 3));
    let of = |name: &str| kept_per_coarse[coco.find_coarse(name).unwrap().index()];
    assert_eq!((of("animal"), of("transport"), kept_per_coarse.iter().sum::<u64>()), (2, 1, 3));

    let images = &imported.train.images;
    let ids: Vec<_> = images.iter().map(|image| image.source_id).collect();
    assert_eq!(ids, [1, 6, 9_000_000_000]);
    let names: Vec<_> = images[0].labels.iter().map(|fine| coco.fine_name(fine)).collect();
    assert_eq!((names, coco.coarse_name(images[0].coarse)), (vec!["person", "dog"], "animal"));
    assert_eq!((images[2].labels.len(), images[2].file_name.as_str(), images[2].width), (1, "sub/5.png", 4));
    // The same ids in both splits are different images.
    assert_eq!(imported.test.images, imported.train.images);
}

#[test]
fn the_lists_may_come_in_any_order_with_anything_between() {
    let expected = import_labels(&good()).unwrap().train;
    for text in [
        format!(r#"{{"annotations": {ANNOTATIONS}, "categories": {CATEGORIES}, "images": {IMAGES}}}"#),
        format!(
            r#"{{"categories": {CATEGORIES}, "x": [{{"images": []}}], "images": {IMAGES}, "annotations": {ANNOTATIONS}}}"#
        ),
        format!(
            "\n {{\"annotations\" :{ANNOTATIONS}\n,\"images\":{IMAGES},\"licenses\":null,\"categories\":{CATEGORIES}}}\n\n"
        ),
    ] {
        let split = import_labels(&text).unwrap().train;
        assert_eq!((split.images, split.funnel), (expected.images.clone(), expected.funnel.clone()));
    }
}

#[test]
fn what_is_no_instances_file_is_refused_with_its_place() {
    refused("", "EOF while parsing");
    refused(
        "[1, 2]",
        "expected a COCO instances file: an object with `images`, `annotations` and `categories` at line 1",
    );
    refused("this is a text", "line 1 column 2");
    refused(&format!("{} x", good()), "trailing characters at line");
    refused(&format!(r#"{{"annotations": {ANNOTATIONS}, "categories": {CATEGORIES}}}"#), "it has no `images`");
    refused(&format!(r#"{{"images": {IMAGES}, "categories": {CATEGORIES}}}"#), "it has no `annotations`");
    refused(&format!(r#"{{"images": {IMAGES}, "annotations": {ANNOTATIONS}}}"#), "it has no `categories`");
    refused(&instances(r#"{"1": {}}"#, "[]", "[]"), "`images` to be an array of objects");
    refused(&format!(r#"{{"images": [], "images": {IMAGES}}}"#), "`images` stands twice");

    let text = good();
    let cut = text.find(r#""id": 14"#).unwrap();
    refused(&text[..cut], "annotations[4]: EOF while parsing");
    refused(&text[..text.len() - 1], "EOF while parsing an object at line");
}

#[test]
fn a_bad_entry_is_refused_with_its_place() {
    let images = |bad: &str| instances(&IMAGES.replacen(']', &format!(", {bad}]"), 1), ANNOTATIONS, CATEGORIES);
    let image = |name: &str| images(&format!(r#"{{"id": 7, "file_name": "{name}", "width": 4, "height": 3}}"#));
    refused(&images(r#"{"id": 7, "width": 4, "height": 3}"#), "images[6]: missing field `file_name` at line 5 column");
    refused(
        &images(r#"{"id": 6, "file_name": "x", "width": 4, "height": 3}"#),
        "images[6]: its id 6 is already that of images[5]",
    );
    refused(
        &images(r#"{"id": 7, "file_name": "x", "width": -4, "height": 3}"#),
        "images[6]: invalid value: integer `-4`",
    );
    for name in ["../7.png", "/etc/passwd", "a/../../7.png", ""] {
        refused(&image(name), &format!("images[6]: its file_name “{name}” leads out of the images directory"));
    }

    let annotations = |bad: &str| {
        let annotations = format!("{}, {bad}]", ANNOTATIONS.strip_suffix(']').unwrap());
        instances(IMAGES, &annotations, CATEGORIES)
    };
    refused(
        &annotations(r#"{"id": 18, "image_id": 5, "category_id": 1}"#),
        "annotations[8]: the file has no image with its image_id 5",
    );
    refused(
        &annotations(r#"{"id": 18, "image_id": 1, "category_id": 2}"#),
        "annotations[8]: the file has no category with its category_id 2",
    );
    refused(
        &annotations(r#"{"id": 12, "image_id": 1, "category_id": 1}"#),
        "annotations[8]: its id 12 is already that of annotations[2]",
    );
    refused(&annotations(r#"{"id": 18, "image_id": 1}"#), "annotations[8]: missing field `category_id`");
    refused(
        &annotations(r#"{"id": 18, "image_id": "1", "category_id": 1}"#),
        r#"annotations[8]: invalid type: string "1""#,
    );
    refused(&annotations(r#"{"id": 18, "bbox": [1, 2,]}"#), "annotations[8]: expected value at line");

    let categories = |bad: &str| instances(IMAGES, ANNOTATIONS, &CATEGORIES.replace(']', &format!(", {bad}]")));
    refused(
        &categories(r#"{"id": 5, "name": "unicorn"}"#),
        "categories[4]: the taxonomy “coco” has no fine label “unicorn”",
    );
    refused(&categories(r#"{"id": 18, "name": "cat"}"#), "categories[4]: its id 18 is already that of categories[2]");
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let nowhere = CocoSource { annotations: "no/such.json".into(), images: None };
    let error = coco::import(Taxonomy::coco(), &nowhere, &nowhere, ImportOptions::default(), &|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("no/such.json: "), "{error}");
}

/// A directory with the instances file and the images that are kept, and a source of both.
fn with_images() -> (TempDir, CocoSource) {
    let directory = TempDir::new().unwrap();
    let images = directory.path().join("images");
    fs::create_dir_all(images.join("sub")).unwrap();
    for name in ["1.png", "6.png", "sub/5.png"] {
        image::RgbImage::new(4, 3).save(images.join(name)).unwrap();
    }
    let annotations = directory.path().join("instances.json");
    fs::write(&annotations, good()).unwrap();
    (directory, CocoSource { annotations, images: Some(images) })
}

fn import_images(source: &CocoSource, options: ImportOptions) -> Result<Imported, String> {
    let labels = CocoSource { images: None, ..source.clone() };
    coco::import(Taxonomy::coco(), source, &labels, options, &|_| ()).map_err(|error| error.to_string())
}

#[test]
fn kept_images_must_be_there() {
    let (_directory, source) = with_images();
    import_images(&source, ImportOptions::default()).unwrap();
    let images = source.images.clone().unwrap();
    fs::remove_file(images.join("6.png")).unwrap();
    fs::remove_file(images.join("sub/5.png")).unwrap();
    let error = import_images(&source, ImportOptions::default()).unwrap_err();
    assert_eq!(error, format!("{}: 2 of 3 images are missing, the first is 6.png", images.display()));
    import_images(&source, ImportOptions { labels_only: true, ..ImportOptions::default() }).unwrap();

    fs::remove_dir_all(&images).unwrap();
    let error = import_images(&source, ImportOptions::default()).unwrap_err();
    assert!(error.starts_with(&images.display().to_string()) && !error.contains("missing"), "{error}");
}

#[test]
fn with_verify_images_must_decode() {
    let (_directory, source) = with_images();
    let verify = ImportOptions { verify: true, ..ImportOptions::default() };
    import_images(&source, verify).unwrap();
    let damaged = source.images.as_deref().unwrap().join("6.png");
    fs::write(&damaged, "not a PNG").unwrap();
    import_images(&source, ImportOptions::default()).unwrap();
    let error = import_images(&source, verify).unwrap_err();
    let expected = format!("1 of 3 images cannot be decoded, the first is {}: ", damaged.display());
    assert!(error.starts_with(&expected), "{error}");
}

#[test]
fn progress_goes_from_nothing_to_everything() {
    let (_directory, source) = with_images();
    for verify in [false, true] {
        let seen = Mutex::new(Vec::new());
        let options = ImportOptions { verify, ..ImportOptions::default() };
        coco::import(Taxonomy::coco(), &source, &source, options, &|progress| seen.lock().unwrap().push(progress))
            .unwrap();
        let seen = seen.into_inner().unwrap();
        for (phase, total) in [(ImportPhase::Annotations, 2 * good().len() as u64), (ImportPhase::Images, 6)] {
            let of_phase: Vec<_> = seen.iter().filter(|progress| progress.phase == phase).collect();
            assert!(of_phase.iter().all(|progress| progress.total == total));
            assert_eq!(of_phase.iter().map(|progress| progress.done).min(), Some(0));
            assert_eq!(of_phase.iter().map(|progress| progress.done).max(), Some(total));
        }
    }
}

/// COCO's real counts, per category in the taxonomy's order.
const TRAIN: [u64; 11] = [10811, 2780, 13216, 2927, 14942, 493, 3764, 2235, 2140, 1096, 3703];
const TEST: [u64; 11] = [443, 112, 582, 118, 605, 26, 150, 101, 94, 45, 171];

fn assert_real_counts(imported: &Imported) {
    for (split, read, kept) in [(&imported.train, 118_287, TRAIN), (&imported.test, 5_000, TEST)] {
        let funnel = &split.funnel;
        assert_eq!((funnel.read, &*funnel.kept_per_coarse), (read, &kept[..]));
        assert_eq!(funnel.kept, kept.iter().sum::<u64>());
        assert_eq!(funnel.read, funnel.unlabelled + funnel.public_only + funnel.several + funnel.kept);
        assert_eq!(funnel.kept as usize, split.images.len());
    }
    assert_eq!((imported.train.funnel.kept, imported.test.funnel.kept), (58_107, 2_447));
}

/// An instances file with one annotation per image and label, from a table `image_id, …, category_ids`.
fn instances_of_labels(table: &Path, categories: &str) -> String {
    let (mut images, mut annotations) = (String::from("["), String::from("["));
    let mut count = 0;
    for row in fs::read_to_string(table).unwrap().lines().skip(1) {
        let mut cells = row.split(',');
        let (id, labels) = (cells.next().unwrap(), cells.nth(1).unwrap());
        let comma = if images.len() > 1 { "," } else { "" };
        write!(images, r#"{comma}{{"id":{id},"file_name":"{id}.jpg","width":1,"height":1}}"#).unwrap();
        for category in labels.split_whitespace() {
            let comma = if count > 0 { "," } else { "" };
            write!(annotations, r#"{comma}{{"id":{count},"image_id":{id},"category_id":{category}}}"#).unwrap();
            count += 1;
        }
    }
    instances(&(images + "]"), &(annotations + "]"), categories)
}

#[test]
fn the_papers_data_set_is_reproduced_from_all_labels_of_coco() {
    let (Some(labels), Some(subset)) = (shared("coco-labels"), shared("coco-subset")) else { return };
    let text = fs::read_to_string(subset.join("annotations/instances_val2017.json")).unwrap();
    let categories = serde_json::from_str::<serde_json::Value>(&text).unwrap()["categories"].to_string();
    let directory = TempDir::new().unwrap();
    let source = |split: &str| {
        let annotations = directory.path().join(split);
        let text = instances_of_labels(&labels.join(format!("labels_{split}.csv")), &categories);
        fs::write(&annotations, text).unwrap();
        CocoSource { annotations, images: None }
    };
    let (train, test) = (source("train2017"), source("val2017"));
    let imported = coco::import(Taxonomy::coco(), &train, &test, ImportOptions::default(), &|_| ()).unwrap();
    assert_real_counts(&imported);
}

/// The instances files of COCO's own size take too long for every run.
#[test]
fn files_of_cocos_size_are_imported() {
    let Some(directory) = std::env::var_os("TWOGRAIN_COCO_JSON").map(PathBuf::from) else {
        println!(
            "skipped: TWOGRAIN_COCO_JSON names no directory with instances_train2017.json and instances_val2017.json"
        );
        return;
    };
    let source =
        |split| CocoSource { annotations: directory.join(format!("instances_{split}2017.json")), images: None };
    let start = Instant::now();
    let imported =
        coco::import(Taxonomy::coco(), &source("train"), &source("val"), ImportOptions::default(), &|_| ()).unwrap();
    println!("imported in {:.2?}", start.elapsed());
    assert_real_counts(&imported);
}

#[test]
fn real_photographs_are_imported() {
    let Some(subset) = shared("coco-subset") else { return };
    let source = |split: &str| CocoSource {
        annotations: subset.join(format!("annotations/instances_{split}.json")),
        images: Some(subset.join(split)),
    };
    let options = ImportOptions { verify: true, ..ImportOptions::default() };
    let imported = coco::import(Taxonomy::coco(), &source("train2017"), &source("val2017"), options, &|_| ()).unwrap();
    assert_eq!((imported.train.funnel.kept, imported.test.funnel.kept), (188, 172));
}
