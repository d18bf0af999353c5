//! Images of every kind against Pillow (`tests/reference/decoding.py` made them), and the part of an image against the whole.

use std::path::Path;

use image::RgbImage;
use rand::RngExt;
use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};
use serde::Deserialize;
use twograin::{
    dataset::{
        decode::{self, Source},
        transform::{Crop, Transform},
    },
    domain::spec::Augmentation,
};

use crate::support::shared;

#[derive(Deserialize)]
struct Reference {
    file: String,
    width: u32,
    height: u32,
    /// The largest difference of a value.
    tolerance: u8,
    pixels: Vec<u8>,
}

fn reference() -> Vec<Reference> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    let mut all: Vec<Reference> =
        serde_json::from_str(&std::fs::read_to_string(directory.join("decoding.json")).unwrap()).unwrap();
    for reference in &mut all {
        reference.file = directory.join("decoding").join(&reference.file).display().to_string();
    }
    all
}

#[test]
fn every_kind_of_image_is_decoded_as_pillow_does_it() {
    let all = reference();
    assert!(all.len() > 20);
    for Reference { file, width, height, tolerance, pixels } in all {
        let image = decode::open(Path::new(&file)).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(image.dimensions(), (width, height), "{file}");
        let largest = image.as_raw().iter().zip(&pixels).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(largest <= tolerance, "{file}: {largest}");
        let bytes = decode::read(Path::new(&file)).unwrap();
        assert_eq!(Source::new(&bytes, &file).unwrap().size(), (width, height), "{file}");
    }
}

/// `crop` of `image` as the mean colours of 3 × 3 cells.
fn cells(image: &RgbImage, crop: Crop) -> Vec<f64> {
    let mut means = Vec::new();
    for (cell_x, cell_y) in (0..3).flat_map(|y| (0..3).map(move |x| (f64::from(x), f64::from(y)))) {
        let from = |start: f64, length: f64, cell: f64| (start + length * cell / 3.0).round() as u32;
        let (x, x_end) = (from(crop.left, crop.width, cell_x), from(crop.left, crop.width, cell_x + 1.0));
        let (y, y_end) = (from(crop.top, crop.height, cell_y), from(crop.top, crop.height, cell_y + 1.0));
        for channel in 0..3 {
            let values = (y..y_end).flat_map(|y| (x..x_end).map(move |x| (x, y)));
            let sum: f64 = values.map(|(x, y)| f64::from(image.get_pixel(x, y).0[channel])).sum();
            means.push(sum / f64::from((x_end - x) * (y_end - y)));
        }
    }
    means
}

#[test]
fn a_part_shows_what_the_whole_shows_there_however_the_image_lies() {
    let crop = Crop { left: 2.0, top: 4.0, width: 12.0, height: 12.0 };
    for Reference { file, .. } in reference() {
        let bytes = decode::read(Path::new(&file)).unwrap();
        let whole = decode::decode(&bytes, &file).unwrap();
        let (part, within) = Source::new(&bytes, &file).unwrap().part(crop, 6).unwrap();
        // Half the size, or all of it where there is nothing faster.
        let scaled =
            [".jpg"].iter().any(|end| file.ends_with(end)) && !file.contains("progressive") && !file.contains("cmyk");
        assert_eq!(within.width, if scaled { 6.0 } else { 12.0 }, "{file}");
        assert_eq!(scaled, part.dimensions() != whole.dimensions(), "{file}");
        for (a, b) in cells(&part, within).iter().zip(cells(&whole, crop)) {
            assert!((a - b).abs() < 9.0, "{file}: {a} instead of {b}");
        }
    }
}

#[test]
fn a_part_that_is_hardly_larger_than_the_input_is_not_scaled() {
    let file = reference().remove(0).file;
    let bytes = decode::read(Path::new(&file)).unwrap();
    let crop = Crop { left: 0.0, top: 0.0, width: 12.0, height: 11.0 };
    let (whole, within) = Source::new(&bytes, &file).unwrap().part(crop, 6).unwrap();
    assert_eq!((whole, within), (decode::decode(&bytes, &file).unwrap(), crop));
}

#[test]
fn what_training_sees_of_photographs_is_close_to_the_test_transform() {
    let Some(subset) = shared("coco-subset") else { return };
    let files: Vec<_> = std::fs::read_dir(subset.join("val2017")).unwrap().map(|entry| entry.unwrap().path()).collect();
    // A seed that does not flip.
    let rng = || (0..).map(ChaCha8Rng::seed_from_u64).find(|rng| !rng.clone().random::<bool>()).unwrap();
    // The shorter side has mostly 256 pixels: a half, a quarter and an eighth.
    for input_size in [112, 56, 28] {
        let mut transform = Transform::new(input_size);
        let mut differences = Vec::new();
        for path in &files[..100] {
            let (bytes, name) = (decode::read(path).unwrap(), path.display().to_string());
            let test = transform.test(&decode::decode(&bytes, &name).unwrap());
            let source = Source::new(&bytes, &name).unwrap();
            let mut train = Vec::new();
            transform.train(source, Augmentation::Flip, &mut rng()).unwrap().normalise_into(&mut train);
            let sum: f32 = train.iter().zip(&test).map(|(a, b)| (a - b).abs()).sum();
            // Of values normalised by a standard deviation of about 0.225, in 255ths.
            differences.push(sum / test.len() as f32 * 0.225 * 255.0);
        }
        let mean = differences.iter().sum::<f32>() / differences.len() as f32;
        let largest = differences.iter().copied().fold(0.0, f32::max);
        println!("{input_size}: mean {mean:.2}, largest mean of a photograph {largest:.2}");
        assert!(mean > 0.1, "nothing was scaled");
        assert!(mean < 4.0 && largest < 8.0, "{input_size}: {mean}, {largest}");
    }
}
