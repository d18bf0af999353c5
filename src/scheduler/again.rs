//! Runs made from runs: a repeat, or the same with some fields changed.

use serde_json::{Map, Value};

use super::Queue;
use crate::{
    domain::{RunId, RunLabels, SingleRun, Submission},
    error::{Error, Result},
    store::{RunRow, Submitted},
};

impl Queue {
    /// Submits what `run` was asked to do, with these fields of a submission, or `force`, changed; a field that is `null` gets
    /// its default. Without a change that decides about the outcome it is a repeat, which is made in any case.
    pub async fn clone_run(&self, run: RunId, changes: Map<String, Value>) -> Result<Submitted> {
        let original = submission(self.store.run(run).await?);
        let mut fields = Map::from(original.clone());
        for (name, value) in changes {
            match value {
                Value::Null => drop(fields.remove(&name)),
                value => drop(fields.insert(name, value)),
            }
        }
        let mut clone = SingleRun::try_from(fields).map_err(Error::Invalid)?;
        clone.force |= clone.submission.spec == original.spec;
        self.submit(clone).await
    }
}

/// As the run was submitted. A name that was made for it is not one of its own.
fn submission(row: RunRow) -> Submission {
    let name = row.name;
    let mut submission =
        Submission { spec: row.spec, labels: RunLabels { name: None, tags: row.tags, note: row.note } };
    submission.labels.name = (name != submission.name()).then_some(name);
    submission
}
