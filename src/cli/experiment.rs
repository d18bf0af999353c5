//! `twograin experiment …`: the runs of an experiment, as one command that can be given again.

mod cost;
mod outcome;

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    io::{self, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    str::FromStr,
};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::Client,
    failure::Failure,
    output::{plural, print},
    run::table,
    submit::{name_or_path, one_of},
    sweep,
    weights::fetch_known,
};
use crate::{
    config::DataConfig,
    domain::{
        Seeds,
        spec::{Backbone, Device},
    },
    experiment::{self, Options, Plan, imagenet_weights},
    report::{DatasetBrief, Listing, SweepItem, SweepReport},
    weights::{Listed, catalogue::Known},
};

#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// The paper's tables 2 to 4: three backbones, each under three objectives
    ///
    /// Says first what that will cost, then fetches the weights that are missing and submits the runs. Given again, it goes on
    /// from what is there: runs that succeeded, run or wait are kept, runs that failed or were canceled are submitted again.
    #[command(after_long_help = EXAMPLES)]
    Paper(Box<ExperimentArgs>),

    /// What weights from ImageNet are worth: a frozen backbone, a fine-tuned one, and one from random weights
    ///
    /// Of efficientnet-lite0, unless other backbones are named. With --wait it ends with the differences to the run from random
    /// weights and their 95% intervals. Meant for small data sets; a few hundred photographs take minutes on a processor.
    #[command(after_long_help = TRANSFER_EXAMPLES)]
    Transfer(Box<ExperimentArgs>),
}

const EXAMPLES: &str = "\
Examples:
  twograin experiment paper --dataset coco --dry-run
  twograin experiment paper --dataset coco --seeds 0,1,2 --wait
  twograin experiment paper --dataset coco --weights random --input-size 64 --epochs 1 --yes --wait";

const TRANSFER_EXAMPLES: &str = "\
Examples:
  twograin experiment transfer --dataset demo --input-size 64 --epochs 4 --wait
  twograin experiment transfer --dataset photographs --seeds 0-2 --wait
  twograin experiment transfer --dataset photographs --backbones resnet34 --weights resnet34=resnet34.pth";

/// Of which runs an experiment consists, and what is done with it.
#[derive(Args, Clone, Debug)]
pub struct ExperimentArgs {
    /// Data set to train and test on, as `twograin dataset list` names it
    #[arg(long, value_name = "NAME")]
    dataset: String,

    /// Backbones [default: the paper's three; for transfer efficientnet-lite0]
    #[arg(long, value_name = "BACKBONES", value_delimiter = ',', value_parser = one_of(Backbone::ALL, Backbone::as_str))]
    backbones: Vec<Backbone>,

    /// What backbones start from: imagenet, random, or BACKBONE=NAME for one of them
    ///
    /// NAME is that of a weight set, as `twograin weights list` shows them, or a file on the server's machine.
    #[arg(long, value_name = "WEIGHTS", value_delimiter = ',', default_value = "imagenet")]
    weights: Vec<Start>,

    /// Passes over the training images [default: 10; for transfer 12]
    #[arg(long, value_name = "N")]
    epochs: Option<usize>,

    /// Side of the square input in pixels, 32 to 1024 [default: 224]
    #[arg(long, value_name = "PIXELS")]
    input_size: Option<usize>,

    /// Images per step, 2 to 4096 [default: 32; for transfer 16]
    #[arg(long, value_name = "N")]
    batch_size: Option<usize>,

    /// Highest learning rate of the schedule [default: 0.01; in the paper's experiment 0.003 for VGG, with clipped gradients]
    ///
    /// For transfer the head's; the backbone's is a tenth of it.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,

    /// Seeds, as 0,1,2 or 0-4: the whole experiment once for each
    #[arg(long, value_name = "SEEDS", default_value = "0")]
    seeds: Seeds,

    /// Where the runs compute: cpu, or cuda:0, cuda:1, … with a build that has CUDA
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    device: Device,

    /// CPU threads; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    threads: usize,

    #[command(flatten)]
    data: DataConfig,

    /// Say what it will cost, and submit nothing
    #[arg(long)]
    dry_run: bool,

    /// Submit without asking
    #[arg(long)]
    yes: bool,

    /// Wait for the end of all runs, and print what came out
    #[arg(long)]
    wait: bool,

    /// Print one JSON object: the estimate, the runs and, with --wait, what came out
    #[arg(long)]
    json: bool,
}

/// What backbones start from.
#[derive(Clone, Debug)]
enum Start {
    Imagenet,
    Random,
    Of(Backbone, String),
}

impl FromStr for Start {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            None if text == "imagenet" => Ok(Self::Imagenet),
            None if text == "random" => Ok(Self::Random),
            None => Err(format!("“{text}” is none of imagenet, random and BACKBONE=NAME")),
            Some((_, "")) => Err("the name is empty".into()),
            Some((backbone, name)) => Ok(Self::Of(backbone.parse()?, name.to_owned())),
        }
    }
}

/// Does what `twograin experiment` was asked for.
pub fn run(client: &Client, command: ExperimentCommand) -> Result<ExitCode, Failure> {
    let (kind, args) = match command {
        ExperimentCommand::Paper(args) => (PAPER, args),
        ExperimentCommand::Transfer(args) => (TRANSFER, args),
    };
    let plan = (kind.plan)(&args.options(kind.backbones)?).map_err(Failure::Usage)?;
    conduct(client, &plan, kind.results, &args)
}

/// An experiment: which runs it has, and what is made of them.
struct Kind {
    plan: fn(&Options) -> Result<Plan, String>,
    /// Unless others are asked for.
    backbones: &'static [Backbone],
    results: Results,
}

/// What came out, in text and as JSON.
type Results = fn(&Client, &str, &SweepReport) -> Result<(String, Value), Failure>;

const PAPER: Kind =
    Kind { plan: experiment::paper, backbones: experiment::PAPER_BACKBONES, results: outcome::beside_the_papers };
const TRANSFER: Kind =
    Kind { plan: experiment::transfer, backbones: experiment::TRANSFER_BACKBONES, results: outcome::transferred };

impl ExperimentArgs {
    fn options(&self, usual: &[Backbone]) -> Result<Options, Failure> {
        let mut backbones = if self.backbones.is_empty() { usual.to_vec() } else { self.backbones.clone() };
        let mut seen = BTreeSet::new();
        backbones.retain(|backbone| seen.insert(*backbone));
        Ok(Options {
            dataset: self.dataset.clone(),
            weights: self.initial_weights(&backbones)?,
            backbones,
            epochs: self.epochs,
            input_size: self.input_size,
            batch_size: self.batch_size,
            learning_rate: self.learning_rate,
            seeds: self.seeds.0.clone(),
            device: self.device,
            threads: self.threads,
        })
    }

    fn initial_weights(&self, backbones: &[Backbone]) -> Result<BTreeMap<Backbone, String>, Failure> {
        let wrong = |text: String| Err(Failure::Usage(format!("--weights: {text}")));
        let random = self.weights.iter().any(|start| matches!(start, Start::Random));
        if random && self.weights.iter().any(|start| matches!(start, Start::Imagenet)) {
            return wrong("imagenet and random exclude each other".into());
        }
        let mut weights = BTreeMap::new();
        for start in &self.weights {
            let Start::Of(backbone, name) = start else { continue };
            if !backbones.contains(backbone) {
                return wrong(format!("{backbone} is not among the backbones"));
            }
            if weights.insert(*backbone, name_or_path(Path::new(name))?.display().to_string()).is_some() {
                return wrong(format!("{backbone} is there twice"));
            }
        }
        for &backbone in backbones.iter().filter(|_| !random) {
            if let Entry::Vacant(entry) = weights.entry(backbone) {
                let name = imagenet_weights(backbone).ok_or_else(|| {
                    Failure::Usage(format!(
                        "--weights: no ImageNet weights are known for {backbone}; add {backbone}=NAME, or give random"
                    ))
                })?;
                entry.insert(name.to_owned());
            }
        }
        Ok(weights)
    }
}

/// Estimates, asks, submits, waits, compares.
fn conduct(client: &Client, plan: &Plan, results: Results, args: &ExperimentArgs) -> Result<ExitCode, Failure> {
    let dataset: DatasetBrief = client.get(&format!("api/v1/datasets/{}", args.dataset), &())?.parse()?;
    let absent = absent(client, plan)?;
    // What has no weights yet has no run yet.
    let there = if absent.is_empty() {
        client.post("api/v1/sweeps", &json!({ "runs": plan.runs, "dry_run": true }))?.parse()?
    } else {
        SweepReport { id: None, items: plan.runs.iter().map(|_| SweepItem { existing: false, run: None }).collect() }
    };
    eprintln!("{}: {}", plan.title, plural(plan.runs.len() as u64, "run"));
    if !(args.yes || args.dry_run || io::stdin().is_terminal() || there.items.iter().all(|item| item.existing)) {
        return Err(Failure::Usage(format!("add --yes to submit {}", plural(plan.runs.len() as u64, "run"))));
    }
    let missing = || plan.runs.iter().zip(&there.items).filter(|(_, item)| !item.existing).map(|(run, _)| &run.spec);
    let estimate = cost::estimate(&dataset, missing())?;
    if let Some(estimate) = &estimate {
        eprintln!("{}", cost::text(estimate, client, args.device));
    }
    for known in &absent {
        eprintln!("To be fetched first: {}, {}.", known.name, cost::size(known.bytes));
    }
    let done = |sweep: &SweepReport, results: Value| -> Result<(), Failure> {
        if args.json {
            let value = json!({"title": plan.title, "estimate": estimate, "items": sweep.items, "results": results});
            print(&value.to_string())?;
        }
        Ok(())
    };
    if args.dry_run {
        eprintln!("{} Nothing was submitted.", sweep::summary(&there));
        done(&there, Value::Null)?;
        return Ok(ExitCode::SUCCESS);
    }
    let new = missing().count() as u64;
    if new > 0 && !args.yes && !agreed(new)? {
        return Err(Failure::Failed("nothing was submitted".into()));
    }
    for known in absent {
        fetch_known(known.name, &args.data)?;
    }
    // Where the server keeps its data elsewhere, it refuses now and says what it lacks.
    let mut sweep: SweepReport = client.post("api/v1/sweeps", &json!({ "runs": plan.runs }))?.parse()?;
    eprintln!("{}", sweep::summary(&sweep));
    let succeeded = !args.wait || sweep::follow(client, &mut sweep)?;
    if args.wait {
        let (text, value) = results(client, &args.dataset, &sweep)?;
        if !args.json {
            print(&text)?;
        }
        done(&sweep, value)?;
    } else {
        if !args.json {
            print(&table(sweep.items.iter().filter_map(|item| item.run.as_ref())))?;
            eprintln!("The comparison, as the runs end: {}", outcome::page(client, &args.dataset));
        }
        done(&sweep, Value::Null)?;
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The published weights that the runs start from and the server has not.
fn absent(client: &Client, plan: &Plan) -> Result<Vec<&'static Known>, Failure> {
    let names: BTreeSet<&str> = plan.runs.iter().filter_map(|run| run.spec.initial_weights.as_deref()).collect();
    let library: Listing<Listed> = client.get("api/v1/weights", &())?.parse()?;
    let installed = |name: &str| library.items.iter().any(|weights| weights.installed && weights.name == name);
    let absent: Vec<_> = names.into_iter().filter(|name| !installed(name)).filter_map(Known::find).collect();
    match absent.first() {
        Some(known) if !client.is_local() => Err(Failure::Failed(format!(
            "the server has no weights {0}; install them on its machine with `twograin weights fetch {0}`",
            known.name
        ))),
        Some(_) | None => Ok(absent),
    }
}

/// Asks on the terminal.
fn agreed(runs: u64) -> Result<bool, Failure> {
    eprint!("Submit {}? [y/N] ", plural(runs, "run"));
    // A question that cannot be shown can still be answered.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::because("the answer cannot be read", &error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
