//! `twograin dataset import-coco`.

use std::{
    fs,
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

use super::{
    dataset::{Opened, print_json, text},
    failure::Failure,
    output::{count, print},
};
use crate::{
    config::DataConfig,
    dataset::coco::{self, CocoSource, ImportOptions, ImportPhase, ImportProgress},
    domain::Taxonomy,
    store::NewDataset,
};

pub const EXAMPLES: &str = "\
Examples:
  twograin dataset import-coco coco \\
    --train-annotations annotations/instances_train2017.json --train-images train2017 \\
    --test-annotations annotations/instances_val2017.json --test-images val2017
  twograin dataset import-coco coco-labels --labels-only \\
    --train-annotations instances_train2017.json --test-annotations instances_val2017.json

A taxonomy file looks like this; a label without a parent is public and may occur in any image:
  { \"name\": \"pets\", \"coarse\": [\"animal\", \"food\"],
    \"fine\": [{ \"name\": \"person\", \"public\": true }, { \"name\": \"dog\", \"parent\": \"animal\" },
             { \"name\": \"apple\", \"parent\": \"food\" }] }";

/// What to import, and how carefully.
#[derive(Args, Debug)]
pub struct ImportArgs {
    /// Name of the new data set: letters, digits, “-”, “_” and “.”
    #[arg(value_name = "NAME")]
    name: String,
    /// COCO instances file of the images to learn from
    #[arg(long, value_name = "FILE")]
    train_annotations: PathBuf,
    /// Directory of the images to learn from
    #[arg(long, value_name = "DIR", required_unless_present = "labels_only")]
    train_images: Option<PathBuf>,
    /// COCO instances file of the images to test on
    #[arg(long, value_name = "FILE")]
    test_annotations: PathBuf,
    /// Directory of the images to test on
    #[arg(long, value_name = "DIR", required_unless_present = "labels_only")]
    test_images: Option<PathBuf>,
    /// Two-level taxonomy as JSON [default: COCO's 80 classes in 11 categories]
    #[arg(long, value_name = "FILE")]
    taxonomy: Option<PathBuf>,
    /// Import labels without images; such a data set shows its counts and cannot be trained on
    #[arg(long, conflicts_with_all = ["train_images", "test_images", "verify"])]
    labels_only: bool,
    /// Decode every kept image, and refuse the import when one does not decode
    ///
    /// Without it the import looks only whether each kept image's file is there.
    #[arg(long)]
    verify: bool,
    #[command(flatten)]
    data: DataConfig,
    /// Print the data set as JSON, the same as `GET /api/v1/datasets/NAME`
    #[arg(long)]
    json: bool,
}

/// Imports, records, and prints what was kept.
pub fn import(args: ImportArgs) -> Result<(), Failure> {
    let taxonomy = taxonomy(args.taxonomy.as_deref())?;
    let directories = match (&args.train_images, &args.test_images) {
        (Some(train), Some(test)) => Some((directory("--train-images", train)?, directory("--test-images", test)?)),
        _ => None,
    };
    let opened = Opened::open(&args.data)?;
    opened.wait(opened.store.check_new_name(&args.name))?;

    let (train_images, test_images) = directories.clone().unzip();
    let train = CocoSource { annotations: args.train_annotations, images: train_images };
    let test = CocoSource { annotations: args.test_annotations, images: test_images };
    let options = ImportOptions { verify: args.verify, labels_only: args.labels_only };
    let view = View::new();
    let imported = coco::import(taxonomy, &train, &test, options, &|progress| view.show(progress));
    view.end();
    let imported = imported.map_err(|error| Failure::Failed(error.to_string()))?;

    let new = NewDataset { name: args.name.clone(), drawn: false, imported, directories };
    opened.wait(opened.store.import_dataset(new, Timestamp::now()))?;
    let report = opened.wait(opened.reports().dataset(&args.name))?;
    if args.json { print_json(&report) } else { print(&text(&report)) }
}

fn taxonomy(file: Option<&Path>) -> Result<Taxonomy, Failure> {
    let Some(file) = file else { return Ok(Taxonomy::coco()) };
    let wrong = |error: String| Failure::Failed(format!("{}: {error}", file.display()));
    let json = fs::read_to_string(file).map_err(|error| wrong(error.to_string()))?;
    Taxonomy::from_json(&json).map_err(wrong)
}

/// The directory's own path: the data set is read later, from elsewhere.
fn directory(flag: &str, path: &Path) -> Result<PathBuf, Failure> {
    let wrong = |why: String| Failure::Failed(format!("{flag} {}: {why}", path.display()));
    let absolute = fs::canonicalize(path).map_err(|error| wrong(error.to_string()))?;
    if absolute.is_dir() { Ok(absolute) } else { Err(wrong("it is not a directory".into())) }
}

/// Where the progress is drawn, from whichever thread it comes: a bar on a terminal, a line per phase elsewhere.
struct View {
    bar: Option<ProgressBar>,
    phase: Mutex<Option<ImportPhase>>,
}

impl View {
    fn new() -> Self {
        Self { bar: io::stderr().is_terminal().then(|| ProgressBar::new(0)), phase: Mutex::new(None) }
    }

    fn show(&self, progress: ImportProgress) {
        let mut phase = self.phase.lock().unwrap_or_else(PoisonError::into_inner);
        if *phase != Some(progress.phase) {
            *phase = Some(progress.phase);
            self.begin(progress);
        }
        if let Some(bar) = &self.bar {
            bar.set_position(progress.done);
        }
    }

    fn begin(&self, progress: ImportProgress) {
        let (template, line) = match progress.phase {
            ImportPhase::Annotations => (
                "reading annotations [{bar:30}] {bytes} of {total_bytes}, {bytes_per_sec}, {eta} left",
                format!("reading annotations: {} MB", count(progress.total / 1_000_000)),
            ),
            ImportPhase::Images => (
                "checking images [{bar:30}] {human_pos} of {human_len}, {per_sec}, {eta} left",
                format!("checking images: {}", count(progress.total)),
            ),
        };
        match &self.bar {
            Some(bar) => {
                let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
                bar.reset();
                bar.set_length(progress.total);
                bar.set_style(style.progress_chars("=> "));
            }
            None => eprintln!("{line}"),
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
