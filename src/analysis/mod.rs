//! Statistics of stored scores and outcomes. Pure: slices in, numbers out.

pub mod decide;
pub mod interval;

pub use decide::{Decision, Truth, decide, decide_all, tally};
pub use interval::{Interval, bootstrap_if1, wilson};
