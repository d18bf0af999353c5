//! Files in and out.

pub mod container;
pub mod scores;
pub mod table;

pub use container::Sha256Hex;
pub use scores::{FineScores, ScoreActivation, ScoreFileError, Scores};
