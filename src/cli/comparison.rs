//! `twograin compare`: backbones × decision modes of a data set, and their differences to a base run.

use clap::Args;

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, UNDEFINED, count, number, plural, print},
};
use crate::{
    domain::{Outcome, RunId, spec::Objective},
    report::{Cell, Comparison, ComparisonRow, Difference, Figure},
};

pub const EXAMPLES: &str = "\
Examples:
  twograin compare                          the data set of the newest run
  twograin compare --dataset demo --base 2  how much each differs from run 2";

#[derive(Args, Debug)]
pub struct ComparisonArgs {
    /// Name of the data set [default: that of the newest run]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Number of the run that the others are held against [default: the one with the highest IA]
    #[arg(long, value_name = "ID")]
    base: Option<RunId>,
    /// Show the group of this run instead of the newest of its backbone and mode; may be repeated
    #[arg(long, value_name = "ID")]
    pick: Vec<RunId>,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

/// Prints the comparison.
pub fn compare(client: &Client, args: &ComparisonArgs) -> Result<(), Failure> {
    let dataset = args.dataset.iter().map(|name| ("dataset", name.clone()));
    let picks = args.pick.iter().map(|run| ("pick", run.to_string()));
    let base = args.base.iter().map(|run| ("base", run.to_string()));
    let query: Vec<_> = dataset.chain(picks).chain(base).collect();
    let answer = client.get("api/v1/comparisons", &query)?;
    print(&if args.json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

fn text(comparison: &Comparison) -> String {
    let drawn = if comparison.dataset.drawn { " (drawn, not photographed)" } else { "" };
    let heading = format!(
        "Comparison on {}{drawn}, {} test images\n",
        comparison.dataset.name,
        count(comparison.dataset.test_images)
    );
    if comparison.rows.is_empty() {
        return format!("{heading}No run has finished yet.\n");
    }
    let mut parts = vec![heading, indices(comparison), outcomes(comparison)];
    if let Some(base) = comparison.base {
        parts.push(format!(
            "Minus run {base}, each with its 95% interval; p of IA by McNemar's test, corrected by Holm\n{}",
            differences(comparison)
        ));
    }
    parts.join("\n")
}

fn cells(comparison: &Comparison) -> impl Iterator<Item = (&ComparisonRow, &Cell)> {
    comparison.rows.iter().flat_map(|row| row.cells.iter().map(move |cell| (row, cell)))
}

/// Backbone, mode and runs of a cell.
fn names(row: &ComparisonRow, objective: Objective, runs: &[RunId]) -> [String; 3] {
    let runs = match runs {
        [run] => run.to_string(),
        _ => plural(runs.len() as u64, "seed"),
    };
    [row.backbone.to_string(), objective.to_string(), runs]
}

fn heading<'a>(columns: &[(&'a str, Align)]) -> Vec<(&'a str, Align)> {
    let names = [("backbone", Align::Left), ("objective", Align::Left), ("run", Align::Right)];
    names.iter().chain(columns).copied().collect()
}

fn indices(comparison: &Comparison) -> String {
    let columns = ["IA", "IP", "IR", "IF1", "coarse"].map(|name| (name, Align::Left));
    let mut table = Table::new(&heading(&columns)).indented(2);
    for row in &comparison.rows {
        for cell in &row.cells {
            let [ia, ip, ir, if1, coarse, _] = cell.figures.named().map(|(_, figure)| measured(&figure));
            table.row(names(row, cell.objective, &cell.runs).into_iter().chain([ia, ip, ir, if1, coarse]));
        }
        if let Some(coarse_only) = &row.coarse_only {
            let none = [UNDEFINED; 4].map(str::to_owned);
            let names = names(row, Objective::CoarseOnly, &coarse_only.runs);
            table.row(names.into_iter().chain(none).chain([measured(&coarse_only.accuracy)]));
        }
    }
    table.render()
}

fn outcomes(comparison: &Comparison) -> String {
    let columns = Outcome::ALL.map(|outcome| (outcome.code(), Align::Right));
    let mut table = Table::new(&heading(&columns)).indented(2);
    for (row, cell) in cells(comparison) {
        let counts = Outcome::ALL.map(|outcome| {
            let counts = cell.counts.map(|counts| count(counts.get(outcome)));
            counts.unwrap_or_else(|| UNDEFINED.to_owned())
        });
        table.row(names(row, cell.objective, &cell.runs).into_iter().chain(counts));
    }
    table.render()
}

fn differences(comparison: &Comparison) -> String {
    let columns = ["IA", "IP", "IR", "IF1", "coarse"].map(|name| (name, Align::Left));
    let columns = [&columns[..], &[("p", Align::Right), ("here : there", Align::Right)]].concat();
    let mut table = Table::new(&heading(&columns)).indented(2);
    for (row, cell) in cells(comparison) {
        let Some(Difference { figures, ftct, p_adjusted }) = &cell.difference else { continue };
        let [ia, ip, ir, if1, coarse, _] = figures.named().map(|(_, figure)| signed(&figure));
        let alone = format!("{} : {}", count(ftct.images.only_b), count(ftct.images.only_a));
        let p = if *p_adjusted < 0.001 { "< 0.001".to_owned() } else { number(Some(*p_adjusted)) };
        table.row(names(row, cell.objective, &cell.runs).into_iter().chain([ia, ip, ir, if1, coarse, p, alone]));
    }
    table.render()
}

/// `0.278 [0.244, 0.316]`, or `0.278 ± 0.012` of a group.
fn measured(figure: &Figure) -> String {
    let value = number(figure.value);
    match (figure.low, figure.high, figure.spread) {
        (Some(low), Some(high), _) => format!("{value} [{low:.3}, {high:.3}]"),
        (_, _, Some(spread)) => format!("{value} ± {spread:.3}"),
        (_, _, None) => value,
    }
}

/// `-0.185 [-0.223, -0.147]`.
fn signed(difference: &Figure) -> String {
    let value = difference.value.map_or_else(|| UNDEFINED.to_owned(), |value| format!("{value:+.3}"));
    match (difference.low, difference.high) {
        (Some(low), Some(high)) => format!("{value} [{low:+.3}, {high:+.3}]"),
        _ => value,
    }
}
