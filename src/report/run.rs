//! A run: what it was asked to do, how far it is, what came out.

use serde::{Deserialize, Serialize};

use super::{Figures, SweepLink, rule::rule_words};
use crate::{
    domain::{
        Counts, DecisionRule, EpochPoint, LogLine, Priority, Progress, RunId, RunSpec, RunStatus, SlurmOptions, Tally,
        spec::{Backbone, Keep, Objective},
    },
    store::AttemptRow,
};

/// A run in a list.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunBrief {
    /// Its number.
    pub id: RunId,
    /// Its name; by default made of backbone, objective and seed.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Where it is in its life.
    pub status: RunStatus,
    /// It still runs, and somebody asked it to stop.
    #[serde(default)]
    pub stopping: bool,
    /// The data set's name.
    pub dataset: String,
    /// Whether the data set is drawn, not photographed.
    pub drawn: bool,
    /// The backbone.
    pub backbone: Backbone,
    /// The objective.
    pub objective: Objective,
    /// Whether it goes before others that wait.
    #[serde(default)]
    pub priority: Priority,
    /// How far it is, while it runs.
    pub progress: Option<Progress>,
    /// IA on the test images, once it succeeded.
    pub ia: Option<f64>,
    /// Coarse accuracy on the test images, once it succeeded.
    pub coarse_accuracy: Option<f64>,
    /// What its files take on disk: scores, weights, checkpoints. `None` beside something else than a run's own report or list.
    #[serde(default)]
    pub disk_bytes: Option<u64>,
    /// Why it failed, in words.
    pub error: Option<String>,
    /// RFC 3339.
    pub submitted_at: String,
    /// RFC 3339.
    pub started_at: Option<String>,
    /// RFC 3339.
    pub finished_at: Option<String>,
}

/// A run in full.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunReport {
    /// The brief.
    #[serde(flatten)]
    pub brief: RunBrief,
    /// A free note.
    pub note: String,
    /// The specification as given (threads resolved when it started).
    pub spec: RunSpec,
    /// What its jobs ask of a Slurm cluster; left out where it asked for nothing.
    #[serde(default, skip_serializing_if = "SlurmOptions::is_empty")]
    pub slurm: SlurmOptions,
    /// Position in the queue, 1 = next; `None` unless queued.
    pub queue_position: Option<u64>,
    /// The sweeps that it belongs to.
    #[serde(default)]
    pub sweeps: Vec<SweepLink>,
    /// Wall-clock seconds from start to end (or to now).
    pub seconds: Option<f64>,
    /// One point per finished epoch.
    pub epochs: Vec<EpochPoint>,
    /// The epoch whose weights were kept and evaluated, once it succeeded; `None` too for a run from before this was recorded,
    /// which kept its last one.
    #[serde(default)]
    pub kept_epoch: Option<u32>,
    /// The tries at it, oldest first.
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// The last lines of the worker's log, oldest first.
    pub log: Vec<LogLine>,
    /// What came out, once it succeeded.
    pub results: Option<RunResults>,
}

/// One try at a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Attempt {
    /// Counted from 1.
    pub number: i64,
    /// Who does it: “process 4711 on gpu-3”, “Slurm job 17 on node-2”.
    pub owner: Option<String>,
    /// RFC 3339: when its worker was last known to be there.
    pub heartbeat_at: String,
    /// RFC 3339: when it last got further.
    pub progressed_at: Option<String>,
    /// RFC 3339.
    pub started_at: String,
    /// RFC 3339.
    pub ended_at: Option<String>,
    /// Why it ended, in words.
    pub exit: Option<String>,
}

impl From<AttemptRow> for Attempt {
    fn from(row: AttemptRow) -> Self {
        let AttemptRow { number, heartbeat_at, progressed_at, started_at, ended_at, exit, .. } = row;
        let (what, local) = if row.executor == "slurm" { ("Slurm job", false) } else { ("process", true) };
        let owner = row.handle.map(|handle| {
            // A process's start time is for the scheduler alone.
            let name = if local { handle.split(':').next().unwrap_or_default() } else { &handle };
            let host = row.host.map(|host| format!(" on {host}")).unwrap_or_default();
            format!("{what} {name}{host}")
        });
        Self { number, owner, heartbeat_at, progressed_at, started_at, ended_at, exit }
    }
}

/// What a run that is submitted is answered by.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SubmittedRun {
    /// Whether the run was there already.
    #[serde(default)]
    pub existing: bool,
    /// The run.
    #[serde(flatten)]
    pub run: RunReport,
}

impl RunReport {
    /// Which epoch was kept and why, where that is not simply the last one of all.
    pub fn kept_in_words(&self) -> Option<String> {
        let (kept, trained) = (self.kept_epoch?, self.epochs.len());
        let by = match self.spec.keep {
            Keep::Last => return None,
            Keep::BestLoss => "it has the lowest validation loss",
            Keep::BestCoarseAccuracy => "it has the highest coarse accuracy on the validation split",
            Keep::BestIa => "it has the highest IA on the validation split",
        };
        let stopped = match self.spec.patience {
            Some(patience) if trained < self.spec.epochs => {
                let all = self.spec.epochs;
                format!(" Training ended after epoch {trained} of {all}, as {patience} in a row were no better.")
            }
            Some(_) | None => String::new(),
        };
        Some(format!("Epoch {kept} is kept and evaluated: {by}.{stopped}"))
    }
}

/// What came out of a succeeded run on the test images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunResults {
    /// The rule in words; `None` for a coarse-only run.
    pub rule: Option<String>,
    /// How many test images.
    pub test_images: u64,
    /// Images with the right category.
    pub coarse_correct: u64,
    /// The four counts; `None` for a coarse-only run.
    pub counts: Option<Counts>,
    /// The figures with intervals; for a coarse-only run only `coarse_accuracy` is defined.
    pub figures: Figures,
}

impl RunResults {
    /// From the counts under `rule`; `None` for a coarse-only run.
    pub(super) fn of(test: Tally, rule: Option<&DecisionRule>) -> Self {
        Self {
            rule: rule.map(rule_words),
            test_images: test.images,
            coarse_correct: test.coarse_correct,
            counts: test.counts,
            figures: Figures::of_run(test),
        }
    }
}

/// `GET /api/v1/runs/{id}/indices`: the indices of a run under any rule, from its stored scores.
#[derive(Clone, Debug, Serialize)]
pub struct IndicesReport {
    /// The run.
    pub run: RunId,
    /// The rule they were computed under; `null` for a coarse-only run.
    pub rule: Option<DecisionRule>,
    /// α of `if_alpha` and β of `f_beta`.
    pub alpha: f64,
    /// The four counts; `null` for a coarse-only run.
    pub counts: Option<Counts>,
    /// FTCT / all (eq. 1).
    pub ia: Option<f64>,
    /// FTCT / (FTCT + FTCF) (eq. 2).
    pub ip: Option<f64>,
    /// FTCT / (FTCT + FFCT) (eq. 3).
    pub ir: Option<f64>,
    /// Eq. 4 as printed.
    pub if_alpha: Option<f64>,
    /// The usual F_β.
    pub f_beta: Option<f64>,
    /// Eq. 4 with α = 1.
    pub if1: Option<f64>,
    /// (FTCT + FFCT) / all.
    pub coarse_accuracy: Option<f64>,
    /// (FTCT + FTCF) / all.
    pub fine_exact_match: Option<f64>,
}
