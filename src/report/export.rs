//! Reports as plain tables, for other programs.

use std::sync::Arc;

use super::{
    Cell, CoarseOnly, Comparison, ComparisonRow, Difference, Figure, Figures, OutcomeItem, OutcomeQuery, Reports,
    outcomes::Asked,
};
use crate::{
    domain::{
        Counts, Outcome, RunId,
        spec::{Backbone, Objective},
    },
    error::{Error, Result},
    exchange::table::{Column, Table, Values},
};

/// Rows of a part of a long table, at most.
const MAX_ROWS: usize = 10_000;
/// Fine labels that a part may name, where each image were said to have all.
const MAX_LABELS: usize = 1_000_000;

/// What a run decided for each image, as a table in parts, so that its length costs no memory.
pub struct OutcomeExport {
    reports: Reports,
    asked: Arc<Asked>,
    rows: std::vec::IntoIter<usize>,
    begun: bool,
}

impl Reports {
    /// All images of a run that fit a query, as `/api/v1/runs/{id}/outcomes` lists them.
    pub async fn export_outcomes(&self, id: RunId, query: &OutcomeQuery) -> Result<OutcomeExport> {
        if query.cursor.is_some() || query.limit.is_some() {
            return Err(Error::Invalid("cursor, limit: an export has all images that fit; leave them out".into()));
        }
        let (asked, rows) = self.fitting(id, query).await?;
        Ok(OutcomeExport { reports: self.clone(), asked, rows: rows.into_iter(), begun: false })
    }
}

impl OutcomeExport {
    /// The next part, at least one; `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Table>> {
        let most = (MAX_LABELS / self.asked.fine_labels_known().max(1)).clamp(1, MAX_ROWS);
        let rows: Vec<usize> = self.rows.by_ref().take(most).collect();
        if rows.is_empty() && self.begun {
            return Ok(None);
        }
        self.begun = true;
        let items = self.reports.items(&self.asked, rows).await?;
        super::blocking(move || Some(outcomes(items))).await
    }
}

fn outcomes(items: Vec<OutcomeItem>) -> Table {
    let reals = |of: fn(&OutcomeItem) -> f64| Values::Real(items.iter().map(|item| Some(of(item))).collect());
    let texts = |of: fn(&OutcomeItem) -> Option<&str>| {
        Values::Text(items.iter().map(|item| of(item).map(str::to_owned)).collect())
    };
    let lists = |of: fn(&OutcomeItem) -> Option<Vec<String>>| Values::List(items.iter().map(of).collect());
    Table::new(vec![
        Column::new("source_id", Values::Integer(items.iter().map(|item| Some(item.source_id)).collect())),
        Column::new("file_name", texts(|item| Some(&item.file_name))),
        Column::new("outcome", texts(|item| item.outcome.map(Outcome::code))),
        Column::new("coarse_correct", Values::Flag(items.iter().map(|item| Some(item.coarse_correct)).collect())),
        Column::new("true_category", texts(|item| Some(&item.true_coarse))),
        Column::new("predicted_category", texts(|item| Some(&item.predicted_coarse))),
        Column::new("coarse_probability", reals(|item| item.coarse_probability)),
        Column::new("margin", reals(|item| item.margin)),
        Column::new("loss", reals(|item| item.loss)),
        Column::new("true_labels", lists(|item| Some(item.true_fine.clone()))),
        Column::new(
            "predicted_labels",
            lists(|item| Some(item.predicted_fine.as_ref()?.iter().map(|label| label.name.clone()).collect())),
        ),
        Column::new("tags", lists(|item| Some(item.tags.clone()))),
        Column::new("note", texts(|item| item.note.as_deref())),
    ])
}

/// A backbone with one of its modes, and with its coarse-only runs.
type Row<'a> = (Backbone, Option<&'a Cell>, Option<&'a CoarseOnly>);

/// A row for each backbone and mode that decides fine labels; one without a mode where there are coarse-only runs alone.
fn rows(row: &ComparisonRow) -> Vec<Row<'_>> {
    let with = |cell| (row.backbone, cell, row.coarse_only.as_ref());
    if row.cells.is_empty() { vec![with(None)] } else { row.cells.iter().map(|cell| with(Some(cell))).collect() }
}

/// The comparison as a table: a row for each backbone and mode, with the accuracy of the backbone's coarse-only runs beside it,
/// and the difference of IA to the base run. Undefined are the counts of a group of several runs, and a mode that there is not.
pub fn comparison_table(comparison: &Comparison) -> Table {
    let rows: Vec<Row> = comparison.rows.iter().flat_map(rows).collect();
    let texts = |of: &dyn Fn(&Row) -> Option<String>| Values::Text(rows.iter().map(of).collect());
    let integers = |of: &dyn Fn(&Row) -> Option<u64>| {
        Values::Integer(rows.iter().map(|row| of(row).map(u64::cast_signed)).collect())
    };
    let count = |of: fn(Counts) -> u64| integers(&|(_, cell, _)| cell.and_then(|cell| cell.counts).map(of));
    let ids = |of: &dyn Fn(&Row) -> Option<Vec<RunId>>| {
        let words = |runs: Vec<RunId>| runs.iter().map(RunId::to_string).collect();
        Values::List(rows.iter().map(|row| of(row).map(words)).collect())
    };
    let dataset = &comparison.dataset;
    let mut columns = vec![
        Column::new("dataset", texts(&|_| Some(dataset.name.clone()))),
        Column::new("fingerprint", texts(&|_| Some(dataset.fingerprint.clone()))),
        Column::new("test_images", integers(&|_| Some(dataset.test_images))),
        Column::new("backbone", texts(&|(backbone, ..)| Some(backbone.to_string()))).printed("Backbone"),
        Column::new(
            "objective",
            texts(&|(_, cell, _)| Some(cell.map_or(Objective::CoarseOnly, |cell| cell.objective).to_string())),
        )
        .printed("Mode"),
        Column::new("rule", texts(&|(_, cell, _)| Some(cell.as_ref()?.rule.clone()))),
        Column::new("runs", integers(&|(_, cell, _)| Some(cell.as_ref()?.runs.len() as u64))).printed("Runs"),
        Column::new("run_ids", ids(&|(_, cell, _)| Some(cell.as_ref()?.runs.clone()))),
        Column::new("coarse_only_run_ids", ids(&|(.., coarse_only)| Some(coarse_only.as_ref()?.runs.clone()))),
        Column::new("ftct", count(|counts| counts.ftct)),
        Column::new("ftcf", count(|counts| counts.ftcf)),
        Column::new("ffct", count(|counts| counts.ffct)),
        Column::new("ffcf", count(|counts| counts.ffcf)),
    ];
    let mut measured = |name: &str, heading: Option<&'static str>, of: fn(&Figures) -> Figure| {
        let figures = rows.iter().map(|(_, cell, _)| cell.map(|cell| of(&cell.figures)).unwrap_or_default());
        columns.extend(figure_columns(name, heading, &figures.collect::<Vec<_>>()));
    };
    measured("ia", Some("IA"), |figures| figures.ia);
    measured("ip", Some("IP"), |figures| figures.ip);
    measured("ir", Some("IR"), |figures| figures.ir);
    measured("if1", Some("IF1"), |figures| figures.if1);
    measured("fine_exact_match", None, |figures| figures.fine_exact_match);
    measured("coarse_accuracy", Some("Coarse"), |figures| figures.coarse_accuracy);
    let baselines = rows.iter().map(|(.., coarse_only)| coarse_only.map(|one| one.accuracy).unwrap_or_default());
    columns.extend(figure_columns("coarse_only_accuracy", Some("Baseline"), &baselines.collect::<Vec<_>>()));
    let differences: Vec<Option<&Difference>> =
        rows.iter().map(|(_, cell, _)| cell.and_then(|cell| cell.difference.as_ref())).collect();
    let base = differences.iter().map(|difference| difference.and(comparison.base).map(|run| run.0));
    columns.push(Column::new("base_run_id", Values::Integer(base.collect())));
    let of_ia = differences.iter().map(|difference| difference.map(|one| one.figures.ia).unwrap_or_default());
    // A difference of two runs has no spread.
    columns.extend(figure_columns("ia_difference", None, &of_ia.collect::<Vec<_>>()).into_iter().take(3));
    let mut p = |name, of: fn(&Difference) -> f64| {
        let values = differences.iter().map(|difference| difference.map(of)).collect();
        columns.push(Column::new(name, Values::Real(values)));
    };
    p("mcnemar_p", |difference| difference.ftct.test.p);
    p("mcnemar_p_adjusted", |difference| difference.p_adjusted);
    Table::new(columns)
}

/// A figure, the ends of its interval, its spread.
fn figure_columns(name: &str, heading: Option<&'static str>, figures: &[Figure]) -> [Column; 4] {
    let column = |suffix: &str, heading, of: fn(&Figure) -> Option<f64>| {
        let values = Values::Real(figures.iter().map(of).collect());
        Column { heading, ..Column::new(format!("{name}{suffix}"), values) }
    };
    [
        column("", heading, |figure| figure.value),
        column("_low", None, |figure| figure.low),
        column("_high", None, |figure| figure.high),
        column("_spread", None, |figure| figure.spread),
    ]
}

/// What is said of a printed comparison.
pub fn comparison_caption(comparison: &Comparison) -> String {
    let dataset = &comparison.dataset;
    let drawn = if dataset.drawn { " (drawn, not photographed)" } else { "" };
    let mut text =
        format!("Interpretability indices on the {} test images of {}{drawn}.", dataset.test_images, dataset.name);
    text.push_str(" Coarse: share of images with the right category.");
    let cells = || comparison.rows.iter().flat_map(|row| &row.cells);
    let coarse_only = || comparison.rows.iter().filter_map(|row| row.coarse_only.as_ref());
    if coarse_only().next().is_some() {
        text.push_str(" Baseline: that of a network which decides no fine label.");
    }
    let mut sizes = cells().map(|cell| cell.runs.len()).chain(coarse_only().map(|one| one.runs.len()));
    if sizes.clone().any(|runs| runs == 1) {
        text.push_str(" In brackets 95% intervals (Wilson; IF1 by bootstrap).");
    }
    if sizes.any(|runs| runs > 1) {
        text.push_str(" ± is the sample standard deviation over the runs of a group, which differ in the seed alone.");
    }
    if cells().any(|cell| cell.objective == Objective::TopKSoftmax) {
        text.push_str(" Top-k is told each image's true number of labels (oracle k).");
    }
    text
}
