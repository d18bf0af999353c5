//! `/runs/new`: submit a run. Essentials first; every other field holds its default.

mod sent;

use std::{collections::HashMap, str::FromStr};

use askama::Template;
use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
};
use serde::Serialize;
use serde_json::Value;

use sent::{place, sweep};

use super::Page;
use crate::{
    domain::{
        Priority, RunId, RunSpec,
        spec::{
            Augmentation, Backbone, CoarseInput, FocalAlpha, Keep, Objective, Optimizer, Sampling, Schedule, Unfreeze,
        },
    },
    report::{DatasetBrief, Reports, RunReport},
    services::{Queue, Weights},
    web::{
        error::Problem,
        extract::{Form, Query},
    },
    weights::Listed,
};

/// A field as it is asked for. Its name is the one in the specification's JSON.
struct Field {
    name: &'static str,
    label: &'static str,
    help: &'static str,
    kind: Kind,
}

enum Kind {
    Dataset,
    Choice(fn() -> Vec<&'static str>),
    /// `true` or `false`. Not a check box, as one that is not ticked sends nothing, which means the default.
    Switch,
    /// The input's `step`.
    Number(&'static str),
    Seeds,
    /// A whole number that may be negative.
    Priority,
    /// Text that stands for a structured value.
    Parsed(fn(&str) -> Result<Value, String>),
    Text,
    /// Text, for which the installed weights are offered.
    Weights,
    Tags,
    Note,
}

struct Group {
    title: &'static str,
    fields: &'static [Field],
}

const fn field(name: &'static str, label: &'static str, kind: Kind, help: &'static str) -> Field {
    Field { name, label, help, kind }
}

macro_rules! names_of {
    ($choice:ty) => {
        Kind::Choice(|| <$choice>::ALL.iter().map(|value| value.as_str()).collect())
    };
}

const ESSENTIALS: Group = Group {
    title: "Essentials",
    fields: &[
        field("dataset", "Data set", Kind::Dataset, "What is learned from, and tested on."),
        field(
            "backbone",
            "Backbone",
            names_of!(Backbone),
            "The network before the two-level head; tiny ones suit a CPU.",
        ),
        field("objective", "Decision mode", names_of!(Objective), "The loss, and with it the run's own decision rule."),
        field("epochs", "Epochs", Kind::Number("1"), "Passes over the training images."),
        field("input_size", "Input size", Kind::Number("1"), "Side of the square input in pixels: smaller is faster."),
        field("seed", "Seed", Kind::Seeds, "Several, such as 0, 1, 2 or 0-4, make a group of runs, shown by its mean."),
        field("name", "Name", Kind::Text, "Left empty: made of backbone, decision mode and seed."),
        field("tags", "Tags", Kind::Tags, "Comma separated."),
        field("priority", "Priority", Kind::Priority, "-100 to 100: of the runs that wait, higher goes first."),
        field("note", "Note", Kind::Note, "What you want to know from this run."),
    ],
};

const MORE: [Group; 4] = [
    Group {
        title: "Optimisation",
        fields: &[
            field("batch_size", "Batch size", Kind::Number("1"), "Images per step."),
            field("optimizer", "Optimizer", names_of!(Optimizer), "SGD with momentum, or AdamW."),
            field("learning_rate", "Learning rate", Kind::Number("any"), "The highest one of the schedule."),
            field("schedule", "Schedule", names_of!(Schedule), "How the learning rate goes after the warm-up."),
            field(
                "warmup_epochs",
                "Warm-up",
                Kind::Number("any"),
                "Epochs of linear increase at the start; fractions are allowed.",
            ),
            field("momentum", "Momentum", Kind::Number("any"), "Of SGD; β₁ of AdamW."),
            field("nesterov", "Nesterov", Kind::Switch, "Nesterov's momentum; of SGD alone."),
            field("weight_decay", "Weight decay", Kind::Number("any"), "Pulls weights towards zero."),
            field(
                "decay_biases_and_norms",
                "Decay of biases and norms",
                Kind::Switch,
                "Whether weight decay reaches biases and batch norm's weights too.",
            ),
            field(
                "clip_norm",
                "Gradient clipping",
                Kind::Number("any"),
                "Largest L2 norm of all gradients together; left empty: off.",
            ),
        ],
    },
    Group {
        title: "Loss and decision",
        fields: &[
            field(
                "threshold",
                "Threshold θ",
                Kind::Number("any"),
                "Sigmoid mode: a label is taken if p > θ. The paper's is 0.7.",
            ),
            field(
                "focal_alpha",
                "Focal α",
                Kind::Parsed(parsed::<FocalAlpha>),
                "Softmax mode: weight of the fine loss; or of some labels, such as dog=2, person=0.5, the others having 1.",
            ),
            field("focal_gamma", "Focal γ", Kind::Number("any"), "Softmax mode: how much easy images count less."),
            field(
                "coarse_input",
                "Coarse layer reads",
                names_of!(CoarseInput),
                "The fine probabilities, or the fine logits.",
            ),
        ],
    },
    Group {
        title: "Images and weights",
        fields: &[
            field(
                "sampling",
                "Sampling",
                names_of!(Sampling),
                "Each training image once an epoch, or every fine label in equal turns.",
            ),
            field("augmentation", "Augmentation", names_of!(Augmentation), "What is done to training images."),
            field(
                "initial_weights",
                "Initial weights",
                Kind::Weights,
                "The name of installed weights, or a file on the server; left empty: drawn from the seed.",
            ),
            field(
                "unfreeze",
                "Unfreeze",
                Kind::Parsed(parsed::<Unfreeze>),
                "Layer groups that learn: all, none, or such as layer4@3:0.002, layer3@5 (group@epoch:learning rate).",
            ),
            field(
                "keep",
                "Keep",
                names_of!(Keep),
                "Which epoch's weights are kept and evaluated, by the validation split.",
            ),
            field(
                "patience",
                "Patience",
                Kind::Number("1"),
                "End after so many epochs without a better one; left empty: never.",
            ),
        ],
    },
    Group {
        title: "Machine",
        fields: &[
            field("device", "Device", Kind::Text, "cpu, or cuda:0, cuda:1, …"),
            field("threads", "Threads", Kind::Number("1"), "0 means one per core."),
            field(
                "slurm",
                "Slurm",
                Kind::Text,
                "Of a server that runs jobs on a cluster: partition=gpu, time=2:00:00, memory=16G, gres=gpu:1, --qos=high.",
            ),
        ],
    },
];

/// The names of all fields in the order in which they are asked for.
pub fn names() -> Vec<&'static str> {
    fields().map(|field| field.name).collect()
}

fn fields() -> impl Iterator<Item = &'static Field> {
    const { &[&ESSENTIALS, &MORE[0], &MORE[1], &MORE[2], &MORE[3]] }.iter().flat_map(|group| group.fields)
}

#[derive(Template)]
#[template(path = "runs/new.html")]
pub struct FormPage {
    datasets: Vec<DatasetBrief>,
    /// Those that are installed.
    weights: Vec<Listed>,
    values: HashMap<String, String>,
    error: Option<FormError>,
}

/// What is wrong with the form, and with which field if that is known.
struct FormError {
    field: Option<&'static str>,
    text: String,
}

/// `/runs/new?from=ID&FIELD=VALUE…`: filled in with defaults, then with a run's specification, then with the query.
pub async fn form(
    State(reports): State<Reports>,
    State(weights): State<Weights>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Page<FormPage>, Problem> {
    let datasets = datasets(&reports).await?;
    let mut values = defaults(datasets.first().map(|dataset| &*dataset.name));
    for (name, value) in query {
        if name == "from" {
            let run: RunId = value.parse().map_err(|_| Problem::invalid(format!("from: “{value}” is not a run")))?;
            values.extend(values_of(&reports.run(run).await?));
        } else if names().contains(&name.as_str()) {
            values.insert(name, value);
        } else {
            return Err(Problem::invalid(format!("The query: a run has no field “{name}”.")));
        }
    }
    Ok(Page(FormPage { datasets, weights: installed(&weights).await?, values, error: None }))
}

pub async fn submit(
    State(queue): State<Queue>,
    State(reports): State<Reports>,
    State(weights): State<Weights>,
    Form(pairs): Form,
) -> Result<Response, Problem> {
    let error = match sweep(&pairs) {
        Ok(sweep) => match queue.submit_all(sweep).await.map_err(Problem::from) {
            Ok((runs, sweep)) => return Ok(Redirect::to(&place(&runs, sweep)).into_response()),
            Err(problem) if problem.status().is_client_error() => problem.detail().to_owned(),
            Err(problem) => return Err(problem),
        },
        Err(error) => error,
    };
    let page = FormPage {
        datasets: datasets(&reports).await?,
        weights: installed(&weights).await?,
        values: pairs.into_iter().collect(),
        error: Some(error.into()),
    };
    Ok((StatusCode::UNPROCESSABLE_ENTITY, Page(page)).into_response())
}

fn parsed<T: FromStr<Err = String> + Serialize>(text: &str) -> Result<Value, String> {
    let value: T = text.parse()?;
    serde_json::to_value(value).map_err(|error| error.to_string())
}

fn fields_by_name(name: &str) -> Option<&'static Field> {
    fields().find(|field| field.name == name)
}

async fn datasets(reports: &Reports) -> Result<Vec<DatasetBrief>, Problem> {
    let mut datasets = reports.datasets().await?.items;
    datasets.retain(|dataset| !dataset.labels_only);
    Ok(datasets)
}

async fn installed(weights: &Weights) -> Result<Vec<Listed>, Problem> {
    let mut weights = weights.list().await?.items;
    weights.retain(|weights| weights.installed);
    Ok(weights)
}

fn defaults(dataset: Option<&str>) -> HashMap<String, String> {
    let dataset = dataset.unwrap_or_default();
    let mut values = texts(serde_json::to_value(RunSpec::new(dataset, Backbone::ResNetTiny, Objective::TopKSoftmax)));
    values.insert("priority".into(), Priority::default().to_string());
    values
}

fn values_of(run: &RunReport) -> HashMap<String, String> {
    let mut values = texts(serde_json::to_value(&run.spec));
    values.insert("tags".into(), run.brief.tags.join(", "));
    values.insert("note".into(), run.note.clone());
    values.insert("slurm".into(), run.slurm.to_string());
    values
}

fn texts(json: serde_json::Result<Value>) -> HashMap<String, String> {
    match json {
        Ok(Value::Object(fields)) => fields.into_iter().map(|(name, value)| (name, text(value))).collect(),
        Ok(_) | Err(_) => HashMap::new(),
    }
}

/// The value of a field as the form takes it, and as pages show it.
pub fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        Value::Object(numbers) => {
            numbers.iter().map(|(name, number)| format!("{name}={number}")).collect::<Vec<_>>().join(", ")
        }
        Value::Array(_) => {
            serde_json::from_value(value).map_or_else(|_| String::new(), |groups: Unfreeze| groups.to_string())
        }
        value => value.to_string(),
    }
}

impl FormPage {
    fn section(&self) -> &'static str {
        "runs"
    }

    fn value(&self, field: &Field) -> &str {
        self.values.get(field.name).map_or("", String::as_str)
    }

    fn options(&self, field: &Field) -> Vec<&str> {
        match &field.kind {
            Kind::Dataset => self.datasets.iter().map(|dataset| &*dataset.name).collect(),
            Kind::Choice(names) => names(),
            Kind::Switch => vec!["false", "true"],
            Kind::Weights => self.weights.iter().map(|weights| &*weights.name).collect(),
            Kind::Number(_) | Kind::Priority | Kind::Seeds | Kind::Parsed(_) | Kind::Text | Kind::Tags | Kind::Note => {
                Vec::new()
            }
        }
    }

    /// Whether an option of the field is a data set that is drawn, not photographed.
    fn is_drawn(&self, field: &Field, option: &str) -> bool {
        matches!(field.kind, Kind::Dataset)
            && self.datasets.iter().any(|dataset| dataset.drawn && dataset.name == option)
    }

    /// What a folded group holds: “Batch size 32, Optimizer sgd”.
    fn summary(&self, group: &Group) -> String {
        let filled = group.fields.iter().filter(|field| !self.value(field).is_empty());
        filled.map(|field| format!("{} {}", field.label, self.value(field))).collect::<Vec<_>>().join(", ")
    }

    fn error_at(&self, field: &Field) -> Option<&str> {
        let error = self.error.as_ref()?;
        (error.field == Some(field.name)).then_some(&error.text)
    }

    /// Opened where something in it is wrong.
    fn has_error(&self, group: &Group) -> bool {
        group.fields.iter().any(|field| self.error_at(field).is_some())
    }
}

impl From<String> for FormError {
    /// “epochs: 0 is outside 1 to 10000” belongs to the field `epochs`; some errors name their field within the text.
    fn from(text: String) -> Self {
        let prefix = text.split_once(": ").and_then(|(name, _)| fields_by_name(name));
        let named = || fields().find(|field| text.contains(&format!("`{}`", field.name)));
        let field = prefix.or_else(named).map(|field| field.name);
        Self { field, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn pairs(extra: &[(&str, &str)]) -> Vec<(String, String)> {
        let essentials = [("dataset", "demo"), ("backbone", "vgg-tiny"), ("objective", "coarse-only")];
        essentials.iter().chain(extra).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn every_field_of_a_specification_is_asked_for() {
        let all = defaults(None);
        // The last three are left out of JSON when they are not given.
        let all = all.keys().map(String::as_str).chain(["clip_norm", "initial_weights", "patience"]);
        let mut missing: Vec<_> = all.filter(|name| !names().contains(name)).collect();
        missing.sort();
        assert_eq!(missing, Vec::<&str>::new());
    }

    #[test]
    fn structured_values_are_shown_as_they_are_written() {
        for (field, written, shown) in [
            ("focal_alpha", "2", "2.0"),
            ("focal_alpha", "person=0.5,hot dog=2", "hot dog=2.0, person=0.5"),
            ("unfreeze", "none", "none"),
            ("unfreeze", "classifier@2:0.1,block5@3", "classifier@2:0.1, block5@3"),
        ] {
            let spec = |text| sweep(&pairs(&[(field, text)])).unwrap().runs.remove(0).spec;
            assert_eq!(texts(serde_json::to_value(spec(written)))[field], shown);
            assert_eq!(spec(shown), spec(written));
        }
    }

    #[test]
    fn an_error_stands_by_its_field() {
        for (name, value) in [
            ("epochs", "x"),
            ("epochs", "0"),
            ("seed", "1-"),
            ("threshold", "1.5"),
            ("device", "tpu"),
            ("optimizer", "adam"),
            ("nesterov", "yes"),
            ("clip_norm", "0"),
            ("focal_alpha", "dog"),
            ("sampling", "balanced"),
            ("unfreeze", "layer9"),
            ("unfreeze", "layer4@"),
            ("keep", "first"),
            ("patience", "2"),
            ("priority", "101"),
            ("priority", "high"),
        ] {
            let error = FormError::from(sweep(&pairs(&[(name, value)])).unwrap_err());
            assert_eq!(error.field, Some(name), "{}", error.text);
        }
    }
}
