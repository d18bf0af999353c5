//! Where the progress is drawn: a bar for each run that runs, or a line for each of its phases.

use std::{
    collections::BTreeMap,
    io::{self, IsTerminal},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use crate::{
    cli::output::duration,
    domain::{RunId, RunStatus},
    report::{Progress, RunBrief},
};

/// “epoch 2 of 8, 25%, loss 1.234, 310 images/s, 41 s left”.
pub fn progress_words(progress: &Progress) -> String {
    format!("{}, {:.0}%{}", progress.phase, progress.fraction * 100.0, details(progress))
}

fn details(progress: &Progress) -> String {
    let loss = progress.loss.map(|loss| format!(", loss {loss:.3}"));
    let speed = progress.images_per_second.map(|speed| format!(", {speed:.0} images/s"));
    let left = progress.seconds_left.map(|left| format!(", {} left", duration(left)));
    [loss, speed, left].into_iter().flatten().collect()
}

pub(super) struct View {
    bars: MultiProgress,
    /// Whether there is a terminal to draw on.
    terminal: bool,
    /// Of several runs, how many have ended.
    all: Option<ProgressBar>,
    runs: BTreeMap<RunId, ProgressBar>,
    /// What the last line about a run said it does.
    said: BTreeMap<RunId, String>,
    ended: usize,
    count: usize,
}

impl View {
    /// Of so many runs.
    pub(super) fn new(count: usize) -> Self {
        let bars = MultiProgress::new();
        let terminal = io::stderr().is_terminal();
        let all = (terminal && count > 1).then(|| {
            let bar = bars.add(ProgressBar::new(count as u64));
            styled(bar, "{spinner} all [{bar:24}] {pos} of {len} ended")
        });
        Self { bars, terminal, all, runs: BTreeMap::new(), said: BTreeMap::new(), ended: 0, count }
    }

    /// The bars, to be cleared.
    pub(super) fn bars(&self) -> MultiProgress {
        self.bars.clone()
    }

    /// What a run is doing. `place`: in the queue, where it is known.
    pub(super) fn show(&mut self, run: &RunBrief, place: Option<u64>) {
        let progress = run.progress.as_ref().filter(|_| run.status == RunStatus::Running);
        let (state, line) = match (progress, place) {
            (Some(progress), _) => (progress.phase.clone(), progress_words(progress)),
            (None, Some(place)) => (run.status.to_string(), format!("{}, number {place}", run.status)),
            (None, None) => (run.status.to_string(), run.status.to_string()),
        };
        if !self.terminal {
            if self.said.get(&run.id) != Some(&state) {
                eprintln!("run {}: {line}", run.id);
                self.said.insert(run.id, state);
            }
        } else if run.status == RunStatus::Running || self.count == 1 {
            let bar = self.bar(run.id);
            bar.set_position(progress.map_or(0, |progress| (progress.fraction * 1000.0).round() as u64));
            bar.set_message(match progress {
                Some(progress) => format!("{}{}", progress.phase, details(progress)),
                None => line,
            });
        } else {
            // Given back to the queue.
            self.remove(run.id);
        }
    }

    /// A run has ended. Of several, each is named.
    pub(super) fn ended(&mut self, run: &RunBrief) {
        self.remove(run.id);
        self.ended += 1;
        if let Some(all) = &self.all {
            all.set_position(self.ended as u64);
        }
        if self.count > 1 {
            let why = run.error.as_ref().map_or_else(String::new, |error| format!(": {error}"));
            self.say(&format!("run {}: {} ({} of {}){why}", run.id, run.status, self.ended, self.count));
        }
    }

    /// A line above the bars.
    pub(super) fn say(&self, line: &str) {
        self.bars.suspend(|| eprintln!("{line}"));
    }

    /// Takes the bars away.
    pub(super) fn clear(&mut self) {
        // The screen is as good as gone if it cannot be cleared.
        let _ = self.bars.clear();
    }

    fn bar(&mut self, run: RunId) -> &ProgressBar {
        let (bars, all) = (&self.bars, &self.all);
        self.runs.entry(run).or_insert_with(|| {
            let bar = ProgressBar::new(1000).with_prefix(format!("run {run}"));
            let bar = match all {
                Some(all) => bars.insert_before(all, bar),
                None => bars.add(bar),
            };
            styled(bar, "{spinner} {prefix} [{bar:24}] {percent:>3}% {msg}")
        })
    }

    fn remove(&mut self, run: RunId) {
        if let Some(bar) = self.runs.remove(&run) {
            bar.finish_and_clear();
            self.bars.remove(&bar);
        }
    }
}

fn styled(bar: ProgressBar, template: &str) -> ProgressBar {
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
    bar.enable_steady_tick(Duration::from_millis(120));
    bar
}
