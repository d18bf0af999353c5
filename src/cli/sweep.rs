//! `twograin run submit` of several runs: `--seeds`, `--grid`, `--force`.

use std::str::FromStr;

use clap::{Args, Command, FromArgMatches};
use serde_json::{Map, Value, json};

use super::{
    client::Client,
    failure::Failure,
    output::{plural, print},
    run, submit, wait,
};
use crate::{
    domain::{RunStatus, Seeds},
    report::SweepReport,
};

/// Which runs there are besides the one that the other flags describe.
#[derive(Args, Clone, Debug)]
pub struct SweepArgs {
    /// A run of each of several seeds, as 0,1,2 or 0-4; the comparison shows their mean
    #[arg(long, value_name = "SEEDS", conflicts_with = "seed", help_heading = SEVERAL)]
    seeds: Option<Seeds>,

    /// A run of each of several values of a field, as epochs=5,10; given again, of each combination
    ///
    /// FIELD is the name of a flag, with - or _ in it, and its values are written as the flag's own.
    #[arg(long, value_name = "FIELD=A,B,C", help_heading = SEVERAL)]
    grid: Vec<Varied>,

    /// Make a new run also of a specification that a run has already which succeeded, runs or waits
    #[arg(long)]
    pub force: bool,
}

const SEVERAL: &str = "Several runs";

/// A field and its values as they stand in JSON.
#[derive(Clone, Debug)]
struct Varied {
    field: String,
    values: Vec<Value>,
}

impl FromStr for Varied {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (field, values) = text.split_once('=').ok_or_else(|| format!("“{text}” is not like epochs=5,10"))?;
        let field = field.trim().replace('-', "_");
        // Values of these have commas of their own.
        let separator = if ["focal_alpha", "unfreeze", "slurm"].contains(&&*field) { ';' } else { ',' };
        let values = values.split(separator).map(|value| parse(&field, value.trim())).collect::<Result<_, _>>()?;
        Ok(Self { field, values })
    }
}

/// What the field's own flag makes of a value.
fn parse(field: &str, value: &str) -> Result<Value, String> {
    let command = submit::SubmitArgs::augment_args(Command::new("grid").no_binary_name(true));
    let flag = format!("--{}={value}", field.replace('_', "-"));
    let said = |error: clap::Error| {
        let text = error.to_string();
        let first = text.split("\n\n").next().unwrap_or_default();
        first.trim_start_matches("error: ").split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let matches = command.try_get_matches_from([flag]).map_err(said)?;
    let fields = submit::SubmitArgs::from_arg_matches(&matches).map_err(said)?;
    let mut fields = fields.body().map_err(|failure| failure.to_string())?;
    fields.remove(field).ok_or_else(|| format!("“{field}” is not a field of a run"))
}

impl SweepArgs {
    /// Whether one run is meant.
    pub fn is_one(&self) -> bool {
        self.seeds.is_none() && self.grid.is_empty()
    }

    /// The body of `POST /api/v1/sweeps`, where `fields` are those of every run.
    fn body(&self, mut fields: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
        let seeds = self.seeds.as_ref().map(|Seeds(seeds)| ("seed", seeds.iter().map(|seed| json!(seed)).collect()));
        let varied = self.grid.iter().map(|varied| (varied.field.as_str(), varied.values.clone()));
        let mut grid = Map::new();
        for (field, values) in varied.chain(seeds) {
            if grid.insert(field.to_owned(), Value::Array(values)).is_some() {
                return Err(Failure::Usage(format!("--grid {field}: its values are given twice")));
            }
        }
        needed(&fields, &grid)?;
        if !grid.is_empty() {
            fields.insert("grid".into(), grid.into());
        }
        fields.insert("force".into(), self.force.into());
        Ok(fields)
    }
}

/// What has no default has to be in one of them.
pub fn needed(fields: &Map<String, Value>, grid: &Map<String, Value>) -> Result<(), Failure> {
    let missing = ["dataset", "backbone", "objective"];
    match missing.into_iter().find(|name| !fields.contains_key(*name) && !grid.contains_key(*name)) {
        Some(name) => Err(Failure::Usage(format!("--{name} is needed; `twograin run submit --help` says what it is"))),
        None => Ok(()),
    }
}

/// Submits all runs, and follows them if asked to; whether none of those followed went wrong.
pub fn submit(
    client: &Client,
    submit: submit::SubmitArgs,
    args: &SweepArgs,
    follow: bool,
    json: bool,
) -> Result<bool, Failure> {
    let answer = client.post("api/v1/sweeps", &args.body(submit.body()?)?)?;
    let mut sweep: SweepReport = answer.parse()?;
    if !json {
        eprintln!("{}", summary(&sweep));
        if let Some(id) = sweep.id {
            eprintln!("They are sweep {id}: {}", client.page(&format!("sweeps/{id}")));
        }
    }
    let went_well = !follow || self::follow(client, &mut sweep)?;
    if json {
        print(&if follow { to_json(&sweep)? } else { answer.text().to_owned() })?;
    } else {
        print(&run::table(sweep.items.iter().filter_map(|item| item.run.as_ref())))?;
    }
    Ok(went_well)
}

/// “5 runs are new, 1 run was there already.”
pub fn summary(sweep: &SweepReport) -> String {
    let existing = sweep.items.iter().filter(|item| item.existing).count() as u64;
    let new = sweep.items.len() as u64 - existing;
    let [are, were] =
        [(new, ["is", "are"]), (existing, ["was", "were"])].map(|(n, [one, many])| if n == 1 { one } else { many });
    match existing {
        0 => format!("{} {are} new.", plural(new, "run")),
        _ => format!("{} {are} new, {} {were} there already.", plural(new, "run"), plural(existing, "run")),
    }
}

/// Waits until all have ended, and puts their ends into the report; whether all of them succeeded.
pub fn follow(client: &Client, sweep: &mut SweepReport) -> Result<bool, Failure> {
    let runs: Vec<_> = sweep.items.iter_mut().filter_map(|item| item.run.as_mut()).collect();
    let ids: Vec<_> = runs.iter().map(|run| run.id).collect();
    let ended = wait::until_the_end(client, &ids)?;
    let mut all = true;
    for (run, (_, report)) in runs.into_iter().zip(ended) {
        all &= report.brief.status == RunStatus::Succeeded;
        *run = report.brief;
    }
    Ok(all)
}

/// As the server writes it.
pub fn to_json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value).map_err(|error| Failure::because("the result cannot be printed", &error))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        submit: submit::SubmitArgs,
        #[command(flatten)]
        sweep: SweepArgs,
    }

    fn body(flags: &[&str]) -> Result<Value, String> {
        let line = Line::try_parse_from([&["submit", "--dataset", "d", "--objective", "coarse-only"], flags].concat());
        let line = line.map_err(|error| error.to_string())?;
        let body = line.submit.body().and_then(|fields| line.sweep.body(fields));
        body.map(Value::Object).map_err(|failure| failure.to_string())
    }

    #[test]
    fn values_are_parsed_as_the_flags_own() {
        let grid = ["--grid", "input-size=64,128", "--grid", "focal_alpha=2;dog=3,cat=2", "--seeds", "0-2"];
        let body =
            body(&[&["--grid", "backbone=vgg-tiny,vgg16", "--grid", "nesterov=true"][..], &grid].concat()).unwrap();
        let expected = json!({
            "backbone": ["vgg-tiny", "vgg16"], "nesterov": [true], "input_size": [64, 128],
            "focal_alpha": [2.0, {"cat": 2.0, "dog": 3.0}], "seed": [0, 1, 2]
        });
        assert_eq!(body, json!({"dataset": "d", "objective": "coarse-only", "force": false, "grid": expected}));
    }

    #[test]
    fn what_is_wrong_with_a_grid_is_named() {
        for (flags, says) in [
            (&["--seeds", "0-2"][..], "--backbone is needed"),
            (&["--grid", "epochs=1,x"], "invalid value 'x' for '--epochs <N>'"),
            (&["--grid", "backbone=vgg-tiny,vgg"], "possible values: vgg-tiny"),
            (&["--grid", "colour=red"], "unexpected argument '--colour'"),
            (&["--grid", "tag=red"], "“tag” is not a field"),
            (&["--grid", "epochs"], "“epochs” is not like epochs=5,10"),
            (&["--grid", "seed=1", "--seeds", "2", "--backbone", "vgg16"], "--grid seed: its values are given twice"),
            (&["--seed", "1", "--seeds", "2"], "cannot be used with"),
            (&["--seeds", "a"], "“a” is not a seed"),
        ] {
            let error = body(flags).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }
}
