//! Waiting for the end of runs: progress bars on a terminal, plain lines elsewhere. All on standard error.
//!
//! It lives on the server's events. When the server goes away, the waiting goes on where it was once the server is there again.

mod view;

use std::{
    collections::{BTreeMap, BTreeSet},
    process, thread,
    time::{Duration, Instant},
};

use clap::Args;

use super::{
    client::{Answer, Client, Refusal},
    events::Event,
    failure::Failure,
    output::print,
    run, run_report,
};
use crate::{
    domain::{RunId, RunStatus},
    report::{RunBrief, RunReport},
};

use view::View;
pub use view::progress_words;

/// Between two tries to reach the server.
const PAUSE: Duration = Duration::from_millis(500);
/// A server that is restarted, or its machine, has this long to come back.
const PATIENCE: Duration = Duration::from_secs(600);
/// The exit code of a program that Ctrl-C ended.
const INTERRUPTED: i32 = 130;

#[derive(Args, Debug)]
pub struct WaitArgs {
    /// Numbers of the runs
    #[arg(value_name = "ID", required = true)]
    ids: Vec<RunId>,
    /// Print the runs as the server's JSON, as they are at the end: one as it is, several as {"items": […]}
    #[arg(long)]
    json: bool,
}

/// `twograin run wait`: whether all of them succeeded.
pub fn wait(client: &Client, args: &WaitArgs) -> Result<bool, Failure> {
    // What is not there, or no server at all, is said at once.
    for id in &args.ids {
        client.get(&format!("api/v1/runs/{id}"), &())?;
    }
    let ended = until_the_end(client, &args.ids)?;
    match (ended.as_slice(), args.json) {
        ([(answer, _)], true) => print(answer.text())?,
        ([(_, run)], false) => print(&run_report::text(run))?,
        (several, true) => {
            let texts: Vec<&str> = several.iter().map(|(answer, _)| answer.text()).collect();
            print(&format!("{{\"items\": [{}]}}", texts.join(", ")))?;
        }
        (several, false) => print(&run::table(several.iter().map(|(_, run)| &run.brief)))?,
    }
    Ok(ended.iter().all(|(_, run)| run.brief.status == RunStatus::Succeeded))
}

/// Follows the runs, all at once, until each has ended, and gives them in the order of `ids`. Ctrl-C ends the process and
/// leaves them running.
pub fn until_the_end(client: &Client, ids: &[RunId]) -> Result<Vec<(Answer, RunReport)>, Failure> {
    let following = Following::new(client, ids);
    leave_on_interrupt(ids, following.view.bars());
    following.follow(PATIENCE)
}

struct Following<'a> {
    client: &'a Client,
    ids: &'a [RunId],
    view: View,
    waiting: BTreeSet<RunId>,
    ended: BTreeMap<RunId, (Answer, RunReport)>,
    /// The id of the last event, to go on from.
    heard: Option<String>,
    /// Whether what the runs are is to be looked up, because no event tells.
    look: bool,
    /// Since when there is no answer.
    silent: Option<Instant>,
}

impl<'a> Following<'a> {
    fn new(client: &'a Client, ids: &'a [RunId]) -> Self {
        let waiting = BTreeSet::from_iter(ids.iter().copied());
        let view = View::new(waiting.len());
        Self { client, ids, view, waiting, ended: BTreeMap::new(), heard: None, look: true, silent: None }
    }

    fn follow(mut self, patience: Duration) -> Result<Vec<(Answer, RunReport)>, Failure> {
        let done = self.until_none_waits(patience);
        self.view.clear();
        done?;
        Ok(self.ids.iter().filter_map(|id| self.ended.get(id).cloned()).collect())
    }

    fn until_none_waits(&mut self, patience: Duration) -> Result<(), Failure> {
        while !self.waiting.is_empty() {
            match self.listen() {
                Ok(()) => {}
                Err(Refusal::NoAnswer(message)) => {
                    if self.silent.is_none() {
                        self.view.say("the server does not answer; waiting for it");
                    }
                    if self.silent.get_or_insert_with(Instant::now).elapsed() >= patience {
                        let kept = "the runs are kept, and go on when the server is there again";
                        return Err(Failure::Failed(format!("{message}; {kept}")));
                    }
                }
                Err(refusal @ Refusal::Answered(_)) => return Err(refusal.into()),
            }
            if !self.waiting.is_empty() {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }

    /// Hears what happens until nothing is waited for any more, or the stream ends.
    fn listen(&mut self) -> Result<(), Refusal> {
        let path = match self.ids {
            [id] => format!("api/v1/runs/{id}/events"),
            _ => "api/v1/events".into(),
        };
        let mut events = self.client.events(&path, self.heard.as_deref())?;
        if self.silent.take().is_some() {
            self.view.say("the server answers again");
        }
        // Without an id, what happened before the stream began is not told by it.
        if self.look || self.heard.is_none() {
            self.look()?;
        }
        while !self.waiting.is_empty() {
            // A stream that breaks is taken up again; whether the server is gone shows then.
            let Ok(Some(event)) = events.next() else { return Ok(()) };
            self.hear(&event)?;
            self.heard = events.id.clone().or(self.heard.take());
        }
        Ok(())
    }

    fn hear(&mut self, event: &Event) -> Result<(), Refusal> {
        let odd = |error: serde_json::Error| {
            Refusal::Answered(format!("the server's event is not understood ({error}); is it of another version?"))
        };
        match event.kind.as_str() {
            "run" => {
                let run: RunBrief = serde_json::from_str(&event.data).map_err(odd)?;
                match self.waiting.contains(&run.id) {
                    true if run.status.is_final() => self.look_at(run.id)?,
                    true => self.view.show(&run, None),
                    false => {}
                }
            }
            "deleted" => {
                let run: RunId = serde_json::from_str(&event.data).map_err(odd)?;
                if self.waiting.contains(&run) {
                    return Err(Refusal::Answered(format!("run {run} was deleted")));
                }
            }
            "missed" => self.look()?,
            // What the server itself is doing, and what later versions tell.
            _ => {}
        }
        Ok(())
    }

    /// Looks at each run that is waited for.
    fn look(&mut self) -> Result<(), Refusal> {
        self.look = true;
        for id in self.waiting.clone() {
            self.look_at(id)?;
        }
        self.look = false;
        Ok(())
    }

    fn look_at(&mut self, id: RunId) -> Result<(), Refusal> {
        // If it does not come to an end, it is begun again.
        let before = std::mem::replace(&mut self.look, true);
        let answer = self.client.get(&format!("api/v1/runs/{id}"), &())?;
        let run: RunReport = answer.parse().map_err(|failure| Refusal::Answered(failure.to_string()))?;
        self.look = before;
        if run.brief.status.is_final() {
            self.waiting.remove(&id);
            self.view.ended(&run.brief);
            self.ended.insert(id, (answer, run));
        } else {
            self.view.show(&run.brief, run.queue_position);
        }
        Ok(())
    }
}

/// On Ctrl-C: says that the runs go on, and ends the process at once, whatever request is under way.
fn leave_on_interrupt(ids: &[RunId], bars: indicatif::MultiProgress) {
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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::client::ServerArgs;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        server: ServerArgs,
    }

    #[test]
    fn a_server_that_stays_away_is_given_up() {
        let closed = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).unwrap();
        let line = Line::parse_from(["wait", "--server", &format!("http://{closed}")]);
        let client = line.server.client().unwrap();
        let failure = Following::new(&client, &[RunId(7)]).follow(Duration::from_millis(1)).unwrap_err().to_string();
        assert!(failure.starts_with(&format!("no server answers at http://{closed}")), "{failure}");
        assert!(failure.ends_with("the runs are kept, and go on when the server is there again"), "{failure}");
    }
}
