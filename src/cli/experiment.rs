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
    client::{Client, Refusal},
    failure::Failure,
    output::{plural, print},
    run::table,
    submit::one_of,
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
    report::SweepReport,
    weights::catalogue::Known,
};

#[derive(Debug, Subcommand)]
pub enum ExperimentCommand {
    /// The paper's tables 2 to 4: three backbones, each under three objectives
    ///
    /// Says first what that will cost, then submits the runs. Given again, it goes on from what is there: runs that succeeded,
    /// run or wait are kept, runs that failed or were canceled are submitted again.
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
  twograin experiment transfer --dataset demo --input-size 64 --wait
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

    /// Highest learning rate of the schedule [default: 0.003 for VGG, whose gradients are clipped as well, else 0.01]
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
        let backbones = if self.backbones.is_empty() { usual.to_vec() } else { self.backbones.clone() };
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
        let random = self.weights.iter().any(|start| matches!(start, Start::Random));
        let mut weights = BTreeMap::new();
        for start in &self.weights {
            if let Start::Of(backbone, name) = start {
                // A file in the directory that one is in, as with `twograin run submit --initial-weights`.
                let path = std::path::absolute(name).ok().filter(|_| Path::new(name).is_file());
                weights.insert(*backbone, path.map_or_else(|| name.clone(), |path| path.display().to_string()));
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
    let there = preview(client, plan, &args.data)?;
    eprintln!("{}: {}", plan.title, plural(plan.runs.len() as u64, "run"));
    let missing = || plan.runs.iter().zip(&there.items).filter(|(_, item)| !item.existing).map(|(run, _)| &run.spec);
    let estimate = cost::estimate(client, &args.dataset, missing())?;
    if let Some(estimate) = &estimate {
        eprintln!("{}", cost::text(estimate, client, args.device));
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

/// Which runs are there already; refused where one of them could not be submitted. Published weights that are missing are
/// fetched first.
fn preview(client: &Client, plan: &Plan, data: &DataConfig) -> Result<SweepReport, Failure> {
    let ask = || client.post("api/v1/sweeps", &json!({ "runs": plan.runs, "dry_run": true }));
    match ask() {
        Ok(answer) => answer.parse(),
        Err(Refusal::Answered(refusal)) if refusal.contains("initial_weights: ") => {
            let names: BTreeSet<&str> =
                plan.runs.iter().filter_map(|run| run.spec.initial_weights.as_deref()).collect();
            let known = names.into_iter().filter(|name| Known::find(name).is_some()).collect::<Vec<_>>();
            if known.is_empty() || !client.is_local() {
                return Err(Failure::Failed(format!(
                    "{refusal}; install them on the server's machine, or add --weights random"
                )));
            }
            for name in known {
                fetch_known(name, data)?;
            }
            // Still refused, it may be that the server keeps its data elsewhere: the refusal says where it looked.
            ask()?.parse()
        }
        Err(refusal) => Err(refusal.into()),
    }
}

/// Asks on the terminal. Where there is none, `--yes` has to have been given.
fn agreed(runs: u64) -> Result<bool, Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::Usage(format!("add --yes to submit {}", plural(runs, "run"))));
    }
    eprint!("Submit {}? [y/N] ", plural(runs, "run"));
    // A question that cannot be shown can still be answered.
    let _ = io::stderr().flush();
    let mut answer = String::new();
    let read = io::stdin().read_line(&mut answer);
    read.map_err(|error| Failure::because("the answer cannot be read", &error))?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
