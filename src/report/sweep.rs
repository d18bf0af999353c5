//! Several runs submitted at once: what that is answered by, and how such a group goes on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Listing, Reports, RunBrief, reports};
use crate::{
    domain::{RunId, RunStatus, SweepId},
    error::{Error, Result},
    store::{RunRow, RunState, SweepRow},
};

/// The answer to the submission of several runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepReport {
    /// The sweep that they are kept as; `None` for a single run and in a dry run.
    #[serde(default)]
    pub id: Option<SweepId>,
    /// One for each run that was asked for, in order.
    pub items: Vec<SweepItem>,
}

/// What one run that was asked for is answered by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepItem {
    /// Whether the run was there already.
    pub existing: bool,
    /// The run; `None` in a dry run, where it is still to be made.
    pub run: Option<RunBrief>,
}

/// A sweep's number and name.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepLink {
    /// Its number.
    pub id: SweepId,
    /// Its name.
    pub name: String,
}

/// A sweep in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepBrief {
    /// Its number.
    pub id: SweepId,
    /// The name given, or the fields that were varied.
    pub name: String,
    /// RFC 3339.
    pub submitted_at: String,
    /// How many of its runs are in each state.
    pub counts: SweepCounts,
    /// Share of all its runs done, 0 to 1.
    pub fraction: f64,
    /// Estimated time left, in seconds: at the pace of its own runs, as many at a time as run now. `None` while none runs, or
    /// where it cannot be known yet.
    pub seconds_left: Option<f64>,
}

/// How many runs are in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SweepCounts {
    /// Wait.
    pub queued: u64,
    /// Run.
    pub running: u64,
    /// Have outcomes.
    pub succeeded: u64,
    /// Ended with an error.
    pub failed: u64,
    /// Were stopped.
    pub canceled: u64,
}

/// A sweep in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepDetail {
    /// The brief.
    #[serde(flatten)]
    pub brief: SweepBrief,
    /// The fields of the specification in which its runs differ, in alphabetical order.
    pub fields: Vec<String>,
    /// Its runs, in order of submission.
    pub runs: Vec<SweepMember>,
}

/// A run of a sweep.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SweepMember {
    /// Its values of [`SweepDetail::fields`]; `null` for one that is not set.
    pub differs: BTreeMap<String, Value>,
    /// The run.
    pub run: RunBrief,
}

/// Which sweeps to list.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SweepQuery {
    /// Where to go on.
    pub cursor: Option<String>,
    /// At most this many, 1 to 500; 50 by default.
    pub limit: Option<u32>,
}

impl Reports {
    /// What a submission of several runs is answered by: each with whether it was there already.
    pub async fn submitted_sweep(
        &self,
        id: Option<SweepId>,
        runs: impl Iterator<Item = (Option<RunId>, bool)>,
    ) -> Result<SweepReport> {
        let mut items = Vec::new();
        for (run, existing) in runs {
            let run = match run {
                Some(run) => Some(self.brief(run).await?),
                None => None,
            };
            items.push(SweepItem { existing, run });
        }
        Ok(SweepReport { id, items })
    }

    /// Sweeps, newest first.
    pub async fn sweeps(&self, query: &SweepQuery) -> Result<Listing<SweepBrief>> {
        let limit = reports::limit(query.limit)?;
        let mut rows = self.store.sweeps(reports::cursor(query.cursor.as_deref())?, limit + 1).await?;
        let more = rows.len() > limit as usize;
        rows.truncate(limit as usize);
        let next_cursor = rows.last().filter(|_| more).map(|sweep| sweep.id.to_string());
        let mut states: BTreeMap<SweepId, Vec<RunState>> = BTreeMap::new();
        let ids: Vec<SweepId> = rows.iter().map(|row| row.id).collect();
        for (sweep, state) in self.store.sweep_states(&ids).await? {
            states.entry(sweep).or_default().push(state);
        }
        let paused = self.store.queue_paused().await?;
        let brief = |row: SweepRow| {
            let states = states.remove(&row.id).unwrap_or_default();
            SweepBrief::of(row, &states, paused)
        };
        Ok(Listing { items: rows.into_iter().map(brief).collect(), next_cursor })
    }

    /// One sweep in full.
    pub async fn sweep(&self, id: SweepId) -> Result<SweepDetail> {
        let sweep = self.store.sweep(id).await?;
        let mut rows = self.store.runs_of_sweep(id).await?;
        rows.reverse();
        let states: Vec<RunState> = rows.iter().map(RunState::from).collect();
        let brief = SweepBrief::of(sweep, &states, self.store.queue_paused().await?);
        let specs = rows.iter().map(specification).collect::<Result<Vec<_>>>()?;
        let fields = differing(&specs);
        let member = |(row, spec): (RunRow, Map<String, Value>)| {
            let value = |field: &String| (field.clone(), spec.get(field).cloned().unwrap_or_default());
            SweepMember { differs: fields.iter().map(value).collect(), run: reports::brief(row) }
        };
        let runs = rows.into_iter().zip(specs).map(member).collect();
        Ok(SweepDetail { brief, fields, runs })
    }

    /// The sweeps that a run belongs to, oldest first.
    pub(super) async fn sweeps_of(&self, run: RunId) -> Result<Vec<SweepLink>> {
        let rows = self.store.sweeps_of(run).await?;
        Ok(rows.into_iter().map(|row| SweepLink { id: row.id, name: row.name }).collect())
    }
}

impl SweepBrief {
    fn of(SweepRow { id, name, submitted_at }: SweepRow, runs: &[RunState], paused: bool) -> Self {
        let counts = SweepCounts::of(runs);
        let done = |run: &RunState| match run.status {
            RunStatus::Queued => 0.0,
            RunStatus::Running => run.progress.as_ref().map_or(0.0, |progress| progress.fraction),
            RunStatus::Succeeded | RunStatus::Failed | RunStatus::Canceled => 1.0,
        };
        let fraction = runs.iter().map(done).sum::<f64>() / runs.len().max(1) as f64;
        let seconds_left = if paused && counts.queued > 0 { None } else { seconds_left(runs, Timestamp::now()) };
        Self { id, name, submitted_at, counts, fraction, seconds_left }
    }
}

impl SweepCounts {
    fn of(runs: &[RunState]) -> Self {
        let count = |status| runs.iter().filter(|run| run.status == status).count() as u64;
        Self {
            queued: count(RunStatus::Queued),
            running: count(RunStatus::Running),
            succeeded: count(RunStatus::Succeeded),
            failed: count(RunStatus::Failed),
            canceled: count(RunStatus::Canceled),
        }
    }

    /// Each state with its count, in the order of a run's life.
    pub fn by_status(&self) -> [(RunStatus, u64); 5] {
        [
            (RunStatus::Queued, self.queued),
            (RunStatus::Running, self.running),
            (RunStatus::Succeeded, self.succeeded),
            (RunStatus::Failed, self.failed),
            (RunStatus::Canceled, self.canceled),
        ]
    }

    /// “2 queued, 1 running”.
    pub fn words(&self) -> String {
        let some = self.by_status().into_iter().filter(|(_, count)| *count > 0);
        some.map(|(status, count)| format!("{count} {status}")).collect::<Vec<_>>().join(", ")
    }
}

/// What the runs that run have left, and those that wait at the mean of those that succeeded, else of those that run.
fn seconds_left(runs: &[RunState], now: Timestamp) -> Option<f64> {
    let of = |status| runs.iter().filter(move |run| run.status == status);
    let left: Vec<f64> =
        of(RunStatus::Running).map(|run| run.progress.as_ref()?.seconds_left).collect::<Option<_>>()?;
    let longest = left.iter().copied().reduce(f64::max)?;
    let waiting = of(RunStatus::Queued).count() as f64;
    if waiting == 0.0 {
        return Some(longest);
    }
    let taken: Vec<f64> = match of(RunStatus::Succeeded).next() {
        Some(_) => of(RunStatus::Succeeded).filter_map(|run| elapsed(run, now)).collect(),
        None => of(RunStatus::Running).zip(&left).filter_map(|(run, left)| Some(elapsed(run, now)? + left)).collect(),
    };
    let mean = (!taken.is_empty()).then(|| taken.iter().sum::<f64>() / taken.len() as f64)?;
    Some(((left.iter().sum::<f64>() + waiting * mean) / left.len() as f64).max(longest))
}

fn elapsed(run: &RunState, now: Timestamp) -> Option<f64> {
    let at = |text: &Option<String>| text.as_deref()?.parse::<Timestamp>().ok();
    let end = at(&run.finished_at).unwrap_or(now);
    Some(end.duration_since(at(&run.started_at)?).as_secs_f64())
}

fn specification(row: &RunRow) -> Result<Map<String, Value>> {
    match serde_json::to_value(&row.spec) {
        // How many threads a machine has is known when a run starts: those that run would differ from those that wait.
        Ok(Value::Object(mut fields)) => {
            fields.remove("threads");
            Ok(fields)
        }
        Ok(_) => Err(Error::internal("a specification", "it is no object")),
        Err(error) => Err(Error::internal("a specification does not serialise", error)),
    }
}

fn differing(specs: &[Map<String, Value>]) -> Vec<String> {
    let names: BTreeSet<&String> = specs.iter().flat_map(Map::keys).collect();
    let differs = |name: &&String| specs.windows(2).any(|pair| pair[0].get(*name) != pair[1].get(*name));
    names.into_iter().filter(differs).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Progress;

    fn run(status: RunStatus, left: Option<f64>, times: [Option<&str>; 2]) -> RunState {
        let progress = (status == RunStatus::Running).then(|| Progress {
            phase: "epoch".into(),
            fraction: 0.5,
            loss: None,
            images_per_second: None,
            seconds_left: left,
        });
        let [started_at, finished_at] = times.map(|at| at.map(|time| format!("2026-01-01T{time}Z")));
        RunState { status, progress, started_at, finished_at }
    }

    #[test]
    fn the_time_left_is_what_runs_and_what_waits_at_the_pace_of_what_ended() {
        let now = "2026-01-01T01:00:00Z".parse().unwrap();
        let running = |left| run(RunStatus::Running, left, [Some("00:59:50"), None]);
        let queued = || run(RunStatus::Queued, None, [None; 2]);
        let succeeded = || run(RunStatus::Succeeded, None, [Some("00:00:00"), Some("00:00:40")]);
        for (runs, expected) in [
            (vec![queued()], None),
            (vec![succeeded(), succeeded()], None),
            (vec![running(None), queued()], None),
            (vec![running(Some(30.0)), succeeded()], Some(30.0)),
            (vec![running(Some(30.0)), queued(), queued()], Some(110.0)),
            (vec![running(Some(30.0)), queued(), succeeded()], Some(70.0)),
            (vec![running(Some(30.0)), running(Some(10.0)), queued(), queued(), succeeded()], Some(60.0)),
        ] {
            assert_eq!(seconds_left(&runs, now), expected, "{runs:?}");
        }
        let row = SweepRow { id: SweepId(1), name: String::new(), submitted_at: String::new() };
        let brief = SweepBrief::of(row, &[running(None), queued(), succeeded(), succeeded()], false);
        assert_eq!((brief.fraction, brief.counts.words().as_str()), (0.625, "1 queued, 1 running, 2 succeeded"));
    }
}
