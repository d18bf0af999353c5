use candle_core::{DType, Device, Tensor, Var};
use proptest::prelude::*;
use twograin_ops::{
    Conv2dConfig, Padding, Pool2dConfig, Tape, adaptive_avg_pool2d, avg_pool2d, conv2d, global_avg_pool, max_pool2d,
};

use crate::support::{assert_close, check_gradients, differentiate_by, flat, tensor, var};

fn config(kernel: usize, stride: usize, padding: usize) -> Pool2dConfig {
    Pool2dConfig::new(kernel, stride, padding)
}

fn plane(values: &[f64], height: usize, width: usize) -> Var {
    let tensor = Tensor::from_slice(values, (1, 1, height, width), &Device::Cpu).unwrap();
    Var::from_tensor(&tensor).unwrap()
}

fn pooled_by_loops(x: &[f64], [n, c, h, w]: [usize; 4], config: Pool2dConfig) -> Vec<f64> {
    // As many as fit; rounded up, each that starts before the end of the pixels until one reaches the end of the padding.
    let outputs = |len: usize| {
        let end = len + 2 * config.padding;
        let fit = (0..end).filter(|i| i * config.stride + config.kernel <= end).count();
        let more = fit * config.stride < len + config.padding && (fit - 1) * config.stride + config.kernel < end;
        if config.ceil && more { fit + 1 } else { fit }
    };
    let mut y = vec![];
    for plane in x.chunks(h * w).take(n * c) {
        for (row, column) in (0..outputs(h)).flat_map(|row| (0..outputs(w)).map(move |column| (row, column))) {
            let mut best = f64::NEG_INFINITY;
            for (ky, kx) in (0..config.kernel).flat_map(|ky| (0..config.kernel).map(move |kx| (ky, kx))) {
                let inside = |at: usize, k: usize, len: usize| {
                    (at * config.stride + k).checked_sub(config.padding).filter(|&at| at < len)
                };
                if let (Some(iy), Some(ix)) = (inside(row, ky, h), inside(column, kx, w)) {
                    best = best.max(plane[iy * w + ix]);
                }
            }
            y.push(best);
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn max_pooling_agrees_with_plain_loops(
        n in 1usize..3, c in 1usize..4, h in 1usize..11, w in 1usize..11,
        kernel in 1usize..6, stride in 1usize..6, padding in 0usize..3, ceil: bool,
    ) {
        prop_assume!(2 * padding <= kernel && kernel <= h.min(w) + 2 * padding);
        let config = Pool2dConfig { ceil, ..config(kernel, stride, padding) };
        // All negative, so that a padding of 0 would show, and no two closer than a finite difference reaches.
        let golden = (0..n * c * h * w).map(|i| (i as f64 * 0.618_033_988_749_894_9).fract() - 2.).collect();
        let x = Var::from_vec(golden, (n, c, h, w), &Device::Cpu).unwrap();
        let got = max_pool2d(None, &x, config).unwrap();
        assert_eq!(flat::<f64>(&got), pooled_by_loops(&flat(&x), [n, c, h, w], config));
        check_gradients(&[x], |tape, t| max_pool2d(tape, &t[0], config));
    }

    #[test]
    fn averages_of_windows_are_convolutions_with_equal_weights(
        n in 1usize..3, h in 3usize..11, w in 3usize..11, kernel in 1usize..6, stride in 1usize..4, padding in 0usize..3,
    ) {
        prop_assume!(2 * padding <= kernel && kernel <= h.min(w) + 2 * padding);
        let x = var(1, &[n, 2, h, w]);
        let weight = (Tensor::ones((2, 1, kernel, kernel), DType::F64, &Device::Cpu).unwrap() / (kernel * kernel) as f64).unwrap();
        let same = Conv2dConfig { stride, padding: Padding::same(padding), groups: 2 };
        let expected = conv2d(None, &x.detach(), &weight, None, same).unwrap();
        let got = avg_pool2d(None, &x, config(kernel, stride, padding)).unwrap();
        assert_close("y", &flat(&got), &flat(&expected), 1e-13);
        check_gradients(&[&x].map(Var::clone), |tape, t| avg_pool2d(tape, &t[0], config(kernel, stride, padding)));
        let up = Pool2dConfig { ceil: true, ..config(kernel, stride, padding) };
        check_gradients(&[x], |tape, t| avg_pool2d(tape, &t[0], up));
    }

    #[test]
    fn average_bins_are_torchs(n in 1usize..3, h in 1usize..9, w in 1usize..9, oh in 1usize..9, ow in 1usize..9) {
        let x = var(1, &[n, 2, h, w]);
        let got = flat::<f64>(&adaptive_avg_pool2d(None, &x, (oh, ow)).unwrap());
        let pixels = flat::<f64>(&x);
        let mut expected = vec![];
        for plane in pixels.chunks(h * w) {
            for (i, j) in (0..oh).flat_map(|i| (0..ow).map(move |j| (i, j))) {
                let bin = |i: usize, len: usize, bins: usize| {
                    let start = (i as f64 * len as f64 / bins as f64).floor() as usize;
                    start..((i + 1) as f64 * len as f64 / bins as f64).ceil() as usize
                };
                let (rows, columns) = (bin(i, h, oh), bin(j, w, ow));
                let count = (rows.len() * columns.len()) as f64;
                let sum: f64 = rows.map(|row| plane[row * w..][columns.clone()].iter().sum::<f64>()).sum();
                expected.push(sum / count);
            }
        }
        assert_close("y", &got, &expected, 1e-13);
        check_gradients(&[x], |tape, t| adaptive_avg_pool2d(tape, &t[0], (oh, ow)));
    }
}

#[test]
fn of_equal_maxima_the_first_takes_the_gradient() {
    let x = plane(&[1., 3., 3., 2., 3., 3., 3., 3., 0.], 3, 3);
    let pool = |tape: Option<&Tape>, t: &[Tensor]| max_pool2d(tape, &t[0], config(2, 1, 0));
    let (_, gradients) = differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), pool);
    assert_eq!(flat::<f64>(gradients.get(&x).unwrap()), [0., 2., 0., 0., 2., 0., 0., 0., 0.]);
}

#[test]
fn overlapping_windows_add_up_their_gradients() {
    let x = plane(&[0., 0., 0., 0., 9., 0., 0., 0., 0.], 3, 3);
    let pool = |tape: Option<&Tape>, t: &[Tensor]| max_pool2d(tape, &t[0], config(2, 1, 0));
    let (_, gradients) = differentiate_by(Tensor::sum_all, std::slice::from_ref(&x), pool);
    assert_eq!(flat::<f64>(gradients.get(&x).unwrap())[4], 4.);
}

#[test]
fn nan_and_infinity_are_maxima() {
    let x = plane(&[f64::NEG_INFINITY; 9], 3, 3);
    let y = flat::<f64>(&max_pool2d(None, &x, config(3, 2, 1)).unwrap());
    assert_eq!(y, [f64::NEG_INFINITY; 4]);
    let x = plane(&[1., f64::NAN, 5., 0.], 2, 2);
    assert!(flat::<f64>(&max_pool2d(None, &x, config(2, 2, 0)).unwrap())[0].is_nan());
}

#[test]
fn the_global_average_is_the_mean_of_each_channel() {
    let x = var(1, &[3, 4, 5, 7]);
    let got = global_avg_pool(None, &x).unwrap();
    assert_eq!(got.dims(), [3, 4]);
    assert_close("y", &flat(&got), &flat(&x.mean((2, 3)).unwrap()), 1e-14);
    check_gradients(&[x], |tape, t| global_avg_pool(tape, &t[0]));
}

#[test]
fn a_strided_view_is_read_as_its_elements() {
    let x = tensor(1, &[6, 5, 2, 3]).permute((3, 2, 1, 0)).unwrap();
    let copy = x.force_contiguous().unwrap();
    let [got, expected] = [&x, &copy].map(|x| flat::<f64>(&max_pool2d(None, x, config(3, 2, 1)).unwrap()));
    assert_eq!(got, expected);
    let [got, expected] = [&x, &copy].map(|x| flat::<f64>(&adaptive_avg_pool2d(None, x, (2, 3)).unwrap()));
    assert_eq!(got, expected);
}
