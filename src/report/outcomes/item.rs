//! One image: as lists show it, and in full.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Asked, OutcomeQuery};
use crate::{
    domain::{FineId, ImageId, Judgements, LabelSet, Outcome, RunId, Split, decision::softmax},
    error::{Error, Result},
    report::{Reports, RunBrief, ShownRun, reports::brief, rule::rule_words},
    store::ListedImage,
};

/// Runs whose outcomes an image's page shows, at most.
const MAX_RUNS: usize = 50;
/// Fine labels that an image's page shows, most probable first; the true ones always.
const TOP: usize = 12;

/// One image and what was decided.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OutcomeItem {
    /// The image: `/images/{id}` is the file, `/images/{id}/thumbnail` a small one.
    pub image: ImageId,
    /// Its id in the source (COCO's).
    pub source_id: i64,
    /// Its file name.
    pub file_name: String,
    /// The outcome; `None` for a coarse-only run.
    pub outcome: Option<Outcome>,
    /// Whether the category is right.
    pub coarse_correct: bool,
    /// True fine labels.
    pub true_fine: Vec<String>,
    /// Predicted fine labels, most probable first; `None` for a coarse-only run.
    pub predicted_fine: Option<Vec<ScoredLabel>>,
    /// True labels that were not predicted; `None` for a coarse-only run.
    pub missing_fine: Option<Vec<MissedLabel>>,
    /// True category.
    pub true_coarse: String,
    /// Predicted category.
    pub predicted_coarse: String,
    /// Softmax probability of the predicted category.
    pub coarse_probability: f64,
    /// Softmax probability of the true category minus the highest of another one.
    pub margin: f64,
    /// The loss of the image, as in training, in nats.
    pub loss: f64,
    /// Its tags.
    pub tags: Vec<String>,
    /// What somebody wrote about it.
    pub note: Option<String>,
}

/// A predicted fine label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ScoredLabel {
    /// Its name.
    pub name: String,
    /// Its probability under the run's activation.
    pub probability: f64,
    /// Whether it is truly there.
    pub correct: bool,
}

/// A true fine label that was not predicted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MissedLabel {
    /// Its name.
    pub name: String,
    /// Its probability under the run's activation.
    pub probability: f64,
}

/// `GET /api/v1/runs/{id}/outcomes/{image}`: one image in full, and where it stands in a listing.
#[derive(Clone, Debug, Serialize)]
pub struct ImageReport {
    /// The run.
    pub run: RunBrief,
    /// The decision rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// What was decided.
    pub item: OutcomeItem,
    /// The most probable fine labels and all true ones, most probable first; empty for a coarse-only run.
    pub fine: Vec<ScoredLabel>,
    /// All categories, most probable first; `correct` says which one it is.
    pub coarse: Vec<ScoredLabel>,
    /// What other runs on the same test images decided, newest first; empty for validation images.
    pub others: Vec<OutcomeUnder>,
    /// The image before it among those that fit the query.
    pub previous: Option<ImageId>,
    /// The image after it.
    pub next: Option<ImageId>,
    /// Where it stands among them, from 1; `None` if it does not fit.
    pub position: Option<u64>,
    /// How many fit.
    pub total: u64,
}

/// What a run decided for one image under its own rule.
#[derive(Clone, Debug, Serialize)]
pub struct OutcomeUnder {
    /// The run.
    pub run: RunId,
    /// Its name.
    pub name: String,
    /// The outcome; `None` for a coarse-only run.
    pub outcome: Option<Outcome>,
    /// Whether the category is right.
    pub coarse_correct: bool,
}

impl Reports {
    /// One image of a run in full. `query` says which images are its neighbours, and under which rule it is decided.
    pub async fn image(&self, id: RunId, image: ImageId, query: &OutcomeQuery) -> Result<ImageReport> {
        let asked = self.asked(id, query).await?;
        let (asked, place) = crate::report::blocking(move || {
            let place = asked.selection.place(image);
            (asked, place)
        })
        .await?;
        let place = place?;
        let asked = Arc::new(asked);
        let items = self.items(&asked, vec![place.row]).await?;
        let item = items
            .into_iter()
            .next()
            .ok_or_else(|| Error::internal("an image was not listed", format!("image {image} of run {id}")))?;
        let brief = brief(asked.run.clone());
        let others = if asked.split.is_test() { self.others(&brief, place.row).await? } else { Vec::new() };
        let image_of = |row: usize| asked.evidence.truths.images[row];
        Ok(ImageReport {
            fine: asked.fine_labels(place.row),
            coarse: asked.categories(place.row),
            rule: asked.rule.as_ref().map(rule_words),
            others,
            previous: place.previous.map(image_of),
            next: place.next.map(image_of),
            position: place.position,
            total: place.total,
            item,
            run: brief,
        })
    }

    async fn others(&self, run: &RunBrief, row: usize) -> Result<Vec<OutcomeUnder>> {
        let mut others = Vec::new();
        let comparable = self.comparable(run).await?;
        for other in
            comparable.into_iter().filter(|other| other.id != run.id && other.dataset == run.dataset).take(MAX_RUNS)
        {
            let judged = self.judgements(&other, Split::Test, other.spec.own_rule().as_ref()).await?;
            others.push(OutcomeUnder::of(&ShownRun { id: other.id, name: other.name.clone() }, &judged, row));
        }
        Ok(others)
    }

    pub(in crate::report) async fn items(&self, asked: &Arc<Asked>, rows: Vec<usize>) -> Result<Vec<OutcomeItem>> {
        let images: Vec<ImageId> = rows.iter().map(|row| asked.evidence.truths.images[*row]).collect();
        let listed = self.store.listed(&images).await?;
        let asked = asked.clone();
        crate::report::blocking(move || {
            rows.into_iter().zip(listed).map(|(row, listed)| asked.item(row, listed)).collect()
        })
        .await
    }
}

impl OutcomeUnder {
    pub(in crate::report) fn of(run: &ShownRun, judged: &Judgements, row: usize) -> Self {
        Self {
            run: run.id,
            name: run.name.clone(),
            outcome: judged.outcome(row),
            coarse_correct: judged.coarse_correct(row),
        }
    }
}

impl Asked {
    fn item(&self, row: usize, listed: ListedImage) -> OutcomeItem {
        let (scores, truths, columns) = (&self.evidence.scores, &self.evidence.truths, &self.selection.columns);
        let labels = &truths.labels[row];
        let predicted =
            scores.fine_row(row).zip(self.rule.as_ref()).map(|(logits, rule)| rule.decide(logits, labels.len()));
        let probabilities = self.probabilities(row);
        let probability = |label: FineId| probabilities.get(label.index()).copied().unwrap_or_default();
        let missing = |predicted: &LabelSet| {
            let missed = labels.iter().filter(|label| !predicted.contains(*label));
            missed.map(|label| MissedLabel { name: self.name(label), probability: probability(label) }).collect()
        };
        let category = columns.predicted[row];
        OutcomeItem {
            image: truths.images[row],
            source_id: truths.source_ids[row],
            outcome: self.selection.judgements.outcome(row),
            coarse_correct: self.selection.judgements.coarse_correct(row),
            true_fine: labels.iter().map(|label| self.name(label)).collect(),
            missing_fine: predicted.as_ref().map(missing),
            predicted_fine: predicted.map(|predicted| self.scored(predicted.iter(), labels, probability)),
            true_coarse: self.taxonomy.coarse_name(truths.coarse[row]).to_owned(),
            predicted_coarse: self.taxonomy.coarse_name(category).to_owned(),
            coarse_probability: softmax(scores.coarse_row(row))[category.index()],
            margin: columns.margin[row].into(),
            loss: columns.loss[row].into(),
            file_name: listed.file_name,
            tags: listed.tags,
            note: listed.note,
        }
    }

    /// The most probable fine labels and the true ones.
    fn fine_labels(&self, row: usize) -> Vec<ScoredLabel> {
        let probabilities = self.probabilities(row);
        let labels = &self.evidence.truths.labels[row];
        let all = (0..probabilities.len() as u16).map(FineId);
        let mut scored = self.scored(all, labels, |label| probabilities[label.index()]);
        let mut rank = 0..;
        scored.retain(|label| rank.next().is_some_and(|rank| rank < TOP) || label.correct);
        scored
    }

    fn categories(&self, row: usize) -> Vec<ScoredLabel> {
        let truth = self.evidence.truths.coarse[row].index();
        let probabilities = softmax(self.evidence.scores.coarse_row(row));
        let names = self.taxonomy.coarse().iter().cloned();
        let mut categories: Vec<ScoredLabel> = names
            .zip(probabilities)
            .enumerate()
            .map(|(index, (name, probability))| ScoredLabel { name, probability, correct: index == truth })
            .collect();
        categories.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        categories
    }

    /// Most probable first.
    fn scored(
        &self,
        labels: impl Iterator<Item = FineId>,
        truth: &LabelSet,
        probability: impl Fn(FineId) -> f64,
    ) -> Vec<ScoredLabel> {
        let mut scored: Vec<ScoredLabel> = labels
            .map(|label| ScoredLabel {
                name: self.name(label),
                probability: probability(label),
                correct: truth.contains(label),
            })
            .collect();
        scored.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        scored
    }

    /// Of the fine labels under the run's activation; none for a coarse-only run.
    fn probabilities(&self, row: usize) -> Vec<f64> {
        let scores = &self.evidence.scores;
        let fine = scores.fine.as_ref().zip(scores.fine_row(row));
        fine.map(|(fine, logits)| fine.activation.probabilities(logits)).unwrap_or_default()
    }

    fn name(&self, label: FineId) -> String {
        self.taxonomy.fine_name(label).to_owned()
    }
}
