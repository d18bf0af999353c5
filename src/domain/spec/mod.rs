//! The specification of a training run: everything that decides its outcomes, in one validated value.

mod choices;
mod command;
mod focal_alpha;
mod unfreeze;

use std::fmt::Display;

use serde::{Deserialize, Serialize};

use super::{DecisionRule, Taxonomy, Threshold, TopK};

pub use choices::{Augmentation, Backbone, CoarseInput, Device, Keep, Objective, Optimizer, Sampling, Schedule};
pub use focal_alpha::FocalAlpha;
pub use unfreeze::{Thaw, Unfreeze};

/// A training run's specification. Flat in JSON; every field but the first three has a default. The same specification on
/// the same machine gives the same outcomes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct RunSpec(Fields);

/// The fields of a [`RunSpec`], as they stand in JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fields {
    /// The data set's name.
    pub dataset: String,
    /// The network before the two-level head.
    pub backbone: Backbone,
    /// What is learned.
    pub objective: Objective,
    /// α of the focal loss (eq. 5).
    #[serde(default)]
    pub focal_alpha: FocalAlpha,
    /// γ of the focal loss (eq. 5).
    #[serde(default = "defaults::focal_gamma")]
    pub focal_gamma: f64,
    /// θ of the run's own decision rule in the sigmoid mode.
    #[serde(default = "defaults::threshold")]
    pub threshold: Threshold,
    /// What the coarse layer reads.
    #[serde(default)]
    pub coarse_input: CoarseInput,
    /// Side of the square input, in pixels.
    #[serde(default = "defaults::input_size")]
    pub input_size: usize,
    /// Passes over the training images.
    #[serde(default = "defaults::epochs")]
    pub epochs: usize,
    /// Images per step.
    #[serde(default = "defaults::batch_size")]
    pub batch_size: usize,
    /// The optimizer.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// The highest learning rate of the schedule.
    #[serde(default = "defaults::learning_rate")]
    pub learning_rate: f64,
    /// Momentum of SGD (β₁ of AdamW).
    #[serde(default = "defaults::momentum")]
    pub momentum: f64,
    /// Nesterov's momentum; of SGD alone.
    #[serde(default)]
    pub nesterov: bool,
    /// How the learning rate goes after the warm-up.
    #[serde(default)]
    pub schedule: Schedule,
    /// Epochs of linear warm-up at the start; fractions are allowed.
    #[serde(default = "defaults::warmup_epochs")]
    pub warmup_epochs: f64,
    /// Weight decay.
    #[serde(default = "defaults::weight_decay")]
    pub weight_decay: f64,
    /// Whether weight decay reaches biases and batch norm's weights too, or weights of convolutions and linear layers alone.
    #[serde(default = "defaults::decay_biases_and_norms")]
    pub decay_biases_and_norms: bool,
    /// The largest L2 norm of all gradients together; larger ones are scaled down to it. Without one, none is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Which layer groups of the backbone learn.
    #[serde(default)]
    pub unfreeze: Unfreeze,
    /// Which epoch's weights are kept.
    #[serde(default)]
    pub keep: Keep,
    /// Ends the run when this many epochs in a row are no better than the one that `keep` would keep. Without it, every epoch
    /// is trained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub patience: Option<usize>,
    /// Which training images an epoch has.
    #[serde(default)]
    pub sampling: Sampling,
    /// What is done to training images.
    #[serde(default)]
    pub augmentation: Augmentation,
    /// Seeds initialisation, validation split, order, augmentation and dropout.
    #[serde(default)]
    pub seed: u64,
    /// CPU threads; 0 means one per core, and is replaced by their number when the run starts.
    #[serde(default)]
    pub threads: usize,
    /// Where it runs.
    #[serde(default)]
    pub device: Device,
    /// Backbone weights to start from: an installed name or a file's path; without them, the weights are drawn from the seed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub initial_weights: Option<String>,
}

mod defaults {
    use super::Threshold;

    pub fn focal_gamma() -> f64 {
        2.0
    }
    pub fn threshold() -> Threshold {
        Threshold::PAPER
    }
    pub fn input_size() -> usize {
        224
    }
    pub fn epochs() -> usize {
        10
    }
    pub fn batch_size() -> usize {
        32
    }
    pub fn learning_rate() -> f64 {
        0.02
    }
    pub fn momentum() -> f64 {
        0.9
    }
    pub fn warmup_epochs() -> f64 {
        1.0
    }
    pub fn weight_decay() -> f64 {
        1e-4
    }
    pub fn decay_biases_and_norms() -> bool {
        true
    }
}

impl RunSpec {
    /// The smallest input side, in pixels: a backbone halves it five times.
    pub const MIN_INPUT_SIZE: usize = 32;
    /// The largest input side, in pixels.
    pub const MAX_INPUT_SIZE: usize = 1024;

    /// A specification with every default.
    pub fn new(dataset: impl Into<String>, backbone: Backbone, objective: Objective) -> Self {
        Self(Fields {
            dataset: dataset.into(),
            backbone,
            objective,
            focal_alpha: FocalAlpha::default(),
            focal_gamma: defaults::focal_gamma(),
            threshold: defaults::threshold(),
            coarse_input: CoarseInput::default(),
            input_size: defaults::input_size(),
            epochs: defaults::epochs(),
            batch_size: defaults::batch_size(),
            optimizer: Optimizer::default(),
            learning_rate: defaults::learning_rate(),
            momentum: defaults::momentum(),
            nesterov: false,
            schedule: Schedule::default(),
            warmup_epochs: defaults::warmup_epochs(),
            weight_decay: defaults::weight_decay(),
            decay_biases_and_norms: defaults::decay_biases_and_norms(),
            clip_norm: None,
            unfreeze: Unfreeze::default(),
            keep: Keep::default(),
            patience: None,
            sampling: Sampling::default(),
            augmentation: Augmentation::default(),
            seed: 0,
            threads: 0,
            device: Device::default(),
            initial_weights: None,
        })
    }

    /// The same with some fields changed, validated again.
    pub fn with(self, change: impl FnOnce(&mut Fields)) -> Result<Self, String> {
        let mut fields = self.0;
        change(&mut fields);
        fields.try_into()
    }

    /// The run's own decision rule: the one of its loss. `None` for the coarse-only baseline, which decides no fine label.
    pub fn own_rule(&self) -> Option<DecisionRule> {
        match self.objective {
            Objective::CoarseOnly => None,
            Objective::TopKSoftmax => Some(DecisionRule::TopK { k: TopK::Oracle }),
            Objective::SigmoidThreshold => Some(DecisionRule::Threshold { threshold: self.threshold }),
        }
    }

    /// α of each fine label of the data set, whose labels are `taxonomy`'s: `[fine]`. The error names a label that it lacks.
    pub fn focal_alphas(&self, taxonomy: &Taxonomy) -> Result<Vec<f64>, String> {
        let unknown = |label| format!("focal_alpha: the data set “{}” has no fine label “{label}”", self.dataset);
        self.focal_alpha.of_each(taxonomy).map_err(unknown)
    }

    /// The highest learning rate of a layer group of the backbone, or of the head (`None`); nothing if it never learns.
    pub fn learning_rate_of(&self, group: Option<&str>) -> Option<f64> {
        group.map_or(Some(self.learning_rate), |group| self.unfreeze.learning_rate(group, self.learning_rate))
    }

    /// The specification without its seed: runs that agree in it form a group.
    pub fn group_key(&self) -> String {
        serde_json::to_string(&Fields { seed: 0, threads: 0, ..self.0.clone() }).unwrap_or_default()
    }
}

impl std::ops::Deref for RunSpec {
    type Target = Fields;
    fn deref(&self) -> &Fields {
        &self.0
    }
}

impl From<RunSpec> for Fields {
    fn from(spec: RunSpec) -> Fields {
        spec.0
    }
}

impl TryFrom<Fields> for RunSpec {
    type Error = String;

    fn try_from(mut fields: Fields) -> Result<Self, String> {
        let check = |ok: bool, message: String| if ok { Ok(()) } else { Err(message) };
        check(!fields.dataset.trim().is_empty(), "dataset: it is empty".into())?;
        let size = fields.input_size;
        let (min, max) = (Self::MIN_INPUT_SIZE, Self::MAX_INPUT_SIZE);
        check((min..=max).contains(&size), format!("input_size: {size} is outside {min} to {max} pixels"))?;
        check((1..=10_000).contains(&fields.epochs), format!("epochs: {} is outside 1 to 10000", fields.epochs))?;
        check(
            (2..=4096).contains(&fields.batch_size),
            format!("batch_size: {} is outside 2 to 4096", fields.batch_size),
        )?;
        check(fields.threads <= 1024, format!("threads: {} is more than 1024", fields.threads))?;
        for (name, value, min, max) in [
            ("focal_gamma", fields.focal_gamma, 0.0, 20.0),
            ("learning_rate", fields.learning_rate, f64::MIN_POSITIVE, 100.0),
            ("momentum", fields.momentum, 0.0, 0.9999),
            ("warmup_epochs", fields.warmup_epochs, 0.0, fields.epochs as f64),
            ("weight_decay", fields.weight_decay, 0.0, 10.0),
        ] {
            in_range(name, value, min, max)?;
        }
        if let Some(norm) = fields.clip_norm {
            in_range("clip_norm", norm, f64::MIN_POSITIVE, 1e6)?;
        }
        fields.focal_alpha.check()?;
        fields.unfreeze.check(fields.backbone, fields.epochs)?;
        fields.unfreeze = std::mem::take(&mut fields.unfreeze).canonical(fields.backbone, fields.learning_rate);
        check(
            fields.keep != Keep::BestIa || fields.objective != Objective::CoarseOnly,
            "keep: a coarse-only run has no IA".into(),
        )?;
        if let Some(patience) = fields.patience {
            check(patience >= 1, "patience: it is at least 1; leave it out to train every epoch".into())?;
            check(fields.keep != Keep::Last, "patience: keep says what “better” is; it must not be last".into())?;
        }
        let has_velocity = fields.optimizer == Optimizer::Sgd && fields.momentum > 0.0;
        check(has_velocity || !fields.nesterov, "nesterov: it needs the optimizer sgd and a momentum above 0".into())?;
        if let Some(path) = &fields.initial_weights {
            check(
                !path.trim().is_empty(),
                "initial_weights: it is empty; leave it out to start from random weights".into(),
            )?;
        }
        Ok(Self(fields))
    }
}

/// A `min` of [`f64::MIN_POSITIVE`] means that 0 is excluded.
fn in_range(name: impl Display, value: f64, min: f64, max: f64) -> Result<(), String> {
    let (shown, exclusive) = if min == f64::MIN_POSITIVE { (0.0, " (exclusive)") } else { (min, "") };
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(format!("{name}: {value} is outside {shown}{exclusive} to {max}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(extra: &str) -> Result<RunSpec, String> {
        let text = format!(r#"{{"dataset":"coco","backbone":"resnet-tiny","objective":"sigmoid-threshold"{extra}}}"#);
        serde_json::from_str(&text).map_err(|error| error.to_string())
    }

    #[test]
    fn everything_but_three_fields_has_a_default_that_round_trips() {
        let spec = parse("").unwrap();
        assert_eq!(spec, RunSpec::new("coco", Backbone::ResNetTiny, Objective::SigmoidThreshold));
        assert_eq!((spec.focal_gamma, spec.threshold.get(), spec.momentum), (2.0, 0.7, 0.9));
        assert_eq!((spec.nesterov, spec.decay_biases_and_norms, spec.clip_norm), (false, true, None));
        assert_eq!(serde_json::from_str::<RunSpec>(&serde_json::to_string(&spec).unwrap()).unwrap(), spec);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (extra, expected) in [
            (r#","input_size":16"#, "input_size: 16 is outside 32 to 1024"),
            (r#","threshold":1.5"#, "a threshold lies between 0 and 1"),
            (r#","learning_rate":0"#, "learning_rate: 0 is outside 0 (exclusive) to 100"),
            (r#","nesterov":true,"momentum":0"#, "nesterov: it needs the optimizer sgd and a momentum above 0"),
            (r#","nesterov":true,"optimizer":"adamw""#, "nesterov: it needs the optimizer sgd"),
            (r#","clip_norm":0"#, "clip_norm: 0 is outside 0 (exclusive) to 1000000"),
            (r#","focal_alpha":0"#, "focal_alpha: 0 is outside 0 (exclusive) to 1000"),
            (r#","focal_alpha":{"dog":-1}"#, "focal_alpha: dog: -1 is outside 0 (exclusive) to 1000"),
            (r#","focal_alpha":{}"#, "focal_alpha: it names no label"),
            (r#","focal_alpha":"dog""#, "expected a number, or an object from fine labels to numbers"),
            (r#","unfreeze":"layer4""#, "expected \"all\", \"none\", or a list of"),
            (r#","unfreeze":[{"group":"layer3"}]"#, "unfreeze: layer3 learns before layer4"),
            (r#","unfreeze":[{"group":"layer4","epoch":11}]"#, "unfreeze: layer4: epoch 11 is outside 1 to 10"),
            (r#","patience":3"#, "patience: keep says what “better” is"),
            (r#","patience":0,"keep":"best-ia""#, "patience: it is at least 1"),
            (r#","keep":"best""#, "unknown variant `best`"),
            (r#","sampling":"balanced""#, "unknown variant `balanced`"),
            (r#","warmup_epochs":11"#, "warmup_epochs: 11 is outside 0 to 10"),
            (r#","epoch":3"#, "unknown field `epoch`"),
            (r#","device":"tpu""#, "“tpu” is not a device"),
            (r#","optimizer":"adam""#, "unknown variant `adam`"),
        ] {
            let error = parse(extra).unwrap_err();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn only_the_seed_separates_the_runs_of_a_group() {
        assert_eq!(parse(r#","seed":1"#).unwrap().group_key(), parse(r#","seed":2"#).unwrap().group_key());
        assert_ne!(parse(r#","epochs":1"#).unwrap().group_key(), parse(r#","epochs":2"#).unwrap().group_key());
    }
}
