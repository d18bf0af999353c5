//! The queue is the run table: `queued → running → succeeded | failed | canceled`.
//!
//! A run that runs has one attempt, and every write of a worker is fenced by it: once the run has another attempt, or none,
//! what the old worker still says is refused.

use std::path::PathBuf;

use jiff::Timestamp;
use sqlx::{Sqlite, Transaction};

use super::{NewOutcomes, Store, order::RETRIED, outcomes, to_json};
use crate::{
    domain::{AttemptId, RunId},
    error::{Error, Result},
    worker::protocol::{Artifact, WorkerEvent},
};

/// How often a run is tried when its worker is lost.
pub const MAX_ATTEMPTS: i64 = 3;

/// What the exit of a [`Ending::Released`] attempt says.
const RELEASED: &str = "given back";

/// A run taken from the queue.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// This try at it.
    pub attempt: AttemptId,
}

/// How an attempt ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is at fault: it fails.
    Failed(String),
    /// Somebody asked for it.
    Canceled,
    /// The attempt is at fault: the run goes back to the queue, up to three times.
    Lost(String),
    /// Nobody is at fault, as when the server is stopped in order: the run goes back to the queue, however often.
    Released,
}

impl Store {
    /// Takes the queued run that is next, if there is one and the queue is not paused. `threads` replaces a specification's 0; `token_hash` is the SHA-256
    /// of what the worker will prove itself with.
    pub async fn claim(&self, threads: usize, token_hash: &str, now: Timestamp) -> Result<Option<Claim>> {
        let (threads, now) = (threads as i64, now.to_string());
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let Some(run) = sqlx::query_scalar!(
            "select id from run where status = 'queued' and not (select paused from queue) order by priority desc, id limit 1"
        )
        .fetch_optional(&mut *transaction)
        .await?
        else {
            return Ok(None);
        };
        let attempt = sqlx::query_scalar!(
            r#"insert into attempt (run_id, number, token_hash, directory, heartbeat_at, started_at)
             select ?1, n, ?2, 'runs/' || ?1 || '/attempt-' || n, ?3, ?3
             from (select coalesce(max(number), 0) + 1 as n from attempt where run_id = ?1)
             returning id as "id!""#,
            run,
            token_hash,
            now
        )
        .fetch_one(&mut *transaction)
        .await?;
        sqlx::query!(
            "update run set status = 'running', attempt_id = ?, started_at = ?,
                            spec = iif(spec ->> 'threads' = 0, json_set(spec, '$.threads', ?), spec)
             where id = ? and status = 'queued'",
            attempt,
            now,
            threads,
            run
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(Claim { run: RunId(run), attempt: AttemptId(attempt) }))
    }

    /// The run that an attempt works on, if the token is its own and it still holds the run.
    pub async fn authorise(&self, attempt: AttemptId, token_hash: &str) -> Result<Option<RunId>> {
        let run = sqlx::query_scalar!(
            "select run.id from attempt join run on run.attempt_id = attempt.id where attempt.id = ? and attempt.token_hash = ?",
            attempt.0,
            token_hash
        )
        .fetch_optional(&self.reader)
        .await?;
        Ok(run.map(RunId))
    }

    /// Where an attempt leaves its files, absolute.
    pub async fn attempt_directory(&self, attempt: AttemptId) -> Result<PathBuf> {
        let directory = sqlx::query_scalar!("select directory from attempt where id = ?", attempt.0)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| Error::NotFound(format!("there is no attempt {attempt}")))?;
        Ok(self.data_dir.join(directory))
    }

    /// Whether somebody asked the run that `attempt` holds to stop.
    pub async fn cancel_requested(&self, attempt: AttemptId) -> Result<bool> {
        let requested = sqlx::query_scalar!(
            r#"select cancel_requested as "cancel: bool" from run where attempt_id = ?"#,
            attempt.0
        )
        .fetch_optional(&self.reader)
        .await?;
        Ok(requested.unwrap_or(false))
    }

    /// Records what a worker tells, which is also its heartbeat. Returns whether it is asked to stop.
    pub async fn record(&self, attempt: AttemptId, events: &[WorkerEvent], now: Timestamp) -> Result<bool> {
        let now = now.to_string();
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let (_, cancel) = held(&mut transaction, attempt).await?;
        sqlx::query!("update attempt set heartbeat_at = ? where id = ?", now, attempt.0)
            .execute(&mut *transaction)
            .await?;
        for event in events {
            match event {
                WorkerEvent::Progress(progress) => {
                    let progress = to_json(progress)?;
                    sqlx::query!("update attempt set progress = ? where id = ?", progress, attempt.0)
                        .execute(&mut *transaction)
                        .await?;
                }
                WorkerEvent::Epoch(point) => {
                    sqlx::query!(
                        "insert or replace into epoch (attempt_id, epoch, train_loss, validation_loss, validation_ia,
                                                       validation_coarse_accuracy, learning_rate, seconds)
                         values (?, ?, ?, ?, ?, ?, ?, ?)",
                        attempt.0,
                        point.epoch,
                        point.train_loss,
                        point.validation_loss,
                        point.validation_ia,
                        point.validation_coarse_accuracy,
                        point.learning_rate,
                        point.seconds
                    )
                    .execute(&mut *transaction)
                    .await?;
                }
                WorkerEvent::Log { text } => {
                    sqlx::query!("insert into log_line (attempt_id, at, text) values (?, ?, ?)", attempt.0, now, text)
                        .execute(&mut *transaction)
                        .await?;
                }
            }
        }
        transaction.commit().await?;
        Ok(cancel)
    }

    /// The run succeeded, with the weights of `kept_epoch`: its files, outcomes and end in one transaction. `artifacts` have paths below `directory`.
    pub async fn succeed(
        &self,
        attempt: AttemptId,
        kept_epoch: u32,
        (artifacts, outcomes): (&[Artifact], &[NewOutcomes]),
        now: Timestamp,
    ) -> Result<()> {
        let now = now.to_string();
        let rows: Vec<String> = outcomes.iter().map(outcomes::rows_json).collect::<Result<_>>()?;
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let (run, _) = held(&mut transaction, attempt).await?;
        for artifact in artifacts {
            let kind = artifact.kind.as_str();
            let path = artifact.path.to_string_lossy();
            sqlx::query!(
                "insert into artifact (run_id, kind, path, sha256)
                 select run_id, ?, directory || '/' || ?, ? from attempt where id = ?",
                kind,
                path,
                artifact.sha256,
                attempt.0
            )
            .execute(&mut *transaction)
            .await?;
        }
        for (new, rows) in outcomes.iter().zip(&rows) {
            outcomes::insert(&mut transaction, run, new, rows).await?;
        }
        end_attempt(&mut transaction, attempt, "succeeded", &now).await?;
        sqlx::query!(
            "update run set status = 'succeeded', attempt_id = null, finished_at = ?, kept_epoch = ? where id = ?",
            now,
            kept_epoch,
            run.0
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The attempt ended without a result. A run that was asked to stop is canceled, whatever its attempt died of.
    pub async fn end(&self, attempt: AttemptId, ending: Ending, now: Timestamp) -> Result<()> {
        let now = now.to_string();
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let (run, cancel) = held(&mut transaction, attempt).await?;
        let ending = match ending {
            Ending::Canceled if !cancel => Ending::Lost("the worker lost the server".into()),
            ending => ending,
        };
        let exit = match &ending {
            Ending::Failed(reason) | Ending::Lost(reason) => reason,
            Ending::Canceled => "canceled",
            Ending::Released => RELEASED,
        };
        end_attempt(&mut transaction, attempt, exit, &now).await?;
        let number = sqlx::query_scalar!(
            "select count(*) from attempt where run_id = ?1 and exit <> ?2
               and id > (select coalesce(max(id), 0) from attempt where run_id = ?1 and exit like '%' || ?3)",
            run.0,
            RELEASED,
            RETRIED
        )
        .fetch_one(&mut *transaction)
        .await?;
        let (status, error) = match ending {
            Ending::Canceled => ("canceled", None),
            Ending::Failed(_) | Ending::Lost(_) | Ending::Released if cancel => ("canceled", None),
            Ending::Failed(reason) => ("failed", Some(reason)),
            Ending::Released => ("queued", None),
            Ending::Lost(_) if number < MAX_ATTEMPTS => ("queued", None),
            Ending::Lost(reason) => ("failed", Some(format!("given up after {number} attempts; the last: {reason}"))),
        };
        sqlx::query!(
            "update run set status = ?1, attempt_id = null, error = ?2, finished_at = iif(?1 = 'queued', null, ?3),
                            started_at = iif(?1 = 'queued', null, started_at) where id = ?4",
            status,
            error,
            now,
            run.0
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The attempts that were under way when the last server stopped.
    pub async fn orphans(&self) -> Result<Vec<AttemptId>> {
        let ids = sqlx::query_scalar!(r#"select attempt_id as "id!" from run where attempt_id is not null"#)
            .fetch_all(&self.reader)
            .await?;
        Ok(ids.into_iter().map(AttemptId).collect())
    }

    /// Cancels a queued run at once, and asks a running one to stop: then returns its attempt.
    pub async fn cancel(&self, run: RunId, now: Timestamp) -> Result<Option<AttemptId>> {
        let now = now.to_string();
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let row = sqlx::query!(
            r#"update run set cancel_requested = 1,
                            finished_at = iif(status = 'queued', ?, finished_at),
                            status = iif(status = 'queued', 'canceled', status)
             where id = ? and status in ('queued', 'running') returning attempt_id as "attempt_id?: i64""#,
            now,
            run.0
        )
        .fetch_optional(&mut *transaction)
        .await?;
        transaction.commit().await?;
        match row {
            Some(row) => Ok(row.attempt_id.map(AttemptId)),
            None => {
                let status = self.run(run).await?.status;
                Err(Error::Conflict(format!("run {run} has {status} already; there is nothing to cancel")))
            }
        }
    }

    /// Deletes a run that has ended, its outcomes and its files.
    pub async fn delete_run(&self, run: RunId) -> Result<()> {
        let deleted =
            sqlx::query!("delete from run where id = ? and status in ('succeeded', 'failed', 'canceled')", run.0)
                .execute(&self.writer)
                .await?
                .rows_affected();
        if deleted == 0 {
            let status = self.run(run).await?.status;
            return Err(Error::Conflict(format!("run {run} is {status}; cancel it before deleting it")));
        }
        let directory = self.data_dir.join(format!("runs/{run}"));
        match tokio::fs::remove_dir_all(&directory).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(Error::internal(format!("the files in {} could not be deleted", directory.display()), error))
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }
}

/// The run that `attempt` holds and whether it is asked to stop; an error if it holds none any more.
async fn held(transaction: &mut Transaction<'_, Sqlite>, attempt: AttemptId) -> Result<(RunId, bool)> {
    let row = sqlx::query!(r#"select id, cancel_requested as "cancel: bool" from run where attempt_id = ?"#, attempt.0)
        .fetch_optional(&mut **transaction)
        .await?
        .ok_or_else(|| Error::Conflict(format!("attempt {attempt} does not hold its run any more")))?;
    Ok((RunId(row.id), row.cancel))
}

async fn end_attempt(
    transaction: &mut Transaction<'_, Sqlite>,
    attempt: AttemptId,
    exit: &str,
    now: &str,
) -> Result<()> {
    sqlx::query!("update attempt set ended_at = ?, exit = ? where id = ?", now, exit, attempt.0)
        .execute(&mut **transaction)
        .await?;
    Ok(())
}
