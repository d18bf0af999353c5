//! Which part of an image is shown.

use std::ops::RangeInclusive;

use image::metadata::Orientation;
use rand::{Rng, RngExt};

/// The share of the image's area that a random crop covers.
const SCALE: RangeInclusive<f64> = 0.08..=1.0;
/// Width / height of a random crop.
const RATIO: RangeInclusive<f64> = 3.0 / 4.0..=4.0 / 3.0;

/// A rectangle of an image, in its pixels; fractions are meant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Crop {
    /// Distance from the image's left edge.
    pub left: f64,
    /// Distance from the image's top edge.
    pub top: f64,
    /// Width, at most the image's.
    pub width: f64,
    /// Height, at most the image's.
    pub height: f64,
}

impl Crop {
    /// The part of an image of `width` × `height` pixels that the test transform shows a network of `input_size`: what is
    /// left of it after resizing the shorter side to `input_size` · 256 / 224 and cutting out the centre.
    pub fn test(width: u32, height: u32, input_size: usize) -> Self {
        let short = (input_size as f64 * 256.0 / 224.0).round();
        let (w, h) = (f64::from(width), f64::from(height));
        // The longer side is truncated to whole pixels, so the two axes differ a little in scale.
        let resized = |side: f64, other: f64| if side <= other { short } else { (short * side / other).floor() };
        let axis = |side: f64, resized: f64| {
            let offset = ((resized - input_size as f64) / 2.0).round_ties_even();
            (offset * side / resized, input_size as f64 * side / resized)
        };
        let ((left, width), (top, height)) = (axis(w, resized(w, h)), axis(h, resized(h, w)));
        Self { left, top, width, height }
    }

    /// A random part of the image: area and aspect ratio are drawn until they fit in, at most ten times; then it is the
    /// largest central part with an allowed aspect ratio.
    pub(super) fn random(width: u32, height: u32, rng: &mut impl Rng) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        for _ in 0..10 {
            let area = w * h * rng.random_range(SCALE);
            let ratio = rng.random_range(RATIO.start().ln()..=RATIO.end().ln()).exp();
            let (crop_w, crop_h) = ((area * ratio).sqrt().round_ties_even(), (area / ratio).sqrt().round_ties_even());
            if (1.0..=w).contains(&crop_w) && (1.0..=h).contains(&crop_h) {
                let top = f64::from(rng.random_range(0..=height - crop_h as u32));
                let left = f64::from(rng.random_range(0..=width - crop_w as u32));
                return Self { left, top, width: crop_w, height: crop_h };
            }
        }
        let ratio = (w / h).clamp(*RATIO.start(), *RATIO.end());
        let (crop_w, crop_h) = (w.min((h * ratio).round_ties_even()), h.min((w / ratio).round_ties_even()));
        let (left, top) = (((w - crop_w) / 2.0).floor(), ((h - crop_h) / 2.0).floor());
        Self { left, top, width: crop_w.max(1.0), height: crop_h.max(1.0) }
    }

    /// The rectangle where `orientation` takes it, with the image of `width` × `height` pixels that it lies in.
    pub(crate) fn oriented(self, orientation: Orientation, (width, height): (u32, u32)) -> Self {
        let (transpose, mirror_x, mirror_y) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (false, true, false),
            Orientation::FlipVertical => (false, false, true),
            Orientation::Rotate180 => (false, true, true),
            Orientation::Rotate90FlipH => (true, false, false),
            Orientation::Rotate90 => (true, true, false),
            Orientation::Rotate270 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
        };
        let (mut crop, mut sides) = (self, (f64::from(width), f64::from(height)));
        if transpose {
            crop = Self { left: crop.top, top: crop.left, width: crop.height, height: crop.width };
            sides = (sides.1, sides.0);
        }
        if mirror_x {
            crop.left = sides.0 - crop.left - crop.width;
        }
        if mirror_y {
            crop.top = sides.1 - crop.top - crop.height;
        }
        crop
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn the_test_crop_is_the_centre_of_the_resized_image() {
        // 640 × 480 becomes 341 × 256, of which 224 × 224 start at (58, 16): 58.5 is rounded to even.
        let crop = Crop::test(640, 480, 224);
        let (x, y) = (640.0 / 341.0, 480.0 / 256.0);
        let expected = Crop { left: 58.0 * x, top: 16.0 * y, width: 224.0 * x, height: 224.0 * y };
        for (actual, expected) in [
            (crop.left, expected.left),
            (crop.top, expected.top),
            (crop.width, expected.width),
            (crop.height, expected.height),
        ] {
            assert!((actual - expected).abs() < 1e-9, "{crop:?}");
        }
    }

    proptest! {
        #[test]
        fn a_random_crop_lies_inside(width in 1u32..3000, height in 1u32..3000, seed: u64) {
            let crop = Crop::random(width, height, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(crop.left >= 0.0 && crop.top >= 0.0 && crop.width >= 1.0 && crop.height >= 1.0);
            prop_assert!(crop.left + crop.width <= f64::from(width) && crop.top + crop.height <= f64::from(height));
        }
    }
}
