//! Statistics of stored scores and outcomes. Pure: slices in, numbers out.

pub mod decide;
pub mod interval;

pub use decide::{Decision, Truth, decide};
pub use interval::{Interval, bootstrap_if1, wilson};
