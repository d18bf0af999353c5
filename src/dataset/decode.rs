//! From image files to pixels.

use std::{
    fs,
    io::{self, Cursor},
    path::{Path, PathBuf},
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageReader, Limits, RgbImage, RgbaImage, metadata::Orientation};
use thiserror::Error;
use twograin_jpeg::{Region, Scale};

use super::transform::Crop;

/// The longest side of an image that is decoded, in pixels.
pub const MAX_SIDE: u32 = 16_384;
/// The largest area of an image that is decoded, in pixels.
pub const MAX_AREA: u64 = 100_000_000;
/// What a decoder may allocate, in bytes: enough for [`MAX_AREA`] at four bytes a pixel and the decoder's own tables.
const MAX_ALLOCATION: u64 = 512 << 20;

/// Why an image was not decoded. The message names it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The file cannot be read.
    #[error("{}: {error}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
    /// It is no image of a format that is read (JPEG, PNG, WebP, GIF, BMP, TIFF), or a damaged one.
    #[error("{name}: {error}")]
    Undecodable {
        /// The file, or what the sender calls it.
        name: String,
        /// The decoder's complaint.
        error: ImageError,
    },
    /// It has no pixels.
    #[error("{name}: it has no pixels")]
    Empty {
        /// The file, or what the sender calls it.
        name: String,
    },
    /// It breaks off.
    #[error("{name}: the file ends before the image does")]
    Truncated {
        /// The file, or what the sender calls it.
        name: String,
    },
    /// It is larger than [`MAX_SIDE`] or [`MAX_AREA`].
    #[error(
        "{name}: it has {width} × {height} pixels; at most {MAX_SIDE} a side and {} megapixels are read",
        MAX_AREA / 1_000_000
    )]
    TooLarge {
        /// The file, or what the sender calls it.
        name: String,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
}

/// Decodes an image file. See [`decode`].
///
/// # Errors
/// The file cannot be read, and those of [`decode`].
pub fn open(path: &Path) -> Result<RgbImage, DecodeError> {
    decode(&read(path)?, &path.display().to_string())
}

/// The bytes of an image file.
///
/// # Errors
/// The file cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>, DecodeError> {
    fs::read(path).map_err(|error| DecodeError::Unreadable { path: path.to_owned(), error })
}

/// Decodes an image to 8-bit RGB, upright by its EXIF orientation, its transparent parts over white. Of an animation, the
/// first frame. The format is told from the content. `name` is what an error calls the image.
///
/// # Errors
/// Not an image, damaged, without pixels, or too large: the size is checked before any pixel is decoded.
pub fn decode(bytes: &[u8], name: &str) -> Result<RgbImage, DecodeError> {
    Source::new(bytes, name)?.decode()
}

/// An encoded image of which the size is known and checked.
pub struct Source<'a> {
    bytes: &'a [u8],
    name: &'a str,
    decoder: Box<dyn ImageDecoder + 'a>,
    orientation: Orientation,
}

impl<'a> Source<'a> {
    /// `name` is what an error calls the image.
    ///
    /// # Errors
    /// Not an image, without pixels, too large, or cut off.
    pub fn new(bytes: &'a [u8], name: &'a str) -> Result<Self, DecodeError> {
        let undecodable = |error| DecodeError::Undecodable { name: name.to_owned(), error };
        let mut limits = Limits::no_limits();
        limits.max_alloc = Some(MAX_ALLOCATION);

        let mut reader = ImageReader::new(Cursor::new(bytes));
        reader.limits(limits.clone());
        let reader = reader.with_guessed_format().map_err(|error| undecodable(error.into()))?;
        let mut decoder = reader.into_decoder().map_err(undecodable)?;

        let (width, height) = decoder.dimensions();
        if width.max(height) > MAX_SIDE || u64::from(width) * u64::from(height) > MAX_AREA {
            return Err(DecodeError::TooLarge { name: name.to_owned(), width, height });
        }
        if width == 0 || height == 0 {
            return Err(DecodeError::Empty { name: name.to_owned() });
        }
        limits.reserve(decoder.total_bytes()).and_then(|()| decoder.set_limits(limits)).map_err(undecodable)?;
        // The decoder would fill the missing part of a JPEG with grey; those of the other formats refuse it.
        if breaks_off(bytes) {
            return Err(DecodeError::Truncated { name: name.to_owned() });
        }
        // Pixels are worth more than an orientation that cannot be read.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        Ok(Self { bytes, name, decoder: Box::new(decoder), orientation })
    }

    /// Width and height when it is upright.
    pub fn size(&self) -> (u32, u32) {
        let (width, height) = self.decoder.dimensions();
        let stored = Crop { left: 0.0, top: 0.0, width: width.into(), height: height.into() };
        let upright = stored.oriented(self.orientation, (width, height));
        (upright.width as u32, upright.height as u32)
    }

    /// All of it. See [`decode`].
    ///
    /// # Errors
    /// It is damaged.
    pub fn decode(self) -> Result<RgbImage, DecodeError> {
        let image = DynamicImage::from_decoder(self.decoder);
        let mut image = image.map_err(|error| DecodeError::Undecodable { name: self.name.to_owned(), error })?;
        image.apply_orientation(self.orientation);
        Ok(if image.color().has_alpha() { over_white(&image.into_rgba8()) } else { image.into_rgb8() })
    }

    /// At least the part of the upright image that `crop` covers, and where in it the crop lies. It is of half, a quarter or an
    /// eighth the size if that still has `input_size` pixels a side, and the image is a JPEG of the usual kind: several times
    /// as fast, and a little different ([`twograin_jpeg`]), so not for evaluation. Else it is all of the image.
    ///
    /// # Errors
    /// It is damaged.
    pub fn part(self, crop: Crop, input_size: usize) -> Result<(RgbImage, Crop), DecodeError> {
        match self.scaled(crop, input_size) {
            Some(part) => Ok(part),
            None => Ok((self.decode()?, crop)),
        }
    }

    fn scaled(&self, crop: Crop, input_size: usize) -> Option<(RgbImage, Crop)> {
        let shrinks = crop.width.min(crop.height) / input_size as f64;
        let scale = Scale::ALL.into_iter().rev().find(|scale| f64::from(scale.divisor()) <= shrinks)?;
        let stored = crop.oriented(inverse(self.orientation), self.size());
        let (left, top) = (stored.left.floor(), stored.top.floor());
        let (right, bottom) = ((stored.left + stored.width).ceil(), (stored.top + stored.height).ceil());
        let (width, height) = self.decoder.dimensions();
        let region = Region {
            left: left as u32,
            top: top as u32,
            width: (right as u32).min(width) - left as u32,
            height: (bottom as u32).min(height) - top as u32,
        };
        let part = twograin_jpeg::decode(self.bytes, region, scale)?;
        let divisor = f64::from(scale.divisor());
        let covered = Crop {
            left: part.left.into(),
            top: part.top.into(),
            width: f64::from(part.width) * divisor,
            height: f64::from(part.height) * divisor,
        };
        let covered = covered.oriented(self.orientation, (width, height));
        let mut image = DynamicImage::from(RgbImage::from_raw(part.width, part.height, part.rgb)?);
        image.apply_orientation(self.orientation);
        let crop = Crop {
            left: (crop.left - covered.left) / divisor,
            top: (crop.top - covered.top) / divisor,
            width: crop.width / divisor,
            height: crop.height / divisor,
        };
        Some((image.into_rgb8(), crop))
    }
}

/// The orientation that takes back another one.
fn inverse(orientation: Orientation) -> Orientation {
    match orientation {
        Orientation::Rotate90 => Orientation::Rotate270,
        Orientation::Rotate270 => Orientation::Rotate90,
        other => other,
    }
}

/// Whether this is a JPEG without an end-of-image marker behind its first scan. (A thumbnail before it has one of its own.)
fn breaks_off(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&[0xFF, 0xD8]) {
        return false;
    }
    let mut at = 2;
    loop {
        at += match bytes.get(at..at + 4) {
            // Start of scan: from here on, compressed data never contains the bytes of a marker.
            Some([0xFF, 0xDA, ..]) => return !bytes[at..].windows(2).rev().any(|pair| pair == [0xFF, 0xD9]),
            // Padding, and markers without a segment.
            Some([0xFF, 0xFF, ..]) => 1,
            Some([0xFF, 0x01 | 0xD0..=0xD7, ..]) => 2,
            Some([0xFF, _, high, low]) => 2 + usize::from(u16::from_be_bytes([*high, *low])),
            // Not the structure of a JPEG: that is for the decoder to judge.
            Some(_) => return false,
            None => return true,
        };
    }
}

fn over_white(image: &RgbaImage) -> RgbImage {
    let mut rgb = RgbImage::new(image.width(), image.height());
    for (rgb, rgba) in rgb.pixels_mut().zip(image.pixels()) {
        let [r, g, b, alpha] = rgba.0.map(u16::from);
        // To nearest: the product is at most 255 · 255.
        rgb.0 = [r, g, b].map(|value| ((value * alpha + 255 * (255 - alpha) + 127) / 255) as u8);
    }
    rgb
}

#[cfg(test)]
mod tests {
    use image::{GrayImage, ImageFormat, Luma, Rgba};

    use super::*;

    fn encoded(image: &DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn grey_becomes_rgb_and_transparent_becomes_white() {
        let grey = encoded(&GrayImage::from_pixel(3, 2, Luma([90])).into(), ImageFormat::Png);
        assert_eq!(decode(&grey, "grey").unwrap().get_pixel(2, 1).0, [90; 3]);
        for (alpha, expected) in [(0, [255; 3]), (255, [200, 0, 0]), (51, [244, 204, 204])] {
            let image = RgbaImage::from_pixel(2, 2, Rgba([200, 0, 0, alpha]));
            let image = decode(&encoded(&image.into(), ImageFormat::Png), "alpha").unwrap();
            assert_eq!(image.get_pixel(0, 0).0, expected);
        }
    }

    #[test]
    fn every_format_is_told_from_its_content() {
        let image = DynamicImage::ImageRgb8(RgbImage::from_pixel(8, 5, image::Rgb([10, 200, 30])));
        for format in [
            ImageFormat::Jpeg,
            ImageFormat::Png,
            ImageFormat::WebP,
            ImageFormat::Gif,
            ImageFormat::Bmp,
            ImageFormat::Tiff,
        ] {
            let decoded = decode(&encoded(&image, format), "any").unwrap();
            assert_eq!(decoded.dimensions(), (8, 5), "{format:?}");
            let near = decoded.get_pixel(4, 2).0.iter().zip([10u8, 200, 30]).all(|(a, b)| a.abs_diff(b) <= 4);
            assert!(near, "{format:?}: {:?}", decoded.get_pixel(4, 2));
        }
    }

    #[test]
    fn a_photograph_is_turned_upright() {
        // Two pixels, the left one white, with an EXIF orientation of 6: to be turned clockwise.
        let mut image = RgbImage::new(16, 8);
        for y in 0..8 {
            (0..8).for_each(|x| image.put_pixel(x, y, image::Rgb([255; 3])));
        }
        let mut jpeg = encoded(&image.into(), ImageFormat::Jpeg);
        let tiff =
            [b"Exif\0\0II*\0".as_slice(), &[8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0]];
        let exif = tiff.concat();
        let segment = [&[0xFF, 0xE1, 0, exif.len() as u8 + 2], exif.as_slice()].concat();
        jpeg.splice(2..2, segment);
        let upright = decode(&jpeg, "turned").unwrap();
        assert_eq!(upright.dimensions(), (8, 16));
        assert!(upright.get_pixel(4, 2).0[0] > 250 && upright.get_pixel(4, 13).0[0] < 5);
    }

    #[test]
    fn what_cannot_be_decoded_is_named() {
        let error = decode(b"not an image", "letter.txt").unwrap_err();
        assert!(error.to_string().starts_with("letter.txt: "), "{error}");
        for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif] {
            let noise = RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * y) as u8, (x * 7) as u8, (y * 13) as u8]));
            let bytes = encoded(&noise.into(), format);
            let error = decode(&bytes[..bytes.len() / 2], "half").err();
            assert!(
                matches!(error, Some(DecodeError::Undecodable { .. } | DecodeError::Truncated { .. })),
                "{format:?}: {error:?}"
            );
        }
        let error = open(Path::new("no/such.jpg")).unwrap_err();
        assert!(matches!(error, DecodeError::Unreadable { .. }), "{error}");
    }

    #[test]
    fn a_bomb_is_refused_before_it_is_unpacked() {
        // A BMP header that claims 65,000 × 65,000 pixels.
        let mut bmp = encoded(&DynamicImage::new_rgb8(1, 1), ImageFormat::Bmp);
        bmp[18..22].copy_from_slice(&65_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&65_000u32.to_le_bytes());
        let error = decode(&bmp, "bomb.bmp").unwrap_err();
        assert!(error.to_string().contains("bomb.bmp"), "{error}");
        bmp[18..22].copy_from_slice(&12_000u32.to_le_bytes());
        bmp[22..26].copy_from_slice(&12_000u32.to_le_bytes());
        let error = decode(&bmp, "bomb.bmp").unwrap_err();
        assert_eq!(
            error.to_string(),
            "bomb.bmp: it has 12000 × 12000 pixels; at most 16384 a side and 100 megapixels are read"
        );
    }
}
