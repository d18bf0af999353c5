//! The command line: one file per subcommand. What a flag means is said in its doc comment, which is its `--help`.

mod bench;
mod classes;
mod client;
mod compare;
mod comparison;
mod curves;
mod dataset;
mod decision;
mod events;
mod experiment;
mod export;
mod failure;
mod import;
mod labels;
mod output;
mod populate;
mod predict;
mod queue;
mod report;
mod rule;
mod run;
mod run_report;
mod save;
mod serve;
mod submit;
mod sweep;
mod sweeps;
mod wait;
mod weights;
mod worker;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::{app::Start, config::ServeArgs};
use failure::Failure;

/// Shows why image classifiers are right
///
/// Twograin trains two-level image classifiers (image → fine labels → category), keeps what each run decided for every test
/// image, and shows where a right answer rests on the wrong evidence.
///
/// Without a command it starts the server, as `twograin serve` does.
#[derive(Debug, Parser)]
#[command(name = "twograin", version, args_conflicts_with_subcommands = true, max_term_width = 110, after_help = EXIT_CODES)]
#[command(after_long_help = format!("{EXAMPLES}\n\n{EXIT_CODES}"))]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    serve: ServeArgs,
}

const EXAMPLES: &str = "\
Examples:
  twograin demo                       start with the built-in demo data set and train its comparison
  twograin serve                      start the server on what ./twograin-data holds
  twograin dataset list               what there is to train on
  twograin run submit --dataset demo --backbone resnet-tiny --objective top-k-softmax --input-size 64 --wait
  twograin predict dog.jpg --run 3    how run 3 decides for a photograph";

const EXIT_CODES: &str = "\
Exit codes:
  0    done; with --wait: the run succeeded
  1    not done, and standard error says why; with --wait: the run failed or was canceled
  2    the command line is wrong
  130  interrupted by Ctrl-C; a run that was waited for goes on";

#[derive(Debug, Subcommand)]
enum Command {
    /// Start the server: pages, API and the training queue (the default command)
    ///
    /// Serves the pages and the API until Ctrl-C or SIGTERM. Runs that wait in the queue are trained one after the other, each
    /// in a process of its own.
    #[command(after_long_help = serve::EXAMPLES)]
    Serve(ServeArgs),

    /// Start the server with the built-in demo data set and train its comparison
    ///
    /// Draws a data set of small scenes (drawn, not photographed) the first time, imports it as `demo`, and queues nine runs:
    /// the backbones vgg-tiny, resnet-tiny and densenet-tiny at 64 pixels, each with the three objectives. Run again, it goes on from what is
    /// there. Everything else is as in `twograin serve`.
    #[command(after_long_help = serve::DEMO_EXAMPLES)]
    Demo(ServeArgs),

    /// Import, list, show and delete data sets
    ///
    /// Works on the data directory itself, also while a server runs on it.
    Dataset {
        #[command(subcommand)]
        command: dataset::DatasetCommand,
    },

    /// Fetch, import, list and show backbone weights that runs can start from
    ///
    /// Works on the data directory itself, also while a server runs on it. `run submit --initial-weights NAME` uses them.
    #[command(after_long_help = weights::EXAMPLES)]
    Weights {
        #[command(subcommand)]
        command: weights::WeightsCommand,
    },

    /// Submit, wait for, list, show, compare, cancel and delete training runs
    ///
    /// Talks to a running server.
    #[command(after_help = EXIT_CODES)]
    Run {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(subcommand)]
        command: run::RunCommand,
    },

    /// List, show, cancel and retry sweeps: runs that were submitted together
    ///
    /// Talks to a running server. `run submit` makes one with --seeds or --grid.
    Sweep {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(subcommand)]
        command: sweeps::SweepCommand,
    },

    /// Compare backbones and decision modes of a data set: indices, outcomes, differences to a base run
    ///
    /// Talks to a running server. What the start page shows; `run compare A B` has two runs in full.
    #[command(after_long_help = comparison::EXAMPLES)]
    Compare {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(flatten)]
        args: comparison::ComparisonArgs,
    },

    /// Show, pause and resume the queue
    ///
    /// Talks to a running server.
    Queue {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(subcommand)]
        command: queue::QueueCommand,
    },

    /// Make all runs of an experiment, with an estimate of its cost first
    ///
    /// Talks to a running server, which trains.
    #[command(after_help = EXIT_CODES)]
    Experiment {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(subcommand)]
        command: experiment::ExperimentCommand,
    },

    /// Save a comparison or a run as one file of HTML that opens anywhere, with what it takes to come to it again
    ///
    /// Talks to a running server. The file holds charts, tables, images and every figure as JSON, and needs nothing else.
    #[command(after_long_help = report::EXAMPLES)]
    Report {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(flatten)]
        args: report::ReportArgs,
    },

    /// Save a comparison, or what a run decided for each image, as a table: CSV, JSON, Parquet, LaTeX
    ///
    /// Talks to a running server.
    #[command(after_long_help = export::EXAMPLES)]
    Export {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(subcommand)]
        command: export::ExportCommand,
    },

    /// Show how a run's model decides for photographs: fine labels, contributions, category
    ///
    /// Talks to a running server. Nothing of the photographs is kept there.
    #[command(after_long_help = predict::EXAMPLES)]
    Predict {
        #[command(flatten)]
        server: client::ServerArgs,
        #[command(flatten)]
        args: predict::PredictArgs,
    },

    /// Measure how fast this machine trains and infers, and how close that is to its limit
    ///
    /// For each backbone and pass: images per second, the share of the machine's rate of matrix products that this amounts to,
    /// and the peak memory of a process that does nothing else. Random images and weights; nothing is read or kept.
    #[command(after_long_help = bench::EXAMPLES)]
    Bench(bench::BenchArgs),

    /// Execute one attempt of a run; the server starts it
    #[command(hide = true)]
    Worker(worker::WorkerArgs),
}

/// Parses the command line, does what it says, and gives the exit code. A failure is one line on standard error.
pub fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

/// The definition of the command line, for tests and generated documentation.
pub fn command() -> clap::Command {
    Cli::command()
}

fn run(cli: Cli) -> Result<ExitCode, Failure> {
    let done = match cli.command.unwrap_or(Command::Serve(cli.serve)) {
        Command::Serve(args) => serve::serve(args, Start::Serve),
        Command::Demo(args) => serve::serve(args, Start::Demo),
        Command::Dataset { command } => dataset::run(command),
        Command::Weights { command } => weights::run(command),
        Command::Run { server, command } => return run::run(&server.client()?, command),
        Command::Sweep { server, command } => sweeps::run(&server.client()?, command),
        Command::Queue { server, command } => queue::run(&server.client()?, command),
        Command::Compare { server, args } => comparison::compare(&server.client()?, &args),
        Command::Experiment { server, command } => return experiment::run(&server.client()?, command),
        Command::Report { server, args } => report::report(&server.client()?, &args),
        Command::Export { server, command } => export::export(&server.client()?, &command),
        Command::Predict { server, args } => return predict::predict(&server.client()?, &args),
        Command::Bench(args) => bench::bench(&args),
        Command::Worker(args) => worker::work(args),
    };
    done.map(|()| ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        command().debug_assert();
    }

    #[test]
    fn the_server_is_the_default_command() {
        assert!(Cli::try_parse_from(["twograin"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["twograin", "--listen", "127.0.0.1:9"]).unwrap().command.is_none());
        assert!(Cli::try_parse_from(["twograin", "--listen", "127.0.0.1:9", "dataset", "list"]).is_err());
    }
}
