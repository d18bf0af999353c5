//! Backbones × decision modes: the four indices of each, side by side.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::{
    DatasetBrief, Figure, Figures, PairedTest, PaperTable, Reports, RunBrief, paper_tables, reports::brief,
    rule::rule_words, transitions::Paired,
};
use crate::{
    analysis::holm,
    domain::{
        Counts, Judgements, RunId, RunStatus, Split, Tally,
        spec::{Backbone, Objective},
    },
    error::{Error, Result},
    store::{DatasetRow, RunRow},
};

/// The comparison of one data set's runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Comparison {
    /// The data set.
    pub dataset: DatasetBrief,
    /// Names of all data sets, for the selector.
    pub datasets: Vec<String>,
    /// One row per backbone that has runs, in the backbones' order.
    pub rows: Vec<ComparisonRow>,
    /// The run that the others are held against: the one asked for, else the one with the highest IA. `None` while there are
    /// no two runs to compare.
    #[serde(default)]
    pub base: Option<RunId>,
    /// Runs that are waiting or running, oldest first.
    pub pending: Vec<RunBrief>,
    /// How many runs of this data set failed or were canceled.
    pub unfinished: u64,
    /// The paper's figures, never mixed with measured ones.
    pub paper: Vec<PaperTable>,
}

/// One backbone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComparisonRow {
    /// The backbone.
    pub backbone: Backbone,
    /// Top-k softmax, then sigmoid threshold; a mode without a succeeded run is left out.
    pub cells: Vec<Cell>,
    /// The baseline without fine labels.
    pub coarse_only: Option<CoarseOnly>,
}

/// The newest (or chosen) group of runs of one backbone and mode: runs that differ in the seed alone.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
    /// Held against the base run; `None` for the base itself, for a group of several, and where there is no base.
    #[serde(default)]
    pub difference: Option<Difference>,
    /// All groups of this backbone and mode, newest first, this one included.
    pub groups: Vec<GroupChoice>,
}

/// A run held against the base run, on the same test images.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Difference {
    /// Its figures minus those of the base run, paired percentile bootstrap.
    pub figures: Figures,
    /// FTCT under the base run (A) and under this one (B), with McNemar's test, which tests IA alone.
    pub ftct: PairedTest,
    /// McNemar's p after Holm's correction for all comparisons with the base run on this page.
    pub p_adjusted: f64,
}

/// The coarse-only runs of a backbone.
#[derive(Clone, Debug, Serialize, Deserialize)]
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
#[derive(Clone, Debug, Serialize, Deserialize)]
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

/// Succeeded runs that differ in the seed alone, newest first.
struct Group<'a> {
    runs: Vec<(&'a RunRow, Tally)>,
}

impl Comparison {
    /// Sorts a data set's runs (newest first) into cells.
    pub(super) fn of(dataset: &DatasetRow, datasets: Vec<String>, runs: &[Arc<RunRow>], picks: &[RunId]) -> Self {
        let mut backbones: BTreeMap<Backbone, BTreeMap<Objective, Vec<Group>>> = BTreeMap::new();
        let mut places: HashMap<&str, usize> = HashMap::new();
        for run in runs {
            let Some(test) = run.test else { continue };
            let groups = backbones.entry(run.spec.backbone).or_default().entry(run.spec.objective).or_default();
            // Backbone and objective are among what a group agrees in.
            let place = *places.entry(&run.spec_group).or_insert(groups.len());
            match groups.get_mut(place) {
                Some(group) => group.add(run, test),
                None => groups.push(Group { runs: vec![(run, test)] }),
            }
        }
        let mut rows = Vec::new();
        for (backbone, objectives) in &backbones {
            let mut row = ComparisonRow { backbone: *backbone, cells: Vec::new(), coarse_only: None };
            for (objective, groups) in objectives {
                let picked = groups.iter().position(|group| group.runs.iter().any(|(run, _)| picks.contains(&run.id)));
                let chosen = picked.unwrap_or(0);
                match objective {
                    Objective::CoarseOnly => row.coarse_only = Some(CoarseOnly::of(groups, chosen)),
                    Objective::TopKSoftmax | Objective::SigmoidThreshold => {
                        row.cells.push(Cell::of(*objective, groups, chosen));
                    }
                }
            }
            rows.push(row);
        }
        let unfinished =
            runs.iter().filter(|run| matches!(run.status, RunStatus::Failed | RunStatus::Canceled)).count() as u64;
        let pending = runs.iter().rev().filter(|run| !run.status.is_final()).map(|run| brief(&**run)).collect();
        let base = None;
        Self { dataset: DatasetBrief::of(dataset), datasets, rows, base, pending, unfinished, paper: paper_tables() }
    }

    /// The cells of one run each, which can be held against another run.
    fn single(&self) -> impl Iterator<Item = (RunId, &Cell)> {
        self.rows.iter().flat_map(|row| &row.cells).filter_map(|cell| Some((cell.single()?, cell)))
    }
}

impl Reports {
    /// Holds the cells against a base run: the one asked for, else the one with the highest IA.
    pub(super) async fn hold_against(&self, comparison: &mut Comparison, base: Option<RunId>) -> Result<()> {
        let best = || {
            let defined = comparison.single().filter(|(_, cell)| cell.figures.ia.value.is_some());
            // Of equals the first one, as in the table.
            let best = defined.reduce(|best, next| match next.1.figures.ia.value > best.1.figures.ia.value {
                true => next,
                false => best,
            });
            best.map(|(run, _)| run)
        };
        let Some(base) = base.or_else(best) else { return Ok(()) };
        let row = self.succeeded(base).await?;
        if row.dataset != comparison.dataset.name {
            return Err(Error::Invalid(format!(
                "base: run {base} is of the data set “{}”, not of “{}”; only runs on the same test images are compared",
                row.dataset, comparison.dataset.name
            )));
        }
        if row.spec.own_rule().is_none() {
            return Err(Error::Invalid(format!(
                "base: run {base} is coarse-only and has no indices; name a run with fine labels"
            )));
        }
        let others: Vec<RunId> = comparison.single().map(|(run, _)| run).filter(|run| *run != base).collect();
        if others.is_empty() {
            return Ok(());
        }
        let paired = self.paired(base, &others).await?;
        let adjusted = holm(&paired.iter().map(|paired| paired.ftct.test.p).collect::<Vec<_>>());
        let mut differences: BTreeMap<RunId, Difference> = others
            .into_iter()
            .zip(paired.into_iter().zip(adjusted))
            .map(|(run, (Paired { differences: figures, ftct, .. }, p_adjusted))| {
                (run, Difference { figures, ftct, p_adjusted })
            })
            .collect();
        for cell in comparison.rows.iter_mut().flat_map(|row| &mut row.cells) {
            cell.difference = cell.single().and_then(|run| differences.remove(&run));
        }
        comparison.base = Some(base);
        Ok(())
    }

    /// Runs held against a base run, all under their own rules. What two runs are to each other never changes, and is kept.
    async fn paired(&self, base: RunId, others: &[RunId]) -> Result<Vec<Paired>> {
        let key = |run: &RunId| format!("{base} {run}");
        let mut missing = Vec::new();
        for run in others.iter().filter(|run| self.paired.get(&key(run)).is_none()) {
            missing.push((*run, self.own_judgements(*run).await?));
        }
        if !missing.is_empty() {
            let under_base = self.own_judgements(base).await?;
            let found = super::blocking(move || {
                let pair =
                    |(run, judgements): &(RunId, Arc<Judgements>)| Some((*run, Paired::of(&under_base, judgements)?));
                missing.par_iter().filter_map(pair).collect::<Vec<_>>()
            })
            .await?;
            found.into_iter().for_each(|(run, paired)| self.paired.put(key(&run), paired));
        }
        let found = others.iter().map(|run| self.paired.get(&key(run))).collect::<Option<Vec<_>>>();
        found
            .ok_or_else(|| Error::internal("runs were not held against each other", format!("base {base}, {others:?}")))
    }

    async fn own_judgements(&self, run: RunId) -> Result<Arc<Judgements>> {
        let row = self.store.run(run).await?;
        let rule = row.spec.own_rule();
        self.judgements(&row, Split::Test, rule.as_ref()).await
    }
}

impl Cell {
    fn of(objective: Objective, groups: &[Group], chosen: usize) -> Self {
        let group = &groups[chosen];
        let tests = group.tests();
        Self {
            objective,
            rule: group.newest().spec.own_rule().as_ref().map(rule_words).unwrap_or_default(),
            runs: group.ids(),
            counts: match tests.as_slice() {
                [test] => test.counts,
                _ => None,
            },
            figures: Figures::of_group(&tests),
            difference: None,
            groups: choices(groups, chosen),
        }
    }

    /// The run of a cell that is no group.
    pub fn single(&self) -> Option<RunId> {
        match self.runs.as_slice() {
            [run] => Some(*run),
            _ => None,
        }
    }
}

impl CoarseOnly {
    fn of(groups: &[Group], chosen: usize) -> Self {
        let group = &groups[chosen];
        let tests = group.tests();
        Self {
            runs: group.ids(),
            accuracy: Figures::of_group(&tests).coarse_accuracy,
            correct: match tests.as_slice() {
                [test] => Some(test.coarse_correct),
                _ => None,
            },
            total: tests[0].images,
            groups: choices(groups, chosen),
        }
    }
}

impl<'a> Group<'a> {
    /// An older run of a seed that is there already says nothing new.
    fn add(&mut self, run: &'a RunRow, test: Tally) {
        if self.runs.iter().all(|(other, _)| other.spec.seed != run.spec.seed) {
            self.runs.push((run, test));
        }
    }

    fn newest(&self) -> &RunRow {
        self.runs[0].0
    }

    fn ids(&self) -> Vec<RunId> {
        self.runs.iter().map(|(run, _)| run.id).collect()
    }

    fn tests(&self) -> Vec<Tally> {
        self.runs.iter().map(|(_, test)| *test).collect()
    }
}

fn choices(groups: &[Group], chosen: usize) -> Vec<GroupChoice> {
    groups
        .iter()
        .enumerate()
        .map(|(index, group)| {
            let newest = group.newest();
            let seeds = match group.runs.len() {
                1 => format!("seed {}", newest.spec.seed),
                seeds => format!("{seeds} seeds"),
            };
            GroupChoice {
                newest: newest.id,
                seeds: group.runs.len(),
                label: format!(
                    "run {}: {} px, {} epochs, {} {}, {seeds}",
                    newest.id,
                    newest.spec.input_size,
                    newest.spec.epochs,
                    newest.spec.optimizer,
                    newest.spec.learning_rate
                ),
                chosen: index == chosen,
            }
        })
        .collect()
}
