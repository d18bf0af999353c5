//! From pixels to the input of a network: crop, resize, flip, colour jitter, normalise. What torchvision's transforms compute.

mod crop;
mod jitter;

use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use image::{ImageResult, RgbImage, codecs::jpeg::JpegEncoder};
use rand::{Rng, RngExt};

use super::decode::{DecodeError, Source};
use crate::domain::spec::Augmentation;
use jitter::Jitter;

pub use crop::Crop;

/// The mean of ImageNet's red, green and blue, on [0, 1]; it is subtracted.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// The standard deviation of ImageNet's red, green and blue, on [0, 1]; it divides.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

const THUMBNAIL_QUALITY: u8 = 85;

/// A byte of each channel, minus [`MEAN`], divided by [`STD`].
static NORMALISED: [[f32; 256]; 3] = {
    let mut table = [[0.0; 256]; 3];
    let mut at = 0;
    while at < 3 * 256 {
        let (channel, value) = (at / 256, at % 256);
        table[channel][value] = (value as f32 / 255.0 - MEAN[channel]) / STD[channel];
        at += 1;
    }
    table
};

/// What is shown of an image, and how.
#[derive(Clone, Copy, Debug, PartialEq)]
struct View {
    crop: Crop,
    flip: bool,
    jitter: Option<Jitter>,
}

impl View {
    fn test(size: (u32, u32), input_size: usize) -> Self {
        Self { crop: Crop::test(size.0, size.1, input_size), flip: false, jitter: None }
    }

    /// Augmented as `rng` will have it.
    fn train(size: (u32, u32), input_size: usize, augmentation: Augmentation, rng: &mut impl Rng) -> Self {
        let test = Self::test(size, input_size);
        match augmentation {
            Augmentation::None => test,
            Augmentation::Flip => Self { flip: rng.random(), ..test },
            Augmentation::CropFlip => {
                Self { crop: Crop::random(size.0, size.1, rng), flip: rng.random(), jitter: None }
            }
            Augmentation::CropFlipJitter => {
                // First the draws of the other, so that crop and flip are the same for the same seed.
                let view = Self::train(size, input_size, Augmentation::CropFlip, rng);
                Self { jitter: Some(Jitter::random(rng)), ..view }
            }
        }
    }
}

/// What a network is to see, in bytes, a quarter of the tensor.
#[derive(Clone, Debug)]
pub struct Pixels {
    /// Row by row, red, green, blue.
    bytes: Vec<u8>,
    width: usize,
    flip: bool,
}

impl Pixels {
    /// Minus [`MEAN`], divided by [`STD`]: `[3, height, width]`, behind what is in `tensor`.
    pub fn normalise_into(&self, tensor: &mut Vec<f32>) {
        let pixels = self.bytes.as_chunks::<3>().0;
        tensor.reserve(3 * pixels.len());
        for (channel, normalised) in NORMALISED.iter().enumerate() {
            for row in pixels.chunks_exact(self.width) {
                let values = row.iter().map(|pixel| normalised[usize::from(pixel[channel])]);
                if self.flip {
                    tensor.extend(values.rev());
                } else {
                    tensor.extend(values);
                }
            }
        }
    }

    fn normalised(&self) -> Vec<f32> {
        let mut tensor = Vec::new();
        self.normalise_into(&mut tensor);
        tensor
    }
}

/// Makes images one size. Holds scratch memory: keep one per thread.
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
        self.show(image, &View::test(image.dimensions(), self.input_size)).normalised()
    }

    /// The transform of training: augmented as `rng` will have it, then resized as in [`Self::test`]. Without augmentation it is
    /// the test transform; otherwise a large JPEG may be decoded at a fraction of its size ([`Source::part`]).
    ///
    /// # Errors
    /// The image cannot be decoded.
    pub fn train(
        &mut self,
        source: Source,
        augmentation: Augmentation,
        rng: &mut impl Rng,
    ) -> Result<Pixels, DecodeError> {
        let view = View::train(source.size(), self.input_size, augmentation, rng);
        let (image, crop) = match augmentation {
            Augmentation::None => (source.decode()?, view.crop),
            Augmentation::Flip | Augmentation::CropFlip | Augmentation::CropFlipJitter => {
                source.part(view.crop, self.input_size)?
            }
        };
        Ok(self.show(&image, &View { crop, ..view }))
    }

    fn show(&mut self, image: &RgbImage, view: &View) -> Pixels {
        let side = self.input_size;
        let mut bytes = resize(&mut self.resizer, image, view.crop, side as u32, side as u32);
        if let Some(jitter) = view.jitter {
            jitter.apply(bytes.as_chunks_mut().0);
        }
        Pixels { bytes, width: side, flip: view.flip }
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

    proptest! {
        #[test]
        fn any_shape_of_image_gives_a_full_tensor(width in 1u32..300, height in 1u32..300, seed: u64) {
            let image = RgbImage::from_pixel(width, height, image::Rgb([10, 20, 30]));
            let mut transform = Transform::new(32);
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for augmentation in Augmentation::ALL {
                let tensor = transform.show(&image, &View::train(image.dimensions(), 32, *augmentation, &mut rng)).normalised();
                prop_assert_eq!(tensor.len(), 3 * 32 * 32);
                for (channel, plane) in tensor.chunks(32 * 32).enumerate() {
                    let value = (f32::from([10u8, 20, 30][channel]) / 255.0 - MEAN[channel]) / STD[channel];
                    // Jitter makes one colour another one.
                    let jittered = *augmentation == Augmentation::CropFlipJitter;
                    let value = if jittered { plane[0] } else { value };
                    prop_assert!(plane.iter().all(|v| (v - value).abs() < 1e-5));
                }
            }
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
                let rng = &mut ChaCha8Rng::seed_from_u64(seed);
                let tensor = transform.show(&image, &View::train((64, 64), 32, Augmentation::Flip, rng)).normalised();
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
