//! `/runs/{id}`: what it was asked to do, how far it is, what came out.

use askama::Template;
use axum::{extract::State, response::Redirect};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Page,
    number::{Number, Subject},
};
use crate::{
    domain::{Outcome, Priority, RunId, RunStatus, spec::Objective},
    exchange::table::Format,
    report::{Reports, RuleQuery, RunBrief, RunReport, RunResults},
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
        RunStatus::Succeeded => reports.choices(&run.brief, &[]).await?,
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

    fn numbers(&self, results: &RunResults) -> Vec<Number> {
        self.subject(results).numbers()
    }

    fn accuracy(&self, results: &RunResults) -> Number {
        self.subject(results).accuracy()
    }

    fn subject(&self, results: &RunResults) -> Subject<'_> {
        Subject {
            key: self.run.brief.id.to_string(),
            name: self.run.brief.name.clone(),
            runs: std::slice::from_ref(&self.run.brief.id),
            rule: RuleQuery::default(),
            figures: results.figures,
            counts: results.counts,
            categories: Some((results.coarse_correct, results.test_images)),
        }
    }
}
