//! What changed since when, for whoever follows the runs.

use std::{fmt, str::FromStr};

use super::{Reports, RunBrief};
use crate::{
    domain::RunId,
    error::{Error, Result},
    store::Clock,
};

/// How many changes are looked up at once.
const BATCH: u32 = 100;

/// How far somebody has heard: “3f2a91cc-1234”, a database and its revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Which database.
    pub database: String,
    /// The revision of the last change that was heard of.
    pub revision: i64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.database, self.revision)
    }
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> std::result::Result<Self, ()> {
        let (database, revision) = text.split_once('-').ok_or(())?;
        let revision = revision.parse().map_err(drop)?;
        Ok(Self { database: database.into(), revision })
    }
}

/// A run that changed, and as of which revision.
#[derive(Clone, Debug)]
pub struct Changed {
    /// To go on from after it.
    pub revision: i64,
    /// The run.
    pub run: RunId,
    /// What it is now; `None` if it was deleted.
    pub brief: Option<RunBrief>,
}

impl Reports {
    /// How far the changes are now.
    pub async fn position(&self) -> Result<Position> {
        let Clock { database, latest, forgotten: _ } = self.store.clock().await?;
        Ok(Position { database, revision: latest })
    }

    /// Where somebody who has heard so far can go on; `None` where what he missed cannot be told: the text is none of ours, is
    /// of another database or of one that was put back since, or deletions after it are forgotten.
    pub async fn resume(&self, heard: &str) -> Result<Option<Position>> {
        let clock = self.store.clock().await?;
        let known = |heard: &Position| {
            heard.database == clock.database && (clock.forgotten..=clock.latest).contains(&heard.revision)
        };
        Ok(heard.parse().ok().filter(known))
    }

    /// The next changes after a revision, of all runs or of `only` one, in order: each run once, as it is now. Empty where
    /// there are none.
    pub async fn changes(&self, after: i64, only: Option<RunId>) -> Result<Vec<Changed>> {
        let mut changed = Vec::new();
        for change in self.store.changes(after, only, BATCH).await? {
            let brief = match self.brief(change.run).await {
                _ if change.deleted => None,
                Ok(brief) => Some(brief),
                // Deleted since, which comes again with its own revision.
                Err(Error::NotFound(_)) => None,
                Err(error @ (Error::Invalid(_) | Error::Conflict(_) | Error::Busy(_) | Error::Internal { .. })) => {
                    return Err(error);
                }
            };
            changed.push(Changed { revision: change.revision, run: change.run, brief });
        }
        Ok(changed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position { database: "3f2a91cc".into(), revision: 12 };
        assert_eq!(position.to_string().parse(), Ok(position));
        for text in ["", "12", "-", "a-", "a-b", "a-1-2", "a-99999999999999999999"] {
            assert_eq!(text.parse::<Position>(), Err(()), "{text}");
        }
    }
}
