//! A run as plain text.

use super::output::{Align, Table, UNDEFINED, count, duration, interval, number, time};
use crate::{
    domain::{Counts, RunStatus, spec::Fields},
    report::{RunReport, RunResults, bytes_words},
};

/// How many of the log's last lines are shown.
const LOG_LINES: usize = 8;

/// Everything there is to say about a run: what it was asked to do, how far it is, what came out.
pub fn text(run: &RunReport) -> String {
    let mut text = format!("Run {} “{}”\n", run.brief.id, run.brief.name);
    text.push_str(&facts(run).render());
    text.push_str("\nSpecification\n");
    text.push_str(&specification(&run.spec).render());
    if let Some(results) = &run.results {
        text.push_str(&results_text(results));
    }
    let unfinished = match run.brief.status {
        RunStatus::Succeeded => false,
        RunStatus::Queued | RunStatus::Running | RunStatus::Failed | RunStatus::Canceled => true,
    };
    if unfinished && !run.log.is_empty() {
        text.push_str("\nLog\n");
        for line in &run.log[run.log.len().saturating_sub(LOG_LINES)..] {
            text.push_str(&format!("  {}  {}\n", time(&line.at), line.text));
        }
    }
    text
}

fn facts(run: &RunReport) -> Table {
    let brief = &run.brief;
    let mut table = Table::facts().indented(2);
    let seconds = run.seconds.map_or_else(String::new, |seconds| format!(" ({})", duration(seconds)));
    table.fact("status", format!("{}{seconds}", brief.status));
    if let Some(place) = run.queue_position {
        table.fact("queue", format!("number {place}"));
    }
    if let (RunStatus::Running, Some(progress)) = (brief.status, &brief.progress) {
        table.fact("progress", super::wait::progress_words(progress));
    }
    if let Some(error) = &brief.error {
        table.fact("error", error);
    }
    table.fact("data set", format!("{}{}", brief.dataset, if brief.drawn { " (drawn, not photographed)" } else { "" }));
    table.fact("submitted", time(&brief.submitted_at));
    for (name, value) in [("started", &brief.started_at), ("ended", &brief.finished_at)] {
        if let Some(value) = value {
            table.fact(name, time(value));
        }
    }
    if let Some(bytes) = brief.disk_bytes {
        table.fact("on disk", bytes_words(bytes));
    }
    if !brief.tags.is_empty() {
        table.fact("tags", brief.tags.join(", "));
    }
    if !run.note.is_empty() {
        table.fact("note", run.note.replace('\n', " "));
    }
    if !run.slurm.is_empty() {
        table.fact("slurm", run.slurm.to_string());
    }
    if let Some(last) = run.epochs.last() {
        let validation = last.validation_loss.map_or_else(String::new, |loss| format!(", on validation {loss:.4}"));
        table.fact("last epoch", format!("{}: loss {:.4}{validation}", last.epoch, last.train_loss));
    }
    if let Some(kept) = run.kept_in_words() {
        table.fact("kept", kept);
    }
    table
}

fn specification(spec: &Fields) -> Table {
    let mut table = Table::facts().indented(2);
    // The names are those of the JSON and of the flags.
    for (name, value) in [
        ("backbone", spec.backbone.to_string()),
        ("objective", spec.objective.to_string()),
        ("input_size", spec.input_size.to_string()),
        ("epochs", spec.epochs.to_string()),
        ("batch_size", spec.batch_size.to_string()),
        ("optimizer", spec.optimizer.to_string()),
        ("learning_rate", spec.learning_rate.to_string()),
        ("momentum", spec.momentum.to_string()),
        ("nesterov", spec.nesterov.to_string()),
        ("schedule", spec.schedule.to_string()),
        ("warmup_epochs", spec.warmup_epochs.to_string()),
        ("weight_decay", spec.weight_decay.to_string()),
        ("decay_biases_and_norms", spec.decay_biases_and_norms.to_string()),
        ("clip_norm", spec.clip_norm.map_or_else(|| "off".into(), |norm| norm.to_string())),
        ("unfreeze", spec.unfreeze.to_string()),
        ("keep", spec.keep.to_string()),
        ("patience", spec.patience.map_or_else(|| "off".into(), |epochs| epochs.to_string())),
        ("sampling", spec.sampling.to_string()),
        ("augmentation", spec.augmentation.to_string()),
        ("focal_alpha", spec.focal_alpha.to_string()),
        ("focal_gamma", spec.focal_gamma.to_string()),
        ("threshold", spec.threshold.get().to_string()),
        ("coarse_input", spec.coarse_input.to_string()),
        ("initial_weights", spec.initial_weights.clone().unwrap_or_else(|| "random, from the seed".into())),
        ("seed", spec.seed.to_string()),
        ("threads", if spec.threads == 0 { "one per core".into() } else { spec.threads.to_string() }),
        ("device", spec.device.to_string()),
    ] {
        table.fact(name, value);
    }
    table
}

fn results_text(results: &RunResults) -> String {
    let rule = results.rule.as_deref().unwrap_or("none: categories alone");
    let mut text = format!("\nResults on {} test images, decision rule: {rule}\n", count(results.test_images));
    let mut table =
        Table::new(&[("", Align::Left), ("value", Align::Right), ("95% interval", Align::Left)]).indented(2);
    let figures = &results.figures;
    for (name, figure) in [
        ("IA", &figures.ia),
        ("IP", &figures.ip),
        ("IR", &figures.ir),
        ("IF1", &figures.if1),
        ("coarse accuracy", &figures.coarse_accuracy),
        ("fine exact match", &figures.fine_exact_match),
    ] {
        table.row([name.to_owned(), number(figure.value), interval(figure)]);
    }
    text.push_str(&table.render());
    text.push_str(&match results.counts {
        Some(counts) => counts_text(counts),
        None => format!(
            "\n  category right in {} of {} images; fine labels: {UNDEFINED}\n",
            count(results.coarse_correct),
            count(results.test_images)
        ),
    });
    text
}

fn counts_text(counts: Counts) -> String {
    let columns = [("", Align::Left), ("category right", Align::Right), ("category wrong", Align::Right)];
    let mut table = Table::new(&columns).indented(2);
    let cell = |code: &str, value: u64| format!("{code} {}", count(value));
    table.row(["fine labels right".to_owned(), cell("FTCT", counts.ftct), cell("FTCF", counts.ftcf)]);
    table.row(["fine labels wrong".to_owned(), cell("FFCT", counts.ffct), cell("FFCF", counts.ffcf)]);
    format!("\n{}", table.render())
}
