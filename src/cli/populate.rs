//! `twograin bench populate`: a data directory of any size, to measure and try pages and API with.

use std::{error::Error, ops::Range, path::Path};

use clap::Args;
use indicatif::ProgressBar;
use jiff::{SignedDuration, Timestamp};
use rayon::prelude::*;

use super::{
    bench::bar,
    dataset::Opened,
    failure::Failure,
    output::{count, plural, print},
};
use crate::{
    analysis::{Truth, judge_all},
    benchmark::synthetic::{self, SyntheticImages, dataset_name},
    config::DataConfig,
    domain::{DatasetId, RunId, Split},
    store::{FinishedRun, NewDataset, NewOutcomes},
    worker::protocol::{Artifact, ArtifactKind},
};

/// Examples of the help.
pub const EXAMPLES: &str = "\
Examples:
  twograin bench populate --data-dir big --images 100000 --runs 18
  twograin bench populate --data-dir many --images 2000 --runs 10000 --without-scores";

/// How much memory the scores of the runs that are made at once may take, in bytes.
const MEMORY: usize = 1 << 30;
/// The most runs that are recorded in one transaction.
const BATCH: usize = 64;

/// When the first run began, in seconds since 1970: 2026-01-01. Times are made up as all the rest.
const FIRST: i64 = 1_767_225_600;

/// What is made.
#[derive(Args, Clone, Debug)]
pub struct PopulateArgs {
    #[command(flatten)]
    data: DataConfig,

    /// Test images; a fifth as many to learn from come with them
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    images: u32,

    /// Runs that have succeeded on them
    #[arg(long, value_name = "M", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    runs: u32,

    /// Keep outcomes alone and no scores: pages that compute from scores say that there are none
    #[arg(long)]
    without_scores: bool,
}

/// What every run is made from.
struct Plan {
    images: SyntheticImages,
    dataset: String,
    first: Timestamp,
    without_scores: bool,
}

/// Makes the data set, where it is not there yet, and the runs that it does not have yet.
pub fn populate(args: &PopulateArgs) -> Result<(), Failure> {
    let (opened, _lock) = Opened::alone(&args.data)?;
    let (images, runs) = (args.images as usize, args.runs as usize);
    let plan = Plan {
        images: SyntheticImages::new(images),
        dataset: dataset_name(images),
        first: Timestamp::from_second(FIRST).map_err(|error| Failure::because("no time", &error))?,
        without_scores: args.without_scores,
    };
    let (dataset, there) = plan.dataset(&opened)?;
    let made = runs.saturating_sub(there);
    let bar = bar(made);
    bar.set_message(format!("runs on {} images", count(images as u64)));
    plan.make(&opened, dataset, there..runs, &bar)?;
    bar.finish_and_clear();
    print(&format!(
        "The data set “{}” has {}, {} of them new. Look at it with\n\n  twograin serve --data-dir {}",
        plan.dataset,
        plural(runs.max(there) as u64, "run"),
        count(made as u64),
        args.data.data_dir.display()
    ))
}

impl Plan {
    /// The data set's number, and how many runs it has.
    fn dataset(&self, opened: &Opened) -> Result<(DatasetId, usize), Failure> {
        let imported = self.images.imported();
        let new = NewDataset { name: self.dataset.clone(), drawn: false, imported, directories: None };
        if let Some(there) = opened.wait(opened.store.find_dataset(&self.dataset))? {
            if there.fingerprint != new.fingerprint() {
                return Err(Failure::Failed(format!(
                    "there is a data set “{}” that was not made so; choose another --data-dir or another number of images",
                    self.dataset
                )));
            }
            return Ok((there.id, usize::try_from(there.runs).unwrap_or(usize::MAX)));
        }
        Ok((opened.wait(opened.store.import_dataset(new, self.first))?, 0))
    }

    fn make(&self, opened: &Opened, dataset: DatasetId, runs: Range<usize>, bar: &ProgressBar) -> Result<(), Failure> {
        let floats = self.images.taxonomy().fine().len() + self.images.taxonomy().coarse().len();
        let images = self.images.of(Split::Test, 0).len() + self.images.of(Split::Validation, 0).len();
        // Twice: as numbers, and as the bytes that are written.
        let batch = (MEMORY / (2 * 4 * floats * images)).clamp(1, BATCH);
        let runs: Vec<usize> = runs.collect();
        for indices in runs.chunks(batch) {
            let first = opened.wait(opened.store.next_run())?;
            let numbered: Vec<(i64, usize)> = (first.0..).zip(indices.iter().copied()).collect();
            let made = numbered
                .into_par_iter()
                .map(|(id, index)| {
                    let run = self.run(index, RunId(id), &opened.store.finished_directory(RunId(id)));
                    bar.inc(1);
                    run
                })
                .collect::<Result<Vec<FinishedRun>, Failure>>()?;
            opened.wait(opened.store.record_finished(dataset, &made))?;
        }
        Ok(())
    }

    /// Run `index`, whose files are in `directory` afterwards.
    fn run(&self, index: usize, id: RunId, directory: &Path) -> Result<FinishedRun, Failure> {
        let submission = synthetic::submission(index, &self.dataset).map_err(Failure::Failed)?;
        let failed = |error: &(dyn Error + 'static)| Failure::because(format!("run {id}"), error);
        let (mut artifacts, mut outcomes) = (Vec::new(), Vec::new());
        for (split, kind) in
            [(Split::Validation, ArtifactKind::ScoresValidation), (Split::Test, ArtifactKind::ScoresTest)]
        {
            let images = self.images.of(split, submission.spec.seed);
            let scores = self.images.scores(index, &submission.spec, split);
            let truths = images.iter().map(|image| Truth { fine: &image.labels, coarse: image.coarse });
            let judgements = judge_all(&scores, truths, submission.spec.own_rule().as_ref());
            outcomes.push(NewOutcomes { split, judgements });
            if !self.without_scores {
                let path = format!("{}.safetensors", kind.as_str());
                std::fs::create_dir_all(directory).map_err(|error| failed(&error))?;
                let sha256 = scores.write(&directory.join(&path)).map_err(|error| failed(&error))?;
                artifacts.push(Artifact { kind, path: path.into(), sha256: sha256.0 });
            }
        }
        let epochs = synthetic::curve(&submission.spec, outcomes[0].judgements.tally());
        let seconds = epochs.iter().map(|point| point.seconds).sum::<f64>() as i64;
        let at =
            |seconds: i64| self.first.checked_add(SignedDuration::from_secs(seconds)).map_err(|error| failed(&error));
        let started = 60 * i64::try_from(index).unwrap_or(i64::MAX);
        let (started_at, finished_at) = (at(started)?, at(started + seconds)?);
        Ok(FinishedRun { id, submission, epochs, artifacts, outcomes, started_at, finished_at })
    }
}
