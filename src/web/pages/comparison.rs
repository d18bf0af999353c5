//! `/`: backbones × decision modes of one data set, with the verdict on top.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::watch;

use super::{Page, verdict::Verdict};
use crate::{
    domain::{Outcome, RunId, spec::Objective},
    exchange::table::Format,
    report::{Cell, CoarseOnly, Comparison, ComparisonRow, GroupChoice, PaperRow, PaperTable, Reports},
    services::Activity,
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
    },
};

/// `dataset=NAME&pick=ID`; `pick` may be repeated or hold several ids, comma separated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct ComparisonQuery {
    /// Which data set; the newest run's if left out.
    pub dataset: Option<String>,
    /// Runs whose groups are to be shown instead of the newest ones.
    pub picks: Vec<RunId>,
}

impl TryFrom<Vec<(String, String)>> for ComparisonQuery {
    type Error = String;

    fn try_from(pairs: Vec<(String, String)>) -> Result<Self, String> {
        let mut query = Self::default();
        for (name, value) in pairs {
            match name.as_str() {
                "dataset" => query.dataset = Some(value),
                "pick" => {
                    for id in value.split(',') {
                        query.picks.push(id.trim().parse().map_err(|_| format!("pick: “{id}” is not a run's number"))?);
                    }
                }
                unknown => return Err(format!("unknown field `{unknown}`, expected `dataset` or `pick`")),
            }
        }
        Ok(query)
    }
}

#[derive(Template)]
#[template(path = "comparisons/show.html")]
pub struct ComparisonPage {
    comparison: Comparison,
    verdict: Option<Verdict>,
    chart: Chart,
}

#[derive(Template)]
#[template(path = "comparisons/empty.html")]
pub struct EmptyPage {
    activity: Option<Activity>,
}

impl EmptyPage {
    fn section(&self) -> &'static str {
        "comparison"
    }
}

pub async fn show(
    State(reports): State<Reports>,
    State(activity): State<watch::Receiver<Option<Activity>>>,
    Query(query): Query<ComparisonQuery>,
) -> Result<Response, Problem> {
    Ok(match reports.comparison(query.dataset.as_deref(), &query.picks).await? {
        Some(comparison) => Page(ComparisonPage::new(comparison)).into_response(),
        None => Page(EmptyPage { activity: activity.borrow().clone() }).into_response(),
    })
}

impl ComparisonPage {
    fn section(&self) -> &'static str {
        "comparison"
    }

    fn new(comparison: Comparison) -> Self {
        Self { verdict: Verdict::of(&comparison), chart: chart::comparison(&comparison), comparison }
    }

    fn has_runs(&self) -> bool {
        !self.comparison.rows.is_empty()
    }

    fn has_cells(&self) -> bool {
        self.comparison.rows.iter().any(|row| !row.cells.is_empty())
    }

    fn has_oracle(&self) -> bool {
        self.comparison.rows.iter().flat_map(|row| &row.cells).any(|cell| cell.objective == Objective::TopKSoftmax)
    }

    fn has_indices(&self, table: &PaperTable) -> bool {
        table.rows.iter().any(|row| row.ia.is_some())
    }

    fn has_seeds(&self) -> bool {
        self.groups().flatten().any(|group| group.chosen && group.seeds > 1)
    }

    /// The row of the backbone that the paper's is about. Drawings do not stand beside photographs.
    fn beside(&self, row: &PaperRow) -> Option<&ComparisonRow> {
        let rows = self.comparison.rows.iter().filter(|_| !self.comparison.dataset.drawn);
        rows.into_iter().find(|measured| row.is_of(measured.backbone))
    }

    /// What was measured here of what the paper's row is about.
    fn cell_of(&self, table: &PaperTable, row: &PaperRow) -> Option<&Cell> {
        self.beside(row)?.cells.iter().find(|cell| cell.objective == table.objective)
    }

    /// The same of table 2.
    fn coarse_only_of(&self, row: &PaperRow) -> Option<&CoarseOnly> {
        self.beside(row)?.coarse_only.as_ref()
    }

    fn has_measured(&self) -> bool {
        self.comparison.paper.iter().flat_map(|table| &table.rows).any(|row| self.beside(row).is_some())
    }

    /// Rows of the table that a backbone takes.
    fn height(&self, row: &ComparisonRow) -> usize {
        row.cells.len() + usize::from(row.coarse_only.is_some())
    }

    fn is_best(&self, cell: &Cell) -> bool {
        self.verdict.as_ref().is_some_and(|verdict| verdict.runs == cell.runs)
    }

    /// This page with the group of `choice` shown in its cell, whose `groups` are given, and all others as they are.
    fn picking(&self, groups: &[GroupChoice], choice: &GroupChoice) -> String {
        let others = self.groups().filter(|other| other.first().map(newest) != groups.first().map(newest));
        self.address("/", others.filter_map(chosen).chain([choice.newest]))
    }

    fn json(&self) -> String {
        self.address("/api/v1/comparisons", self.groups().filter_map(chosen))
    }

    /// This comparison as a file of HTML.
    fn report(&self) -> String {
        self.address("/api/v1/reports/comparison", self.groups().filter_map(chosen))
    }

    /// This comparison as a table for other programs.
    fn export(&self, format: &Format) -> String {
        let address = self.address("/api/v1/comparisons/export", self.groups().filter_map(chosen));
        format!("{address}&format={format}")
    }

    fn groups(&self) -> impl Iterator<Item = &[GroupChoice]> {
        self.comparison.rows.iter().flat_map(|row| {
            let cells = row.cells.iter().map(|cell| cell.groups.as_slice());
            cells.chain(row.coarse_only.iter().map(|coarse_only| coarse_only.groups.as_slice()))
        })
    }

    fn address(&self, path: &str, picks: impl Iterator<Item = RunId>) -> String {
        let picks: Vec<String> = picks.map(|run| run.to_string()).collect();
        let pick = if picks.is_empty() { String::new() } else { format!("&pick={}", picks.join(",")) };
        format!("{path}?dataset={}{pick}", text::encoded(&self.comparison.dataset.name))
    }
}

fn newest(group: &GroupChoice) -> RunId {
    group.newest
}

/// The group shown, if it is not the newest, which is shown anyway.
fn chosen(groups: &[GroupChoice]) -> Option<RunId> {
    groups.iter().skip(1).find(|group| group.chosen).map(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(pairs: &[(&str, &str)]) -> Result<ComparisonQuery, String> {
        Vec::from_iter(pairs.iter().map(|(name, value)| (name.to_string(), value.to_string()))).try_into()
    }

    #[test]
    fn picks_are_repeated_or_comma_separated() {
        let query = query(&[("pick", "1,2"), ("dataset", "demo"), ("pick", "3")]).unwrap();
        assert_eq!(query.picks, [RunId(1), RunId(2), RunId(3)]);
        assert_eq!(query.dataset.as_deref(), Some("demo"));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        assert!(query(&[("pick", "x")]).unwrap_err().contains("“x” is not a run's number"));
        assert!(query(&[("picks", "1")]).unwrap_err().contains("unknown field `picks`"));
    }
}
