//! Server-sent events: what changed, so that an open page can show it.
//!
//! `event: run` carries a [`RunBrief`](crate::report::RunBrief), `event: deleted` a run's id, `event: activity` what the
//! server itself is doing (`null`: nothing), `event: missed` that something changed of which nobody can tell any more: look
//! again.
//!
//! Each event but `activity` has an id, and the stream begins with one, that of the present: whoever comes back with the last
//! one he heard is told what changed since, each run once and as it is now, before anything new. A change is told of because
//! the database has a later revision; what the queue says is merely when to look. So nothing falls between looking back and
//! listening, however fast things change, and ids only grow.

use std::{collections::VecDeque, convert::Infallible, time::Duration};

use axum::{
    extract::FromRequestParts,
    http::request::Parts,
    response::sse::{Event, KeepAlive, Sse},
};
use futures_util::{Stream, stream};
use serde::{Deserialize, Serialize};
use tokio::sync::{
    broadcast::{
        self,
        error::{RecvError, TryRecvError},
    },
    watch,
};

use super::{error::Problem, extract::Query};
use crate::{
    domain::RunId,
    error::Result,
    report::{Changed, Position, Reports},
    services::Activity,
};

/// The database may be busy: then it is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// Where events come from.
pub struct Sources {
    /// To look up what became of a run.
    pub reports: Reports,
    /// Which runs changed. Subscribed before the sources are opened, so that nothing is missed.
    pub runs: broadcast::Receiver<RunId>,
    /// What the server is doing; `None` for a stream of one run.
    pub activity: Option<watch::Receiver<Option<Activity>>>,
    /// The one run to hear of; `None` means all.
    pub only: Option<RunId>,
}

/// The id of the last event that the client heard, if it says one: the header `Last-Event-ID`, which a browser sends when it
/// connects again, else `?last_event_id=`.
pub struct LastEventId(Option<String>);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LastEventQuery {
    last_event_id: Option<String>,
}

impl<S: Send + Sync> FromRequestParts<S> for LastEventId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> std::result::Result<Self, Problem> {
        let Query(LastEventQuery { last_event_id }) = Query::from_request_parts(parts, state).await?;
        // What is no text is no id of ours either, and is answered like any other that is not.
        let header = parts.headers.get("last-event-id").map(|value| value.to_str().unwrap_or("?").to_owned());
        Ok(Self(header.filter(|id| !id.is_empty()).or(last_event_id)))
    }
}

/// A stream that ends when the server does, or the one run is deleted. Refused where there is no such run, and there was none
/// at `heard` either.
pub async fn stream(
    sources: Sources,
    LastEventId(heard): LastEventId,
) -> Result<Sse<impl Stream<Item = std::result::Result<Event, Infallible>>>> {
    let teller = Teller::new(sources, heard).await?;
    let events = stream::unfold(teller, async |mut teller| {
        let event = teller.next().await?;
        Some((Ok(event), teller))
    });
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15))))
}

/// What one client is told.
struct Teller {
    sources: Sources,
    /// How far it has been told.
    position: Position,
    ready: VecDeque<Event>,
    /// Whether there may be changes after the position.
    look: bool,
    /// Whether the queue said so of the one run.
    said: bool,
    over: bool,
}

impl Teller {
    async fn new(mut sources: Sources, heard: Option<String>) -> Result<Self> {
        let resumed = match &heard {
            Some(heard) => sources.reports.resume(heard).await?,
            None => None,
        };
        let missed = heard.is_some() && resumed.is_none();
        // What the server is doing is not written down: whoever was away is told where it is now.
        if let Some(activity) = sources.activity.as_mut().filter(|_| heard.is_some()) {
            activity.mark_changed();
        }
        let position = match resumed {
            Some(position) => position,
            None => sources.reports.position().await?,
        };
        if let Some(run) = sources.only {
            let there = sources.reports.brief(run).await.map(drop);
            if sources.reports.changes(position.revision, Some(run)).await?.is_empty() {
                there?;
            }
        }
        // An id without data is kept by the client, and shown to nobody.
        let first = if missed { json("missed", &()) } else { Event::default() };
        let ready = VecDeque::from([first.id(position.to_string())]);
        Ok(Self { sources, position, ready, look: true, said: false, over: false })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if self.over {
                return None;
            }
            if self.look {
                self.look_up().await;
                continue;
            }
            tokio::select! {
                told = self.sources.runs.recv() => match told {
                    Ok(run) => self.hear(run),
                    // Which runs, the database knows.
                    Err(RecvError::Lagged(_)) => self.look = true,
                    Err(RecvError::Closed) => return None,
                },
                activity = changed(&mut self.sources.activity) => self.ready.push_back(json("activity", &activity)),
            }
        }
    }

    /// Looks once for all that was said meanwhile.
    fn hear(&mut self, first: RunId) {
        let mut told = Ok(first);
        loop {
            match told {
                Ok(run) => {
                    self.said |= self.sources.only == Some(run);
                    self.look |= self.said || self.sources.only.is_none();
                }
                Err(TryRecvError::Lagged(_)) => self.look = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
            told = self.sources.runs.try_recv();
        }
    }

    async fn look_up(&mut self) {
        let reports = &self.sources.reports;
        match reports.changes(self.position.revision, self.sources.only).await {
            Ok(changes) => {
                // A line of the log, which is no change of the run, is worth another look at its page.
                if let Some(run) = self.sources.only.filter(|_| self.said && changes.is_empty())
                    && let Ok(brief) = reports.brief(run).await
                {
                    self.ready.push_back(json("run", &brief).id(self.position.to_string()));
                }
                (self.look, self.said) = (!changes.is_empty(), false);
                changes.into_iter().for_each(|changed| self.tell(changed));
            }
            Err(error) => {
                tracing::warn!(%error, "events could not be looked up; again in 1 s");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn tell(&mut self, changed: Changed) {
        self.position.revision = changed.revision;
        let event = match changed.brief {
            Some(brief) => json("run", &brief),
            None => {
                self.over |= self.sources.only.is_some();
                json("deleted", &changed.run)
            }
        };
        self.ready.push_back(event.id(self.position.to_string()));
    }
}

/// What the server is doing, as soon as it is doing something else. Never returns if that will not happen any more.
async fn changed(activity: &mut Option<watch::Receiver<Option<Activity>>>) -> Option<Activity> {
    if let Some(receiver) = activity
        && receiver.changed().await.is_ok()
    {
        return receiver.borrow_and_update().clone();
    }
    std::future::pending().await
}

/// Our values have names for keys and no line ends; one that could not be written would be told of without itself.
fn json(name: &str, data: &impl Serialize) -> Event {
    let event = Event::default().event(name);
    event.json_data(data).unwrap_or_else(|_| Event::default().event("missed").data("null"))
}
