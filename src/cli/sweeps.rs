//! `twograin sweep …`: runs that were submitted together.

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, duration, number, print, time},
    run::PageArgs,
};
use crate::{
    domain::SweepId,
    report::{Listing, SweepBrief, SweepDetail},
};

#[derive(Debug, Subcommand)]
pub enum SweepCommand {
    /// List sweeps, newest first
    List(PageArgs),

    /// Show a sweep: how far it is, and its runs with what tells them apart
    Show(OneSweep),

    /// Cancel all runs of a sweep that wait or run
    Cancel(OneSweep),

    /// Put all runs of a sweep that failed or were canceled back into the queue
    Retry(OneSweep),
}

#[derive(Args, Debug)]
pub struct OneSweep {
    /// Number of the sweep
    #[arg(value_name = "ID")]
    id: SweepId,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

/// Does what `twograin sweep` was asked for.
pub fn run(client: &Client, command: SweepCommand) -> Result<(), Failure> {
    let (answer, json) = match command {
        SweepCommand::List(args) => return list(client, &args),
        SweepCommand::Show(OneSweep { id, json }) => (client.get(&format!("api/v1/sweeps/{id}"), &())?, json),
        SweepCommand::Cancel(OneSweep { id, json }) => {
            (client.post(&format!("api/v1/sweeps/{id}/cancel"), &json!({}))?, json)
        }
        SweepCommand::Retry(OneSweep { id, json }) => {
            (client.post(&format!("api/v1/sweeps/{id}/retry"), &json!({}))?, json)
        }
    };
    print(&if json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

fn list(client: &Client, args: &PageArgs) -> Result<(), Failure> {
    let answer = client.get("api/v1/sweeps", args)?;
    if args.json {
        return print(answer.text());
    }
    let Listing::<SweepBrief> { items, next_cursor } = answer.parse()?;
    if items.is_empty() {
        return print("No sweeps. `twograin run submit` makes one with --seeds or --grid.");
    }
    let columns = [("id", Align::Right), ("done", Align::Right), ("runs", Align::Left), ("submitted", Align::Left)];
    let mut table = Table::new(&[&columns[..], &[("name", Align::Left)]].concat());
    for sweep in items {
        let done = format!("{:.0}%", sweep.fraction * 100.0);
        table.row([sweep.id.to_string(), done, sweep.counts.words(), time(&sweep.submitted_at), sweep.name]);
    }
    let more = next_cursor.map_or_else(String::new, |cursor| format!("There are more: add --cursor {cursor}\n"));
    print(&format!("{}{more}", table.render()))
}

fn text(sweep: &SweepDetail) -> String {
    let SweepDetail { brief, fields, runs } = sweep;
    let left = brief.seconds_left.map_or_else(String::new, |left| format!(", {} left", duration(left)));
    let mut columns = vec![("id", Align::Right)];
    columns.extend(fields.iter().map(|field| (field.as_str(), Align::Right)));
    columns.extend([("status", Align::Left), ("IA", Align::Right), ("coarse", Align::Right), ("name", Align::Left)]);
    let mut table = Table::new(&columns);
    for member in runs {
        let values = fields.iter().map(|field| match member.differs.get(field) {
            None | Some(Value::Null) => "–".to_owned(),
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
        });
        let run = &member.run;
        let figures = [run.status.to_string(), number(run.ia), number(run.coarse_accuracy), run.name.clone()];
        table.row([run.id.to_string()].into_iter().chain(values).chain(figures));
    }
    let (id, name, done) = (brief.id, &brief.name, brief.fraction * 100.0);
    format!("Sweep {id} “{name}”: {}; {done:.0}% done{left}\n\n{}", brief.counts.words(), table.render())
}
