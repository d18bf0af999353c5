//! The updates of one step, worked out element by element; whole runs are compared with PyTorch in the program's tests.

use candle_core::DType;
use proptest::prelude::*;
use twograin_ops::{AdamW, adamw_step, sgd_step};

use crate::support::{assert_close, flat, flat64, tensor, values, with_threads};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn a_step_is_what_its_formula_says(
        len in 1usize..300, momentum in 0f64..1., weight_decay in 0f64..0.1, rate in 0f64..1., step in 1i32..50,
    ) {
        let (w, v, g) = (values(1, len), values(2, len), values(3, len));
        let new = |seed| tensor(seed, &[len]);
        let (weight, velocity) = (new(1), new(2));
        sgd_step(&weight, &velocity, &new(3), momentum, weight_decay, rate).unwrap();
        let expected: Vec<f64> = (0..len).map(|i| momentum * v[i] + g[i] + weight_decay * w[i]).collect();
        assert_close("velocity", &flat(&velocity), &expected, 1e-14);
        let expected: Vec<f64> = (0..len).map(|i| w[i] - rate * expected[i]).collect();
        assert_close("weight", &flat(&weight), &expected, 1e-14);

        let (weight, mean, square) = (new(1), new(2), new(4).sqr().unwrap());
        let s: Vec<f64> = flat(&square);
        let (beta1, beta2, eps) = (momentum, 0.999, 1e-8);
        adamw_step(&weight, [&mean, &square], &new(3), AdamW { beta1, beta2, eps, weight_decay, step }, rate).unwrap();
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
        sgd_step(&weight, &velocity, &gradient, 0.9, 1e-4, 0.1).unwrap();
        flat64(&weight)
    };
    assert!(with_threads(1, run) == with_threads(3, run));
}

#[test]
fn tensors_of_another_shape_are_refused() {
    let message = sgd_step(&tensor(1, &[3]), &tensor(2, &[3]), &tensor(3, &[4]), 0.9, 0., 0.1).unwrap_err().to_string();
    assert!(message.contains("[3]") && message.contains("[4]"), "{message}");
}
