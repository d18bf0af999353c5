//! Reports that stay as they are: with everything that says where they come from and how to come to them again.

use jiff::Timestamp;
use serde::Serialize;

use super::{Comparison, DatasetBrief, OutcomeItem, OutcomeQuery, Reports, RunBrief, RunReport};
use crate::{
    domain::{Outcome, RunId},
    error::{Error, Result},
    exchange::Sha256Hex,
    worker::protocol::ArtifactKind,
};

/// Images shown of each outcome.
const IMAGES: u32 = 12;

/// A comparison or a run as it was at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Frozen<T> {
    /// The version of the program.
    pub twograin: &'static str,
    /// When (RFC 3339).
    pub frozen_at: String,
    /// The command that makes this report of the same runs again.
    pub command: String,
    /// The data set; its fingerprint says which test images and labels.
    pub dataset: DatasetBrief,
    /// What is reported, as the API has it. Of a run without its log and attempts, which name machines.
    pub report: T,
    /// The runs behind it.
    pub runs: Vec<RunStamp>,
    /// Images of one run; `None` where there is none with fine labels or categories to show.
    pub examples: Option<Examples>,
}

/// What identifies a run.
#[derive(Clone, Debug, Serialize)]
pub struct RunStamp {
    /// Its number.
    pub id: RunId,
    /// Its name.
    pub name: String,
    /// Its seed.
    pub seed: u64,
    /// Its specification: the text whose hash follows.
    pub specification: String,
    /// The SHA-256 of that text.
    pub specification_sha256: Sha256Hex,
    /// Its scores and weights.
    pub files: Vec<FileStamp>,
    /// The command that submits the same specification.
    pub command: String,
}

/// What identifies a file of a run.
#[derive(Clone, Debug, Serialize)]
pub struct FileStamp {
    /// What it is.
    pub kind: ArtifactKind,
    /// The SHA-256 of its content.
    pub sha256: String,
}

/// Images of one run, by what was decided for them.
#[derive(Clone, Debug, Serialize)]
pub struct Examples {
    /// The run.
    pub run: RunBrief,
    /// Its decision rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// FFCT first; of a coarse-only run those of a wrong category, then the others.
    pub of: Vec<ImagesOf>,
}

/// The first images of an outcome, in the data set's order: none is chosen.
#[derive(Clone, Debug, Serialize)]
pub struct ImagesOf {
    /// The outcome; `None` for a coarse-only run.
    pub outcome: Option<Outcome>,
    /// Whether the category is right.
    pub coarse_correct: bool,
    /// How many images had it.
    pub total: u64,
    /// The first of them.
    pub images: Vec<OutcomeItem>,
}

impl Reports {
    /// A comparison to keep, with images of the run whose IA is highest (of a group the newest run).
    pub async fn freeze_comparison(&self, comparison: Comparison, now: Timestamp) -> Result<Frozen<Comparison>> {
        let dataset = comparison.dataset.clone();
        let of_row = |row: &super::ComparisonRow| -> Vec<Vec<RunId>> {
            let coarse_only = row.coarse_only.iter().map(|coarse_only| coarse_only.runs.clone());
            row.cells.iter().map(|cell| cell.runs.clone()).chain(coarse_only).collect()
        };
        let groups: Vec<Vec<RunId>> = comparison.rows.iter().flat_map(of_row).collect();
        if groups.is_empty() {
            return Err(Error::Conflict(format!(
                "no run on “{}” has succeeded yet: there is nothing to report",
                dataset.name
            )));
        }
        let newest: Vec<String> = groups.iter().filter_map(|runs| Some(runs.first()?.to_string())).collect();
        let base = comparison.base.map_or_else(String::new, |base| format!(" --base={base}"));
        let command = format!("twograin report --dataset={} --pick={}{base}", dataset.name, newest.join(","));
        let examples = match best(&comparison) {
            Some(run) => Some(self.examples(run).await?),
            None => None,
        };
        let runs = self.stamps(groups.concat()).await?;
        Ok(frozen(comparison, now, dataset, command, runs, examples))
    }

    /// A succeeded run to keep.
    pub async fn freeze_run(&self, id: RunId, now: Timestamp) -> Result<Frozen<RunReport>> {
        self.succeeded(id).await?;
        let report = RunReport { log: Vec::new(), attempts: Vec::new(), ..self.run(id).await? };
        let dataset = DatasetBrief::of(&self.store.dataset(&report.brief.dataset).await?);
        let command = format!("twograin report --run={id}");
        let (runs, examples) = (self.stamps(vec![id]).await?, self.examples(id).await?);
        Ok(frozen(report, now, dataset, command, runs, Some(examples)))
    }

    async fn stamps(&self, ids: Vec<RunId>) -> Result<Vec<RunStamp>> {
        let mut stamps = Vec::with_capacity(ids.len());
        for id in ids {
            let run = self.store.run(id).await?;
            let mut files = Vec::new();
            for kind in [ArtifactKind::ScoresTest, ArtifactKind::ScoresValidation, ArtifactKind::Weights] {
                files.push(FileStamp { kind, sha256: self.store.artifact(id, kind).await?.sha256 });
            }
            let specification = run.spec.text();
            stamps.push(RunStamp {
                id,
                name: run.name,
                seed: run.spec.seed,
                specification_sha256: Sha256Hex::of(specification.as_bytes()),
                specification,
                files,
                command: run.spec.command(),
            });
        }
        Ok(stamps)
    }

    async fn examples(&self, id: RunId) -> Result<Examples> {
        let with = |outcome: Option<Outcome>, correct: Option<bool>| OutcomeQuery {
            outcome,
            correct,
            limit: Some(IMAGES),
            ..OutcomeQuery::default()
        };
        let decides_labels = self.store.run(id).await?.spec.own_rule().is_some();
        let queries = if decides_labels {
            [Outcome::Ffct, Outcome::Ftcf, Outcome::Ffcf, Outcome::Ftct]
                .map(|outcome| with(Some(outcome), None))
                .to_vec()
        } else {
            [false, true].map(|correct| with(None, Some(correct))).to_vec()
        };
        let mut of = Vec::new();
        let mut about = None;
        for query in queries {
            let page = self.outcomes(id, &query).await?;
            let correct = query.outcome.map(Outcome::coarse_true).or(query.correct);
            of.push(ImagesOf {
                outcome: query.outcome,
                coarse_correct: correct.unwrap_or_default(),
                total: page.total,
                images: page.items,
            });
            about = Some((page.run, page.rule));
        }
        let (run, rule) = about.ok_or_else(|| Error::internal("no outcome was asked for", format!("run {id}")))?;
        Ok(Examples { run, rule, of })
    }
}

fn frozen<T>(
    report: T,
    now: Timestamp,
    dataset: DatasetBrief,
    command: String,
    runs: Vec<RunStamp>,
    examples: Option<Examples>,
) -> Frozen<T> {
    let (twograin, frozen_at) = (env!("CARGO_PKG_VERSION"), now.to_string());
    Frozen { twograin, frozen_at, command, dataset, report, runs, examples }
}

/// The newest run of the cell with the highest IA; `None` without a cell that has one.
fn best(comparison: &Comparison) -> Option<RunId> {
    let cells = comparison.rows.iter().flat_map(|row| &row.cells);
    let with_ia = cells.filter_map(|cell| Some((cell.figures.ia.value?, *cell.runs.first()?)));
    // Of equals the first one, as in the table.
    with_ia.reduce(|best, next| if next.0 > best.0 { next } else { best }).map(|(_, run)| run)
}
