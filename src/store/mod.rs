//! All of the SQL, and the attempts' files by path and hash.
//!
//! One writer connection, so that writers queue here instead of meeting a busy database, and a pool of readers that WAL
//! lets read meanwhile. Big writes are one statement over a JSON parameter that was prepared outside the transaction.

mod annotations;
mod attempts;
mod changes;
mod datasets;
mod files;
mod finished;
mod network_file_system;
mod order;
mod outcomes;
mod queue;
mod runs;
mod submit;
mod sweeps;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use sqlx::{
    Connection, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::error::{Error, Result};

pub use annotations::ListedImage;
pub use attempts::AttemptRow;
pub use changes::{Change, Clock};
pub use datasets::{DatasetRow, ImageRow, NewDataset, labels_only};
pub use files::DiskUsage;
pub use finished::FinishedRun;
pub use order::QueueState;
pub use outcomes::{NewOutcomes, Truths};
pub use queue::{Claim, Ending, Underway};
pub use runs::RunRow;
pub use submit::Submitted;
pub use sweeps::{RunState, SweepRow};

/// Where the data are.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// Scores, weights, images of the demo, and the database unless `database` says otherwise.
    pub data_dir: PathBuf,
    /// The database file; by default `twograin.db` in the data directory.
    pub database: Option<PathBuf>,
}

/// The database and the data directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    data_dir: PathBuf,
    reader: SqlitePool,
    writer: SqlitePool,
}

impl Store {
    /// Opens the store, creating directory and database and applying migrations where needed.
    pub async fn open(config: &StoreConfig) -> Result<Self> {
        let data_dir = config.data_dir.clone();
        std::fs::create_dir_all(&data_dir)
            .map_err(|error| Error::Invalid(format!("the data directory {}: {error}", data_dir.display())))?;
        let data_dir = std::path::absolute(&data_dir)
            .map_err(|error| Error::Invalid(format!("the data directory {}: {error}", data_dir.display())))?;
        let database = config.database.clone().unwrap_or_else(|| data_dir.join("twograin.db"));
        network_file_system::refuse(&database)?;

        let options = SqliteConnectOptions::new()
            .filename(&database)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(10));
        let cannot = |error: sqlx::Error| Error::Invalid(format!("the database {}: {error}", database.display()));
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            // SQLite ends a transaction by itself when the disk is full, and sqlx does not hear of it: such a connection would
            // refuse every transaction from then on.
            .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(cannot)?;
        sqlx::migrate!().run(&writer).await.map_err(|error| {
            Error::Invalid(format!(
                "the database {} does not fit this version of twograin: {error}; use the version that wrote it, or another \
                 data directory",
                database.display()
            ))
        })?;
        let reader = SqlitePoolOptions::new()
            .max_connections(8)
            // A file does not hang up: there is nothing to test.
            .test_before_acquire(false)
            .connect_with(options.create_if_missing(false).read_only(true))
            .await
            .map_err(cannot)?;
        Ok(Self { data_dir, reader, writer })
    }

    /// The data directory, absolute.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }
}

/// A column that holds JSON which this program wrote.
fn from_json<T: serde::de::DeserializeOwned>(column: &str, text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|error| Error::internal(format!("the column {column} does not parse"), error))
}

fn to_json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::internal("a value does not serialise", error))
}

/// A column that holds a word of ours, such as a status.
fn word<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T> {
    text.parse().map_err(unknown)
}

fn unknown(error: String) -> Error {
    Error::internal("the database holds an unknown word", error)
}
