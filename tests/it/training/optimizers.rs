use std::path::Path;

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

#[test]
fn a_kept_state_goes_on_as_if_nothing_had_happened() {
    let folder = tempfile::tempdir().unwrap();
    let [weights, state] = ["weights", "state"].map(|name| folder.path().join(name));
    let Reference { curvature, cases, .. } = reference("optimizers.json");
    for Case { settings, .. } in &cases {
        let new = || {
            let parameters = parameters(DType::F32);
            (Optimizer::new(&spec(settings), &parameters).unwrap(), parameters)
        };
        let steps = |(optimizer, parameters): &mut (Optimizer, Parameters)| {
            (0..5).for_each(|_| step(optimizer, parameters, &curvature, 0.05));
        };
        let mut first = new();
        steps(&mut first);
        first.0.save(&state).unwrap();
        first.1.save(&weights).unwrap();
        steps(&mut first);
        let mut second = new();
        second.0.load(&state).unwrap();
        second.1.load(&weights).unwrap();
        steps(&mut second);
        let [first, second] = [first, second].map(|(_, parameters)| values(&parameters).to_vec1::<f32>().unwrap());
        assert_eq!(first, second, "{settings:?}");
    }
}

#[test]
fn a_state_that_does_not_fit_is_refused_and_what_differs_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    let optimizer = |algorithm: &str, bias: &str, size: usize| {
        let mut parameters = Parameters::new(0, DType::F32, &Device::Cpu);
        parameters.trained(bias.into(), &[size], Init::Constant(0.0)).unwrap();
        let settings = Map::from_iter([("optimizer".to_owned(), algorithm.into())]);
        (Optimizer::new(&spec(&settings), &parameters).unwrap(), parameters)
    };
    let (saved, parameters) = optimizer("adamw", "bias", 2);
    let refused =
        |algorithm, bias, size, path: &Path| optimizer(algorithm, bias, size).0.load(path).unwrap_err().to_string();
    saved.save(&path).unwrap();
    for (error, says) in [
        (refused("sgd", "bias", 2, &path), "it is of adamw, not of sgd"),
        (refused("adamw", "bias", 3, &path), "bias.mean (expected [3], found [2])"),
        (refused("adamw", "beta", 2, &path), "missing: beta.mean, beta.square; unexpected: bias.mean, bias.square"),
        (refused("adamw", "bias", 2, &folder.path().join("none")), "none"),
    ] {
        assert!(error.contains(says), "{error}");
    }
    parameters.save(&path).unwrap();
    let error = refused("adamw", "bias", 2, &path);
    assert!(error.contains("it is not the state of an optimizer"), "{error}");
}
