//! `twograin run labels --label` and `twograin run categories`: one label, a run's categories, one category.

use clap::Args;
use serde::Serialize;

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, UNDEFINED, count, interval, number, plural, print},
    rule::RuleArgs,
};
use crate::{
    analysis::PrPoint,
    domain::{Outcome, RunId},
    report::{
        CategoriesReport, CategoryReport, ClassFigures, CompanionList, ConfusedCategory, LabelReport, PrecisionRecall,
        RunBrief, WrongImage,
    },
};

#[derive(Args, Debug, Serialize)]
pub struct CategoriesArgs {
    /// Number of the run
    #[arg(value_name = "ID")]
    #[serde(skip)]
    id: RunId,
    #[command(flatten)]
    #[serde(flatten)]
    rule: RuleArgs,
    /// Show this category alone: its curve, its confusions, the labels that speak for it, the worst errors
    #[arg(long, value_name = "NAME")]
    #[serde(skip)]
    category: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    json: bool,
}

/// Prints the categories of a run, or one of them.
pub fn categories(client: &Client, args: &CategoriesArgs) -> Result<(), Failure> {
    let path = format!("api/v1/runs/{}/categories", args.id);
    let answer = match &args.category {
        Some(name) => client.get_named(&path, name, args)?,
        None => client.get(&path, args)?,
    };
    print(&match (args.json, &args.category) {
        (true, _) => answer.text().to_owned(),
        (false, Some(_)) => category_text(&answer.parse()?),
        (false, None) => categories_text(&answer.parse()?),
    })
}

/// One label in full.
pub fn label_text(report: &LabelReport) -> String {
    let LabelReport { run, rule_words, images, label, calibration, curve, .. } = report;
    let mut text = heading(run, *images, Some(rule_words));
    let category = label.category.as_deref().unwrap_or("public");
    text.push_str(&format!("\nLabel “{}” ({category})\n", label.name));
    let mut facts = figures(&label.figures);
    facts.fact("calibration error", number(calibration.as_ref().and_then(|calibration| calibration.ece)));
    text.push_str(&facts.render());
    text.push_str(&curve_text(curve.as_ref()));
    for (what, list) in [
        ("Where it is, there are", &report.truly_with),
        ("Where it is predicted, so are", &report.predicted_with),
        ("Where it was missed, predicted in error were", &report.missed_for),
        ("Where it was predicted in error, there are", &report.extra_beside),
    ] {
        text.push_str(&companions(what, list));
    }
    text.push_str(&wrong("Missed, with the lowest probability", &report.missed));
    text.push_str(&wrong("Predicted in error, with the highest probability", &report.extra));
    text
}

fn categories_text(report: &CategoriesReport) -> String {
    let mut text = heading(&report.run, report.images, report.rule_words.as_deref());
    let columns = ["images", "AP", "95% interval", "precision", "recall", "F1"];
    let aligned = columns.map(|name| (name, if name == "95% interval" { Align::Left } else { Align::Right }));
    let outcomes = Outcome::ALL.map(|outcome| (outcome.code(), Align::Right));
    let outcomes = if report.rule.is_some() { &outcomes[..] } else { &[] };
    let mut table = Table::new(&[&[("category", Align::Left)], &aligned[..], outcomes].concat()).indented(2);
    for category in &report.categories {
        let of = &category.figures;
        let figure = &of.average_precision;
        let cells = [
            category.name.clone(),
            count(of.support),
            number(figure.value),
            interval(figure),
            number(of.precision.value),
            number(of.recall.value),
            number(of.f1),
        ];
        let counts = category.counts.map(|counts| Outcome::ALL.map(|outcome| count(counts.get(outcome))));
        table.row(cells.into_iter().chain(counts.into_iter().flatten()));
    }
    text.push_str(&format!("\n{}", table.render()));
    let accuracy = &report.coarse_accuracy;
    let mut facts = Table::facts().indented(2);
    facts.fact("coarse accuracy", format!("{}  {}", number(accuracy.value), interval(accuracy)));
    facts.fact("calibration error", number(report.calibration.ece));
    text.push_str(&format!("\n{}", facts.render()));
    if let Some(confusion) = &report.confusion {
        let numbers: Vec<String> = (1..=confusion.len()).map(|number| number.to_string()).collect();
        let columns = numbers.iter().map(|number| (number.as_str(), Align::Right));
        let columns: Vec<_> =
            [("", Align::Right), ("true ↓ predicted →", Align::Left)].into_iter().chain(columns).collect();
        let mut table = Table::new(&columns).indented(2);
        for ((number, category), row) in numbers.iter().zip(&report.categories).zip(confusion) {
            table.row(
                [number.clone(), category.name.clone()].into_iter().chain(row.iter().map(|images| count(*images))),
            );
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text
}

fn category_text(report: &CategoryReport) -> String {
    let mut text = heading(&report.run, report.images, report.rule_words.as_deref());
    text.push_str(&format!("\nCategory “{}”\n", report.category.name));
    let mut facts = figures(&report.category.figures);
    facts.fact("calibration error", number(report.calibration.ece));
    if let Some(counts) = report.category.counts {
        facts.fact("outcomes", Outcome::ALL.map(|of| format!("{} {}", of.code(), count(counts.get(of)))).join("  "));
    }
    text.push_str(&facts.render());
    text.push_str(&curve_text(report.curve.as_ref()));
    text.push_str(&confused("Its images were taken for", &report.taken_for));
    text.push_str(&confused("Taken for it were images of", &report.taken_from));
    if let Some(evidence) = &report.evidence {
        let mut table = Table::new(&[
            ("mean contribution", Align::Left),
            ("of", Align::Left),
            ("predicted", Align::Right),
            ("missed", Align::Right),
        ])
        .indented(2);
        let signed = |mean: Option<f64>| mean.map_or_else(|| UNDEFINED.to_owned(), |mean| format!("{mean:+.3}"));
        for label in &evidence.labels {
            let parent = label.parent.clone().unwrap_or_else(|| "public".into());
            table.row([label.name.clone(), parent, signed(label.mean.predicted), signed(label.mean.missed)]);
        }
        let bias = Some(evidence.bias);
        for (name, predicted, missed) in [
            ("all others", evidence.others.predicted, evidence.others.missed),
            ("bias", bias, bias),
            ("sum: its logit", evidence.logit.predicted, evidence.logit.missed),
        ] {
            table.row([name.to_owned(), String::new(), signed(predicted), signed(missed)]);
        }
        text.push_str(&format!("\n{}", table.render()));
    }
    text.push_str(&wrong("Taken for another, with the lowest probability of this one", &report.missed));
    text.push_str(&wrong("Another, taken for this one with the highest probability", &report.extra));
    text
}

fn heading(run: &RunBrief, images: u64, rule: Option<&str>) -> String {
    let rule = rule.map_or_else(String::new, |rule| format!(", decision rule: {rule}"));
    format!("Run {} “{}” on {} test images{rule}\n", run.id, run.name, count(images))
}

fn figures(of: &ClassFigures) -> Table {
    let mut table = Table::facts().indented(2);
    table.fact("truly", plural(of.support, "image"));
    table.fact("predicted", plural(of.predicted, "image"));
    table.fact("both", plural(of.correct, "image"));
    for (name, figure) in
        [("average precision", &of.average_precision), ("precision", &of.precision), ("recall", &of.recall)]
    {
        table.fact(name, format!("{}  {}", number(figure.value), interval(figure)));
    }
    table.fact("F1", number(of.f1));
    table
}

fn curve_text(curve: Option<&PrecisionRecall>) -> String {
    let Some(curve) = curve else { return String::new() };
    let right = ["threshold", "precision", "recall", "F1"].map(|name| (name, Align::Right));
    let mut table = Table::new(&[&[("curve", Align::Left)], &right[..]].concat()).indented(2);
    let mut row = |name: String, point: &PrPoint| {
        let PrPoint { threshold, precision, recall, f1 } = *point;
        let threshold = threshold.map_or_else(|| UNDEFINED.to_owned(), |threshold| format!("{threshold:.4}"));
        table.row([name, threshold, number(Some(precision)), number(Some(recall)), number(Some(f1))]);
    };
    row("highest F1".into(), &curve.best_f1);
    for (tenths, point) in (1..).zip(&curve.at_recall) {
        row(format!("recall of {:.1}", f64::from(tenths) / 10.0), point);
    }
    format!("\n{}", table.render())
}

fn companions(what: &str, list: &CompanionList) -> String {
    let each = list.labels.iter().map(|label| format!("{} {} (× {:.2})", label.name, count(label.images), label.lift));
    let each: Vec<String> = each.collect();
    let each = if each.is_empty() { "none".to_owned() } else { each.join(", ") };
    format!("\n{what} ({}): {each}\n", plural(list.images, "image"))
}

fn confused(what: &str, others: &[ConfusedCategory]) -> String {
    let each: Vec<String> = others.iter().map(|other| format!("{} {}", other.name, count(other.images))).collect();
    format!("\n{what}: {}\n", if each.is_empty() { "no other".to_owned() } else { each.join(", ") })
}

fn wrong(what: &str, images: &[WrongImage]) -> String {
    if images.is_empty() {
        return String::new();
    }
    let mut table =
        Table::new(&[("image", Align::Left), ("p", Align::Right), ("truly", Align::Left), ("said", Align::Left)])
            .indented(2);
    for WrongImage { probability, item } in images {
        let said = item.predicted_fine.as_ref().map_or_else(String::new, |said| match said.as_slice() {
            [] => "no label ".into(),
            said => format!("{} ", Vec::from_iter(said.iter().map(|label| label.name.as_str())).join(", ")),
        });
        table.row([
            item.file_name.clone(),
            number(Some(*probability)),
            format!("{} ({})", item.true_fine.join(", "), item.true_coarse),
            format!("{said}({})", item.predicted_coarse),
        ]);
    }
    format!("\n{what}\n{}", table.render())
}
