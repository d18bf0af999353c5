//! Which decision rule is asked for, and how it is said.

use std::{num::NonZeroU16, sync::Arc};

use serde::Serialize;

use super::Reports;
use crate::{
    analysis::tune,
    domain::{DecisionRule, RunSpec, Split, Threshold, TopK},
    error::{Error, Result},
    store::RunRow,
};

/// A query with the fields of a [`RuleQuery`] after its own. They stand in each such query, because serde flattens nothing
/// into a struct that refuses unknown fields.
macro_rules! rule_query {
    ($(#[$meta:meta])* pub struct $name:ident { $($fields:tt)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, serde::Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct $name {
            $($fields)*
            /// `top-k`, `threshold` or `tuned`; by default the run's own rule, or that which `k` or `threshold` goes with.
            pub rule: Option<String>,
            /// Labels taken per image by top-k; without it, the oracle: as many as the image truly has.
            pub k: Option<u16>,
            /// θ; by default the run's.
            pub threshold: Option<f64>,
        }

        impl From<&$name> for $crate::report::RuleQuery {
            fn from(query: &$name) -> Self {
                Self { rule: query.rule.clone(), k: query.k, threshold: query.threshold }
            }
        }
    };
}
pub(crate) use rule_query;

rule_query! {
    /// `rule=top-k|threshold|tuned&k=&threshold=`: any rule on any run's fine scores; by default the run's own.
    #[derive(Default, PartialEq, Serialize)]
    pub struct RuleQuery {}
}

/// What a query asks for.
enum Asked {
    /// A rule that is known without scores.
    Rule(DecisionRule),
    /// One threshold per fine label, tuned on validation.
    Tuned,
}

impl RuleQuery {
    /// `None` for a coarse-only run, which has no fine scores to decide on.
    fn asked(&self, spec: &RunSpec) -> Result<Option<Asked>> {
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
            (None, None, None) => Ok(Some(Asked::Rule(own))),
            (Some("top-k") | None, k, None) => match k {
                Some(0) => invalid("k: at least one label is taken"),
                k => Ok(Some(Asked::Rule(DecisionRule::TopK { k: k.and_then(NonZeroU16::new).into() }))),
            },
            (Some("threshold") | None, None, threshold) => {
                let threshold = threshold.map_or(Ok(spec.threshold), Threshold::try_from);
                let threshold = threshold.map_err(|error| Error::Invalid(format!("threshold: {error}")))?;
                Ok(Some(Asked::Rule(DecisionRule::Threshold { threshold })))
            }
            (Some("tuned"), None, None) => Ok(Some(Asked::Tuned)),
            (Some("top-k" | "tuned"), _, Some(_)) => invalid("threshold: it goes with rule=threshold"),
            (Some("threshold" | "tuned"), Some(_), _) => invalid("k: it goes with rule=top-k"),
            (None, Some(_), Some(_)) => {
                invalid("k goes with rule=top-k, threshold with rule=threshold: give one of them")
            }
            (Some(other), _, _) => {
                invalid(&format!("rule: “{other}” is not a rule; they are top-k, threshold and tuned"))
            }
        }
    }
}

impl Reports {
    /// The rule that `query` asks for on a succeeded run; `None` for a coarse-only run.
    pub async fn rule(&self, run: &RunRow, query: impl Into<RuleQuery>) -> Result<Option<DecisionRule>> {
        match query.into().asked(&run.spec)? {
            None => Ok(None),
            Some(Asked::Rule(rule)) => Ok(Some(rule)),
            Some(Asked::Tuned) => Ok(Some(DecisionRule::PerLabel { thresholds: self.tuned(run).await? })),
        }
    }

    /// Each fine label's threshold with the highest F1 on validation. It depends on a run's scores alone, and is kept.
    async fn tuned(&self, run: &RunRow) -> Result<Arc<[Threshold]>> {
        let key = run.id.to_string();
        if let Some(known) = self.thresholds.get(&key) {
            return Ok(known);
        }
        let (evidence, own) = (self.evidence(run.id, Split::Validation).await?, run.spec.threshold);
        let tuned = super::blocking(move || {
            let fine = evidence.scores.fine.as_ref()?;
            Some(tune(fine, &evidence.truths().collect::<Vec<_>>(), own))
        });
        let no_scores = || Error::internal("a run with a decision rule has no fine scores", key.as_str());
        let tuned = tuned.await?.ok_or_else(no_scores)?;
        self.thresholds.put(key, tuned.clone());
        Ok(tuned)
    }
}

/// A rule as pages say it.
pub fn rule_words(rule: &DecisionRule) -> String {
    match rule {
        DecisionRule::TopK { k: TopK::Oracle } => "top-k, k = the image’s true number of labels (oracle)".into(),
        DecisionRule::TopK { k: TopK::Fixed(k) } => format!("top-k, k = {k}"),
        DecisionRule::Threshold { threshold } => format!("p > {}", threshold.get()),
        DecisionRule::PerLabel { .. } => "p > the label’s own threshold, tuned for its F1 on validation images".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::{Backbone, Objective};

    fn words(objective: Objective, rule: Option<&str>, k: Option<u16>, threshold: Option<f64>) -> String {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, objective);
        match (RuleQuery { rule: rule.map(str::to_owned), k, threshold }).asked(&spec) {
            Err(error) => error.to_string(),
            Ok(None) => "none".into(),
            Ok(Some(Asked::Tuned)) => "tuned".into(),
            Ok(Some(Asked::Rule(rule))) => rule_words(&rule),
        }
    }

    #[test]
    fn any_rule_goes_with_any_run_that_has_fine_scores() {
        let (top_k, sigmoid) = (Objective::TopKSoftmax, Objective::SigmoidThreshold);
        assert!(words(top_k, None, None, None).contains("oracle"));
        assert_eq!(words(top_k, None, Some(2), None), "top-k, k = 2");
        assert_eq!(words(top_k, Some("threshold"), None, None), "p > 0.7");
        assert_eq!(words(top_k, Some("tuned"), None, None), "tuned");
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
        assert!(words(top_k, Some("tuned"), Some(1), None).starts_with("k: it goes with"));
        assert!(words(top_k, Some("tuned"), None, Some(0.5)).starts_with("threshold: it goes with"));
        assert!(words(top_k, None, None, Some(1.5)).starts_with("threshold: "));
        assert!(words(top_k, Some("best"), None, None).contains("“best” is not a rule"));
        assert!(words(Objective::CoarseOnly, None, Some(1), None).contains("no fine scores"));
        assert!(words(Objective::CoarseOnly, Some("tuned"), None, None).contains("no fine scores"));
    }
}
