//! `/runs/{id}/labels`: a run's fine labels, one by one.

use askama::Template;
use axum::extract::State;

use super::{
    Page,
    classes::{ImageList, Links},
};
use crate::{
    domain::RunId,
    report::{Column, LabelColumn, LabelsQuery, LabelsReport, Reports, RuleQuery, Sort},
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
        self.address(&self.path(), Some(Sort { by: *column, descending }))
    }

    fn unsorted(&self) -> String {
        self.address(&self.path(), None)
    }

    fn json(&self) -> String {
        self.address(&format!("/api/v1/runs/{}/labels", self.report.run.id), self.query.sort)
    }

    fn label(&self, name: &str) -> String {
        self.links().label(name)
    }

    fn images(&self, name: &str) -> ImageList {
        self.links().having(name)
    }

    fn links(&self) -> Links {
        let LabelsQuery { rule, k, threshold, sort: _ } = self.query.clone();
        Links { run: self.report.run.id, query: RuleQuery { rule, k, threshold } }
    }

    fn path(&self) -> String {
        format!("/runs/{}/labels", self.report.run.id)
    }

    fn address(&self, path: &str, sort: Option<Sort<LabelColumn>>) -> String {
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fewer_resamples_or_none_are_said() {
        let page = |resamples: usize| {
            let none = json!({"value": null, "low": null, "high": null, "spread": null});
            let means = json!({"average_precision": none, "precision": null, "recall": null, "f1": null});
            let report = json!({
                "run": {"id": 7, "name": "a run", "tags": [], "status": "succeeded", "dataset": "d", "drawn": false,
                    "backbone": "resnet-tiny", "objective": "sigmoid-threshold", "progress": null, "ia": null,
                    "coarse_accuracy": null, "error": null, "submitted_at": "2026-01-01T00:00:00Z", "started_at": null,
                    "finished_at": null},
                "rule": {"rule": "threshold", "threshold": 0.7}, "rule_words": "p > 0.7", "images": 100_000,
                "resamples": resamples, "supported": 0, "never_predicted": 0, "macro_mean": means, "micro_mean": means,
                "labels": []
            });
            let report = serde_json::from_value(report).unwrap();
            LabelsPage { query: LabelsQuery::default(), report, chart: chart::labels(&[]) }.render().unwrap()
        };
        assert!(page(10_000).contains("a percentile bootstrap of 10\u{202f}000 resamples. They"));
        assert!(page(1_250).contains("of 1\u{202f}250 resamples, fewer than the usual 10\u{202f}000 because"));
        assert!(page(0).contains("average precision has none here, as resampling so many images would take minutes."));
        assert!(!page(0).contains("bootstrap of"));
    }
}
