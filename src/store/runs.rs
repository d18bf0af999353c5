//! Runs as they are read: rows, epochs, logs.

use super::{Store, from_json, outcomes::TallyRow, unknown, word};
use crate::{
    domain::{
        AttemptId, DatasetId, EpochPoint, LogLine, Priority, Progress, RunId, RunSpec, RunStatus, Split, SweepId, Tally,
    },
    error::{Error, Result},
};

/// A run as recorded.
#[derive(Clone, Debug)]
pub struct RunRow {
    /// Its number.
    pub id: RunId,
    /// The data set.
    pub dataset_id: DatasetId,
    /// The data set's name.
    pub dataset: String,
    /// Whether the data set is drawn, not photographed.
    pub drawn: bool,
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Its note.
    pub note: String,
    /// Whether it goes before others that wait.
    pub priority: Priority,
    /// Its specification.
    pub spec: RunSpec,
    /// Runs that agree in it form a group. Not stored: a run from before a field was added has that field's default.
    pub spec_group: String,
    /// Where it is in its life.
    pub status: RunStatus,
    /// The attempt that runs.
    pub attempt: Option<AttemptId>,
    /// Why it failed.
    pub error: Option<String>,
    /// Of the attempt that runs.
    pub progress: Option<Progress>,
    /// The epoch whose weights it left, once it succeeded; from 1.
    pub kept_epoch: Option<u32>,
    /// Counts on the test images, once it succeeded.
    pub test: Option<Tally>,
    /// RFC 3339.
    pub submitted_at: String,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
}

/// Which runs.
#[derive(Clone, Debug, Default)]
pub struct RunFilter {
    /// This one alone.
    pub id: Option<RunId>,
    /// Of the data set of this name.
    pub dataset: Option<String>,
    /// Of this sweep.
    pub sweep: Option<SweepId>,
    /// In this state.
    pub status: Option<RunStatus>,
    /// Older than this one.
    pub before: Option<RunId>,
    /// At most so many.
    pub limit: Option<u32>,
}

impl Store {
    /// Runs, newest first.
    pub async fn runs(&self, filter: &RunFilter) -> Result<Vec<RunRow>> {
        let (id, before) = (filter.id.map(|id| id.0), filter.before.map(|id| id.0));
        let sweep = filter.sweep.map(|sweep| sweep.0);
        let status = filter.status.map(RunStatus::as_str);
        let limit = filter.limit.map_or(-1, i64::from);
        let rows = sqlx::query!(
            r#"select run.id, run.dataset_id, dataset.name as dataset, dataset.drawn as "drawn: bool", run.name, run.tags, run.note,
                      run.priority, run.spec, run.status, run.attempt_id, run.error, run.kept_epoch as "kept_epoch: u32", attempt.progress as "progress?",
                      tally.images as "images?", tally.coarse_correct as "coarse_correct?",
                      tally.ftct, tally.ftcf, tally.ffct, tally.ffcf,
                      run.submitted_at, run.started_at, run.finished_at
               from run
               join dataset on dataset.id = run.dataset_id
               left join attempt on attempt.id = run.attempt_id
               left join tally on tally.run_id = run.id and tally.split = 'test'
               where (?1 is null or run.id = ?1) and (?2 is null or dataset.name = ?2) and (?3 is null or run.status = ?3)
                 and (?4 is null or run.id < ?4)
                 and (?6 is null or run.id in (select run_id from sweep_run where sweep_id = ?6))
               order by run.id desc limit ?5"#,
            id,
            filter.dataset,
            status,
            before,
            limit,
            sweep
        )
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|row| {
                let test = row.images.zip(row.coarse_correct).map(|(images, coarse_correct)| {
                    let (ftct, ftcf, ffct, ffcf) = (row.ftct, row.ftcf, row.ffct, row.ffcf);
                    Tally::from(TallyRow { images, coarse_correct, ftct, ftcf, ffct, ffcf })
                });
                let spec: RunSpec = from_json("run.spec", &row.spec)?;
                Ok(RunRow {
                    id: RunId(row.id),
                    dataset_id: DatasetId(row.dataset_id),
                    dataset: row.dataset,
                    drawn: row.drawn,
                    name: row.name,
                    tags: from_json("run.tags", &row.tags)?,
                    note: row.note,
                    priority: row.priority.try_into().map_err(unknown)?,
                    spec_group: spec.group_key(),
                    spec,
                    status: word(&row.status)?,
                    attempt: row.attempt_id.map(AttemptId),
                    error: row.error,
                    progress: row.progress.as_deref().map(|text| from_json("attempt.progress", text)).transpose()?,
                    kept_epoch: row.kept_epoch,
                    test,
                    submitted_at: row.submitted_at,
                    started_at: row.started_at,
                    finished_at: row.finished_at,
                })
            })
            .collect()
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<RunRow> {
        let runs = self.runs(&RunFilter { id: Some(id), ..RunFilter::default() }).await?;
        runs.into_iter().next().ok_or_else(|| Error::NotFound(format!("there is no run {id}")))
    }

    /// The finished epochs of a run's latest attempt.
    pub async fn epochs(&self, run: RunId) -> Result<Vec<EpochPoint>> {
        Ok(sqlx::query_as!(
            EpochPoint,
            r#"select epoch as "epoch: u32", train_loss, validation_loss, validation_ia, validation_coarse_accuracy, learning_rate,
                      seconds
               from epoch where attempt_id = (select max(id) from attempt where run_id = ?) order by epoch"#,
            run.0
        )
        .fetch_all(&self.reader)
        .await?)
    }

    /// The last `limit` lines of a run's log, oldest first.
    pub async fn log(&self, run: RunId, limit: u32) -> Result<Vec<LogLine>> {
        let mut lines = sqlx::query_as!(
            LogLine,
            "select log_line.at, log_line.text from log_line join attempt on attempt.id = log_line.attempt_id
             where attempt.run_id = ? order by log_line.id desc limit ?",
            run.0,
            limit
        )
        .fetch_all(&self.reader)
        .await?;
        lines.reverse();
        Ok(lines)
    }

    /// The data set of the newest run, else the newest data set; `None` where there is none.
    pub async fn current_dataset(&self) -> Result<Option<String>> {
        Ok(sqlx::query_scalar!(
            "select name from dataset
             order by (select max(id) from run where run.dataset_id = dataset.id) desc nulls last, id desc limit 1"
        )
        .fetch_optional(&self.reader)
        .await?)
    }
}

impl Split {
    /// The split of the data set that holds this split's images: validation images are train images.
    pub(super) fn of_dataset(self) -> &'static str {
        match self {
            Split::Train | Split::Validation => "train",
            Split::Test => "test",
        }
    }
}
