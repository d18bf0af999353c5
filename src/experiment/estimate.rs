//! What an experiment costs: an estimate, from the speed of this machine and the number of images.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::domain::{
    RunSpec,
    spec::{Augmentation, Backbone, Objective},
};

/// How much there is to learn from, and how many labels.
#[derive(Clone, Copy, Debug)]
pub struct Images {
    /// Training images, those for validation included.
    pub train: u64,
    /// Test images.
    pub test: u64,
    /// Fine labels.
    pub fine: u64,
    /// Coarse categories.
    pub coarse: u64,
}

/// How fast a machine is with a backbone at one input size, and how large the backbone is.
#[derive(Clone, Copy, Debug)]
pub struct Speed {
    /// Images per second of training steps.
    pub train: f64,
    /// Images per second of forward passes.
    pub infer: f64,
    /// Values of the model.
    pub parameters: u64,
}

/// What runs cost together.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Seconds, one run after the other.
    pub seconds: f64,
    /// Bytes of what they leave.
    pub bytes: u64,
    /// By backbone, in their order.
    pub backbones: Vec<BackboneEstimate>,
}

/// What the runs of a backbone cost together.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BackboneEstimate {
    /// The backbone.
    pub backbone: Backbone,
    /// How many runs.
    pub runs: usize,
    /// Measured, of training steps.
    pub train_images_per_second: f64,
    /// Measured, of forward passes.
    pub infer_images_per_second: f64,
    /// Seconds of all its runs.
    pub seconds: f64,
    /// Bytes of what its runs leave.
    pub bytes: u64,
}

impl Estimate {
    /// Of runs whose backbones' speeds are known; the others are left out.
    pub fn of<'a>(runs: impl Iterator<Item = &'a RunSpec>, images: Images, speeds: &BTreeMap<Backbone, Speed>) -> Self {
        let mut estimate = Self::default();
        for spec in runs {
            let Some(speed) = speeds.get(&spec.backbone) else { continue };
            let (seconds, bytes) = (images.seconds(spec, speed), images.bytes(spec, speed));
            estimate.seconds += seconds;
            estimate.bytes += bytes;
            match estimate.backbones.iter_mut().find(|row| row.backbone == spec.backbone) {
                Some(row) => {
                    row.runs += 1;
                    row.seconds += seconds;
                    row.bytes += bytes;
                }
                None => estimate.backbones.push(BackboneEstimate {
                    backbone: spec.backbone,
                    runs: 1,
                    train_images_per_second: speed.train,
                    infer_images_per_second: speed.infer,
                    seconds,
                    bytes,
                }),
            }
        }
        estimate
    }
}

impl Images {
    /// A tenth of the training images, drawn by category; the rounding there is left out.
    fn validation(&self) -> u64 {
        self.train.div_ceil(10)
    }

    fn seconds(&self, spec: &RunSpec, speed: &Speed) -> f64 {
        if spec.unfreeze.is_none() && spec.augmentation == Augmentation::None {
            // The backbone sees each image once; what is learned from its features takes no time beside that.
            return (self.train + self.test) as f64 / speed.infer;
        }
        let (validation, epochs) = (self.validation(), spec.epochs as u64);
        let learned = self.train - validation;
        // The percentiles of the fine logits need each image that was learned from once more.
        let percentiles = if has_fine(spec) { learned } else { 0 };
        let evaluated = epochs * validation + percentiles + self.test;
        (epochs * learned) as f64 / speed.train + evaluated as f64 / speed.infer
    }

    /// Weights in single precision; and for each test and validation image the logits, and its id.
    fn bytes(&self, spec: &RunSpec, speed: &Speed) -> u64 {
        let logits = self.coarse + if has_fine(spec) { self.fine } else { 0 };
        4 * speed.parameters + (self.test + self.validation()) * (4 * logits + 8)
    }
}

fn has_fine(spec: &RunSpec) -> bool {
    match spec.objective {
        Objective::CoarseOnly => false,
        Objective::TopKSoftmax | Objective::SigmoidThreshold => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::spec::Fields;

    #[test]
    fn the_arithmetic_is_that_of_a_worked_example() {
        // 1,000 training images, 100 of them for validation; 200 test images; 10 images a second in training, 100 in inference.
        let images = Images { train: 1000, test: 200, fine: 80, coarse: 11 };
        let speed = Speed { train: 10.0, infer: 100.0, parameters: 1_000_000 };
        let spec = |objective| RunSpec::new("d", Backbone::ResNet34, objective).with(|spec| spec.epochs = 3).unwrap();
        // 3 × 900 / 10 = 270 s; 3 × 100 validation + 200 test = 500 images = 5 s; with fine labels 900 more = 9 s.
        let (coarse, fine) = (spec(Objective::CoarseOnly), spec(Objective::SigmoidThreshold));
        assert_eq!((images.seconds(&coarse, &speed), images.seconds(&fine, &speed)), (275.0, 284.0));
        // Of a frozen backbone without augmentation 1,000 + 200 forward passes.
        let frozen = |spec: &mut Fields| {
            (spec.unfreeze, spec.augmentation) = ("none".parse().unwrap(), Augmentation::None);
        };
        assert_eq!(images.seconds(&fine.clone().with(frozen).unwrap(), &speed), 12.0);
        // 4 MB of weights; 300 images with 11 logits (44 bytes), or with 91 (364 bytes), and 8 bytes of id.
        assert_eq!((images.bytes(&coarse, &speed), images.bytes(&fine, &speed)), (4_015_600, 4_111_600));

        let slow = RunSpec::new("d", Backbone::Vgg16, Objective::CoarseOnly);
        let speeds = BTreeMap::from([(Backbone::ResNet34, speed)]);
        let estimate = Estimate::of([&coarse, &fine, &slow].into_iter(), images, &speeds);
        assert_eq!((estimate.seconds, estimate.bytes, estimate.backbones.len()), (559.0, 8_127_200, 1));
        assert_eq!((estimate.backbones[0].runs, estimate.backbones[0].seconds), (2, 559.0));
    }
}
