//! The test transform against torchvision's (`tests/reference/transforms.py` made the reference).

use std::path::Path;

use image::{Rgb, RgbImage};
use serde::Deserialize;
use twograin::dataset::{
    decode,
    transform::{STD, test_tensor},
};

use crate::support::shared;

#[derive(Deserialize)]
struct Reference {
    photographs: Vec<Photograph>,
    generated: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Photograph {
    file: String,
    tensors: Vec<Tensor>,
}

#[derive(Deserialize)]
struct Tensor {
    size: usize,
    grid: Vec<f32>,
}

fn directory() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/reference")
}

fn reference() -> Reference {
    serde_json::from_str(&std::fs::read_to_string(directory().join("transforms.json")).unwrap()).unwrap()
}

/// The mean and the largest difference to the reference's grid, in 255ths of a channel's range.
fn difference(image: &RgbImage, reference: &Tensor) -> (f32, f32) {
    let (size, step) = (reference.size, reference.size / 8);
    let tensor = test_tensor(image, size);
    let (mut sum, mut max) = (0.0, 0.0f32);
    for (position, expected) in reference.grid.iter().enumerate() {
        let (channel, row, column) = (position / 64, position / 8 % 8, position % 8);
        let at = |cell: usize| step / 2 + cell * step;
        let value = tensor[(channel * size + at(row)) * size + at(column)];
        let difference = (value - expected).abs() * STD[channel] * 255.0;
        sum += difference;
        max = max.max(difference);
    }
    (sum / reference.grid.len() as f32, max)
}

#[test]
fn the_test_transform_is_torchvisions() {
    let image = RgbImage::from_fn(301, 200, |x, y| {
        Rgb([((x * 7 + y * 3) % 256) as u8, (x * y % 256) as u8, ((x / 8 + y / 8) % 2 * 255) as u8])
    });
    for tensor in reference().generated {
        let (mean, max) = difference(&image, &tensor);
        println!("generated at {}: mean {mean:.3}, largest {max:.3}", tensor.size);
        assert!(mean < 0.5 && max < 2.5);
    }
}

#[test]
fn photographs_become_the_tensors_that_torchvision_makes_of_them() {
    let Some(subset) = shared("coco-subset") else { return };
    let photographs = reference().photographs;
    let (mut sums, count) = ([0.0; 2], photographs.len());
    assert!(count > 40);
    for (number, photograph) in photographs.iter().enumerate() {
        let image = decode::open(&subset.join(&photograph.file)).unwrap();
        for (tensor, sum) in photograph.tensors.iter().zip(&mut sums) {
            let (mean, max) = difference(&image, tensor);
            assert!(mean < 1.0 && max < 12.0, "{} at {}: {mean}, {max}", photograph.file, tensor.size);
            *sum += mean / count as f32;
        }
        // The figures can tell photographs apart.
        let (mean, _) = difference(&image, &photographs[(number + 1) % count].tensors[0]);
        assert!(mean > 10.0, "{}: {mean} from the next one", photograph.file);
    }
    println!("mean over {count} photographs, in 255ths: {:.3} at 224, {:.3} at 64", sums[0], sums[1]);
}

#[test]
fn a_cmyk_jpeg_has_its_colours() {
    let image = decode::open(&directory().join("cmyk.jpg")).unwrap();
    let near = |x, expected: [u8; 3]| image.get_pixel(x, 4).0.iter().zip(expected).all(|(a, b)| a.abs_diff(b) < 12);
    assert!(near(2, [255, 0, 0]) && near(13, [255; 3]), "{:?}, {:?}", image.get_pixel(2, 4), image.get_pixel(13, 4));
}
