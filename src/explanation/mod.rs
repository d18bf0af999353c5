//! Why a model decided as it did, for one image.

pub mod decision_path;

pub use decision_path::{CoarseEvidence, DecisionPath, FineEvidence, Head, coarse_only_path, decision_path};
