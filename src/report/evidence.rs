//! What a run said about each image of a split, beside what is true of it.

use std::sync::Arc;

use super::Reports;
use crate::{
    analysis::{Columns, Decision, Truth, columns::FineLoss, decide_all, judge_all},
    domain::{DecisionRule, Judgements, RunId, Split},
    error::{Error, Result},
    exchange::{ScoreActivation, Scores},
    store::{DatasetRow, RunRow, Truths},
    worker::protocol::ArtifactKind,
};

/// The scores of a run's images and the truths, row by row.
pub(super) struct Evidence {
    pub scores: Scores,
    pub truths: Arc<Truths>,
}

impl Evidence {
    /// One for each row of the scores.
    pub fn truths(&self) -> impl ExactSizeIterator<Item = Truth<'_>> {
        self.truths.labels.iter().zip(&self.truths.coarse).map(|(fine, coarse)| Truth { fine, coarse: *coarse })
    }

    /// What is decided for each image; `rule` as in [`decide_all`].
    pub fn decide(&self, rule: Option<&DecisionRule>) -> Vec<Decision> {
        decide_all(&self.scores, self.truths(), rule)
    }

    /// How much memory the scores take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        let fine = self.scores.fine.as_ref().map_or(0, |fine| fine.logits.len());
        4 * (fine + self.scores.coarse_logits.len()) + 8 * self.scores.len()
    }
}

impl Reports {
    /// Of a succeeded run, on the test or the validation images.
    pub(super) async fn evidence(&self, run: RunId, split: Split) -> Result<Arc<Evidence>> {
        let kind = match split {
            Split::Test => ArtifactKind::ScoresTest,
            Split::Validation => ArtifactKind::ScoresValidation,
            Split::Train => return Err(Error::Invalid("split: there are scores of test and validation only".into())),
        };
        let key = format!("{run} {split}");
        if let Some(known) = self.evidence.get(&key) {
            return Ok(known);
        }
        let artifact = self.store.artifact(run, kind).await?;
        let dataset = self.store.dataset(&self.store.run(run).await?.dataset).await?;
        let read = super::blocking(move || {
            Scores::read(&artifact.path, Some(&artifact.sha256))
                .map_err(|error| Error::internal(format!("the scores of run {run} cannot be read"), error))
        });
        let (scores, truths) = tokio::join!(read, self.truths(&dataset, split));
        let (scores, truths) = (scores??, truths?);
        // Validation images are some of those in train.
        let truths = if scores.image_ids == truths.source_ids { truths } else { of_scores(&scores, &truths)? };
        let evidence = Arc::new(Evidence { scores, truths });
        self.evidence.put(key, evidence.clone());
        Ok(evidence)
    }

    /// What is true of all images of a split of a data set.
    pub(super) async fn truths(&self, dataset: &DatasetRow, split: Split) -> Result<Arc<Truths>> {
        // The number of a deleted data set can be given to another one.
        let key = format!("{} {} {}", dataset.id, dataset.created_at, split.is_test());
        if let Some(known) = self.truths.get(&key) {
            return Ok(known);
        }
        let truths = Arc::new(self.store.truths(dataset.id, split).await?);
        self.truths.put(key, truths.clone());
        Ok(truths)
    }

    /// What was right about each image under any rule. Under the run's own rule no score is read.
    pub(super) async fn judgements(
        &self,
        run: &RunRow,
        split: Split,
        rule: Option<&DecisionRule>,
    ) -> Result<Arc<Judgements>> {
        let own = rule == run.spec.own_rule().as_ref();
        let words = if own { "own".into() } else { format!("{rule:?}") };
        let key = format!("{} {split} {words}", run.id);
        if let Some(known) = self.judgements.get(&key) {
            return Ok(known);
        }
        let judgements = if own {
            self.store.judgements(run.id, split).await?
        } else {
            let rule = rule.cloned().ok_or_else(|| super::no_fine_scores(run.id))?;
            let separations = self.separations(run, split).await?;
            let evidence = self.evidence(run.id, split).await?;
            super::blocking(move || {
                let decided = || judge_all(&evidence.scores, evidence.truths(), Some(&rule));
                separations.judge(&rule).unwrap_or_else(decided)
            })
            .await?
        };
        let judgements = Arc::new(judgements);
        self.judgements.put(key, judgements.clone());
        Ok(judgements)
    }

    /// What is sorted and filtered by, for each image of a split.
    pub(super) async fn columns(&self, run: &RunRow, split: Split) -> Result<Arc<Columns>> {
        let key = format!("{} {split}", run.id);
        if let Some(known) = self.columns.get(&key) {
            return Ok(known);
        }
        let loss = match ScoreActivation::of(run.spec.objective) {
            None => FineLoss::None,
            Some(ScoreActivation::Sigmoid) => FineLoss::BinaryCrossEntropy,
            Some(ScoreActivation::Softmax) => {
                let taxonomy = self.store.dataset(&run.dataset).await?.taxonomy;
                let alpha = run.spec.focal_alphas(&taxonomy).map_err(|error| {
                    Error::internal("the specification of a finished run does not fit its data set", error)
                })?;
                FineLoss::Focal { alpha, gamma: run.spec.focal_gamma }
            }
        };
        let evidence = self.evidence(run.id, split).await?;
        let columns = super::blocking(move || {
            let truths: Vec<Truth> = evidence.truths().collect();
            Arc::new(Columns::of(&evidence.scores, &truths, &loss))
        })
        .await?;
        self.columns.put(key, columns.clone());
        Ok(columns)
    }
}

/// The truths of the images that have scores.
fn of_scores(scores: &Scores, truths: &Truths) -> Result<Arc<Truths>> {
    let mut found = Truths::default();
    for id in &scores.image_ids {
        let row = truths
            .source_ids
            .binary_search(id)
            .map_err(|_| Error::internal("scores and data set differ", format!("there is no image {id}")))?;
        found.source_ids.push(*id);
        found.images.push(truths.images[row]);
        found.labels.push(truths.labels[row].clone());
        found.coarse.push(truths.coarse[row]);
    }
    Ok(Arc::new(found))
}
