//! The reports: one function for each page and its API.

use std::{
    borrow::Borrow,
    ops::Bound::{Excluded, Unbounded},
    sync::Arc,
};

use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    Attempt, Comparison, DatasetBrief, DatasetReport, Listing, RunBrief, RunReport, RunResults, TuningReport,
    evidence::Evidence, known::Known, rule::rule_query, run::IndicesReport, transitions::Paired,
};
use crate::{
    analysis::{Columns, Interventions, Precisions, Separations},
    domain::{Judgements, RunId, RunStatus, Split, Tally, Threshold},
    error::{Error, Result},
    recent::Recent,
    store::{RunRow, Store, Truths},
};

/// How much memory scores may take, in bytes: those of 30 runs on 100,000 images. COCO's test scores are under a megabyte.
const CACHED_EVIDENCE: usize = 1 << 30;
/// How many runs' columns are kept in memory: 14 bytes for each image.
const CACHED_COLUMNS: usize = 64;
/// How many runs' judgements are kept in memory, each under one rule: a byte for each image.
const CACHED_JUDGEMENTS: usize = 512;
/// How many pairs of runs are kept in memory: some hundred bytes each.
const CACHED_PAIRS: usize = 4096;
/// Of how many splits of data sets the truths are kept in memory.
const CACHED_TRUTHS: usize = 8;
/// How many times average precisions are kept in memory, of a run's labels, its categories, or one label: some kilobytes.
const CACHED_PRECISIONS: usize = 512;
/// How many runs' interventions are kept in memory: a kilobyte or two each.
const CACHED_INTERVENTIONS: usize = 64;
/// How many runs' separations are kept in memory, of either split: 12 bytes for each image.
const CACHED_SEPARATIONS: usize = 64;
/// How many runs' tuned thresholds are kept in memory: some kilobytes each.
const CACHED_THRESHOLDS: usize = 64;

/// Answers every question of pages and API from the store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reports {
    pub(super) store: Store,
    pub(super) known: Arc<Mutex<Known>>,
    /// By run and split, which never change.
    pub(super) evidence: Recent<Arc<Evidence>>,
    pub(super) columns: Recent<Arc<Columns>>,
    /// By run, split and rule.
    pub(super) judgements: Recent<Arc<Judgements>>,
    /// By base run and run, each under its own rule.
    pub(super) paired: Recent<Paired>,
    /// By data set and split.
    pub(super) truths: Recent<Arc<Truths>>,
    /// Average precisions by the run, whose scores never change, and what is ranked.
    pub(super) precisions: Recent<Arc<Precisions>>,
    /// By the run.
    pub(super) interventions: Recent<Arc<Interventions>>,
    /// By run and split.
    pub(super) separations: Recent<Arc<Separations>>,
    /// Tuned on validation, by the run; and what they gain.
    pub(super) thresholds: Recent<Arc<[Threshold]>>,
    pub(super) tuning: Recent<Arc<TuningReport>>,
}

/// Which runs to list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunQuery {
    /// Of this data set.
    pub dataset: Option<String>,
    /// In this state.
    pub status: Option<RunStatus>,
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 by default.
    pub limit: Option<u32>,
}

rule_query! {
    /// A [`RuleQuery`](super::RuleQuery) and `alpha=`.
    #[derive(Default)]
    pub struct IndicesQuery {
        /// α of `if_alpha` and β of `f_beta`; 1 by default.
        pub alpha: Option<f64>,
    }
}

impl Reports {
    /// Reports over `store`.
    pub fn new(store: Store) -> Self {
        Self {
            store,
            known: Arc::default(),
            evidence: Recent::weighing(CACHED_EVIDENCE, |evidence: &Arc<Evidence>| evidence.bytes()),
            columns: Recent::new(CACHED_COLUMNS),
            judgements: Recent::new(CACHED_JUDGEMENTS),
            paired: Recent::new(CACHED_PAIRS),
            truths: Recent::new(CACHED_TRUTHS),
            precisions: Recent::new(CACHED_PRECISIONS),
            interventions: Recent::new(CACHED_INTERVENTIONS),
            separations: Recent::new(CACHED_SEPARATIONS),
            thresholds: Recent::new(CACHED_THRESHOLDS),
            tuning: Recent::new(CACHED_THRESHOLDS),
        }
    }

    /// The comparison of a data set's runs; `None` where there is no data set at all. Without a name: the data set of the
    /// newest run, else the newest data set. Each of `picks` chooses its group for its cell instead of the newest one; `base` is
    /// the run that the others are held against, by default the one with the highest IA.
    pub async fn comparison(
        &self,
        dataset: Option<&str>,
        picks: &[RunId],
        base: Option<RunId>,
    ) -> Result<Option<Comparison>> {
        let current = match dataset {
            Some(name) => Some(name.to_owned()),
            None => self.store.current_dataset().await?,
        };
        let Some(name) = current else { return Ok(None) };
        let dataset = self.store.dataset(&name).await?;
        let datasets = self.store.datasets().await?.into_iter().map(|row| row.name).collect();
        let runs = self.runs_that(|run| run.dataset == name).await?;
        let mut comparison = Comparison::of(&dataset, datasets, &runs, picks);
        self.hold_against(&mut comparison, base).await?;
        Ok(Some(comparison))
    }

    /// Runs, newest first.
    pub async fn runs(&self, query: &RunQuery) -> Result<Listing<RunBrief>> {
        let limit = limit(query.limit)? as usize;
        let older_than = cursor::<RunId>(query.cursor.as_deref())?.map_or(Unbounded, Excluded);
        let runs = self.known_runs().await?;
        let fits = |run: &&RunRow| {
            query.dataset.as_ref().is_none_or(|dataset| run.dataset == *dataset)
                && query.status.is_none_or(|status| run.status == status)
        };
        let mut fitting = runs.range((Unbounded, older_than)).rev().map(|(_, run)| &**run).filter(fits);
        let found: Vec<&RunRow> = fitting.by_ref().take(limit).collect();
        let next_cursor = fitting.next().and(found.last()).map(|run| run.id.to_string());
        Ok(Listing { items: self.with_disk(&found).await?, next_cursor })
    }

    /// One run as it stands in a list.
    pub async fn brief(&self, id: RunId) -> Result<RunBrief> {
        self.with_its_disk(&self.store.run(id).await?).await
    }

    /// One run in full.
    pub async fn run(&self, id: RunId) -> Result<RunReport> {
        let row = self.store.run(id).await?;
        let queue_position = match row.status {
            RunStatus::Queued => Some(self.store.queue_position(id).await?),
            RunStatus::Running | RunStatus::Succeeded | RunStatus::Failed | RunStatus::Canceled => None,
        };
        let results = row.test.map(|test| RunResults::of(test, row.spec.own_rule().as_ref()));
        Ok(RunReport {
            note: row.note.clone(),
            spec: row.spec.clone(),
            slurm: row.slurm.clone(),
            queue_position,
            sweeps: self.sweeps_of(id).await?,
            seconds: seconds(&row),
            epochs: self.store.epochs(id).await?,
            attempts: self.store.attempts(id).await?.into_iter().map(Attempt::from).collect(),
            log: self.store.log(id, 200).await?,
            kept_epoch: row.kept_epoch,
            results,
            brief: self.with_its_disk(&row).await?,
        })
    }

    /// The whole log of a run: of each attempt, oldest first.
    pub async fn log(&self, id: RunId) -> Result<Vec<u8>> {
        self.store.run(id).await?;
        self.store.whole_log(id).await
    }

    /// A run's indices on the test images under any rule, from its stored scores.
    pub async fn indices(&self, id: RunId, query: &IndicesQuery) -> Result<IndicesReport> {
        let run = self.succeeded(id).await?;
        let alpha = query.alpha.unwrap_or(1.0);
        if !(alpha > 0.0 && alpha <= 100.0) {
            return Err(Error::Invalid(format!("alpha: {alpha} is outside 0 (exclusive) to 100")));
        }
        let rule = self.rule(&run, query).await?;
        let tally = self.judgements(&run, Split::Test, rule.as_ref()).await?.tally();
        let indices = tally.indices();
        Ok(IndicesReport {
            run: id,
            rule,
            alpha,
            counts: tally.counts,
            ia: indices.and_then(|i| i.ia),
            ip: indices.and_then(|i| i.ip),
            ir: indices.and_then(|i| i.ir),
            if_alpha: indices.and_then(|i| i.if_alpha(alpha)),
            f_beta: indices.and_then(|i| i.f_beta(alpha)),
            if1: indices.and_then(|i| i.if1),
            coarse_accuracy: tally.coarse_accuracy(),
            fine_exact_match: indices.and_then(|i| i.fine_exact_match),
        })
    }

    /// All data sets, newest first.
    pub async fn datasets(&self) -> Result<Listing<DatasetBrief>> {
        let items = self.store.datasets().await?.iter().map(DatasetBrief::of).collect();
        Ok(Listing { items, next_cursor: None })
    }

    /// One data set in full.
    pub async fn dataset(&self, name: &str) -> Result<DatasetReport> {
        let row = self.store.dataset(name).await?;
        let (train, test) = (self.truths(&row, Split::Train).await?, self.truths(&row, Split::Test).await?);
        Ok(DatasetReport::of(&row, &train, &test))
    }

    pub(super) async fn succeeded(&self, id: RunId) -> Result<RunRow> {
        let run = self.store.run(id).await?;
        match run.status {
            RunStatus::Succeeded => Ok(run),
            status @ (RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Canceled) => {
                Err(Error::Conflict(format!("run {id} is {status}: only a succeeded run has outcomes")))
            }
        }
    }
}

pub(super) fn brief(row: impl Borrow<RunRow>) -> RunBrief {
    let row = row.borrow();
    RunBrief {
        id: row.id,
        name: row.name.clone(),
        tags: row.tags.clone(),
        status: row.status,
        stopping: row.status == RunStatus::Running && row.cancel_requested,
        dataset: row.dataset.clone(),
        drawn: row.drawn,
        backbone: row.spec.backbone,
        objective: row.spec.objective,
        priority: row.priority,
        progress: row.progress.clone(),
        ia: row.test.and_then(|test| test.indices()?.ia),
        coarse_accuracy: row.test.and_then(Tally::coarse_accuracy),
        disk_bytes: None,
        error: row.error.clone(),
        submitted_at: row.submitted_at.clone(),
        started_at: row.started_at.clone(),
        finished_at: row.finished_at.clone(),
    }
}

pub(super) fn limit(limit: Option<u32>) -> Result<u32> {
    match limit.unwrap_or(50) {
        limit @ 1..=500 => Ok(limit),
        limit => Err(Error::Invalid(format!("limit: {limit} is outside 1 to 500"))),
    }
}

pub(super) fn cursor<T: std::str::FromStr>(cursor: Option<&str>) -> Result<Option<T>> {
    let parse = |text: &str| {
        text.parse().map_err(|_| Error::Invalid(format!("cursor: “{text}” is not one; take it from next_cursor")))
    };
    cursor.filter(|text| !text.is_empty()).map(parse).transpose()
}

fn seconds(run: &RunRow) -> Option<f64> {
    let at = |text: &Option<String>| text.as_deref()?.parse::<jiff::Timestamp>().ok();
    let start = at(&run.started_at)?;
    let end = at(&run.finished_at).unwrap_or_else(jiff::Timestamp::now);
    // A clock that was set back would have it end before it began.
    Some(end.duration_since(start).as_secs_f64().max(0.0))
}
