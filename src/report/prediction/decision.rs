//! The decision path of one run for one photograph.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{CoarseId, DecisionRule, Taxonomy, spec::Objective},
    explanation::{DecisionPath, FineEvidence},
    report::{RunBrief, reports::brief, rule::rule_words},
    store::RunRow,
};

/// How one run decided for one image: image → fine labels → category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunDecision {
    /// The run whose model decided.
    pub run: RunBrief,
    /// The rule; `null` for a coarse-only run. An upload has no truth, so k is chosen, never the oracle.
    pub rule: Option<DecisionRule>,
    /// The rule in words.
    pub rule_words: Option<String>,
    /// The predicted category.
    pub category: String,
    /// The category with the second highest logit.
    pub runner_up: Option<String>,
    /// One sentence: “animal, because of dog 0.93 (+4.1) and person 0.71 (+0.2)”.
    pub sentence: String,
    /// Fine labels, most probable first (the `top` most probable and every one the rule takes).
    pub fine: Vec<PredictedLabel>,
    /// Summed contribution of the fine labels that `fine` leaves out, to the predicted category.
    pub rest_contribution: f64,
    /// All categories, most probable first.
    pub coarse: Vec<PredictedCategory>,
}

/// One fine label's part in the decision.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PredictedLabel {
    /// Its name.
    pub name: String,
    /// Its own category; `None` for a public label.
    pub parent: Option<String>,
    /// Its logit.
    pub logit: f32,
    /// Its probability under the run's activation.
    pub probability: f64,
    /// Whether the rule takes it.
    pub taken: bool,
    /// `W_mt p_t` to the predicted category.
    pub contribution: f64,
    /// `W_mt p_t` to the runner-up.
    pub runner_up_contribution: Option<f64>,
    /// To every category, in taxonomy order.
    pub contributions: Vec<Contribution>,
}

/// A fine label's contribution to a category's logit.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contribution {
    /// The category.
    pub coarse: String,
    /// `W_mt p_t`.
    pub value: f64,
}

/// One category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PredictedCategory {
    /// Its name.
    pub name: String,
    /// Its logit: bias + contributions of all fine labels.
    pub logit: f64,
    /// `b_m`; `None` for a coarse-only run.
    pub bias: Option<f64>,
    /// Softmax probability.
    pub probability: f64,
}

impl RunDecision {
    /// `path` of an image under a run's model, with the `top` most probable fine labels.
    pub fn of(run: RunRow, taxonomy: &Taxonomy, path: &DecisionPath, top: usize) -> Self {
        let name = |coarse: CoarseId| taxonomy.coarse_name(coarse).to_owned();
        let (shown, rest): (Vec<_>, Vec<_>) =
            path.fine.iter().enumerate().partition(|(rank, evidence)| *rank < top || evidence.taken);
        let mut coarse: Vec<PredictedCategory> = path
            .coarse
            .iter()
            .map(|evidence| PredictedCategory {
                name: name(evidence.coarse),
                logit: evidence.logit,
                bias: evidence.bias,
                probability: evidence.probability,
            })
            .collect();
        coarse.sort_by(|a, b| b.logit.total_cmp(&a.logit));
        Self {
            rule: path.rule.clone(),
            rule_words: path.rule.as_ref().map(|rule| match (rule, run.spec.objective) {
                // The rule reads the sigmoid of a logit, whatever the probabilities that are shown.
                (DecisionRule::Threshold { .. } | DecisionRule::PerLabel { .. }, Objective::TopKSoftmax) => {
                    format!("{}, where p is sigmoid(logit); the probabilities shown are softmax’s", rule_words(rule))
                }
                (rule, _) => rule_words(rule),
            }),
            category: name(path.winner),
            runner_up: path.runner_up.map(name),
            sentence: sentence(taxonomy, path),
            fine: shown.into_iter().map(|(_, evidence)| PredictedLabel::of(evidence, taxonomy, path)).collect(),
            rest_contribution: rest.iter().map(|(_, evidence)| evidence.contributions[path.winner.index()]).sum(),
            coarse,
            run: brief(run),
        }
    }
}

impl PredictedLabel {
    fn of(evidence: &FineEvidence, taxonomy: &Taxonomy, path: &DecisionPath) -> Self {
        let label = &taxonomy.fine()[evidence.fine.index()];
        Self {
            name: label.name.clone(),
            parent: label.parent.map(|parent| taxonomy.coarse_name(parent).to_owned()),
            logit: evidence.logit,
            probability: evidence.probability,
            taken: evidence.taken,
            contribution: evidence.contributions[path.winner.index()],
            runner_up_contribution: path.runner_up.map(|runner_up| evidence.contributions[runner_up.index()]),
            contributions: taxonomy
                .coarse()
                .iter()
                .zip(&evidence.contributions)
                .map(|(coarse, value)| Contribution { coarse: coarse.clone(), value: *value })
                .collect(),
        }
    }
}

/// A label is named when its part of what speaks for the category is at least this.
const WORTH_NAMING: f64 = 0.05;

/// “animal, because of dog 0.93 (+4.1) and person 0.71 (+0.2)”: the at most three labels that add most to the category,
/// whether the rule takes them or not, for it is they that decided.
fn sentence(taxonomy: &Taxonomy, path: &DecisionPath) -> String {
    let category = taxonomy.coarse_name(path.winner);
    if path.rule.is_none() {
        return format!("{category}; a coarse-only run has no fine labels to say why");
    }
    let contribution = |evidence: &FineEvidence| evidence.contributions[path.winner.index()];
    let mut speaking: Vec<&FineEvidence> = path.fine.iter().filter(|evidence| contribution(evidence) > 0.0).collect();
    speaking.sort_by(|a, b| contribution(b).total_cmp(&contribution(a)));
    let all: f64 = speaking.iter().map(|evidence| contribution(evidence)).sum();
    let phrases: Vec<String> = speaking
        .iter()
        .take(3)
        .filter(|evidence| contribution(evidence) >= WORTH_NAMING * all)
        .map(|evidence| {
            let name = taxonomy.fine_name(evidence.fine);
            let not_taken = if evidence.taken { "" } else { ", not taken" };
            format!("{name} {:.2} ({:+.1}{not_taken})", evidence.probability, contribution(evidence))
        })
        .collect();
    match phrases.as_slice() {
        [] => format!("{category}, although no fine label speaks for it"),
        [only] => format!("{category}, because of {only}"),
        [first @ .., last] => format!("{category}, because of {} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{Threshold, spec::CoarseInput},
        exchange::ScoreActivation,
        explanation::{Head, decision_path},
    };

    #[test]
    fn the_sentence_names_what_decided() {
        let taxonomy = Taxonomy::from_json(
            r#"{"name":"t","coarse":["animal","food"],
                "fine":[{"name":"dog","parent":"animal"},{"name":"cake","parent":"food"},{"name":"person","public":true}]}"#,
        )
        .unwrap();
        let head = Head {
            activation: ScoreActivation::Sigmoid,
            coarse_input: CoarseInput::Probabilities,
            weight: &[4.0, -1.0, 0.25, -2.0, 3.0, 0.0],
            bias: &[0.0, 0.0],
        };
        let said = |logits: &[f32]| {
            let rule = DecisionRule::Threshold { threshold: Threshold::PAPER };
            sentence(&taxonomy, &decision_path(logits, &head, &rule, 0))
        };
        assert_eq!(said(&[9.0, -9.0, -9.0]), "animal, because of dog 1.00 (+4.0)");
        assert_eq!(said(&[9.0, -9.0, 12.0]), "animal, because of dog 1.00 (+4.0) and person 1.00 (+0.2)");
        assert_eq!(said(&[0.0, -9.0, -9.0]), "animal, because of dog 0.50 (+2.0, not taken)");
        // Only the bias is left, and a tie goes to the first category.
        assert_eq!(said(&[-2000.0, -2000.0, -2000.0]), "animal, although no fine label speaks for it");
    }
}
