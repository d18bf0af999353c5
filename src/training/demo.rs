//! The runs of the demo.

use crate::domain::{
    RunSpec,
    spec::{Augmentation, Backbone, Objective, Optimizer},
};

/// The small backbone of each family under every objective, the shape of the paper's tables, on the generated scenes called
/// `dataset`: small enough that all nine take less than five minutes on two cores, long enough that right and wrong reasons both
/// occur.
pub fn demo_specs(dataset: &str) -> Vec<RunSpec> {
    let mut specs = Vec::new();
    for backbone in [Backbone::VggTiny, Backbone::ResNetTiny, Backbone::DenseNetTiny] {
        for &objective in Objective::ALL {
            let spec = RunSpec::new(dataset, backbone, objective).with(|spec| {
                (spec.input_size, spec.epochs, spec.batch_size) = (64, 7, 16);
                (spec.optimizer, spec.learning_rate, spec.weight_decay) = (Optimizer::AdamW, 3e-3, 1e-2);
                (spec.warmup_epochs, spec.augmentation) = (0.5, Augmentation::Flip);
            });
            // Constants within their ranges: a unit test builds them.
            specs.extend(spec);
        }
    }
    specs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_compares_three_backbones_under_every_objective() {
        assert_eq!(demo_specs("scenes").len(), 3 * Objective::ALL.len());
    }
}
