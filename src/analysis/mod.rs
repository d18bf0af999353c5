//! Statistics of stored scores and outcomes. Pure: slices in, numbers out.

pub mod calibration;
pub mod columns;
pub mod confusion;
pub mod contribution;
pub mod decide;
pub mod interval;
pub mod intervention;
pub mod lookup;
pub mod macro_f1;
pub mod paired;
pub mod pr_curve;
pub mod ranking;
mod resample;
pub mod sweep;
pub mod tune;

pub use calibration::Calibration;
pub use columns::Columns;
pub use confusion::{Companions, Confusion};
pub use contribution::mean_contributions;
pub use decide::{Decision, Truth, decide, decide_all, judge_all, tally};
pub use interval::{Estimate, Interval, bootstrap_if1, wilson};
pub use intervention::{Interventions, intervene};
pub use lookup::{Reading, completeness, consistency, read_labels};
pub use macro_f1::MacroF1;
pub use paired::{Agreement, McNemar, McNemarMethod, Transitions, holm};
pub use pr_curve::PrPoint;
pub use ranking::{LabelCounts, Precisions, Ranking, affordable_resamples, average_precisions, label_counts};
pub use sweep::Separations;
pub use tune::tune;
