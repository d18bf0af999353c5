//! Between images, whose channels lie far apart, and bands of rows in which sixteen channels of a pixel are neighbours.

use std::mem::MaybeUninit;

use super::transform::{LANES, Lanes};
use crate::float::Float;

/// Images `[n, channels, height, width]` with the zeros before them.
#[derive(Clone, Copy)]
pub(super) struct Images<'a, T> {
    pub values: &'a [T],
    pub channels: usize,
    pub height: usize,
    pub width: usize,
    /// Rows of zeros above.
    pub top: usize,
    /// Columns of zeros to the left.
    pub left: usize,
}

impl<T: Float> Images<'_, T> {
    /// Fills `band`, rows of `columns` pixels, from row `first_row` of the padded image on; beyond the image it is zero, and so
    /// are lanes beyond the last channel.
    #[inline(always)]
    pub(super) fn read(
        &self,
        image: usize,
        first_channel: usize,
        first_row: usize,
        columns: usize,
        band: &mut [Lanes<T>],
    ) {
        let inside = self.left.min(columns)..(self.left + self.width).min(columns);
        for (row, pixels) in (first_row..).zip(band.chunks_exact_mut(columns)) {
            let Some(row) = row.checked_sub(self.top).filter(|&row| row < self.height) else {
                pixels.fill([T::ZERO; LANES]);
                continue;
            };
            pixels[..inside.start].fill([T::ZERO; LANES]);
            pixels[inside.end..].fill([T::ZERO; LANES]);
            let rows: [&[T]; LANES] = std::array::from_fn(|lane| {
                let channel = first_channel + lane;
                if channel >= self.channels {
                    return &[][..];
                }
                let start = ((image * self.channels + channel) * self.height + row) * self.width;
                &self.values[start..][..inside.len()]
            });
            let mut blocks = pixels[inside.clone()].chunks_exact_mut(SIDE);
            for (block, pixels) in (0..).step_by(SIDE).zip(&mut blocks) {
                for lane in (0..LANES).step_by(SIDE) {
                    let square = std::array::from_fn(|row| values_at(rows[lane + row], block));
                    for (pixel, values) in pixels.iter_mut().zip(transposed(square)) {
                        pixel[lane..lane + SIDE].copy_from_slice(&values);
                    }
                }
            }
            let rest = blocks.into_remainder();
            let start = inside.len() - rest.len();
            for (column, pixel) in (start..).zip(rest) {
                for (value, row) in pixel.iter_mut().zip(rows) {
                    *value = row.get(column).copied().unwrap_or(T::ZERO);
                }
            }
        }
    }
}

/// Writes rows of `columns` pixels to the rows of each lane's target; what is beyond a target's width or end is left out.
#[inline(always)]
pub(super) fn write<T: Float>(
    band: &[Lanes<T>],
    columns: usize,
    width: usize,
    targets: &mut [&mut [MaybeUninit<T>]; LANES],
) {
    for (row, pixels) in band.chunks_exact(columns).enumerate() {
        let blocks = pixels[..width].chunks_exact(SIDE);
        let rest = blocks.remainder();
        let start = (row + 1) * width - rest.len();
        for (block, pixels) in (row * width..).step_by(SIDE).zip(blocks) {
            for lane in (0..LANES).step_by(SIDE) {
                let square = std::array::from_fn(|pixel| values_at(&pixels[pixel], lane));
                for (target, values) in targets[lane..].iter_mut().zip(transposed::<T>(square)) {
                    if let Some(target) = target.get_mut(block..block + SIDE) {
                        target.write_copy_of_slice(&values);
                    }
                }
            }
        }
        for (at, pixel) in (start..).zip(rest) {
            for (target, &value) in targets.iter_mut().zip(pixel) {
                if let Some(target) = target.get_mut(at) {
                    target.write(value);
                }
            }
        }
    }
}

/// Side of the squares that are transposed in registers.
const SIDE: usize = 4;

/// Zeros where the slice is empty.
#[inline(always)]
fn values_at<T: Float>(values: &[T], at: usize) -> [T; SIDE] {
    values.get(at..).and_then(|values| values.first_chunk()).copied().unwrap_or([T::ZERO; SIDE])
}

#[inline(always)]
fn transposed<T: Float>([a, b, c, d]: [[T; SIDE]; SIDE]) -> [[T; SIDE]; SIDE] {
    [[a[0], b[0], c[0], d[0]], [a[1], b[1], c[1], d[1]], [a[2], b[2], c[2], d[2]], [a[3], b[3], c[3], d[3]]]
}
