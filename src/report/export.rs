//! Reports as plain tables, for other programs.

use std::sync::Arc;

use super::{
    Cell, CoarseOnly, Comparison, Figure, OutcomeItem, OutcomeQuery, Reports,
    outcomes::Asked,
};
use crate::{
    domain::{Counts, Outcome, RunId, spec::{Backbone, Objective}},
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

/// What a row of the comparison is about.
enum Row<'a> {
    Cell(&'a Cell),
    CoarseOnly(&'a CoarseOnly),
}

/// The rows of the comparison, each with its backbone and the backbone's coarse-only runs.
fn rows(comparison: &Comparison) -> impl Iterator<Item = (Backbone, Row<'_>, Option<&CoarseOnly>)> {
    comparison.rows.iter().flat_map(|row| {
        let coarse_only = row.coarse_only.as_ref();
        let all = row.cells.iter().map(Row::Cell).chain(coarse_only.map(Row::CoarseOnly));
        all.map(move |of| (row.backbone, of, coarse_only))
    })
}

/// The comparison as a table: a row for each backbone and mode, the coarse-only one among them. Undefined is what a mode does
/// not have, and the counts of a group of several runs.
pub fn comparison_table(comparison: &Comparison) -> Table {
    let rows: Vec<_> = rows(comparison).collect();
    let texts = |of: &dyn Fn(&(Backbone, Row, Option<&CoarseOnly>)) -> String| {
        Values::Text(rows.iter().map(|row| Some(of(row))).collect())
    };
    let ids = |runs: &[RunId]| runs.iter().map(RunId::to_string).collect::<Vec<_>>();
    let integers = |of: &dyn Fn(&Row) -> Option<u64>| {
        Values::Integer(rows.iter().map(|(_, row, _)| of(row).map(u64::cast_signed)).collect())
    };
    let count = |of: fn(Counts) -> u64| integers(&|row| row.counts().map(of));
    let dataset = &comparison.dataset;
    let mut columns = vec![
        Column::new("dataset", texts(&|_| dataset.name.clone())),
        Column::new("fingerprint", texts(&|_| dataset.fingerprint.clone())),
        Column::new("test_images", integers(&|_| Some(dataset.test_images))),
        Column::new("backbone", texts(&|(backbone, ..)| backbone.to_string())).printed("Backbone"),
        Column::new("objective", texts(&|(_, row, _)| row.objective().to_string())).printed("Mode"),
        Column::new("rule", Values::Text(rows.iter().map(|(_, row, _)| row.rule()).collect())),
        Column::new("runs", integers(&|row| Some(row.runs().len() as u64))).printed("Runs"),
        Column::new("run_ids", Values::List(rows.iter().map(|(_, row, _)| Some(ids(row.runs()))).collect())),
        Column::new("ftct", count(|counts| counts.ftct)),
        Column::new("ftcf", count(|counts| counts.ftcf)),
        Column::new("ffct", count(|counts| counts.ffct)),
        Column::new("ffcf", count(|counts| counts.ffcf)),
    ];
    let mut measured = |name: &str, heading: Option<&'static str>, figures: Vec<Figure>| {
        let part = |suffix: &str, of: fn(&Figure) -> Option<f64>| {
            Column::new(format!("{name}{suffix}"), Values::Real(figures.iter().map(of).collect()))
        };
        columns.push(Column { heading, ..part("", |figure| figure.value) });
        columns.push(part("_low", |figure| figure.low));
        columns.push(part("_high", |figure| figure.high));
        columns.push(part("_spread", |figure| figure.spread));
    };
    let figures = |of: fn(&Cell) -> Figure| -> Vec<Figure> {
        let of_row = |row: &Row| match row {
            Row::Cell(cell) => of(cell),
            Row::CoarseOnly(_) => Figure::default(),
        };
        rows.iter().map(|(_, row, _)| of_row(row)).collect()
    };
    measured("ia", Some("IA"), figures(|cell| cell.figures.ia));
    measured("ip", Some("IP"), figures(|cell| cell.figures.ip));
    measured("ir", Some("IR"), figures(|cell| cell.figures.ir));
    measured("if1", Some("IF1"), figures(|cell| cell.figures.if1));
    measured("fine_exact_match", None, figures(|cell| cell.figures.fine_exact_match));
    let coarse_accuracies = rows.iter().map(|(_, row, _)| match row {
        Row::Cell(cell) => cell.figures.coarse_accuracy,
        Row::CoarseOnly(coarse_only) => coarse_only.accuracy,
    });
    measured("coarse_accuracy", Some("Coarse acc."), coarse_accuracies.collect());
    let of_backbone = rows.iter().map(|(.., coarse_only)| coarse_only.map(|one| one.accuracy).unwrap_or_default());
    measured("coarse_only_accuracy", Some("Coarse-only acc."), of_backbone.collect());
    Table::new(columns)
}

/// The rows of [`comparison_table`] at which another backbone begins.
pub fn comparison_groups(comparison: &Comparison) -> Vec<usize> {
    let heights = comparison.rows.iter().map(|row| row.cells.len() + usize::from(row.coarse_only.is_some()));
    heights.scan(0, |start, height| Some(std::mem::replace(start, *start + height))).collect()
}

/// What is said of a printed comparison.
pub fn comparison_caption(comparison: &Comparison) -> String {
    let dataset = &comparison.dataset;
    let drawn = if dataset.drawn { " (drawn, not photographed)" } else { "" };
    let mut text = format!("Interpretability indices on the {} test images of {}{drawn}.", dataset.test_images, dataset.name);
    let cells = || comparison.rows.iter().flat_map(|row| &row.cells);
    let coarse_only = || comparison.rows.iter().filter_map(|row| row.coarse_only.as_ref());
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

impl Row<'_> {
    fn objective(&self) -> Objective {
        match self {
            Row::Cell(cell) => cell.objective,
            Row::CoarseOnly(_) => Objective::CoarseOnly,
        }
    }

    fn rule(&self) -> Option<String> {
        match self {
            Row::Cell(cell) => Some(cell.rule.clone()),
            Row::CoarseOnly(_) => None,
        }
    }

    fn runs(&self) -> &[RunId] {
        match self {
            Row::Cell(cell) => &cell.runs,
            Row::CoarseOnly(coarse_only) => &coarse_only.runs,
        }
    }

    fn counts(&self) -> Option<Counts> {
        match self {
            Row::Cell(cell) => cell.counts,
            Row::CoarseOnly(_) => None,
        }
    }
}
