use candle_core::{DType, Device, Var};
use twograin_ops::relu;

use crate::support::{check_gradients, flat, var};

#[test]
fn zero_has_no_gradient_and_nan_stays() {
    let x = Var::new(&[-1f32, -0., 0., 2., f32::NAN, f32::INFINITY], &Device::Cpu).unwrap();
    let y = relu(&x).unwrap();
    let values = flat::<f32>(&y);
    assert_eq!([&values[..4], &values[5..]].concat(), [0., 0., 0., 2., f32::INFINITY]);
    assert!(values[4].is_nan());
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert_eq!(flat::<f32>(gradients.get(&x).unwrap()), [0., 0., 0., 1., 1., 1.]);
}

#[test]
fn any_shape_and_stride_will_do() {
    check_gradients(&[var(1, &[3, 5, 2])], |t| relu(&t[0].t()?));
    check_gradients(&[var(1, &[])], |t| relu(&t[0]));
    let long = Var::zeros(100_001, DType::F32, &Device::Cpu).unwrap();
    assert_eq!(relu(&long).unwrap().dims(), [100_001]);
}
