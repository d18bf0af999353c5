//! What came out of an experiment.

use serde_json::{Value, json};

use crate::{
    cli::{
        client::Client,
        compare,
        failure::Failure,
        output::{Align, Table, number, plural},
    },
    domain::{
        RunId, RunStatus,
        spec::{Backbone, Objective},
    },
    experiment::TRANSFER_ARMS,
    report::{Comparison, Figure, Figures, GroupChoice, RunBrief, SweepReport},
};

/// The address of the data set's comparison.
pub fn page(client: &Client, dataset: &str) -> String {
    client.page(&format!("?dataset={dataset}"))
}

/// The comparison of the runs with the paper's rows, and the address of its page.
pub fn beside_the_papers(client: &Client, dataset: &str, sweep: &SweepReport) -> Result<(String, Value), Failure> {
    let (page, comparison) = comparison(client, dataset, sweep)?;
    let runs: Vec<RunId> = sweep.items.iter().filter_map(|item| Some(item.run.as_ref()?.id)).collect();
    Ok((format!("{}\nThe comparison: {page}", text(&comparison, &runs)), to_value(&comparison)?))
}

/// How each run differs from the one of its backbone and seed that started from random weights.
pub fn transferred(client: &Client, _dataset: &str, sweep: &SweepReport) -> Result<(String, Value), Failure> {
    let runs: Vec<&RunBrief> = sweep.items.iter().filter_map(|item| item.run.as_ref()).collect();
    let (mut texts, mut values) = (Vec::new(), Vec::new());
    for arms in runs.chunks_exact(TRANSFER_ARMS) {
        let [others @ .., random] = arms else { continue };
        for other in others {
            if [other, random].iter().any(|run| run.status != RunStatus::Succeeded) {
                texts.push(format!("Runs {} and {} did not both succeed.\n", random.id, other.id));
                continue;
            }
            let report = compare::of(client, random.id, other.id)?;
            let page = client.page(&format!("transitions?a={}&b={}", random.id, other.id));
            texts.push(format!("{}{page}\n", compare::text(&report)));
            values.push(to_value(&report)?);
        }
    }
    Ok((texts.join("\n"), values.into()))
}

fn to_value(report: &impl serde::Serialize) -> Result<Value, Failure> {
    serde_json::to_value(report).map_err(|error| Failure::because("the result cannot be printed", &error))
}

/// The comparison that shows the runs of the experiment, and the address of its page.
fn comparison(client: &Client, dataset: &str, sweep: &SweepReport) -> Result<(String, Comparison), Failure> {
    let ids: Vec<String> = sweep.items.iter().filter_map(|item| Some(item.run.as_ref()?.id.to_string())).collect();
    let query = json!({"dataset": dataset, "pick": ids.join(",")});
    let comparison: Comparison = client.get("api/v1/comparisons", &query)?.parse()?;
    // Without being told, the page shows the newest group of each cell.
    let chosen = |groups: &[GroupChoice]| groups.first().is_none_or(|newest| newest.chosen);
    let newest = comparison.rows.iter().all(|row| {
        row.cells.iter().all(|cell| chosen(&cell.groups))
            && row.coarse_only.as_ref().is_none_or(|coarse_only| chosen(&coarse_only.groups))
    });
    let pick = if newest { String::new() } else { format!("&pick={}", ids.join(",")) };
    Ok((format!("{}{pick}", page(client, dataset)), comparison))
}

/// One row for each backbone and objective of these runs, and the paper's beneath it. A data set may have others.
fn text(comparison: &Comparison, of: &[RunId]) -> String {
    let ours = |runs: &[RunId]| runs.iter().all(|run| of.contains(run));
    let mut table = Table::new(&[
        ("BACKBONE", Align::Left),
        ("OBJECTIVE", Align::Left),
        ("FROM", Align::Left),
        ("IA", Align::Right),
        ("IP", Align::Right),
        ("IR", Align::Right),
        ("IF1", Align::Right),
        ("COARSE", Align::Right),
    ]);
    for row in &comparison.rows {
        if let Some(coarse_only) = row.coarse_only.as_ref().filter(|coarse_only| ours(&coarse_only.runs)) {
            let figures = Figures { coarse_accuracy: coarse_only.accuracy, ..Figures::default() };
            rows(&mut table, comparison, (row.backbone, Objective::CoarseOnly), &coarse_only.runs, &figures);
        }
        for cell in row.cells.iter().filter(|cell| ours(&cell.runs)) {
            rows(&mut table, comparison, (row.backbone, cell.objective), &cell.runs, &cell.figures);
        }
    }
    format!(
        "{}COARSE of the paper is IA / IR but for coarse-only. The paper's test set is COCO 2017's, of 2,447 images.",
        table.render()
    )
}

fn rows(
    table: &mut Table,
    comparison: &Comparison,
    (backbone, objective): (Backbone, Objective),
    runs: &[RunId],
    figures: &Figures,
) {
    let from = match runs {
        [run] => format!("run {run}"),
        _ => format!("mean of {}", plural(runs.len() as u64, "seed")),
    };
    let Figures { ia, ip, ir, if1, coarse_accuracy, .. } = *figures;
    let cells = [ia, ip, ir, if1, coarse_accuracy].map(measured);
    table.row([backbone.to_string(), objective.to_string(), from].into_iter().chain(cells));
    let printed = comparison.paper.iter().filter(|table| table.objective == objective);
    if let Some(paper) = printed.flat_map(|table| &table.rows).find(|row| row.is_of(backbone)) {
        let coarse = paper.coarse_only_accuracy.or(paper.implied_coarse_accuracy);
        let cells = [paper.ia, paper.ip, paper.ir, paper.if1, coarse].map(number);
        table.row([String::new(), String::new(), "paper".into()].into_iter().chain(cells));
    }
}

/// With its spread, if there are several runs.
fn measured(figure: Figure) -> String {
    let spread = figure.spread.map_or_else(String::new, |spread| format!(" ± {spread:.3}"));
    format!("{}{spread}", number(figure.value))
}
