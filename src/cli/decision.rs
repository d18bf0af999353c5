//! `twograin run decision`: a run under any decision rule.

use clap::Args;
use serde::Serialize;

use super::{
    client::Client,
    compare::signed,
    failure::Failure,
    output::{Align, Table, count, interval, number, print},
    rule::RuleArgs,
};
use crate::{
    domain::{Outcome, RunId},
    report::{BestThreshold, DecisionReport, Figure},
};

#[derive(Args, Debug, Serialize)]
pub struct DecisionArgs {
    /// Number of the run
    #[arg(value_name = "ID")]
    #[serde(skip)]
    id: RunId,
    #[command(flatten)]
    #[serde(flatten)]
    rule: RuleArgs,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Prints what comes out under a rule, held against the run's own, and what thresholds chosen on validation are worth.
pub fn decision(client: &Client, args: &DecisionArgs) -> Result<(), Failure> {
    let answer = client.get(&format!("api/v1/runs/{}/decision", args.id), args)?;
    print(&if args.json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

fn text(report: &DecisionReport) -> String {
    let DecisionReport { run, results, own, .. } = report;
    let mut text = format!("Run {} “{}” on {} test images\n", run.id, run.name, count(results.test_images));
    for (what, of) in [("this rule", results), ("its own rule", own)] {
        let counts = of.counts.iter().flat_map(|counts| {
            Outcome::ALL.map(|outcome| format!("{} {}", outcome.code(), count(counts.get(outcome))))
        });
        let counts: Vec<String> = counts.collect();
        text.push_str(&format!("  {what}: {}\n    {}\n", of.rule.as_deref().unwrap_or_default(), counts.join("  ")));
    }
    let mut table = table(["this rule", "its own"]);
    let differences = report.against_own.map(|against| against.differences.named());
    let mut differences = differences.into_iter().flatten().map(|(_, figure)| figure);
    for ((name, this), (_, own)) in results.figures.named().into_iter().zip(own.figures.named()) {
        row(&mut table, name, this, own, differences.next().unwrap_or_default());
    }
    text.push_str(&format!("\n{}\nThe best thresholds on validation\n", table.render()));
    for (index, best) in [("IA", report.best.ia), ("IF1", report.best.if1)] {
        let words = best.map_or_else(|| "0 or undefined at every threshold".to_owned(), |best| best_words(&best));
        text.push_str(&format!("  {index}: {words}\n"));
    }
    let tuning = &report.tuning;
    let theta = format!("p > {}", tuning.from.get());
    text.push_str(&format!(
        "\nA threshold for each label, tuned on validation (`--rule tuned`), against {theta}, on test\n"
    ));
    let mut table = self::table(["tuned", &theta]);
    for ((name, after), ((_, before), (_, gain))) in
        tuning.after.named().into_iter().zip(tuning.before.named().into_iter().zip(tuning.differences.named()))
    {
        row(&mut table, name, after, before, gain);
    }
    let macro_f1 = &tuning.macro_f1;
    row(&mut table, "Macro F1 of labels", macro_f1.after, macro_f1.before, macro_f1.difference);
    text.push_str(&table.render());
    text
}

fn table(columns: [&str; 2]) -> Table {
    let [this, other] = columns.map(|name| (name, Align::Right));
    let interval = ("95% interval", Align::Left);
    Table::new(&[("", Align::Left), this, interval, other, ("difference", Align::Right), interval]).indented(2)
}

fn row(table: &mut Table, name: &str, this: Figure, other: Figure, difference: Figure) {
    let [gain, ends] = signed(&difference);
    table.row([name.to_owned(), number(this.value), interval(&this), number(other.value), gain, ends]);
}

fn best_words(best: &BestThreshold) -> String {
    let (validation, test) = (number(best.validation), number(best.test));
    format!("θ = {}, where it is {validation} on validation and {test} on test", best.threshold.get())
}
