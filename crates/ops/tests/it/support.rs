//! Random operands, finite differences and comparisons.

use candle_core::{DType, Device, Result, Tensor, Var, WithDType, backprop::GradStore};
use twograin_ops::Tape;

/// `len` values in `[-1, 1)` that depend on `seed` alone.
pub fn values(seed: u64, len: usize) -> Vec<f64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 52) as f64 - 1.
    };
    for _ in 0..8 {
        next();
    }
    (0..len).map(|_| next()).collect()
}

pub fn tensor(seed: u64, shape: &[usize]) -> Tensor {
    Tensor::from_vec(values(seed, shape.iter().product()), shape, &Device::Cpu).unwrap()
}

pub fn var(seed: u64, shape: &[usize]) -> Var {
    Var::from_tensor(&tensor(seed, shape)).unwrap()
}

pub fn flat<T: WithDType>(tensor: &Tensor) -> Vec<T> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

/// The elements as `f64`, whatever they are stored as.
pub fn flat64(tensor: &Tensor) -> Vec<f64> {
    flat(&tensor.to_dtype(DType::F64).unwrap())
}

pub fn assert_close(name: &str, got: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(got.len(), expected.len(), "{name}: length");
    for (i, (got, expected)) in got.iter().zip(expected).enumerate() {
        let bound = tolerance * expected.abs().max(1.);
        assert!((got - expected).abs() <= bound, "{name}[{i}]: {got}, expected {expected} ± {bound:e}");
    }
}

/// Checks that each `got` is within its own bound of `expected`.
pub fn assert_within(name: &str, got: &[f64], expected: &[f64], bounds: &[f64]) {
    assert_eq!((got.len(), bounds.len()), (expected.len(), expected.len()), "{name}: length");
    for (i, ((got, expected), bound)) in got.iter().zip(expected).zip(bounds).enumerate() {
        assert!((got - expected).abs() <= *bound, "{name}[{i}]: {got}, expected {expected} ± {bound:e}");
    }
}

/// `sum(y * r)` for a fixed random `r`: a scalar whose gradient exercises every output differently.
pub fn weighted_sum(y: &Tensor) -> Result<Tensor> {
    let weights = tensor(99, y.dims()).to_dtype(y.dtype())?;
    (y * weights)?.sum_all()
}

/// The output of `f`, and the gradients of `loss(output)`.
pub fn differentiate_by(
    loss: impl Fn(&Tensor) -> Result<Tensor>,
    operands: &[Var],
    f: impl Fn(Option<&Tape>, &[Tensor]) -> Result<Tensor>,
) -> (Tensor, GradStore) {
    let tensors: Vec<Tensor> = operands.iter().map(|operand| operand.as_tensor().clone()).collect();
    let tape = Tape::new();
    let y = f(Some(&tape), &tensors).unwrap();
    let mut gradients = loss(&tape.output(&y).unwrap()).unwrap().backward().unwrap();
    tape.backward(&mut gradients).unwrap();
    (y, gradients)
}

/// The output of `f`, and the gradients of its [`weighted_sum`].
pub fn differentiate(operands: &[Var], f: impl Fn(Option<&Tape>, &[Tensor]) -> Result<Tensor>) -> (Tensor, GradStore) {
    differentiate_by(weighted_sum, operands, f)
}

/// Compares the gradients of `weighted_sum(f(operands))` with central differences at up to 24 places of each operand.
pub fn check_gradients(operands: &[Var], f: impl Fn(Option<&Tape>, &[Tensor]) -> Result<Tensor>) {
    const STEP: f64 = 1e-5;
    let tensors: Vec<Tensor> = operands.iter().map(|operand| operand.as_tensor().clone()).collect();
    let (_, gradients) = differentiate(operands, &f);
    for (which, operand) in operands.iter().enumerate() {
        let gradient = gradients.get(operand).unwrap_or_else(|| panic!("operand {which} has no gradient"));
        assert_eq!(gradient.dims(), operand.dims(), "operand {which}");
        let gradient = flat::<f64>(gradient);
        let at = flat::<f64>(operand);
        let loss = |i: usize, step: f64| {
            let mut moved = at.clone();
            moved[i] += step;
            let mut tensors: Vec<Tensor> = tensors.iter().map(Tensor::detach).collect();
            tensors[which] = Tensor::from_vec(moved, operand.dims(), &Device::Cpu).unwrap();
            let loss = weighted_sum(&f(None, &tensors).unwrap()).unwrap();
            loss.to_scalar::<f64>().unwrap()
        };
        for i in (0..at.len()).step_by(at.len().div_ceil(24)) {
            let slope = (loss(i, STEP) - loss(i, -STEP)) / (2. * STEP);
            let bound = 1e-6 * slope.abs().max(1.);
            assert!(
                (gradient[i] - slope).abs() <= bound,
                "operand {which}[{i}]: gradient {}, finite difference {slope}",
                gradient[i]
            );
        }
    }
}

/// Runs `f` in a pool of its own with this many threads.
pub fn with_threads<R: Send>(threads: usize, f: impl FnOnce() -> R + Send) -> R {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(f)
}

/// The bits of `f`'s output and of the operands' gradients.
pub fn bits(operands: &[Var], f: impl Fn(Option<&Tape>, &[Tensor]) -> Result<Tensor>) -> Vec<u32> {
    let (y, gradients) = differentiate(operands, f);
    let gradients = operands.iter().map(|operand| gradients.get(operand).unwrap().clone());
    std::iter::once(y).chain(gradients).flat_map(|t| flat::<f32>(&t)).map(f32::to_bits).collect()
}
