//! Statistics of stored scores and outcomes. Pure: slices in, numbers out.

pub mod columns;
pub mod decide;
pub mod interval;
pub mod paired;
pub mod ranking;

pub use columns::Columns;
pub use decide::{Decision, Truth, decide, decide_all, judge_all, tally};
pub use interval::{Estimate, Interval, bootstrap_if1, wilson};
pub use paired::{Agreement, McNemar, McNemarMethod, Transitions};
pub use ranking::{LabelCounts, Precisions, Ranking, average_precisions, label_counts};
