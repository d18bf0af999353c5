//! Against libjpeg-turbo (`reference.py` made the files), and what must hold for any bytes.

use std::{f64::consts::PI, fs, path::PathBuf};

use proptest::prelude::*;
use twograin_jpeg::{Part, Region, Scale, decode};

const NAMES: [&str; 6] = ["420", "422", "444", "restarts", "optimized", "grey"];
const WHOLE: Region = Region { left: 0, top: 0, width: 150, height: 106 };

fn file(name: &str) -> Vec<u8> {
    let directory = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/reference");
    fs::read(directory.join(name)).unwrap()
}

fn jpeg(name: &str) -> Vec<u8> {
    file(&format!("{name}.jpg"))
}

fn difference(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>() / a.len() as f64
}

#[test]
fn it_shows_the_means_of_the_pixels_that_libjpeg_turbo_decodes() {
    for name in NAMES {
        for scale in Scale::ALL {
            let part = decode(&jpeg(name), WHOLE, scale).unwrap();
            let reference = file(&format!("{name}-{}.ppm", scale.divisor()));
            let header = format!("P6\n{} {}\n255\n", part.width, part.height);
            let difference = difference(&part.rgb, reference.strip_prefix(header.as_bytes()).unwrap());
            println!("{name} at {scale:?}: {difference:.3}");
            assert!(difference < 2.5, "{name} at {scale:?}: {difference}");
        }
    }
}

/// One sum of the inverse cosine transform at `points` points: T.81, A.3.3, along both axes.
fn wave(frequency: usize, point: usize, points: usize) -> f64 {
    let norm = if frequency == 0 { 0.5f64.sqrt() } else { 1.0 };
    norm / 2.0 * (((2 * point + 1) * frequency) as f64 * PI / (2 * points) as f64).cos()
}

#[test]
fn fewer_points_show_the_lower_frequencies() {
    let full = image::load_from_memory(&jpeg("grey")).unwrap().into_luma8();
    let pairs = |side: usize| (0..side).flat_map(move |a| (0..side).map(move |b| (a, b)));
    for scale in Scale::ALL {
        let part = decode(&jpeg("grey"), WHOLE, scale).unwrap();
        let points = 8 / scale.divisor() as usize;
        // The last blocks reach beyond the image.
        for (block_x, block_y) in (0..18).flat_map(|x| (0..13).map(move |y| (x, y))) {
            let pixel =
                |x: usize, y: usize| f64::from(full.get_pixel((8 * block_x + x) as u32, (8 * block_y + y) as u32).0[0]);
            let coefficient = |u, v| pairs(8).map(|(x, y)| pixel(x, y) * wave(u, x, 8) * wave(v, y, 8)).sum::<f64>();
            let coefficients: Vec<_> = pairs(points).map(|(u, v)| (u, v, coefficient(u, v))).collect();
            for (x, y) in pairs(points) {
                let expected: f64 =
                    coefficients.iter().map(|(u, v, c)| c * wave(*u, x, points) * wave(*v, y, points)).sum();
                let at = (block_y * points + y) * part.width as usize + block_x * points + x;
                // The pixels of the full decoding are rounded and clipped.
                let difference = (f64::from(part.rgb[3 * at]) - expected.clamp(0.0, 255.0)).abs();
                assert!(difference < 2.0, "{scale:?}, block {block_x}, {block_y}: {difference}");
            }
        }
    }
}

#[test]
fn what_it_does_not_read_is_none() {
    let region = |left, top, width, height| Region { left, top, width, height };
    for name in ["progressive", "cmyk"] {
        assert_eq!(decode(&jpeg(name), WHOLE, Scale::Half), None, "{name}");
    }
    for outside in [region(0, 0, 151, 1), region(0, 106, 1, 1), region(3, 3, 0, 1), region(u32::MAX, 0, 2, 2)] {
        assert_eq!(decode(&jpeg("420"), outside, Scale::Half), None, "{outside:?}");
    }
    let whole = jpeg("420");
    for length in 0..whole.len() - 2 {
        assert_eq!(decode(&whole[..length], WHOLE, Scale::Half), None, "the first {length} bytes");
    }
}

proptest! {
    #[test]
    fn a_region_is_the_same_part_of_the_whole(
        name in 0..NAMES.len(), scale in 0..3usize, left in 0u32..150, top in 0u32..106, right in 1u32..=150, bottom in 1u32..=106,
    ) {
        prop_assume!(left < right && top < bottom);
        let (bytes, scale) = (jpeg(NAMES[name]), Scale::ALL[scale]);
        let whole = decode(&bytes, WHOLE, scale).unwrap();
        let Part { width, height, left: x, top: y, rgb } =
            decode(&bytes, Region { left, top, width: right - left, height: bottom - top }, scale).unwrap();
        let divisor = scale.divisor();
        prop_assert!(x <= left && y <= top && x % divisor == 0 && y % divisor == 0);
        prop_assert!(x + width * divisor >= right && y + height * divisor >= bottom);
        for (row, pixels) in rgb.chunks(3 * width as usize).enumerate() {
            let at = 3 * ((y / divisor + row as u32) * whole.width + x / divisor) as usize;
            prop_assert_eq!(pixels, &whole.rgb[at..at + pixels.len()]);
        }
        prop_assert_eq!(rgb.len(), (3 * width * height) as usize);
    }

    #[test]
    fn damage_never_panics(name in 0..NAMES.len(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut bytes = jpeg(NAMES[name]);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        for scale in Scale::ALL {
            decode(&bytes, Region { left: 0, top: 0, width: 1, height: 1 }, scale);
            decode(&bytes, WHOLE, scale);
        }
    }
}
