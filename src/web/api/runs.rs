//! Runs: submit, watch, read, stop, forget.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::{
    domain::{ImageId, Priority, RunId, RunStatus, SingleRun},
    report::{
        BottleneckQuery, BottleneckReport, CategoriesReport, CategoryReport, DecisionQuery, DecisionReport,
        ImageReport, IndicesQuery, IndicesReport, LabelReport, LabelsQuery, LabelsReport, OutcomePage, OutcomeQuery,
        Reports, RuleQuery, RuleSweep, RuleSweepQuery, RunQuery, RunReport, SubmittedRun, TransitionsQuery,
        TransitionsReport,
    },
    services::{Activity, Queue, Submitted},
    web::{
        error::Problem,
        events::{self, LastEventId, Sources},
        extract::{Json, Path, Query},
    },
    worker::protocol,
};

/// A script that asks again and again says which answer it has (`If-None-Match`), and gets it only where it changed.
pub async fn list(
    State(reports): State<Reports>,
    Query(query): Query<RunQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    // Looked up first: what changes meanwhile makes the answer newer than its tag says, never older.
    let tag = format!("W/\"{}-{}\"", reports.position().await?, protocol::VERSION);
    let listing = reports.runs(&query).await?;
    // What a running run takes on disk changes without a revision.
    if listing.items.iter().any(|run| run.status == RunStatus::Running) {
        return Ok(Json(listing).into_response());
    }
    let has_it = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| known.as_bytes() == tag.as_bytes());
    let tagged = [(header::ETAG, tag)];
    Ok(if has_it {
        (StatusCode::NOT_MODIFIED, tagged).into_response()
    } else {
        (tagged, Json(listing)).into_response()
    })
}

pub async fn create(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Json(run): Json<SingleRun>,
) -> Result<Answer, Problem> {
    let submitted = queue.submit(run).await?;
    answer(&reports, submitted).await
}

type Answer = (StatusCode, [(HeaderName, String); 1], Json<SubmittedRun>);

/// 201 for a new run, 200 for one that was there already.
async fn answer(reports: &Reports, Submitted { run, existing }: Submitted) -> Result<Answer, Problem> {
    let status = if existing { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/api/v1/runs/{run}"))];
    Ok((status, location, Json(SubmittedRun { existing, run: reports.run(run).await? })))
}

pub async fn show(State(reports): State<Reports>, Path(run): Path<RunId>) -> Result<Json<RunReport>, Problem> {
    Ok(Json(reports.run(run).await?))
}

/// What of a run can be changed after it was submitted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Change {
    priority: Priority,
}

pub async fn change(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Json(change): Json<Change>,
) -> Result<Json<RunReport>, Problem> {
    queue.prioritize(run, change.priority).await?;
    Ok(Json(reports.run(run).await?))
}

/// Accepted rather than done: a running worker stops at its next step.
pub async fn cancel(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
) -> Result<(StatusCode, Json<RunReport>), Problem> {
    queue.cancel(run).await?;
    Ok((StatusCode::ACCEPTED, Json(reports.run(run).await?)))
}

/// Accepted: it waits for its turn.
pub async fn retry(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
) -> Result<(StatusCode, Json<RunReport>), Problem> {
    queue.retry(run).await?;
    Ok((StatusCode::ACCEPTED, Json(reports.run(run).await?)))
}

pub async fn clone(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Json(changes): Json<Map<String, Value>>,
) -> Result<Answer, Problem> {
    let submitted = queue.clone_run(run, changes).await?;
    answer(&reports, submitted).await
}

pub async fn delete(State(queue): State<Queue>, Path(run): Path<RunId>) -> Result<StatusCode, Problem> {
    queue.delete(run).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub async fn indices(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<IndicesQuery>,
) -> Result<Json<IndicesReport>, Problem> {
    Ok(Json(reports.indices(run, &query).await?))
}

pub async fn rule_sweep(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<RuleSweepQuery>,
) -> Result<Json<RuleSweep>, Problem> {
    Ok(Json(reports.rule_sweep(run, &query).await?))
}

pub async fn decision(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<DecisionQuery>,
) -> Result<Json<DecisionReport>, Problem> {
    Ok(Json(reports.decision(run, &query).await?))
}

pub async fn outcomes(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Json<OutcomePage>, Problem> {
    Ok(Json(reports.outcomes(run, &query).await?))
}

pub async fn image(
    State(reports): State<Reports>,
    Path((run, image)): Path<(RunId, ImageId)>,
    Query(query): Query<OutcomeQuery>,
) -> Result<Json<ImageReport>, Problem> {
    Ok(Json(reports.image(run, image, &query).await?))
}

pub async fn labels(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<LabelsQuery>,
) -> Result<Json<LabelsReport>, Problem> {
    Ok(Json(reports.labels(run, &query).await?))
}

pub async fn label(
    State(reports): State<Reports>,
    Path((run, name)): Path<(RunId, String)>,
    Query(query): Query<RuleQuery>,
) -> Result<Json<LabelReport>, Problem> {
    Ok(Json(reports.label(run, &name, &query).await?))
}

pub async fn categories(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<RuleQuery>,
) -> Result<Json<CategoriesReport>, Problem> {
    Ok(Json(reports.categories(run, &query).await?))
}

pub async fn category(
    State(reports): State<Reports>,
    Path((run, name)): Path<(RunId, String)>,
    Query(query): Query<RuleQuery>,
) -> Result<Json<CategoryReport>, Problem> {
    Ok(Json(reports.category(run, &name, &query).await?))
}

pub async fn bottleneck(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Query(query): Query<BottleneckQuery>,
) -> Result<Json<BottleneckReport>, Problem> {
    Ok(Json(reports.bottleneck(run, &query).await?))
}

/// As text, a file to keep.
pub async fn log(State(reports): State<Reports>, Path(run): Path<RunId>) -> Result<impl IntoResponse, Problem> {
    let name = format!("inline; filename=\"twograin-run-{run}.log\"");
    let headers = [(header::CONTENT_TYPE, "text/plain; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, reports.log(run).await?))
}

pub async fn transitions(
    State(reports): State<Reports>,
    Query(query): Query<TransitionsQuery>,
) -> Result<Json<TransitionsReport>, Problem> {
    Ok(Json(reports.transitions(&query).await?))
}

pub async fn events(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    State(activity): State<watch::Receiver<Option<Activity>>>,
    heard: LastEventId,
) -> Result<impl IntoResponse, Problem> {
    let sources = Sources { reports, runs: queue.subscribe(), activity: Some(activity), only: None };
    Ok(events::stream(sources, heard).await?)
}

pub async fn events_of_one(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    heard: LastEventId,
) -> Result<impl IntoResponse, Problem> {
    let sources = Sources { reports, runs: queue.subscribe(), activity: None, only: Some(run) };
    Ok(events::stream(sources, heard).await?)
}
