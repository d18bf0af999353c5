//! What weights from ImageNet are worth on a data set: a frozen backbone, a fine-tuned one, and one from random weights.

use super::{Options, Plan, told};
use crate::domain::{
    RunLabels, RunSpec, SlurmOptions, Submission,
    spec::{Augmentation, Backbone, CoarseInput, Fields, Objective, Optimizer, Thaw, Unfreeze},
};

/// The backbone whose weights take a second to fetch, and which a processor trains in minutes.
pub const TRANSFER_BACKBONES: &[Backbone] = &[Backbone::EfficientNetLite0];
/// How many runs there are of each backbone and seed.
pub const TRANSFER_ARMS: usize = 3;

/// The learning rate of the backbone, as a share of the head's, which starts from nothing.
const BACKBONE_RATE: f64 = 0.1;

/// How a run starts, and what of it learns.
#[derive(Clone, Copy)]
enum Arm {
    /// The backbone stays as ImageNet left it; the head learns on features that are computed once.
    Frozen,
    /// The backbone learns too, at a lower rate.
    FineTuned,
    /// The same run, but from random weights.
    Random,
}

/// Three runs of each backbone, once for each seed. The first differs from the second in what learns and in augmentation, the
/// second from the third in initial weights alone.
///
/// For small data sets: AdamW; a head of which the coarse layer reads logits, since probabilities near 0 teach it little in so
/// few steps. Both were chosen by the validation split.
pub fn transfer(options: &Options) -> Result<Plan, String> {
    if let Some(backbone) = options.backbones.iter().find(|backbone| !options.weights.contains_key(backbone)) {
        return Err(format!(
            "{backbone}: without weights there is nothing to transfer; leave --weights out, or give {backbone}=NAME"
        ));
    }
    let mut runs = Vec::new();
    for &seed in &options.seeds {
        for &backbone in &options.backbones {
            for (arm, name) in
                [(Arm::Frozen, "frozen"), (Arm::FineTuned, "fine-tuned"), (Arm::Random, "from random weights")]
            {
                let spec = RunSpec::new(&options.dataset, backbone, Objective::TopKSoftmax).with(recipe)?;
                let spec = told(spec, options, seed)?.with(|spec| change(spec, arm))?;
                let seed = if seed == 0 { String::new() } else { format!(" seed {seed}") };
                let labels = RunLabels {
                    name: Some(format!("{backbone} {name}{seed}")),
                    tags: vec!["transfer".into()],
                    ..RunLabels::default()
                };
                runs.push(Submission { spec, labels, slurm: SlurmOptions::default() });
            }
        }
    }
    Ok(Plan { title: format!("Transfer learning on “{}”", options.dataset), runs })
}

fn recipe(spec: &mut Fields) {
    (spec.optimizer, spec.learning_rate) = (Optimizer::AdamW, 0.01);
    (spec.epochs, spec.batch_size, spec.coarse_input) = (12, 16, CoarseInput::Logits);
}

fn change(spec: &mut Fields, arm: Arm) {
    match arm {
        Arm::Frozen => {
            (spec.unfreeze, spec.augmentation) = (Unfreeze::Groups(Vec::new()), Augmentation::None);
        }
        Arm::FineTuned => spec.unfreeze = slowly(spec.backbone, spec.learning_rate),
        Arm::Random => {
            (spec.unfreeze, spec.initial_weights) = (slowly(spec.backbone, spec.learning_rate), None);
        }
    }
}

/// All of the backbone from the first epoch on, at its share of the head's rate.
fn slowly(backbone: Backbone, head: f64) -> Unfreeze {
    let thaw = |group: &&str| Thaw { group: (*group).to_owned(), epoch: 1, learning_rate: Some(head * BACKBONE_RATE) };
    Unfreeze::Groups(backbone.layer_groups().iter().map(thaw).collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::spec::Device;

    #[test]
    fn the_last_two_runs_differ_in_their_initial_weights_alone() {
        let backbone = Backbone::EfficientNetLite0;
        let options = Options {
            dataset: "photographs".into(),
            backbones: vec![backbone],
            weights: BTreeMap::from([(backbone, "efficientnet-lite0.imagenet".to_owned())]),
            epochs: Some(3),
            input_size: None,
            batch_size: None,
            learning_rate: Some(0.02),
            seeds: vec![0, 1],
            device: Device::Cpu,
            threads: 0,
        };
        let plan = transfer(&options).unwrap();
        let names: Vec<String> = plan.runs.iter().map(Submission::name).collect();
        assert_eq!((names.len(), &*names[0]), (6, "efficientnet-lite0 frozen"));
        assert_eq!(names[5], "efficientnet-lite0 from random weights seed 1");
        let [frozen, tuned, random] = &plan.runs[..3] else { panic!("three runs a seed") };
        assert!(frozen.spec.unfreeze.is_none() && frozen.spec.augmentation == Augmentation::None);
        let same = tuned.spec.clone().with(|spec| spec.initial_weights = None).unwrap();
        assert_eq!(same, random.spec);
        assert_eq!(tuned.spec.learning_rate_of(Some("stem")), Some(0.002));
        let without = Options { weights: BTreeMap::new(), ..options };
        assert!(transfer(&without).unwrap_err().contains("nothing to transfer"));
    }
}
