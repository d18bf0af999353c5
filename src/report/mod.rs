//! What pages and API show, as plain serialisable values: a page and its API call the same function, so a page's JSON
//! equals what it shows.
//!
//! No SQL and no candle: everything comes from the store's rows and score files.

mod bottleneck;
mod categories;
mod category;
mod changes;
mod class;
mod comparison;
mod curves;
mod dataset;
mod dataset_images;
mod decision;
mod disk;
mod evidence;
mod export;
mod figure;
mod frozen;
mod head_weights;
mod known;
mod label;
mod labels;
mod outcomes;
mod paper;
mod prediction;
mod reports;
mod rule;
mod run;
mod sort;
mod sweep;
mod transitions;
mod tuning;

pub use bottleneck::{
    BottleneckQuery, BottleneckReport, CompletenessReport, ConsistencyReport, InterventionReport, LookupReport,
};
pub use categories::{CategoriesReport, CategoryFigures};
pub use category::{CategoryEvidence, CategoryReport, ConfusedCategory, LabelEvidence, MeanContribution};
pub use changes::{Changed, Position};
pub use class::{CalibrationBin, CalibrationReport, ClassFigures, PrecisionRecall, WrongImage};
pub use comparison::{Cell, CoarseOnly, Comparison, ComparisonRow, Difference, GroupChoice};
pub use curves::{Along, Curve, CurvePoint, CurvesQuery, CurvesReport, MAX_CURVES, Measure};
pub use dataset::{CategoryCount, DatasetBrief, DatasetReport, FunnelReport, LabelCount};
pub use dataset_images::{
    Agreement as RunAgreement, DatasetColumn, DatasetImage, DatasetImages, DatasetImagesQuery, ShownRun,
};
pub use decision::{
    AgainstOwn, BestSteps, BestThreshold, BestThresholds, DecisionQuery, DecisionReport, Over, RuleStep, RuleSweep,
    RuleSweepQuery,
};
pub use disk::bytes_words;
pub use export::{OutcomeExport, comparison_caption, comparison_table};
pub use figure::{Figure, Figures};
pub use frozen::{Examples, FileStamp, Frozen, ImagesOf, RunStamp};
pub use head_weights::{CategoryWeights, HeadWeights, LabelWeight, LabelWeights};
pub use label::{CompanionLabel, CompanionList, LabelReport};
pub use labels::{LabelColumn, LabelFigures, LabelMeans, LabelsQuery, LabelsReport};
pub use outcomes::{
    ImageColumn, ImageReport, MissedLabel, OutcomeItem, OutcomePage, OutcomeQuery, OutcomeUnder, ScoredLabel,
};
pub use paper::{PaperRow, PaperTable, paper_tables};
pub use prediction::{Contribution, PredictedCategory, PredictedLabel, Prediction, PredictionQuery, RunDecision};
pub use reports::{IndicesQuery, Reports, RunQuery};
pub use rule::{RuleQuery, rule_words};
pub use run::{Attempt, IndicesReport, RunBrief, RunReport, RunResults, SubmittedRun};
pub use sort::{Column, Sort};
pub use sweep::{SweepBrief, SweepCounts, SweepDetail, SweepItem, SweepLink, SweepMember, SweepQuery, SweepReport};
pub use transitions::{ComparedRun, PairedTest, TransitionsQuery, TransitionsReport};
pub use tuning::{MacroF1Gain, TunedLabel, TuningReport};

pub use crate::{
    domain::{EpochPoint, LogLine, Progress},
    store::DiskUsage,
};

use serde::{Deserialize, Serialize};

use crate::{
    domain::RunId,
    error::{Error, Result},
};

/// A part of a list, and where it goes on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Listing<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// To be passed as `cursor` for what follows; `null` at the end.
    pub next_cursor: Option<String>,
}

/// A run has a decision rule iff it has fine scores.
fn no_fine_scores(run: RunId) -> Error {
    Error::internal("a run with a decision rule has no fine scores", format!("run {run}"))
}

/// What is asked for needs fine scores.
fn coarse_only(run: RunId) -> Error {
    Error::Invalid(format!("run {run} is coarse-only: it has no scores of fine labels"))
}

/// Computes on a thread that may take its time.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Error::internal("a report was not computed", error))
}
