use candle_core::{DType, Device, Tensor};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use twograin::{
    domain::RunSpec,
    model::{Init, Parameters},
    training::Optimizer,
};

use super::{assert_close, reference};

#[derive(Deserialize)]
struct Reference {
    start: Vec<f64>,
    curvature: Vec<f64>,
    rates: Vec<f64>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    settings: Map<String, Value>,
    steps: Vec<Vec<f64>>,
}

fn spec(settings: &Map<String, Value>) -> RunSpec {
    let mut fields = json!({"dataset": "d", "backbone": "resnet-tiny", "objective": "coarse-only"});
    fields.as_object_mut().unwrap().extend(settings.clone());
    serde_json::from_value(fields).unwrap()
}

/// A bias `[2]` and a weight `[2, 2]`, in the order of their names.
fn parameters(dtype: DType) -> Parameters {
    let mut parameters = Parameters::new(3, dtype, &Device::Cpu);
    parameters.trained("bias".into(), &[2], Init::Normal(1.0)).unwrap();
    parameters.trained("weight".into(), &[2, 2], Init::Normal(1.0)).unwrap();
    parameters
}

/// The weight's values, then the bias's.
fn values(parameters: &Parameters) -> Tensor {
    let vars: Vec<_> = parameters.iter_trained().map(|(_, var)| var.flatten_all().unwrap()).rev().collect();
    Tensor::cat(&vars, 0).unwrap()
}

/// A step down `0.5 Σ c w²`.
fn step(optimizer: &mut Optimizer, parameters: &Parameters, curvature: &[f64], rate: f64) {
    let values = values(parameters);
    let curvature = Tensor::new(curvature, &Device::Cpu).unwrap().to_dtype(values.dtype()).unwrap();
    let loss = ((values.sqr().unwrap() * curvature).unwrap().sum_all().unwrap() * 0.5).unwrap();
    optimizer.step(&loss.backward().unwrap(), rate).unwrap();
}

#[test]
fn every_optimizer_takes_pytorchs_steps_with_every_option() {
    let reference: Reference = reference("optimizers.json");
    for case in &reference.cases {
        let parameters = parameters(DType::F64);
        for ((_, var), values) in parameters.iter_trained().zip([&reference.start[4..], &reference.start[..4]]) {
            var.set(&Tensor::from_slice(values, var.dims(), &Device::Cpu).unwrap()).unwrap();
        }
        let mut optimizer = Optimizer::new(&spec(&case.settings), &parameters).unwrap();
        for (&rate, expected) in reference.rates.iter().zip(&case.steps) {
            step(&mut optimizer, &parameters, &reference.curvature, rate);
            let found = values(&parameters).to_vec1::<f64>().unwrap();
            assert_close(&found, expected, 1e-14, &format!("{:?}", case.settings));
        }
    }
    assert_eq!(reference.cases.len(), 12);
}
