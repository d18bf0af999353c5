//! The files beside the database: what they take, and which are not needed any more.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::{Store, to_json};
use crate::{
    domain::{AttemptId, RunId},
    error::{Error, Result},
    worker::completion_file,
};

/// In an attempt's directory.
const CHECKPOINTS: &str = "checkpoints";

/// What the program's own files take on disk, in bytes: all but the database and the images of data sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DiskUsage {
    /// Scores, weights and checkpoints of all runs. They go with their runs.
    pub runs_bytes: u64,
    /// Features of frozen backbones, which go by themselves.
    pub feature_cache_bytes: u64,
    /// Thumbnails.
    pub thumbnails_bytes: u64,
    /// All of these.
    pub total_bytes: u64,
}

impl Store {
    /// Where an attempt keeps its checkpoints, and where earlier attempts at its run kept theirs.
    pub async fn checkpoints(&self, attempt: AttemptId) -> Result<(PathBuf, Vec<PathBuf>)> {
        let directory = self.attempt_directory(attempt).await?;
        blocking(move || {
            let attempts = directory.parent().map(children).unwrap_or_default();
            let earlier = attempts.into_iter().filter(|other| *other != directory).map(|other| other.join(CHECKPOINTS));
            (directory.join(CHECKPOINTS), earlier.filter(|checkpoints| checkpoints.is_dir()).collect())
        })
        .await
    }

    /// Where the server leaves an attempt's [`Assignment`](crate::worker::address::Assignment).
    pub async fn assignment_file(&self, attempt: AttemptId) -> Result<PathBuf> {
        Ok(self.attempt_directory(attempt).await?.join("assignment.json"))
    }

    /// Deletes what a run that succeeded with this attempt needs no more: checkpoints, and all but the logs of the attempts
    /// before.
    pub async fn drop_checkpoints(&self, attempt: AttemptId) -> Result<()> {
        let directory = self.attempt_directory(attempt).await?;
        blocking(move || {
            let attempts = directory.parent().map(children).unwrap_or_default();
            let others = attempts.into_iter().filter(|other| *other != directory && other.is_dir());
            others.chain([directory.join(CHECKPOINTS)]).for_each(|path| delete(&path, fs::remove_dir_all(&path)));
        })
        .await
    }

    /// Deletes what worker and server told each other in files, once the attempt is over.
    pub async fn drop_messages(&self, attempt: AttemptId) -> Result<()> {
        let messages = [self.assignment_file(attempt).await?, completion_file(&self.attempt_directory(attempt).await?)];
        blocking(move || messages.iter().for_each(|path| delete(path, fs::remove_file(path)))).await
    }

    /// What the files of each of these runs take, in bytes: as was measured, else looked at now.
    pub async fn disk_bytes(&self, runs: &[RunId]) -> Result<Vec<u64>> {
        let ids = to_json(&runs)?;
        let measured = sqlx::query!(
            r#"select id, disk_bytes as "bytes!" from run where id in (select value from json_each(?)) and disk_bytes is not null"#,
            ids
        )
        .fetch_all(&self.reader)
        .await?;
        let mut known: HashMap<RunId, u64> =
            measured.into_iter().map(|row| (RunId(row.id), row.bytes.unsigned_abs())).collect();
        let others: Vec<RunId> = runs.iter().filter(|run| !known.contains_key(run)).copied().collect();
        known.extend(others.iter().copied().zip(self.look_at(others.clone()).await?));
        Ok(runs.iter().map(|run| known[run]).collect())
    }

    async fn look_at(&self, runs: Vec<RunId>) -> Result<Vec<u64>> {
        let directory = self.data_dir.join("runs");
        blocking(move || runs.iter().map(|run| size(&directory.join(run.to_string()))).collect()).await
    }

    /// Notes what the files of a run take, if it has ended: from then on nobody writes to them.
    pub async fn measure(&self, run: RunId) -> Result<()> {
        for bytes in self.look_at(vec![run]).await? {
            let bytes = bytes.cast_signed();
            sqlx::query!(
                "update run set disk_bytes = ? where id = ? and status in ('succeeded', 'failed', 'canceled')",
                bytes,
                run.0
            )
            .execute(&self.writer)
            .await?;
        }
        Ok(())
    }

    /// Runs whose files were not measured: those that have not ended, and those that ended before it was known how.
    pub async fn unmeasured(&self) -> Result<Vec<RunId>> {
        let ids = sqlx::query_scalar!("select id from run where disk_bytes is null").fetch_all(&self.reader).await?;
        Ok(ids.into_iter().map(RunId).collect())
    }

    /// What all of the program's own files take.
    pub async fn disk_usage(&self) -> Result<DiskUsage> {
        let measured = sqlx::query_scalar!(
            r#"select coalesce(sum(disk_bytes), 0) as "bytes!: i64" from run where disk_bytes is not null"#
        )
        .fetch_one(&self.reader)
        .await?;
        let others: u64 = self.look_at(self.unmeasured().await?).await?.into_iter().sum();
        let (runs_bytes, data_dir) = (measured.unsigned_abs() + others, self.data_dir.clone());
        blocking(move || {
            let [feature_cache_bytes, thumbnails_bytes] =
                ["cache/features", "thumbnails"].map(|name| size(&data_dir.join(name)));
            let total_bytes = runs_bytes + feature_cache_bytes + thumbnails_bytes;
            DiskUsage { runs_bytes, feature_cache_bytes, thumbnails_bytes, total_bytes }
        })
        .await
    }
}

/// What cannot be deleted costs space alone, and goes with the run.
fn delete(path: &Path, deleted: io::Result<()>) {
    match deleted {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, "{} could not be deleted", path.display());
        }
        Ok(()) | Err(_) => {}
    }
}

/// File systems may be slow.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("files were not looked at", error))
}

/// What is in a directory; nothing where there is none.
fn children(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
}

/// Of a file, or of all files in a directory; 0 for what goes away meanwhile. Links are not followed.
fn size(path: &Path) -> u64 {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => children(path).iter().map(|path| size(path)).sum(),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    }
}
