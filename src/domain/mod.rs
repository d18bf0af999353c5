//! What Twograin talks about, free of any machinery: labels, decisions, outcomes, indices, run specifications.
//!
//! Pure: serde is the only dependency. A value of these types is valid; parsing happens at the edge.

pub mod annotation;
pub mod decision;
pub mod ids;
pub mod indices;
pub mod judgements;
pub mod label_set;
pub mod outcome;
pub mod priority;
pub mod progress;
pub mod run_state;
pub mod slurm;
pub mod spec;
pub mod submission;
pub mod sweep;
pub mod taxonomy;

pub use annotation::{SavedView, Tag};
pub use decision::{DecisionRule, Threshold, TopK};
pub use ids::{AttemptId, CoarseId, DatasetId, FineId, ImageId, RunId, SweepId};
pub use indices::{Indices, ratio};
pub use judgements::Judgements;
pub use label_set::LabelSet;
pub use outcome::{Counts, Outcome, Tally};
pub use priority::Priority;
pub use progress::{EpochPoint, LogLine, Progress};
pub use run_state::{RunStatus, Split};
pub use slurm::SlurmOptions;
pub use spec::RunSpec;
pub use submission::{RunLabels, Submission};
pub use sweep::{Seeds, SingleRun, Sweep};
pub use taxonomy::Taxonomy;
