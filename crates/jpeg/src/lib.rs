//! Decodes a part of a JPEG at 1/2, 1/4 or 1/8 of its size.
//!
//! Training looks at a random part of a photograph, mostly much larger than what the network takes. [`decode`] transforms only
//! the blocks that the part touches, and each of them straight to its smaller size: the inverse cosine transform is taken at
//! fewer points, of the lower frequencies alone. Chroma is transformed to the size of luma, so nothing has to be upsampled.
//! Pixels therefore differ a little from those of a decoder that keeps to the usual steps, more so at edges of colours; where
//! every pixel counts, use such a one.
//!
//! What is read: baseline and extended sequential JPEGs of 8 bits with Huffman coding, grey or YCbCr, with one scan. All else
//! (progressive, CMYK, RGB, damaged, …) is `None`, for another decoder to read or to complain about.
//!
//! Source: ITU-T T.81 (1992), the JPEG standard; its sections are named where they are followed.
#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod header;
mod huffman;
mod scan;
mod transform;

use header::Header;

/// A rectangle in the pixels of the full image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Distance from the left edge.
    pub left: u32,
    /// Distance from the top edge.
    pub top: u32,
    /// At least one.
    pub width: u32,
    /// At least one.
    pub height: u32,
}

/// The size of what comes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// A pixel for each 2 × 2.
    Half,
    /// A pixel for each 4 × 4.
    Quarter,
    /// A pixel for each 8 × 8.
    Eighth,
}

impl Scale {
    /// Every one, the largest image first.
    pub const ALL: [Self; 3] = [Self::Half, Self::Quarter, Self::Eighth];

    /// The image's pixels in one that comes out, along an axis.
    pub fn divisor(self) -> u32 {
        match self {
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }
}

/// A decoded part of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its own pixels in a row.
    pub width: u32,
    /// Its rows.
    pub height: u32,
    /// Where it begins, in the full image's pixels; a multiple of the scale's divisor.
    pub left: u32,
    /// Where it begins, in the full image's pixels; a multiple of the scale's divisor.
    pub top: u32,
    /// Row by row, red, green, blue.
    pub rgb: Vec<u8>,
}

/// The part of the image that covers `region`, and up to a few blocks around it. `None` if the region does not lie inside, and
/// for a JPEG that is not read (see above). Damage behind the part is not seen.
pub fn decode(bytes: &[u8], region: Region, scale: Scale) -> Option<Part> {
    let header = Header::parse(bytes)?;
    let inside =
        |start: u32, length: u32, side: u32| length > 0 && start.checked_add(length).is_some_and(|end| end <= side);
    if !inside(region.left, region.width, header.width) || !inside(region.top, region.height, header.height) {
        return None;
    }
    scan::decode(&header, region, scale)
}
