//! Two runs on the same test images: which outcomes became which, and by how much the figures differ.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Figure, Figures, Reports, RuleQuery, RunBrief, RunResults, evidence::Evidence, reports::brief};
use crate::{
    analysis::{Agreement, Decision, McNemar, Transitions, interval::RESAMPLES, tally},
    domain::{DatasetId, DecisionRule, Outcome, RunId, RunStatus, Split},
    error::{Error, Result},
    store::RunRow,
};

/// The same pair of runs always gets the same intervals.
const BOOTSTRAP_SEED: u64 = 0;

/// `a=ID&b=ID` and a [`RuleQuery`] for both.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransitionsQuery {
    /// Run A, from which differences count.
    pub a: RunId,
    /// Run B.
    pub b: RunId,
    /// `top-k` or `threshold`; by default each run's own rule.
    pub rule: Option<String>,
    /// Labels taken per image; without it, the oracle: as many as the image truly has.
    pub k: Option<u16>,
    /// θ; by default each run's.
    pub threshold: Option<f64>,
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

/// A run, its decisions, and the rule they follow.
struct Side {
    run: RunRow,
    rule: Option<DecisionRule>,
    evidence: Arc<Evidence>,
}

impl Reports {
    /// Two runs on the same test images, under each one's own rule or another.
    pub async fn transitions(&self, query: &TransitionsQuery) -> Result<TransitionsReport> {
        if query.a == query.b {
            return Err(Error::Invalid(format!("b: it is run {} as well; name another run", query.b)));
        }
        let (a, b) = (self.succeeded(query.a).await?, self.succeeded(query.b).await?);
        let of = [self.store.dataset(&a.dataset).await?, self.store.dataset(&b.dataset).await?];
        if of[0].fingerprint != of[1].fingerprint {
            return Err(Error::Invalid(format!(
                "runs {} (“{}”) and {} (“{}”) have different test sets; only runs on the same test images are compared",
                a.id, a.dataset, b.id, b.dataset
            )));
        }
        let (a, b) = (self.side(a, query).await?, self.side(b, query).await?);
        tokio::task::spawn_blocking(move || report(a, b))
            .await
            .map_err(|error| Error::internal("two runs were not compared", error))
    }

    async fn side(&self, run: RunRow, query: &TransitionsQuery) -> Result<Side> {
        let rule = RuleQuery { rule: query.rule.clone(), k: query.k, threshold: query.threshold }.resolve(&run.spec)?;
        Ok(Side { rule, evidence: self.evidence(run.id, Split::Test).await?, run })
    }

    /// Succeeded runs whose test set is that of `run`, newest first; itself among them.
    pub async fn comparable(&self, run: &RunBrief) -> Result<Vec<RunBrief>> {
        let fingerprint = self.store.dataset(&run.dataset).await?.fingerprint;
        let same = self.store.datasets().await?.into_iter().filter(|other| other.fingerprint == fingerprint);
        let same: BTreeSet<DatasetId> = same.map(|dataset| dataset.id).collect();
        let fits = |run: &RunRow| run.status == RunStatus::Succeeded && same.contains(&run.dataset_id);
        Ok(self.runs_that(fits).await?.into_iter().map(brief).collect())
    }
}

fn report(a: Side, b: Side) -> TransitionsReport {
    let (under_a, under_b) = (a.evidence.decide(a.rule), b.evidence.decide(b.rule));
    let pairs = || under_a.iter().zip(&under_b);
    let category = Agreement::from_iter(pairs().map(|(a, b)| (a.coarse_correct, b.coarse_correct)));
    let outcomes: Option<Vec<_>> = pairs().map(|(a, b)| a.outcome().zip(b.outcome())).collect();
    let transitions = outcomes.as_ref().map(|outcomes| outcomes.iter().copied().collect::<Transitions>());
    let differences = match transitions {
        Some(transitions) => {
            let [ia, ip, ir, if1, coarse_accuracy, fine_exact_match] =
                transitions.differences(BOOTSTRAP_SEED).map(Figure::from);
            Figures { ia, ip, ir, if1, coarse_accuracy, fine_exact_match }
        }
        None => Figures { coarse_accuracy: category.difference(BOOTSTRAP_SEED).into(), ..Figures::default() },
    };
    let right = |outcome| outcome == Outcome::Ftct;
    let ftct = outcomes.map(|outcomes| outcomes.into_iter().map(|(a, b)| (right(a), right(b))).collect());
    TransitionsReport {
        images: under_a.len() as u64,
        outcomes: transitions.map(|table| Outcome::ALL.map(|a| Outcome::ALL.map(|b| table.get(a, b)))),
        differences,
        ftct: ftct.map(PairedTest::of),
        category: PairedTest::of(category),
        resamples: RESAMPLES,
        a: ComparedRun::of(a, &under_a),
        b: ComparedRun::of(b, &under_b),
    }
}

impl ComparedRun {
    fn of(side: Side, decisions: &[Decision]) -> Self {
        Self { results: RunResults::of(tally(decisions, side.rule), side.rule), run: brief(side.run) }
    }
}

impl PairedTest {
    fn of(images: Agreement) -> Self {
        Self { images, test: images.mcnemar() }
    }
}
