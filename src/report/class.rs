//! One class against all others: what is said of a fine label and of a category alike.

use serde::{Deserialize, Serialize};

use super::{Figure, OutcomeItem, Reports, RuleQuery};
use crate::{
    analysis::{Calibration, LabelCounts, PrPoint, calibration::Bin, pr_curve},
    domain::{
        FineId, RunId,
        decision::{sigmoid, softmax_into},
    },
    error::Result,
    exchange::{FineScores, ScoreActivation},
};

/// A curve is drawn to a 250th of its axes.
const DRAWN_STEP: f64 = 0.004;
/// How many images are shown of each kind of error.
const WORST: usize = 8;

/// How often a class is, and is said to be, there.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ClassFigures {
    /// Images that truly have it.
    pub support: u64,
    /// Images that are said to have it.
    pub predicted: u64,
    /// Images that are said to have it, and do.
    pub correct: u64,
    /// Average precision over the images by its probability, percentile bootstrap.
    pub average_precision: Figure,
    /// correct / predicted, Wilson interval.
    pub precision: Figure,
    /// correct / support, Wilson interval.
    pub recall: Figure,
    /// Harmonic mean of precision and recall.
    pub f1: Option<f64>,
}

/// Precision and recall over every threshold on a class's probability.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PrecisionRecall {
    /// How many points the curve has: one for each distinct probability, and its start.
    pub points: usize,
    /// Those of them that are drawn: none that is left out is further than 0.004 away.
    pub drawn: Vec<PrPoint>,
    /// The highest thresholds that reach a recall of 0.1, 0.2, … 1.
    pub at_recall: Vec<PrPoint>,
    /// Where F1 is highest on these images.
    pub best_f1: PrPoint,
}

/// Probabilities held against what is true, in 15 equal bins.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CalibrationReport {
    /// The expected calibration error; `None` without images.
    pub ece: Option<f64>,
    /// From the lowest probabilities to the highest.
    pub bins: Vec<CalibrationBin>,
}

/// Images whose probability lies in one bin.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct CalibrationBin {
    /// Probabilities are above this; 0 itself is in the first bin.
    pub above: f64,
    /// Probabilities are at most this.
    pub up_to: f64,
    /// Images.
    pub images: u64,
    /// Their mean probability; `None` for an empty bin.
    pub confidence: Option<f64>,
    /// The share of them for which it is true, Wilson interval.
    pub frequency: Figure,
}

/// An image about which a run is wrong, and sure.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct WrongImage {
    /// The probability of the class that it has and is not said to have, or the other way round.
    pub probability: f64,
    /// The image and what was decided.
    #[serde(flatten)]
    pub item: OutcomeItem,
}

/// What was said of a class in one image.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said {
    /// The image's row in the scores.
    pub row: usize,
    /// The probability of the class.
    pub probability: f64,
    /// Whether the image truly has it.
    pub truly: bool,
    /// Whether it is said to have it.
    pub predicted: bool,
}

/// The errors that are shown.
pub(super) struct Worst {
    /// Not said though true, the lowest probability first.
    pub missed: Vec<Said>,
    /// Said though not true, the highest probability first.
    pub extra: Vec<Said>,
}

impl ClassFigures {
    /// From counts and the average precision.
    pub(super) fn of(counts: LabelCounts, average_precision: Figure) -> Self {
        let LabelCounts { support, predicted, correct } = counts;
        Self {
            support,
            predicted,
            correct,
            average_precision,
            precision: Figure::proportion(correct, predicted),
            recall: Figure::proportion(correct, support),
            f1: counts.f1(),
        }
    }

    /// Images that truly have it and are not said to.
    pub fn missed(&self) -> u64 {
        self.support - self.correct
    }

    /// Images that are said to have it and do not.
    pub fn extra(&self) -> u64 {
        self.predicted - self.correct
    }
}

impl PrecisionRecall {
    /// Of images, each with what it is ranked by and whether it truly has the class; `None` without any that has.
    /// `probability` of what is ranked by, which it rises with.
    pub(super) fn of(images: impl Iterator<Item = (f64, bool)>, probability: impl Fn(f64) -> f64) -> Option<Self> {
        let mut curve = pr_curve::precision_recall_curve(images);
        for point in &mut curve {
            point.threshold = point.threshold.map(&probability);
        }
        Some(Self {
            points: curve.len(),
            drawn: pr_curve::thinned(&curve, DRAWN_STEP),
            at_recall: (1..=10).filter_map(|tenths| pr_curve::reaching(&curve, f64::from(tenths) / 10.0)).collect(),
            best_f1: pr_curve::best_f1(&curve)?,
        })
    }
}

impl From<Calibration> for CalibrationReport {
    fn from(calibration: Calibration) -> Self {
        let bins = calibration.bins.iter().enumerate().map(|(index, bin)| {
            let (above, up_to) = Bin::edges(index);
            let frequency = Figure::proportion(bin.positives, bin.images);
            CalibrationBin { above, up_to, images: bin.images, confidence: bin.confidence(), frequency }
        });
        Self { ece: calibration.error(), bins: bins.collect() }
    }
}

impl Worst {
    /// Among images in the order of their rows, in which equally wrong ones stay.
    pub(super) fn of(images: &[Said]) -> Self {
        let some = |truly: bool| {
            let mut wrong: Vec<Said> = images.iter().copied().filter(|said| said.truly == truly).collect();
            wrong.retain(|said| said.predicted != said.truly);
            wrong.sort_by(|a, b| match truly {
                true => a.probability.total_cmp(&b.probability),
                false => b.probability.total_cmp(&a.probability),
            });
            wrong.truncate(WORST);
            wrong
        };
        Self { missed: some(true), extra: some(false) }
    }
}

impl Reports {
    /// The images of such errors, decided under a rule, to be shown.
    pub(super) async fn wrong_images(&self, id: RunId, rule: &RuleQuery, wrong: &[Said]) -> Result<Vec<WrongImage>> {
        let rows: Vec<usize> = wrong.iter().map(|said| said.row).collect();
        let items = self.outcomes_of(id, rule, &rows).await?;
        Ok(wrong.iter().zip(items).map(|(said, item)| WrongImage { probability: said.probability, item }).collect())
    }
}

/// What images are ranked by for each of `labels`: `[labels][images]`. A sigmoid's probability rises with the logit, which
/// keeps apart what the probability would round to 1; a softmax's logits mean something within one image alone, so there it
/// is the probability.
pub(super) fn ranked_by(fine: &FineScores, labels: &[FineId]) -> Vec<Vec<f64>> {
    let images = fine.logits.len() / fine.fine_count;
    let mut columns: Vec<Vec<f64>> = labels.iter().map(|_| Vec::with_capacity(images)).collect();
    let mut values = Vec::with_capacity(fine.fine_count);
    for logits in fine.logits.chunks_exact(fine.fine_count) {
        match fine.activation {
            ScoreActivation::Softmax => softmax_into(logits, &mut values),
            ScoreActivation::Sigmoid => {
                values.clear();
                values.extend(logits.iter().copied().map(f64::from));
            }
        }
        for (column, label) in columns.iter_mut().zip(labels) {
            column.push(values[label.index()]);
        }
    }
    columns
}

/// The probability of what images are [`ranked_by`], which for a sigmoid is a stored float32 logit.
pub(super) fn probability(activation: ScoreActivation, ranked_by: f64) -> f64 {
    match activation {
        ScoreActivation::Softmax => ranked_by,
        ScoreActivation::Sigmoid => sigmoid(ranked_by as f32),
    }
}
