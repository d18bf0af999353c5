//! The estimate of an experiment's cost: a short measurement of each backbone on this machine, and what follows from it.

use std::collections::{BTreeMap, btree_map::Entry};

use crate::{
    benchmark::{Case, Pass},
    cli::{
        bench,
        client::Client,
        failure::Failure,
        output::{Align, Table, duration},
    },
    domain::{RunSpec, spec::Device},
    experiment::{Estimate, Images, Speed},
    report::DatasetBrief,
};

/// Images at once in the measurement at 224 pixels, and in proportion elsewhere, if the runs have not fewer: steps of some
/// seconds say no more than shorter ones.
const BATCH: usize = 8;
/// Seconds for each measurement, if three steps take no longer.
const SECONDS: u32 = 1;

/// What the runs that are still to be made will cost; `None` without any.
pub fn estimate<'a>(
    dataset: &DatasetBrief,
    missing: impl Iterator<Item = &'a RunSpec> + Clone,
) -> Result<Option<Estimate>, Failure> {
    let mut speeds = BTreeMap::new();
    for spec in missing.clone() {
        if let Entry::Vacant(entry) = speeds.entry(spec.backbone) {
            eprintln!("measuring {} …", spec.backbone);
            entry.insert(measure(spec)?);
        }
    }
    if speeds.is_empty() {
        return Ok(None);
    }
    let images = Images {
        train: dataset.train_images,
        test: dataset.test_images,
        fine: dataset.fine_labels as u64,
        coarse: dataset.coarse_categories as u64,
    };
    Ok(Some(Estimate::of(missing, images, &speeds)))
}

fn measure(spec: &RunSpec) -> Result<Speed, Failure> {
    let measure = |pass| {
        let input_size = spec.input_size;
        let most = (BATCH * 224 * 224 / (input_size * input_size)).max(2);
        let batch = spec.batch_size.min(most);
        let case = Case { backbone: spec.backbone, pass, batch, input_size };
        bench::measure_in_child(case, spec.threads as u32, SECONDS)
    };
    let (train, infer) = (measure(Pass::Train)?, measure(Pass::Infer)?);
    Ok(Speed { train: train.images_per_second, infer: infer.images_per_second, parameters: train.parameters })
}

/// The estimate, and how it was made.
pub fn text(estimate: &Estimate, client: &Client, device: Device) -> String {
    let mut table = Table::new(&[
        ("BACKBONE", Align::Left),
        ("RUNS", Align::Right),
        ("TRAINS IMAGES/S", Align::Right),
        ("INFERS IMAGES/S", Align::Right),
        ("TIME", Align::Right),
        ("DISK", Align::Right),
    ])
    .indented(2);
    for row in &estimate.backbones {
        table.row([
            row.backbone.to_string(),
            row.runs.to_string(),
            format!("{:.1}", row.train_images_per_second),
            format!("{:.1}", row.infer_images_per_second),
            long(row.seconds),
            size(row.bytes),
        ]);
    }
    let runs: usize = estimate.backbones.iter().map(|row| row.runs).sum();
    table.row(["together", &runs.to_string(), "", "", &long(estimate.seconds), &size(estimate.bytes)]);
    let elsewhere =
        if client.is_local() { "" } else { "\n  Measured on this machine; the server, which trains, is another one." };
    let device = match device {
        Device::Cpu => String::new(),
        Device::Cuda(_) => format!("\n  Measured on the processor; on {device} it takes less."),
    };
    format!(
        "Estimate for the runs that are not there yet, one after the other:\n{}  \
         Time: training images × epochs, validation after each epoch, the images learned from once more where there are fine\n  \
         labels, and the test images, each by the speed that a measurement of some seconds found, with random images and, at\n  \
         224 pixels, {BATCH} at once. Reading and decoding files is left out, as is whatever else the machine has to do.\n  \
         Disk: weights and scores.\
         {elsewhere}{device}",
        table.render()
    )
}

/// Days from two of them on.
fn long(seconds: f64) -> String {
    const DAY: f64 = 86_400.0;
    if seconds < 2.0 * DAY { duration(seconds) } else { format!("{:.1} days", seconds / DAY) }
}

/// In kB, MB or GB.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}
