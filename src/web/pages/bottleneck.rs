//! `/runs/{id}/bottleneck`: whether a run's coarse head reads fine labels as the taxonomy does.

use askama::Template;
use axum::extract::State;

use super::{Page, classes::Links};
use crate::{
    domain::{DecisionRule, RunId, TopK, spec::CoarseInput},
    exchange::ScoreActivation,
    report::{BottleneckQuery, BottleneckReport, Figure, HeadWeights, LabelWeight, LabelWeights, Reports, RuleQuery},
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

/// Of more weights neither a chart nor a table can be read; the JSON has them.
const MOST_WEIGHTS: usize = 20_000;

#[derive(Template)]
#[template(path = "runs/bottleneck.html")]
pub struct BottleneckPage {
    query: BottleneckQuery,
    report: BottleneckReport,
    interventions: Chart,
    /// `None` where there are too many.
    weights: Option<Chart>,
}

pub async fn show(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<BottleneckQuery>,
) -> Result<Page<BottleneckPage>, Problem> {
    let report = reports.bottleneck(run, &query).await?;
    let HeadWeights { labels, categories, .. } = &report.head;
    let weights = (labels.len() * categories.len() <= MOST_WEIGHTS).then(|| chart::weights(&report.head));
    Ok(Page(BottleneckPage { interventions: chart::interventions(&report.intervention), weights, query, report }))
}

/// What the interval of a difference allows to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    More,
    Less,
    Unclear,
}

/// One line of the table of interventions.
struct Corrected<'a> {
    groups: usize,
    random: &'a Figure,
    largest_error: &'a Figure,
    most_uncertain: Option<&'a Figure>,
}

impl Direction {
    fn of(difference: &Figure) -> Self {
        match (difference.low, difference.high) {
            (Some(low), _) if low > 0.0 => Self::More,
            (_, Some(high)) if high < 0.0 => Self::Less,
            (_, _) => Self::Unclear,
        }
    }
}

impl BottleneckPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn json(&self) -> String {
        text::address_of(&format!("/api/v1/runs/{}/bottleneck", self.report.run.id), &self.query)
    }

    /// Where labels and categories have pages of their own, under the same rule.
    fn links(&self) -> Links {
        let BottleneckQuery { rule, k, threshold, coarse_only: _ } = self.query.clone();
        Links { run: self.report.run.id, query: RuleQuery { rule, k, threshold } }
    }

    fn is_oracle(&self) -> bool {
        self.report.rule == DecisionRule::TopK { k: TopK::Oracle }
    }

    fn is_softmax(&self) -> bool {
        self.report.activation == ScoreActivation::Softmax
    }

    fn reads_logits(&self) -> bool {
        self.report.coarse_input == CoarseInput::Logits
    }

    /// What the head is given of a label.
    fn reads(&self) -> &'static str {
        if self.reads_logits() { "logit" } else { "probability" }
    }

    fn corrected(&self) -> Vec<Corrected<'_>> {
        let intervention = &self.report.intervention;
        let both = intervention.random.iter().zip(&intervention.largest_error).enumerate();
        let most_uncertain = |groups: usize| intervention.most_uncertain.as_ref()?.get(groups);
        both.map(|(groups, (random, largest_error))| Corrected {
            groups,
            random,
            largest_error,
            most_uncertain: most_uncertain(groups),
        })
        .collect()
    }

    /// Coarse accuracy with every label put right.
    fn all_right(&self) -> Figure {
        self.report.intervention.largest_error.last().copied().unwrap_or_default()
    }

    /// Labels that speak for another category than their own most.
    fn astray(&self) -> Vec<&LabelWeights> {
        self.report.head.labels.iter().filter(|label| label.astray()).collect()
    }

    /// The weight of a label for the category of this name.
    fn weight_for(&self, label: &LabelWeights, category: &str) -> String {
        let index = self.report.head.categories.iter().position(|name| name == category);
        let weight = index.and_then(|index| label.weights.get(index));
        weight.map_or_else(|| text::UNDEFINED.into(), |weight| self.weight(weight))
    }

    fn weight(&self, weight: &f32) -> String {
        text::signed(f64::from(*weight))
    }

    /// Whether a label belongs to the category with this index.
    fn is_own(&self, label: &LabelWeights, category: &usize) -> bool {
        label.category.as_ref() == self.report.head.categories.get(*category)
    }

    /// What a label is, where it is not the category's own.
    fn stranger<'a>(&self, label: &'a LabelWeight, category: &str) -> Option<&'a str> {
        let own = label.category.as_deref().unwrap_or("public");
        (label.category.as_deref() != Some(category)).then_some(own)
    }

    /// “3.1e-7”.
    fn deviation(&self) -> String {
        format!("{:.1e}", self.report.deviation)
    }
}
