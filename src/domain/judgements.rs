//! What was right about each image of a split: one byte each.

use super::{Counts, Outcome, Tally};

const COARSE: u8 = 1;
const FINE: u8 = 2;

/// What was right about each image of a split under one rule, in the order of the images' source ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgements {
    /// [`COARSE`] if the category is right, plus [`FINE`] if the fine labels are.
    bytes: Vec<u8>,
    /// Whether fine labels were decided at all.
    fine: bool,
}

impl Judgements {
    /// From [`bytes`](Self::bytes); `None` if they are none. `fine`: whether fine labels were decided.
    pub fn new(bytes: Vec<u8>, fine: bool) -> Option<Self> {
        let most = if fine { COARSE | FINE } else { COARSE };
        bytes.iter().all(|byte| *byte <= most).then_some(Self { bytes, fine })
    }

    /// From whether fine labels and category of each image are right; without fine labels the first counts for nothing.
    pub fn of(fine: bool, images: impl IntoIterator<Item = (bool, bool)>) -> Self {
        let byte = |(fine_right, coarse_right): (bool, bool)| {
            u8::from(coarse_right) * COARSE + u8::from(fine && fine_right) * FINE
        };
        Self { bytes: images.into_iter().map(byte).collect(), fine }
    }

    /// One per image.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many images.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether the category of image `row` is right. Panics past the last image, as indexing does.
    pub fn coarse_correct(&self, row: usize) -> bool {
        self.bytes[row] & COARSE != 0
    }

    /// The outcome of image `row`; `None` where no fine labels were decided. Panics past the last image, as indexing does.
    pub fn outcome(&self, row: usize) -> Option<Outcome> {
        self.fine.then(|| Outcome::of(self.bytes[row] & FINE != 0, self.coarse_correct(row)))
    }

    /// The outcomes of all images; `None` where no fine labels were decided.
    pub fn outcomes(&self) -> Option<impl ExactSizeIterator<Item = Outcome> + '_> {
        let outcome = |byte: &u8| Outcome::of(byte & FINE != 0, byte & COARSE != 0);
        self.fine.then(|| self.bytes.iter().map(outcome))
    }

    /// Counted.
    pub fn tally(&self) -> Tally {
        Tally {
            images: self.bytes.len() as u64,
            coarse_correct: self.bytes.iter().filter(|byte| **byte & COARSE != 0).count() as u64,
            counts: self.outcomes().map(Counts::from_iter),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_image_has_its_outcome() {
        let all = [(true, true), (true, false), (false, true), (false, false)];
        let judged = Judgements::of(true, all);
        assert_eq!(judged.bytes(), [3, 2, 1, 0]);
        assert!(judged.outcomes().unwrap().eq(Outcome::ALL));
        assert_eq!(judged.outcome(2), Some(Outcome::Ffct));
        assert_eq!(judged.tally().counts, Some(Counts { ftct: 1, ftcf: 1, ffct: 1, ffcf: 1 }));
        assert_eq!(Judgements::new(vec![3, 2, 1, 0], true), Some(judged));
        let coarse_only = Judgements::of(false, all);
        assert_eq!((coarse_only.outcome(0), coarse_only.bytes()), (None, &[1, 0, 1, 0][..]));
        assert_eq!(coarse_only.tally(), Tally { images: 4, coarse_correct: 2, counts: None });
        assert_eq!((Judgements::new(vec![4], true), Judgements::new(vec![2], false)), (None, None));
    }
}
