//! A run under any decision rule: what came out, held against its own rule, beside all thresholds and all k.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Figures, OutcomeItem, OutcomeQuery, PairedTest, Reports, RuleQuery, RunBrief, RunResults, TuningReport,
    reports::brief, rule::rule_query, transitions::Paired,
};
use crate::{
    analysis::{Separations, interval::RESAMPLES},
    domain::{Counts, DecisionRule, Indices, Judgements, Outcome, RunId, Split, Threshold, TopK},
    error::{Error, Result},
    store::RunRow,
};

/// How many images are shown.
const IMAGES: u32 = 12;
/// Steps of θ unless told otherwise: 0, 0.01, …, 1.
const STEPS: u16 = 101;

/// `over=theta|k&steps=&split=`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuleSweepQuery {
    /// Over what; `theta` by default.
    pub over: Option<Over>,
    /// How many steps of θ from 0 to 1, 2 to 10,001; 101 by default.
    pub steps: Option<u16>,
    /// `test` (the default) or `validation`.
    pub split: Option<Split>,
}

/// What changes from step to step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Over {
    /// One threshold for all labels.
    #[default]
    Theta,
    /// The number of labels that are taken.
    K,
}

/// `GET /api/v1/runs/{id}/sweep`: a run's outcomes under each threshold, or each k.
#[derive(Clone, Debug, Serialize)]
pub struct RuleSweep {
    /// The run.
    pub run: RunId,
    /// The images.
    pub split: Split,
    /// How many there are.
    pub images: u64,
    /// What changes from step to step.
    pub over: Over,
    /// θ from 0 to 1, or k = 1, 2, … up to the largest number of true labels: with more, no fine labels are right.
    pub steps: Vec<RuleStep>,
    /// With k = the image's true number of labels; `None` over θ.
    pub oracle: Option<RuleStep>,
    /// The best steps of θ; `None` over k and on test, where nothing may be chosen.
    pub best: Option<BestSteps>,
}

/// What came out under one rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RuleStep {
    /// The rule.
    #[serde(flatten)]
    pub rule: DecisionRule,
    /// Images by outcome.
    pub counts: Counts,
    /// Their indices.
    #[serde(flatten)]
    pub indices: Indices,
}

/// The steps with the highest indices; among equals the lowest θ. `None` where the index is 0 or undefined at every step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestSteps {
    /// By IA.
    pub ia: Option<RuleStep>,
    /// By IF1.
    pub if1: Option<RuleStep>,
}

rule_query! {
    /// A [`RuleQuery`] and `outcome=`.
    #[derive(Default, Serialize)]
    pub struct DecisionQuery {
        /// The outcome of the images shown; FFCT by default.
        pub outcome: Option<Outcome>,
    }
}

/// `GET /api/v1/runs/{id}/decision`: a run under any decision rule, on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DecisionReport {
    /// The run.
    pub run: RunBrief,
    /// The rule in force.
    pub rule: DecisionRule,
    /// What came out under it.
    pub results: RunResults,
    /// The run's own rule.
    pub own_rule: DecisionRule,
    /// What came out under that.
    pub own: RunResults,
    /// The rule in force held against the run's own; `None` where they are the same.
    pub against_own: Option<AgainstOwn>,
    /// The run's θ, which its own rule reads if it is a sigmoid run, and which is the default of `rule=threshold`.
    pub own_threshold: Threshold,
    /// Under each θ from 0 to 1.
    pub thresholds: Vec<RuleStep>,
    /// Under k = 1, 2, … up to the largest number of true labels.
    pub ks: Vec<RuleStep>,
    /// With k = the image's true number of labels, which is the truth's.
    pub oracle: RuleStep,
    /// Thresholds that are best on validation, and what they are worth on test.
    pub best: BestThresholds,
    /// One threshold per label, tuned on validation.
    pub tuning: Arc<TuningReport>,
    /// The outcome of the images shown.
    pub outcome: Outcome,
    /// The first images with that outcome.
    pub images: Vec<OutcomeItem>,
    /// Resamples of the bootstrap.
    pub resamples: usize,
}

/// Two rules of one run on the same images.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct AgainstOwn {
    /// Images by outcome under the run's own rule (row) and under the rule in force (column), both in the order FTCT, FTCF,
    /// FFCT, FFCF.
    pub outcomes: [[u64; 4]; 4],
    /// Figures of the rule in force minus those of the run's own. Paired percentile bootstrap.
    pub differences: Figures,
    /// FTCT under both, with McNemar's test.
    pub ftct: PairedTest,
}

/// Chosen on validation, among the steps of a hundredth; measured on test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BestThresholds {
    /// By IA.
    pub ia: Option<BestThreshold>,
    /// By IF1.
    pub if1: Option<BestThreshold>,
}

/// A threshold, and what an index is under it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct BestThreshold {
    /// θ.
    pub threshold: Threshold,
    /// The index on validation.
    pub validation: Option<f64>,
    /// The index on test.
    pub test: Option<f64>,
}

/// All that a decision report is made of but images and tuning.
struct Work {
    run: RunRow,
    rule: DecisionRule,
    own_rule: DecisionRule,
    judged: Arc<Judgements>,
    own: Arc<Judgements>,
    test: Arc<Separations>,
    validation: Arc<Separations>,
}

impl Reports {
    /// A run's outcomes under each threshold, or each k.
    pub async fn rule_sweep(&self, id: RunId, query: &RuleSweepQuery) -> Result<RuleSweep> {
        let run = self.succeeded(id).await?;
        let (over, split) = (query.over.unwrap_or_default(), query.split.unwrap_or(Split::Test));
        let thresholds = match (over, query.steps.unwrap_or(STEPS)) {
            (Over::K, _) if query.steps.is_some() => {
                return Err(Error::Invalid("steps: it goes with over=theta; k has as many as there are labels".into()));
            }
            (Over::K, _) => Vec::new(),
            (Over::Theta, steps @ 2..=10_001) => thresholds(steps),
            (Over::Theta, steps) => return Err(Error::Invalid(format!("steps: {steps} is outside 2 to 10001"))),
        };
        let separations = self.separations(&run, split).await?;
        super::blocking(move || {
            let steps = match over {
                Over::Theta => at_thresholds(&separations, &thresholds),
                Over::K => at_each_k(&separations),
            };
            let oracle = oracle(&separations);
            RuleSweep {
                run: id,
                split,
                images: oracle.counts.total(),
                over,
                best: (over == Over::Theta && !split.is_test()).then(|| BestSteps::among(&steps)),
                oracle: (over == Over::K).then_some(oracle),
                steps,
            }
        })
        .await
    }

    /// A run under any decision rule.
    pub async fn decision(&self, id: RunId, query: &DecisionQuery) -> Result<DecisionReport> {
        let run = self.succeeded(id).await?;
        let Some((rule, own_rule)) = self.rule(&run, query).await?.zip(run.spec.own_rule()) else {
            return Err(super::coarse_only(id));
        };
        let tuning = self.tuning(&run).await?;
        let RuleQuery { rule: name, k, threshold } = query.into();
        let outcome = query.outcome.unwrap_or(Outcome::Ffct);
        let shown = OutcomeQuery {
            outcome: Some(outcome),
            rule: name,
            k,
            threshold,
            limit: Some(IMAGES),
            ..OutcomeQuery::default()
        };
        let images = self.outcomes(id, &shown).await?.items;
        let work = Work {
            judged: self.judgements(&run, Split::Test, Some(&rule)).await?,
            own: self.judgements(&run, Split::Test, Some(&own_rule)).await?,
            test: self.separations(&run, Split::Test).await?,
            validation: self.separations(&run, Split::Validation).await?,
            run,
            rule,
            own_rule,
        };
        super::blocking(move || work.report(tuning, outcome, images)).await
    }

    /// What all thresholds and all k are answered from. It depends on a run's scores alone, and is kept.
    pub(super) async fn separations(&self, run: &RunRow, split: Split) -> Result<Arc<Separations>> {
        let key = format!("{} {split}", run.id);
        if let Some(known) = self.separations.get(&key) {
            return Ok(known);
        }
        let evidence = self.evidence(run.id, split).await?;
        let found = super::blocking(move || Separations::of(&evidence.scores, &evidence.truths().collect::<Vec<_>>()));
        let found = Arc::new(found.await?.ok_or_else(|| super::coarse_only(run.id))?);
        self.separations.put(key, found.clone());
        Ok(found)
    }
}

impl Work {
    fn report(self, tuning: Arc<TuningReport>, outcome: Outcome, images: Vec<OutcomeItem>) -> DecisionReport {
        let Self { run, rule, own_rule, judged, own, test, validation } = self;
        let thresholds = thresholds(STEPS);
        let on_test = at_thresholds(&test, &thresholds);
        let best = BestSteps::among(&at_thresholds(&validation, &thresholds));
        let paired = (rule != own_rule).then(|| Paired::of(&own, &judged)).flatten();
        DecisionReport {
            results: RunResults::of(judged.tally(), Some(&rule)),
            own: RunResults::of(own.tally(), Some(&own_rule)),
            against_own: paired.map(AgainstOwn::from),
            own_threshold: run.spec.threshold,
            best: BestThresholds {
                ia: best.ia.and_then(|step| BestThreshold::of(&step, &on_test, |indices| indices.ia)),
                if1: best.if1.and_then(|step| BestThreshold::of(&step, &on_test, |indices| indices.if1)),
            },
            thresholds: on_test,
            ks: at_each_k(&test),
            oracle: oracle(&test),
            tuning,
            outcome,
            images,
            resamples: RESAMPLES,
            rule,
            own_rule,
            run: brief(run),
        }
    }
}

impl From<Paired> for AgainstOwn {
    fn from(paired: Paired) -> Self {
        Self { outcomes: paired.outcomes(), differences: paired.differences, ftct: paired.ftct }
    }
}

/// 0, 1/(steps − 1), …, 1.
fn thresholds(steps: u16) -> Vec<Threshold> {
    (0..steps).filter_map(|step| Threshold::new(f64::from(step) / f64::from(steps - 1))).collect()
}

fn at_thresholds(separations: &Separations, thresholds: &[Threshold]) -> Vec<RuleStep> {
    let rules = thresholds.iter().map(|threshold| DecisionRule::Threshold { threshold: *threshold });
    rules.zip(separations.at_thresholds(thresholds)).map(|(rule, counts)| RuleStep::of(rule, counts)).collect()
}

fn at_each_k(separations: &Separations) -> Vec<RuleStep> {
    let rules = (1u16..).map(|k| DecisionRule::TopK { k: std::num::NonZeroU16::new(k).into() });
    rules.zip(separations.at_each_k()).map(|(rule, counts)| RuleStep::of(rule, counts)).collect()
}

fn oracle(separations: &Separations) -> RuleStep {
    let rule = DecisionRule::TopK { k: TopK::Oracle };
    let counts = separations.judge(&rule).and_then(|judged| judged.tally().counts).unwrap_or_default();
    RuleStep::of(rule, counts)
}

impl RuleStep {
    fn of(rule: DecisionRule, counts: Counts) -> Self {
        Self { rule, counts, indices: counts.indices() }
    }
}

impl BestSteps {
    fn among(steps: &[RuleStep]) -> Self {
        let highest = |of: fn(&Indices) -> Option<f64>| {
            // Of equal ones the last is taken: from the end, that is the lowest.
            let known =
                steps.iter().rev().filter_map(|step| Some((of(&step.indices).filter(|index| *index > 0.0)?, step)));
            known.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, step)| step.clone())
        };
        Self { ia: highest(|indices| indices.ia), if1: highest(|indices| indices.if1) }
    }
}

impl BestThreshold {
    /// `step`: of validation; `on_test`: the same steps on test.
    fn of(step: &RuleStep, on_test: &[RuleStep], index: fn(&Indices) -> Option<f64>) -> Option<Self> {
        let DecisionRule::Threshold { threshold } = step.rule else { return None };
        let test = on_test.iter().find(|other| other.rule == step.rule);
        Some(Self { threshold, validation: index(&step.indices), test: test.and_then(|test| index(&test.indices)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_step_is_the_lowest_of_the_highest() {
        let steps = |ftct: [u64; 5]| {
            let rules = thresholds(5).into_iter().map(|threshold| DecisionRule::Threshold { threshold });
            let counts = ftct.map(|ftct| Counts { ftct, ffcf: 9 - ftct, ..Counts::default() });
            rules.zip(counts).map(|(rule, counts)| RuleStep::of(rule, counts)).collect::<Vec<_>>()
        };
        let some = steps([0, 2, 4, 4, 1]);
        let best = BestSteps::among(&some);
        assert_eq!((best.ia.as_ref(), best.if1.as_ref()), (Some(&some[2]), Some(&some[1])), "IF1 is 1 in four of them");
        assert_eq!(BestSteps::among(&steps([0; 5])), BestSteps { ia: None, if1: None });
        let on_test = BestThreshold::of(&some[2], &steps([1, 2, 3, 4, 5]), |indices| indices.ia);
        let threshold = Threshold::new(0.5).unwrap();
        let expected = BestThreshold { threshold, validation: Some(4.0 / 9.0), test: Some(3.0 / 9.0) };
        assert_eq!(on_test, Some(expected));
    }
}
