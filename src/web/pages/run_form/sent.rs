//! What the form sends, which is text, and what it means.

use serde_json::{Map, Value, json};

use super::{Kind, fields_by_name};
use crate::{
    domain::{Priority, Seeds, Sweep, SweepId},
    services::Submitted,
};

/// The page of the sweep, or of the one run.
pub fn place(runs: &[Submitted], sweep: Option<SweepId>) -> String {
    match (sweep, runs) {
        (Some(sweep), _) => format!("/sweeps/{sweep}"),
        (None, [one, ..]) if one.existing => format!("/runs/{}?existing=true", one.run),
        (None, [one, ..]) => format!("/runs/{}", one.run),
        (None, []) => "/runs".into(),
    }
}

/// Of what a form sends, which is text, what is submitted: a run, or one of each of several seeds, as far as they are not there yet.
pub fn sweep(pairs: &[(String, String)]) -> Result<Sweep, String> {
    let mut fields = Map::new();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.trim().is_empty()) {
        let kind = fields_by_name(name).map(|field| &field.kind);
        let value = match kind {
            Some(Kind::Number(_)) => number(name, value.trim())?,
            Some(Kind::Priority) => {
                let priority: Priority = value.parse().map_err(|error| format!("{name}: {error}"))?;
                priority.get().into()
            }
            Some(Kind::Seeds) => {
                let Seeds(seeds) = value.parse().map_err(|error| format!("{name}: {error}"))?;
                fields.insert("grid".into(), json!({ "seed": seeds }));
                continue;
            }
            Some(Kind::Switch) => value.trim().parse::<bool>().map_err(|error| format!("{name}: {error}"))?.into(),
            Some(Kind::Parsed(parse)) => parse(value).map_err(|error| format!("{name}: {error}"))?,
            Some(Kind::Tags) => value.split(',').map(str::trim).filter(|tag| !tag.is_empty()).collect(),
            Some(Kind::Dataset | Kind::Choice(_) | Kind::Text | Kind::Weights | Kind::Note) | None => {
                value.trim().into()
            }
        };
        fields.insert(name.clone(), value);
    }
    Sweep::try_from(fields)
}

fn number(name: &str, text: &str) -> Result<Value, String> {
    let whole = text.parse::<u64>().ok().map(Value::from);
    let fraction = || text.parse::<f64>().ok().filter(|number| number.is_finite()).map(Value::from);
    whole.or_else(fraction).ok_or_else(|| format!("{name}: “{text}” is not a number"))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::pairs, *};

    #[test]
    fn text_becomes_a_submission() {
        let sweep =
            sweep(&pairs(&[("epochs", " 3 "), ("learning_rate", "0.1"), ("tags", "a, b,"), ("name", "")])).unwrap();
        let [submission] = sweep.runs.as_slice() else { panic!("not one run") };
        assert_eq!((submission.spec.epochs, submission.spec.learning_rate), (3, 0.1));
        assert_eq!((submission.labels.tags.len(), &submission.labels.name), (2, &None));
    }

    #[test]
    fn several_seeds_are_several_runs() {
        let seeds = |text| {
            let sweep = sweep(&pairs(&[("seed", text)])).unwrap();
            sweep.runs.iter().map(|run| run.spec.seed).collect::<Vec<_>>()
        };
        assert_eq!(seeds("0-2, 7"), [0, 1, 2, 7]);
        assert_eq!(seeds("3"), [3]);
    }
}
