//! Compressed data to coefficients.

/// Bits of a code that are looked up at once.
const LOOKUP: u32 = 10;
const LONGEST: usize = 16;
/// The run of an end-of-block: it leads behind every block.
const END: u32 = 64;

/// What a code means: `run` zeros, then `value`, or where that did not fit in, a value of `size` bits that follow. A value of
/// zero is none: the run of 15 zeros and another one, or the end of the block. Packed, from the highest bit: value (16 bits), run
/// (7), size (4), length (5) of the code, with the value's bits if it is here. A length of 0: the code is longer than what is
/// looked up.
#[derive(Clone, Copy, Debug, Default)]
struct Entry(u32);

impl Entry {
    fn of(symbol: u8, length: u32) -> Self {
        let (run, size) = if symbol == 0 { (END, 0) } else { (u32::from(symbol >> 4), u32::from(symbol & 15)) };
        Self(run << 9 | size << 5 | length)
    }

    /// With the value that its bits give.
    fn complete(self, bits: u32) -> Self {
        let value = extend(bits, self.size());
        Self((value as u32) << 16 | self.run() << 9 | (self.length() + self.size()))
    }

    fn value(self) -> i32 {
        self.0 as i32 >> 16
    }

    fn run(self) -> u32 {
        self.0 >> 9 & 127
    }

    fn size(self) -> u32 {
        self.0 >> 5 & 15
    }

    fn length(self) -> u32 {
        self.0 & 31
    }
}

/// A Huffman table (T.81, annex C and F.2.2.3).
#[derive(Debug)]
pub struct Table {
    lookup: Box<[Entry; 1 << LOOKUP]>,
    /// By length - 1: behind the last code of this length, aligned to 16 bits; and what to add to a code for its symbol.
    limits: [u32; LONGEST],
    offsets: [i32; LONGEST],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts`: of codes of each length from 1 to 16. `None` if they do not form a code.
    pub fn new(counts: &[u8; LONGEST], symbols: &[u8]) -> Option<Self> {
        let mut lookup = Box::new([Entry::default(); 1 << LOOKUP]);
        let (mut limits, mut offsets) = ([0; LONGEST], [0; LONGEST]);
        let (mut code, mut first) = (0u32, 0);
        for (index, &count) in counts.iter().enumerate() {
            let length = index as u32 + 1;
            offsets[index] = first as i32 - code as i32;
            for &symbol in &symbols[first..first + usize::from(count)] {
                if let Some(free) = LOOKUP.checked_sub(length) {
                    let start = (code << free) as usize;
                    let entries = lookup.get_mut(start..start + (1 << free))?;
                    for (bits, entry) in entries.iter_mut().enumerate() {
                        *entry = Entry::of(symbol, length);
                        if let Some(left) = free.checked_sub(entry.size()).filter(|_| entry.size() > 0) {
                            *entry = entry.complete(bits as u32 >> left);
                        }
                    }
                }
                code += 1;
            }
            first += usize::from(count);
            limits[index] = code << (LONGEST as u32 - length);
            if limits[index] > 1 << LONGEST {
                return None;
            }
            code <<= 1;
        }
        Some(Self { lookup, limits, offsets, symbols: symbols.to_vec() })
    }

    /// The entry of a code that is not looked up, at the beginning of 16 bits.
    #[cold]
    #[inline(never)]
    fn long_code(&self, bits: u32) -> Option<Entry> {
        let index = self.limits.iter().position(|&limit| bits < limit)?;
        let code = bits >> (LONGEST - 1 - index);
        let symbol = *self.symbols.get(usize::try_from(code as i32 + self.offsets[index]).ok()?)?;
        Some(Entry::of(symbol, index as u32 + 1))
    }
}

/// The signed value of `size` bits (T.81, F.2.2.1).
#[inline]
fn extend(bits: u32, size: u32) -> i32 {
    let positive = bits >> (size - 1) != 0;
    if positive { bits as i32 } else { bits as i32 - (1 << size) + 1 }
}

/// Reads bits from the compressed data.
#[derive(Clone, Copy, Debug)]
pub struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    /// The next bits, the first one highest; at least `count` of them are right.
    buffer: u64,
    count: u32,
    /// Bytes invented behind the end.
    invented: usize,
}

impl<'a> Bits<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, count: 0, invented: 0 }
    }

    /// At least 56 bits, which are zeros behind the end.
    #[inline]
    fn refill(&mut self) {
        if let Some(word) = self.bytes.get(self.at..).and_then(<[u8]>::first_chunk) {
            let word = u64::from_be_bytes(*word);
            // Whether a byte of it is 0xFF: it overflows when 1 is added to each.
            if (word & !word.wrapping_add(0x0101_0101_0101_0101)) & 0x8080_8080_8080_8080 == 0 {
                self.buffer |= word >> self.count;
                let taken = (63 - self.count) / 8;
                self.at += taken as usize;
                self.count += 8 * taken;
                return;
            }
        }
        // By value: what is lent stays out of registers.
        *self = self.refill_bytes();
    }

    #[cold]
    #[inline(never)]
    fn refill_bytes(mut self) -> Self {
        // Bits behind `count` may be there from before.
        self.buffer = self.buffer.checked_shr(64 - self.count).map_or(0, |bits| bits << (64 - self.count));
        while self.count <= 56 {
            let byte = match self.bytes.get(self.at..) {
                // A stuffed zero tells the byte 0xFF from a marker (T.81, B.1.1.5).
                Some([0xFF, 0x00, ..]) => {
                    self.at += 2;
                    0xFF
                }
                Some([0xFF, ..] | []) | None => {
                    self.invented += 1;
                    0
                }
                Some(&[byte, ..]) => {
                    self.at += 1;
                    byte
                }
            };
            self.buffer |= u64::from(byte) << (56 - self.count);
            self.count += 8;
        }
        self
    }

    #[inline]
    fn drop(&mut self, bits: u32) {
        self.buffer <<= bits;
        self.count -= bits;
    }

    /// The next run of zeros and the value behind it.
    #[inline(always)]
    fn next(&mut self, table: &Table) -> Option<(u32, i32)> {
        if self.count < 32 {
            self.refill();
        }
        let mut entry = table.lookup[(self.buffer >> (64 - LOOKUP)) as usize];
        if entry.length() == 0 {
            entry = table.long_code((self.buffer >> (64 - LONGEST)) as u32)?;
        }
        self.drop(entry.length());
        if entry.size() == 0 {
            return Some((entry.run(), entry.value()));
        }
        let bits = (self.buffer >> (64 - entry.size())) as u32;
        self.drop(entry.size());
        Some((entry.run(), extend(bits, entry.size())))
    }

    /// The difference of a block's DC coefficient to the one before.
    #[inline]
    pub fn dc(&mut self, table: &Table) -> Option<i32> {
        let (run, value) = self.next(table)?;
        // A difference of zero has the symbol of an end; other runs do not exist.
        matches!(run, 0 | END).then_some(value)
    }

    /// A block's AC coefficients: `keep` is told each one's place in the order of coding, 1 to 63, and its value.
    #[inline]
    pub fn ac(&mut self, table: &Table, mut keep: impl FnMut(usize, i32)) -> Option<()> {
        // A copy stays in registers.
        let mut bits = *self;
        let mut at = 1;
        while at < 64 {
            let (run, value) = bits.next(table)?;
            at += run;
            if value != 0 {
                if at > 63 {
                    return None;
                }
                keep(at as usize, value);
            }
            at += 1;
        }
        *self = bits;
        Some(())
    }

    /// Goes on behind the restart marker that comes next.
    pub fn restart(&mut self) -> Option<()> {
        let &[0xFF, 0xD0..=0xD7] = self.bytes.get(self.at..)?.first_chunk()? else { return None };
        (self.intact()).then_some(())?;
        *self = Self { bytes: self.bytes, at: self.at + 2, buffer: 0, count: 0, invented: 0 };
        Some(())
    }

    /// Whether no bit was used that is not in the data.
    pub fn intact(&self) -> bool {
        8 * self.invented <= self.count as usize
    }
}
