use candle_core::{DType, Device, Tensor, Var};
use twograin_ops::{Activation, activate, relu};

use crate::support::{check_gradients, differentiate_by, flat, var};

#[test]
fn zero_has_no_gradient_and_nan_stays() {
    let x = Var::new(&[-1f32, -0., 0., 2., f32::NAN, f32::INFINITY], &Device::Cpu).unwrap();
    let (y, gradients) = differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), |tape, t| relu(tape, &t[0]));
    let values = flat::<f32>(&y);
    assert_eq!([&values[..4], &values[5..]].concat(), [0., 0., 0., 2., f32::INFINITY]);
    assert!(values[4].is_nan());
    assert_eq!(flat::<f32>(gradients.get(&x).unwrap()), [0., 0., 0., 1., 1., 1.]);
}

#[test]
fn the_ceiling_has_no_gradient_and_nan_stays() {
    let x = Var::new(&[-1f32, 0., 2., 6., 7., f32::NAN], &Device::Cpu).unwrap();
    let relu6 = |tape: Option<&twograin_ops::Tape>, t: &[Tensor]| activate(tape, &t[0], Activation::Relu6);
    let (y, gradients) = differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), relu6);
    let values = flat::<f32>(&y);
    assert_eq!(values[..5], [0., 0., 2., 6., 6.]);
    assert!(values[5].is_nan());
    assert_eq!(flat::<f32>(gradients.get(&x).unwrap()), [0., 0., 1., 0., 0., 1.]);
}

#[test]
fn any_shape_and_stride_will_do() {
    check_gradients(&[var(1, &[3, 5, 2])], |tape, t| relu(tape, &t[0]));
    check_gradients(&[var(1, &[])], |tape, t| relu(tape, &t[0]));
    let long = Var::zeros(100_001, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(relu(None, &long).unwrap().dims(), [100_001]);
}
