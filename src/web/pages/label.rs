//! `/runs/{id}/labels/{fine}`: one fine label of a run.

use askama::Template;
use axum::extract::State;

use super::{Page, classes::Links};
use crate::{
    domain::RunId,
    report::{CompanionList, LabelReport, Reports, RuleQuery},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "runs/label.html")]
pub struct LabelPage {
    links: Links,
    report: LabelReport,
    curve_chart: Chart,
    reliability_chart: Option<Chart>,
}

/// A table of labels beside the label.
struct CompanionTable<'a> {
    title: &'static str,
    meaning: &'static str,
    list: &'a CompanionList,
}

pub async fn show(
    State(reports): State<Reports>,
    Path((run, name)): Path<(RunId, String)>,
    Query(query): Query<RuleQuery>,
) -> Result<Page<LabelPage>, Problem> {
    let report = reports.label(run, &name, &query).await?;
    Ok(Page(LabelPage {
        links: Links { run, query },
        curve_chart: chart::precision_recall(report.curve.as_ref(), &report.label.figures, report.images),
        reliability_chart: report.calibration.as_ref().map(chart::reliability),
        report,
    }))
}

impl LabelPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    /// The rule's threshold on the curve: that of a softmax run is on another probability.
    fn threshold(&self) -> String {
        let threshold = self.report.threshold.filter(|_| self.report.calibration.is_some());
        threshold.map_or_else(|| text::UNDEFINED.into(), |threshold| format!("> {threshold}"))
    }

    /// Where the run's point lies: a rule need not be a threshold on the curve.
    fn point(&self) -> String {
        if self.report.label.figures.predicted == 0 {
            return "The rule takes it in no image, so its precision is undefined, and the curve has no point of the run.".into();
        }
        match (self.report.threshold, &self.report.calibration) {
            (Some(threshold), Some(_)) => {
                format!("The rule takes it where p > {threshold}: the diamond, what the run says, lies on the curve.")
            }
            (Some(threshold), None) => format!(
                "The rule takes it where the sigmoid of its logit exceeds {threshold}; the curve goes by the softmax’s \
                 probability, so the diamond, what the run says, may lie off it."
            ),
            (None, _) => {
                "The rule takes the most probable labels of each image, whatever their probability, so there is no \
                          threshold, and the diamond, what the run says, may lie off the curve."
                    .into()
            }
        }
    }

    fn goes_with(&self) -> [CompanionTable<'_>; 2] {
        [
            CompanionTable {
                title: "In the truth",
                meaning: "images that truly have it: what else they have",
                list: &self.report.truly_with,
            },
            CompanionTable {
                title: "In the predictions",
                meaning: "images that are said to have it: what else they are said to have",
                list: &self.report.predicted_with,
            },
        ]
    }

    fn confused_with(&self) -> [CompanionTable<'_>; 2] {
        [
            CompanionTable {
                title: "Where it was missed",
                meaning: "images that have it and are not said to: which labels were said in error",
                list: &self.report.missed_for,
            },
            CompanionTable {
                title: "Where it was said in error",
                meaning: "images that are said to have it and do not: which labels they truly have",
                list: &self.report.extra_beside,
            },
        ]
    }

    fn json(&self) -> String {
        self.links.json(&self.links.label(&self.report.label.name))
    }
}
