//! One category: how well it is ranked and calibrated, what it is taken for, which fine labels speak for it, and the worst
//! errors.

use serde::{Deserialize, Serialize};

use super::{
    CalibrationReport, CategoryFigures, ClassFigures, PrecisionRecall, Reports, RuleQuery, RunBrief, WrongImage,
    categories::{CategoriesQuestion, CoarseSaid},
    class::{Said, Worst},
    reports::brief,
    rule::rule_words,
};
use crate::{
    analysis::{Calibration, Confusion, affordable_resamples, mean_contributions},
    domain::{CoarseId, DecisionRule, FineId, RunId, Taxonomy, ratio},
    error::{Error, Result},
    exchange::FineScores,
};

/// How many fine labels are listed.
const EVIDENCE: usize = 12;

/// `GET /api/v1/runs/{id}/categories/{coarse}`: one category of a run, on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryReport {
    /// The run.
    pub run: RunBrief,
    /// The rule under which fine labels are predicted, which outcomes depend on; `None` for a coarse-only run.
    pub rule: Option<DecisionRule>,
    /// The rule in words.
    pub rule_words: Option<String>,
    /// How many test images.
    pub images: u64,
    /// Resamples of the bootstrap; 0 where the data set is too large for it.
    pub resamples: usize,
    /// The category and its figures.
    #[serde(flatten)]
    pub category: CategoryFigures,
    /// Precision and recall over every threshold on its softmax probability; `None` where no image is of it.
    pub curve: Option<PrecisionRecall>,
    /// Of its softmax probability.
    pub calibration: CalibrationReport,
    /// What its images were taken for, others than itself, the most frequent first. Shares are of its images.
    pub taken_for: Vec<ConfusedCategory>,
    /// What the images that were taken for it truly are, others than itself, the most frequent first. Shares are of the
    /// images that were taken for it.
    pub taken_from: Vec<ConfusedCategory>,
    /// What speaks for it; `None` for a coarse-only run.
    pub evidence: Option<CategoryEvidence>,
    /// Taken for another, with the lowest probability of this one.
    pub missed: Vec<WrongImage>,
    /// Another, and taken for this one with the highest probability.
    pub extra: Vec<WrongImage>,
}

/// Another category, and the images that are confused with it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfusedCategory {
    /// Its name.
    pub name: String,
    /// Images.
    pub images: u64,
    /// Their share.
    pub share: Option<f64>,
}

/// What fine labels add to a category's logit, on average.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryEvidence {
    /// `b_m` of the coarse layer.
    pub bias: f64,
    /// Images that were taken for the category.
    pub predicted_images: u64,
    /// Images of it that were taken for another.
    pub missed_images: u64,
    /// The labels that add or take away most, at most twelve.
    pub labels: Vec<LabelEvidence>,
    /// All others together.
    pub others: MeanContribution,
    /// The category's logit: bias and the contributions of all labels.
    pub logit: MeanContribution,
}

/// What one fine label adds.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelEvidence {
    /// Its name.
    pub name: String,
    /// The category it belongs to; `None` for a public label.
    pub parent: Option<String>,
    /// `W_mt p_t`.
    #[serde(flatten)]
    pub mean: MeanContribution,
}

/// A mean over images; `None` over none.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct MeanContribution {
    /// Over the images that were taken for the category.
    pub predicted: Option<f64>,
    /// Over the images of it that were taken for another.
    pub missed: Option<f64>,
}

impl Reports {
    /// One category of a run, with outcomes under any rule.
    pub async fn category(&self, id: RunId, name: &str, query: &RuleQuery) -> Result<CategoryReport> {
        let run = self.succeeded(id).await?;
        let question = self.categories_question(run, query).await?;
        let Some(category) = question.taxonomy.find_coarse(name) else {
            let dataset = &question.run.dataset;
            return Err(Error::NotFound(format!("the data set “{dataset}” of run {id} has no category “{name}”")));
        };
        let (mut report, worst) = super::blocking(move || question.answer_of(category)).await?;
        report.missed = self.wrong_images(id, query, &worst.missed).await?;
        report.extra = self.wrong_images(id, query, &worst.extra).await?;
        Ok(report)
    }
}

impl CategoriesQuestion {
    /// Everything but the errors' images.
    fn answer_of(self, category: CoarseId) -> (CategoryReport, Worst) {
        let outcomes = self.outcomes();
        let Self { run, rule, taxonomy, evidence, precisions, .. } = self;
        let coarse = CoarseSaid::from(&evidence.scores);
        let images = evidence.truths().zip(coarse.of(category)).zip(&coarse.predicted).enumerate();
        let said: Vec<Said> = images
            .map(|(row, ((truth, probability), predicted))| Said {
                row,
                probability,
                truly: truth.coarse == category,
                predicted: *predicted == category,
            })
            .collect();
        let truths = evidence.truths().map(|truth| truth.coarse);
        let confusion: Confusion = truths.zip(coarse.predicted.iter().copied()).collect();
        let counts = confusion.counts(category);
        let items = || said.iter().map(|said| (said.probability, said.truly));
        let report = CategoryReport {
            rule_words: rule.as_ref().map(rule_words),
            rule,
            images: said.len() as u64,
            resamples: affordable_resamples(said.len(), taxonomy.coarse().len()),
            category: CategoryFigures {
                name: taxonomy.coarse_name(category).to_owned(),
                figures: ClassFigures::of(counts, precisions.each[category.index()].into()),
                counts: outcomes.map(|each| each[category.index()]),
            },
            curve: PrecisionRecall::of(items(), |probability| probability),
            calibration: Calibration::of(items()).into(),
            taken_for: confused(confusion.row(category), category, counts.support, &taxonomy),
            taken_from: confused(confusion.column(category), category, counts.predicted, &taxonomy),
            evidence: evidence.scores.fine.as_ref().map(|fine| CategoryEvidence::of(fine, category, &said, &taxonomy)),
            missed: Vec::new(),
            extra: Vec::new(),
            run: brief(run),
        };
        (report, Worst::of(&said))
    }
}

fn confused(
    cells: impl Iterator<Item = (CoarseId, u64)>,
    itself: CoarseId,
    of: u64,
    taxonomy: &Taxonomy,
) -> Vec<ConfusedCategory> {
    let others = cells.filter(|(other, _)| *other != itself);
    let mut others: Vec<ConfusedCategory> = others
        .map(|(other, images)| ConfusedCategory {
            name: taxonomy.coarse_name(other).to_owned(),
            images,
            share: ratio(images, of),
        })
        .collect();
    // Equal ones stay in the taxonomy's order.
    others.sort_by_key(|other| std::cmp::Reverse(other.images));
    others
}

impl CategoryEvidence {
    fn of(fine: &FineScores, category: CoarseId, said: &[Said], taxonomy: &Taxonomy) -> Self {
        let rows = |of: fn(&Said) -> bool| said.iter().filter(move |said| of(said)).map(|said| said.row);
        let (predicted, missed) = (|| rows(|said| said.predicted), || rows(|said| said.truly && !said.predicted));
        let means = [mean_contributions(fine, category, predicted()), mean_contributions(fine, category, missed())];
        let mean = |of: &dyn Fn(&[f64]) -> f64| {
            let [predicted, missed] = [&means[0], &means[1]].map(|mean| mean.as_deref().map(of));
            MeanContribution { predicted, missed }
        };
        let mut order: Vec<usize> = (0..fine.fine_count).collect();
        let size = |label: usize| mean(&|of| of[label].abs());
        let rank = |label: usize| size(label).predicted.or(size(label).missed).unwrap_or(0.0);
        order.sort_by(|a, b| rank(*b).total_cmp(&rank(*a)));
        let (listed, others) = order.split_at(order.len().min(EVIDENCE));
        let bias = f64::from(fine.bias[category.index()]);
        Self {
            bias,
            predicted_images: predicted().count() as u64,
            missed_images: missed().count() as u64,
            labels: listed
                .iter()
                .map(|label| LabelEvidence {
                    name: taxonomy.fine_name(FineId(*label as u16)).to_owned(),
                    parent: taxonomy.fine()[*label].parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
                    mean: mean(&|of| of[*label]),
                })
                .collect(),
            others: mean(&|of| others.iter().map(|label| of[*label]).sum()),
            logit: mean(&|of| bias + of.iter().sum::<f64>()),
        }
    }
}
