//! `twograin run compare`: two runs on the same test images.

use clap::Args;
use serde::Serialize;

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, UNDEFINED, count, number, print},
    rule::RuleArgs,
};
use crate::{
    analysis::McNemarMethod,
    domain::{Outcome, RunId},
    report::{ComparedRun, Figure, PairedTest, TransitionsReport},
};

#[derive(Args, Debug, Serialize)]
pub struct CompareArgs {
    /// Number of run A, from which differences count
    #[arg(value_name = "A")]
    a: RunId,
    /// Number of run B
    #[arg(value_name = "B")]
    b: RunId,
    #[command(flatten)]
    #[serde(flatten)]
    rule: RuleArgs,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// How two runs differ, each under its own decision rule.
pub fn of(client: &Client, a: RunId, b: RunId) -> Result<TransitionsReport, Failure> {
    client.get("api/v1/transitions", &serde_json::json!({"a": a, "b": b}))?.parse()
}

/// Prints how two runs differ.
pub fn compare(client: &Client, args: &CompareArgs) -> Result<(), Failure> {
    let answer = client.get("api/v1/transitions", args)?;
    print(&if args.json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

/// In words and tables.
pub fn text(report: &TransitionsReport) -> String {
    let mut text = format!("Two runs on the same {} test images\n", count(report.images));
    for (letter, ComparedRun { run, results }) in [("A", &report.a), ("B", &report.b)] {
        let rule = results.rule.as_deref().unwrap_or("none: categories alone");
        text.push_str(&format!("  {letter}: run {} “{}”, decision rule: {rule}\n", run.id, run.name));
    }
    text.push_str(&format!("\n{}", differences(report).render()));
    if let Some(outcomes) = &report.outcomes {
        text.push_str(&format!("\nImages by outcome under A (rows) and B (columns)\n{}", table(outcomes).render()));
    }
    text.push_str(&format!("\nMcNemar's test\n{}", tests(report).render()));
    text
}

fn differences(report: &TransitionsReport) -> Table {
    let (a, b, d) = (&report.a.results.figures, &report.b.results.figures, &report.differences);
    let columns = [("", Align::Left), ("A", Align::Right), ("B", Align::Right), ("B - A", Align::Right)];
    let mut table = Table::new(&[&columns[..], &[("95% interval", Align::Left)]].concat()).indented(2);
    for (((name, a), (_, b)), (_, difference)) in a.named().into_iter().zip(b.named()).zip(d.named()) {
        let signed = difference.value.map_or_else(|| UNDEFINED.to_owned(), |value| format!("{value:+.3}"));
        table.row([name.to_owned(), number(a.value), number(b.value), signed, interval(&difference)]);
    }
    table
}

fn interval(difference: &Figure) -> String {
    let ends = difference.low.zip(difference.high);
    let text = ends.map_or_else(|| UNDEFINED.to_owned(), |(low, high)| format!("{low:+.3} – {high:+.3}"));
    if difference.degenerate { format!("{text} (nothing varied in the resamples)") } else { text }
}

fn table(outcomes: &[[u64; 4]; 4]) -> Table {
    let heading = Outcome::ALL.map(|outcome| (outcome.code(), Align::Right));
    let mut table = Table::new(&[&[("", Align::Left)], &heading[..]].concat()).indented(2);
    for (outcome, row) in Outcome::ALL.into_iter().zip(outcomes) {
        table.row([outcome.code().to_owned()].into_iter().chain(row.iter().map(|images| count(*images))));
    }
    table
}

fn tests(report: &TransitionsReport) -> Table {
    let columns = ["both", "A alone", "B alone", "neither", "p"].map(|name| (name, Align::Right));
    let mut table = Table::new(&[&[("", Align::Left)], &columns[..], &[("", Align::Left)]].concat()).indented(2);
    let ftct = report.ftct.as_ref().map(|test| ("FTCT (tests IA)", test));
    for (name, PairedTest { images, test }) in
        ftct.into_iter().chain([("category right (tests coarse accuracy)", &report.category)])
    {
        let method = match test.method {
            McNemarMethod::Exact => "exact binomial".to_owned(),
            McNemarMethod::ChiSquared => format!("χ² = {}", number(test.statistic)),
        };
        let [both, a, b, neither] = [images.both, images.only_a, images.only_b, images.neither].map(count);
        let p = if test.p < 0.001 { "< 0.001".to_owned() } else { number(Some(test.p)) };
        table.row([name.to_owned(), both, a, b, neither, p, method]);
    }
    table
}
