//! Frozen reports: one file of HTML each, that opens without a server and needs nothing from elsewhere.

use std::collections::HashMap;

use askama::Template;
use axum::{
    extract::State,
    http::{HeaderName, header},
    response::Html,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde::Serialize;

use super::{
    ComparisonQuery,
    definition::{self, Definition},
};
use crate::{
    domain::{ImageId, Outcome, RunId, spec::Objective},
    error::Error,
    report::{Comparison, ComparisonRow, Examples, Frozen, Reports, RunReport, RunResults},
    services::Images,
    web::{
        api::datasets,
        attachment,
        chart::{Bars, Curves},
        error::Problem,
        extract::{Path, Query},
        filters::as_filters as filters,
    },
};

/// The style sheet of the pages.
const STYLE: &str = include_str!("../../../static/app.css");

#[derive(Template)]
#[template(path = "frozen/comparison.html")]
pub struct FrozenComparison {
    frozen: Frozen<Comparison>,
    bars: Bars,
    thumbnails: HashMap<ImageId, String>,
}

#[derive(Template)]
#[template(path = "frozen/run.html")]
pub struct FrozenRun {
    frozen: Frozen<RunReport>,
    bars: Bars,
    curves: Curves,
    thumbnails: HashMap<ImageId, String>,
}

type File = ([(HeaderName, String); 1], Html<String>);

/// `GET /api/v1/reports/comparison` and what `/api/v1/comparisons` takes.
pub async fn comparison(
    State(reports): State<Reports>,
    State(images): State<Images>,
    Query(query): Query<ComparisonQuery>,
) -> Result<File, Problem> {
    let comparison = datasets::comparison(&reports, &query).await?;
    let frozen = reports.freeze_comparison(comparison, Timestamp::now()).await?;
    let name = format!("twograin-comparison-{}.html", frozen.dataset.name);
    let thumbnails = thumbnails(&images, frozen.examples.as_ref()).await?;
    file(&name, FrozenComparison { bars: Bars::of_comparison(&frozen.report), thumbnails, frozen })
}

/// `GET /api/v1/runs/{id}/report`.
pub async fn run(
    State(reports): State<Reports>,
    State(images): State<Images>,
    Path(run): Path<RunId>,
) -> Result<File, Problem> {
    let frozen = reports.freeze_run(run, Timestamp::now()).await?;
    let thumbnails = thumbnails(&images, frozen.examples.as_ref()).await?;
    let (bars, curves) = (Bars::of_run(&frozen.report), Curves::of(&frozen.report.epochs));
    file(&format!("twograin-run-{run}.html"), FrozenRun { bars, curves, thumbnails, frozen })
}

fn file(name: &str, page: impl Template) -> Result<File, Problem> {
    Ok(([(header::CONTENT_DISPOSITION, attachment(name))], Html(page.render()?)))
}

/// The examples' small pictures as addresses that hold them. An image without a file has none.
async fn thumbnails(images: &Images, examples: Option<&Examples>) -> Result<HashMap<ImageId, String>, Problem> {
    let mut thumbnails = HashMap::new();
    for item in examples.iter().flat_map(|examples| &examples.of).flat_map(|of| &of.images) {
        match images.thumbnail(item.image).await {
            Ok(jpeg) => {
                thumbnails.insert(item.image, format!("data:image/jpeg;base64,{}", STANDARD.encode(jpeg)));
            }
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(thumbnails)
}

/// As it may stand in a `<script type="application/json">`: without `<`, it can neither end its element nor start a comment.
fn json(frozen: &impl Serialize) -> String {
    serde_json::to_string(frozen).unwrap_or_default().replace('<', "\\u003c")
}

impl FrozenComparison {
    fn json(&self) -> String {
        json(&self.frozen)
    }

    fn height(&self, row: &ComparisonRow) -> usize {
        row.cells.len() + usize::from(row.coarse_only.is_some())
    }

    fn has_cells(&self) -> bool {
        self.frozen.report.rows.iter().any(|row| !row.cells.is_empty())
    }

    fn has_oracle(&self) -> bool {
        let mut cells = self.frozen.report.rows.iter().flat_map(|row| &row.cells);
        cells.any(|cell| cell.objective == Objective::TopKSoftmax)
    }
}

impl FrozenRun {
    fn json(&self) -> String {
        json(&self.frozen)
    }

    fn indices(&self, results: &RunResults) -> Vec<Definition> {
        results.counts.map_or_else(Vec::new, |counts| definition::of(counts, &results.figures))
    }

    fn has_oracle(&self) -> bool {
        self.frozen.report.spec.objective == Objective::TopKSoftmax
    }
}
