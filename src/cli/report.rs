//! `twograin report`: a comparison or a run as one file of HTML.

use clap::Args;

use super::{
    client::Client,
    failure::Failure,
    save::{SaveArgs, save},
};
use crate::domain::RunId;

pub const EXAMPLES: &str = "\
Examples:
  twograin report                              the comparison on the data set of the newest run
  twograin report --dataset coco --pick 4,9    with the groups of these runs
  twograin report --run 7 -o run-7.html";

#[derive(Args, Debug)]
pub struct ReportArgs {
    /// Report this run
    #[arg(long, value_name = "ID", conflicts_with_all = ["dataset", "picks", "base"])]
    run: Option<RunId>,
    #[command(flatten)]
    comparison: ComparisonArgs,
    #[command(flatten)]
    save: SaveArgs,
}

/// Which comparison, as the API's query has it.
#[derive(Args, Debug)]
pub struct ComparisonArgs {
    /// Compare the runs on this data set [default: that of the newest run]
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,
    /// Runs whose groups are shown instead of the newest ones of their backbone and mode
    #[arg(long = "pick", value_name = "ID,…", value_delimiter = ',')]
    picks: Vec<RunId>,
    /// Run that the others are held against [default: the one with the highest IA]
    #[arg(long, value_name = "ID")]
    base: Option<RunId>,
}

impl ComparisonArgs {
    /// The fields of the query.
    pub fn query(&self) -> Vec<(&'static str, String)> {
        let dataset = self.dataset.iter().map(|name| ("dataset", name.clone()));
        let picks = self.picks.iter().map(|run| ("pick", run.to_string()));
        dataset.chain(picks).chain(self.base.map(|run| ("base", run.to_string()))).collect()
    }
}

/// Saves a report.
pub fn report(client: &Client, args: &ReportArgs) -> Result<(), Failure> {
    match args.run {
        Some(run) => save(client, &format!("api/v1/runs/{run}/report"), &(), &args.save),
        None => save(client, "api/v1/reports/comparison", &args.comparison.query(), &args.save),
    }
}
