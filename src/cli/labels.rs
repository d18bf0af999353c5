//! `twograin run labels`: a run's fine labels, one by one.

use clap::Args;
use serde::Serialize;

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, count, interval, number, print},
    rule::RuleArgs,
};
use crate::{
    domain::RunId,
    report::{LabelMeans, LabelsReport},
};

#[derive(Args, Debug, Serialize)]
pub struct LabelsArgs {
    /// Number of the run
    #[arg(value_name = "ID")]
    #[serde(skip)]
    id: RunId,
    #[command(flatten)]
    #[serde(flatten)]
    rule: RuleArgs,
    /// Sort by name, support, average_precision, precision, recall or f1; with - in front, the largest first
    #[arg(long, value_name = "COLUMN", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Prints the figures of each fine label.
pub fn labels(client: &Client, args: &LabelsArgs) -> Result<(), Failure> {
    let answer = client.get(&format!("api/v1/runs/{}/labels", args.id), args)?;
    print(&if args.json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

fn text(report: &LabelsReport) -> String {
    let LabelsReport { run, rule_words, images, supported, .. } = report;
    let mut table = Table::new(&[
        ("label", Align::Left),
        ("category", Align::Left),
        ("images", Align::Right),
        ("AP", Align::Right),
        ("95% interval", Align::Left),
        ("precision", Align::Right),
        ("recall", Align::Right),
        ("F1", Align::Right),
    ])
    .indented(2);
    for label in &report.labels {
        let figures = &label.figures;
        let figure = &figures.average_precision;
        table.row([
            label.name.clone(),
            label.category.clone().unwrap_or_else(|| "public".into()),
            count(figures.support),
            number(figure.value),
            interval(figure),
            number(figures.precision.value),
            number(figures.recall.value),
            number(figures.f1),
        ]);
    }
    for (name, LabelMeans { average_precision: figure, precision, recall, f1 }) in
        [("macro mean", &report.macro_mean), ("micro mean", &report.micro_mean)]
    {
        let of = format!("of {supported} labels");
        let figures = [number(figure.value), interval(figure), number(*precision), number(*recall), number(*f1)];
        table.row([name.to_owned(), of, String::new()].into_iter().chain(figures));
    }
    let heading =
        format!("Run {} “{}” on {} test images, decision rule: {rule_words}", run.id, run.name, count(*images));
    format!("{heading}\n{}", table.render())
}
