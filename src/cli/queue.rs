//! `twograin queue …`: what starts next, and whether anything does.

use clap::{Args, Subcommand};
use serde_json::json;

use super::{
    client::Client,
    failure::Failure,
    output::{plural, print},
};
use crate::store::QueueState;

#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// Show how many runs wait and run, and whether the queue is paused
    Show(Json),

    /// Let nothing new start, until it is resumed; what runs goes on
    ///
    /// Also after the server is started again.
    Pause(Json),

    /// Let what waits start again
    Resume(Json),
}

#[derive(Args, Debug)]
pub struct Json {
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

/// Does what `twograin queue` was asked for.
pub fn run(client: &Client, command: QueueCommand) -> Result<(), Failure> {
    let (answer, json) = match command {
        QueueCommand::Show(Json { json }) => (client.get("api/v1/queue", &())?, json),
        QueueCommand::Pause(Json { json }) => (client.post("api/v1/queue/pause", &json!({}))?, json),
        QueueCommand::Resume(Json { json }) => (client.post("api/v1/queue/resume", &json!({}))?, json),
    };
    print(&if json { answer.text().to_owned() } else { words(answer.parse()?) })
}

fn words(QueueState { paused, queued, running }: QueueState) -> String {
    let state = if paused { "paused: nothing new starts until `twograin queue resume`" } else { "open" };
    let waits = if queued == 1 { "waits" } else { "wait" };
    format!("The queue is {state}. {} {waits}, {running} running.", plural(queued, "run"))
}
