//! `twograin bench`: each measurement in a process of its own, so that its peak memory is its own too.

use std::{
    io::{self, IsTerminal},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::{
    failure::Failure,
    output::{Align, Table, UNDEFINED, print},
    populate::{self, PopulateArgs},
    submit::one_of,
};
use crate::{
    benchmark::{Case, LoaderCase, Pass, Row, measure, measure_loader},
    domain::{
        RunSpec,
        spec::{Augmentation, Backbone},
    },
    training::environment,
};

/// Examples of the help.
pub const EXAMPLES: &str = "\
Examples:
  twograin bench                                            every backbone, in some minutes
  twograin bench --backbone resnet34 --pass train --json    one row for a script
  twograin bench --batch 8 --input-size 64 --threads 4      other sizes than those of the paper
  twograin bench --loader photos --threads 2                how fast these images are decoded and augmented
  twograin bench populate --data-dir big --images 100000 --runs 18      data to measure pages and API with";

/// What is measured, and how.
#[derive(Args, Clone, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub struct BenchArgs {
    #[command(subcommand)]
    command: Option<BenchCommand>,

    /// Backbone; give it several times for several [default: all]
    #[arg(long = "backbone", value_name = "BACKBONE", value_parser = one_of(Backbone::ALL, Backbone::as_str))]
    backbones: Vec<Backbone>,

    /// Training step or inference; give it twice for both [default: both]
    #[arg(long = "pass", value_name = "PASS", value_parser = one_of(Pass::ALL, Pass::as_str))]
    passes: Vec<Pass>,

    /// Images at once, 1 to 4096 (training: at least 2) [default: 16, and 1 for inference]
    #[arg(long = "batch", value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    batches: Vec<u32>,

    /// Side of the square input in pixels, 32 to 1024
    #[arg(long, value_name = "PIXELS", default_value_t = 224, value_parser = clap::value_parser!(u32)
        .range(RunSpec::MIN_INPUT_SIZE as i64..=RunSpec::MAX_INPUT_SIZE as i64))]
    input_size: u32,

    /// Threads that compute; 0 means one per core
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1024))]
    threads: u32,

    /// How long each row is measured, in seconds, after a first step; at least three steps are
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u32).range(..=3600))]
    seconds: u32,

    /// Measure instead how fast the images of this directory and its folders are loaded for training, in batches of 32
    #[arg(long, value_name = "DIR", conflicts_with_all = ["backbones", "passes"])]
    loader: Option<PathBuf>,

    /// What is done to the images of --loader
    #[arg(long, value_name = "KIND", default_value = "crop-flip", requires = "loader",
        value_parser = one_of(Augmentation::ALL, Augmentation::as_str))]
    augmentation: Augmentation,

    /// Print the rows as JSON
    #[arg(long)]
    json: bool,

    /// Measure the one row in this process
    #[arg(long, hide = true)]
    here: bool,
}

#[derive(Clone, Debug, Subcommand)]
enum BenchCommand {
    /// Fill a data directory with synthetic runs, to measure and try pages and API at any size
    ///
    /// Makes the data set synthetic-N: COCO's labels, drawn at random, without images. Its runs have succeeded, with outcomes and
    /// scores that models could have given, and no weights; their names, tags and notes say that they are synthetic. The same
    /// numbers always make the same data; called with more runs, it makes the missing ones. No server may run on the directory.
    #[command(after_long_help = populate::EXAMPLES)]
    Populate(PopulateArgs),
}

/// Measures all rows and prints them.
pub fn bench(args: &BenchArgs) -> Result<(), Failure> {
    if let Some(BenchCommand::Populate(args)) = &args.command {
        return populate::populate(args);
    }
    if let Some(directory) = &args.loader {
        return bench_loader(directory, args);
    }
    let cases = cases(args)?;
    let mut rows = Vec::new();
    if let (true, [case]) = (args.here, cases.as_slice()) {
        rows.push(measure_here(*case, args)?);
    } else {
        let bar = bar(cases.len());
        for &case in &cases {
            bar.set_message(format!("{} {} batch {}", case.backbone, case.pass.as_str(), case.batch));
            rows.push(measure_in_child(case, args.threads, args.seconds)?);
            bar.inc(1);
        }
        bar.finish_and_clear();
    }
    if args.json { print_json(&rows) } else { print(&table(&rows)) }
}

fn print_json(rows: &[impl Serialize]) -> Result<(), Failure> {
    let text = serde_json::to_string(rows).map_err(|error| Failure::because("the rows cannot be printed", &error))?;
    print(&text)
}

fn bench_loader(directory: &Path, args: &BenchArgs) -> Result<(), Failure> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = if args.threads == 0 { cores() } else { args.threads as usize };
    let mut rows = Vec::new();
    for &batch in if args.batches.is_empty() { &[32] } else { args.batches.as_slice() } {
        let (augmentation, input_size) = (args.augmentation, args.input_size as usize);
        let case = LoaderCase { augmentation, batch: batch as usize, input_size, threads };
        let row = measure_loader(directory, case, Duration::from_secs(args.seconds.into()));
        rows.push(row.map_err(|error| Failure::because("nothing was measured", &error))?);
    }
    if args.json {
        return print_json(&rows);
    }
    let mut table = Table::new(&[
        ("FILES", Align::Right),
        ("AUGMENTATION", Align::Left),
        ("PIXELS", Align::Right),
        ("BATCH", Align::Right),
        ("THREADS", Align::Right),
        ("IMAGES/S", Align::Right),
        ("PEAK MIB", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.files.to_string(),
            row.augmentation.to_string(),
            row.input_size.to_string(),
            row.batch.to_string(),
            row.threads.to_string(),
            format!("{:.0}", row.images_per_second),
            row.peak_memory_mb.map_or(UNDEFINED.to_owned(), |mb| format!("{mb:.0}")),
        ]);
    }
    print(&table.render())
}

fn cases(args: &BenchArgs) -> Result<Vec<Case>, Failure> {
    let or_all = |given: &[Pass]| if given.is_empty() { Pass::ALL.to_vec() } else { given.to_vec() };
    let backbones = if args.backbones.is_empty() { Backbone::ALL } else { &args.backbones };
    let mut cases = Vec::new();
    for &backbone in backbones {
        for pass in or_all(&args.passes) {
            let batches = match (args.batches.as_slice(), pass) {
                ([], Pass::Train) => &[16][..],
                ([], Pass::Infer) => &[1, 16],
                (given, Pass::Train | Pass::Infer) => given,
            };
            for &batch in batches {
                if pass == Pass::Train && batch < 2 {
                    return Err(Failure::Usage(
                        "--batch 1 cannot be trained with: batch normalisation needs at least two images; add --pass infer"
                            .into(),
                    ));
                }
                cases.push(Case { backbone, pass, batch: batch as usize, input_size: args.input_size as usize });
            }
        }
    }
    Ok(cases)
}

fn measure_here(case: Case, args: &BenchArgs) -> Result<Row, Failure> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(args.threads as usize).build();
    let pool = pool.map_err(|error| Failure::because("no threads", &error))?;
    let row = pool.install(|| measure(case, Duration::from_secs(args.seconds.into())));
    row.map_err(|error| Failure::because(format!("{} {}", case.backbone, case.pass.as_str()), &error))
}

/// Measures in a process of its own, with so many threads (0: one per core) and for so many seconds.
pub(super) fn measure_in_child(case: Case, threads: u32, seconds: u32) -> Result<Row, Failure> {
    let name = format!("{} {} batch {}", case.backbone, case.pass.as_str(), case.batch);
    let failed = |error: &(dyn std::error::Error + 'static)| Failure::because(&name, error);
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["bench", "--here", "--json", "--backbone", case.backbone.as_str(), "--pass", case.pass.as_str()]);
    for (flag, value) in [
        ("--batch", case.batch.to_string()),
        ("--input-size", case.input_size.to_string()),
        ("--threads", threads.to_string()),
        ("--seconds", seconds.to_string()),
    ] {
        command.args([flag, &value]);
    }
    // As a worker trains, and as the server infers.
    if case.pass == Pass::Train {
        command.envs(environment());
    }
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| failed(&error))?;
    if !output.status.success() {
        return Err(Failure::Failed(format!("{name}: the measuring process ended with {}", output.status)));
    }
    let rows: Vec<Row> = serde_json::from_slice(&output.stdout).map_err(|error| failed(&error))?;
    rows.into_iter().next().ok_or_else(|| Failure::Failed(format!("{name}: no row was measured")))
}

/// On a terminal; elsewhere nothing is drawn.
pub(super) fn bar(rows: usize) -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(rows as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:24} {pos}/{len} {msg} {elapsed}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&[
        ("BACKBONE", Align::Left),
        ("PASS", Align::Left),
        ("BATCH", Align::Right),
        ("IMAGES/S", Align::Right),
        ("MS/BATCH", Align::Right),
        ("OF GEMM", Align::Right),
        ("PEAK MIB", Align::Right),
    ]);
    for row in rows {
        table.row([
            row.backbone.to_string(),
            row.pass.as_str().to_owned(),
            row.batch.to_string(),
            format!("{:.1}", row.images_per_second),
            format!("{:.1}", 1e3 * row.batch as f64 / row.images_per_second),
            format!("{:.2}", row.gemm_share),
            row.peak_memory_mb.map_or(UNDEFINED.to_owned(), |mb| format!("{mb:.0}")),
        ]);
    }
    let best = rows.iter().map(|row| row.gemm_gflops).fold(0.0, f64::max);
    let threads = rows.first().map_or(0, |row| row.threads);
    let cores = thread::available_parallelism().map_or(threads, usize::from);
    let head = format!(
        "Matrix products: {best:.0} GFLOP/s with {threads} threads on {cores} cores. OF GEMM: what the convolutions and linear\n\
         layers would need of it by their definition; more than 1 where an algorithm needs fewer operations."
    );
    format!("{head}\n\n{}", table.render())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn of(flags: &[&str]) -> Result<Vec<Case>, Failure> {
        cases(&Line::try_parse_from([&["bench"], flags].concat()).unwrap_or_else(|error| panic!("{error}")).bench)
    }

    #[test]
    fn there_are_three_rows_for_each_backbone() {
        let all = of(&[]).unwrap();
        assert_eq!(all.len(), 3 * Backbone::ALL.len());
        let first: Vec<_> = all[..3].iter().map(|case| (case.pass, case.batch)).collect();
        assert_eq!(first, [(Pass::Train, 16), (Pass::Infer, 1), (Pass::Infer, 16)]);
        let one = of(&["--backbone", "vgg16", "--pass", "infer", "--batch", "4", "--input-size", "64"]).unwrap();
        assert_eq!(one, [Case { backbone: Backbone::Vgg16, pass: Pass::Infer, batch: 4, input_size: 64 }]);
    }

    #[test]
    fn loading_is_measured_without_a_network() {
        assert!(Line::try_parse_from(["bench", "--loader", "photos", "--threads", "2"]).is_ok());
        assert!(Line::try_parse_from(["bench", "--loader", "photos", "--backbone", "vgg16"]).is_err());
        assert!(Line::try_parse_from(["bench", "--augmentation", "flip"]).is_err());
    }

    #[test]
    fn a_batch_that_cannot_be_trained_with_is_refused() {
        assert!(of(&["--batch", "1"]).unwrap_err().to_string().contains("at least two images"));
        assert!(of(&["--batch", "1", "--pass", "infer"]).is_ok());
        assert!(Line::try_parse_from(["bench", "--input-size", "16"]).is_err());
    }
}
