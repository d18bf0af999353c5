//! From scores to decisions, and their counts.

use rayon::prelude::*;

use crate::{
    domain::{CoarseId, Counts, DecisionRule, Judgements, LabelSet, Outcome, Tally, decision::arg_max},
    exchange::Scores,
};

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
pub fn decide(fine: Option<(&[f32], &DecisionRule)>, coarse: &[f32], truth: Truth) -> Decision {
    let fine = fine.map(|(logits, rule)| rule.decide(logits, truth.fine.len()));
    let coarse = CoarseId(arg_max(coarse) as u16);
    Decision {
        fine_correct: fine.as_ref().map(|fine| fine == truth.fine),
        coarse_correct: coarse == truth.coarse,
        fine,
        coarse,
    }
}

/// Decides every image of a split. `truths`: one per row of `scores`; `rule`: `None` for a coarse-only run.
pub fn decide_all<'a>(
    scores: &Scores,
    truths: impl IntoIterator<Item = Truth<'a>>,
    rule: Option<&DecisionRule>,
) -> Vec<Decision> {
    let truths: Vec<Truth> = truths.into_iter().collect();
    let one = |(row, truth): (usize, &Truth)| decide(scores.fine_row(row).zip(rule), scores.coarse_row(row), *truth);
    truths.par_iter().enumerate().map(one).collect()
}

/// What is right about each image of a split, as [`decide_all`] has it.
pub fn judge_all<'a>(
    scores: &Scores,
    truths: impl IntoIterator<Item = Truth<'a>>,
    rule: Option<&DecisionRule>,
) -> Judgements {
    let right = |one: Decision| (one.fine_correct.unwrap_or(false), one.coarse_correct);
    Judgements::of(rule.is_some(), decide_all(scores, truths, rule).into_iter().map(right))
}

/// Counts the decisions of a split; `rule` as it was given to [`decide_all`].
pub fn tally(decisions: &[Decision], rule: Option<&DecisionRule>) -> Tally {
    Tally {
        images: decisions.len() as u64,
        coarse_correct: decisions.iter().filter(|decision| decision.coarse_correct).count() as u64,
        counts: rule.map(|_| decisions.iter().filter_map(Decision::outcome).collect::<Counts>()),
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
        assert_eq!(of(Some((&logits, &oracle)), &[0.0, 1.0]), Some(Outcome::Ftct));
        // sigmoid(0.5) = 0.62: the threshold takes one label of the two.
        assert_eq!(of(Some((&logits, &strict)), &[0.0, 1.0]), Some(Outcome::Ffct));
        // A tie goes to the lower index, which is wrong here.
        assert_eq!(of(Some((&logits, &oracle)), &[1.0, 1.0]), Some(Outcome::Ftcf));
        assert_eq!(of(Some((&logits, &strict)), &[1.0, 1.0]), Some(Outcome::Ffcf));
        assert_eq!(of(None, &[0.0, 1.0]), None);
        assert!(decide(None, &[0.0, 1.0], truth).coarse_correct);
    }
}
