//! `twograin export …`: tables for other programs.

use clap::{Args, Subcommand};
use serde::Serialize;

use super::{
    client::Client,
    failure::Failure,
    report::ComparisonArgs,
    rule::RuleArgs,
    save::{SaveArgs, save},
    submit::one_of,
};
use crate::{
    domain::{RunId, Split},
    exchange::table::Format,
};

pub const EXAMPLES: &str = "\
Examples:
  twograin export comparison --dataset coco -o comparison.tex
  twograin export outcomes 7 -o run-7.parquet
  twograin export outcomes 7 --threshold 0.5 --format csv -o - | head

In CSV undefined is empty, several labels are joined by “; ”, and text that a spreadsheet would compute (it begins with
=, +, -, @, a tab or a line end) has an apostrophe in front. JSON and Parquet have null, lists, and every text as it is.";

#[derive(Debug, Subcommand)]
pub enum ExportCommand {
    /// The indices by backbone and decision mode: CSV, JSON, Parquet, or a table for LaTeX
    ///
    /// A row for each, with the number of runs, counts, indices with the ends of their intervals or their spread, and the
    /// accuracy of the coarse-only runs.
    Comparison {
        #[command(flatten)]
        comparison: ComparisonArgs,
        #[command(flatten)]
        file: FileArgs,
    },

    /// What a run decided for each image: CSV, JSON or Parquet
    ///
    /// A row for each, with its id in the annotations, file name, outcome, true and predicted labels and categories.
    Outcomes {
        /// Number of the run
        #[arg(value_name = "ID")]
        id: RunId,
        #[command(flatten)]
        rule: RuleArgs,
        /// Images of this split: test or validation
        #[arg(long, value_name = "SPLIT", default_value_t = Split::Test, value_parser = one_of(&[Split::Test, Split::Validation], Split::as_str))]
        split: Split,
        #[command(flatten)]
        file: FileArgs,
    },
}

/// What kind of file, and where.
#[derive(Args, Debug)]
pub struct FileArgs {
    /// Kind of file [default: what the file's name ends with, else csv]
    #[arg(long, value_name = "FORMAT", value_parser = one_of(&Format::ALL, Format::as_str))]
    format: Option<Format>,
    #[command(flatten)]
    save: SaveArgs,
}

#[derive(Serialize)]
struct OutcomesQuery<'a> {
    #[serde(flatten)]
    rule: &'a RuleArgs,
    split: &'static str,
    format: &'static str,
}

impl FileArgs {
    fn format(&self) -> Format {
        let extension = self.save.out.as_deref().and_then(|file| file.extension()?.to_str());
        let named = extension.and_then(|end| Format::ALL.into_iter().find(|format| format.extension() == end));
        self.format.or(named).unwrap_or(Format::Csv)
    }
}

/// Saves a table.
pub fn export(client: &Client, command: &ExportCommand) -> Result<(), Failure> {
    match command {
        ExportCommand::Comparison { comparison, file } => {
            let query = [comparison.query(), vec![("format", file.format().to_string())]].concat();
            save(client, "api/v1/comparisons/export", &query, &file.save)
        }
        ExportCommand::Outcomes { id, rule, split, file } => {
            let query = OutcomesQuery { rule, split: split.as_str(), format: file.format().as_str() };
            save(client, &format!("api/v1/runs/{id}/outcomes/export"), &query, &file.save)
        }
    }
}
