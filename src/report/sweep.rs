//! What several runs submitted at once are answered by.

use serde::{Deserialize, Serialize};

use super::{Reports, RunBrief};
use crate::{domain::RunId, error::Result};

/// The answer to a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepReport {
    /// One for each run that was asked for, in order.
    pub items: Vec<SweepItem>,
}

/// What one run that was asked for is answered by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepItem {
    /// Whether the run was there already.
    pub existing: bool,
    /// The run; `None` in a dry run, where it is still to be made.
    pub run: Option<RunBrief>,
}

impl Reports {
    /// Runs with whether each was there already.
    pub async fn sweep(&self, runs: impl Iterator<Item = (Option<RunId>, bool)>) -> Result<SweepReport> {
        let mut items = Vec::new();
        for (run, existing) in runs {
            let run = match run {
                Some(run) => Some(self.brief(run).await?),
                None => None,
            };
            items.push(SweepItem { existing, run });
        }
        Ok(SweepReport { items })
    }
}
