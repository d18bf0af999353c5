//! Backbones × decision modes: the four indices of each, side by side.

use serde::Serialize;

use super::{DatasetBrief, Figure, Figures, PaperTable, RunBrief};
use crate::domain::{
    Counts, RunId,
    spec::{Backbone, Objective},
};

/// The comparison of one data set's runs.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The data set.
    pub dataset: DatasetBrief,
    /// Names of all data sets, for the selector.
    pub datasets: Vec<String>,
    /// One row per backbone that has runs, in the backbones' order.
    pub rows: Vec<ComparisonRow>,
    /// Runs that are waiting or running, oldest first.
    pub pending: Vec<RunBrief>,
    /// How many runs of this data set failed or were canceled.
    pub unfinished: u64,
    /// The paper's figures, never mixed with measured ones.
    pub paper: Vec<PaperTable>,
}

/// One backbone.
#[derive(Clone, Debug, Serialize)]
pub struct ComparisonRow {
    /// The backbone.
    pub backbone: Backbone,
    /// Top-k softmax, then sigmoid threshold; a mode without a succeeded run is left out.
    pub cells: Vec<Cell>,
    /// The baseline without fine labels.
    pub coarse_only: Option<CoarseOnly>,
}

/// The newest (or chosen) group of runs of one backbone and mode: runs that differ in the seed alone.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// The mode.
    pub objective: Objective,
    /// The decision rule in words, such as “top-k, k = true number of labels (oracle)” or “p > 0.7”.
    pub rule: String,
    /// The runs of the group, newest first.
    pub runs: Vec<RunId>,
    /// Counts of the one run; `None` for a group of several.
    pub counts: Option<Counts>,
    /// The indices: of the run with intervals, or mean and spread over the group.
    pub figures: Figures,
    /// All groups of this backbone and mode, newest first, this one included.
    pub groups: Vec<GroupChoice>,
}

/// The coarse-only runs of a backbone.
#[derive(Clone, Debug, Serialize)]
pub struct CoarseOnly {
    /// The runs of the group, newest first.
    pub runs: Vec<RunId>,
    /// Table 2's “unexplainable accuracy”.
    pub accuracy: Figure,
    /// Images with the right category; `None` for a group of several.
    pub correct: Option<u64>,
    /// All test images.
    pub total: u64,
    /// All groups, newest first, this one included.
    pub groups: Vec<GroupChoice>,
}

/// A group that can be chosen for a cell.
#[derive(Clone, Debug, Serialize)]
pub struct GroupChoice {
    /// Its newest run, which names the group in `pick=`.
    pub newest: RunId,
    /// How many seeds it has.
    pub seeds: usize,
    /// What tells it from the others, in words: name, epochs, input size, …
    pub label: String,
    /// Whether it is the one shown.
    pub chosen: bool,
}
