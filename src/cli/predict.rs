//! `twograin predict`: the decision path of photographs.

use std::{fs, path::PathBuf, process::ExitCode};

use clap::Args;
use reqwest::blocking::multipart::{Form, Part};
use serde::Serialize;

use super::{
    client::{Client, Refusal},
    failure::Failure,
    output::{Align, Table, UNDEFINED, number, print},
};
use crate::{
    domain::RunId,
    report::{Listing, Prediction, RunDecision},
};

pub const EXAMPLES: &str = "\
Examples:
  twograin predict dog.jpg --run 3
  twograin predict *.jpg --run 3 --threshold 0.5 --json | jq -r '.items[].decisions[].category'

With --json each photograph gives one JSON document, in the order given. A photograph that cannot be used is named on
standard error; the others are shown, and the exit code is 1.";

/// Which photographs, and how to decide.
#[derive(Args, Debug)]
pub struct PredictArgs {
    /// Image files: JPEG, PNG, WebP, GIF, BMP or TIFF
    #[arg(value_name = "IMAGE", required = true)]
    images: Vec<PathBuf>,
    /// Number of a run whose model decides; several are shown one after another
    #[arg(long = "run", value_name = "ID", required = true, value_delimiter = ',')]
    runs: Vec<RunId>,
    #[command(flatten)]
    options: Options,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

#[derive(Args, Debug, Serialize)]
struct Options {
    /// Take the K most probable fine labels [default for a top-k run: 1, as an upload has no true number of labels]
    #[arg(long, value_name = "K", conflicts_with = "threshold")]
    k: Option<u16>,
    /// Take every fine label above this probability, 0 to 1 [default for a threshold run: its own]
    #[arg(long, value_name = "THETA")]
    threshold: Option<f64>,
    /// Show this many fine labels, and every one that is taken
    #[arg(long, value_name = "N")]
    top: Option<usize>,
}

#[derive(Serialize)]
struct Query<'a> {
    run: String,
    #[serde(flatten)]
    options: &'a Options,
}

/// Uploads each photograph and prints how it is decided.
pub fn predict(client: &Client, args: &PredictArgs) -> Result<ExitCode, Failure> {
    let runs: Vec<String> = args.runs.iter().map(RunId::to_string).collect();
    let query = Query { run: runs.join(","), options: &args.options };
    let mut code = ExitCode::SUCCESS;
    for (index, path) in args.images.iter().enumerate() {
        let shown = path.display();
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                eprintln!("error: {shown}: {error}");
                code = ExitCode::FAILURE;
                continue;
            }
        };
        let file_name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        let form = Form::new().part("image", Part::bytes(bytes).file_name(file_name));
        let answer = match client.upload("api/v1/predictions", &query, form) {
            Ok(answer) => answer,
            Err(Refusal::Answered(message)) => {
                eprintln!("error: {shown}: {message}");
                code = ExitCode::FAILURE;
                continue;
            }
            Err(refusal @ Refusal::NoAnswer(_)) => return Err(refusal.into()),
        };
        if args.json {
            print(answer.text())?;
        } else {
            let gap = if index > 0 { "\n" } else { "" };
            let answer: Listing<Prediction> = answer.parse()?;
            let paths: String = answer.items.iter().flat_map(|image| &image.decisions).map(text).collect();
            print(&format!("{gap}{shown}\n{paths}"))?;
        }
    }
    Ok(code)
}

fn text(prediction: &RunDecision) -> String {
    let run = &prediction.run;
    let mut text = format!("  {} (run {}): {}\n", run.name, run.id, prediction.sentence);
    if let Some(rule) = &prediction.rule_words {
        text.push_str(&format!("  decision rule: {rule}\n"));
    }
    if !prediction.fine.is_empty() {
        text.push_str(&format!("\n{}", fine(prediction).render()));
    }
    text.push_str(&format!("\n{}", coarse(prediction).render()));
    text
}

fn fine(prediction: &RunDecision) -> Table {
    let to = format!("to {}", prediction.category);
    let to_runner_up = prediction.runner_up.as_ref().map(|name| format!("to {name}"));
    let mut columns = vec![
        ("taken", Align::Left),
        ("fine label", Align::Left),
        ("category", Align::Left),
        ("probability", Align::Right),
        (to.as_str(), Align::Right),
    ];
    columns.extend(to_runner_up.as_deref().map(|name| (name, Align::Right)));
    let mut table = Table::new(&columns).indented(2);
    for label in &prediction.fine {
        let mut row = vec![
            if label.taken { "yes" } else { "" }.to_owned(),
            label.name.clone(),
            label.parent.clone().unwrap_or_else(|| "(any)".into()),
            number(Some(label.probability)),
            format!("{:+.3}", label.contribution),
        ];
        if to_runner_up.is_some() {
            row.push(label.runner_up_contribution.map_or_else(|| UNDEFINED.into(), |value| format!("{value:+.3}")));
        }
        table.row(row);
    }
    let rest = ["", "all others", "", "", &format!("{:+.3}", prediction.rest_contribution)];
    table.row(rest);
    table
}

fn coarse(prediction: &RunDecision) -> Table {
    let columns =
        [("category", Align::Left), ("probability", Align::Right), ("logit", Align::Right), ("bias", Align::Right)];
    let mut table = Table::new(&columns).indented(2);
    for category in &prediction.coarse {
        let bias = category.bias.map_or_else(|| UNDEFINED.into(), |bias| format!("{bias:+.3}"));
        let probability = number(Some(category.probability));
        table.row([category.name.clone(), probability, format!("{:+.3}", category.logit), bias]);
    }
    table
}
