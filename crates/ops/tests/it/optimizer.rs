//! The updates of one step, worked out element by element; whole runs are compared with PyTorch in the program's tests.

use candle_core::{DType, Device, Tensor};
use proptest::prelude::*;
use twograin_ops::{AdamW, Sgd, adamw_step, sgd_step, sum_of_squares};

use crate::support::{assert_close, flat, flat64, tensor, values, with_threads};

const SGD: Sgd = Sgd { momentum: 0.9, nesterov: false, weight_decay: 1e-4, scale: 1. };

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_step_is_what_its_formula_says(
        len in 1usize..300, momentum in 0f64..1., weight_decay in 0f64..0.1, rate in 0f64..1., step in 1i32..50,
        nesterov: bool, scale in 0f64..1.,
    ) {
        let (w, v) = (values(1, len), values(2, len));
        let g: Vec<f64> = values(3, len).iter().map(|g| scale * g).collect();
        let new = |seed| tensor(seed, &[len]);
        let (weight, velocity) = (new(1), new(2));
        sgd_step(&weight, &velocity, &new(3), Sgd { momentum, nesterov, weight_decay, scale }, rate).unwrap();
        let expected: Vec<f64> = (0..len).map(|i| momentum * v[i] + g[i] + weight_decay * w[i]).collect();
        assert_close("velocity", &flat(&velocity), &expected, 1e-14);
        let ahead = |i: usize| if nesterov { g[i] + weight_decay * w[i] + momentum * expected[i] } else { expected[i] };
        let expected: Vec<f64> = (0..len).map(|i| w[i] - rate * ahead(i)).collect();
        assert_close("weight", &flat(&weight), &expected, 1e-14);

        let (weight, mean, square) = (new(1), new(2), new(4).sqr().unwrap());
        let s: Vec<f64> = flat(&square);
        let (beta1, beta2, eps) = (momentum, 0.999, 1e-8);
        let config = AdamW { beta1, beta2, eps, weight_decay, step, scale };
        adamw_step(&weight, [&mean, &square], &new(3), config, rate).unwrap();
        let m: Vec<f64> = (0..len).map(|i| beta1 * v[i] + (1. - beta1) * g[i]).collect();
        let s: Vec<f64> = (0..len).map(|i| beta2 * s[i] + (1. - beta2) * g[i] * g[i]).collect();
        assert_close("mean", &flat(&mean), &m, 1e-14);
        assert_close("square", &flat(&square), &s, 1e-14);
        let expected: Vec<f64> = (0..len)
            .map(|i| {
                let (m, s) = (m[i] / (1. - beta1.powi(step)), s[i] / (1. - beta2.powi(step)));
                w[i] - rate * weight_decay * w[i] - rate * m / (s.sqrt() + eps)
            })
            .collect();
        assert_close("weight", &flat(&weight), &expected, 1e-10);
    }
}

#[test]
fn the_bits_do_not_depend_on_the_threads() {
    let run = || {
        let [weight, velocity, gradient] = [1, 2, 3].map(|seed| tensor(seed, &[100_003]).to_dtype(DType::F32).unwrap());
        sgd_step(&weight, &velocity, &gradient, SGD, 0.1).unwrap();
        (flat64(&weight), sum_of_squares(&weight).unwrap())
    };
    assert!(with_threads(1, run) == with_threads(3, run));
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let message = sgd_step(&tensor(1, &[3]), &tensor(2, &[3]), &tensor(3, &[4]), SGD, 0.1).unwrap_err().to_string();
    assert!(message.contains("[3]") && message.contains("[4]"), "{message}");
}

#[test]
fn squares_are_summed_in_double_precision() {
    // In single precision the sum would stay at 2²⁴, and 1e30² would be infinite.
    let ones = Tensor::ones(20_000_000, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(sum_of_squares(&ones).unwrap(), 2e7);
    let large = Tensor::new(&[1e30f32, -1e30], &Device::Cpu).unwrap();
    assert_close("large", &[sum_of_squares(&large).unwrap() / 2e60], &[1.], 1e-6);
    let message = sum_of_squares(&tensor(1, &[3, 2]).t().unwrap()).unwrap_err().to_string();
    assert!(message.contains("contiguous"), "{message}");
}
