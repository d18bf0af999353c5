//! Server-sent events: what changed, so that an open page can show it.
//!
//! `event: run` carries a [`RunBrief`](crate::report::RunBrief), `event: deleted` a run's id, `event: activity` what the
//! server itself is doing (`null`: nothing), `event: missed` how many changes were too many to be told: look again.

use std::{convert::Infallible, time::Duration};

use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::sync::{
    broadcast::{self, error::RecvError},
    watch,
};

use crate::{domain::RunId, error::Error, report::Reports, services::Activity};

/// Where events come from.
pub struct Sources {
    /// To look up what became of a run.
    pub reports: Reports,
    /// Which runs changed.
    pub runs: broadcast::Receiver<RunId>,
    /// What the server is doing; `None` for a stream of one run.
    pub activity: Option<watch::Receiver<Option<Activity>>>,
    /// The one run to hear of; `None` means all.
    pub only: Option<RunId>,
}

/// A stream that ends when the server does.
pub fn stream(sources: Sources) -> Sse<impl Stream<Item = Result<Event, Infallible>>> {
    let events = stream::unfold(sources, async |mut sources| {
        let event = sources.next().await?;
        Some((Ok(event), sources))
    });
    Sse::new(events).keep_alive(KeepAlive::new().interval(Duration::from_secs(15)))
}

impl Sources {
    async fn next(&mut self) -> Option<Event> {
        loop {
            let event = tokio::select! {
                changed = self.runs.recv() => match changed {
                    Ok(run) if self.only.is_none_or(|only| only == run) => self.run(run).await,
                    Ok(_) => None,
                    // Which runs, nobody knows any more.
                    Err(RecvError::Lagged(missed)) => json("missed", &missed),
                    Err(RecvError::Closed) => return None,
                },
                activity = changed(&mut self.activity) => json("activity", &activity),
            };
            if event.is_some() {
                return event;
            }
        }
    }

    async fn run(&self, run: RunId) -> Option<Event> {
        match self.reports.brief(run).await {
            Ok(brief) => json("run", &brief),
            Err(Error::NotFound(_)) => json("deleted", &run),
            Err(error) => {
                tracing::warn!(%run, %error, "an event could not be sent");
                None
            }
        }
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

fn json(name: &str, data: &impl Serialize) -> Option<Event> {
    Event::default().event(name).json_data(data).ok()
}
