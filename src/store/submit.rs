//! How runs come into the queue: several at once, all or none, and none twice.

use std::collections::{BTreeSet, HashMap};

use jiff::Timestamp;
use sqlx::SqliteConnection;

use super::{Store, from_json, sweeps, to_json};
use crate::{
    domain::{DatasetId, RunId, RunSpec, Submission, SweepId},
    error::Result,
};

/// What a submission is answered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submitted {
    /// The run.
    pub run: RunId,
    /// Whether it was there already.
    pub existing: bool,
}

impl Store {
    /// Puts runs at the end of the queue, all of them or, where it fails, none. A specification that a run has already which
    /// succeeded, runs or waits is answered by that run, unless `force`. Two of the same specification are one run. Several are kept as a
    /// sweep, where it has a name.
    pub async fn submit(
        &self,
        runs: &[(DatasetId, Submission)],
        force: bool,
        sweep: Option<&str>,
        now: Timestamp,
    ) -> Result<(Vec<Submitted>, Option<SweepId>)> {
        let now = now.to_string();
        let mut transaction = self.writer.begin_with("begin immediate").await?;
        let mut known = if force { Known::default() } else { Known::among(runs, &mut transaction).await? };
        let mut submitted = Vec::with_capacity(runs.len());
        for (dataset, submission) in runs {
            let existing = known.find(&submission.spec);
            let run = match existing {
                Some(run) => run,
                None => insert(&mut transaction, *dataset, submission, &now).await?,
            };
            if existing.is_none() {
                known.add(&submission.spec, run);
            }
            submitted.push(Submitted { run, existing: existing.is_some() });
        }
        let distinct: Vec<RunId> = submitted.iter().map(|one| one.run).collect::<BTreeSet<_>>().into_iter().collect();
        let any_new = submitted.iter().any(|one| !one.existing);
        let sweep = match sweep.filter(|_| distinct.len() > 1) {
            Some(name) => Some(sweeps::keep(&mut transaction, name, (&distinct, any_new), &now).await?),
            None => None,
        };
        transaction.commit().await?;
        Ok((submitted, sweep))
    }

    /// The run that each submission would be answered by if it were not forced.
    pub async fn existing(&self, runs: &[(DatasetId, Submission)]) -> Result<Vec<Option<RunId>>> {
        let mut reader = self.reader.acquire().await?;
        let known = Known::among(runs, &mut reader).await?;
        Ok(runs.iter().map(|(_, submission)| known.find(&submission.spec)).collect())
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    dataset: DatasetId,
    submission: &Submission,
    now: &str,
) -> Result<RunId> {
    let (name, tags, spec) = (submission.name(), to_json(&submission.labels.tags)?, to_json(&submission.spec)?);
    let slurm = (!submission.slurm.is_empty()).then(|| to_json(&submission.slurm)).transpose()?;
    let priority = submission.labels.priority.get();
    let id = sqlx::query_scalar!(
        r#"insert into run (dataset_id, name, tags, note, priority, spec, slurm, status, submitted_at)
         values (?, ?, ?, ?, ?, ?, ?, 'queued', ?) returning id as "id!""#,
        dataset.0,
        name,
        tags,
        submission.labels.note,
        priority,
        spec,
        slurm,
        now
    )
    .fetch_one(connection)
    .await?;
    Ok(RunId(id))
}

/// Runs by their specification but for the threads, with these. The first one is preferred.
#[derive(Default)]
struct Known(HashMap<(String, u64), Vec<(usize, RunId)>>);

impl Known {
    /// Those that can answer for one of `runs`: succeeded before running before waiting, newer before older.
    async fn among(runs: &[(DatasetId, Submission)], connection: &mut SqliteConnection) -> Result<Self> {
        let datasets = to_json(&runs.iter().map(|(dataset, _)| dataset.0).collect::<Vec<_>>())?;
        let rows = sqlx::query!(
            "select id, spec from run
             where dataset_id in (select value from json_each(?))
               and (status = 'succeeded' or (status in ('queued', 'running') and not cancel_requested))
             order by status = 'succeeded' desc, status = 'running' desc, id desc",
            datasets
        )
        .fetch_all(connection)
        .await?;
        let mut known = Self::default();
        for row in rows {
            known.add(&from_json("run.spec", &row.spec)?, RunId(row.id));
        }
        Ok(known)
    }

    fn add(&mut self, spec: &RunSpec, run: RunId) {
        self.0.entry((spec.group_key(), spec.seed)).or_default().push((spec.threads, run));
    }

    /// A run that is claimed has its 0 threads replaced by their number, so 0 finds any.
    fn find(&self, spec: &RunSpec) -> Option<RunId> {
        let runs = self.0.get(&(spec.group_key(), spec.seed))?;
        runs.iter().find(|(threads, _)| spec.threads == 0 || spec.threads == *threads).map(|(_, run)| *run)
    }
}
