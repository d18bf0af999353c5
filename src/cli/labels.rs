//! `twograin run labels`: a run's fine labels, one by one, or one of them.

use clap::Args;
use serde::Serialize;

use super::{
    classes::label_text,
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
    /// Show this label alone: its curve, what it stands with and is confused with, the worst errors
    #[arg(long, value_name = "NAME", conflicts_with = "sort")]
    #[serde(skip)]
    label: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Prints the figures of each fine label, or one label in full.
pub fn labels(client: &Client, args: &LabelsArgs) -> Result<(), Failure> {
    let path = format!("api/v1/runs/{}/labels", args.id);
    let answer = match &args.label {
        Some(name) => client.get_named(&path, name, args)?,
        None => client.get(&path, args)?,
    };
    print(&match (args.json, &args.label) {
        (true, _) => answer.text().to_owned(),
        (false, Some(_)) => label_text(&answer.parse()?),
        (false, None) => text(&answer.parse()?),
    })
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
