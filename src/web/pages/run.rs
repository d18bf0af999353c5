//! `/runs/{id}`: what it was asked to do, how far it is, what came out.

use askama::Template;
use axum::{extract::State, response::Redirect};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Page;
use crate::{
    domain::{Counts, Outcome, Priority, RunId, RunStatus, spec::Objective},
    exchange::table::Format,
    report::{Figure, Reports, RunBrief, RunReport, RunResults},
    services::Queue,
    web::{
        chart::{self, Chart},
        error::Problem,
        extract::{Form, Path, Query},
        filters::as_filters as filters,
    },
};

#[derive(Template)]
#[template(path = "runs/show.html")]
pub struct RunPage {
    run: RunReport,
    /// Other runs that it can be held against.
    others: Vec<RunBrief>,
    chart: Chart,
    /// Whether a submission was answered by it.
    existing: bool,
}

/// `existing=true`: where a form is led whose run was there already.
#[derive(Deserialize)]
pub struct RunPageQuery {
    #[serde(default)]
    existing: bool,
}

pub async fn show(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(RunPageQuery { existing }): Query<RunPageQuery>,
) -> Result<Page<RunPage>, Problem> {
    let run = reports.run(run).await?;
    let mut others = match run.brief.status {
        RunStatus::Succeeded => reports.comparable(&run.brief).await?,
        RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Canceled => Vec::new(),
    };
    others.retain(|other| other.id != run.brief.id);
    Ok(Page(RunPage { chart: chart::epochs(&run.epochs), others, run, existing }))
}

pub async fn cancel(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<Redirect, Problem> {
    queue.cancel(run).await?;
    Ok(Redirect::to(&format!("/runs/{run}")))
}

pub async fn prioritize(
    State(queue): State<Queue>,
    Path(run): Path<RunId>,
    Form(pairs): Form,
) -> Result<Redirect, Problem> {
    let priority = pairs.iter().find(|(name, _)| name == "priority").map_or("", |(_, value)| value);
    let priority = priority.parse().map_err(|error| Problem::invalid(format!("priority: {error}")))?;
    queue.prioritize(run, priority).await?;
    Ok(Redirect::to(&format!("/runs/{run}")))
}

pub async fn retry(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<Redirect, Problem> {
    queue.retry(run).await?;
    Ok(Redirect::to(&format!("/runs/{run}")))
}

/// The same once more, as a new run.
pub async fn repeat(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<Redirect, Problem> {
    let new = queue.clone_run(run, Map::new()).await?.run;
    Ok(Redirect::to(&format!("/runs/{new}")))
}

pub async fn delete(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<Redirect, Problem> {
    queue.delete(run).await?;
    Ok(Redirect::to("/runs"))
}

/// One line of the table of results.
pub struct IndexRow {
    pub name: &'static str,
    pub meaning: &'static str,
    pub formula: &'static str,
    pub figure: Figure,
    /// The formula with the run's counts in it.
    pub worked: String,
}

impl RunPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn is_over(&self) -> bool {
        self.run.brief.status.is_final()
    }

    fn can_be_retried(&self) -> bool {
        match self.run.brief.status {
            RunStatus::Failed | RunStatus::Canceled => true,
            RunStatus::Queued | RunStatus::Running | RunStatus::Succeeded => false,
        }
    }

    fn is_coarse_only(&self) -> bool {
        self.run.spec.objective == Objective::CoarseOnly
    }

    fn is_oracle(&self) -> bool {
        self.run.spec.objective == Objective::TopKSoftmax
    }

    fn has_model(&self) -> bool {
        self.run.brief.status == RunStatus::Succeeded
    }

    /// The specification as name and value, in the order of its fields.
    fn specification(&self) -> Vec<(String, String)> {
        let fields = match serde_json::to_value(&self.run.spec) {
            Ok(Value::Object(fields)) => fields,
            Ok(_) | Err(_) => return Vec::new(),
        };
        let order = super::run_form::names();
        let rank = |name: &str| order.iter().position(|known| *known == name).unwrap_or(order.len());
        let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, super::run_form::text(value))).collect();
        fields.sort_by_key(|(name, _)| rank(name));
        if !self.run.slurm.is_empty() {
            fields.push(("slurm".into(), self.run.slurm.to_string()));
        }
        fields
    }

    fn indices(&self, results: &RunResults) -> Vec<IndexRow> {
        indices(results)
    }
}

/// The indices of a run with their formulas; none for a coarse-only run.
pub fn indices(results: &RunResults) -> Vec<IndexRow> {
    let Some(counts) = results.counts else { return Vec::new() };
    let Counts { ftct, ftcf, ffct, .. } = counts;
    let (total, figures) = (counts.total(), &results.figures);
    let row = |name, meaning, formula, figure, worked| IndexRow { name, meaning, formula, figure, worked };
    vec![
        row("IA", "right for the right reasons, of all images", "FTCT / all", figures.ia, format!("{ftct} / {total}")),
        row(
            "IP",
            "right category, where the fine labels are right",
            "FTCT / (FTCT + FTCF)",
            figures.ip,
            format!("{ftct} / ({ftct} + {ftcf})"),
        ),
        row(
            "IR",
            "right fine labels, where the category is right",
            "FTCT / (FTCT + FFCT)",
            figures.ir,
            format!("{ftct} / ({ftct} + {ffct})"),
        ),
        row(
            "IF1",
            "harmonic mean of IP and IR",
            "2 · IP · IR / (IP + IR)",
            figures.if1,
            format!("2 · {ftct} / (2 · {ftct} + {ftcf} + {ffct})"),
        ),
        row(
            "Coarse accuracy",
            "right category, for whatever reason",
            "(FTCT + FFCT) / all",
            figures.coarse_accuracy,
            format!("({ftct} + {ffct}) / {total}"),
        ),
        row(
            "Fine exact match",
            "all fine labels right and none too many",
            "(FTCT + FTCF) / all",
            figures.fine_exact_match,
            format!("({ftct} + {ftcf}) / {total}"),
        ),
    ]
}
