//! Runs as they are read: rows and epochs.

use std::cmp::Reverse;

use super::{Store, from_json, outcomes::TallyRow, to_json, unknown, word};
use crate::{
    domain::{
        AttemptId, DatasetId, EpochPoint, Priority, Progress, RunId, RunSpec, RunStatus, SlurmOptions, Split, SweepId,
        Tally,
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
    /// What its jobs ask of a Slurm cluster; empty where it asked for nothing.
    pub slurm: SlurmOptions,
    /// Where it is in its life.
    pub status: RunStatus,
    /// The attempt that runs.
    pub attempt: Option<AttemptId>,
    /// Somebody asked it to stop.
    pub cancel_requested: bool,
    /// Why it failed.
    pub error: Option<String>,
    /// Of the attempt that runs.
    pub progress: Option<Progress>,
    /// The epoch whose weights it left, once it succeeded; from 1.
    pub kept_epoch: Option<u32>,
    /// What its files take, once it has ended and they were measured.
    pub disk_bytes: Option<u64>,
    /// Counts on the test images, once it succeeded.
    pub test: Option<Tally>,
    /// RFC 3339.
    pub submitted_at: String,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
}

impl Store {
    /// All of them, newest first.
    pub async fn all_runs(&self) -> Result<Vec<RunRow>> {
        let ids = sqlx::query_scalar!("select id from run").fetch_all(&self.reader).await?;
        self.runs(&ids.into_iter().map(RunId).collect::<Vec<_>>()).await
    }

    /// Those of a sweep, newest first.
    pub async fn runs_of_sweep(&self, sweep: SweepId) -> Result<Vec<RunRow>> {
        let ids = sqlx::query_scalar!("select run_id from sweep_run where sweep_id = ?", sweep.0);
        let ids: Vec<RunId> = ids.fetch_all(&self.reader).await?.into_iter().map(RunId).collect();
        self.runs(&ids).await
    }

    /// Those of these numbers that there are, newest first.
    pub async fn runs(&self, ids: &[RunId]) -> Result<Vec<RunRow>> {
        let ids = to_json(&ids)?;
        let rows = sqlx::query!(
            r#"select run.id, run.dataset_id, dataset.name as dataset, dataset.drawn as "drawn: bool", run.name, run.tags, run.note,
                      run.priority, run.spec, run.slurm, run.status, run.attempt_id, run.cancel_requested as "cancel_requested: bool", run.error, run.kept_epoch as "kept_epoch: u32", run.disk_bytes, attempt.progress as "progress?",
                      tally.images as "images?", tally.coarse_correct as "coarse_correct?",
                      tally.ftct, tally.ftcf, tally.ffct, tally.ffcf,
                      run.submitted_at, run.started_at, run.finished_at
               from json_each(?) as wanted
               cross join run on run.id = wanted.value
               join dataset on dataset.id = run.dataset_id
               left join attempt on attempt.id = run.attempt_id
               left join tally on tally.run_id = run.id and tally.split = 'test'"#,
            ids
        )
        .fetch_all(&self.reader)
        .await?;
        let runs: Result<Vec<RunRow>> = rows
            .into_iter()
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
                    slurm: slurm_options(row.slurm.as_deref())?,
                    status: word(&row.status)?,
                    attempt: row.attempt_id.map(AttemptId),
                    cancel_requested: row.cancel_requested,
                    error: row.error,
                    progress: row.progress.as_deref().map(|text| from_json("attempt.progress", text)).transpose()?,
                    kept_epoch: row.kept_epoch,
                    disk_bytes: row.disk_bytes.map(i64::unsigned_abs),
                    test,
                    submitted_at: row.submitted_at,
                    started_at: row.started_at,
                    finished_at: row.finished_at,
                })
            })
            .collect();
        let mut runs = runs?;
        runs.sort_unstable_by_key(|run| Reverse(run.id));
        Ok(runs)
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<RunRow> {
        let runs = self.runs(&[id]).await?;
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

/// What a run asks of a cluster.
pub(super) fn slurm_options(column: Option<&str>) -> Result<SlurmOptions> {
    column.map_or_else(|| Ok(SlurmOptions::default()), |text| from_json("run.slurm", text))
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
