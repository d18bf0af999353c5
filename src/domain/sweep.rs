//! Several runs submitted at once: a grid over fields, or a list.

use std::{collections::BTreeSet, fmt::Display, str::FromStr};

use serde::Deserialize;
use serde_json::{Map, Value};

use super::Submission;

/// Several runs as submitted, at least one. In JSON: the flat fields of a submission, and `grid` (from fields to lists of values,
/// of which every combination is a run) or `runs` (the fields of each). A field of theirs goes before the same one beside them.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Sweep {
    /// The runs. Those of a grid: fields in alphabetical order, the last one changing fastest.
    pub runs: Vec<Submission>,
    /// Makes new runs, also of specifications that a run has already.
    pub force: bool,
    /// Submits nothing.
    pub dry_run: bool,
    /// What it is called where it is kept: the name that its runs are given, or the fields that a grid varies.
    pub name: String,
    /// What tells each run from the others, such as “epochs 3, seed 1”.
    places: Vec<String>,
}

impl Sweep {
    /// How many runs there may be.
    pub const MAX_RUNS: usize = 1000;

    /// All values, or the first error with its text, which says for which runs it is true unless it is for all.
    pub fn settle<T, E: Display>(&self, results: Vec<Result<T, E>>) -> Result<Vec<T>, (E, String)> {
        settle(&self.places, results)
    }
}

/// One run as submitted: a [`Sweep`] of it alone. In JSON: the flat fields of a submission, and `force`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct SingleRun {
    /// The run.
    pub submission: Submission,
    /// Makes a new run, also of a specification that a run has already.
    pub force: bool,
}

impl From<SingleRun> for Sweep {
    fn from(SingleRun { submission, force }: SingleRun) -> Self {
        Self { name: submission.name(), runs: vec![submission], force, dry_run: false, places: vec![String::new()] }
    }
}

impl TryFrom<Map<String, Value>> for SingleRun {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        let force = flag(&mut fields, "force")?;
        Ok(Self { submission: fields.try_into()?, force })
    }
}

impl TryFrom<Map<String, Value>> for Sweep {
    type Error = String;

    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        let (grid, runs) = (given(&mut fields, "grid"), given(&mut fields, "runs"));
        let (force, dry_run) = (flag(&mut fields, "force")?, flag(&mut fields, "dry_run")?);
        let varied = match &grid {
            Some(Value::Object(grid)) => grid.keys().map(String::as_str).collect::<Vec<_>>().join(" × "),
            Some(_) | None => String::new(),
        };
        let changes = match (grid, runs) {
            (Some(grid), None) => combinations(grid)?,
            (None, Some(runs)) => list(runs)?,
            (None, None) => vec![(String::new(), Map::new())],
            (Some(_), Some(_)) => return Err("grid: it does not go with runs; give one of them".into()),
        };
        let (places, changes): (Vec<_>, Vec<_>) = changes.into_iter().unzip();
        let runs = changes.into_iter().map(|change| {
            let mut fields = fields.clone();
            fields.extend(change);
            Submission::try_from(fields)
        });
        let runs = settle(&places, runs.collect()).map_err(|(_, text)| text)?;
        let name = fields.get("name").and_then(Value::as_str).map(str::trim).filter(|name| !name.is_empty());
        let made = if varied.is_empty() { format!("{} runs", runs.len()) } else { varied };
        let name = name.map_or(made, str::to_owned);
        Ok(Self { runs, force, dry_run, name, places })
    }
}

fn given(fields: &mut Map<String, Value>, name: &str) -> Option<Value> {
    fields.remove(name).filter(|value| !value.is_null())
}

fn flag(fields: &mut Map<String, Value>, name: &str) -> Result<bool, String> {
    match given(fields, name) {
        None => Ok(false),
        Some(value) => value.as_bool().ok_or_else(|| format!("{name}: it is true or false, not {value}")),
    }
}

/// Fields that are changed, and what tells them from the others.
type Change = (String, Map<String, Value>);

/// The cartesian product of a grid's values.
fn combinations(grid: Value) -> Result<Vec<Change>, String> {
    let Value::Object(grid) = grid else { return Err("grid: it is not an object from fields to lists".into()) };
    let mut changes = vec![(String::new(), Map::new())];
    for (field, values) in grid {
        let Value::Array(values) = values else { return Err(format!("grid: {field} is not a list of values")) };
        within_limits("grid", changes.len().saturating_mul(values.len()))?;
        let vary = |(place, change): Change| {
            let field = &field;
            let varied = values.iter().map(move |value| {
                let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let comma = if place.is_empty() { "" } else { ", " };
                let mut change = change.clone();
                change.insert(field.clone(), value.clone());
                (format!("{place}{comma}{field} {shown}"), change)
            });
            varied.collect::<Vec<_>>()
        };
        changes = changes.into_iter().flat_map(vary).collect();
    }
    Ok(changes)
}

fn list(runs: Value) -> Result<Vec<Change>, String> {
    let Value::Array(runs) = runs else { return Err("runs: it is not a list".into()) };
    within_limits("runs", runs.len())?;
    let change = |(index, run): (usize, Value)| match run {
        Value::Object(fields) => Ok((format!("runs[{index}]"), fields)),
        _ => Err(format!("runs: runs[{index}] is not an object")),
    };
    runs.into_iter().enumerate().map(change).collect()
}

fn within_limits(name: &str, runs: usize) -> Result<(), String> {
    match runs {
        0 => Err(format!("{name}: it is empty")),
        1..=Sweep::MAX_RUNS => Ok(()),
        _ => Err(format!("{name}: {runs} runs are more than the {} that are taken at once", Sweep::MAX_RUNS)),
    }
}

fn settle<T, E: Display>(places: &[String], results: Vec<Result<T, E>>) -> Result<Vec<T>, (E, String)> {
    const SHOWN: usize = 3;
    let mut values = Vec::with_capacity(results.len());
    let mut error: Option<(E, String)> = None;
    let mut wrong = Vec::new();
    for (place, result) in places.iter().zip(results) {
        match (result, &error) {
            (Ok(value), _) => values.push(value),
            (Err(other), None) => {
                let text = other.to_string();
                error = Some((other, text));
                wrong.push(place.as_str());
            }
            (Err(other), Some((_, text))) if other.to_string() == *text => wrong.push(place),
            (Err(_), Some(_)) => {}
        }
    }
    match error {
        None => Ok(values),
        Some((error, text)) if wrong.len() == places.len() => Err((error, text)),
        Some((error, text)) => {
            let more = wrong.len().saturating_sub(SHOWN);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            wrong.truncate(SHOWN);
            Err((error, format!("{text} ({}{more})", wrong.join("; "))))
        }
    }
}

/// Seeds as people write them: “0, 1, 2”, “0-4”, “7”.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seeds(pub Vec<u64>);

impl FromStr for Seeds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut seeds = Vec::new();
        for part in text.split(',').map(str::trim) {
            let number = |text: &str| {
                let wrong = |_| {
                    format!(
                        "“{text}” is not a seed; write one such as 7, several such as 0, 1, 2, or a range such as 0-4"
                    )
                };
                text.trim().parse::<u64>().map_err(wrong)
            };
            let (first, last) = match part.split_once(['-', '–']) {
                Some((first, last)) => (number(first)?, number(last)?),
                None => (number(part)?, number(part)?),
            };
            if first > last {
                return Err(format!("“{part}” goes from the larger seed to the smaller"));
            }
            if last - first >= (Sweep::MAX_RUNS - seeds.len()) as u64 {
                return Err(format!("“{text}” has more than {} seeds", Sweep::MAX_RUNS));
            }
            seeds.extend(first..=last);
        }
        let mut seen = BTreeSet::new();
        seeds.retain(|seed| seen.insert(*seed));
        Ok(Self(seeds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(rest: &str) -> Result<Sweep, String> {
        let text = format!(r#"{{"dataset":"d","backbone":"vgg-tiny",{rest}}}"#);
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_grid_is_every_combination_in_order() {
        let sweep = parse(r#""seed":9,"grid":{"seed":[0,1],"objective":["coarse-only","top-k-softmax"]}"#).unwrap();
        let names: Vec<String> = sweep.runs.iter().map(Submission::name).collect();
        let expected = ["coarse-only", "coarse-only seed 1", "top-k-softmax", "top-k-softmax seed 1"]
            .map(|n| format!("vgg-tiny {n}"));
        assert_eq!(names, expected);
        assert_eq!((sweep.force, sweep.dry_run, &*sweep.name), (false, false, "objective × seed"));
    }

    #[test]
    fn a_list_changes_what_stands_beside_it() {
        let sweep = parse(r#""objective":"coarse-only","force":true,"runs":[{"epochs":3},{"backbone":"resnet-tiny"}]"#)
            .unwrap();
        let found: Vec<_> = sweep.runs.iter().map(|run| (run.spec.backbone.as_str(), run.spec.epochs)).collect();
        assert_eq!((found.as_slice(), sweep.force), (&[("vgg-tiny", 3), ("resnet-tiny", 10)][..], true));
        assert_eq!(sweep.name, "2 runs");
        assert_eq!(parse(r#""objective":"coarse-only","name":" mine ""#).unwrap().name, "mine");
    }

    #[test]
    fn a_single_run_has_no_grid_and_is_forced_on_request_alone() {
        let parse = |rest: &str| {
            let text = format!(r#"{{"dataset":"d","backbone":"vgg-tiny","objective":"coarse-only"{rest}}}"#);
            serde_json::from_str::<SingleRun>(&text).map_err(|error| error.to_string())
        };
        assert!(!parse("").unwrap().force);
        let forced = Sweep::from(parse(r#","force":true"#).unwrap());
        assert_eq!((forced.runs.len(), forced.force), (1, true));
        assert!(parse(r#","grid":{"seed":[0,1]}"#).unwrap_err().contains("unknown field `grid`"));
        assert!(parse(r#","force":1"#).unwrap_err().contains("force: it is true or false, not 1"));
    }

    #[test]
    fn what_is_wrong_is_named_with_the_runs_where_it_is() {
        let coarse = r#""objective":"coarse-only","#;
        for (rest, error) in [
            (r#""grid":{"seed":[0,1]}"#, "missing field `objective`"),
            (&format!(r#"{coarse}"grid":{{"epochs":[0,0]}}"#), "epochs: 0 is outside 1 to 10000"),
            (
                &format!(r#"{coarse}"grid":{{"epochs":[1,0],"seed":[7,8]}}"#),
                "epochs: 0 is outside 1 to 10000 (epochs 0, seed 7; epochs 0, seed 8)",
            ),
            (&format!(r#"{coarse}"grid":{{"epochs":[0,0,0,0,0,1]}}"#), "(epochs 0; epochs 0; epochs 0; and 2 more)"),
            (&format!(r#"{coarse}"runs":[{{}},{{"epoch":1}}]"#), "unknown field `epoch`"),
            (&format!(r#"{coarse}"runs":[{{}},{{"seed":-1}}]"#), "(runs[1])"),
            (&format!(r#"{coarse}"runs":[{{}},3]"#), "runs: runs[1] is not an object"),
            (&format!(r#"{coarse}"runs":[]"#), "runs: it is empty"),
            (&format!(r#"{coarse}"grid":{{"seed":[]}}"#), "grid: it is empty"),
            (&format!(r#"{coarse}"grid":{{"seed":3}}"#), "grid: seed is not a list of values"),
            (&format!(r#"{coarse}"grid":{{}},"runs":[]"#), "grid: it does not go with runs"),
            (&format!(r#"{coarse}"force":1"#), "force: it is true or false, not 1"),
        ] {
            let found = parse(rest).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
        let values = |n: usize| format!("{:?}", (0..n).collect::<Vec<_>>());
        let large = format!(r#"{coarse}"grid":{{"seed":{},"epochs":{}}}"#, values(40), values(26));
        assert_eq!(parse(&large).unwrap_err(), "grid: 1040 runs are more than the 1000 that are taken at once");
    }

    #[test]
    fn seeds_are_lists_and_ranges() {
        let seeds = |text: &str| text.parse::<Seeds>().map(|seeds| seeds.0);
        assert_eq!((seeds("7"), seeds("2,0,2")), (Ok(vec![7]), Ok(vec![2, 0])));
        assert_eq!(seeds("0, 1,5-7"), Ok(vec![0, 1, 5, 6, 7]));
        assert_eq!(seeds("0-999").map(|seeds| seeds.len()), Ok(1000));
        for (text, error) in [
            ("", "“” is not a seed"),
            ("1,x", "“x” is not a seed"),
            ("3-1", "goes from the larger"),
            ("0-1000", "more than 1000 seeds"),
            ("0-18446744073709551615", "more than 1000 seeds"),
        ] {
            let found = seeds(text).unwrap_err();
            assert!(found.contains(error), "{found}");
        }
    }
}
