//! Outputs and gradients against figures that `tests/torch_reference.py` printed with PyTorch 2.15.

use candle_core::{Device, Result, Tensor, Var};
use twograin_ops::{
    Activation, Conv2dConfig, Padding, Pool2dConfig, Tape, adaptive_avg_pool2d, avg_pool2d, batch_norm_train, conv2d,
    linear, max_pool2d,
};

use crate::support::{assert_close, differentiate_by, flat};

/// The script's figures have ten digits.
const TOLERANCE: f64 = 2e-9;

fn ramp(shape: &[usize], phase: f64) -> Tensor {
    let len: usize = shape.iter().product();
    let values: Vec<f64> = (0..len).map(|i| (0.7 * i as f64 + phase).sin()).collect();
    Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
}

/// Output, then gradients.
fn figures(name: &str) -> Vec<Vec<f64>> {
    let text = include_str!("torch.txt");
    let (_, case) = text.split_once(&format!("# {name}\n")).expect("a case of this name");
    let lines = case.lines().take_while(|line| !line.starts_with('#'));
    lines.map(|line| line.split(' ').map(|figure| figure.parse().unwrap()).collect()).collect()
}

fn check(name: &str, operands: &[Tensor], f: impl Fn(Option<&Tape>, &[Tensor]) -> Result<Tensor>) {
    let vars: Vec<Var> = operands.iter().map(|operand| Var::from_tensor(operand).unwrap()).collect();
    let loss = |y: &Tensor| (y * ramp(y.dims(), 0.5))?.sum_all();
    let (y, gradients) = differentiate_by(loss, &vars, f);
    let gradients = vars.iter().map(|var| flat(gradients.get(var).unwrap()));
    let got: Vec<Vec<f64>> = std::iter::once(flat(&y)).chain(gradients).collect();
    let expected = figures(name);
    assert_eq!(got.len(), expected.len(), "{name}");
    for (which, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert_close(&format!("{name}, figure {which}"), got, expected, TOLERANCE);
    }
}

#[test]
fn convolution() {
    let stride_2 = Conv2dConfig { stride: 2, padding: Padding::same(1), groups: 1 };
    let operands = [ramp(&[2, 3, 5, 4], 0.), ramp(&[4, 3, 3, 3], 1.), ramp(&[4], 2.)];
    check("conv stride 2", &operands, |tape, t| conv2d(tape, &t[0], &t[1], Some(&t[2]), stride_2));

    let asymmetric = Conv2dConfig { padding: Padding { top: 1, bottom: 2, left: 0, right: 1 }, ..stride_2 };
    let operands = [ramp(&[2, 3, 5, 4], 0.), ramp(&[2, 3, 3, 3], 1.)];
    check("conv asymmetric", &operands, |tape, t| conv2d(tape, &t[0], &t[1], None, asymmetric));

    let groups = Conv2dConfig { stride: 1, padding: Padding::same(1), groups: 2 };
    let operands = [ramp(&[2, 4, 5, 4], 0.), ramp(&[4, 2, 3, 3], 1.)];
    check("conv groups", &operands, |tape, t| conv2d(tape, &t[0], &t[1], None, groups));

    let depthwise = Conv2dConfig { groups: 4, ..stride_2 };
    let operands = [ramp(&[2, 4, 5, 4], 0.), ramp(&[4, 1, 3, 3], 1.)];
    check("conv depthwise", &operands, |tape, t| conv2d(tape, &t[0], &t[1], None, depthwise));
}

#[test]
fn batch_norm() {
    let shape = [2, 3, 3, 4];
    let operands = [ramp(&shape, 0.), ramp(&[3], 1.), ramp(&[3], 2.), ramp(&shape, 3.)];
    check("batch norm", &operands, |tape, t| {
        Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], Some(&t[3]), 1e-3, Activation::Relu)?.y)
    });
    // Large enough to reach the ceiling.
    let operands = [ramp(&shape, 0.), (ramp(&[3], 1.) * 8.).unwrap(), ramp(&[3], 2.)];
    check("batch norm relu6", &operands, |tape, t| {
        Ok(batch_norm_train(tape, &t[0], &t[1], &t[2], None, 1e-3, Activation::Relu6)?.y)
    });
}

#[test]
fn pooling() {
    let config = Pool2dConfig::new(3, 2, 1);
    check("max pool", &[ramp(&[2, 2, 6, 5], 0.)], |tape, t| max_pool2d(tape, &t[0], config));
    let ties = (ramp(&[1, 2, 6, 6], 0.) * 2.).unwrap().round().unwrap();
    check("max pool ties", &[ties], |tape, t| max_pool2d(tape, &t[0], config));
    let up = Pool2dConfig { ceil: true, ..Pool2dConfig::new(3, 2, 1) };
    check("max pool ceil", &[ramp(&[2, 2, 6, 5], 0.)], |tape, t| max_pool2d(tape, &t[0], up));
    check("average pool ceil", &[ramp(&[2, 2, 6, 5], 0.)], |tape, t| avg_pool2d(tape, &t[0], up));
    let up = Pool2dConfig { ceil: true, ..Pool2dConfig::new(2, 3, 0) };
    check("average pool ceil beyond", &[ramp(&[1, 2, 7, 6], 0.)], |tape, t| avg_pool2d(tape, &t[0], up));
    check("adaptive average pool", &[ramp(&[1, 2, 7, 5], 0.)], |tape, t| adaptive_avg_pool2d(tape, &t[0], (3, 4)));
}

#[test]
fn fully_connected() {
    let operands = [ramp(&[3, 5], 0.), ramp(&[4, 5], 1.), ramp(&[4], 2.)];
    check("linear", &operands, |tape, t| linear(tape, &t[0], &t[1], Some(&t[2])));
}
