//! Which waiting run goes first.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Of a waiting run, −100 to 100: a higher one goes first, and of equals the one that was submitted first. It decides nothing
/// about the outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "i64")]
pub struct Priority(i8);

impl Priority {
    /// As a number.
    pub fn get(self) -> i64 {
        self.0.into()
    }
}

impl TryFrom<i64> for Priority {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        let fits = i8::try_from(number).ok().filter(|number| (-100..=100).contains(number));
        fits.map(Self).ok_or_else(|| format!("a priority lies between -100 and 100; {number} does not"))
    }
}

impl FromStr for Priority {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = text.trim().parse::<i64>();
        number.map_err(|_| format!("“{}” is not a whole number from -100 to 100", text.trim()))?.try_into()
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_hundred_each_way_are_there() {
        assert_eq!(("-100".parse(), serde_json::from_str("100").ok()), (Ok(Priority(-100)), Some(Priority(100))));
        for text in ["101", "-101", "1e2", "", "900"] {
            assert!(text.parse::<Priority>().is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Priority>("-101").unwrap_err().to_string().contains("-101 does not"));
    }
}
