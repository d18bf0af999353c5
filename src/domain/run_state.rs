//! The life of a run, and the parts of a data set.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// `queued → running → succeeded | failed | canceled`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// A worker is at it.
    Running,
    /// Has outcomes.
    Succeeded,
    /// Ended with an error, which the run names.
    Failed,
    /// Stopped on request.
    Canceled,
}

impl RunStatus {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
        }
    }

    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        match self {
            Self::Queued | Self::Running => false,
            Self::Succeeded | Self::Failed | Self::Canceled => true,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for RunStatus {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Queued, Self::Running, Self::Succeeded, Self::Failed, Self::Canceled]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| {
                format!("“{text}” is not a status; they are queued, running, succeeded, failed and canceled")
            })
    }
}

/// A part of a data set. The validation split is drawn from `Train` by a run's seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Split {
    /// What a run learns from.
    Train,
    /// The tenth of train that tuning and early stopping see.
    Validation,
    /// Seen by the final evaluation alone.
    Test,
}

impl Split {
    /// As stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }

    /// Whether it is the test split, whose images are the same for every run.
    pub fn is_test(self) -> bool {
        self == Self::Test
    }
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Split {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Train, Self::Validation, Self::Test]
            .into_iter()
            .find(|split| split.as_str() == text)
            .ok_or_else(|| format!("“{text}” is not a split; they are train, validation and test"))
    }
}
