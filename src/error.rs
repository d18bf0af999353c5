//! The one error type of the application. The web shows it with two faces: a page, or an RFC 9457 problem document.

use std::error::Error as StdError;

/// What can go wrong between a request and its answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The thing asked for does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The request is wrong; the text says what is wrong and what to do.
    #[error("{0}")]
    Invalid(String),
    /// The request is fine in itself and does not fit the present state.
    #[error("{0}")]
    Conflict(String),
    /// More is being asked at once than can be answered; try again.
    #[error("{0}")]
    Busy(String),
    /// Our fault. Logged once, at the edge, and never shown.
    #[error("{context}")]
    Internal {
        /// What was being done.
        context: String,
        /// Why it failed.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
}

/// Results of the application.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An internal error from its cause and what was being done.
    pub fn internal(context: impl Into<String>, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal { context: context.into(), source: source.into() }
    }
}

/// SQLite's primary result codes of what the machine is to blame for: <https://sqlite.org/rescode.html>.
const TROUBLES: [(i32, &str); 5] = [
    (5, "another program has locked the database"),
    (6, "another program has locked the database"),
    (8, "the database cannot be written any more"),
    (10, "the disk of the database cannot be read or written"),
    (13, "the disk of the database is full"),
];

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        let code = error.as_database_error().and_then(|error| error.code()?.parse::<i32>().ok());
        match TROUBLES.iter().find(|(primary, _)| code.is_some_and(|code| code & 0xff == *primary)) {
            Some((_, trouble)) => {
                tracing::error!(%error, "{trouble}");
                Self::Busy(format!("{trouble}; nothing was changed: try again when that is mended"))
            }
            None => Self::internal("the database refused", error),
        }
    }
}
