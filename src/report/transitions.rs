//! Two runs on the same test images: which outcomes became which, and by how much the figures differ.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Figure, Figures, Reports, RuleQuery, RunBrief, RunResults, reports::brief, rule::rule_query};
use crate::{
    analysis::{Agreement, McNemar, Transitions, interval::RESAMPLES},
    domain::{DatasetId, DecisionRule, Judgements, Outcome, RunId, RunStatus, Split},
    error::{Error, Result},
    store::RunRow,
};

/// Runs that a page offers to choose from, beside those that are chosen.
const CHOICES: usize = 200;
/// The same pair of runs always gets the same intervals.
const BOOTSTRAP_SEED: u64 = 0;

rule_query! {
    /// `a=ID&b=ID`, a [`RuleQuery`](super::RuleQuery) for both, and one for each, which goes before it.
    #[derive(Serialize)]
    pub struct TransitionsQuery {
        /// Run A, from which differences count.
        pub a: RunId,
        /// Run B; it may be run A under another rule.
        pub b: RunId,
        /// `rule` of run A alone.
        pub rule_a: Option<String>,
        /// `k` of run A alone.
        pub k_a: Option<u16>,
        /// `threshold` of run A alone.
        pub threshold_a: Option<f64>,
        /// `rule` of run B alone.
        pub rule_b: Option<String>,
        /// `k` of run B alone.
        pub k_b: Option<u16>,
        /// `threshold` of run B alone.
        pub threshold_b: Option<f64>,
    }
}

impl TransitionsQuery {
    /// What is asked for run A and for run B.
    pub fn rules(&self) -> [RuleQuery; 2] {
        let common = RuleQuery::from(self);
        let own = [
            RuleQuery { rule: self.rule_a.clone(), k: self.k_a, threshold: self.threshold_a },
            RuleQuery { rule: self.rule_b.clone(), k: self.k_b, threshold: self.threshold_b },
        ];
        own.map(|own| if own == RuleQuery::default() { common.clone() } else { own })
    }
}

/// `GET /api/v1/transitions`: two runs on the same test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TransitionsReport {
    /// Run A.
    pub a: ComparedRun,
    /// Run B.
    pub b: ComparedRun,
    /// How many test images both have.
    pub images: u64,
    /// Images by outcome under A (row) and under B (column), both in the order FTCT, FTCF, FFCT, FFCF; `None` where one of
    /// the runs is coarse-only.
    pub outcomes: Option<[[u64; 4]; 4]>,
    /// Figures of B minus those of A; where one of the runs is coarse-only, coarse accuracy alone.
    pub differences: Figures,
    /// FTCT under A and B, with McNemar's test, which tests IA alone; `None` where one of the runs is coarse-only.
    pub ftct: Option<PairedTest>,
    /// The right category under A and B, with McNemar's test, which tests coarse accuracy.
    pub category: PairedTest,
    /// Resamples of the bootstrap.
    pub resamples: usize,
}

/// One of the two runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ComparedRun {
    /// The run.
    pub run: RunBrief,
    /// What came out under the rule in force.
    pub results: RunResults,
}

/// How often the runs were right, together and alone, and whether the difference can be chance.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct PairedTest {
    /// The 2×2 table.
    #[serde(flatten)]
    pub images: Agreement,
    /// McNemar's test of it.
    #[serde(flatten)]
    pub test: McNemar,
}

/// A run, the rule that it is looked at under, and what was right by it.
struct Side {
    run: RunRow,
    rule: Option<DecisionRule>,
    judgements: Arc<Judgements>,
}

/// Two runs with fine labels on the same images.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paired {
    /// Images by outcome under A and B.
    pub transitions: Transitions,
    /// Figures of B minus those of A.
    pub differences: Figures,
    /// FTCT under A and B.
    pub ftct: PairedTest,
}

impl Reports {
    /// Two runs on the same test images, under each one's own rule or another.
    pub async fn transitions(&self, query: &TransitionsQuery) -> Result<TransitionsReport> {
        let (a, b) = (self.succeeded(query.a).await?, self.succeeded(query.b).await?);
        let of = [self.store.dataset(&a.dataset).await?, self.store.dataset(&b.dataset).await?];
        if of[0].fingerprint != of[1].fingerprint {
            return Err(Error::Invalid(format!(
                "runs {} (“{}”) and {} (“{}”) have different test sets; only runs on the same test images are compared",
                a.id, a.dataset, b.id, b.dataset
            )));
        }
        let [rule_a, rule_b] = query.rules();
        let (a, b) = (self.side(a, rule_a).await?, self.side(b, rule_b).await?);
        if a.run.id == b.run.id && a.rule == b.rule {
            return Err(Error::Invalid(format!(
                "b: it is run {} as well, under the same rule; name another run, or another rule by rule_a, rule_b",
                query.b
            )));
        }
        super::blocking(move || report(a, b)).await
    }

    async fn side(&self, run: RunRow, rule: RuleQuery) -> Result<Side> {
        let rule = self.rule(&run, &rule).await?;
        Ok(Side { judgements: self.judgements(&run, Split::Test, rule.as_ref()).await?, rule, run })
    }

    /// Succeeded runs whose test set is that of `run`, newest first; itself among them.
    pub(super) async fn comparable(&self, run: &RunBrief) -> Result<Vec<Arc<RunRow>>> {
        let fingerprint = self.store.dataset(&run.dataset).await?.fingerprint;
        let same = self.store.datasets().await?.into_iter().filter(|other| other.fingerprint == fingerprint);
        let same: BTreeSet<DatasetId> = same.map(|dataset| dataset.id).collect();
        self.runs_that(|run| run.status == RunStatus::Succeeded && same.contains(&run.dataset_id)).await
    }

    /// The runs that can be chosen to be held against `run`: the newest comparable ones, and those that are `named` already.
    pub async fn choices(&self, run: &RunBrief, named: &[RunId]) -> Result<Vec<RunBrief>> {
        let comparable = self.comparable(run).await?.into_iter().enumerate();
        let offered = comparable.filter(|(rank, other)| *rank < CHOICES || named.contains(&other.id));
        Ok(offered.map(|(_, other)| brief(other)).collect())
    }
}

fn report(a: Side, b: Side) -> TransitionsReport {
    let (under_a, under_b) = (&a.judgements, &b.judgements);
    let category =
        Agreement::from_iter((0..under_a.len()).map(|row| (under_a.coarse_correct(row), under_b.coarse_correct(row))));
    let paired = Paired::of(under_a, under_b);
    TransitionsReport {
        images: under_a.len() as u64,
        outcomes: paired.map(|paired| paired.outcomes()),
        differences: paired.map_or_else(
            || Figures { coarse_accuracy: category.difference(BOOTSTRAP_SEED).into(), ..Figures::default() },
            |paired| paired.differences,
        ),
        ftct: paired.map(|paired| paired.ftct),
        category: PairedTest::of(category),
        resamples: RESAMPLES,
        a: ComparedRun::of(a),
        b: ComparedRun::of(b),
    }
}

impl Paired {
    /// `None` where one of the two decides no fine labels.
    pub fn of(a: &Judgements, b: &Judgements) -> Option<Self> {
        let outcomes = || Some(a.outcomes()?.zip(b.outcomes()?));
        let transitions: Transitions = outcomes()?.collect();
        let [ia, ip, ir, if1, coarse_accuracy, fine_exact_match] =
            transitions.differences(BOOTSTRAP_SEED).map(Figure::from);
        let right = |outcome| outcome == Outcome::Ftct;
        let ftct: Agreement = outcomes()?.map(|(a, b)| (right(a), right(b))).collect();
        Some(Self {
            transitions,
            differences: Figures { ia, ip, ir, if1, coarse_accuracy, fine_exact_match },
            ftct: PairedTest::of(ftct),
        })
    }

    /// Images by outcome under A (row) and under B (column).
    pub fn outcomes(&self) -> [[u64; 4]; 4] {
        Outcome::ALL.map(|a| Outcome::ALL.map(|b| self.transitions.get(a, b)))
    }
}

impl ComparedRun {
    fn of(side: Side) -> Self {
        Self { results: RunResults::of(side.judgements.tally(), side.rule.as_ref()), run: brief(side.run) }
    }
}

impl PairedTest {
    pub(super) fn of(images: Agreement) -> Self {
        Self { images, test: images.mcnemar() }
    }
}
