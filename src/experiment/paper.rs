//! The paper's experiment: tables 2 to 4.

use super::{Options, Plan, told};
use crate::domain::{
    RunLabels, RunSpec, SlurmOptions, Submission,
    spec::{Backbone, Objective},
};

/// The paper's backbones.
pub const PAPER_BACKBONES: &[Backbone] = &[Backbone::Vgg16, Backbone::ResNet34, Backbone::DenseNet121];

/// Every backbone under every objective, once for each seed, so that the first table is there as early as can be.
///
/// The paper names no optimizer, learning rate, epochs or augmentation. Here they are the defaults of a specification (224
/// pixels, random resized crop and flip, SGD with momentum 0.9, weight decay 1e-4, cosine after one epoch of warm-up) and what
/// [`recipe`] says.
pub fn paper(options: &Options) -> Result<Plan, String> {
    let mut runs = Vec::new();
    for &seed in &options.seeds {
        for &backbone in &options.backbones {
            for &objective in Objective::ALL {
                let spec = told(recipe(RunSpec::new(&options.dataset, backbone, objective))?, options, seed)?;
                runs.push(Submission {
                    spec,
                    labels: RunLabels { tags: vec!["paper".into()], ..RunLabels::default() },
                    slurm: SlurmOptions::default(),
                });
            }
        }
    }
    Ok(Plan { title: format!("The paper's experiment (tables 2 to 4) on “{}”", options.dataset), runs })
}

/// Learning rate and gradient clipping that suit the backbone, for batches of about 32.
fn recipe(spec: RunSpec) -> Result<RunSpec, String> {
    spec.with(|spec| match spec.backbone {
        // Without batch norm, nothing rescales what 13 convolutions and two wide linear layers do to a gradient, and binary
        // cross-entropy, a sum over 80 labels, starts out tens of times as large as the others: at the rate of the residual
        // networks it diverges. A bound on the gradients holds the first steps, a lower rate the rest.
        Backbone::VggTiny | Backbone::Vgg16 => (spec.learning_rate, spec.clip_norm) = (0.003, Some(5.0)),
        Backbone::ResNetTiny
        | Backbone::DenseNetTiny
        | Backbone::ResNet34
        | Backbone::DenseNet121
        | Backbone::EfficientNetLite0
        | Backbone::EfficientNetLite0Timm => spec.learning_rate = 0.01,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::spec::Device;

    fn options() -> Options {
        Options {
            dataset: "coco".into(),
            backbones: PAPER_BACKBONES.to_vec(),
            weights: BTreeMap::from([(Backbone::ResNet34, "resnet34.tv_in1k".to_owned())]),
            epochs: None,
            input_size: None,
            batch_size: None,
            learning_rate: None,
            seeds: vec![0, 3],
            device: Device::Cpu,
            threads: 2,
        }
    }

    #[test]
    fn there_are_nine_runs_for_each_seed() {
        let plan = paper(&options()).unwrap();
        assert_eq!(plan.runs.len(), 18);
        let names: Vec<String> = plan.runs.iter().map(Submission::name).collect();
        assert_eq!((&*names[0], &*names[17]), ("vgg16 coarse-only", "densenet121 sigmoid-threshold seed 3"));
        let unique: std::collections::BTreeSet<_> = names.iter().collect();
        assert_eq!(unique.len(), 18);
        for Submission { spec, .. } in &plan.runs {
            assert_eq!((spec.input_size, spec.momentum, spec.weight_decay, spec.threads), (224, 0.9, 1e-4, 2));
            assert_eq!(spec.initial_weights.is_some(), spec.backbone == Backbone::ResNet34);
            assert_eq!(spec.clip_norm.is_some(), spec.backbone == Backbone::Vgg16);
        }
    }

    #[test]
    fn what_is_told_goes_before_the_recipe() {
        let told = Options { learning_rate: Some(0.5), epochs: Some(1), input_size: Some(64), ..options() };
        let spec = paper(&told).unwrap().runs.remove(0).spec;
        assert_eq!((spec.learning_rate, spec.epochs, spec.input_size, spec.warmup_epochs), (0.5, 1, 64, 0.5));
        let wrong = Options { input_size: Some(8), ..options() };
        assert!(paper(&wrong).unwrap_err().starts_with("input_size: 8 is outside"));
    }
}
