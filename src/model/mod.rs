//! The two-level classifier: backbones, head, losses, weights.
//!
//! Everything computes in the dtype it was built with: float32 in a run, float64 where a test compares with a reference.

pub mod classifier;
pub mod densenet;
pub mod efficientnet;
pub mod layers;
pub mod loss;
pub mod parameters;
pub mod resnet;
pub mod vgg;

pub use classifier::{Classifier, Logits, ModelSpec, Network, Output, Predictor};
pub use layers::{Mode, Prepared};
pub use loss::{Loss, LossSpec, Targets};
pub use parameters::{Difference, Init, Parameters, Snapshot, WeightsError};
pub use twograin_ops::Tape;
