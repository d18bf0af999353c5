//! Identifiers, one type each, so that a run cannot be passed for an image.

use std::{fmt, num::ParseIntError, str::FromStr};

use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = ParseIntError;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                text.parse().map(Self)
            }
        }
    };
}

id!(
    /// A training run, numbered from 1 in order of submission.
    RunId(i64)
);
id!(
    /// Runs submitted together.
    SweepId(i64)
);
id!(
    /// One try at executing a run.
    AttemptId(i64)
);
id!(
    /// A data set.
    DatasetId(i64)
);
id!(
    /// An image of a data set (the database's number, not COCO's).
    ImageId(i64)
);
id!(
    /// A fine label: its index in the taxonomy.
    FineId(u16)
);
id!(
    /// A coarse category: its index in the taxonomy.
    CoarseId(u16)
);

impl FineId {
    /// The label's column in a table of fine scores.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl CoarseId {
    /// The category's column in a table of coarse scores.
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}
