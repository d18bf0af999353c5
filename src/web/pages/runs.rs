//! `/runs`: all runs, newest first.

use askama::Template;
use axum::{extract::State, response::Redirect};

use super::Page;
use crate::{
    domain::{Priority, RunStatus},
    report::{DiskUsage, Listing, Reports, RunBrief, RunQuery},
    services::{Queue, QueueState},
    web::{
        error::Problem,
        extract::Query,
        filters::{self as text, as_filters as filters},
    },
};

const STATUSES: [RunStatus; 5] =
    [RunStatus::Queued, RunStatus::Running, RunStatus::Succeeded, RunStatus::Failed, RunStatus::Canceled];

#[derive(Template)]
#[template(path = "runs/list.html")]
pub struct RunsPage {
    query: RunQuery,
    runs: Listing<RunBrief>,
    datasets: Vec<String>,
    disk: DiskUsage,
    queue: QueueState,
}

pub async fn list(
    State(reports): State<Reports>,
    State(queue): State<Queue>,
    Query(query): Query<RunQuery>,
) -> Result<Page<RunsPage>, Problem> {
    let runs = reports.runs(&query).await?;
    let datasets = reports.datasets().await?.items.into_iter().map(|dataset| dataset.name).collect();
    Ok(Page(RunsPage { query, runs, datasets, disk: reports.disk().await?, queue: queue.state().await? }))
}

pub async fn pause(State(queue): State<Queue>) -> Result<Redirect, Problem> {
    queue.pause(true).await?;
    Ok(Redirect::to("/runs"))
}

pub async fn resume(State(queue): State<Queue>) -> Result<Redirect, Problem> {
    queue.pause(false).await?;
    Ok(Redirect::to("/runs"))
}

impl RunsPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn filtered(&self) -> bool {
        self.query.dataset.is_some() || self.query.status.is_some()
    }

    fn drawn(&self) -> bool {
        self.runs.items.iter().any(|run| run.drawn)
    }

    /// The list's address under `path` from `cursor` on.
    fn address(&self, path: &str, cursor: Option<&str>) -> String {
        let status = self.query.status.map(RunStatus::as_str);
        let parts = [("dataset", self.query.dataset.as_deref()), ("status", status), ("cursor", cursor)];
        text::address(path, &parts)
    }
}
