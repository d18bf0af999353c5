//! The loader's batches.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use image::{Rgb, RgbImage};
use tempfile::TempDir;
use twograin::{
    dataset::{Batch, Loader, LoaderConfig, Sample, decode, shuffle, transform},
    domain::{CoarseId, LabelSet, spec::Augmentation},
};

use crate::support::shared;

const CONFIG: LoaderConfig = LoaderConfig {
    input_size: 32,
    augmentation: Augmentation::CropFlip,
    batch_size: 4,
    seed: 1,
    epoch: 0,
    drop_last: false,
    first_batch: 0,
    threads: 2,
};

fn sample(source_id: i64, path: &Path) -> Sample {
    Sample { source_id, path: path.to_owned(), labels: LabelSet::default(), coarse: CoarseId(0) }
}

fn samples(count: i64) -> (TempDir, Arc<[Sample]>) {
    let directory = TempDir::new().unwrap();
    let samples = (0..count)
        .map(|id| {
            let path = directory.path().join(format!("{id}.png"));
            RgbImage::from_fn(50, 40, |x, y| Rgb([(x * 5) as u8, (y * 6) as u8, id as u8 * 9])).save(&path).unwrap();
            sample(id, &path)
        })
        .collect();
    (directory, samples)
}

fn load(samples: &Arc<[Sample]>, config: LoaderConfig) -> Vec<Batch> {
    let order = (0..samples.len()).collect();
    Loader::new(Arc::clone(samples), order, config).unwrap().map(Result::unwrap).collect()
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let (_directory, samples) = samples(23);
    let expected = load(&samples, LoaderConfig { threads: 1, ..CONFIG });
    for threads in [0, 2, 3, 16, 100] {
        assert_eq!(load(&samples, LoaderConfig { threads, ..CONFIG }), expected, "{threads} threads");
    }
}

#[test]
fn every_epoch_has_an_order_of_its_own() {
    let plain: Vec<usize> = (0..10).collect();
    let order = |seed, epoch| {
        let mut order = plain.clone();
        shuffle(&mut order, seed, epoch);
        order
    };
    let mut sorted = order(1, 0);
    sorted.sort_unstable();
    assert_eq!((&sorted, order(1, 0)), (&plain, order(1, 0)));
    let orders = [plain.clone(), order(1, 0), order(1, 1), order(2, 0)];
    assert!((0..4).all(|index| !orders[..index].contains(&orders[index])));

    let (_directory, samples) = samples(10);
    let indices: Vec<usize> = load(&samples, CONFIG).into_iter().flat_map(|batch| batch.indices).collect();
    assert_eq!(indices, plain);
}

#[test]
fn augmentation_depends_on_seed_epoch_and_sample_alone() {
    let (_directory, samples) = samples(5);
    let config = LoaderConfig { batch_size: 1, ..CONFIG };
    let first = load(&samples, config);
    // The same sample in another place of another order.
    let loader = Loader::new(Arc::clone(&samples), vec![4, 2], config).unwrap();
    let again: Vec<Batch> = loader.map(Result::unwrap).collect();
    assert_eq!(again, [first[4].clone(), first[2].clone()]);
    assert_ne!(load(&samples, LoaderConfig { epoch: 1, ..config })[2].pixels, first[2].pixels);
}

#[test]
fn a_sample_that_comes_again_is_augmented_anew() {
    let (_directory, samples) = samples(2);
    let config = LoaderConfig { batch_size: 1, ..CONFIG };
    let loader = Loader::new(samples, vec![0, 1, 0, 0], config).unwrap();
    let pixels: Vec<_> = loader.map(|batch| batch.unwrap().pixels).collect();
    assert!(pixels[0] != pixels[2] && pixels[0] != pixels[3] && pixels[2] != pixels[3]);
}

#[test]
fn an_epoch_can_begin_in_its_middle() {
    let (_directory, samples) = samples(10);
    // Draws that come again are numbered from the beginning of the epoch.
    let order: Vec<usize> = (0..10).chain([3, 3, 7]).collect();
    let batches = |first_batch, threads| -> Vec<Batch> {
        let config = LoaderConfig { first_batch, threads, ..CONFIG };
        Loader::new(Arc::clone(&samples), order.clone(), config).unwrap().map(Result::unwrap).collect()
    };
    let all = batches(0, 2);
    for first in 0..6 {
        for threads in [1, 2, 3] {
            assert_eq!(batches(first, threads), all[first.min(4)..], "from batch {first} on {threads} threads");
        }
    }
}

#[test]
fn an_incomplete_last_batch_is_kept_or_dropped() {
    let (_directory, samples) = samples(10);
    for (drop_last, expected) in [(false, vec![4, 4, 2]), (true, vec![4, 4])] {
        let config = LoaderConfig { drop_last, ..CONFIG };
        let loader = Loader::new(Arc::clone(&samples), (0..10).collect(), config).unwrap();
        assert_eq!(loader.batches(), expected.len());
        let batches: Vec<Batch> = loader.map(Result::unwrap).collect();
        assert_eq!(batches.iter().map(|batch| batch.indices.len()).collect::<Vec<_>>(), expected);
        assert!(batches.iter().all(|batch| batch.pixels.len() == batch.indices.len() * 3 * 32 * 32));
    }
    assert!(load(&Arc::from([]), CONFIG).is_empty());
}

#[test]
fn without_augmentation_it_is_the_test_transform() {
    let (_directory, samples) = samples(1);
    let batches = load(&samples, LoaderConfig { augmentation: Augmentation::None, ..CONFIG });
    let image = decode::open(&samples[0].path).unwrap();
    assert_eq!(batches[0].pixels, transform::test_tensor(&image, 32));
}

#[test]
fn a_damaged_image_ends_the_epoch_with_its_name() {
    let (_directory, samples) = samples(10);
    std::fs::write(&samples[5].path, "damaged").unwrap();
    let config = CONFIG;
    let mut loader = Loader::new(Arc::clone(&samples), (0..10).collect(), config).unwrap();
    assert_eq!(loader.next().unwrap().unwrap().indices, [0, 1, 2, 3]);
    let error = loader.next().unwrap().unwrap_err();
    assert!(error.to_string().starts_with(&samples[5].path.display().to_string()), "{error}");
    assert!(loader.next().is_none());
}

#[test]
fn dropping_a_loader_stops_its_threads() {
    let (_directory, samples) = samples(20);
    // 10,000 rounds of the samples: far more than could be loaded before the test gave up.
    let order: Vec<usize> = (0..20).cycle().take(200_000).collect();
    let mut loader = Loader::new(Arc::clone(&samples), order, CONFIG).unwrap();
    loader.next().unwrap().unwrap();
    drop(loader);
    assert_eq!(Arc::strong_count(&samples), 1, "every thread has given up its samples");
}

#[test]
fn no_more_than_two_batches_are_prepared_ahead() {
    let (_directory, samples) = samples(28);
    let config = CONFIG;
    let mut loader = Loader::new(Arc::clone(&samples), (0..28).collect(), config).unwrap();
    loader.next().unwrap().unwrap();
    // A slow consumer: the threads have long done what they may.
    std::thread::sleep(Duration::from_secs(1));
    samples[4..].iter().for_each(|sample| std::fs::remove_file(&sample.path).unwrap());
    // Two batches, and an image that each of the two threads could not deliver.
    let loaded: Vec<_> = loader.by_ref().map_while(Result::ok).flat_map(|batch| batch.indices).collect();
    assert_eq!(loaded, (4..12).collect::<Vec<_>>());
}

#[test]
fn photographs_load() {
    let Some(subset) = shared("coco-subset") else { return };
    let files = std::fs::read_dir(subset.join("train2017")).unwrap();
    let samples: Arc<[Sample]> = files.map(|entry| sample(0, &entry.unwrap().path())).take(128).collect();
    for input_size in [224, 64] {
        let start = Instant::now();
        let batches = load(&samples, LoaderConfig { input_size, batch_size: 32, ..CONFIG });
        println!("{} images a second at {input_size}", (128.0 / start.elapsed().as_secs_f64()).round());
        assert_eq!(batches.len(), 4);
    }
}
