//! What follows training: the scores of the epoch that is kept.

use std::{ops::ControlFlow, sync::Arc};

use super::{Stoppable, Trainer};
use crate::{
    dataset::Sample,
    domain::Split,
    evaluation::{self, Percentiles},
    model::Logits,
    training::{Observer, Trained, TrainingEvent, frozen::head, selection::Kept},
};

impl Trainer<'_> {
    /// Percentiles over the images learned from, then the scores of validation and test, all of the epoch that is kept.
    pub(super) fn finish(mut self, test: &[Sample], observer: &mut dyn Observer) -> Stoppable<Trained> {
        // As they were in the last epoch, also if an earlier attempt trained it: from features come other last bits.
        self.frozen.set_groups(self.spec.unfreeze.frozen(self.spec.backbone, self.state.position.epochs));
        go_on!(self.prepare_features(observer)?);
        let Kept { epoch, weights, logits } = std::mem::take(&mut self.state.selection.kept);
        if let Some(weights) = weights {
            weights.restore()?;
        }
        go_on!(observer.on(TrainingEvent::Kept { epoch, trained: self.state.position.epochs }));
        let samples = self.samples.clone();
        let train = std::mem::take(&mut self.train);
        let percentiles = match self.state.model.spec().activation {
            Some(_) => {
                let logits = match self.frozen.features(&train)? {
                    Some(features) => head(&self.state.model, &features)?,
                    None => go_on!(self.reported(Split::Train, &samples, &train, observer)?),
                };
                Percentiles::of(&logits.fine.unwrap_or_default(), self.state.model.spec().fine_count)
            }
            None => Percentiles::default(),
        };
        let validation = evaluation::scores(&self.state.model, Split::Validation, self.ids(), logits, &percentiles)?;
        let test: Arc<[Sample]> = test.into();
        let order: Vec<usize> = (0..test.len()).collect();
        let logits = go_on!(self.reported(Split::Test, &test, &order, observer)?);
        let ids = test.iter().map(|sample| sample.source_id).collect();
        let test = evaluation::scores(&self.state.model, Split::Test, ids, logits, &percentiles)?;
        Ok(ControlFlow::Continue(Trained { model: self.state.model, epoch, scores: vec![validation, test] }))
    }

    fn reported(
        &mut self,
        split: Split,
        samples: &Arc<[Sample]>,
        order: &[usize],
        observer: &mut dyn Observer,
    ) -> Stoppable<Logits> {
        let total = order.len();
        let mut throttle = std::mem::take(&mut self.throttle);
        let mut progress = |done| {
            if done == total || throttle.ready() {
                observer.on(TrainingEvent::Evaluating { split, done, total })
            } else {
                ControlFlow::Continue(())
            }
        };
        let logits = self.logits(samples, order, &mut progress);
        self.throttle = throttle;
        logits
    }
}
