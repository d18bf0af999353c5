//! The minimum coded units of a scan, and their colours.

use crate::{
    Part, Region, Scale,
    header::Header,
    huffman::{Bits, Table},
    transform::{Block, Transform, to_byte, transform},
};

/// Units along an axis: those of the part, and all.
struct Units {
    first: usize,
    end: usize,
    all: usize,
    /// Pixels of one in the image.
    side: usize,
}

impl Units {
    fn new(start: u32, length: u32, side: u32, blocks: usize) -> Self {
        let unit = 8 * blocks;
        let (start, end) = (start as usize, (start + length) as usize);
        Self { first: start / unit, end: end.div_ceil(unit), all: (side as usize).div_ceil(unit), side: unit }
    }

    fn count(&self) -> usize {
        self.end - self.first
    }
}

/// A component's part of the image.
struct Plane<'a> {
    quantisation: &'a [f32; 64],
    dc: &'a Table,
    ac: &'a Table,
    transform: Transform,
    /// Blocks in a unit, along the axes.
    blocks: (usize, usize),
    /// Samples of a block, along the axes.
    samples: (usize, usize),
    predicted: i32,
    /// The block in hand; it is kept for its memory.
    block: Block,
    bytes: Vec<u8>,
}

impl Plane<'_> {
    /// Its blocks of a unit: transformed if the unit is one of the part, which `stride` bytes are a row of; `at` is its place.
    fn unit(&mut self, bits: &mut Bits, at: Option<usize>, stride: usize) -> Option<()> {
        for block_y in 0..self.blocks.1 {
            for block_x in 0..self.blocks.0 {
                self.predicted = self.predicted.wrapping_add(bits.dc(self.dc)?);
                let Some(at) = at else {
                    bits.ac(self.ac, |_, _| ())?;
                    continue;
                };
                self.block.start(self.predicted as f32 * self.quantisation[0]);
                bits.ac(self.ac, |place, value| self.block.set(place, value as f32 * self.quantisation[place]))?;
                let at = at + block_y * self.samples.1 * stride + block_x * self.samples.0;
                (self.transform)(&self.block, &mut self.bytes[at..], stride);
            }
        }
        Some(())
    }
}

/// Decodes the units that the region touches, and reads over those before.
pub fn decode(header: &Header, region: Region, scale: Scale) -> Option<Part> {
    let luma = header.components.first()?;
    let across = Units::new(region.left, region.width, header.width, luma.h);
    let down = Units::new(region.top, region.height, header.height, luma.v);
    let divisor = scale.divisor() as usize;
    // Samples of a unit that come out, along the axes.
    let (unit_width, unit_height) = (across.side / divisor, down.side / divisor);
    let stride = across.count() * unit_width;
    let plane = |component| {
        let (quantisation, dc, ac) = header.tables(component)?;
        let samples = (unit_width / component.h, unit_height / component.v);
        Some(Plane {
            quantisation,
            dc,
            ac,
            transform: transform(samples.0, samples.1)?,
            blocks: (component.h, component.v),
            samples,
            predicted: 0,
            block: Block::new(samples.0, samples.1),
            bytes: vec![0; stride * down.count() * unit_height],
        })
    };
    let mut planes = header.components.iter().map(plane).collect::<Option<Vec<_>>>()?;

    let mut bits = Bits::new(header.data);
    for unit_y in 0..down.end {
        for unit_x in 0..across.all {
            let number = unit_y * across.all + unit_x;
            if header.restart_interval > 0 && number > 0 && number.is_multiple_of(header.restart_interval) {
                bits.restart()?;
                planes.iter_mut().for_each(|plane| plane.predicted = 0);
            }
            let inside = unit_y >= down.first && (across.first..across.end).contains(&unit_x);
            let at =
                inside.then(|| (unit_y - down.first) * unit_height * stride + (unit_x - across.first) * unit_width);
            for plane in &mut planes {
                plane.unit(&mut bits, at, stride)?;
            }
        }
    }
    if !bits.intact() {
        return None;
    }

    // The last units reach beyond the image.
    let clipped = |units: &Units, side: u32| {
        ((units.end * units.side).min(side as usize) - units.first * units.side).div_ceil(divisor)
    };
    let (width, height) = (clipped(&across, header.width), clipped(&down, header.height));
    let planes: Vec<Vec<u8>> = planes.into_iter().map(|plane| plane.bytes).collect();
    Some(Part {
        width: width as u32,
        height: height as u32,
        left: (across.first * across.side) as u32,
        top: (down.first * down.side) as u32,
        rgb: rgb(&planes, stride, width, height)?,
    })
}

/// The colours of the first `width` × `height` samples (ITU-T T.871, section 7).
fn rgb(planes: &[Vec<u8>], stride: usize, width: usize, height: usize) -> Option<Vec<u8>> {
    let mut rgb = vec![0; 3 * width * height];
    for (y, out) in rgb.chunks_exact_mut(3 * width).enumerate() {
        let row = y * stride..y * stride + width;
        let pixels = out.as_chunks_mut::<3>().0.iter_mut();
        match planes {
            [grey] => pixels.zip(&grey[row]).for_each(|(pixel, &value)| *pixel = [value; 3]),
            [luma, blue, red] => {
                let chroma = blue[row.clone()].iter().zip(&red[row.clone()]);
                for ((pixel, &luma), (&blue, &red)) in pixels.zip(&luma[row]).zip(chroma) {
                    let [luma, blue, red] = [luma, blue, red].map(|value| f32::from(value) - 128.0);
                    *pixel = [luma + 1.402 * red, luma - 0.344_136 * blue - 0.714_136 * red, luma + 1.772 * blue]
                        .map(to_byte);
                }
            }
            _ => return None,
        }
    }
    Some(rgb)
}
