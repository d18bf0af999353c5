//! `/curves?run=ID&run=ID&measure=&x=`: one measure of several runs, over one another.

use std::collections::BTreeSet;

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::RunId,
    report::{Along, CurvePoint, CurvesQuery, CurvesReport, MAX_CURVES, Measure, Reports, RunBrief},
    web::{
        chart::{self, Chart, LineStyle},
        error::Problem,
        extract::Query,
        filters::as_filters as filters,
    },
};

/// More lines than this are read by scripts alone: the table has every n-th epoch.
const MAX_ROWS: u32 = 200;

#[derive(Template)]
#[template(path = "runs/curves.html")]
pub struct CurvesPage {
    report: CurvesReport,
    /// Runs that can be added.
    choices: Vec<RunBrief>,
    chart: Chart,
}

pub async fn show(
    State(reports): State<Reports>,
    Query(query): Query<CurvesQuery>,
) -> Result<Page<CurvesPage>, Problem> {
    let report = reports.curves(&query).await?;
    let choices = match report.curves.len() {
        MAX_CURVES => Vec::new(),
        _ => reports.curve_choices(&query.runs).await?,
    };
    Ok(Page(CurvesPage { chart: chart::curves(&report), report, choices }))
}

/// One line of the table: an epoch, and what each run has there.
struct Row {
    epoch: u32,
    points: Vec<Option<CurvePoint>>,
}

impl CurvesPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn style(&self, index: &usize) -> LineStyle {
        LineStyle::of(*index)
    }

    /// Which epochs the table has: every so many-th.
    fn step(&self) -> u32 {
        self.last().div_ceil(MAX_ROWS).max(1)
    }

    fn last(&self) -> u32 {
        self.report.curves.iter().filter_map(|curve| curve.points.last()).map(|point| point.epoch).max().unwrap_or(0)
    }

    fn rows(&self) -> Vec<Row> {
        let shown = |epoch: &u32| epoch.is_multiple_of(self.step()) || *epoch == self.last();
        let point = |epoch: u32| {
            let found = |points: &[CurvePoint]| {
                let at = points.binary_search_by_key(&epoch, |point| point.epoch);
                at.ok().and_then(|at| points.get(at).copied())
            };
            self.report.curves.iter().map(|curve| found(&curve.points)).collect()
        };
        (1..=self.last()).filter(shown).map(|epoch| Row { epoch, points: point(epoch) }).collect()
    }

    fn value(&self, point: &CurvePoint) -> String {
        let write =
            if self.report.measure.is_loss() { crate::web::filters::number } else { crate::web::filters::index };
        write(point.value)
    }

    fn drawn(&self) -> bool {
        self.report.curves.iter().any(|curve| curve.run.drawn)
    }

    /// What must be said before curves are held against one another.
    fn warning(&self) -> Option<&'static str> {
        let runs = || self.report.curves.iter().map(|curve| &curve.run);
        let datasets: BTreeSet<&str> = runs().map(|run| run.dataset.as_str()).collect();
        let objectives: BTreeSet<&str> = runs().map(|run| run.objective.as_str()).collect();
        if datasets.len() > 1 {
            return Some("These runs learn from different data sets: their curves say little about one another.");
        }
        (self.report.measure.is_loss() && objectives.len() > 1)
            .then_some("These runs have different objectives, and so different losses: compare shapes, not heights.")
    }

    fn json(&self) -> String {
        self.address("/api/v1/curves", None)
    }

    fn without(&self, run: &RunId) -> String {
        self.address("/curves", Some(*run))
    }

    fn address(&self, path: &str, without: Option<RunId>) -> String {
        let runs = self.report.curves.iter().map(|curve| curve.run.id).filter(|run| Some(*run) != without);
        let runs = runs.map(|run| format!("run={run}&")).collect::<String>();
        format!("{path}?{runs}measure={}&x={}", self.report.measure, self.report.x)
    }
}
