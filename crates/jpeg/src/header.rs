//! The segments before the compressed data.

use crate::huffman::Table;

/// A component of the image: luma, or one of chroma.
#[derive(Clone, Copy, Debug)]
pub struct Component {
    id: u8,
    /// Blocks in a minimum coded unit, along the axes: 1 or 2.
    pub h: usize,
    /// See [`Self::h`].
    pub v: usize,
    quantisation: usize,
    dc: usize,
    ac: usize,
}

/// What is known before the first coefficient.
#[derive(Debug)]
pub struct Header<'a> {
    pub width: u32,
    pub height: u32,
    /// One, or three: luma and chroma.
    pub components: Vec<Component>,
    /// Minimum coded units between two restart markers; 0: there are none.
    pub restart_interval: usize,
    /// From the first byte of the compressed data to the end of the file.
    pub data: &'a [u8],
    quantisation: [Option<[f32; 64]>; 4],
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
}

/// The coefficients' place in the row-major block, in the order they are coded (T.81, figure A.6).
#[rustfmt::skip]
pub const ZIGZAG: [u8; 64] = [
    0, 1, 8, 16, 9, 2, 3, 10, 17, 24, 32, 25, 18, 11, 4, 5, 12, 19, 26, 33, 40, 48, 41, 34, 27, 20, 13, 6, 7, 14, 21, 28,
    35, 42, 49, 56, 57, 50, 43, 36, 29, 22, 15, 23, 30, 37, 44, 51, 58, 59, 52, 45, 38, 31, 39, 46, 53, 60, 61, 54, 47, 55, 62, 63,
];

impl<'a> Header<'a> {
    /// Up to the start of the scan (T.81, B.1 and B.2). `None` for what this crate does not read.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut header = Self {
            width: 0,
            height: 0,
            components: Vec::new(),
            restart_interval: 0,
            data: &[],
            quantisation: [None; 4],
            dc: [const { None }; 4],
            ac: [const { None }; 4],
        };
        let mut rest = bytes.strip_prefix(&[0xFF, 0xD8])?;
        let mut adobe_transform = None;
        loop {
            let marker;
            (marker, rest) = match rest {
                [0xFF, 0xFF, ..] => {
                    rest = &rest[1..];
                    continue;
                }
                [0xFF, marker, rest @ ..] => (*marker, rest),
                _ => return None,
            };
            let (&[high, low], _) = rest.split_first_chunk()?;
            let (segment, behind) = rest.split_at_checked(usize::from(u16::from_be_bytes([high, low])))?;
            let segment = segment.get(2..)?;
            rest = behind;
            match marker {
                // Baseline and extended sequential, Huffman.
                0xC0 | 0xC1 => header.frame(segment)?,
                0xC4 => header.huffman(segment)?,
                0xDB => header.quantisation(segment)?,
                0xDD => header.restart_interval = usize::from(u16::from_be_bytes(*segment.first_chunk()?)),
                0xDA => {
                    header.scan(segment)?;
                    header.data = rest;
                    break;
                }
                0xEE if segment.starts_with(b"Adobe") => adobe_transform = segment.get(11).copied(),
                // Application data and comments.
                0xE0..=0xEF | 0xFE => {}
                // Progressive, lossless, arithmetic, hierarchical, a number of lines that comes later, …
                _ => return None,
            }
        }
        // Three components are YCbCr unless somebody says that they are RGB.
        let ids: Vec<u8> = header.components.iter().map(|component| component.id).collect();
        let rgb = ids.len() == 3 && (adobe_transform == Some(0) || ids == *b"RGB");
        (!rgb).then_some(header)
    }

    /// Tables of a component: quantisation in the order of coding, Huffman for DC and for AC.
    pub fn tables(&self, component: &Component) -> Option<(&[f32; 64], &Table, &Table)> {
        let quantisation = self.quantisation[component.quantisation].as_ref()?;
        Some((quantisation, self.dc[component.dc].as_ref()?, self.ac[component.ac].as_ref()?))
    }

    /// B.2.2
    fn frame(&mut self, segment: &[u8]) -> Option<()> {
        let (&[8, height_high, height_low, width_high, width_low, count], rest) = segment.split_first_chunk()? else {
            return None;
        };
        self.width = u16::from_be_bytes([width_high, width_low]).into();
        self.height = u16::from_be_bytes([height_high, height_low]).into();
        let described = usize::from(count);
        if !self.components.is_empty() || !matches!(described, 1 | 3) || rest.len() != 3 * described {
            return None;
        }
        for &[id, sampling, quantisation] in rest.as_chunks().0 {
            // The only component is a scan by blocks, whatever it says about its sampling (A.2.2).
            let (h, v) = if described == 1 { (1, 1) } else { (usize::from(sampling >> 4), usize::from(sampling & 15)) };
            if !matches!((h, v), (1 | 2, 1 | 2)) || quantisation > 3 {
                return None;
            }
            self.components.push(Component { id, h, v, quantisation: quantisation.into(), dc: 0, ac: 0 });
        }
        // Luma is the finest, as everywhere but in test images.
        let luma = self.components[0];
        self.components.iter().all(|component| component.h <= luma.h && component.v <= luma.v).then_some(())
    }

    /// B.2.4.1
    fn quantisation(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            // Of 8 bits each. Those of 16 do not occur with samples of 8.
            let table = self.quantisation.get_mut(usize::from(head))?;
            let (values, behind) = rest.split_first_chunk::<64>()?;
            *table = Some(values.map(f32::from));
            segment = behind;
        }
        Some(())
    }

    /// B.2.4.2
    fn huffman(&mut self, mut segment: &[u8]) -> Option<()> {
        while let Some((&head, rest)) = segment.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>()?;
            let (symbols, behind) = rest.split_at_checked(counts.iter().map(|&count| usize::from(count)).sum())?;
            let tables = match head >> 4 {
                0 => &mut self.dc,
                1 => &mut self.ac,
                _ => return None,
            };
            *tables.get_mut(usize::from(head & 15))? = Some(Table::new(counts, symbols)?);
            segment = behind;
        }
        Some(())
    }

    /// B.2.3
    fn scan(&mut self, segment: &[u8]) -> Option<()> {
        let (&count, rest) = segment.split_first()?;
        if self.components.is_empty()
            || usize::from(count) != self.components.len()
            || self.width == 0
            || self.height == 0
        {
            return None;
        }
        let (selectors, spectrum) = rest.split_at_checked(2 * self.components.len())?;
        for (component, &[id, tables]) in self.components.iter_mut().zip(selectors.as_chunks().0) {
            (component.dc, component.ac) = (usize::from(tables >> 4), usize::from(tables & 15));
            if component.id != id || component.dc > 3 || component.ac > 3 {
                return None;
            }
        }
        (spectrum == [0, 63, 0]).then_some(())
    }
}
