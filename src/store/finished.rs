//! Runs that ended elsewhere than in the queue, recorded as they would stand after it.

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{NewOutcomes, Store, outcomes, queue, to_json};
use crate::{
    domain::{DatasetId, EpochPoint, RunId, Submission},
    error::Result,
    worker::protocol::Artifact,
};

/// A run that succeeded, with everything it left.
#[derive(Clone, Debug)]
pub struct FinishedRun {
    /// Its number; see [`Store::next_run`].
    pub id: RunId,
    /// What was to be run.
    pub submission: Submission,
    /// The finished epochs; the last one's weights count as kept.
    pub epochs: Vec<EpochPoint>,
    /// Its files, whose paths are below [`Store::finished_directory`]. There may be none.
    pub artifacts: Vec<Artifact>,
    /// Of validation and test.
    pub outcomes: Vec<NewOutcomes>,
    /// When it was submitted and started.
    pub started_at: Timestamp,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl Store {
    /// The number that the next run gets, as long as nobody submits one.
    pub async fn next_run(&self) -> Result<RunId> {
        let last = sqlx::query_scalar!(
            r#"select coalesce(max(seq), 0) as "seq!: i64" from sqlite_sequence where name = 'run'"#
        )
        .fetch_one(&self.reader)
        .await?;
        Ok(RunId(last + 1))
    }

    /// Where the one attempt of a finished run has its files.
    pub fn finished_directory(&self, run: RunId) -> std::path::PathBuf {
        self.data_dir.join(attempt_directory(run))
    }

    /// Records runs in one transaction, which takes about a millisecond for each. Their files are there already.
    pub async fn record_finished(&self, dataset: DatasetId, runs: &[FinishedRun]) -> Result<()> {
        let sizes = self.disk_bytes(&runs.iter().map(|run| run.id).collect::<Vec<_>>()).await?;
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        for (run, bytes) in runs.iter().zip(sizes) {
            insert(&mut transaction, dataset, run, bytes).await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}

fn attempt_directory(run: RunId) -> String {
    format!("runs/{run}/attempt-1")
}

async fn insert(connection: &mut SqliteConnection, dataset: DatasetId, run: &FinishedRun, bytes: u64) -> Result<()> {
    let Submission { spec, labels, slurm: _ } = &run.submission;
    let (name, tags, spec) = (run.submission.name(), to_json(&labels.tags)?, to_json(spec)?);
    let (priority, bytes) = (labels.priority.get(), bytes.cast_signed());
    let (start, end) = (run.started_at.to_string(), run.finished_at.to_string());
    let kept_epoch = run.epochs.last().map(|point| point.epoch);
    let directory = attempt_directory(run.id);
    sqlx::query!(
        "insert into run (id, dataset_id, name, tags, note, priority, spec, status, submitted_at, started_at, finished_at,
                          kept_epoch, disk_bytes)
         values (?1, ?2, ?3, ?4, ?5, ?6, ?7, 'succeeded', ?8, ?8, ?9, ?10, ?11)",
        run.id.0,
        dataset.0,
        name,
        tags,
        labels.note,
        priority,
        spec,
        start,
        end,
        kept_epoch,
        bytes
    )
    .execute(&mut *connection)
    .await?;
    let attempt = sqlx::query_scalar!(
        r#"insert into attempt (run_id, number, token_hash, directory, heartbeat_at, progressed_at, started_at, ended_at, exit)
         values (?1, 1, '', ?2, ?4, ?4, ?3, ?4, 'succeeded') returning id as "id!""#,
        run.id.0,
        directory,
        start,
        end
    )
    .fetch_one(&mut *connection)
    .await?;
    for point in &run.epochs {
        queue::insert_epoch(connection, attempt, point).await?;
    }
    for artifact in &run.artifacts {
        queue::insert_artifact(connection, run.id, attempt, artifact).await?;
    }
    for new in &run.outcomes {
        outcomes::insert(connection, run.id, new).await?;
    }
    Ok(())
}
