//! Waiting for the end of a run: a progress bar on a terminal, plain lines elsewhere. All on standard error.

use std::{
    io::{self, IsTerminal},
    process, thread,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::{
    client::{Answer, Client, Refusal},
    failure::Failure,
    output::duration,
};
use crate::{
    domain::{RunId, RunStatus},
    report::{Progress, RunReport},
};

/// About three looks a second.
const PERIOD: Duration = Duration::from_millis(330);
/// A server that is restarted has this long to come back.
const PATIENCE: Duration = Duration::from_secs(30);
/// Without a terminal, a line at least this often while something happens.
const LINE_PERIOD: Duration = Duration::from_secs(15);
/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

/// Looks at the runs, one after the other, until each has ended. Ctrl-C ends the process and leaves them running.
pub fn until_the_end(client: &Client, ids: &[RunId]) -> Result<Vec<(Answer, RunReport)>, Failure> {
    let bars = MultiProgress::new();
    leave_on_interrupt(ids, bars.clone());
    let mut ended = Vec::with_capacity(ids.len());
    for (&id, number) in ids.iter().zip(1..) {
        let place = if ids.len() == 1 { String::new() } else { format!(" ({number} of {})", ids.len()) };
        let (answer, run) = end_of(client, id, View::new(id, &place, &bars))?;
        if ids.len() > 1 {
            eprintln!("run {id}{place}: {}", run.brief.status);
        }
        ended.push((answer, run));
    }
    Ok(ended)
}

fn end_of(client: &Client, id: RunId, mut view: View) -> Result<(Answer, RunReport), Failure> {
    let mut silent_since: Option<Instant> = None;
    loop {
        match client.get(&format!("api/v1/runs/{id}"), &()) {
            Ok(answer) => {
                silent_since = None;
                let run: RunReport = answer.parse()?;
                if run.brief.status.is_final() {
                    view.end();
                    return Ok((answer, run));
                }
                view.show(&run);
            }
            Err(Refusal::NoAnswer(message)) => {
                if silent_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
                    view.end();
                    return Err(Failure::Failed(format!(
                        "{message}; run {id} is kept, and goes on when the server is there again"
                    )));
                }
            }
            Err(refusal @ Refusal::Answered(_)) => {
                view.end();
                return Err(refusal.into());
            }
        }
        thread::sleep(PERIOD);
    }
}

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

/// Where the progress is drawn.
struct View {
    id: RunId,
    bar: Option<ProgressBar>,
    said: String,
    said_at: Instant,
}

impl View {
    fn new(id: RunId, place: &str, bars: &MultiProgress) -> Self {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {prefix} [{bar:24}] {percent:>3}% {msg}");
            let bar = bars.add(ProgressBar::new(1000).with_prefix(format!("run {id}{place}")));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()).progress_chars("=> "));
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        Self { id, bar, said: String::new(), said_at: Instant::now() }
    }

    fn show(&mut self, run: &RunReport) {
        let progress = run.brief.progress.as_ref().filter(|_| run.brief.status == RunStatus::Running);
        // What tells one line from the next; the figures alone are news only after a while.
        let (state, line) = match (progress, run.queue_position) {
            (Some(progress), _) => (progress.phase.clone(), progress_words(progress)),
            (None, Some(place)) => (format!("queued, number {place}"), format!("queued, number {place}")),
            (None, None) => (run.brief.status.to_string(), run.brief.status.to_string()),
        };
        if let Some(bar) = &self.bar {
            bar.set_position(progress.map_or(0, |progress| (progress.fraction * 1000.0).round() as u64));
            bar.set_message(match progress {
                Some(progress) => format!("{}{}", progress.phase, details(progress)),
                None => line,
            });
        } else if state != self.said || (self.said_at.elapsed() > LINE_PERIOD && progress.is_some()) {
            eprintln!("run {}: {line}", self.id);
            self.said = state;
            self.said_at = Instant::now();
        }
    }

    fn end(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// On Ctrl-C: says that the runs go on, and ends the process at once, whatever request is under way.
fn leave_on_interrupt(ids: &[RunId], bars: MultiProgress) {
    let goes_on = match ids {
        [id] => {
            format!("run {id} goes on; see it with `twograin run show {id}`, stop it with `twograin run cancel {id}`")
        }
        _ => "the runs go on; see them with `twograin run list`, stop one with `twograin run cancel ID`".into(),
    };
    thread::spawn(move || {
        // Without a handler Ctrl-C ends the process just the same, only without the sentence.
        let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return };
        if runtime.block_on(tokio::signal::ctrl_c()).is_ok() {
            // The screen is as good as gone if it cannot be cleared.
            let _ = bars.clear();
            eprintln!("{goes_on}");
            process::exit(INTERRUPTED);
        }
    });
}
