//! The queue as its users arrange it, and runs made from runs: a repeat, or the same with some fields changed.

use serde_json::{Map, Value};

use super::Queue;
use crate::{
    domain::{Priority, RunId, RunLabels, RunStatus, SingleRun, Submission, SweepId},
    error::{Error, Result},
    store::{QueueState, RunRow, Submitted},
};

impl Queue {
    /// How many runs wait and run, and whether nothing new starts.
    pub async fn state(&self) -> Result<QueueState> {
        self.store.queue().await
    }

    /// Lets nothing new start, or again. What runs goes on. Outlives the server.
    pub async fn pause(&self, paused: bool) -> Result<QueueState> {
        self.store.pause_queue(paused).await?;
        if !paused {
            self.shared.submitted.notify_one();
        }
        // Pages that are open look again.
        if let Some(next) = self.store.next_in_queue().await? {
            self.changed(next);
        }
        self.state().await
    }

    /// Gives a queued run another priority.
    pub async fn prioritize(&self, run: RunId, priority: Priority) -> Result<()> {
        self.store.prioritize(run, priority).await?;
        self.changed(run);
        Ok(())
    }

    /// Puts a run that failed or was canceled back into the queue; it goes on from its last checkpoint.
    pub async fn retry(&self, run: RunId) -> Result<()> {
        self.store.retry(run).await?;
        self.changed(run);
        self.shared.submitted.notify_one();
        Ok(())
    }

    /// Cancels all runs of a sweep that wait or run.
    pub async fn cancel_sweep(&self, sweep: SweepId) -> Result<()> {
        let mut runs = self.members(sweep, [RunStatus::Queued, RunStatus::Running]).await?;
        // Those that wait first, or they would start in the place of those that ran.
        runs.sort_by_key(|run| run.status == RunStatus::Running);
        for run in runs {
            ignore_conflict(self.cancel(run.id).await)?;
        }
        Ok(())
    }

    /// Puts all runs of a sweep that failed or were canceled back into the queue.
    pub async fn retry_sweep(&self, sweep: SweepId) -> Result<()> {
        for run in self.members(sweep, [RunStatus::Failed, RunStatus::Canceled]).await? {
            ignore_conflict(self.retry(run.id).await)?;
        }
        Ok(())
    }

    /// The runs of a sweep that are in one of these states, oldest first; at least one.
    async fn members(&self, sweep: SweepId, [one, other]: [RunStatus; 2]) -> Result<Vec<RunRow>> {
        self.store.sweep(sweep).await?;
        let mut runs = self.store.runs_of_sweep(sweep).await?;
        runs.retain(|run| [one, other].contains(&run.status));
        runs.reverse();
        match runs.is_empty() {
            true => Err(Error::Conflict(format!("no run of sweep {sweep} is {one} or {other}"))),
            false => Ok(runs),
        }
    }

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

/// A run that changed meanwhile is none of ours any more.
fn ignore_conflict(done: Result<()>) -> Result<()> {
    match done {
        Err(Error::Conflict(_)) => Ok(()),
        done => done,
    }
}

/// As the run was submitted. A name that was made for it is not one of its own.
fn submission(row: RunRow) -> Submission {
    let name = row.name;
    let mut submission = Submission {
        spec: row.spec,
        labels: RunLabels { name: None, tags: row.tags, note: row.note, priority: row.priority },
        slurm: row.slurm,
    };
    submission.labels.name = (name != submission.name()).then_some(name);
    submission
}
