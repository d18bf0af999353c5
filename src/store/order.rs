//! What comes next: priorities, the pause, and runs that are tried again.

use serde::{Deserialize, Serialize};

use super::Store;
use crate::{
    domain::{Priority, RunId, RunStatus},
    error::{Error, Result},
};

/// The queue as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Nothing new starts.
    pub paused: bool,
    /// How many runs wait.
    pub queued: u64,
    /// How many run.
    pub running: u64,
}

impl Store {
    /// The place of a queued run, 1 = next.
    pub async fn queue_position(&self, run: RunId) -> Result<u64> {
        let count = sqlx::query_scalar!(
            "select count(*) from run join run as this on this.id = ?
             where run.status = 'queued'
               and (run.priority > this.priority or (run.priority = this.priority and run.id <= this.id))",
            run.0
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(count.unsigned_abs())
    }

    /// Gives a queued run another priority.
    pub async fn prioritize(&self, run: RunId, priority: Priority) -> Result<()> {
        let priority = priority.get();
        let changed = sqlx::query!("update run set priority = ? where id = ? and status = 'queued'", priority, run.0)
            .execute(&self.writer)
            .await?
            .rows_affected();
        if changed == 0 {
            let status = self.run(run).await?.status;
            return Err(Error::Conflict(format!("run {run} is {status}; only a run that waits has its turn changed")));
        }
        Ok(())
    }

    /// How many wait and run, and whether nothing new starts.
    pub async fn queue(&self) -> Result<QueueState> {
        let row = sqlx::query!(
            r#"select paused as "paused: bool", (select count(*) from run where status = 'queued') as "queued!: i64",
                      (select count(*) from run where status = 'running') as "running!: i64" from queue"#
        )
        .fetch_one(&self.reader)
        .await?;
        let [queued, running] = [row.queued, row.running].map(i64::unsigned_abs);
        Ok(QueueState { paused: row.paused, queued, running })
    }

    /// Whether nothing new starts.
    pub async fn queue_paused(&self) -> Result<bool> {
        Ok(self.queue().await?.paused)
    }

    /// Lets nothing new start, or again. Outlives the server.
    pub async fn pause_queue(&self, paused: bool) -> Result<()> {
        sqlx::query!("update queue set paused = ?", paused).execute(&self.writer).await?;
        Ok(())
    }

    /// Puts a run that failed or was canceled back into the queue, with as many tries as a new one. What it left stays: it goes
    /// on from its last checkpoint.
    pub async fn retry(&self, run: RunId) -> Result<()> {
        let changed = sqlx::query!(
            "update run set status = 'queued', error = null, cancel_requested = 0, started_at = null, finished_at = null, lost = 0,
                            disk_bytes = null
             where id = ? and status in ('failed', 'canceled')",
            run.0
        )
        .execute(&self.writer)
        .await?
        .rows_affected();
        if changed == 0 {
            return Err(Error::Conflict(match self.run(run).await?.status {
                RunStatus::Succeeded => format!("run {run} has succeeded; clone it instead"),
                status @ (RunStatus::Queued | RunStatus::Running) => format!("run {run} is {status} already"),
                RunStatus::Failed | RunStatus::Canceled => format!("run {run} ended this very moment; try again"),
            }));
        }
        Ok(())
    }

    /// The queued run that is next.
    pub async fn next_in_queue(&self) -> Result<Option<RunId>> {
        let next = sqlx::query_scalar!("select id from run where status = 'queued' order by priority desc, id limit 1")
            .fetch_optional(&self.reader)
            .await?;
        Ok(next.map(RunId))
    }
}
