use candle_core::{DType, Result, Tensor, Var};
use proptest::prelude::*;
use twograin_ops::{
    Activation, BatchNormOutput, Moments, Statistics, batch_norm_eval, batch_norm_train, batch_norm_train_given,
};

use crate::support::{
    assert_close, bits, check_gradients, differentiate, flat, flat64, tensor, var, weighted_sum, with_threads,
};

const EPS: f64 = 1e-3;

/// Step by step, in candle's own operations.
fn reference(
    x: &Tensor,
    [gamma, beta, mean, var]: [&Tensor; 4],
    residual: Option<&Tensor>,
    activation: Activation,
) -> Result<Tensor> {
    let channels = |values: &Tensor| values.reshape((1, (), 1, 1));
    let deviation = (channels(var)? + EPS)?.sqrt()?;
    let y = x.broadcast_sub(&channels(mean)?)?.broadcast_div(&deviation)?;
    let y = y.broadcast_mul(&channels(gamma)?)?.broadcast_add(&channels(beta)?)?;
    let y = residual.map_or_else(|| Ok(y.clone()), |residual| &y + residual)?;
    match activation {
        Activation::Identity => Ok(y),
        Activation::Relu => y.relu(),
        Activation::Relu6 => y.clamp(0., 6.),
    }
}

fn fixed(mean: &Tensor, var: &Tensor) -> Statistics {
    Statistics { mean: mean.clone(), var: var.clone(), eps: EPS }
}

fn moments(x: &Tensor) -> (Tensor, Tensor) {
    let values = x.transpose(0, 1).unwrap().flatten_from(1).unwrap();
    let mean = values.mean(1).unwrap();
    let squares = values.broadcast_sub(&mean.unsqueeze(1).unwrap()).unwrap().sqr().unwrap();
    (mean, squares.mean(1).unwrap())
}

fn activation() -> impl Strategy<Value = Activation> {
    prop::sample::select(vec![Activation::Identity, Activation::Relu, Activation::Relu6])
}

/// Small images, and some whose planes exceed a block of the sums.
fn shape() -> impl Strategy<Value = [usize; 4]> {
    let small = (2usize..5, 1usize..6, 1usize..9, 1usize..9);
    let large = (1usize..3, 1usize..3, 60usize..80, 60usize..80);
    prop_oneof![6 => small, 1 => large].prop_map(<[usize; 4]>::from)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_the_definition(shape in shape(), residual: bool, activation in activation()) {
        let (x, residual) = (tensor(1, &shape), residual.then(|| tensor(2, &shape)));
        let (gamma, beta) = (tensor(3, &shape[1..2]), tensor(4, &shape[1..2]));
        let (mean, var) = moments(&x);
        let statistics = [&gamma, &beta, &mean, &var];
        let expected = flat::<f64>(&reference(&x, statistics, residual.as_ref(), activation).unwrap());
        let got = batch_norm_train(None, &x, &gamma, &beta, residual.as_ref(), EPS, activation).unwrap();
        assert_close("y", &flat(&got.y), &expected, 1e-11);
        assert_close("mean", &flat(&got.moments.mean), &flat(&mean), 1e-13);
        assert_close("var", &flat(&got.moments.var), &flat(&var), 1e-13);
        let got = batch_norm_eval(None, &x, &gamma, &beta, &fixed(&mean, &var), residual.as_ref(), activation);
        assert_close("y of eval", &flat(&got.unwrap()), &expected, 1e-11);

        let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
        let got = batch_norm_train(None,
            &single(&x), &single(&gamma), &single(&beta), residual.as_ref().map(single).as_ref(), EPS, activation,
        );
        // Values of order 1, divided by a deviation of at least sqrt(EPS).
        assert_close("y in f32", &flat64(&got.unwrap().y), &expected, 2e-5);
    }

    #[test]
    fn gradients_are_slopes(shape in shape(), residual: bool) {
        // Without ReLU: among many values, a finite difference takes one across the kink.
        let activation = Activation::Identity;
        let mut operands = vec![var(1, &shape), var(3, &shape[1..2]), var(4, &shape[1..2])];
        operands.extend(residual.then(|| var(2, &shape)));
        check_gradients(&operands, |tape, t| {
            Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], t.get(3), EPS, activation)?.y)
        });
        let (mean, var) = (tensor(5, &shape[1..2]), tensor(6, &shape[1..2]).abs().unwrap());
        check_gradients(&operands, |tape, t| {
            batch_norm_eval(tape, &t[0], &t[1], &t[2], &fixed(&mean, &var), t.get(3), activation)
        });
    }

    #[test]
    fn gradients_agree_with_the_definitions(shape in shape(), residual: bool, activation in activation(), train: bool) {
        let mut operands = vec![var(1, &shape), var(3, &shape[1..2]), var(4, &shape[1..2])];
        operands.extend(residual.then(|| var(2, &shape)));
        let t: Vec<Tensor> = operands.iter().map(|operand| operand.as_tensor().clone()).collect();
        let (fixed_mean, fixed_var) = (tensor(5, &shape[1..2]), tensor(6, &shape[1..2]).abs().unwrap());
        let (mean, var) = if train { moments(&t[0]) } else { (fixed_mean.clone(), fixed_var.clone()) };
        let expected = reference(&t[0], [&t[1], &t[2], &mean, &var], t.get(3), activation).unwrap();
        let expected = weighted_sum(&expected).unwrap().backward().unwrap();
        let (_, got) = differentiate(&operands, |tape, t| {
            if train {
                return Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], t.get(3), EPS, activation)?.y);
            }
            batch_norm_eval(tape, &t[0], &t[1], &t[2], &fixed(&fixed_mean, &fixed_var), t.get(3), activation)
        });
        for (i, operand) in operands.iter().enumerate() {
            let [expected, got] = [&expected, &got].map(|gradients| flat::<f64>(gradients.get(operand).unwrap()));
            assert_close(&format!("gradient {i}"), &got, &expected, 1e-9);
        }
    }
}

#[test]
fn a_large_mean_does_not_drown_the_variance() {
    let x = (tensor(1, &[4, 3, 20, 20]) + 1000.).unwrap();
    let (mean, var) = moments(&x);
    let (gamma, beta) = (tensor(3, &[3]), tensor(4, &[3]));
    let expected = reference(&x, [&gamma, &beta, &mean, &var], None, Activation::Identity).unwrap();
    let single = |t: &Tensor| t.to_dtype(DType::F32).unwrap();
    let got =
        batch_norm_train(None, &single(&x), &single(&gamma), &single(&beta), None, EPS, Activation::Identity).unwrap();
    // An f32 near 1000 is exact to 3e-5; the rest must not add to it.
    assert_close("y", &flat64(&got.y), &flat(&expected), 3e-4);
    assert_close("var", &flat64(&got.moments.var), &flat(&var), 1e-3);
}

#[test]
fn moments_that_are_known_already_change_nothing() {
    let operands = [var(1, &[3, 5, 33, 4]), var(3, &[5]), var(4, &[5])];
    let run = |known: bool| {
        let (y, gradients) = differentiate(&operands, |tape, t| {
            if !known {
                return Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], None, EPS, Activation::Relu)?.y);
            }
            let parts =
                [(0, 2), (2, 3)].map(|(first, count)| Moments::of(&t[0].detach().narrow(1, first, count).unwrap()));
            let [first, second] = parts.map(Result::unwrap);
            batch_norm_train_given(tape, &t[0], &t[1], &t[2], &first.cat(&second)?, EPS, Activation::Relu)
        });
        let gradients = operands.iter().flat_map(|operand| flat::<f64>(gradients.get(operand).unwrap()));
        gradients.chain(flat(&y)).collect::<Vec<_>>()
    };
    assert_eq!(run(true), run(false));
    let few = Moments::of(&tensor(1, &[2, 4, 3, 3])).unwrap();
    let message = batch_norm_train_given(None, &operands[0], &operands[1], &operands[2], &few, EPS, Activation::Relu);
    let message = message.unwrap_err().to_string();
    assert!(message.contains("mean [5]") && message.contains("[4]"), "{message}");
}

#[test]
fn statistics_are_detached() {
    let (x, gamma, beta) = (var(1, &[2, 3, 4, 4]), var(2, &[3]), var(3, &[3]));
    let BatchNormOutput { moments: Moments { mean, var }, .. } =
        batch_norm_train(None, &x, &gamma, &beta, None, EPS, Activation::Relu).unwrap();
    assert!(!mean.track_op() && !var.track_op());
}

#[test]
fn the_same_call_gives_the_same_bits_for_any_number_of_threads() {
    let shape = [5, 7, 33, 31];
    let operands = [var(1, &shape), var(3, &shape[1..2]), var(4, &shape[1..2]), var(2, &shape)]
        .map(|operand| Var::from_tensor(&operand.to_dtype(DType::F32).unwrap()).unwrap());
    let run = || {
        bits(&operands, |tape, t| Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], t.get(3), EPS, Activation::Relu)?.y))
    };
    let first = with_threads(1, run);
    for threads in [1, 2, 2, 3, 8] {
        assert!(with_threads(threads, run) == first);
    }
}

#[test]
fn a_strided_view_is_read_as_its_elements() {
    let (gamma, beta) = (tensor(3, &[3]), tensor(4, &[3]));
    let x = tensor(1, &[5, 4, 3, 2]).permute((3, 2, 1, 0)).unwrap();
    let residual = tensor(2, &[4, 5, 3, 2]).permute((3, 2, 0, 1)).unwrap();
    let normalize = |x: &Tensor, residual: &Tensor| {
        let output = batch_norm_train(None, x, &gamma, &beta, Some(residual), EPS, Activation::Relu);
        flat::<f64>(&output.unwrap().y)
    };
    let expected = normalize(&x.force_contiguous().unwrap(), &residual.force_contiguous().unwrap());
    assert_eq!(normalize(&x, &residual), expected);
}

#[test]
fn a_tensor_may_be_its_own_residual() {
    let operands = [var(1, &[2, 3, 4, 5]), var(3, &[3]), var(4, &[3])];
    check_gradients(&operands, |tape, t| {
        Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], Some(&t[0]), EPS, Activation::Relu)?.y)
    });
}

#[test]
fn nan_passes_through_to_output_and_gradient() {
    let mut values = flat::<f64>(&tensor(1, &[2, 1, 2, 2]));
    values[3] = f64::NAN;
    let x = Tensor::from_vec(values, (2, 1, 2, 2), &candle_core::Device::Cpu).unwrap();
    let operands = [var(3, &[1]), var(4, &[1])];
    let (y, gradients) =
        differentiate(
            &operands,
            |tape, t| Ok(batch_norm_train(tape, &x, &t[0], &t[1], None, EPS, Activation::Relu)?.y),
        );
    assert!(flat::<f64>(&y).iter().all(|y| y.is_nan()));
    assert!(flat::<f64>(gradients.get(&operands[0]).unwrap())[0].is_nan());
}
