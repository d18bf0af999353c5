//! Fine labels one by one: how well each is ranked, and how often the rule in force is right about it.

use std::{cmp::Ordering, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{
    ClassFigures, Column, Figure, Reports, RunBrief, Sort,
    class::ranked_by,
    evidence::Evidence,
    reports::brief,
    rule::{rule_query, rule_words},
};
use crate::{
    analysis::{
        Estimate, LabelCounts, Precisions, Ranking, affordable_resamples, average_precisions, label_counts,
        ranking::mean,
    },
    domain::{DecisionRule, FineId, RunId, Split},
    error::{Error, Result},
    exchange::FineScores,
};

/// The same run always gets the same intervals.
pub(super) const BOOTSTRAP_SEED: u64 = 0;

rule_query! {
    /// A [`RuleQuery`](super::RuleQuery) and `sort=`.
    #[derive(Default)]
    pub struct LabelsQuery {
        /// `name`, `support`, `average_precision`, `precision`, `recall` or `f1`, with `-` in front for the largest first; by
        /// default the taxonomy's order.
        pub sort: Option<Sort<LabelColumn>>,
    }
}

/// A column that labels can be sorted by. What is undefined stands last in any case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LabelColumn {
    /// The label's name.
    Name,
    /// How many images have it.
    Support,
    /// Its average precision.
    AveragePrecision,
    /// Its precision.
    Precision,
    /// Its recall.
    Recall,
    /// Its F1.
    F1,
}

/// `GET /api/v1/runs/{id}/labels`: the fine labels of a run, one by one, on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelsReport {
    /// The run.
    pub run: RunBrief,
    /// The rule under which labels are predicted.
    pub rule: DecisionRule,
    /// The rule in words.
    pub rule_words: String,
    /// How many test images.
    pub images: u64,
    /// Resamples of the bootstrap, which draws images for all labels together; 0 where the data set is too large for it.
    pub resamples: usize,
    /// How many labels have images: the means are over them.
    pub supported: usize,
    /// Of those, how many were never predicted: they have no precision, and the mean of precisions leaves them out.
    pub never_predicted: usize,
    /// Means over labels.
    pub macro_mean: LabelMeans,
    /// Figures of all pairs of image and label together.
    pub micro_mean: LabelMeans,
    /// The labels.
    pub labels: Vec<LabelFigures>,
}

/// Figures over all labels, or categories, with images.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct LabelMeans {
    /// Average precision; its macro mean is known as mAP.
    pub average_precision: Figure,
    /// Precision.
    pub precision: Option<f64>,
    /// Recall.
    pub recall: Option<f64>,
    /// F1.
    pub f1: Option<f64>,
}

/// One fine label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelFigures {
    /// Its name.
    pub name: String,
    /// The category it belongs to; `None` for a public label.
    pub category: Option<String>,
    /// Its figures.
    #[serde(flatten)]
    pub figures: ClassFigures,
}

impl Reports {
    /// The fine labels of a run, one by one, under any rule.
    pub async fn labels(&self, id: RunId, query: &LabelsQuery) -> Result<LabelsReport> {
        let run = self.succeeded(id).await?;
        let Some(rule) = self.rule(&run, query).await? else {
            return Err(super::coarse_only(id));
        };
        let taxonomy = self.store.dataset(&run.dataset).await?.taxonomy;
        let evidence = self.evidence(id, Split::Test).await?;
        let counts = label_counts(&evidence.decide(Some(&rule)), evidence.truths(), taxonomy.fine().len());
        let precisions = self.precisions(id, evidence.clone()).await?;

        let each = taxonomy.fine().iter().zip(&counts).zip(&precisions.each);
        let mut labels: Vec<LabelFigures> = each
            .map(|((label, counts), precision)| LabelFigures {
                name: label.name.clone(),
                category: label.parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
                figures: ClassFigures::of(*counts, (*precision).into()),
            })
            .collect();
        if let Some(sort) = query.sort {
            labels.sort_by(|a, b| sort.order(a, b));
        }
        let supported = || counts.iter().copied().filter(|counts| counts.support > 0);
        let all: LabelCounts = supported().sum();
        Ok(LabelsReport {
            run: brief(run),
            rule_words: rule_words(&rule),
            rule,
            images: evidence.scores.len() as u64,
            resamples: affordable_resamples(evidence.scores.len(), counts.len()),
            supported: supported().count(),
            never_predicted: supported().filter(|counts| counts.predicted == 0).count(),
            macro_mean: LabelMeans::over(supported(), precisions.mean),
            micro_mean: LabelMeans {
                average_precision: precisions.pooled.into(),
                precision: all.precision(),
                recall: all.recall(),
                f1: all.f1(),
            },
            labels,
        })
    }

    async fn precisions(&self, run: RunId, evidence: Arc<Evidence>) -> Result<Arc<Precisions>> {
        self.kept_precisions(run.to_string(), evidence, |evidence| {
            evidence.scores.fine.as_ref().map(|fine| rank(fine, evidence))
        })
        .await
    }

    /// Average precisions depend on a run's scores alone, and are kept: sorting and another rule cost nothing. `key`: of the
    /// run and what is ranked.
    pub(super) async fn kept_precisions(
        &self,
        key: String,
        evidence: Arc<Evidence>,
        rank: impl FnOnce(&Evidence) -> Option<Precisions> + Send + 'static,
    ) -> Result<Arc<Precisions>> {
        if let Some(known) = self.precisions.get(&key) {
            return Ok(known);
        }
        let precisions = super::blocking(move || rank(&evidence))
            .await?
            .ok_or_else(|| Error::internal("a run with a decision rule has no fine scores", key.clone()))?;
        let precisions = Arc::new(precisions);
        self.precisions.put(key, precisions.clone());
        Ok(precisions)
    }
}

impl LabelMeans {
    /// Of labels or categories that have images, each counting the same.
    pub(super) fn over(counts: impl Iterator<Item = LabelCounts> + Clone, average_precision: Estimate) -> Self {
        Self {
            average_precision: average_precision.into(),
            precision: mean(counts.clone().map(LabelCounts::precision)),
            recall: mean(counts.clone().map(LabelCounts::recall)),
            f1: mean(counts.map(LabelCounts::f1)),
        }
    }
}

fn rank(fine: &FineScores, evidence: &Evidence) -> Precisions {
    let labels: Vec<FineId> = (0u16..).map(FineId).take(fine.fine_count).collect();
    let columns = ranked_by(fine, &labels);
    let items = |label: FineId| {
        let images = columns[label.index()].iter().zip(evidence.truths()).enumerate();
        images.map(move |(image, (score, truth))| (*score, image, truth.fine.contains(label)))
    };
    let rankings: Vec<Ranking> = labels.iter().map(|label| Ranking::of(items(*label))).collect();
    let supported = labels.iter().filter(|label| items(**label).any(|(.., positive)| positive));
    let pooled = Ranking::of(supported.flat_map(|label| items(*label)));
    let images = evidence.scores.len();
    average_precisions(&rankings, &pooled, images, affordable_resamples(images, labels.len()), BOOTSTRAP_SEED)
}

impl Sort<LabelColumn> {
    fn order(self, a: &LabelFigures, b: &LabelFigures) -> Ordering {
        let number = |of: fn(&LabelFigures) -> Option<f64>| match (of(a), of(b)) {
            (Some(a), Some(b)) if self.descending => b.total_cmp(&a),
            (Some(a), Some(b)) => a.total_cmp(&b),
            (a, b) => b.is_some().cmp(&a.is_some()),
        };
        match self.by {
            LabelColumn::Name if self.descending => b.name.cmp(&a.name),
            LabelColumn::Name => a.name.cmp(&b.name),
            LabelColumn::Support => number(|label| Some(label.figures.support as f64)),
            LabelColumn::AveragePrecision => number(|label| label.figures.average_precision.value),
            LabelColumn::Precision => number(|label| label.figures.precision.value),
            LabelColumn::Recall => number(|label| label.figures.recall.value),
            LabelColumn::F1 => number(|label| label.figures.f1),
        }
    }
}

impl Column for LabelColumn {
    const ALL: &'static [Self] =
        &[Self::Name, Self::Support, Self::AveragePrecision, Self::Precision, Self::Recall, Self::F1];

    fn as_str(self) -> &'static str {
        match self {
            Self::Name => "name",
            Self::Support => "support",
            Self::AveragePrecision => "average_precision",
            Self::Precision => "precision",
            Self::Recall => "recall",
            Self::F1 => "f1",
        }
    }
}
