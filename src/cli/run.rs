//! `twograin run …`: the queue and its runs, over HTTP.

use std::process::ExitCode;

use clap::{Args, Subcommand, builder::PossibleValuesParser, builder::TypedValueParser};
use serde::Serialize;

use super::{
    classes,
    client::{Answer, Client},
    compare, curves,
    failure::Failure,
    labels,
    output::{Align, Table, number, print},
    run_report, submit, sweep, wait,
};
use crate::{
    domain::{Priority, RunId, RunStatus},
    report::{Listing, RunBrief, RunReport, SubmittedRun},
};

#[derive(Debug, Subcommand)]
pub enum RunCommand {
    /// Queue a training run
    ///
    /// What is not given has the server's default, which the flag's description says. The same specification on the same
    /// machine gives the same outcomes.
    #[command(after_long_help = SUBMIT_EXAMPLES)]
    Submit {
        #[command(flatten)]
        submit: Box<submit::SubmitArgs>,
        #[command(flatten)]
        sweep: sweep::SweepArgs,
        /// Wait for the end, with a progress bar on a terminal and plain lines elsewhere
        ///
        /// Ctrl-C stops the waiting; the run goes on. Several runs are followed at once. A server that goes away is waited for.
        #[arg(long)]
        wait: bool,
        /// Print the run as the server's JSON; with --wait, as it is at the end
        #[arg(long)]
        json: bool,
    },

    /// Wait for the end of runs, with progress bars on a terminal and plain lines elsewhere
    ///
    /// Ctrl-C stops the waiting; the runs go on. So they do when the server is stopped, which is waited for, for ten minutes.
    Wait(wait::WaitArgs),

    /// List runs, newest first
    List(ListArgs),

    /// Show a run: specification, progress, indices, counts, the last lines of its log
    Show(OneRun),

    /// Compare two runs on the same test images: differences with intervals, outcomes under both, McNemar's tests
    Compare(compare::CompareArgs),

    /// Show a measure of several runs beside one another, epoch by epoch
    Curves(curves::CurvesArgs),

    /// Show a run's fine labels one by one: average precision, precision, recall, F1; or one label in full
    Labels(labels::LabelsArgs),

    /// Show a run's categories: figures, outcomes, and what is taken for what; or one category in full
    Categories(classes::CategoriesArgs),

    /// Cancel a run that waits or is running
    Cancel(OneRun),

    /// Give a run that waits another priority: of the runs that wait, higher goes first
    Prioritize {
        #[command(flatten)]
        run: OneRun,
        /// From -100 to 100
        #[arg(value_name = "N", allow_negative_numbers = true)]
        priority: Priority,
    },

    /// Put runs that failed or were canceled back into the queue; each goes on from its last checkpoint
    Retry {
        /// Numbers of the runs
        #[arg(value_name = "ID", required = true)]
        ids: Vec<RunId>,
        /// Print the server's JSON, a line for each run
        #[arg(long)]
        json: bool,
    },

    /// Queue a run with the specification of another one, but for what is given here
    ///
    /// Tags, note and priority are taken over too. Without a change it repeats the run.
    Clone {
        /// Number of the run
        #[arg(value_name = "ID")]
        id: RunId,
        #[command(flatten)]
        changes: Box<submit::SubmitArgs>,
        /// Make a new run also if there is one already of the changed specification, which succeeded, runs or waits
        #[arg(long)]
        force: bool,
        /// Wait for the end, as in `run submit`
        #[arg(long)]
        wait: bool,
        /// Print the run as the server's JSON; with --wait, as it is at the end
        #[arg(long)]
        json: bool,
    },

    /// Delete a run that has ended, with its outcomes and files
    Delete(OneRun),
}

const SUBMIT_EXAMPLES: &str = "\
Examples:
  twograin run submit --dataset demo --backbone resnet-tiny --objective top-k-softmax --input-size 64 --epochs 3 --wait
  twograin run submit --dataset coco --backbone resnet34 --objective sigmoid-threshold --threshold 0.6 --tag paper
  twograin run submit --dataset demo --backbone vgg-tiny --grid objective=coarse-only,top-k-softmax --seeds 0,1,2 --wait";

#[derive(Args, Debug, Serialize)]
pub struct ListArgs {
    /// Runs of this data set alone
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Runs of this status alone
    #[arg(long, value_name = "STATUS", value_parser = status_parser())]
    status: Option<RunStatus>,
    #[command(flatten)]
    #[serde(flatten)]
    page: PageArgs,
}

/// Which part of a list, and how it is printed.
#[derive(Args, Debug, Serialize)]
pub(super) struct PageArgs {
    /// At most this many
    #[arg(long, value_name = "N", default_value_t = 50)]
    limit: u32,
    /// Go on where a list ended: the cursor that it printed
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<String>,
    /// Print the server's JSON
    #[arg(long)]
    #[serde(skip)]
    pub(super) json: bool,
}

#[derive(Args, Debug)]
pub struct OneRun {
    /// Number of the run
    #[arg(value_name = "ID")]
    id: RunId,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

fn status_parser() -> impl TypedValueParser<Value = RunStatus> {
    PossibleValuesParser::new(["queued", "running", "succeeded", "failed", "canceled"])
        .try_map(|name| name.parse::<RunStatus>())
}

/// Does what `twograin run` was asked for.
pub fn run(client: &Client, command: RunCommand) -> Result<ExitCode, Failure> {
    match command {
        RunCommand::Submit { submit, sweep, wait, json } if sweep.is_one() => {
            return submit_run(client, *submit, sweep.force, wait, json);
        }
        RunCommand::Submit { submit, sweep, wait, json } => {
            return sweep::submit(client, *submit, &sweep, wait, json).map(code);
        }
        RunCommand::Wait(args) => return wait::wait(client, &args).map(code),
        RunCommand::List(args) => list(client, &args)?,
        RunCommand::Show(OneRun { id, json }) => {
            let answer = client.get(&format!("api/v1/runs/{id}"), &())?;
            print(&if json { answer.text().to_owned() } else { run_report::text(&answer.parse()?) })?;
        }
        RunCommand::Compare(args) => compare::compare(client, &args)?,
        RunCommand::Curves(args) => curves::curves(client, &args)?,
        RunCommand::Labels(args) => labels::labels(client, &args)?,
        RunCommand::Categories(args) => classes::categories(client, &args)?,
        RunCommand::Cancel(OneRun { id, json }) => {
            let answer = client.post(&format!("api/v1/runs/{id}/cancel"), &serde_json::json!({}))?;
            acknowledge(&answer, json, || {
                let status = answer.parse::<RunReport>().ok().map(|run| run.brief.status);
                if status.is_some_and(RunStatus::is_final) {
                    format!("Run {id} is canceled.")
                } else {
                    format!("Run {id} is being canceled: it ends after its current step.")
                }
            })?;
        }
        RunCommand::Prioritize { run: OneRun { id, json }, priority } => {
            let answer = client.patch(&format!("api/v1/runs/{id}"), &serde_json::json!({"priority": priority}))?;
            acknowledge(&answer, json, || {
                let place = answer.parse::<RunReport>().ok().and_then(|run| run.queue_position);
                let place = place.map_or_else(String::new, |place| format!(", number {place} in the queue"));
                format!("Run {id} has priority {priority}{place}.")
            })?;
        }
        RunCommand::Retry { ids, json } => {
            for id in ids {
                let answer = client.post(&format!("api/v1/runs/{id}/retry"), &serde_json::json!({}))?;
                acknowledge(&answer, json, || format!("Run {id} is queued again."))?;
            }
        }
        RunCommand::Clone { id, changes, force, wait, json } => {
            let mut body = changes.body()?;
            if force {
                body.insert("force".into(), true.into());
            }
            return submitted(client, &client.post(&format!("api/v1/runs/{id}/clone"), &body)?, wait, json);
        }
        RunCommand::Delete(OneRun { id, json }) => {
            let answer = client.delete(&format!("api/v1/runs/{id}"))?;
            acknowledge(&answer, json, || format!("Run {id} is deleted."))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn code(went_well: bool) -> ExitCode {
    if went_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The server's JSON, if it sent any, or a sentence.
fn acknowledge(answer: &Answer, json: bool, sentence: impl FnOnce() -> String) -> Result<(), Failure> {
    match (json, answer.text().is_empty()) {
        (true, true) => Ok(()),
        (true, false) => print(answer.text()),
        (false, _) => print(&sentence()),
    }
}

fn submit_run(
    client: &Client,
    submit: submit::SubmitArgs,
    force: bool,
    wait: bool,
    json: bool,
) -> Result<ExitCode, Failure> {
    let mut body = submit.body()?;
    sweep::needed(&body, &serde_json::Map::new())?;
    if force {
        body.insert("force".into(), true.into());
    }
    submitted(client, &client.post("api/v1/runs", &body)?, wait, json)
}

/// Says what a submission was answered by, and follows it if asked to.
fn submitted(client: &Client, answer: &Answer, wait: bool, json: bool) -> Result<ExitCode, Failure> {
    let SubmittedRun { existing, run } = answer.parse()?;
    let id = run.brief.id;
    if existing && !json {
        eprintln!("Run {id} was there already; --force makes a new one.");
    }
    if wait {
        let Some((answer, run)) = wait::until_the_end(client, &[id])?.pop() else { return Ok(ExitCode::FAILURE) };
        print(&if json { answer.text().to_owned() } else { run_report::text(&run) })?;
        return Ok(match run.brief.status {
            RunStatus::Succeeded => ExitCode::SUCCESS,
            RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Canceled => ExitCode::FAILURE,
        });
    }
    if json {
        print(answer.text())?;
    } else {
        let place = run.queue_position.map_or_else(String::new, |place| format!(", number {place} in the queue"));
        let page = client.page(&format!("runs/{id}"));
        print(&format!("Run {id} “{}” is {}{place}: {page}", run.brief.name, run.brief.status))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn list(client: &Client, args: &ListArgs) -> Result<(), Failure> {
    let answer = client.get("api/v1/runs", args)?;
    if args.page.json {
        return print(answer.text());
    }
    let listing: Listing<RunBrief> = answer.parse()?;
    if listing.items.is_empty() {
        return print("No runs. Submit one with `twograin run submit`.");
    }
    let more =
        listing.next_cursor.map_or_else(String::new, |cursor| format!("There are more: add --cursor {cursor}\n"));
    print(&format!("{}{more}", table(&listing.items)))
}

/// One line for each run.
pub(super) fn table<'a>(runs: impl IntoIterator<Item = &'a RunBrief>) -> String {
    let mut table = Table::new(&[
        ("id", Align::Right),
        ("status", Align::Left),
        ("data set", Align::Left),
        ("backbone", Align::Left),
        ("objective", Align::Left),
        ("IA", Align::Right),
        ("coarse", Align::Right),
        ("name", Align::Left),
    ]);
    for run in runs {
        let status = match (run.status, &run.progress) {
            (RunStatus::Running, Some(progress)) => format!("running {:.0}%", progress.fraction * 100.0),
            (status, _) => status.to_string(),
        };
        table.row([
            run.id.to_string(),
            status,
            format!("{}{}", run.dataset, if run.drawn { " (drawn)" } else { "" }),
            run.backbone.to_string(),
            run.objective.to_string(),
            number(run.ia),
            number(run.coarse_accuracy),
            run.name.clone(),
        ]);
    }
    table.render()
}
