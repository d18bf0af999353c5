//! `/`: backbones × decision modes of one data set, with the verdict on top.

use askama::Template;
use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::watch;

use super::{
    Page,
    number::{self, Link, Number, Subject},
    verdict::{Verdict, WrongReasons},
};
use crate::{
    domain::{
        ImageId, Outcome, RunId,
        spec::{Backbone, Objective},
    },
    exchange::table::Format,
    report::{
        Cell, CoarseOnly, Comparison, ComparisonRow, Figures, GroupChoice, ImageColumn, OutcomePage, OutcomeQuery,
        PaperRow, PaperTable, Reports, RuleQuery, Sort,
    },
    services::Activity,
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
    },
};

/// `dataset=NAME&pick=ID&base=ID`; `pick` may be repeated or hold several ids, comma separated.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(try_from = "Vec<(String, String)>")]
pub struct ComparisonQuery {
    /// Which data set; the newest run's if left out.
    pub dataset: Option<String>,
    /// Runs whose groups are to be shown instead of the newest ones.
    pub picks: Vec<RunId>,
    /// The run that the others are held against.
    pub base: Option<RunId>,
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
                "base" => {
                    query.base = Some(value.parse().map_err(|_| format!("base: “{value}” is not a run's number"))?);
                }
                unknown => return Err(format!("unknown field `{unknown}`, expected `dataset`, `pick` or `base`")),
            }
        }
        Ok(query)
    }
}

/// How many images that are right for the wrong reasons the page shows.
const WRONG_IMAGES: u32 = 10;

#[derive(Template)]
#[template(path = "comparisons/show.html")]
pub struct ComparisonPage {
    comparison: Comparison,
    verdict: Option<Verdict>,
    /// Images that are right for the wrong reasons under the run that most are.
    wrong: Option<OutcomePage>,
    chart: Chart,
    /// The base run that was asked for.
    base: Option<RunId>,
}

/// Figures that have a column: all but fine exact match.
const COLUMNS: usize = 5;

/// A cell held against the base run.
struct DifferenceRow<'a> {
    backbone: Backbone,
    cell: &'a Cell,
    /// A difference for each column, and p; nothing for a group of seeds.
    numbers: Vec<Number>,
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
    Ok(match reports.comparison(query.dataset.as_deref(), &query.picks, query.base).await? {
        Some(comparison) => {
            let verdict = Verdict::of(&comparison);
            let wrong = match verdict.as_ref().and_then(|verdict| verdict.wrong.as_ref()) {
                // The figures do not need the scores; where those cannot be read, the page has no images.
                Some(wrong) => match reports.outcomes(wrong.run, &most_certain_wrong()).await {
                    Ok(found) => Some(found),
                    Err(error) => {
                        tracing::debug!(error = ?error, run = %wrong.run, "the comparison shows no images");
                        None
                    }
                },
                None => None,
            };
            let chart = chart::comparison(&comparison);
            Page(ComparisonPage { comparison, verdict, wrong, chart, base: query.base }).into_response()
        }
        None => Page(EmptyPage { activity: activity.borrow().clone() }).into_response(),
    })
}

impl ComparisonPage {
    fn section(&self) -> &'static str {
        "comparison"
    }

    /// Who is right for the wrong reasons most often, with some of those images.
    fn most_wrong(&self) -> Option<(&WrongReasons, &OutcomePage)> {
        self.verdict.as_ref()?.wrong.as_ref().zip(self.wrong.as_ref())
    }

    /// All images that are right for the wrong reasons under a run.
    fn wrong_images(&self, run: &RunId) -> String {
        text::address_of(&format!("/runs/{run}/images"), &OutcomeQuery { limit: None, ..most_certain_wrong() })
    }

    /// One of them, with its neighbours.
    fn wrong_image(&self, run: &RunId, image: &ImageId) -> String {
        text::address_of(&format!("/runs/{run}/images/{image}"), &OutcomeQuery { limit: None, ..most_certain_wrong() })
    }

    /// Runs that the others can be held against: those that are shown, each with its name here.
    fn bases(&self) -> Vec<(RunId, String)> {
        let cells = self.comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
        cells.filter_map(|(row, cell)| Some((cell.single()?, name(row, cell)))).collect()
    }

    /// What the base run is called; its number where it is not among those shown.
    fn base_name(&self, base: &RunId) -> String {
        let named = self.bases().into_iter().find(|(run, _)| run == base);
        named.map_or_else(|| format!("run {base}"), |(_, name)| name)
    }

    /// The groups that were chosen instead of the newest.
    fn picks(&self) -> Vec<RunId> {
        self.groups().filter_map(chosen).collect()
    }

    /// The figures of a cell, as far as the table has columns for them.
    fn numbers(&self, row: &ComparisonRow, cell: &Cell) -> Vec<Number> {
        let mut numbers = Subject {
            key: key(&cell.runs),
            name: name(row, cell),
            runs: &cell.runs,
            rule: RuleQuery::default(),
            figures: cell.figures,
            counts: cell.counts,
            categories: None,
        }
        .numbers();
        numbers.truncate(COLUMNS);
        numbers
    }

    fn accuracy(&self, row: &ComparisonRow, coarse_only: &CoarseOnly) -> Number {
        let subject = Subject {
            key: key(&coarse_only.runs),
            name: format!("{} · {}", row.backbone, text::mode(Objective::CoarseOnly)),
            runs: &coarse_only.runs,
            rule: RuleQuery::default(),
            figures: Figures { coarse_accuracy: coarse_only.accuracy, ..Figures::default() },
            counts: None,
            categories: coarse_only.correct.map(|correct| (correct, coarse_only.total)),
        };
        subject.accuracy()
    }

    /// The cells held against the base run; nothing where there is none.
    fn differences(&self) -> Vec<DifferenceRow<'_>> {
        let Some(base) = self.comparison.base else { return Vec::new() };
        let cells = || self.comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)));
        let comparisons = cells().filter(|(_, cell)| cell.difference.is_some()).count();
        cells()
            .filter(|(_, cell)| cell.single() != Some(base))
            .map(|(row, cell)| {
                let numbers = cell.difference.map_or_else(Vec::new, |difference| {
                    let (key, b) = (key(&cell.runs), cell.single().map(|run| run.to_string()));
                    let of = format!("{}, against {}", name(row, cell), self.base_name(&base));
                    let pair = [("a", Some(base.to_string())), ("b", b)];
                    let pair = pair.each_ref().map(|(name, run)| (*name, run.as_deref()));
                    let links = [("/transitions", "what changed, image by image"), ("/api/v1/transitions", "as JSON")]
                        .map(|(path, words)| Link::new(text::address(path, &pair), words));
                    let mut numbers = number::differences(&key, &of, &cell.figures, &difference.figures, &links);
                    numbers.truncate(COLUMNS);
                    numbers.push(number::p_of(&key, &of, &difference, comparisons, &links));
                    numbers
                });
                DifferenceRow { backbone: row.backbone, cell, numbers }
            })
            .collect()
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
        let picks = Some(picks.join(",")).filter(|picks| !picks.is_empty());
        let base = self.base.map(|base| base.to_string());
        let dataset = Some(self.comparison.dataset.name.as_str());
        text::address(path, &[("dataset", dataset), ("pick", picks.as_deref()), ("base", base.as_deref())])
    }
}

/// Right for the wrong reasons, those first that the model is most certain of.
fn most_certain_wrong() -> OutcomeQuery {
    let sort = Some(Sort { by: ImageColumn::Confidence, descending: true });
    OutcomeQuery { outcome: Some(Outcome::Ffct), sort, limit: Some(WRONG_IMAGES), ..OutcomeQuery::default() }
}

/// “vgg-tiny · top-k softmax”.
fn name(row: &ComparisonRow, cell: &Cell) -> String {
    format!("{} · {}", row.backbone, text::mode(cell.objective))
}

/// Tells a cell's numbers from others on the page.
fn key(runs: &[RunId]) -> String {
    runs.first().map_or_else(String::new, RunId::to_string)
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
