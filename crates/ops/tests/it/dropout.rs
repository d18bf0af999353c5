use candle_core::{DType, Device, Tensor, Var};
use twograin_ops::{dropout, stochastic_depth};

use crate::support::{check_gradients, differentiate_by, flat, var, with_threads};

fn dropped(len: usize, p: f64, seed: u64) -> Vec<f32> {
    flat(&dropout(None, &Tensor::ones(len, DType::F32, &Device::Cpu).unwrap(), p, seed).unwrap())
}

#[test]
fn drops_the_asked_share_and_keeps_the_mean() {
    let len = 200_000;
    for p in [0.1, 0.5, 0.9] {
        let y = dropped(len, p, 7);
        let share = y.iter().filter(|&&y| y == 0.).count() as f64 / len as f64;
        let deviation = (p * (1. - p) / len as f64).sqrt();
        assert!((share - p).abs() < 5. * deviation, "{share} instead of {p}");
        assert!(y.iter().all(|&y| y == 0. || (f64::from(y) * (1. - p) - 1.).abs() < 1e-6));
    }
}

#[test]
fn the_mask_depends_on_the_seed_alone() {
    let mask = with_threads(1, || dropped(50_000, 0.5, 3));
    assert!(mask == with_threads(3, || dropped(50_000, 0.5, 3)));
    let other = dropped(50_000, 0.5, 4);
    let same = mask.iter().zip(&other).filter(|(a, b)| a == b).count();
    assert!((24_000..26_000).contains(&same), "{same} of 50000 agree");
}

#[test]
fn backward_uses_the_forward_mask() {
    check_gradients(&[var(1, &[4, 9])], |tape, t| dropout(tape, &t[0], 0.4, 11));
    let x = Var::ones(1000, DType::F32, &Device::Cpu).unwrap();
    let (y, gradients) =
        differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), |tape, t| dropout(tape, &t[0], 0.3, 5));
    assert_eq!(flat::<f32>(gradients.get(&x).unwrap()), flat::<f32>(&y));
}

#[test]
fn probability_zero_changes_nothing() {
    assert_eq!(dropped(10, 0., 1), [1.; 10]);
}

#[test]
fn stochastic_depth_drops_whole_images() {
    let x = Var::ones((1000, 3, 2), DType::F32, &Device::Cpu).unwrap();
    let (y, gradients) =
        differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), |tape, t| stochastic_depth(tape, &t[0], 0.2, 5));
    let (y, gradient) = (flat::<f32>(&y), flat::<f32>(gradients.get(&x).unwrap()));
    assert_eq!(gradient, y);
    assert!(y.chunks(6).all(|image| image == [0.; 6] || image == [1.25; 6]));
    let dropped = y.chunks(6).filter(|image| image[0] == 0.).count();
    // Five deviations around 200.
    assert!((137..=263).contains(&dropped), "{dropped}");
}
