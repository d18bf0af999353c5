//! `/api`: the endpoints, with a command to try each.

use askama::Template;
use axum::http::{HeaderMap, header};

use super::Page;

struct Endpoint {
    method: &'static str,
    path: &'static str,
    words: &'static str,
}

const ENDPOINTS: &[Endpoint] = &[
    endpoint("GET", "/api/v1/datasets", "All data sets."),
    endpoint("GET", "/api/v1/datasets/{name}", "One data set: funnel, counts per category and label, taxonomy."),
    endpoint(
        "GET",
        "/api/v1/datasets/{name}/images?split=&fine=&coarse=&min_labels=&max_labels=&tag=&noted=&runs=&outcomes=&min_right=\
         &max_right=&sort=&cursor=&limit=",
        "Its images, and what runs made of each. outcomes: same or differ. sort: image or right.",
    ),
    endpoint("PUT", "/api/v1/images/{id}/tags/{tag}", "Give an image a tag; DELETE takes it away."),
    endpoint("PUT", "/api/v1/images/{id}/note", "Write its note: {\"text\": \"…\"}; an empty one takes it away."),
    endpoint("GET", "/api/v1/views", "Saved views: pages with all that their address holds."),
    endpoint("POST", "/api/v1/views", "Keep one: {\"name\": \"…\", \"address\": \"/runs/1/images?outcome=FFCT\"}."),
    endpoint("DELETE", "/api/v1/views/{id}", "Forget one."),
    endpoint(
        "GET",
        "/api/v1/comparisons?dataset=&pick=&base=",
        "Backbones × decision modes. pick: runs to show instead of the newest; base: the run that others are held against.",
    ),
    endpoint(
        "GET",
        "/api/v1/comparisons/export?format=&dataset=&pick=&base=",
        "The same as a table: csv, json, parquet or latex.",
    ),
    endpoint(
        "GET",
        "/api/v1/reports/comparison?dataset=&pick=&base=",
        "The same as one file of HTML that opens anywhere, with what it takes to come to it again.",
    ),
    endpoint("GET", "/api/v1/runs?dataset=&status=&cursor=&limit=", "Runs, newest first."),
    endpoint(
        "POST",
        "/api/v1/runs",
        "Submit a run: a specification with name, tags and note. Answers 201, or 200 with the run that was there; force repeats.",
    ),
    endpoint(
        "POST",
        "/api/v1/sweeps",
        "Submit several runs, all or none: a grid over fields, or runs. Those that are there already are not made again.",
    ),
    endpoint("GET", "/api/v1/runs/{id}", "One run: specification, progress, epochs, log, results."),
    endpoint("PATCH", "/api/v1/runs/{id}", "Change a run that waits: {\"priority\": -100 to 100}, higher goes first."),
    endpoint("POST", "/api/v1/runs/{id}/cancel", "Stop a run that waits or runs."),
    endpoint(
        "POST",
        "/api/v1/runs/{id}/retry",
        "Queue a run again that failed or was canceled; it goes on from its checkpoint.",
    ),
    endpoint("POST", "/api/v1/runs/{id}/clone", "Submit the same with the fields of the body changed; {} repeats it."),
    endpoint("DELETE", "/api/v1/runs/{id}", "Forget a run that is over."),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/indices?rule=&k=&threshold=&alpha=",
        "Its indices under any decision rule, from stored scores.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/decision?rule=&k=&threshold=&outcome=",
        "It under any decision rule, held against its own: figures, every θ and k, the best θ on validation, tuned thresholds.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/sweep?over=theta|k&steps=&split=",
        "Its counts and indices at each threshold, or each k. split: test or validation, which names the best thresholds, too.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/outcomes?outcome=&correct=&fine=&predicted=&missing=&extra=&coarse=&predicted_coarse=&min_labels=\
         &max_labels=&min_confidence=&max_confidence=&other=&other_outcome=&differs=&tag=&noted=&split=&rule=&k=&threshold=&sort=\
         &cursor=&limit=",
        "What it decided for each image. sort: image, loss, margin or confidence, - in front for the largest first. other: a run \
         to hold against, with its outcome there, or whether the two differ.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/outcomes/{image}",
        "One image in full: probabilities, what other runs decided, its neighbours in the listing of the same query.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/outcomes/export?format=",
        "All of these images as a table: csv, json or parquet. Takes the same conditions, order and rule.",
    ),
    endpoint("GET", "/api/v1/runs/{id}/report", "The run as one file of HTML that opens anywhere."),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/labels?rule=&k=&threshold=&sort=",
        "Each fine label: average precision, precision, recall, F1; macro and micro means.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/labels/{fine}?rule=&k=&threshold=",
        "One fine label: precision-recall curve, calibration, what it stands with and is confused with, the worst errors.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/categories?rule=&k=&threshold=",
        "Each category: average precision, precision, recall, F1, outcomes; confusion matrix, calibration.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/categories/{coarse}?rule=&k=&threshold=",
        "One category: precision-recall curve, calibration, confusions, which labels speak for it, the worst errors.",
    ),
    endpoint(
        "GET",
        "/api/v1/runs/{id}/bottleneck?rule=&k=&threshold=&coarse_only=",
        "Whether its head reads labels as the taxonomy does: weights, interventions, lookup, consistency, completeness.",
    ),
    endpoint("GET", "/api/v1/curves?run=&run=&measure=&x=", "One measure of several runs, epoch by epoch."),
    endpoint(
        "GET",
        "/api/v1/transitions?a=&b=&rule=&k=&threshold=",
        "Two runs on the same test images: outcomes under a and b, differences with intervals, McNemar's tests.",
    ),
    endpoint(
        "POST",
        "/api/v1/predictions?run=&run=&rule=&k=&threshold=&top=",
        "How runs decide for photographs: one or more fields image, or the body itself.",
    ),
    endpoint(
        "GET",
        "/api/v1/images/{id}/prediction?run=&run=&rule=&k=&threshold=&top=",
        "How runs decide for an image of a data set.",
    ),
    endpoint("GET", "/api/v1/sweeps?cursor=&limit=", "Sweeps, newest first: runs that were submitted together."),
    endpoint("GET", "/api/v1/sweeps/{id}", "One sweep: how far it is, its runs with the fields in which they differ."),
    endpoint("POST", "/api/v1/sweeps/{id}/cancel", "Stop all its runs that wait or run."),
    endpoint("POST", "/api/v1/sweeps/{id}/retry", "Queue all its runs again that failed or were canceled."),
    endpoint("GET", "/api/v1/queue", "How many runs wait and run, and whether the queue is paused."),
    endpoint("POST", "/api/v1/queue/pause", "Let nothing new start; what runs goes on."),
    endpoint("POST", "/api/v1/queue/resume", "Let what waits start again."),
    endpoint(
        "GET",
        "/api/v1/events?last_event_id=",
        "Server-sent events: each change of a run. Last-Event-ID, or last_event_id, tells what changed since.",
    ),
    endpoint("GET", "/api/v1/runs/{id}/log", "The whole log of a run, as text: of each attempt, one after the other."),
    endpoint("GET", "/api/v1/runs/{id}/events", "The same of one run."),
    endpoint("GET", "/api/v1/disk", "What runs, features and thumbnails take on disk."),
    endpoint("GET", "/healthz", "Whether the server lives."),
    endpoint("GET", "/readyz", "Whether it can answer."),
];

const fn endpoint(method: &'static str, path: &'static str, words: &'static str) -> Endpoint {
    Endpoint { method, path, words }
}

#[derive(Template)]
#[template(path = "api.html")]
pub struct GuidePage {
    endpoints: &'static [Endpoint],
    /// As the reader's browser calls this server, for commands to copy.
    host: String,
}

impl GuidePage {
    fn section(&self) -> &'static str {
        "api"
    }
}

pub async fn show(headers: HeaderMap) -> Page<GuidePage> {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("localhost").to_owned();
    Page(GuidePage { endpoints: ENDPOINTS, host })
}
