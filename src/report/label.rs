//! One fine label: how well it is ranked and calibrated, what it stands with, what it is taken for, and the worst errors.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    CalibrationReport, ClassFigures, LabelFigures, PrecisionRecall, Reports, RuleQuery, RunBrief, WrongImage,
    class::{Said, Worst, probability, ranked_by},
    evidence::Evidence,
    labels::BOOTSTRAP_SEED,
    reports::brief,
    rule::rule_words,
};
use crate::{
    analysis::{
        Calibration, Companions, Decision, Estimate, LabelCounts, Precisions, Ranking, Truth, affordable_resamples,
        average_precisions,
    },
    domain::{DecisionRule, FineId, RunId, Split, Taxonomy, Threshold},
    error::{Error, Result},
    exchange::{FineScores, ScoreActivation},
    store::RunRow,
};

/// How many labels are listed beside a label.
const COMPANIONS: usize = 10;

/// `GET /api/v1/runs/{id}/labels/{fine}`: one fine label of a run, on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelReport {
    /// The run.
    pub run: RunBrief,
    /// The rule under which labels are predicted.
    pub rule: DecisionRule,
    /// The rule in words.
    pub rule_words: String,
    /// How many test images.
    pub images: u64,
    /// Resamples of the bootstrap; 0 where the data set is too large for it.
    pub resamples: usize,
    /// The label and its figures.
    #[serde(flatten)]
    pub label: LabelFigures,
    /// What the sigmoid of its logit must exceed under the rule; `None` for a top-k rule.
    pub threshold: Option<f64>,
    /// Precision and recall over every threshold on its probability; `None` where no image has it.
    pub curve: Option<PrecisionRecall>,
    /// Of its sigmoid; `None` for a softmax, whose probabilities are shares of all labels of an image.
    pub calibration: Option<CalibrationReport>,
    /// Where it truly is: the other labels that truly are there.
    pub truly_with: CompanionList,
    /// Where it is predicted: the other labels that are predicted.
    pub predicted_with: CompanionList,
    /// Where it was missed: the labels that were predicted and are not there.
    pub missed_for: CompanionList,
    /// Where it was predicted and is not: the labels that truly are there.
    pub extra_beside: CompanionList,
    /// Missed, with the lowest probability.
    pub missed: Vec<WrongImage>,
    /// Predicted though not there, with the highest probability.
    pub extra: Vec<WrongImage>,
}

/// The labels that are listed most often in some images, at most ten.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompanionList {
    /// These images.
    pub images: u64,
    /// The most frequent first.
    pub labels: Vec<CompanionLabel>,
}

/// How often a label is listed in some images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompanionLabel {
    /// Its name.
    pub name: String,
    /// How many of these images list it.
    pub images: u64,
    /// Their share of these images.
    pub share: f64,
    /// How many times as often it is listed in these images as in all.
    pub lift: f64,
}

/// What one label is looked at in.
struct Question {
    evidence: Arc<Evidence>,
    rule: DecisionRule,
    label: FineId,
    taxonomy: Taxonomy,
    average_precision: Estimate,
}

impl Reports {
    /// One fine label of a run, under any rule.
    pub async fn label(&self, id: RunId, name: &str, query: &RuleQuery) -> Result<LabelReport> {
        let run = self.succeeded(id).await?;
        let Some(rule) = self.rule(&run, query).await? else {
            return Err(Error::Invalid(format!("run {id} is coarse-only: it has no scores of fine labels")));
        };
        let taxonomy = self.store.dataset(&run.dataset).await?.taxonomy;
        let Some(label) = taxonomy.find_fine(name) else {
            let text = format!("the data set “{}” of run {id} has no fine label “{name}”", run.dataset);
            return Err(Error::NotFound(text));
        };
        let evidence = self.evidence(id, Split::Test).await?;
        // Where all labels were ranked, this one's figure is among theirs.
        let average_precision = match self.precisions.get(&id.to_string()) {
            Some(all) => all.each.get(label.index()).copied(),
            None => {
                let key = format!("{id} label {label}");
                let alone = self.kept_precisions(key, evidence.clone(), move |evidence| rank(evidence, label)).await?;
                alone.each.first().copied()
            }
        };
        let average_precision = average_precision.unwrap_or_default();
        let question = Question { evidence, rule, label, taxonomy, average_precision };
        let (mut report, worst) = super::blocking(move || question.answer(run)).await??;
        report.missed = self.wrong_images(id, query, &worst.missed).await?;
        report.extra = self.wrong_images(id, query, &worst.extra).await?;
        Ok(report)
    }
}

impl Question {
    /// Everything but the errors' images.
    fn answer(&self, run: RunRow) -> Result<(LabelReport, Worst)> {
        let Self { evidence, rule, label, taxonomy, average_precision } = self;
        let fine = evidence.scores.fine.as_ref();
        let fine = fine.ok_or_else(|| {
            Error::internal("a run with a decision rule has no fine scores", format!("run {}", run.id))
        })?;
        let ranked = ranked_by(fine, &[*label]).into_iter().next().unwrap_or_default();
        let decisions = evidence.decide(Some(rule));
        let said: Vec<Said> = evidence
            .truths()
            .zip(&decisions)
            .zip(&ranked)
            .enumerate()
            .map(|(row, ((truth, decision), ranked_by))| Said {
                row,
                probability: probability(fine.activation, *ranked_by),
                truly: truth.fine.contains(*label),
                predicted: decision.fine.as_ref().is_some_and(|fine| fine.contains(*label)),
            })
            .collect();
        let count = |of: fn(&Said) -> bool| said.iter().filter(|said| of(said)).count() as u64;
        let counts = LabelCounts {
            support: count(|said| said.truly),
            predicted: count(|said| said.predicted),
            correct: count(|said| said.truly && said.predicted),
        };
        let entry = &taxonomy.fine()[label.index()];
        let companions = |chosen: fn(&Said) -> bool, list: Listed| self.companions(&said, &decisions, chosen, list);
        let report = LabelReport {
            rule: rule.clone(),
            rule_words: rule_words(rule),
            images: said.len() as u64,
            resamples: affordable_resamples(said.len(), fine.fine_count),
            label: LabelFigures {
                name: entry.name.clone(),
                category: entry.parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
                figures: ClassFigures::of(counts, (*average_precision).into()),
            },
            threshold: threshold(rule, *label),
            curve: PrecisionRecall::of(ranked.iter().zip(&said).map(|(by, said)| (*by, said.truly)), |by| {
                probability(fine.activation, by)
            }),
            calibration: calibration(fine, &said),
            truly_with: companions(|said| said.truly, Listed::True),
            predicted_with: companions(|said| said.predicted, Listed::Predicted),
            missed_for: companions(|said| said.truly && !said.predicted, Listed::Extra),
            extra_beside: companions(|said| said.predicted && !said.truly, Listed::True),
            missed: Vec::new(),
            extra: Vec::new(),
            run: brief(run),
        };
        Ok((report, Worst::of(&said)))
    }

    /// What the chosen images list beside the label itself.
    fn companions(
        &self,
        said: &[Said],
        decisions: &[Decision],
        chosen: fn(&Said) -> bool,
        list: Listed,
    ) -> CompanionList {
        let images = said.iter().zip(decisions).zip(self.evidence.truths());
        let lists = images.map(|((said, decision), truth)| (chosen(said), list.of(truth, decision)));
        let companions = Companions::of(lists, self.taxonomy.fine().len());
        let others = companions.most_frequent().into_iter().filter(|(other, _)| *other != self.label);
        let labels = others.take(COMPANIONS).filter_map(|(other, images)| {
            Some(CompanionLabel {
                name: self.taxonomy.fine_name(other).to_owned(),
                images,
                share: companions.share(other)?,
                lift: companions.lift(other)?,
            })
        });
        CompanionList { images: companions.chosen, labels: labels.collect() }
    }
}

/// Which labels of an image.
#[derive(Clone, Copy)]
enum Listed {
    True,
    Predicted,
    /// Predicted and not true.
    Extra,
}

impl Listed {
    fn of<'a>(self, truth: Truth<'a>, decision: &'a Decision) -> impl Iterator<Item = FineId> + 'a {
        let predicted = decision.fine.as_ref().map_or(&[][..], |fine| fine.as_slice());
        let (labels, left_out) = match self {
            Self::True => (truth.fine.as_slice(), None),
            Self::Predicted => (predicted, None),
            Self::Extra => (predicted, Some(truth.fine)),
        };
        labels.iter().copied().filter(move |label| left_out.is_none_or(|left_out| !left_out.contains(*label)))
    }
}

/// Ranks the images by one label's probability.
fn rank(evidence: &Evidence, label: FineId) -> Option<Precisions> {
    let fine = evidence.scores.fine.as_ref()?;
    let column = ranked_by(fine, &[label]).into_iter().next()?;
    let images = column.into_iter().zip(evidence.truths()).enumerate();
    let ranking = Ranking::of(images.map(|(image, (score, truth))| (score, image, truth.fine.contains(label))));
    let images = evidence.scores.len();
    let resamples = affordable_resamples(images, fine.fine_count);
    Some(average_precisions(&[ranking], &Ranking::default(), images, resamples, BOOTSTRAP_SEED))
}

/// What the sigmoid of a label's logit must exceed under a rule.
fn threshold(rule: &DecisionRule, label: FineId) -> Option<f64> {
    match rule {
        DecisionRule::TopK { .. } => None,
        DecisionRule::Threshold { threshold } => Some(threshold.get()),
        DecisionRule::PerLabel { thresholds } => thresholds.get(label.index()).copied().map(Threshold::get),
    }
}

fn calibration(fine: &FineScores, said: &[Said]) -> Option<CalibrationReport> {
    match fine.activation {
        ScoreActivation::Softmax => None,
        ScoreActivation::Sigmoid => {
            Some(Calibration::of(said.iter().map(|said| (said.probability, said.truly))).into())
        }
    }
}
