//! From the scores of one image to its outcome.

use crate::domain::{CoarseId, DecisionRule, LabelSet, Outcome, decision::arg_max};

/// What is true of one image.
#[derive(Clone, Copy, Debug)]
pub struct Truth<'a> {
    /// All of its fine labels.
    pub fine: &'a LabelSet,
    /// Its category.
    pub coarse: CoarseId,
}

/// What was decided for one image, held against the truth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The labels taken by the rule; `None` without fine scores.
    pub fine: Option<LabelSet>,
    /// The arg-max category; ties: lower index.
    pub coarse: CoarseId,
    /// Whether the predicted fine set equals the true one: all of them, nothing more. `None` without fine scores.
    pub fine_correct: Option<bool>,
    /// Whether the category is the true one.
    pub coarse_correct: bool,
}

impl Decision {
    /// The outcome (table 1); `None` without fine scores.
    pub fn outcome(&self) -> Option<Outcome> {
        Some(Outcome::of(self.fine_correct?, self.coarse_correct))
    }
}

/// Decides one image. `fine`: its fine logits and the rule, or `None` for a coarse-only run; `coarse`: its coarse logits.
pub fn decide(fine: Option<(&[f32], DecisionRule)>, coarse: &[f32], truth: Truth) -> Decision {
    let fine = fine.map(|(logits, rule)| rule.decide(logits, truth.fine.len()));
    let coarse = CoarseId(arg_max(coarse) as u16);
    Decision {
        fine_correct: fine.as_ref().map(|fine| fine == truth.fine),
        coarse_correct: coarse == truth.coarse,
        fine,
        coarse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{FineId, Threshold, TopK};

    #[test]
    fn the_fine_set_must_be_equal_and_the_category_the_arg_max() {
        let labels: LabelSet = [FineId(0), FineId(2)].into_iter().collect();
        let truth = Truth { fine: &labels, coarse: CoarseId(1) };
        let oracle = DecisionRule::TopK { k: TopK::Oracle };
        let strict = DecisionRule::Threshold { threshold: Threshold::PAPER };
        let of = |fine, coarse: &[f32]| decide(fine, coarse, truth).outcome();
        let logits = [2.0, -1.0, 0.5];
        assert_eq!(of(Some((&logits, oracle)), &[0.0, 1.0]), Some(Outcome::Ftct));
        // sigmoid(0.5) = 0.62: the threshold takes one label of the two.
        assert_eq!(of(Some((&logits, strict)), &[0.0, 1.0]), Some(Outcome::Ffct));
        // A tie goes to the lower index, which is wrong here.
        assert_eq!(of(Some((&logits, oracle)), &[1.0, 1.0]), Some(Outcome::Ftcf));
        assert_eq!(of(Some((&logits, strict)), &[1.0, 1.0]), Some(Outcome::Ffcf));
        assert_eq!(of(None, &[0.0, 1.0]), None);
        assert!(decide(None, &[0.0, 1.0], truth).coarse_correct);
    }
}
