//! Pooling over windows of an image.

mod average;
mod max;

pub use average::{adaptive_avg_pool2d, global_avg_pool};
pub use max::{Pool2dConfig, max_pool2d};
