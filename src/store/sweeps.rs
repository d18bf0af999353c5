//! Sweeps: runs submitted together, kept as a group. One disappears with its last run, which the schema sees to.

use sqlx::SqliteConnection;

use super::{RunRow, Store, from_json, to_json, word};
use crate::{
    domain::{Progress, RunId, RunStatus, SweepId},
    error::{Error, Result},
};

/// A sweep as recorded.
#[derive(Clone, Debug)]
pub struct SweepRow {
    /// Its number.
    pub id: SweepId,
    /// Its name.
    pub name: String,
    /// RFC 3339.
    pub submitted_at: String,
}

/// How far one run is.
#[derive(Clone, Debug)]
pub struct RunState {
    /// Where it is in its life.
    pub status: RunStatus,
    /// Of the attempt that runs.
    pub progress: Option<Progress>,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
}

impl From<&RunRow> for RunState {
    fn from(row: &RunRow) -> Self {
        let RunRow { status, progress, started_at, finished_at, .. } = row.clone();
        Self { status, progress, started_at, finished_at }
    }
}

impl Store {
    /// Sweeps older than `before`, newest first.
    pub async fn sweeps(&self, before: Option<SweepId>, limit: u32) -> Result<Vec<SweepRow>> {
        let before = before.map(|id| id.0);
        let rows = sqlx::query!(
            "select id, name, submitted_at from sweep where ?1 is null or id < ?1 order by id desc limit ?2",
            before,
            limit
        )
        .fetch_all(&self.reader)
        .await?;
        let row = |id, name, submitted_at| SweepRow { id: SweepId(id), name, submitted_at };
        Ok(rows.into_iter().map(|found| row(found.id, found.name, found.submitted_at)).collect())
    }

    /// One sweep.
    pub async fn sweep(&self, id: SweepId) -> Result<SweepRow> {
        let row = sqlx::query!("select name, submitted_at from sweep where id = ?", id.0)
            .fetch_optional(&self.reader)
            .await?
            .ok_or_else(|| Error::NotFound(format!("there is no sweep {id}")))?;
        Ok(SweepRow { id, name: row.name, submitted_at: row.submitted_at })
    }

    /// How far each run of these sweeps is.
    pub async fn sweep_states(&self, sweeps: &[SweepId]) -> Result<Vec<(SweepId, RunState)>> {
        let sweeps = to_json(&sweeps)?;
        let rows = sqlx::query!(
            r#"select sweep_run.sweep_id, run.status, run.started_at, run.finished_at, attempt.progress as "progress?"
               from sweep_run join run on run.id = sweep_run.run_id left join attempt on attempt.id = run.attempt_id
               where sweep_run.sweep_id in (select value from json_each(?))"#,
            sweeps
        )
        .fetch_all(&self.reader)
        .await?;
        rows.into_iter()
            .map(|row| {
                let state = RunState {
                    status: word(&row.status)?,
                    progress: row.progress.as_deref().map(|text| from_json("attempt.progress", text)).transpose()?,
                    started_at: row.started_at,
                    finished_at: row.finished_at,
                };
                Ok((SweepId(row.sweep_id), state))
            })
            .collect()
    }

    /// The sweeps that a run belongs to, oldest first.
    pub async fn sweeps_of(&self, run: RunId) -> Result<Vec<SweepRow>> {
        let rows = sqlx::query!(
            "select id, name, submitted_at from sweep join sweep_run on sweep_run.sweep_id = sweep.id
             where run_id = ? order by id",
            run.0
        )
        .fetch_all(&self.reader)
        .await?;
        let row = |id, name, submitted_at| SweepRow { id: SweepId(id), name, submitted_at };
        Ok(rows.into_iter().map(|found| row(found.id, found.name, found.submitted_at)).collect())
    }
}

/// Keeps `runs` as a sweep. Where none of them is new, the sweep that has just these already is answered.
pub(super) async fn keep(
    connection: &mut SqliteConnection,
    name: &str,
    (runs, any_new): (&[RunId], bool),
    now: &str,
) -> Result<SweepId> {
    let (members, count) = (to_json(&runs)?, runs.len() as i64);
    if !any_new {
        let same = sqlx::query_scalar!(
            r#"select sweep_id as "id!" from sweep_run group by sweep_id
             having count(*) = ?1 and sum(run_id in (select value from json_each(?2))) = ?1
             order by sweep_id desc limit 1"#,
            count,
            members
        )
        .fetch_optional(&mut *connection)
        .await?;
        if let Some(same) = same {
            return Ok(SweepId(same));
        }
    }
    let id =
        sqlx::query_scalar!(r#"insert into sweep (name, submitted_at) values (?, ?) returning id as "id!""#, name, now)
            .fetch_one(&mut *connection)
            .await?;
    sqlx::query!("insert into sweep_run (sweep_id, run_id) select ?, value from json_each(?)", id, members)
        .execute(connection)
        .await?;
    Ok(SweepId(id))
}
