//! `/runs/{id}/labels`: a run's fine labels, one by one.

use askama::Template;
use axum::extract::State;

use super::Page;
use crate::{
    domain::RunId,
    report::{LabelColumn, LabelSort, LabelsQuery, LabelsReport, Reports},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/labels.html")]
pub struct LabelsPage {
    query: LabelsQuery,
    report: LabelsReport,
    chart: Chart,
}

pub async fn show(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<LabelsQuery>,
) -> Result<Page<LabelsPage>, Problem> {
    let report = reports.labels(run, &query).await?;
    Ok(Page(LabelsPage { chart: chart::labels(&report.labels), query, report }))
}

impl LabelsPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn has_rule(&self) -> bool {
        self.query.rule.is_some() || self.query.k.is_some() || self.query.threshold.is_some()
    }

    fn heading(&self, column: &LabelColumn) -> &'static str {
        match column {
            LabelColumn::Name => "Fine label",
            LabelColumn::Support => "Images",
            LabelColumn::AveragePrecision => "Average precision",
            LabelColumn::Precision => "Precision",
            LabelColumn::Recall => "Recall",
            LabelColumn::F1 => "F1",
        }
    }

    /// How the column is sorted now, as `aria-sort` says it.
    fn sorted(&self, column: &LabelColumn) -> Option<&'static str> {
        let sort = self.query.sort.filter(|sort| sort.by == *column)?;
        Some(if sort.descending { "descending" } else { "ascending" })
    }

    /// Sorted by a column: names from A, figures from the largest; the other way round where it is sorted so already.
    fn sorting(&self, column: &LabelColumn) -> String {
        let first = *column != LabelColumn::Name;
        let descending = self.query.sort.filter(|sort| sort.by == *column).map_or(first, |sort| !sort.descending);
        self.address(&self.path(), Some(LabelSort { by: *column, descending }))
    }

    fn unsorted(&self) -> String {
        self.address(&self.path(), None)
    }

    fn json(&self) -> String {
        self.address(&format!("/api/v1/runs/{}/labels", self.report.run.id), self.query.sort)
    }

    fn label(&self, name: &str) -> String {
        self.address(&format!("{}/{}", self.path(), text::encoded(name)), None)
    }

    fn path(&self) -> String {
        format!("/runs/{}/labels", self.report.run.id)
    }

    fn address(&self, path: &str, sort: Option<LabelSort>) -> String {
        let LabelsQuery { rule, k, threshold, sort: _ } = &self.query;
        let (k, threshold) = (k.map(|k| k.to_string()), threshold.map(|threshold| threshold.to_string()));
        let sort = sort.map(|sort| sort.to_string());
        let query = [
            ("rule", rule.as_deref()),
            ("k", k.as_deref()),
            ("threshold", threshold.as_deref()),
            ("sort", sort.as_deref()),
        ];
        text::address(path, &query)
    }
}
