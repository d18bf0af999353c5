//! Models, losses, optimizers and whole runs, against PyTorch's figures and by property.

mod fit;
mod full_size;
mod losses;
mod model;
mod optimizers;
mod resume;
mod torchvision;
mod transfer;

use candle_core::{DType, Tensor};
use serde::de::DeserializeOwned;
use twograin::{
    domain::spec::{Backbone, CoarseInput},
    exchange::ScoreActivation,
    model::ModelSpec,
};

/// A file of `tests/reference`, as its Python script printed it.
fn reference<T: DeserializeOwned>(name: &str) -> T {
    let path = format!("{}/tests/reference/{name}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[track_caller]
fn assert_close(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs();
        assert!(error <= tolerance * expected.abs().max(1.0), "{what}[{index}]: {found}, expected {expected}");
    }
}

fn model_spec(backbone: Backbone) -> ModelSpec {
    ModelSpec {
        backbone,
        activation: Some(ScoreActivation::Sigmoid),
        coarse_input: CoarseInput::Probabilities,
        fine_count: 5,
        coarse_count: 3,
    }
}

/// The same numbers as `noise` in `backbones.py`.
fn noise(count: usize, stream: u64) -> impl Iterator<Item = f64> {
    (0..count as u64).map(move |k| {
        let h = (k.wrapping_mul(k).wrapping_add(3 * k + 7919 * stream) % (1 << 32)).wrapping_mul(2_654_435_761);
        (h % (1 << 32)) as f64 / 2f64.powi(31) - 1.0
    })
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.flatten_all().unwrap().to_dtype(DType::F64).unwrap().to_vec1().unwrap()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}
