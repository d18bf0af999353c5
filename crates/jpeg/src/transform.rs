//! The inverse cosine transform of a block to the size that is wanted.

use std::{array, f32::consts::PI};

use crate::header::ZIGZAG;

/// The cosines at `N` points: by frequency, then by point (T.81, A.3.3, along one axis).
#[derive(Debug)]
struct Basis<const N: usize>([[f32; N]; 8]);

impl<const N: usize> Basis<N> {
    fn new() -> Self {
        Self(array::from_fn(|frequency| {
            let norm = if frequency == 0 { 0.5f32.sqrt() / 2.0 } else { 0.5 };
            array::from_fn(|point| norm * (((2 * point + 1) * frequency) as f32 * PI / (2 * N) as f32).cos())
        }))
    }
}

/// The dequantised coefficients of a block, as far as they are needed.
#[derive(Clone, Debug)]
pub struct Block {
    /// Row by row.
    coefficients: [f32; 64],
    /// One more than the place of the last one that is not zero, in the order of coding.
    end: usize,
    /// Places from here on are of frequencies that are not needed.
    needed: usize,
}

impl Block {
    /// For a transform to `width` × `height` points.
    pub fn new(width: usize, height: usize) -> Self {
        let shown = |&place: &usize| usize::from(ZIGZAG[place] % 8) < width && usize::from(ZIGZAG[place] / 8) < height;
        Self { coefficients: [0.0; 64], end: 0, needed: (0..64).rfind(shown).map_or(0, |place| place + 1) }
    }

    /// Makes this a block of the first coefficient alone.
    pub fn start(&mut self, dc: f32) {
        if self.end > 1 {
            self.coefficients = [0.0; 64];
        }
        self.coefficients[0] = dc;
        self.end = 1;
    }

    /// Sets the coefficient at `place` in the order of coding, in which they come.
    #[inline]
    pub fn set(&mut self, place: usize, value: f32) {
        if place < self.needed {
            self.coefficients[usize::from(ZIGZAG[place])] = value;
            self.end = place + 1;
        }
    }
}

/// One more than the highest frequency along an axis, by the place of the last coefficient.
const EXTENT: [u8; 64] = {
    let (mut extents, mut place, mut highest) = ([0; 64], 0, 0);
    while place < 64 {
        let (row, column) = (ZIGZAG[place] / 8, ZIGZAG[place] % 8);
        let larger = if row > column { row } else { column };
        highest = if larger > highest { larger } else { highest };
        extents[place] = highest + 1;
        place += 1;
    }
    extents
};

/// Transforms blocks to `width` × `height` points, each 1, 2, 4 or 8.
pub type Transform = Box<dyn Fn(&Block, &mut [u8], usize)>;

/// The transform to `width` × `height` points. It writes to the first rows of a slice with the given stride.
pub fn transform(width: usize, height: usize) -> Option<Transform> {
    fn rows<const W: usize>(height: usize) -> Option<Transform> {
        match height {
            1 => Some(of::<W, 1>()),
            2 => Some(of::<W, 2>()),
            4 => Some(of::<W, 4>()),
            8 => Some(of::<W, 8>()),
            _ => None,
        }
    }
    fn of<const W: usize, const H: usize>() -> Transform {
        let (across, down) = (Basis::<W>::new(), Basis::<H>::new());
        Box::new(move |block, out, stride| invert(block, &across, &down, out, stride))
    }
    match width {
        1 => rows::<1>(height),
        2 => rows::<2>(height),
        4 => rows::<4>(height),
        8 => rows::<8>(height),
        _ => None,
    }
}

/// Frequencies that the points cannot show are left out.
fn invert<const W: usize, const H: usize>(
    block: &Block,
    across: &Basis<W>,
    down: &Basis<H>,
    out: &mut [u8],
    stride: usize,
) {
    if block.end == 1 {
        let value = to_byte(block.coefficients[0] / 8.0);
        return (0..H).for_each(|y| out[y * stride..][..W].fill(value));
    }
    // Few points have loops of known length; at eight it pays to leave out the zeros.
    let extent = usize::from(EXTENT[block.end - 1]);
    let columns = if W < 8 { W } else { extent };
    let rows = if H < 8 { H } else { extent };
    // By vertical frequency: the sums over the horizontal ones.
    let mut lines = [[0f32; W]; 8];
    for (line, coefficients) in lines.iter_mut().zip(block.coefficients.as_chunks::<8>().0).take(rows) {
        let mut sum = [0f32; W];
        for (&coefficient, wave) in coefficients.iter().zip(&across.0).take(columns) {
            for (sum, wave) in sum.iter_mut().zip(wave) {
                *sum += coefficient * wave;
            }
        }
        *line = sum;
    }
    for y in 0..H {
        let mut values = [0f32; W];
        for (line, wave) in lines.iter().zip(&down.0).take(rows) {
            for (value, line) in values.iter_mut().zip(line) {
                *value += line * wave[y];
            }
        }
        for (out, value) in out[y * stride..][..W].iter_mut().zip(values) {
            *out = to_byte(value);
        }
    }
}

/// A sample around zero to a byte: shifted by 128 (T.81, A.3.1), to the nearest.
#[inline]
pub fn to_byte(sample: f32) -> u8 {
    // Behind 2²³ the last bits of a float are those of an integer; a cast would also look for NaN.
    ((sample + 128.0).clamp(0.0, 255.0) + 8_388_608.0).to_bits() as u8
}
