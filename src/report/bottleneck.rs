//! Whether a run's bottleneck is honest: whether its coarse head reads fine labels as the taxonomy does.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{
    Figure, HeadWeights, PairedTest, Reports, RunBrief,
    evidence::Evidence,
    no_fine_scores,
    reports::brief,
    rule::{rule_query, rule_words},
};
use crate::{
    analysis::{
        Agreement, Estimate, Interventions, Truth, completeness, consistency, interval::RESAMPLES, intervene,
        intervention::RANDOM_ORDERS, read_labels,
    },
    domain::{
        CoarseId, DecisionRule, Judgements, RunId, Split, Taxonomy, ratio,
        spec::{CoarseInput, Objective},
    },
    error::{Error, Result},
    exchange::ScoreActivation,
    store::RunRow,
};

/// The same run always gets the same orders and intervals.
const SEED: u64 = 0;

rule_query! {
    /// A [`RuleQuery`](super::RuleQuery) and `coarse_only=ID`.
    #[derive(Default, Serialize)]
    pub struct BottleneckQuery {
        /// The coarse-only run that completeness is measured by; by default the newest of the same backbone and test set.
        pub coarse_only: Option<RunId>,
    }
}

/// `GET /api/v1/runs/{id}/bottleneck`: what the coarse head makes of fine labels, on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct BottleneckReport {
    /// The run.
    pub run: RunBrief,
    /// The rule under which labels are predicted; lookup and consistency depend on it alone.
    pub rule: DecisionRule,
    /// The rule in words.
    pub rule_words: String,
    /// How many test images.
    pub images: u64,
    /// What makes probabilities of fine logits.
    pub activation: ScoreActivation,
    /// What the coarse head reads.
    pub coarse_input: CoarseInput,
    /// The largest difference between a stored coarse logit and the sum of bias and contributions, relative to the sum of their
    /// absolute values.
    pub deviation: f64,
    /// Share of images with the right category, Wilson interval.
    pub coarse_accuracy: Figure,
    /// What happens when labels are put right.
    pub intervention: InterventionReport,
    /// What the predicted labels say by the taxonomy alone.
    pub lookup: LookupReport,
    /// Whether the predicted labels belong to the category that the head decided for.
    pub consistency: ConsistencyReport,
    /// How much of what is reached without labels is reached through them.
    pub completeness: CompletenessReport,
    /// The head's weights.
    pub head: HeadWeights,
    /// Resamples of the bootstraps.
    pub resamples: usize,
}

/// Coarse accuracy with groups of labels put right. Each curve has one figure for each number of groups, from 0 to all.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct InterventionReport {
    /// The groups: the labels of each category, and the public ones where there are any.
    pub groups: Vec<String>,
    /// How many random orders each image had.
    pub random_orders: usize,
    /// Groups in random order, of each image's own: mean over the orders, t-interval.
    pub random: Vec<Figure>,
    /// The group with the largest error first, Wilson interval.
    pub largest_error: Vec<Figure>,
    /// The group with the most uncertain label first, Wilson interval; `null` in softmax mode.
    pub most_uncertain: Option<Vec<Figure>>,
    /// Coarse accuracy with all labels right minus that as it is, paired bootstrap.
    pub difference: Figure,
    /// Right categories as they are (A) and with all labels right (B), with McNemar's test.
    #[serde(flatten)]
    pub paired: PairedTest,
}

/// The lookup baseline: the category that most predicted labels belong to.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LookupReport {
    /// Share of images for which it is the right one, Wilson interval.
    pub accuracy: Figure,
    /// Images without a predicted label that belongs to a category: counted wrong.
    pub unread: u64,
    /// Coarse accuracy of the head minus that of the lookup, paired bootstrap.
    pub difference: Figure,
    /// Right categories by lookup (A) and by the head (B), with McNemar's test.
    #[serde(flatten)]
    pub paired: PairedTest,
}

/// Consistency: predicted labels, public ones left out, and the category that the head decided for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct ConsistencyReport {
    /// The share that belongs to it, percentile bootstrap over images.
    pub share: Figure,
    /// How many do.
    pub consistent: u64,
    /// How many there are.
    pub labels: u64,
}

/// Completeness: (coarse accuracy − majority share) / (accuracy of the coarse-only run − majority share).
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CompletenessReport {
    /// The figure, paired percentile bootstrap in which the majority share stays.
    pub value: Figure,
    /// Why it is undefined, where it is.
    pub undefined: Option<String>,
    /// The most frequent category of the test images; ties: the first.
    pub majority: String,
    /// Its share.
    pub majority_share: Option<f64>,
    /// The coarse-only run it is measured by.
    pub coarse_only: Option<RunBrief>,
    /// That run's coarse accuracy, Wilson interval.
    pub coarse_only_accuracy: Figure,
    /// Coarse-only runs that it can be measured by, newest first.
    pub choices: Vec<RunBrief>,
}

/// A coarse-only run, and whether it has each category right.
struct CoarseOnlyRun {
    run: RunBrief,
    judgements: Arc<Judgements>,
}

impl Reports {
    /// Whether the bottleneck of a run is honest, under any rule.
    pub async fn bottleneck(&self, id: RunId, query: &BottleneckQuery) -> Result<BottleneckReport> {
        let run = self.succeeded(id).await?;
        let Some(rule) = self.rule(&run, query).await? else {
            return Err(Error::Invalid(format!(
                "run {id} is coarse-only: it has no fine labels between image and category, and so no bottleneck"
            )));
        };
        let dataset = self.store.dataset(&run.dataset).await?;
        let evidence = self.evidence(id, Split::Test).await?;
        let interventions = self.interventions(id, &dataset.taxonomy, evidence.clone()).await?;
        let (coarse_only, choices) = self.coarse_only_run(&run, query.coarse_only).await?;
        let work =
            Work { run: brief(run), rule, taxonomy: dataset.taxonomy, evidence, interventions, coarse_only, choices };
        super::blocking(move || work.report()).await?
    }

    /// Interventions depend on a run's scores alone, and are kept.
    async fn interventions(
        &self,
        run: RunId,
        taxonomy: &Taxonomy,
        evidence: Arc<Evidence>,
    ) -> Result<Arc<Interventions>> {
        let key = run.to_string();
        if let Some(known) = self.interventions.get(&key) {
            return Ok(known);
        }
        let taxonomy = taxonomy.clone();
        let interventions = super::blocking(move || {
            let truths: Vec<Truth> = evidence.truths().collect();
            intervene(&evidence.scores, &truths, &taxonomy, SEED)
        });
        let interventions = Arc::new(interventions.await?.ok_or_else(|| no_fine_scores(run))?);
        self.interventions.put(key, interventions.clone());
        Ok(interventions)
    }

    /// The coarse-only run that a run is measured by, and all that it could be.
    async fn coarse_only_run(
        &self,
        run: &RunRow,
        wanted: Option<RunId>,
    ) -> Result<(Option<CoarseOnlyRun>, Vec<RunBrief>)> {
        let backbone = run.spec.backbone;
        let fits =
            |other: &Arc<RunRow>| other.spec.objective == Objective::CoarseOnly && other.spec.backbone == backbone;
        let comparable = self.comparable(&brief(run)).await?.into_iter();
        let choices: Vec<RunBrief> = comparable.filter(fits).map(brief).collect();
        let chosen = match wanted {
            None => choices.first(),
            Some(wanted) => Some(choices.iter().find(|choice| choice.id == wanted).ok_or_else(|| {
                let known: Vec<String> = choices.iter().map(|choice| choice.id.to_string()).collect();
                let known = if known.is_empty() { "there is none".into() } else { format!("choose one of {}", known.join(", ")) };
                Error::Invalid(format!(
                    "coarse_only: run {wanted} is not a succeeded coarse-only run of {backbone} on the same test images; {known}"
                ))
            })?),
        };
        let chosen = match chosen {
            None => None,
            Some(chosen) => {
                let row = self.succeeded(chosen.id).await?;
                let judgements = self.judgements(&row, Split::Test, None).await?;
                Some(CoarseOnlyRun { run: chosen.clone(), judgements })
            }
        };
        Ok((chosen, choices))
    }
}

/// All that the report is made of.
struct Work {
    run: RunBrief,
    rule: DecisionRule,
    taxonomy: Taxonomy,
    evidence: Arc<Evidence>,
    interventions: Arc<Interventions>,
    coarse_only: Option<CoarseOnlyRun>,
    choices: Vec<RunBrief>,
}

impl Work {
    fn report(self) -> Result<BottleneckReport> {
        let fine = self.evidence.scores.fine.as_ref().ok_or_else(|| no_fine_scores(self.run.id))?;
        let decisions = self.evidence.decide(Some(&self.rule));
        let readings = read_labels(&self.evidence.scores, &decisions, &self.taxonomy);
        let right: Vec<bool> = decisions.iter().map(|decision| decision.coarse_correct).collect();

        let truths = self.evidence.truths().map(|truth| truth.coarse);
        let read = readings.iter().zip(truths).map(|(reading, truth)| reading.category == Some(truth));
        let lookup: Agreement = read.zip(right.iter().copied()).collect();
        let consistent = readings.iter().map(|reading| reading.consistent).sum();
        Ok(BottleneckReport {
            images: right.len() as u64,
            activation: fine.activation,
            coarse_input: fine.coarse_input,
            deviation: self.interventions.deviation,
            coarse_accuracy: share_of(right.iter().copied()),
            intervention: self.intervention(right.len() as u64),
            lookup: LookupReport {
                accuracy: Figure::proportion(lookup.both + lookup.only_a, right.len() as u64),
                unread: readings.iter().filter(|reading| reading.category.is_none()).count() as u64,
                difference: lookup.difference(SEED).into(),
                paired: PairedTest::of(lookup),
            },
            consistency: ConsistencyReport {
                share: consistency(&readings, SEED).into(),
                consistent,
                labels: readings.iter().map(|reading| reading.labels).sum(),
            },
            head: HeadWeights::of(fine, &self.taxonomy),
            completeness: self.completeness(&right),
            resamples: RESAMPLES,
            rule_words: rule_words(&self.rule),
            rule: self.rule,
            run: self.run,
        })
    }

    fn intervention(&self, images: u64) -> InterventionReport {
        let Interventions { random, largest_error, most_uncertain, all, .. } = &*self.interventions;
        let shares = |counts: &Vec<u64>| counts.iter().map(|right| Figure::proportion(*right, images)).collect();
        let mut groups = self.taxonomy.coarse().to_vec();
        if self.taxonomy.fine().iter().any(|label| label.parent.is_none()) {
            groups.push("public labels".into());
        }
        InterventionReport {
            groups,
            random_orders: RANDOM_ORDERS,
            random: random.iter().copied().map(Figure::from).collect(),
            largest_error: shares(largest_error),
            most_uncertain: most_uncertain.as_ref().map(shares),
            difference: all.difference(SEED).into(),
            paired: PairedTest::of(*all),
        }
    }

    fn completeness(&self, right: &[bool]) -> CompletenessReport {
        let (majority, frequency) = majority(self.evidence.truths().map(|truth| truth.coarse), &self.taxonomy);
        let majority_share = ratio(frequency, right.len() as u64);
        let rights = |other: &CoarseOnlyRun| {
            (0..right.len()).map(|row| other.judgements.coarse_correct(row)).collect::<Vec<_>>()
        };
        let without = self.coarse_only.as_ref().map(rights);
        let estimate = without.as_ref().zip(majority_share).map(|(without, share)| {
            completeness(without.iter().copied().zip(right.iter().copied()).collect(), share, SEED)
        });
        let undefined = match (&self.coarse_only, estimate) {
            (None, _) => Some(format!(
                "there is no succeeded coarse-only run of {} on the same test images: train one to measure by",
                self.run.backbone
            )),
            (Some(_), Some(Estimate { value: Some(_), .. })) => None,
            (Some(other), _) => Some(format!(
                "run {} is no better than always saying “{}”, so there is nothing to measure by",
                other.run.id,
                self.taxonomy.coarse_name(majority)
            )),
        };
        CompletenessReport {
            value: estimate.unwrap_or_default().into(),
            undefined,
            majority: self.taxonomy.coarse_name(majority).to_owned(),
            majority_share,
            coarse_only_accuracy: without.map_or_else(Figure::default, share_of),
            coarse_only: self.coarse_only.as_ref().map(|other| other.run.clone()),
            choices: self.choices.clone(),
        }
    }
}

fn share_of(right: impl IntoIterator<Item = bool>) -> Figure {
    let (mut images, mut count) = (0, 0);
    right.into_iter().for_each(|right| (images, count) = (images + 1, count + u64::from(right)));
    Figure::proportion(count, images)
}

/// The most frequent category and how many images it has; ties: the first.
fn majority(truths: impl Iterator<Item = CoarseId>, taxonomy: &Taxonomy) -> (CoarseId, u64) {
    let mut counts = vec![0u64; taxonomy.coarse().len()];
    truths.for_each(|truth| counts[truth.index()] += 1);
    let first = crate::domain::decision::arg_max(&counts);
    (CoarseId(first as u16), counts[first])
}
