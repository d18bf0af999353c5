//! The categories of a run: one against the others, what is taken for what, and how far their probabilities can be believed.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CalibrationReport, ClassFigures, Figure, LabelMeans, Reports, RuleQuery, RunBrief, evidence::Evidence,
    labels::BOOTSTRAP_SEED, reports::brief, rule::rule_words,
};
use crate::{
    analysis::{Calibration, Confusion, LabelCounts, Precisions, Ranking, affordable_resamples, average_precisions},
    domain::{
        CoarseId, Counts, DecisionRule, Judgements, RunId, Split, Taxonomy,
        decision::{arg_max, softmax_into},
    },
    error::Result,
    exchange::Scores,
    store::RunRow,
};

/// A confusion matrix of more categories than this is not shown: each category's page has its row and column.
const MATRIX: usize = 40;

/// `GET /api/v1/runs/{id}/categories`: the categories of a run on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoriesReport {
    /// The run.
    pub run: RunBrief,
    /// The rule under which fine labels are predicted, which outcomes depend on; `None` for a coarse-only run.
    pub rule: Option<DecisionRule>,
    /// The rule in words.
    pub rule_words: Option<String>,
    /// How many test images.
    pub images: u64,
    /// Resamples of the bootstrap, which draws images for all categories together; 0 where the data set is too large for it.
    pub resamples: usize,
    /// Images whose category is right.
    pub coarse_accuracy: Figure,
    /// How many categories have images: the means are over them.
    pub supported: usize,
    /// Of those, how many were never predicted: they have no precision, and the mean of precisions leaves them out.
    pub never_predicted: usize,
    /// Means over categories.
    pub macro_mean: LabelMeans,
    /// Of the predicted category's softmax probability.
    pub calibration: CalibrationReport,
    /// The categories, in the taxonomy's order.
    pub categories: Vec<CategoryFigures>,
    /// Images by true (row) and by predicted category (column), in the same order; `None` for more than 40 categories.
    pub confusion: Option<Vec<Vec<u64>>>,
}

/// One category against the others.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryFigures {
    /// Its name.
    pub name: String,
    /// Its figures, under the arg-max.
    #[serde(flatten)]
    pub figures: ClassFigures,
    /// Outcomes of the images that truly are of it; `None` for a coarse-only run.
    pub counts: Option<Counts>,
}

/// The coarse softmax of each image, and what it decides.
pub(super) struct CoarseSaid {
    categories: usize,
    /// `[images, coarse]`, row-major.
    probabilities: Vec<f64>,
    /// The arg-max of each image.
    pub predicted: Vec<CoarseId>,
}

/// A run's test images, and what is asked of them.
pub(super) struct CategoriesQuestion {
    pub run: RunRow,
    pub rule: Option<DecisionRule>,
    pub taxonomy: Taxonomy,
    pub evidence: Arc<Evidence>,
    pub judgements: Arc<Judgements>,
    pub precisions: Arc<Precisions>,
}

impl Reports {
    /// The categories of a run, with outcomes under any rule.
    pub async fn categories(&self, id: RunId, query: &RuleQuery) -> Result<CategoriesReport> {
        let run = self.succeeded(id).await?;
        let question = self.categories_question(run, query).await?;
        super::blocking(move || question.answer()).await
    }

    pub(super) async fn categories_question(&self, run: RunRow, query: &RuleQuery) -> Result<CategoriesQuestion> {
        let rule = self.rule(&run, query).await?;
        let taxonomy = self.store.dataset(&run.dataset).await?.taxonomy;
        let evidence = self.evidence(run.id, Split::Test).await?;
        let judgements = self.judgements(&run, Split::Test, rule.as_ref()).await?;
        let rank = |evidence: &Evidence| Some(rank(evidence));
        let precisions = self.kept_precisions(format!("{} categories", run.id), evidence.clone(), rank).await?;
        Ok(CategoriesQuestion { run, rule, taxonomy, evidence, judgements, precisions })
    }
}

impl From<&Scores> for CoarseSaid {
    fn from(scores: &Scores) -> Self {
        let mut said = Self {
            categories: scores.coarse_count,
            probabilities: Vec::with_capacity(scores.coarse_logits.len()),
            predicted: Vec::with_capacity(scores.len()),
        };
        let mut probabilities = Vec::with_capacity(scores.coarse_count);
        for logits in scores.coarse_logits.chunks_exact(scores.coarse_count) {
            softmax_into(logits, &mut probabilities);
            said.probabilities.extend_from_slice(&probabilities);
            said.predicted.push(CoarseId(arg_max(logits) as u16));
        }
        said
    }
}

impl CoarseSaid {
    /// The softmax probability of a category in each image.
    pub fn of(&self, category: CoarseId) -> impl Iterator<Item = f64> + '_ {
        self.probabilities.iter().copied().skip(category.index()).step_by(self.categories)
    }

    /// The softmax probability of the predicted category in each image.
    fn confidences(&self) -> impl Iterator<Item = f64> + '_ {
        self.predicted.iter().zip(self.probabilities.chunks_exact(self.categories)).map(|(at, row)| row[at.index()])
    }
}

impl CategoriesQuestion {
    /// Outcomes of each category's images; `None` for a coarse-only run.
    pub fn outcomes(&self) -> Option<Vec<Counts>> {
        self.rule.as_ref()?;
        let mut counts = vec![Counts::default(); self.taxonomy.coarse().len()];
        for (row, truth) in self.evidence.truths().enumerate() {
            if let Some(outcome) = self.judgements.outcome(row) {
                counts[truth.coarse.index()] += outcome;
            }
        }
        Some(counts)
    }

    fn answer(self) -> CategoriesReport {
        let outcomes = self.outcomes();
        let Self { run, rule, taxonomy, evidence, precisions, .. } = self;
        let said = CoarseSaid::from(&evidence.scores);
        let pairs = || evidence.truths().map(|truth| truth.coarse).zip(said.predicted.iter().copied());
        let confusion: Confusion = pairs().collect();
        let ids = || (0u16..).map(CoarseId).take(taxonomy.coarse().len());
        let counts: Vec<LabelCounts> = ids().map(|category| confusion.counts(category)).collect();
        let supported = || counts.iter().copied().filter(|counts| counts.support > 0);
        let (images, correct) = (said.predicted.len() as u64, counts.iter().map(|counts| counts.correct).sum());
        let right = pairs().map(|(truth, predicted)| truth == predicted);
        CategoriesReport {
            rule_words: rule.as_ref().map(rule_words),
            rule,
            images,
            resamples: affordable_resamples(said.predicted.len(), counts.len()),
            coarse_accuracy: Figure::proportion(correct, images),
            supported: supported().count(),
            never_predicted: supported().filter(|counts| counts.predicted == 0).count(),
            macro_mean: LabelMeans::over(supported(), precisions.mean),
            calibration: Calibration::of(said.confidences().zip(right)).into(),
            categories: ids()
                .map(|category| CategoryFigures {
                    name: taxonomy.coarse_name(category).to_owned(),
                    figures: ClassFigures::of(counts[category.index()], precisions.each[category.index()].into()),
                    counts: outcomes.as_ref().map(|outcomes| outcomes[category.index()]),
                })
                .collect(),
            confusion: (counts.len() <= MATRIX)
                .then(|| ids().map(|truth| ids().map(|predicted| confusion.get(truth, predicted)).collect()).collect()),
            run: brief(run),
        }
    }
}

fn rank(evidence: &Evidence) -> Precisions {
    let said = CoarseSaid::from(&evidence.scores);
    let ranking = |category: CoarseId| {
        let items = said.of(category).zip(evidence.truths()).enumerate();
        Ranking::of(items.map(|(image, (probability, truth))| (probability, image, truth.coarse == category)))
    };
    let rankings: Vec<Ranking> = (0u16..).map(CoarseId).take(said.categories).map(ranking).collect();
    let images = evidence.scores.len();
    let resamples = affordable_resamples(images, rankings.len());
    average_precisions(&rankings, &Ranking::default(), images, resamples, BOOTSTRAP_SEED)
}
