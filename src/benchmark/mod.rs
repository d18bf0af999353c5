//! How fast a machine does the arithmetic of training and inference, and how close that is to its limit; and how fast it loads
//! images; and the data that pages and API are measured with.

mod loader;
pub mod synthetic;

use std::{
    str::FromStr,
    time::{Duration, Instant},
};

use candle_core::{DType, Device, Result, Tensor};
use serde::{Deserialize, Serialize};

use crate::{
    domain::{
        RunSpec, Taxonomy,
        spec::{Backbone, Objective},
    },
    model::{Classifier, LossSpec, ModelSpec, Targets},
    training::{Optimizer, StepConfig, step},
};

pub use loader::{LoaderBenchError, LoaderCase, LoaderRow, measure_loader};

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// A training step: forward, loss, backward, optimizer (SGD with momentum).
    Train,
    /// A forward pass with prepared weights.
    Infer,
}

impl Pass {
    /// Both.
    pub const ALL: &[Self] = &[Self::Train, Self::Infer];

    /// The name used on the command line and in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Infer => "infer",
        }
    }
}

impl FromStr for Pass {
    type Err = String;
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.iter().copied().find(|pass| pass.as_str() == text);
        found.ok_or_else(|| format!("“{text}” is not a pass; choose train or infer"))
    }
}

/// One measurement to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// The network, under a two-level head of COCO's labels.
    pub backbone: Backbone,
    /// What is timed.
    pub pass: Pass,
    /// Images at once.
    pub batch: usize,
    /// Side of the square input, in pixels.
    pub input_size: usize,
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The network.
    pub backbone: Backbone,
    /// What was timed.
    pub pass: Pass,
    /// Images at once.
    pub batch: usize,
    /// Side of the square input, in pixels.
    pub input_size: usize,
    /// Threads that computed.
    pub threads: usize,
    /// Values of the model, its heads included.
    pub parameters: u64,
    /// By the median of the steps.
    pub images_per_second: f64,
    /// Of the machine's rate of matrix products, what the multiplications and additions by definition would need, three times
    /// those of a forward pass in training. It is more than 1 where an algorithm needs fewer than the definition.
    pub gemm_share: f64,
    /// The machine's rate of matrix products of side 1536 in 10⁹ operations per second, a multiplication and an addition being
    /// two.
    pub gemm_gflops: f64,
    /// The largest resident memory of the process, in MiB; `None` where the system does not say.
    pub peak_memory_mb: Option<f64>,
}

/// Makes a measurement on rayon's current pool, which takes about `duration`, but at least three steps after a first one.
pub fn measure(case: Case, duration: Duration) -> Result<Row> {
    let gemm = gemm_rate()?;
    let Case { backbone, pass, batch, input_size } = case;
    let spec = RunSpec::new("benchmark", backbone, Objective::SigmoidThreshold);
    let taxonomy = Taxonomy::coco();
    let model = Classifier::new(ModelSpec::of(&spec, &taxonomy), 0, DType::F32, &Device::Cpu)?;
    let side = input_size;
    let pixels = Tensor::rand(-1f32, 1f32, (batch, 3, side, side), &Device::Cpu)?;
    let (seconds, passes) = match pass {
        Pass::Train => {
            let targets = targets(&model, batch)?;
            let mut optimizer = Optimizer::new(&spec, model.params())?;
            let loss = LossSpec::of(&spec, &taxonomy).map_err(candle_core::Error::msg)?;
            let config = StepConfig { frozen: 0, dropout_seed: 0, learning_rate: 1e-4 };
            let seconds = median_seconds(duration, || {
                let losses = step(&model, &loss, &mut optimizer, (&pixels, &targets), config)?;
                if !losses.total.is_finite() {
                    candle_core::bail!(
                        "the loss is {}: nothing is learned from it, so there is nothing to time",
                        losses.total
                    )
                }
                Ok(())
            })?;
            // Backward is a product for the data and one for the weights.
            (seconds, 3.0)
        }
        Pass::Infer => {
            let predictor = model.predictor();
            let values = pixels.flatten_all()?.to_vec1::<f32>()?;
            let seconds = median_seconds(duration, || predictor.logits(values.clone(), side).map(|_| ()))?;
            (seconds, 1.0)
        }
    };
    // Before anything else takes memory.
    let peak_memory_mb = peak_memory();
    let images_per_second = batch as f64 / seconds;
    Ok(Row {
        backbone,
        pass,
        batch,
        input_size,
        threads: rayon::current_num_threads(),
        parameters: model.params().count() as u64,
        images_per_second,
        gemm_share: 2.0 * passes * multiply_adds(&model, side)? as f64 * images_per_second / gemm,
        gemm_gflops: gemm / 1e9,
        peak_memory_mb,
    })
}

/// One label and one category for each image.
fn targets(model: &Classifier, batch: usize) -> Result<Targets> {
    let spec = model.spec();
    let mut fine = vec![0f32; batch * spec.fine_count];
    fine.chunks_exact_mut(spec.fine_count).enumerate().for_each(|(image, row)| row[image % spec.fine_count] = 1.0);
    let coarse: Vec<u32> = (0..batch).map(|image| (image % spec.coarse_count) as u32).collect();
    Ok(Targets {
        fine: Tensor::from_vec(fine, (batch, spec.fine_count), &Device::Cpu)?,
        coarse: Tensor::from_vec(coarse, batch, &Device::Cpu)?,
    })
}

/// Of one image's forward pass.
fn multiply_adds(model: &Classifier, side: usize) -> Result<u64> {
    let predictor = model.predictor();
    predictor.logits(vec![0.0; 3 * side * side], side)?;
    Ok(predictor.multiply_adds())
}

/// Operations per second, best of some products.
fn gemm_rate() -> Result<f64> {
    const SIDE: usize = 1536;
    const PRODUCTS: usize = 6;
    let matrix = || Tensor::rand(-1f32, 1f32, (SIDE, SIDE), &Device::Cpu);
    let (a, b) = (matrix()?, matrix()?);
    let mut best = f64::INFINITY;
    for _ in 0..PRODUCTS {
        let began = Instant::now();
        twograin_ops::linear(None, &a, &b, None)?;
        best = best.min(began.elapsed().as_secs_f64());
    }
    Ok(2.0 * (SIDE as f64).powi(3) / best)
}

fn median_seconds(duration: Duration, mut step: impl FnMut() -> Result<()>) -> Result<f64> {
    const LEAST: usize = 3;
    step()?;
    let began = Instant::now();
    let mut seconds = Vec::new();
    while seconds.len() < LEAST || began.elapsed() < duration {
        let began = Instant::now();
        step()?;
        seconds.push(began.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

/// In MiB, as Linux tells.
fn peak_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_what_was_measured() {
        for &pass in Pass::ALL {
            let case = Case { backbone: Backbone::ResNetTiny, pass, batch: 2, input_size: 32 };
            let row = measure(case, Duration::ZERO).unwrap();
            assert_eq!((row.backbone, row.pass, row.batch, row.input_size), (Backbone::ResNetTiny, pass, 2, 32));
            assert!(row.images_per_second > 0.0 && row.gemm_share > 0.0 && row.gemm_gflops > 0.0);
            assert!(row.peak_memory_mb.is_none_or(|mb| mb > 1.0));
        }
    }

    #[test]
    fn multiply_adds_are_those_of_the_definition() {
        // He et al. 2016, table 1: ResNet34 has 3.6 × 10⁹ at 224 pixels. Tan and Le's Lite0 has 407 million, fully
        // connected layer of 1.3 million and other layers included.
        for (backbone, low, high) in [(Backbone::ResNet34, 3.6e9, 3.7e9), (Backbone::EfficientNetLite0, 0.38e9, 0.41e9)]
        {
            let spec = RunSpec::new("d", backbone, Objective::CoarseOnly);
            let model = Classifier::new(ModelSpec::of(&spec, &Taxonomy::coco()), 0, DType::F32, &Device::Cpu).unwrap();
            let count = multiply_adds(&model, 224).unwrap() as f64;
            assert!((low..high).contains(&count), "{backbone}: {count}");
        }
    }
}
