//! The queue is the run table: `queued → running → succeeded | failed | canceled`.
//!
//! A run that runs has one attempt, and every write of a worker is fenced by it: once the run has another attempt, or none,
//! what the old worker still says is refused.

use std::path::PathBuf;

use jiff::Timestamp;
use sqlx::{Sqlite, SqliteConnection, Transaction};

use super::{NewOutcomes, Store, outcomes, runs::slurm_options, to_json, word};
use crate::{
    domain::{AttemptId, EpochPoint, RunId, SlurmOptions, spec::Device},
    error::{Error, Result},
    scheduler::{ExecutorKind, Executors},
    worker::protocol::{Artifact, News, WorkerEvent},
};

/// How many attempts in a row may be lost without getting further than the ones before.
pub const MAX_LOST: i64 = 3;

/// A run taken from the queue.
#[derive(Clone, Debug)]
pub struct Claim {
    /// The run.
    pub run: RunId,
    /// This try at it.
    pub attempt: AttemptId,
    /// What it computes on.
    pub device: Device,
    /// With how many threads.
    pub threads: usize,
    /// What starts its worker.
    pub executor: ExecutorKind,
    /// What it asks of a cluster.
    pub slurm: SlurmOptions,
}

/// An attempt that a server has begun and none has seen the end of.
#[derive(Clone, Debug)]
pub struct Underway {
    /// The run.
    pub run: RunId,
    /// The attempt.
    pub attempt: AttemptId,
    /// What it computes on.
    pub device: Device,
    /// What started its worker.
    pub executor: ExecutorKind,
    /// By what the executor finds the worker; `None` if the server went away before it was known.
    pub handle: Option<String>,
    /// Whether somebody asked the run to stop.
    pub cancel: bool,
}

/// How an attempt ended without a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The run is at fault: it fails.
    Failed(String),
    /// Somebody asked for it.
    Canceled,
    /// The worker died or fell silent: the run goes back to the queue, unless three in a row got no further.
    Lost(String),
    /// Nobody is at fault, as when the server is stopped in order: the run goes back to the queue, however often.
    Interrupted(String),
}

impl Store {
    /// Takes the queued run that is next and whose device is not one of `full`, if there is one and the queue is not paused. `threads` replaces a specification's 0;
    /// `token_hash` is the SHA-256 of what the worker will prove itself with.
    pub async fn claim(
        &self,
        full: &[Device],
        (executors, threads): (Executors, impl Fn(Device, &SlurmOptions) -> usize),
        token_hash: &str,
        now: Timestamp,
    ) -> Result<Option<Claim>> {
        let (full, now) = (to_json(&full)?, now.to_string());
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let Some(row) = sqlx::query!(
            r#"select id as "id!", spec ->> 'device' as "device!: String", spec ->> 'threads' as "threads!: i64", slurm from run
               where status = 'queued' and not (select paused from queue) and spec ->> 'device' not in (select value from json_each(?))
               order by priority desc, id limit 1"#,
            full
        )
        .fetch_optional(&mut *transaction)
        .await?
        else {
            return Ok(None);
        };
        let device: Device = word(&row.device)?;
        let given = usize::try_from(row.threads).ok().filter(|threads| *threads > 0);
        let slurm = slurm_options(row.slurm.as_deref())?;
        let threads = given.unwrap_or_else(|| threads(device, &slurm));
        let (executor, executor_word) = (executors.of(device), executors.of(device).as_str());
        let attempt = sqlx::query_scalar!(
            r#"insert into attempt (run_id, number, token_hash, directory, executor, heartbeat_at, progressed_at, started_at)
             select ?1, n, ?2, 'runs/' || ?1 || '/attempt-' || n, ?3, ?4, ?4, ?4
             from (select coalesce(max(number), 0) + 1 as n from attempt where run_id = ?1)
             returning id as "id!""#,
            row.id,
            token_hash,
            executor_word,
            now
        )
        .fetch_one(&mut *transaction)
        .await?;
        let thread_count = i64::try_from(threads).unwrap_or(i64::MAX);
        sqlx::query!(
            "update run set status = 'running', attempt_id = ?, started_at = ?, spec = json_set(spec, '$.threads', ?)
             where id = ? and status = 'queued'",
            attempt,
            now,
            thread_count,
            row.id
        )
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(Some(Claim { run: RunId(row.id), attempt: AttemptId(attempt), device, threads, executor, slurm }))
    }

    /// The attempts that were under way when the last server ended.
    pub async fn underway(&self) -> Result<Vec<Underway>> {
        let rows = sqlx::query!(
            r#"select run.id, attempt.id as "attempt!", spec ->> 'device' as "device!: String", executor, handle,
                      cancel_requested as "cancel: bool"
               from run join attempt on attempt.id = run.attempt_id order by attempt.id"#
        )
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|row| {
                let (run, attempt, device) = (RunId(row.id), AttemptId(row.attempt), word(&row.device)?);
                let executor = word(&row.executor)?;
                Ok(Underway { run, attempt, device, executor, handle: row.handle, cancel: row.cancel })
            })
            .collect()
    }

    /// Takes back a claim for which no worker was started: the run is queued as if it had not been claimed.
    pub async fn unclaim(&self, attempt: AttemptId) -> Result<()> {
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        held(&mut transaction, attempt).await?;
        sqlx::query!(
            "update run set status = 'queued', attempt_id = null, started_at = null where attempt_id = ?",
            attempt.0
        )
        .execute(&mut *transaction)
        .await?;
        sqlx::query!("delete from attempt where id = ?", attempt.0).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Notes by what the worker of an attempt is found again, and where it runs, once that is known.
    pub async fn introduce(&self, attempt: AttemptId, handle: &str, host: Option<&str>) -> Result<()> {
        sqlx::query!(
            "update attempt set handle = ?, host = coalesce(?, host) where id = ? and ended_at is null",
            handle,
            host,
            attempt.0
        )
        .execute(&self.writer)
        .await?;
        Ok(())
    }

    /// By what the worker of an attempt is found, once that is known.
    pub async fn handle(&self, attempt: AttemptId) -> Result<Option<String>> {
        let handle = sqlx::query_scalar!("select handle from attempt where id = ?", attempt.0);
        Ok(handle.fetch_optional(&self.reader).await?.flatten())
    }

    /// Notes that the worker of an attempt is there.
    pub async fn beat(&self, attempt: AttemptId, now: Timestamp) -> Result<()> {
        let now = now.to_string();
        sqlx::query!("update attempt set heartbeat_at = ? where id = ? and ended_at is null", now, attempt.0)
            .execute(&self.writer)
            .await?;
        Ok(())
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

    /// Records what a worker tells. Returns whether it is asked to stop.
    pub async fn record(&self, attempt: AttemptId, news: &News, now: Timestamp) -> Result<bool> {
        let now = now.to_string();
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let (_, cancel) = held(&mut transaction, attempt).await?;
        sqlx::query!(
            "update attempt set heartbeat_at = ?1, progressed_at = iif(?2, ?1, progressed_at) where id = ?3",
            now,
            news.progressed,
            attempt.0
        )
        .execute(&mut *transaction)
        .await?;
        for event in &news.events {
            match event {
                WorkerEvent::Progress(progress) => {
                    let progress = to_json(progress)?;
                    sqlx::query!("update attempt set progress = ? where id = ?", progress, attempt.0)
                        .execute(&mut *transaction)
                        .await?;
                }
                WorkerEvent::Epoch(point) => insert_epoch(&mut transaction, attempt.0, point).await?,
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
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let (run, _) = held(&mut transaction, attempt).await?;
        for artifact in artifacts {
            insert_artifact(&mut transaction, run, attempt.0, artifact).await?;
        }
        for new in outcomes {
            outcomes::insert(&mut transaction, run, new).await?;
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
            Ending::Canceled if !cancel => Ending::Lost("the worker was told to stop by nobody".into()),
            ending => ending,
        };
        let exit = match &ending {
            Ending::Failed(reason) | Ending::Lost(reason) | Ending::Interrupted(reason) => reason,
            Ending::Canceled => "canceled",
        };
        end_attempt(&mut transaction, attempt, exit, &now).await?;
        let lost = lost(&mut transaction, run, attempt, matches!(ending, Ending::Lost(_))).await?;
        let (status, error) = match ending {
            Ending::Canceled => ("canceled", None),
            Ending::Failed(_) | Ending::Lost(_) | Ending::Interrupted(_) if cancel => ("canceled", None),
            Ending::Failed(reason) => ("failed", Some(reason)),
            Ending::Interrupted(_) => ("queued", None),
            Ending::Lost(_) if lost < MAX_LOST => ("queued", None),
            Ending::Lost(reason) => {
                ("failed", Some(format!("given up after {lost} attempts that got no further; the last: {reason}")))
            }
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

/// How many attempts in a row were lost without getting further than those before, after this one.
async fn lost(transaction: &mut Transaction<'_, Sqlite>, run: RunId, attempt: AttemptId, is_lost: bool) -> Result<i64> {
    Ok(sqlx::query_scalar!(
        r#"update run set furthest = max(furthest, reached),
                         lost = ?2 + iif(reached > furthest, 0, lost)
           from (select coalesce((select progress ->> 'fraction' from attempt where id = ?1), 0) as reached)
           where id = ?3 returning lost as "lost!""#,
        attempt.0,
        is_lost,
        run.0
    )
    .fetch_one(&mut **transaction)
    .await?)
}

/// Of an attempt, in place of the same epoch of it.
pub(super) async fn insert_epoch(connection: &mut SqliteConnection, attempt: i64, point: &EpochPoint) -> Result<()> {
    sqlx::query!(
        "insert or replace into epoch (attempt_id, epoch, train_loss, validation_loss, validation_ia,
                                       validation_coarse_accuracy, learning_rate, seconds)
         values (?, ?, ?, ?, ?, ?, ?, ?)",
        attempt,
        point.epoch,
        point.train_loss,
        point.validation_loss,
        point.validation_ia,
        point.validation_coarse_accuracy,
        point.learning_rate,
        point.seconds
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
}

/// A file that an attempt left, by its path below the attempt's directory.
pub(super) async fn insert_artifact(
    connection: &mut SqliteConnection,
    run: RunId,
    attempt: i64,
    artifact: &Artifact,
) -> Result<()> {
    let (kind, path) = (artifact.kind.as_str(), artifact.path.to_string_lossy());
    sqlx::query!(
        "insert into artifact (run_id, kind, path, sha256)
         select ?, ?, directory || '/' || ?, ? from attempt where id = ?",
        run.0,
        kind,
        path,
        artifact.sha256,
        attempt
    )
    .execute(&mut *connection)
    .await?;
    Ok(())
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
