//! The generated scenes of the demo.

use std::{collections::BTreeMap, fs, path::Path};

use tempfile::TempDir;
use twograin::{
    dataset::{
        coco::{self, ImportOptions},
        scenes::{ScenesConfig, generate},
    },
    domain::Taxonomy,
};

const CONFIG: ScenesConfig = ScenesConfig { train: 150, test: 40, side: 64, seed: 7 };

fn files(directory: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            let inner = self::files(&entry.path()).into_iter();
            files.extend(inner.map(|(file, bytes)| (format!("{name}/{file}"), bytes)));
        } else {
            files.insert(name, fs::read(entry.path()).unwrap());
        }
    }
    files
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let directory = TempDir::new().unwrap();
    let run = |name: &str, threads, config| {
        let path = directory.path().join(name);
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| generate(&path, &config, &|_, _| ())).unwrap();
        files(&path)
    };
    let config = ScenesConfig { train: 20, test: 5, ..CONFIG };
    let first = run("first", 1, config);
    assert_eq!(first.len(), 27);
    assert!(run("second", 3, config) == first);
    assert!(run("other", 3, ScenesConfig { seed: 8, ..config }) != first);
    let beginning = run("fewer", 2, ScenesConfig { train: 10, ..config });
    assert!(
        beginning["train/000007.jpg"] == first["train/000007.jpg"],
        "a scene does not depend on how many there are"
    );
    assert!(first["train/000001.jpg"] != first["test/000001.jpg"]);
}

#[test]
fn every_scene_is_kept_and_all_categories_occur() {
    let directory = TempDir::new().unwrap();
    let scenes = generate(&directory.path().join("new/scenes"), &CONFIG, &|_, _| ()).unwrap();
    let options = ImportOptions { verify: true, ..ImportOptions::default() };
    let imported = coco::import(Taxonomy::coco(), &scenes.train, &scenes.test, options, &|_| ()).unwrap();
    assert_eq!((imported.train.funnel.kept, imported.test.funnel.kept), (150, 40));
    assert!(imported.train.funnel.kept_per_coarse.iter().all(|&count| count > 0), "{:?}", imported.train.funnel);

    let person = imported.taxonomy.find_fine("person").unwrap();
    let with_person = imported.train.images.iter().filter(|image| image.labels.contains(person)).count();
    assert!((25..65).contains(&with_person), "{with_person} of 150");
    assert!(imported.train.images.iter().any(|image| image.labels.len() >= 3));
}

#[test]
fn boxes_lie_within_the_scene() {
    let directory = TempDir::new().unwrap();
    let scenes = generate(&directory.path().join("scenes"), &CONFIG, &|_, _| ()).unwrap();
    let text = fs::read_to_string(&scenes.train.annotations).unwrap();
    let instances: serde_json::Value = serde_json::from_str(&text).unwrap();
    for annotation in instances["annotations"].as_array().unwrap() {
        let bbox: Vec<u64> = annotation["bbox"].as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect();
        let [left, top, width, height] = bbox[..] else { panic!("{annotation}") };
        assert!(width > 0 && height > 0 && left + width <= 64 && top + height <= 64, "{annotation}");
        assert!((1..=width * height).contains(&annotation["area"].as_u64().unwrap()), "{annotation}");
    }
}

#[test]
fn only_an_empty_place_is_filled_and_nothing_half_done_remains() {
    let directory = TempDir::new().unwrap();
    let config = ScenesConfig { train: 2, test: 1, ..CONFIG };
    let empty = directory.path().join("empty");
    fs::create_dir(&empty).unwrap();
    generate(&empty, &config, &|_, _| ()).unwrap();
    let error = generate(&empty, &config, &|_, _| ()).unwrap_err();
    assert!(error.to_string().ends_with("is not empty"), "{error}");

    let small = directory.path().join("small");
    assert!(generate(&small, &ScenesConfig { side: 8, ..config }, &|_, _| ()).is_err());
    let entries: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(entries, ["empty"]);
}
