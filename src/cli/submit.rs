//! `twograin run submit`: flags → the flat JSON that the API takes.
//!
//! Only what was given is sent: the server has the defaults, and the help says them.

use std::path::{Path, PathBuf};

use clap::{Args, builder::PossibleValuesParser, builder::TypedValueParser};
use serde::Serialize;
use serde_json::{Map, Value};

use super::failure::Failure;
use crate::domain::{
    Priority, SlurmOptions,
    spec::{
        Augmentation, Backbone, CoarseInput, Device, FocalAlpha, Keep, Objective, Optimizer, Sampling, Schedule,
        Unfreeze,
    },
};

/// What is to be run.
#[derive(Args, Clone, Debug, Serialize)]
pub struct SubmitArgs {
    /// Data set to train and test on, as `twograin dataset list` names it
    #[arg(long, value_name = "NAME")]
    dataset: Option<String>,

    /// Network before the two-level head
    ///
    /// vgg-tiny, resnet-tiny and densenet-tiny have under a million parameters and are meant for trials on a CPU at 64 pixels.
    #[arg(long, value_name = "BACKBONE", value_parser = one_of(Backbone::ALL, Backbone::as_str))]
    backbone: Option<Backbone>,

    /// What the run learns; it fixes the loss and the run's own decision rule
    ///
    /// coarse-only: categories alone, the baseline without fine labels.
    /// top-k-softmax: focal loss; the k highest fine scores are taken, k being the image's true number of labels.
    /// sigmoid-threshold: binary cross-entropy; every fine label above the threshold is taken.
    #[arg(long, value_name = "OBJECTIVE", verbatim_doc_comment, value_parser = one_of(Objective::ALL, Objective::as_str))]
    objective: Option<Objective>,

    /// Name of the run [default: made of backbone, objective and seed]
    #[arg(long, value_name = "TEXT", help_heading = "Labels")]
    name: Option<String>,

    /// Tag of the run, 1 to 40 characters; give it several times for several tags
    #[arg(long = "tag", value_name = "TAG", help_heading = "Labels")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,

    /// Free note kept with the run
    #[arg(long, value_name = "TEXT", help_heading = "Labels")]
    note: Option<String>,

    /// Of the runs that wait, higher goes first: -100 to 100 [default: 0]
    ///
    /// It decides nothing about the outcome.
    #[arg(long, value_name = "N", allow_negative_numbers = true, help_heading = "Labels")]
    priority: Option<Priority>,

    /// Passes over the training images [default: 10]
    #[arg(long, value_name = "N", help_heading = TRAINING)]
    epochs: Option<u64>,

    /// Images per step, 2 to 4096 [default: 32]
    #[arg(long, value_name = "N", help_heading = TRAINING)]
    batch_size: Option<u64>,

    /// Side of the square input in pixels, 32 to 1024 [default: 224]
    #[arg(long, value_name = "PIXELS", help_heading = TRAINING)]
    input_size: Option<u64>,

    /// Highest learning rate of the schedule [default: 0.02]
    #[arg(long, value_name = "RATE", help_heading = TRAINING, value_parser = finite)]
    learning_rate: Option<f64>,

    /// How the learning rate goes after the warm-up [default: cosine]
    #[arg(long, value_name = "SCHEDULE", help_heading = TRAINING, value_parser = one_of(Schedule::ALL, Schedule::as_str))]
    schedule: Option<Schedule>,

    /// Epochs of linear warm-up at the start; fractions are allowed [default: 1.0]
    #[arg(long, value_name = "EPOCHS", help_heading = TRAINING, value_parser = finite)]
    warmup_epochs: Option<f64>,

    /// Optimizer [default: sgd]
    #[arg(long, value_name = "OPTIMIZER", help_heading = TRAINING, value_parser = one_of(Optimizer::ALL, Optimizer::as_str))]
    optimizer: Option<Optimizer>,

    /// Momentum of sgd, or β₁ of adamw [default: 0.9]
    #[arg(long, value_name = "VALUE", help_heading = TRAINING, value_parser = finite)]
    momentum: Option<f64>,

    /// Nesterov's momentum, of sgd alone: true or false [default: false]
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true", help_heading = TRAINING)]
    nesterov: Option<bool>,

    /// Weight decay [default: 0.0001]
    #[arg(long, value_name = "VALUE", help_heading = TRAINING, value_parser = finite)]
    weight_decay: Option<f64>,

    /// Whether weight decay reaches biases and batch norm's weights too: true or false [default: true]
    #[arg(long, value_name = "BOOL", help_heading = TRAINING)]
    decay_biases_and_norms: Option<bool>,

    /// Largest L2 norm of all gradients together; larger ones are scaled down to it [default: off]
    #[arg(long, value_name = "NORM", help_heading = TRAINING, value_parser = finite)]
    clip_norm: Option<f64>,

    /// Layer groups of the backbone that learn: all, none, or some, from an epoch on, at a rate of their own [default: all]
    ///
    /// layer4@3:0.002,layer3@5 trains layer4 from epoch 3 on with a learning rate of up to 0.002, layer3 from epoch 5 on with
    /// the run's, and the rest not at all. The head always learns. Groups, from image to head: stem, layer1 to layer4 of
    /// residual networks; stem, block1 to block4 of dense ones; block1 to block5, classifier of vgg; stem, stage1 to stage7,
    /// head of efficientnet-lite0.
    #[arg(long, value_name = "GROUPS", help_heading = TRAINING)]
    unfreeze: Option<Unfreeze>,

    /// Which epoch's weights are kept and evaluated, by the validation split [default: last]
    #[arg(long, value_name = "EPOCH", help_heading = TRAINING, value_parser = one_of(Keep::ALL, Keep::as_str))]
    keep: Option<Keep>,

    /// End after this many epochs without a better one, in the sense of --keep [default: train every epoch]
    #[arg(long, value_name = "EPOCHS", help_heading = TRAINING)]
    patience: Option<u64>,

    /// Which training images an epoch has: each once, or as many in which every fine label has its equal turn [default: uniform]
    #[arg(long, value_name = "KIND", help_heading = TRAINING, value_parser = one_of(Sampling::ALL, Sampling::as_str))]
    sampling: Option<Sampling>,

    /// What is done to training images [default: crop-flip]
    #[arg(long, value_name = "KIND", help_heading = TRAINING, value_parser = one_of(Augmentation::ALL, Augmentation::as_str))]
    augmentation: Option<Augmentation>,

    /// α of the focal loss of top-k-softmax, for all fine labels or for some, as in dog=2,person=0.5 [default: 1.0]
    ///
    /// Labels left out have 1.
    #[arg(long, value_name = "VALUE", help_heading = MODEL)]
    focal_alpha: Option<FocalAlpha>,

    /// γ of the focal loss of top-k-softmax [default: 2.0]
    #[arg(long, value_name = "VALUE", help_heading = MODEL, value_parser = finite)]
    focal_gamma: Option<f64>,

    /// Threshold θ of sigmoid-threshold, 0 to 1; a label is taken when its probability is above it [default: 0.7]
    #[arg(long, value_name = "THETA", help_heading = MODEL, value_parser = finite)]
    threshold: Option<f64>,

    /// What the coarse layer reads: the fine probabilities or the fine logits [default: probabilities]
    #[arg(long, value_name = "KIND", help_heading = MODEL, value_parser = one_of(CoarseInput::ALL, CoarseInput::as_str))]
    coarse_input: Option<CoarseInput>,

    /// Backbone weights to start from: an installed name, or a file [default: random weights, drawn from the seed]
    ///
    /// `twograin weights list` shows the names. A file, safetensors or PyTorch's .pth, is read by the server on its machine; what
    /// is there when you submit, or has a “/”, is taken for a path from the directory you are in.
    #[arg(long, value_name = "NAME|FILE", help_heading = MODEL)]
    initial_weights: Option<PathBuf>,

    /// Seed of weights, validation split, order, augmentation and dropout [default: 0]
    #[arg(long, value_name = "N", help_heading = MACHINE)]
    seed: Option<u64>,

    /// CPU threads; 0 means one per core [default: 0]
    #[arg(long, value_name = "N", help_heading = MACHINE)]
    threads: Option<u64>,

    /// Where it runs: cpu, or cuda:0, cuda:1, … with a build that has CUDA [default: cpu]
    #[arg(long, value_name = "DEVICE", help_heading = MACHINE)]
    device: Option<Device>,

    /// What its jobs ask of a Slurm cluster, where the server runs them on one [default: what the server's --slurm says]
    ///
    /// partition, account, gres, memory, time and cpus, and harmless options of sbatch, as in
    /// partition=gpu,time=2:00:00,memory=16G,gres=gpu:1,--qos=high. What is left out is as the server's --slurm says.
    #[arg(long, value_name = "KEY=VALUE,…", help_heading = MACHINE)]
    slurm: Option<SlurmOptions>,
}

const TRAINING: &str = "Training";
const MODEL: &str = "Model and losses";
const MACHINE: &str = "Seed and machine";

impl SubmitArgs {
    /// The body of `POST /api/v1/runs`, if what has no default is given.
    pub fn body(mut self) -> Result<Map<String, Value>, Failure> {
        self.initial_weights = self.initial_weights.as_deref().map(name_or_path).transpose()?;
        match serde_json::to_value(self) {
            Ok(Value::Object(mut fields)) => {
                fields.retain(|_, value| !value.is_null());
                Ok(fields)
            }
            Ok(_) => Err(Failure::Usage("these flags make no run".into())),
            Err(error) => Err(Failure::Usage(format!("--initial-weights: {error}"))),
        }
    }
}

/// Weights as the server is told of them: a file, also one that only the server may have, by its whole path; a name as it is.
pub(super) fn name_or_path(given: &Path) -> Result<PathBuf, Failure> {
    if given.components().count() > 1 || given.is_file() {
        let absolute = std::path::absolute(given);
        return absolute.map_err(|error| Failure::because(given.display(), &error));
    }
    Ok(given.to_owned())
}

/// JSON has no other numbers.
fn finite(text: &str) -> Result<f64, String> {
    let number = text.parse().ok().filter(|number: &f64| number.is_finite());
    number.ok_or_else(|| format!("“{text}” is not a number"))
}

/// Takes the name of one of `all`; a wrong name is answered with the right ones.
pub(super) fn one_of<T>(all: &[T], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + std::str::FromStr<Err = String> + Send + Sync + 'static,
{
    PossibleValuesParser::new(all.iter().map(|value| name(*value))).try_map(|name| name.parse())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use super::*;
    use crate::domain::{RunSpec, Submission};

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        submit: SubmitArgs,
    }

    const FIRST: [&str; 7] =
        ["submit", "--dataset", "demo", "--backbone", "vgg-tiny", "--objective", "sigmoid-threshold"];

    fn body(extra: &[&str]) -> Map<String, Value> {
        Line::try_parse_from([&FIRST, extra].concat()).unwrap_or_else(|error| panic!("{error}")).submit.body().unwrap()
    }

    fn fields() -> Map<String, Value> {
        let spec = RunSpec::new("demo", Backbone::VggTiny, Objective::SigmoidThreshold);
        let Value::Object(mut fields) = serde_json::to_value(spec).unwrap() else { panic!("not an object") };
        // Left out of JSON when they are not given.
        fields.insert("clip_norm".into(), "off".into());
        fields.insert("patience".into(), "train every epoch".into());
        fields.insert("initial_weights".into(), "random weights, drawn from the seed".into());
        fields
    }

    #[test]
    fn only_what_was_given_is_sent() {
        let keys: Vec<String> = body(&[]).keys().cloned().collect();
        assert_eq!(keys, ["backbone", "dataset", "objective"]);
        let body = body(&["--epochs", "3", "--tag", "a", "--tag", "b", "--device", "cuda", "--initial-weights", "./w"]);
        assert_eq!((&body["epochs"], &body["tags"][1], &body["device"]), (&3.into(), &"b".into(), &"cuda:0".into()));
        let options = self::body(&["--nesterov", "--focal-alpha", "hot dog=2,person=0.5", "--clip-norm", "1"]);
        assert_eq!((&options["nesterov"], &options["focal_alpha"]["hot dog"]), (&true.into(), &2.0.into()));
        let slurm = self::body(&["--slurm", "partition=gpu,cpus=4"]);
        assert_eq!((&slurm["slurm"]["partition"], &slurm["slurm"]["cpus"]), (&"gpu".into(), &4.into()));
        assert!(std::path::Path::new(body["initial_weights"].as_str().unwrap()).is_absolute());
        assert!(serde_json::from_value::<Submission>(Value::Object(body)).is_ok());
        assert_eq!(self::body(&["--initial-weights", "resnet34.tv_in1k"])["initial_weights"], "resnet34.tv_in1k");
    }

    #[test]
    fn every_field_of_a_specification_has_a_flag_that_says_its_default() {
        let command = Line::command();
        for (field, default) in fields() {
            let flag = field.replace('_', "-");
            let arg = command.get_arguments().find(|arg| arg.get_long() == Some(&flag));
            let help = arg.and_then(|arg| arg.get_help()).unwrap_or_else(|| panic!("--{flag} is missing")).to_string();
            let said = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            assert!(
                ["dataset", "backbone", "objective"].contains(&&*field) || help.contains(&format!("[default: {said}]")),
                "--{flag}: {help} does not say the default {said}"
            );
        }
    }

    /// As a shell parts it into words.
    #[cfg(unix)]
    fn words(line: &str) -> Vec<String> {
        let rest = line.strip_prefix("twograin run ").unwrap();
        let output = std::process::Command::new("sh").arg("-c").arg(format!("printf '%s\\0' {rest}")).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.split_terminator('\0').map(str::to_owned).collect()
    }

    #[cfg(unix)]
    #[test]
    fn the_command_of_a_specification_submits_it() {
        let with = |objective, fields: serde_json::Value| {
            let mut all = serde_json::json!({"dataset": "d", "backbone": "resnet34", "objective": objective});
            all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            serde_json::from_value::<RunSpec>(all).unwrap()
        };
        let everything = serde_json::json!({
            "dataset": "a-b_c.1", "focal_alpha": {"hot dog": 2.5, "baker's $HOME": 1e-7}, "focal_gamma": 0.1,
            "threshold": 0.123456789, "coarse_input": "logits", "input_size": 96, "epochs": 7, "batch_size": 5,
            "optimizer": "sgd", "learning_rate": 3e-8, "momentum": 0.95, "nesterov": true, "schedule": "constant",
            "warmup_epochs": 0.5, "weight_decay": 0, "decay_biases_and_norms": false, "clip_norm": 1.5,
            "unfreeze": [{"group": "layer3", "epoch": 4, "learning_rate": 1e-9}, {"group": "layer4", "epoch": 2}],
            "keep": "best-ia", "patience": 3, "sampling": "label-balanced", "augmentation": "none",
            "seed": 18_446_744_073_709_551_615_u64, "threads": 3, "device": "cuda:1",
            "initial_weights": "/some where/it's \"w\".pth"
        });
        for spec in [
            with("coarse-only", serde_json::json!({})),
            with("sigmoid-threshold", serde_json::json!({"unfreeze": "none", "optimizer": "adamw", "threshold": 1})),
            with("top-k-softmax", everything),
        ] {
            let line = Line::try_parse_from(words(&spec.command())).unwrap_or_else(|error| panic!("{error}"));
            let submitted: Submission = serde_json::from_value(Value::Object(line.submit.body().unwrap())).unwrap();
            assert_eq!(submitted.spec, spec);
            assert_eq!(submitted.spec.text(), spec.text());
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_the_right_ones() {
        let error = Line::try_parse_from([&FIRST[..5], &["--objective", "best"]].concat()).err().unwrap().to_string();
        assert!(error.contains("coarse-only, top-k-softmax, sigmoid-threshold"), "{error}");
    }
}
