//! The outcome of one image (table 1 of the paper) and their counts.

use std::{fmt, ops::AddAssign};

use serde::{Deserialize, Serialize};

use super::{Indices, ratio};

/// Whether the fine set and the coarse category of one image were right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE", try_from = "String")]
pub enum Outcome {
    /// Fine right, coarse right: right for the right reasons.
    Ftct,
    /// Fine right, coarse wrong.
    Ftcf,
    /// Fine wrong, coarse right: right for the wrong reasons.
    Ffct,
    /// Both wrong.
    Ffcf,
}

impl Outcome {
    /// In the paper's order.
    pub const ALL: [Self; 4] = [Self::Ftct, Self::Ftcf, Self::Ffct, Self::Ffcf];

    /// `fine`: the predicted fine set equals the true set. `coarse`: the arg-max category is the true one.
    pub fn of(fine: bool, coarse: bool) -> Self {
        match (fine, coarse) {
            (true, true) => Self::Ftct,
            (true, false) => Self::Ftcf,
            (false, true) => Self::Ffct,
            (false, false) => Self::Ffcf,
        }
    }

    /// Whether the fine set was right.
    pub fn fine_true(self) -> bool {
        matches!(self, Self::Ftct | Self::Ftcf)
    }

    /// Whether the coarse category was right.
    pub fn coarse_true(self) -> bool {
        matches!(self, Self::Ftct | Self::Ffct)
    }

    /// `FTCT`, `FTCF`, `FFCT` or `FFCF`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Ftct => "FTCT",
            Self::Ftcf => "FTCF",
            Self::Ffct => "FFCT",
            Self::Ffcf => "FFCF",
        }
    }

    /// The outcome in plain words.
    pub fn words(self) -> &'static str {
        match self {
            Self::Ftct => "right for the right reasons",
            Self::Ftcf => "right reasons, wrong category",
            Self::Ffct => "right for the wrong reasons",
            Self::Ffcf => "wrong throughout",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

impl TryFrom<String> for Outcome {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|outcome| outcome.code().eq_ignore_ascii_case(&text))
            .ok_or_else(|| format!("“{text}” is not an outcome; they are FTCT, FTCF, FFCT and FFCF"))
    }
}

/// How many images had each outcome. Accumulated over a whole split, never averaged over batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Fine true, coarse true.
    pub ftct: u64,
    /// Fine true, coarse false.
    pub ftcf: u64,
    /// Fine false, coarse true.
    pub ffct: u64,
    /// Fine false, coarse false.
    pub ffcf: u64,
}

/// The decisions of one split, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// All images.
    pub images: u64,
    /// Images with the right category.
    pub coarse_correct: u64,
    /// The four counts; `None` for a coarse-only run.
    pub counts: Option<Counts>,
}

impl Tally {
    /// Coarse accuracy: the share of images with the right category.
    pub fn coarse_accuracy(self) -> Option<f64> {
        ratio(self.coarse_correct, self.images)
    }

    /// The indices; `None` for a coarse-only run.
    pub fn indices(self) -> Option<Indices> {
        self.counts.map(Indices::of)
    }
}

impl Counts {
    /// All images.
    pub fn total(self) -> u64 {
        self.ftct + self.ftcf + self.ffct + self.ffcf
    }

    /// The count of one outcome.
    pub fn get(self, outcome: Outcome) -> u64 {
        match outcome {
            Outcome::Ftct => self.ftct,
            Outcome::Ftcf => self.ftcf,
            Outcome::Ffct => self.ffct,
            Outcome::Ffcf => self.ffcf,
        }
    }

    /// The indices of these counts.
    pub fn indices(self) -> Indices {
        Indices::of(self)
    }
}

/// In the order of [`Outcome::ALL`].
impl From<[u64; 4]> for Counts {
    fn from([ftct, ftcf, ffct, ffcf]: [u64; 4]) -> Self {
        Self { ftct, ftcf, ffct, ffcf }
    }
}

impl AddAssign<Outcome> for Counts {
    fn add_assign(&mut self, outcome: Outcome) {
        match outcome {
            Outcome::Ftct => self.ftct += 1,
            Outcome::Ftcf => self.ftcf += 1,
            Outcome::Ffct => self.ffct += 1,
            Outcome::Ffcf => self.ffcf += 1,
        }
    }
}

impl FromIterator<Outcome> for Counts {
    fn from_iter<I: IntoIterator<Item = Outcome>>(outcomes: I) -> Self {
        let mut counts = Self::default();
        outcomes.into_iter().for_each(|outcome| counts += outcome);
        counts
    }
}
