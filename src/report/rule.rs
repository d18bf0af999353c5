//! Which decision rule is asked for, and how it is said.

use std::num::NonZeroU16;

use serde::{Deserialize, Serialize};

use crate::{
    domain::{DecisionRule, RunSpec, Threshold, TopK},
    error::{Error, Result},
};

/// `rule=top-k|threshold&k=&threshold=`: any rule on any run's fine scores; by default the run's own.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleQuery {
    /// `top-k` or `threshold`.
    pub rule: Option<String>,
    /// Labels taken per image; without it, the oracle: as many as the image truly has.
    pub k: Option<u16>,
    /// θ; by default the run's.
    pub threshold: Option<f64>,
}

impl RuleQuery {
    /// The rule asked for; `None` for a coarse-only run, which has no fine scores to decide on.
    pub fn resolve(&self, spec: &RunSpec) -> Result<Option<DecisionRule>> {
        let invalid = |text: &str| Err(Error::Invalid(text.into()));
        let Some(own) = spec.own_rule() else {
            return match (&self.rule, self.k, self.threshold) {
                (None, None, None) => Ok(None),
                _ => {
                    invalid("rule: a coarse-only run has no fine scores to decide on; leave rule, k and threshold out")
                }
            };
        };
        match (self.rule.as_deref(), self.k, self.threshold) {
            (None, None, None) => Ok(Some(own)),
            (Some("top-k") | None, k, None) => match k {
                Some(0) => invalid("k: at least one label is taken"),
                k => Ok(Some(DecisionRule::TopK { k: k.and_then(NonZeroU16::new).into() })),
            },
            (Some("threshold") | None, None, threshold) => {
                let threshold = threshold.map_or(Ok(spec.threshold), Threshold::try_from);
                let threshold = threshold.map_err(|error| Error::Invalid(format!("threshold: {error}")))?;
                Ok(Some(DecisionRule::Threshold { threshold }))
            }
            (Some("top-k"), _, Some(_)) => invalid("threshold: it goes with rule=threshold"),
            (Some("threshold"), Some(_), _) => invalid("k: it goes with rule=top-k"),
            (None, Some(_), Some(_)) => {
                invalid("k goes with rule=top-k, threshold with rule=threshold: give one of them")
            }
            (Some(other), _, _) => invalid(&format!("rule: “{other}” is not a rule; they are top-k and threshold")),
        }
    }
}

/// A rule as pages say it.
pub fn rule_words(rule: DecisionRule) -> String {
    match rule {
        DecisionRule::TopK { k: TopK::Oracle } => "top-k, k = the image’s true number of labels (oracle)".into(),
        DecisionRule::TopK { k: TopK::Fixed(k) } => format!("top-k, k = {k}"),
        DecisionRule::Threshold { threshold } => format!("p > {}", threshold.get()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{Backbone, Objective};

    fn words(objective: Objective, rule: Option<&str>, k: Option<u16>, threshold: Option<f64>) -> String {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, objective);
        let query = RuleQuery { rule: rule.map(str::to_owned), k, threshold };
        query.resolve(&spec).map_or_else(|error| error.to_string(), |rule| rule.map_or("none".into(), rule_words))
    }

    #[test]
    fn any_rule_goes_with_any_run_that_has_fine_scores() {
        let (top_k, sigmoid) = (Objective::TopKSoftmax, Objective::SigmoidThreshold);
        assert!(words(top_k, None, None, None).contains("oracle"));
        assert_eq!(words(top_k, None, Some(2), None), "top-k, k = 2");
        assert_eq!(words(top_k, Some("threshold"), None, None), "p > 0.7");
        assert_eq!(words(sigmoid, None, None, Some(0.5)), "p > 0.5");
        assert!(words(sigmoid, Some("top-k"), None, None).contains("oracle"));
        assert_eq!(words(Objective::CoarseOnly, None, None, None), "none");
    }

    #[test]
    fn what_does_not_fit_together_is_named() {
        let top_k = Objective::TopKSoftmax;
        assert!(words(top_k, None, Some(0), None).starts_with("k: at least one"));
        assert!(words(top_k, None, Some(1), Some(0.5)).contains("give one of them"));
        assert!(words(top_k, Some("threshold"), Some(1), None).starts_with("k: it goes with"));
        assert!(words(top_k, Some("top-k"), None, Some(0.5)).starts_with("threshold: it goes with"));
        assert!(words(top_k, None, None, Some(1.5)).starts_with("threshold: "));
        assert!(words(top_k, Some("best"), None, None).contains("“best” is not a rule"));
        assert!(words(Objective::CoarseOnly, None, Some(1), None).contains("no fine scores"));
    }
}
