//! Reports as tables for other programs: CSV, JSON, Parquet, LaTeX.

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::{Stream, TryStreamExt, stream};

use super::datasets;
use crate::{
    domain::{RunId, Split},
    error::{self, Error},
    exchange::table::{Encoder, Format, latex},
    report::{OutcomeExport, OutcomeQuery, Reports, comparison_caption, comparison_table},
    web::{
        attachment,
        error::Problem,
        extract::{Formatted, Path},
        pages::ComparisonQuery,
    },
};

/// `GET /api/v1/comparisons/export?format=csv|json|parquet|latex` and what `/api/v1/comparisons` takes.
pub async fn comparison(
    State(reports): State<Reports>,
    Formatted { format, query }: Formatted<ComparisonQuery>,
) -> Result<Response, Problem> {
    let comparison = datasets::comparison(&reports, &query).await?;
    let (table, name) = (comparison_table(&comparison), &comparison.dataset.name);
    let bytes = match Encoder::new(format) {
        Some(mut encoder) => {
            let written = encoder.part(&table).and_then(|part| Ok([part, encoder.end()?].concat()));
            written.map_err(|error| Error::internal("a table was not written", error))?
        }
        None => latex(&table, &comparison_caption(&comparison), &format!("tab:twograin-{name}")).into_bytes(),
    };
    Ok(file(format, &format!("twograin-comparison-{name}"), bytes))
}

/// `GET /api/v1/runs/{id}/outcomes/export?format=csv|json|parquet` and what `/api/v1/runs/{id}/outcomes` takes, but for the page.
pub async fn outcomes(
    State(reports): State<Reports>,
    Path(run): Path<RunId>,
    Formatted { format, query }: Formatted<OutcomeQuery>,
) -> Result<Response, Problem> {
    let encoder = Encoder::new(format).ok_or_else(|| {
        Problem::invalid(format!("format: images are not printed as {format}; take csv, json or parquet"))
    })?;
    let name = format!("twograin-run-{run}-{}", query.split.unwrap_or(Split::Test));
    let export = reports.export_outcomes(run, &query).await?;
    let parts = parts(export, encoder).inspect_err(move |error| {
        tracing::error!(error = error as &dyn std::error::Error, "an export of run {run} broke off");
    });
    Ok(file(format, &name, Body::from_stream(parts)))
}

/// Each part is made when the one before is on its way.
fn parts(export: OutcomeExport, encoder: Encoder) -> impl Stream<Item = error::Result<Vec<u8>>> {
    stream::try_unfold(Some((export, encoder)), async |state| {
        let Some((mut export, mut encoder)) = state else { return Ok(None) };
        let table = export.next().await?;
        let encoded = tokio::task::spawn_blocking(move || match table {
            Some(table) => encoder.part(&table).map(|part| (part, Some(encoder))),
            None => encoder.end().map(|end| (end, None)),
        });
        let encoded = encoded.await.map_err(|error| Error::internal("a table was not written", error))?;
        let (bytes, encoder) = encoded.map_err(|error| Error::internal("a table was not written", error))?;
        Ok(Some((bytes, encoder.map(|encoder| (export, encoder)))))
    })
}

fn file(format: Format, name: &str, body: impl Into<Body>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, format.media_type().to_owned()),
        (header::CONTENT_DISPOSITION, attachment(&format!("{name}.{}", format.extension()))),
    ];
    (headers, body.into()).into_response()
}
