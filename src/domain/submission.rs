//! What a user submits: a run specification with a name, tags and a note, in one flat JSON object.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{Priority, RunSpec, SlurmOptions};

/// A run as submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct Submission {
    /// What is to be run.
    pub spec: RunSpec,
    /// Names and remarks, which decide nothing about the outcome.
    pub labels: RunLabels,
    /// What its jobs ask of a Slurm cluster, where they run on one; decides nothing of the outcome.
    pub slurm: SlurmOptions,
}

/// What people call a run, and when they want it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RunLabels {
    /// The name; by default made of backbone, objective and seed.
    #[serde(default)]
    pub name: Option<String>,
    /// Tags, each 1 to 40 characters.
    #[serde(default)]
    pub tags: Vec<String>,
    /// A free note.
    #[serde(default)]
    pub note: String,
    /// Whether it goes before others that wait.
    #[serde(default)]
    pub priority: Priority,
}

impl Submission {
    /// The name given, or one made of backbone, objective and seed.
    pub fn name(&self) -> String {
        let Self { spec, labels, slurm: _ } = self;
        labels.name.clone().unwrap_or_else(|| match spec.seed {
            0 => format!("{} {}", spec.backbone, spec.objective),
            seed => format!("{} {} seed {seed}", spec.backbone, spec.objective),
        })
    }
}

impl From<RunSpec> for Submission {
    fn from(spec: RunSpec) -> Self {
        Self { spec, labels: RunLabels::default(), slurm: SlurmOptions::default() }
    }
}

impl TryFrom<Map<String, Value>> for Submission {
    type Error = String;

    // By hand, because serde's `flatten` cannot refuse unknown fields.
    fn try_from(mut fields: Map<String, Value>) -> Result<Self, String> {
        let slurm = fields.remove("slurm").filter(|value| !value.is_null());
        let slurm = slurm.map_or_else(|| Ok(SlurmOptions::default()), slurm_options)?;
        let mut labels = Map::new();
        for key in ["name", "tags", "note", "priority"] {
            if let Some(value) = fields.remove(key).filter(|value| !value.is_null()) {
                labels.insert(key.into(), value);
            }
        }
        let mut labels: RunLabels = parse(labels)?;
        labels.name = labels.name.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty());
        if labels.name.as_ref().is_some_and(|name| name.chars().count() > 120) {
            return Err("name: it is longer than 120 characters".into());
        }
        if let Some(tag) = labels.tags.iter().find(|tag| tag.trim().is_empty() || tag.chars().count() > 40) {
            return Err(format!("tags: “{tag}” is empty or longer than 40 characters"));
        }
        if labels.note.len() > 10_000 {
            return Err("note: it is longer than 10,000 bytes".into());
        }
        Ok(Self { spec: parse(fields)?, labels, slurm })
    }
}

/// An object, or the text of the flag.
fn slurm_options(value: Value) -> Result<SlurmOptions, String> {
    let named = |error: String| if error.starts_with("slurm:") { error } else { format!("slurm: {error}") };
    match value {
        Value::String(text) => text.parse().map_err(named),
        Value::Object(fields) => parse(fields).map_err(named),
        other => {
            Err(format!("slurm: {other} is not an object, such as {{\"partition\": \"main\", \"time\": \"2:00:00\"}}"))
        }
    }
}

/// The error names the field: “epochs: invalid type: string "3", expected usize”.
fn parse<T: DeserializeOwned>(fields: Map<String, Value>) -> Result<T, String> {
    serde_path_to_error::deserialize(Value::Object(fields)).map_err(|error| match error.path().to_string().as_str() {
        // Of the whole: a field that is missing or unknown, or a check that names its field itself.
        "." => error.inner().to_string(),
        field => format!("{field}: {}", error.inner()),
    })
}

impl From<Submission> for Map<String, Value> {
    fn from(submission: Submission) -> Self {
        let object = |value: serde_json::Result<Value>| match value {
            Ok(Value::Object(map)) => map,
            Ok(_) | Err(_) => Map::new(),
        };
        let mut fields = object(serde_json::to_value(&submission.spec));
        fields.extend(object(serde_json::to_value(&submission.labels)));
        if !submission.slurm.is_empty() {
            fields.insert("slurm".into(), Value::Object(object(serde_json::to_value(&submission.slurm))));
        }
        fields
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_stand_beside_the_specification_and_typos_are_refused() {
        let parse = |text: &str| serde_json::from_str::<Submission>(text).map_err(|error| error.to_string());
        let submission = parse(
            r#"{"dataset":"d","backbone":"vgg-tiny","objective":"coarse-only","seed":3,"tags":["a"],"name":" ","note":"n","priority":-7}"#,
        )
        .unwrap();
        assert_eq!(submission.name(), "vgg-tiny coarse-only seed 3");
        assert_eq!(submission.labels.priority.get(), -7);
        assert_eq!((submission.labels.tags.as_slice(), &*submission.labels.note), (&["a".to_owned()][..], "n"));
        assert_eq!(parse(&serde_json::to_string(&submission).unwrap()).unwrap(), submission);
        let on_slurm = |slurm: &str| {
            let slurm = format!(r#""slurm":{slurm}"#);
            parse(&format!(r#"{{"dataset":"d","backbone":"vgg-tiny","objective":"coarse-only",{slurm}}}"#))
        };
        let submission = on_slurm(r#"{"partition":"gpu","options":["--qos=a"]}"#).unwrap();
        assert_eq!(submission.slurm.to_string(), "partition=gpu,--qos=a");
        assert_eq!(on_slurm(r#""partition=gpu,--qos=a""#).unwrap(), submission);
        assert_eq!(parse(&serde_json::to_string(&submission).unwrap()).unwrap(), submission);
        for (slurm, says) in [
            (r#"{"tyme":"1"}"#, "slurm: tyme: unknown field `tyme`"),
            (r#"{"time":"soon"}"#, "slurm: time: “soon” is not like"),
            (r#"{"cpus":"x"}"#, "slurm: cpus: invalid type"),
            (r#"{"options":["--uid=0"]}"#, "slurm: options: a run may not set --uid"),
            (r#""main""#, "slurm: “main” is not like"),
            ("3", "slurm: 3 is not an object"),
        ] {
            let error = on_slurm(slurm).unwrap_err();
            assert!(error.starts_with(says), "{error}");
        }
        let typo = parse(r#"{"dataset":"d","backbone":"vgg-tiny","objective":"coarse-only","nme":"x"}"#).unwrap_err();
        assert!(typo.contains("unknown field `nme`"), "{typo}");
        let missing = parse(r#"{"dataset":"d","backbone":"vgg-tiny"}"#).unwrap_err();
        assert!(missing.contains("missing field `objective`"), "{missing}");
        for (field, named) in [
            (r#""epochs":"3""#, "epochs: invalid type: string"),
            (r#""seed":-1"#, "seed: invalid value: integer `-1`"),
            (r#""optimizer":"adam""#, "optimizer: unknown variant `adam`, expected `sgd` or `adamw`"),
            (r#""threshold":1.5"#, "threshold: a threshold lies between 0 and 1"),
            (r#""epochs":0"#, "epochs: 0 is outside 1 to 10000"),
            (r#""tags":"a""#, "tags: invalid type: string"),
            (r#""priority":101"#, "priority: a priority lies between -100 and 100"),
        ] {
            let text = format!(r#"{{"dataset":"d","backbone":"vgg-tiny","objective":"coarse-only",{field}}}"#);
            let error = parse(&text).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
    }
}
