//! `twograin run curves`: one measure of several runs, epoch by epoch.

use clap::Args;

use super::{
    client::Client,
    failure::Failure,
    output::{Align, Table, UNDEFINED, duration, number, print},
    run,
    submit::one_of,
};
use crate::{
    domain::RunId,
    report::{Along, CurvesReport, Measure},
};

#[derive(Args, Debug)]
pub struct CurvesArgs {
    /// Numbers of the runs, at most 24
    #[arg(value_name = "ID", required = true)]
    ids: Vec<RunId>,
    /// What of each epoch
    #[arg(long, value_name = "MEASURE", default_value_t, value_parser = one_of(&Measure::ALL, Measure::as_str))]
    measure: Measure,
    /// Over what; with seconds, the time since the first epoch began stands beside each figure
    #[arg(long, value_name = "AXIS", default_value_t, value_parser = one_of(&Along::ALL, Along::as_str))]
    x: Along,
    /// Print the server's JSON
    #[arg(long)]
    json: bool,
}

/// Prints the curves beside one another.
pub fn curves(client: &Client, args: &CurvesArgs) -> Result<(), Failure> {
    let runs = args.ids.iter().map(|id| ("run", id.to_string()));
    let rest = [("measure", args.measure.to_string()), ("x", args.x.to_string())];
    let answer = client.get("api/v1/curves", &runs.chain(rest).collect::<Vec<_>>())?;
    print(&if args.json { answer.text().to_owned() } else { text(&answer.parse()?) })
}

fn text(report: &CurvesReport) -> String {
    let with_time = report.x == Along::Seconds;
    let names: Vec<String> = report.curves.iter().map(|curve| format!("run {}", curve.run.id)).collect();
    let mut columns = vec![("epoch", Align::Right)];
    for name in &names {
        columns.push((name, Align::Right));
        columns.extend(with_time.then_some(("after", Align::Right)));
    }
    let mut table = Table::new(&columns).indented(2);
    let last = report.curves.iter().flat_map(|curve| &curve.points).map(|point| point.epoch).max().unwrap_or(0);
    for epoch in 1..=last {
        let mut cells = vec![epoch.to_string()];
        for curve in &report.curves {
            let point = curve.points.iter().find(|point| point.epoch == epoch);
            cells.push(point.map_or_else(String::new, |point| number(point.value)));
            let time = point.map_or_else(|| UNDEFINED.to_owned(), |point| duration(point.seconds));
            cells.extend(with_time.then_some(time));
        }
        table.row(cells);
    }
    let runs = run::table(report.curves.iter().map(|curve| &curve.run));
    format!("{runs}\n{} by epoch:\n{}", report.measure.words(), table.render())
}
