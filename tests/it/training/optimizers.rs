use std::collections::BTreeMap;

use candle_core::{Device, Tensor, Var};
use twograin::{
    domain::{
        RunSpec,
        spec::{Backbone, Objective, Optimizer as Algorithm},
    },
    training::Optimizer,
};

use super::{assert_close, reference};

#[test]
fn every_optimizer_takes_pytorchs_steps() {
    let expected: BTreeMap<String, Vec<Vec<f64>>> = reference("optimizers.json");
    for &algorithm in Algorithm::ALL {
        let spec = RunSpec::new("d", Backbone::ResNetTiny, Objective::CoarseOnly)
            .with(|spec| (spec.optimizer, spec.momentum, spec.weight_decay) = (algorithm, 0.9, 0.01))
            .unwrap();
        let var = Var::new(&[1.0f64, -2.0, 0.5], &Device::Cpu).unwrap();
        let curvature = Tensor::new(&[1.0f64, 0.1, 3.0], &Device::Cpu).unwrap();
        let mut optimizer = Optimizer::new(&spec, [&var].into_iter()).unwrap();
        for (rate, expected) in [0.1, 0.2, 0.1, 0.05].into_iter().zip(&expected[algorithm.as_str()]) {
            let loss = ((curvature.clone() * var.sqr().unwrap()).unwrap().sum_all().unwrap() * 0.5).unwrap();
            optimizer.step(&loss.backward().unwrap(), rate).unwrap();
            assert_close(&var.to_vec1::<f64>().unwrap(), expected, 1e-14, algorithm.as_str());
        }
    }
}
