//! From pixels to the input of a network: crop, resize, flip, normalise. What torchvision's transforms compute.

use std::ops::RangeInclusive;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{ImageResult, RgbImage, codecs::jpeg::JpegEncoder};
use rand::{Rng, RngExt};

use crate::domain::spec::Augmentation;

/// The mean of ImageNet's red, green and blue, on [0, 1]; it is subtracted.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// The standard deviation of ImageNet's red, green and blue, on [0, 1]; it divides.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// The share of the image's area that a random crop covers.
const CROP_SCALE: RangeInclusive<f64> = 0.08..=1.0;
/// Width / height of a random crop.
const CROP_RATIO: RangeInclusive<f64> = 3.0 / 4.0..=4.0 / 3.0;
const THUMBNAIL_QUALITY: u8 = 85;

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
    fn random(width: u32, height: u32, rng: &mut impl Rng) -> Self {
        let (w, h) = (f64::from(width), f64::from(height));
        for _ in 0..10 {
            let area = w * h * rng.random_range(CROP_SCALE);
            let ratio = rng.random_range(CROP_RATIO.start().ln()..=CROP_RATIO.end().ln()).exp();
            let (crop_w, crop_h) = ((area * ratio).sqrt().round_ties_even(), (area / ratio).sqrt().round_ties_even());
            if (1.0..=w).contains(&crop_w) && (1.0..=h).contains(&crop_h) {
                let top = f64::from(rng.random_range(0..=height - crop_h as u32));
                let left = f64::from(rng.random_range(0..=width - crop_w as u32));
                return Self { left, top, width: crop_w, height: crop_h };
            }
        }
        let ratio = (w / h).clamp(*CROP_RATIO.start(), *CROP_RATIO.end());
        let (crop_w, crop_h) = (w.min((h * ratio).round_ties_even()), h.min((w / ratio).round_ties_even()));
        let (left, top) = (((w - crop_w) / 2.0).floor(), ((h - crop_h) / 2.0).floor());
        Self { left, top, width: crop_w.max(1.0), height: crop_h.max(1.0) }
    }
}

/// Turns images into tensors of one size. Holds scratch memory: keep one per thread.
#[derive(Debug)]
pub struct Transform {
    input_size: usize,
    resizer: Resizer,
}

impl Transform {
    /// `input_size`: side of the square input, in pixels.
    pub fn new(input_size: usize) -> Self {
        Self { input_size, resizer: Resizer::new() }
    }

    /// The transform of evaluation: [`Crop::test`], resized with antialiased bilinear interpolation, minus [`MEAN`], divided
    /// by [`STD`]. Returns `[3, input_size, input_size]`.
    pub fn test(&mut self, image: &RgbImage) -> Vec<f32> {
        self.apply(image, Crop::test(image.width(), image.height(), self.input_size), false)
    }

    /// The transform of training: augmented as `rng` will have it, then as in [`Self::test`].
    pub fn train(&mut self, image: &RgbImage, augmentation: Augmentation, rng: &mut impl Rng) -> Vec<f32> {
        let (width, height) = image.dimensions();
        let (crop, flip) = match augmentation {
            Augmentation::None => (Crop::test(width, height, self.input_size), false),
            Augmentation::Flip => (Crop::test(width, height, self.input_size), rng.random()),
            Augmentation::CropFlip => (Crop::random(width, height, rng), rng.random()),
        };
        self.apply(image, crop, flip)
    }

    fn apply(&mut self, image: &RgbImage, crop: Crop, flip: bool) -> Vec<f32> {
        let size = self.input_size;
        let pixels = resize(&mut self.resizer, image, crop, size as u32, size as u32);
        let mut tensor = Vec::with_capacity(3 * size * size);
        for channel in 0..3 {
            let normalised = |value: u8| (f32::from(value) / 255.0 - MEAN[channel]) / STD[channel];
            for row in pixels.chunks_exact(3 * size) {
                let values = row.iter().skip(channel).step_by(3).map(|&value| normalised(value));
                if flip {
                    tensor.extend(values.rev());
                } else {
                    tensor.extend(values);
                }
            }
        }
        tensor
    }
}

/// [`Transform::test`] of a single image: an upload goes through what the evaluation went through.
pub fn test_tensor(image: &RgbImage, input_size: usize) -> Vec<f32> {
    Transform::new(input_size).test(image)
}

/// The image as a JPEG whose longer side is at most `side` pixels; a smaller image is not enlarged.
///
/// # Errors
/// The encoder refuses the image.
pub fn thumbnail(image: &RgbImage, side: u32) -> ImageResult<Vec<u8>> {
    let (width, height) = image.dimensions();
    let scale = (f64::from(side) / f64::from(width.max(height))).min(1.0);
    let scaled = |side: u32| ((f64::from(side) * scale).round() as u32).max(1);
    let (w, h) = (scaled(width), scaled(height));
    let whole = Crop { left: 0.0, top: 0.0, width: width.into(), height: height.into() };
    let pixels = resize(&mut Resizer::new(), image, whole, w, h);
    let mut jpeg = Vec::new();
    JpegEncoder::new_with_quality(&mut jpeg, THUMBNAIL_QUALITY).encode(
        &pixels,
        w,
        h,
        image::ExtendedColorType::Rgb8,
    )?;
    Ok(jpeg)
}

/// The cropped part in `width` × `height` pixels, row by row, red, green, blue. The filter reads beyond the edges of the
/// crop where the image goes on: cropping and resizing in one step gives what resizing and then cropping would.
fn resize(resizer: &mut Resizer, image: &RgbImage, crop: Crop, width: u32, height: u32) -> Vec<u8> {
    let source = ImageRef::new(image.width(), image.height(), image.as_raw(), PixelType::U8x3)
        .expect("an image's buffer has the length of its pixels");
    let mut target = Image::new(width, height, PixelType::U8x3);
    // A sum of rounded numbers must not lead out of the image by its last bit.
    let inside = |start: f64, length: f64, side: u32| length.min(f64::from(side) - start);
    let crop_width = inside(crop.left, crop.width, image.width());
    let crop_height = inside(crop.top, crop.height, image.height());
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Bilinear)).crop(
        crop.left,
        crop.top,
        crop_width,
        crop_height,
    );
    resizer.resize(&source, &mut target, &options).expect("the crop lies inside the image, and both are RGB");
    target.into_vec()
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
        fn any_shape_of_image_gives_a_full_tensor(width in 1u32..300, height in 1u32..300, seed: u64) {
            let image = RgbImage::from_pixel(width, height, image::Rgb([10, 20, 30]));
            let mut transform = Transform::new(32);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for augmentation in Augmentation::ALL {
                let tensor = transform.train(&image, *augmentation, &mut rng);
                prop_assert_eq!(tensor.len(), 3 * 32 * 32);
                for (channel, plane) in tensor.chunks(32 * 32).enumerate() {
                    let value = (f32::from([10u8, 20, 30][channel]) / 255.0 - MEAN[channel]) / STD[channel];
                    prop_assert!(plane.iter().all(|v| (v - value).abs() < 1e-5));
                }
            }
        }

        #[test]
        fn a_random_crop_lies_inside(width in 1u32..3000, height in 1u32..3000, seed: u64) {
            let crop = Crop::random(width, height, &mut ChaCha8Rng::seed_from_u64(seed));
            prop_assert!(crop.left >= 0.0 && crop.top >= 0.0 && crop.width >= 1.0 && crop.height >= 1.0);
            prop_assert!(crop.left + crop.width <= f64::from(width) && crop.top + crop.height <= f64::from(height));
        }
    }

    #[test]
    fn the_longest_strip_that_is_decoded_is_transformed_in_little_memory() {
        let strip = RgbImage::new(16_384, 1);
        assert_eq!(test_tensor(&strip, 224).len(), 3 * 224 * 224);
        assert!(!thumbnail(&strip, 64).unwrap().is_empty());
    }

    #[test]
    fn a_flip_mirrors_the_rows() {
        let image = RgbImage::from_fn(64, 64, |x, _| image::Rgb([x as u8 * 4; 3]));
        let mut transform = Transform::new(32);
        let plain = transform.test(&image);
        let flips: Vec<bool> = (0..64)
            .map(|seed| {
                let tensor = transform.train(&image, Augmentation::Flip, &mut ChaCha8Rng::seed_from_u64(seed));
                if tensor == plain {
                    return false;
                }
                let mirrored: Vec<f32> = plain.chunks(32).flat_map(|row| row.iter().rev()).copied().collect();
                assert_eq!(tensor, mirrored);
                true
            })
            .collect();
        let count = flips.iter().filter(|&&flip| flip).count();
        assert!((16..=48).contains(&count), "{count} of 64");
    }

    #[test]
    fn a_thumbnail_keeps_the_proportions_and_never_enlarges() {
        let size = |width, height| {
            let jpeg = thumbnail(&RgbImage::new(width, height), 100).unwrap();
            image::load_from_memory(&jpeg).unwrap().into_rgb8().dimensions()
        };
        assert_eq!((size(400, 200), size(30, 300), size(20, 50)), ((100, 50), (10, 100), (20, 50)));
    }
}
