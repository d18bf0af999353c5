//! `twograin dataset …`: works on the data directory itself, also while a server runs on it.

use std::{fs::File, future::Future};

use clap::{Args, Subcommand};
use serde::Serialize;
use tokio::runtime::Runtime;

use super::{
    failure::Failure,
    import::ImportArgs,
    output::{Align, Table, count, plural, print, time},
};
use crate::{
    app,
    config::DataConfig,
    error,
    report::{DatasetBrief, DatasetReport, Listing, Reports},
    store::{Store, StoreConfig},
};

#[derive(Debug, Subcommand)]
pub enum DatasetCommand {
    /// Import a data set from COCO instances files
    ///
    /// An image is kept when its fine labels, public ones (person) left out, all belong to one coarse category; the others are
    /// counted and left out. Missing `bbox`, `area` and `iscrowd` are fine. What contradicts itself is refused with its file and
    /// place, and then nothing is recorded. Images stay where they are; the data set remembers their directories.
    #[command(name = "import-coco", after_long_help = super::import::EXAMPLES)]
    ImportCoco(ImportArgs),

    /// List data sets
    List {
        #[command(flatten)]
        data: DataConfig,
        /// Print JSON, the same as `GET /api/v1/datasets`
        #[arg(long)]
        json: bool,
    },

    /// Show a data set: what was read, left out and kept, and how many images each label has
    Show(OneDataset),

    /// Delete a data set that no run uses; image files stay
    Delete(OneDataset),
}

#[derive(Args, Debug)]
pub struct OneDataset {
    /// Name of the data set
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    data: DataConfig,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The data directory, opened for one command.
pub struct Opened {
    runtime: Runtime,
    pub store: Store,
}

impl Opened {
    /// Opens one that is there: whoever only looks, or deletes, does not want a new one.
    pub fn existing(data: &DataConfig) -> Result<Self, Failure> {
        if !data.data_dir.is_dir() {
            return Err(Failure::Failed(format!(
                "there is no data directory {}; name another one with --data-dir",
                data.data_dir.display()
            )));
        }
        Self::open(data)
    }

    /// Opens it, and creates it where it is not there yet.
    pub fn open(data: &DataConfig) -> Result<Self, Failure> {
        Self::with(runtime()?, data)
    }

    /// The same where no server runs on it, and none can start until the files are dropped.
    pub fn alone(data: &DataConfig) -> Result<(Self, Vec<File>), Failure> {
        let runtime = runtime()?;
        let lock = runtime.block_on(app::lock(data))?;
        Ok((Self::with(runtime, data)?, lock))
    }

    fn with(runtime: Runtime, data: &DataConfig) -> Result<Self, Failure> {
        let config = StoreConfig { data_dir: data.data_dir.clone(), database: data.database.clone() };
        let store = runtime.block_on(Store::open(&config))?;
        Ok(Self { runtime, store })
    }

    /// The reports over it.
    pub fn reports(&self) -> Reports {
        Reports::new(self.store.clone())
    }

    /// Waits for an answer.
    pub fn wait<T>(&self, answer: impl Future<Output = error::Result<T>>) -> Result<T, Failure> {
        Ok(self.runtime.block_on(answer)?)
    }
}

fn runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(|error| Failure::because("the program cannot start its threads", &error))
}

/// Does what `twograin dataset` was asked for.
pub fn run(command: DatasetCommand) -> Result<(), Failure> {
    match command {
        DatasetCommand::ImportCoco(args) => super::import::import(args),
        DatasetCommand::List { data, json } => {
            let opened = Opened::existing(&data)?;
            let listing = opened.wait(opened.reports().datasets())?;
            if json { print_json(&listing) } else { print(&list(&listing)) }
        }
        DatasetCommand::Show(OneDataset { name, data, json }) => {
            let opened = Opened::existing(&data)?;
            let report = opened.wait(opened.reports().dataset(&name))?;
            if json { print_json(&report) } else { print(&text(&report)) }
        }
        DatasetCommand::Delete(OneDataset { name, data, json }) => {
            let opened = Opened::existing(&data)?;
            opened.wait(opened.store.delete_dataset(&name))?;
            if json {
                print_json(&serde_json::json!({ "deleted": name }))
            } else {
                print(&format!("The data set “{name}” is deleted; its image files are where they were."))
            }
        }
    }
}

/// Prints a value as the API would answer it.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let json =
        serde_json::to_string(value).map_err(|error| Failure::because("the result does not serialise", &error))?;
    print(&json)
}

fn kind(dataset: &DatasetBrief) -> &'static str {
    match (dataset.drawn, dataset.labels_only) {
        (true, _) => "drawn",
        (false, true) => "labels only",
        (false, false) => "photographs",
    }
}

fn list(listing: &Listing<DatasetBrief>) -> String {
    if listing.items.is_empty() {
        return "No data sets. Import one with `twograin dataset import-coco`, or try `twograin demo`.".into();
    }
    let mut table = Table::new(&[
        ("name", Align::Left),
        ("kind", Align::Left),
        ("train", Align::Right),
        ("test", Align::Right),
        ("fine labels", Align::Right),
        ("categories", Align::Right),
        ("runs", Align::Right),
        ("imported", Align::Left),
    ]);
    for dataset in &listing.items {
        table.row([
            dataset.name.clone(),
            kind(dataset).to_owned(),
            count(dataset.train_images),
            count(dataset.test_images),
            count(dataset.fine_labels as u64),
            count(dataset.coarse_categories as u64),
            count(dataset.runs),
            time(&dataset.created_at),
        ]);
    }
    table.render()
}

/// A data set as plain text.
pub fn text(report: &DatasetReport) -> String {
    let brief = &report.brief;
    let mut facts = Table::facts().indented(2);
    facts.fact("kind", kind(brief));
    facts.fact(
        "taxonomy",
        format!(
            "{}: {}, {}",
            report.taxonomy.name(),
            plural(brief.fine_labels as u64, "fine label"),
            if brief.coarse_categories == 1 {
                "1 category".into()
            } else {
                format!("{} categories", brief.coarse_categories)
            },
        ),
    );
    facts.fact("imported", time(&brief.created_at));
    facts.fact("test set", &brief.fingerprint);
    facts.fact("used by", plural(brief.runs, "run"));

    let columns = [("", Align::Left), ("train", Align::Right), ("test", Align::Right)];
    let mut funnel = Table::new(&columns).indented(2);
    let (train, test) = (&report.train_funnel, &report.test_funnel);
    for (name, train, test) in [
        ("images read", train.read, test.read),
        ("left out: no label", train.unlabelled, test.unlabelled),
        ("left out: public labels only", train.public_only, test.public_only),
        ("left out: several categories", train.several, test.several),
        ("kept", train.kept, test.kept),
    ] {
        funnel.row([name.to_owned(), count(train), count(test)]);
    }

    let mut categories = Table::new(&[("category", Align::Left), columns[1], columns[2]]).indented(2);
    for category in &report.categories {
        categories.row([category.name.clone(), count(category.train), count(category.test)]);
    }

    let mut labels =
        Table::new(&[("fine label", Align::Left), ("category", Align::Left), columns[1], columns[2]]).indented(2);
    for label in &report.labels {
        let parent = label.coarse.clone().unwrap_or_else(|| "(any)".into());
        labels.row([label.name.clone(), parent, count(label.train), count(label.test)]);
    }
    let parts = [facts, funnel, categories, labels].map(|table| table.render());
    format!("Data set “{}”\n{}", brief.name, parts.join("\n"))
}
