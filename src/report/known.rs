//! All runs as they are recorded, kept in memory: what changed since the last look is read again, and nothing else.

use std::{collections::BTreeMap, sync::Arc};

use super::Reports;
use crate::{
    domain::RunId,
    error::Result,
    store::{Change, Clock, RunRow},
};

/// By number.
pub(super) type Runs = Arc<BTreeMap<RunId, Arc<RunRow>>>;

/// The runs as they were read last, and when that was.
#[derive(Debug, Default)]
pub(super) struct Known {
    runs: Runs,
    clock: Option<Clock>,
}

impl Known {
    /// The revision up to which they are known; `None` where deletions since then may be forgotten, or the database is another one.
    fn until(&self, now: &Clock) -> Option<i64> {
        let known = self.clock.as_ref().filter(|known| known.database == now.database)?;
        (now.forgotten..=now.latest).contains(&known.latest).then_some(known.latest)
    }
}

impl Reports {
    /// All runs. Each change of a run has a revision, so one small query says whether these are still they.
    pub(super) async fn known_runs(&self) -> Result<Runs> {
        let mut known = self.known.lock().await;
        let clock = self.store.clock().await?;
        let until = known.until(&clock);
        if until == Some(clock.latest) {
            return Ok(known.runs.clone());
        }
        // What changes while this is read is read again the next time.
        let mut deleted = Vec::new();
        let changed = match until {
            None => {
                known.runs = Runs::default();
                self.store.all_runs().await?
            }
            Some(until) => {
                let changes = self.store.changes(until, None, u32::MAX).await?;
                let (gone, there): (Vec<Change>, Vec<Change>) = changes.into_iter().partition(|change| change.deleted);
                deleted = gone;
                self.store.runs(&there.iter().map(|change| change.run).collect::<Vec<_>>()).await?
            }
        };
        let runs = Arc::make_mut(&mut known.runs);
        for change in deleted {
            runs.remove(&change.run);
        }
        runs.extend(changed.into_iter().map(|run| (run.id, Arc::new(run))));
        known.clock = Some(clock);
        Ok(known.runs.clone())
    }

    /// Those that fit, newest first.
    pub(super) async fn runs_that(&self, fit: impl Fn(&RunRow) -> bool) -> Result<Vec<Arc<RunRow>>> {
        Ok(self.known_runs().await?.values().rev().filter(|run| fit(run)).cloned().collect())
    }
}
