//! `/sweeps`: runs submitted together, and `/sweeps/{id}`: how one such group goes on.

use askama::Template;
use axum::{extract::State, response::Redirect};
use serde_json::Value;

use super::{Page, run_form};
use crate::{
    domain::SweepId,
    report::{Listing, MAX_CURVES, Reports, SweepBrief, SweepDetail, SweepMember, SweepQuery},
    services::Queue,
    web::{
        error::Problem,
        extract::{Path, Query},
        filters::{self as text, as_filters as filters},
    },
};

#[derive(Template)]
#[template(path = "sweeps/list.html")]
pub struct SweepsPage {
    query: SweepQuery,
    sweeps: Listing<SweepBrief>,
}

pub async fn list(
    State(reports): State<Reports>,
    Query(query): Query<SweepQuery>,
) -> Result<Page<SweepsPage>, Problem> {
    let sweeps = reports.sweeps(&query).await?;
    Ok(Page(SweepsPage { query, sweeps }))
}

#[derive(Template)]
#[template(path = "sweeps/show.html")]
pub struct SweepPage {
    sweep: SweepDetail,
}

pub async fn show(State(reports): State<Reports>, Path(sweep): Path<SweepId>) -> Result<Page<SweepPage>, Problem> {
    Ok(Page(SweepPage { sweep: reports.sweep(sweep).await? }))
}

pub async fn cancel(State(queue): State<Queue>, Path(sweep): Path<SweepId>) -> Result<Redirect, Problem> {
    queue.cancel_sweep(sweep).await?;
    Ok(Redirect::to(&format!("/sweeps/{sweep}")))
}

pub async fn retry(State(queue): State<Queue>, Path(sweep): Path<SweepId>) -> Result<Redirect, Problem> {
    queue.retry_sweep(sweep).await?;
    Ok(Redirect::to(&format!("/sweeps/{sweep}")))
}

impl SweepsPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    /// The list's address under `path` from `cursor` on.
    fn address(&self, path: &str, cursor: Option<&str>) -> String {
        text::address(path, &[("cursor", cursor)])
    }
}

impl SweepPage {
    /// Where the curves of its runs are drawn over one another, unless they are too many.
    fn curves(&self) -> Option<String> {
        let runs = &self.sweep.runs;
        let query: Vec<_> = runs.iter().map(|member| format!("run={}", member.run.id)).collect();
        (runs.len() <= MAX_CURVES).then(|| format!("/curves?{}", query.join("&")))
    }

    fn section(&self) -> &'static str {
        "runs"
    }

    fn can_be_canceled(&self) -> bool {
        self.sweep.brief.counts.queued + self.sweep.brief.counts.running > 0
    }

    fn can_be_retried(&self) -> bool {
        self.sweep.brief.counts.failed + self.sweep.brief.counts.canceled > 0
    }

    fn drawn(&self) -> bool {
        self.sweep.runs.iter().any(|member| member.run.drawn)
    }

    /// A member's values of the fields that differ, as the form takes them.
    fn values(&self, member: &SweepMember) -> Vec<String> {
        let shown = |value: &Value| if value.is_null() { "–".to_owned() } else { run_form::text(value.clone()) };
        self.sweep.fields.iter().map(|field| member.differs.get(field).map_or_else(String::new, shown)).collect()
    }
}
