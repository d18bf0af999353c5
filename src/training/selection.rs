//! Which epoch's weights a run leaves.

use crate::{
    domain::spec::{Fields, Keep},
    model::{Logits, Snapshot},
};

/// What the validation split says of an epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    pub loss: Option<f64>,
    pub coarse_accuracy: Option<f64>,
    pub ia: Option<f64>,
}

/// The best epoch so far.
#[derive(Debug, Default)]
pub(super) struct Selection {
    /// Its figure, and its loss with the sign turned, by which equal figures are told apart; larger is better.
    pub best: Option<[f64; 2]>,
    pub kept: Kept,
}

/// An epoch as it was.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// From 1.
    pub epoch: usize,
    /// Nothing where the last epoch is kept: the weights are what they are.
    pub weights: Option<Snapshot>,
    /// Of the validation split.
    pub logits: Logits,
}

impl Selection {
    /// Whether an epoch is better than every one before it; the last epoch always is, if it is to be kept. Of equal figures
    /// that of the lower loss is better: for some epochs no image may be right at all. An undefined figure is the worst there
    /// is, and the first epoch is better than none.
    pub fn improves(&mut self, keep: Keep, figures: Figures) -> bool {
        let loss = figures.loss.map(|loss| -loss);
        let figure = match keep {
            Keep::Last => return true,
            Keep::BestLoss => loss,
            Keep::BestCoarseAccuracy => figures.coarse_accuracy,
            Keep::BestIa => figures.ia,
        };
        let defined = |figure: Option<f64>| figure.filter(|figure| !figure.is_nan()).unwrap_or(f64::NEG_INFINITY);
        let score = [defined(figure), defined(loss)];
        let improves = self.best.is_none_or(|best| score > best);
        if improves {
            self.best = Some(score);
        }
        improves
    }

    /// Whether the run has waited long enough for a better epoch. It waits for every layer group that is still to thaw.
    pub fn exhausted(&self, spec: &Fields, epoch: usize) -> bool {
        let since = self.kept.epoch.max(spec.unfreeze.last_thaw().saturating_sub(1));
        spec.patience.is_some_and(|patience| epoch.saturating_sub(since) >= patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        RunSpec,
        spec::{Backbone, Objective},
    };

    const NOTHING: Figures = Figures { loss: None, coarse_accuracy: None, ia: None };

    #[test]
    fn the_first_of_equally_good_epochs_is_kept() {
        let improves = |keep, figures: &[Figures]| {
            let mut selection = Selection::default();
            figures.iter().map(|&figures| selection.improves(keep, figures)).collect::<Vec<_>>()
        };
        let losses = [1.0, 0.5, 0.5, 0.6, f64::NAN, 0.4].map(|loss| Figures { loss: Some(loss), ..NOTHING });
        assert_eq!(improves(Keep::BestLoss, &losses), [true, true, false, false, false, true]);
        assert_eq!(improves(Keep::Last, &losses), [true; 6]);
        let accuracies = [0.5, 0.4, 0.6].map(|value| Figures { coarse_accuracy: Some(value), ..NOTHING });
        assert_eq!(improves(Keep::BestCoarseAccuracy, &accuracies), [true, false, true]);
        let ias = [None, Some(0.0), Some(0.2)].map(|ia| Figures { ia, ..NOTHING });
        assert_eq!(improves(Keep::BestIa, &ias), [true, true, true]);
        let nothing_right = [3.0, 2.0, 2.5, 2.0].map(|loss| Figures { ia: Some(0.0), loss: Some(loss), ..NOTHING });
        assert_eq!(improves(Keep::BestIa, &nothing_right), [true, true, false, false]);
    }

    #[test]
    fn patience_counts_the_epochs_since_the_kept_one() {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::CoarseOnly);
        let spec = spec.with(|spec| (spec.keep, spec.patience) = (Keep::BestLoss, Some(3))).unwrap();
        let selection = Selection { kept: Kept { epoch: 4, ..Kept::default() }, ..Selection::default() };
        let exhausted: Vec<bool> = (4..9).map(|epoch| selection.exhausted(&spec, epoch)).collect();
        assert_eq!(exhausted, [false, false, false, true, true]);
        // A group that thaws at epoch 7 has its three epochs.
        let thaws = spec.with(|spec| spec.unfreeze = "layer4@7".parse().unwrap()).unwrap();
        let exhausted: Vec<bool> = (4..11).map(|epoch| selection.exhausted(&thaws, epoch)).collect();
        assert_eq!(exhausted, [false, false, false, false, false, true, true]);
    }
}
