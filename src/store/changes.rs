//! What changed since when: revisions, which triggers of the database keep.

use super::Store;
use crate::{
    domain::RunId,
    error::{Error, Result},
};

/// How far the revisions of the database are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// Tells this database from others.
    pub database: String,
    /// The latest revision.
    pub latest: i64,
    /// Whoever has heard less than this may have missed a deletion that is not remembered any more.
    pub forgotten: i64,
}

/// One run that changed, as its latest revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The revision.
    pub revision: i64,
    /// The run.
    pub run: RunId,
    /// Whether it is no more.
    pub deleted: bool,
}

impl Store {
    /// How far the revisions are.
    pub async fn clock(&self) -> Result<Clock> {
        let row = sqlx::query_as!(Clock, "select database, value as latest, forgotten from revision")
            .fetch_optional(&self.reader)
            .await?;
        row.ok_or_else(|| Error::internal("the database has lost its revision", "the table is empty"))
    }

    /// Runs that changed after a revision, of all or of `only` one, in the order of their latest changes; at most `limit`.
    pub async fn changes(&self, after: i64, only: Option<RunId>, limit: u32) -> Result<Vec<Change>> {
        let only = only.map(|run| run.0);
        // One statement, so that it sees one moment: nothing changes between runs and deletions.
        let rows = sqlx::query!(
            r#"select revision as "revision!: i64", id as "run!: i64", false as "deleted!: bool" from run
               where revision > ?1 and (?2 is null or id = ?2)
               union all
               select revision, run_id, true from deleted_run where revision > ?1 and (?2 is null or run_id = ?2)
               order by 1 limit ?3"#,
            after,
            only,
            limit
        )
        .fetch_all(&self.reader)
        .await?;
        let change = |row: (i64, i64, bool)| Change { revision: row.0, run: RunId(row.1), deleted: row.2 };
        Ok(rows.into_iter().map(|row| change((row.revision, row.run, row.deleted))).collect())
    }
}
