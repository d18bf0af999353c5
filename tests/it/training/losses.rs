use candle_core::{DType, Device, Tensor, Var};
use serde::Deserialize;
use twograin::model::loss::{binary_cross_entropy, cross_entropy, focal};

use super::{assert_close, reference};

#[derive(Deserialize)]
struct Reference {
    targets: Vec<f64>,
    categories: Vec<u32>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    #[serde(default)]
    alpha: Vec<f64>,
    #[serde(default)]
    gamma: f64,
    logits: Vec<f64>,
    value: f64,
    grad: Vec<f64>,
}

impl Reference {
    /// Value and gradient of a case's loss at `logits`.
    fn evaluate(&self, case: &Case, logits: &[f64], dtype: DType) -> candle_core::Result<(f64, Vec<f64>)> {
        let n = self.categories.len();
        let tensor = |values: &[f64]| Tensor::from_slice(values, (n, values.len() / n), &Device::Cpu)?.to_dtype(dtype);
        let logits = Var::from_tensor(&tensor(logits)?)?;
        let targets = tensor(&self.targets)?;
        let loss = match case.name.as_str() {
            "focal" => focal(&logits, &targets, &case.alpha, case.gamma)?,
            "bce" => binary_cross_entropy(&logits, &targets)?,
            "ce" => {
                let categories = Tensor::from_slice(&self.categories, n, &Device::Cpu)?;
                cross_entropy(&logits.narrow(1, 0, 3)?, &categories)?
            }
            name => panic!("{name}: no such loss"),
        };
        let grad = loss.backward()?.get(&logits).unwrap().to_dtype(DType::F64)?.flatten_all()?.to_vec1()?;
        Ok((loss.to_dtype(DType::F64)?.to_scalar()?, grad))
    }
}

#[test]
fn values_and_gradients_are_pytorchs_also_at_extreme_logits() {
    let reference: Reference = reference("losses.json");
    for (dtype, tolerance) in [(DType::F64, 1e-12), (DType::F32, 2e-6)] {
        for case in &reference.cases {
            let (value, grad) = reference.evaluate(case, &case.logits, dtype).unwrap();
            assert_close(&[value], &[case.value], tolerance, &case.name);
            assert_close(&grad, &case.grad, tolerance, &case.name);
        }
    }
}

#[test]
fn gradients_are_those_of_finite_differences() {
    let reference: Reference = reference("losses.json");
    for case in reference.cases.iter().filter(|case| case.logits.iter().all(|logit| logit.abs() < 10.0)) {
        let (_, grad) = reference.evaluate(case, &case.logits, DType::F64).unwrap();
        for index in 0..grad.len() {
            let at = |step: f64| {
                let mut logits = case.logits.clone();
                logits[index] += step;
                reference.evaluate(case, &logits, DType::F64).unwrap().0
            };
            let slope = (at(1e-5) - at(-1e-5)) / 2e-5;
            assert_close(&[grad[index]], &[slope], 1e-8, &case.name);
        }
    }
}

#[test]
fn everything_stays_finite_at_extreme_logits_whatever_gamma() {
    let reference: Reference = reference("losses.json");
    for scale in [1e4, 1e3, 100.0, 50.0] {
        // Every sign pattern meets a true and a false label.
        let logits: Vec<f64> = (0..20).map(|i| scale * f64::from([1, -1, 0, 1, -1, -1, 1][i % 7])).collect();
        for (name, gamma) in
            [("focal", 0.0), ("focal", 0.1), ("focal", 1.0), ("focal", 2.0), ("focal", 20.0), ("bce", 0.0), ("ce", 0.0)]
        {
            let case = Case { name: name.into(), alpha: vec![1.0; 5], gamma, logits: vec![], value: 0.0, grad: vec![] };
            let (value, grad) = reference.evaluate(&case, &logits, DType::F32).unwrap();
            assert!(value.is_finite() && grad.iter().all(|g| g.is_finite()), "{name} γ={gamma} ±{scale}: {grad:?}");
        }
    }
}

#[test]
fn hand_worked_values() {
    let tensor = |values: &[f64], shape: (usize, usize)| Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
    let number = |tensor: candle_core::Result<Tensor>| tensor.unwrap().to_scalar::<f64>().unwrap();
    // p = (1/4, 3/4), label 0 true: 2 · (3/4)² · ln 4. The other label's α has no part in it.
    let logits = tensor(&[0.0, 3f64.ln()], (1, 2));
    let targets = tensor(&[1.0, 0.0], (1, 2));
    assert_close(&[number(focal(&logits, &targets, &[2.0, 9.0], 2.0))], &[1.125 * 4f64.ln()], 1e-14, "focal");
    // p = (1/2, 3/4), label 0 true: ln 2 + ln 4.
    assert_close(&[number(binary_cross_entropy(&logits, &targets))], &[8f64.ln()], 1e-14, "bce");
    // Two images of category 1 and 0: −(ln 3/4 + ln 1/2) / 2.
    let logits = tensor(&[0.0, 3f64.ln(), 5.0, 5.0], (2, 2));
    let categories = Tensor::from_slice(&[1u32, 0], 2, &Device::Cpu).unwrap();
    assert_close(&[number(cross_entropy(&logits, &categories))], &[(8.0 / 3f64).ln() / 2.0], 1e-14, "ce");
}
