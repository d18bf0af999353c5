//! What a run said about each test image, beside what is true of it.

use std::sync::Arc;

use super::Reports;
use crate::{
    analysis::{Decision, Truth, decide_all},
    domain::{CoarseId, DecisionRule, LabelSet, RunId, Split},
    error::{Error, Result},
    exchange::Scores,
};

/// The scores of a run's test images and the truths, row by row.
pub(super) struct Evidence {
    pub scores: Arc<Scores>,
    truths: Vec<(i64, LabelSet, CoarseId)>,
}

impl Evidence {
    /// One for each row of the scores.
    pub fn truths(&self) -> impl Iterator<Item = Truth<'_>> {
        self.truths.iter().map(|(_, fine, coarse)| Truth { fine, coarse: *coarse })
    }

    /// What is decided for each image; `rule` as in [`decide_all`].
    pub fn decide(&self, rule: Option<DecisionRule>) -> Vec<Decision> {
        decide_all(&self.scores, self.truths(), rule)
    }
}

impl Reports {
    /// Of a succeeded run.
    pub(super) async fn evidence(&self, run: RunId) -> Result<Evidence> {
        let scores = self.scores(run, Split::Test).await?;
        let truths = self.store.truths(run, Split::Test).await?;
        // Both are in the order of the images' ids.
        if !scores.image_ids.iter().eq(truths.iter().map(|(id, ..)| id)) {
            return Err(Error::internal(
                "scores and data set differ",
                format!("{} and {} images of run {run}, or other ones", scores.len(), truths.len()),
            ));
        }
        Ok(Evidence { scores, truths })
    }
}
