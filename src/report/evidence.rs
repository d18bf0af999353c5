//! What a run said about each image of a split, beside what is true of it.

use std::sync::Arc;

use super::Reports;
use crate::{
    analysis::{Decision, Truth, decide, decide_all},
    domain::{CoarseId, DecisionRule, LabelSet, RunId, Split},
    error::{Error, Result},
    exchange::Scores,
};

/// The scores of a run's images and the truths, row by row.
pub(super) struct Evidence {
    pub scores: Arc<Scores>,
    truths: Vec<(i64, LabelSet, CoarseId)>,
}

impl Evidence {
    /// One for each row of the scores.
    pub fn truths(&self) -> impl Iterator<Item = Truth<'_>> {
        self.truths.iter().map(|(_, fine, coarse)| Truth { fine, coarse: *coarse })
    }

    /// What is true of the image in one row of the scores.
    pub fn truth(&self, row: usize) -> Truth<'_> {
        let (_, fine, coarse) = &self.truths[row];
        Truth { fine, coarse: *coarse }
    }

    /// What is decided for the image in one row; `rule` as in [`decide_all`].
    pub fn decision(&self, row: usize, rule: Option<DecisionRule>) -> Decision {
        decide(self.scores.fine_row(row).zip(rule), self.scores.coarse_row(row), self.truth(row))
    }

    /// What is decided for each image; `rule` as in [`decide_all`].
    pub fn decide(&self, rule: Option<DecisionRule>) -> Vec<Decision> {
        decide_all(&self.scores, self.truths(), rule)
    }
}

impl Reports {
    /// Of a succeeded run, on the test or the validation images.
    pub(super) async fn evidence(&self, run: RunId, split: Split) -> Result<Evidence> {
        let scores = self.scores(run, split).await?;
        let mut truths = self.store.truths(run, split).await?;
        // Both are in the order of the images' ids. Validation images are some of those in train.
        truths.retain(|(id, ..)| scores.image_ids.binary_search(id).is_ok());
        if !scores.image_ids.iter().eq(truths.iter().map(|(id, ..)| id)) {
            return Err(Error::internal(
                "scores and data set differ",
                format!("{} and {} images of run {run}, or other ones", scores.len(), truths.len()),
            ));
        }
        Ok(Evidence { scores, truths })
    }
}
