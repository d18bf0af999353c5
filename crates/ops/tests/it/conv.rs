use candle_core::{DType, Var};
use proptest::prelude::*;
use twograin_ops::{
    Activation, Conv2dConfig, Padding, PreparedConv2d, Statistics, activate, batch_norm_eval, conv2d, conv2d_activated,
};

use crate::support::{
    assert_close, assert_within, bits, check_gradients, differentiate, flat, flat64, tensor, values, var, with_threads,
};

#[derive(Clone, Copy, Debug)]
struct Case {
    batch: usize,
    group_channels: usize,
    group_filters: usize,
    size: (usize, usize),
    kernel: (usize, usize),
    config: Conv2dConfig,
}

impl Case {
    fn x(&self) -> [usize; 4] {
        [self.batch, self.group_channels * self.config.groups, self.size.0, self.size.1]
    }

    fn weight(&self) -> [usize; 4] {
        [self.group_filters * self.config.groups, self.group_channels, self.kernel.0, self.kernel.1]
    }

    fn out(&self) -> [usize; 4] {
        let Padding { top, bottom, left, right } = self.config.padding;
        let height = (self.size.0 + top + bottom - self.kernel.0) / self.config.stride + 1;
        let width = (self.size.1 + left + right - self.kernel.1) / self.config.stride + 1;
        [self.batch, self.weight()[0], height, width]
    }

    /// Calls `each(y, x, weight)` with the flat indices of every product of the convolution.
    fn products(&self, mut each: impl FnMut(usize, usize, usize)) {
        let ([n, c, h, w], [_, cg, kh, kw], [_, o, oh, ow]) = (self.x(), self.weight(), self.out());
        let Padding { top, left, .. } = self.config.padding;
        for image in 0..n {
            for filter in 0..o {
                for (row, column) in (0..oh).flat_map(|row| (0..ow).map(move |column| (row, column))) {
                    let y = ((image * o + filter) * oh + row) * ow + column;
                    for channel in 0..cg {
                        for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                            let from = |at: usize, k: usize, padding: usize, len: usize| {
                                (at * self.config.stride + k).checked_sub(padding).filter(|&at| at < len)
                            };
                            let (Some(iy), Some(ix)) = (from(row, ky, top, h), from(column, kx, left, w)) else {
                                continue;
                            };
                            let in_channel = filter / self.group_filters * cg + channel;
                            let x = ((image * c + in_channel) * h + iy) * w + ix;
                            each(y, x, ((filter * cg + channel) * kh + ky) * kw + kx);
                        }
                    }
                }
            }
        }
    }

    fn forward(&self, x: &[f64], weight: &[f64]) -> Vec<f64> {
        let mut y = vec![0.; self.out().iter().product()];
        self.products(|iy, ix, iw| y[iy] += x[ix] * weight[iw]);
        y
    }

    fn backward(&self, x: &[f64], weight: &[f64], dy: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (mut dx, mut dweight) = (vec![0.; x.len()], vec![0.; weight.len()]);
        self.products(|iy, ix, iw| {
            dx[ix] += dy[iy] * weight[iw];
            dweight[iw] += dy[iy] * x[ix];
        });
        (dx, dweight)
    }

    /// Output and both gradients in `f32` and `f64`, within the error bound of their sums in any order.
    fn check_against_plain_loops(&self) {
        let len = |shape: [usize; 4]| shape.iter().product::<usize>();
        let (x, weight) = (values(1, len(self.x())), values(2, len(self.weight())));
        let dy = values(99, len(self.out()));
        let absolute = |values: &[f64]| values.iter().map(|value| value.abs()).collect::<Vec<_>>();
        let y = self.forward(&x, &weight);
        let (dx, dweight) = self.backward(&x, &weight, &dy);
        let (x_size, weight_size) = (absolute(&x), absolute(&weight));
        let y_size = self.forward(&x_size, &weight_size);
        let (dx_size, dweight_size) = self.backward(&x_size, &weight_size, &absolute(&dy));
        for (dtype, unit) in [(DType::F64, f64::EPSILON), (DType::F32, f64::from(f32::EPSILON))] {
            let operand =
                |seed, shape: [usize; 4]| Var::from_tensor(&tensor(seed, &shape).to_dtype(dtype).unwrap()).unwrap();
            let (x, weight) = (operand(1, self.x()), operand(2, self.weight()));
            let operands = [x.clone(), weight.clone()];
            let (got, gradients) = differentiate(&operands, |tape, t| conv2d(tape, &t[0], &t[1], None, self.config));
            assert_eq!(got.dims(), self.out());
            // A product, its rounded operands, and as many additions as a sum has terms.
            let bounds = |sizes: &[f64], terms: usize| {
                sizes.iter().map(|size| size * unit * (terms + 3) as f64).collect::<Vec<_>>()
            };
            let taps = self.kernel.0 * self.kernel.1;
            assert_within("y", &flat64(&got), &y, &bounds(&y_size, self.group_channels * taps));
            let gradient = |of: &Var| flat64(gradients.get(of).unwrap());
            assert_within("dx", &gradient(&x), &dx, &bounds(&dx_size, self.group_filters * taps));
            let [n, _, height, width] = self.out();
            assert_within("dweight", &gradient(&weight), &dweight, &bounds(&dweight_size, n * height * width));
        }
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let kernel = prop::sample::select(vec![1usize, 2, 3, 5, 7]);
    let padding = (0usize..4, 0usize..4, 0usize..4, 0usize..4);
    let groups = (1usize..4, 1usize..4, 1usize..4);
    (1usize..4, groups, (3usize..12, 3usize..12), (kernel.clone(), kernel), 1usize..4, padding)
        .prop_map(|(batch, (groups, group_channels, group_filters), size, kernel, stride, padding)| {
            let (top, bottom, left, right) = padding;
            let padding = Padding { top, bottom, left, right };
            let config = Conv2dConfig { stride, padding, groups };
            Case { batch, group_channels, group_filters, size, kernel, config }
        })
        .prop_filter("the kernel fits", |case| {
            let Padding { top, bottom, left, right } = case.config.padding;
            case.kernel.0 <= case.size.0 + top + bottom && case.kernel.1 <= case.size.1 + left + right
        })
}

/// Large enough for several tiles per image, tiles of several images, and everything in between.
fn large_cases() -> Vec<Case> {
    let case = |batch, channels, filters, size, kernel, stride, padding, groups| Case {
        batch,
        group_channels: channels,
        group_filters: filters,
        size,
        kernel: (kernel, kernel),
        config: Conv2dConfig { stride, padding: Padding::same(padding), groups },
    };
    vec![
        case(2, 3, 8, (65, 63), 7, 2, 3, 1),
        case(1, 4, 5, (40, 41), 3, 1, 1, 1),
        case(3, 4, 5, (40, 41), 1, 1, 0, 1),
        case(9, 16, 12, (7, 7), 3, 1, 1, 1),
        case(9, 16, 12, (7, 7), 1, 1, 0, 1),
        case(5, 8, 6, (15, 14), 3, 2, 1, 1),
        case(5, 8, 6, (15, 14), 1, 2, 0, 1),
        case(4, 2, 3, (33, 30), 3, 1, 1, 4),
        case(3, 1, 1, (33, 30), 3, 1, 1, 6),
        case(3, 1, 1, (33, 30), 5, 2, 2, 6),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn agrees_with_plain_loops(case in cases()) {
        case.check_against_plain_loops();
    }

    #[test]
    fn gradients_are_slopes(case in cases(), bias: bool) {
        let mut operands = vec![var(1, &case.x()), var(2, &case.weight())];
        operands.extend(bias.then(|| var(3, &case.weight()[..1])));
        check_gradients(&operands, |tape, t| conv2d(tape, &t[0], &t[1], t.get(2), case.config));
    }

    #[test]
    fn depthwise_agrees_with_plain_loops(mut case in cases(), groups in 2usize..9) {
        (case.config.groups, case.group_channels, case.group_filters) = (groups, 1, 1);
        case.check_against_plain_loops();
    }
}

#[test]
fn large_maps_agree_with_plain_loops_for_any_number_of_threads() {
    for case in large_cases() {
        for threads in [1, 2, 3, 8] {
            with_threads(threads, || case.check_against_plain_loops());
        }
    }
}

#[test]
fn the_same_call_gives_the_same_bits() {
    for case in large_cases() {
        let operands = [var(1, &case.x()), var(2, &case.weight()), var(3, &case.weight()[..1])]
            .map(|operand| Var::from_tensor(&operand.to_dtype(DType::F32).unwrap()).unwrap());
        let run = || bits(&operands, |tape, t| conv2d(tape, &t[0], &t[1], t.get(2), case.config));
        for threads in [2, 3] {
            let first = with_threads(threads, run);
            for _ in 0..3 {
                assert!(with_threads(threads, run) == first, "{case:?}");
            }
        }
    }
}

#[test]
fn an_activation_may_follow_at_once() {
    for case in large_cases() {
        for activation in [Activation::Relu, Activation::Relu6] {
            let operands = [var(1, &case.x()), var(2, &case.weight()), var(3, &case.weight()[..1])];
            let [got, expected] = [true, false].map(|at_once| {
                let (y, gradients) = differentiate(&operands, |tape, t| {
                    if at_once {
                        return conv2d_activated(tape, &t[0], &t[1], Some(&t[2]), case.config, activation);
                    }
                    activate(tape, &conv2d(tape, &t[0], &t[1], Some(&t[2]), case.config)?, activation)
                });
                let gradients = operands.iter().flat_map(|operand| flat::<f64>(gradients.get(operand).unwrap()));
                gradients.chain(flat(&y)).collect::<Vec<_>>()
            });
            assert_eq!(got, expected, "{case:?}");
        }
    }
}

#[test]
fn the_bias_is_added_once() {
    for case in large_cases() {
        let (x, weight) = (tensor(1, &case.x()), tensor(2, &case.weight()));
        let bias = tensor(3, &case.weight()[..1]);
        let got = conv2d(None, &x, &weight, Some(&bias), case.config).unwrap();
        let plain = conv2d(None, &x, &weight, None, case.config).unwrap();
        let expected = plain.broadcast_add(&bias.reshape((1, (), 1, 1)).unwrap()).unwrap();
        assert_close("y", &flat(&got), &flat(&expected), 1e-13);
    }
}

#[test]
fn prepared_convolutions_are_those_with_the_batch_norm_after_them() {
    for case in large_cases() {
        let filters = &case.weight()[..1];
        let (x, weight, bias) = (tensor(1, &case.x()), tensor(2, &case.weight()), tensor(3, filters));
        let (gamma, beta, residual) = (tensor(4, filters), tensor(5, filters), tensor(6, &case.out()));
        let statistics = Statistics { mean: tensor(7, filters), var: tensor(8, filters).sqr().unwrap(), eps: 1e-3 };
        for (bias, residual, activation) in [
            (None, None, Activation::Relu),
            (Some(&bias), None, Activation::Identity),
            (Some(&bias), Some(&residual), Activation::Relu),
            (None, Some(&residual), Activation::Identity),
            (None, None, Activation::Relu6),
            (Some(&bias), Some(&residual), Activation::Relu6),
        ] {
            let y = conv2d(None, &x, &weight, bias, case.config).unwrap();
            let expected = batch_norm_eval(None, &y, &gamma, &beta, &statistics, residual, activation).unwrap();
            let prepared = PreparedConv2d::new(&weight, bias, Some((&statistics, [&gamma, &beta])));
            let got = prepared.unwrap().forward(&x, residual, activation, case.config).unwrap();
            assert_close("folded", &flat(&got), &flat(&expected), 1e-11);
            let prepared = PreparedConv2d::new(&weight, bias, None).unwrap();
            let got = prepared.forward(&x, None, Activation::Identity, case.config).unwrap();
            assert_eq!(flat::<f64>(&got), flat::<f64>(&y));
        }
    }
}

#[test]
fn tensorflows_padding_keeps_the_size_over_the_stride() {
    for (size, kernel, stride) in
        (1usize..20).flat_map(|size| (1..8).flat_map(move |k| (1..4).map(move |s| (size, k, s))))
    {
        let Padding { top, bottom, left, right } = Padding::tensorflow_same((size, size + 1), kernel, stride);
        for (len, before, after) in [(size, top, bottom), (size + 1, left, right)] {
            let outputs = len.div_ceil(stride);
            // The kernels' first and last pixels: nothing is padded that no kernel covers, and the larger half is behind.
            assert!((outputs - 1) * stride + kernel <= len + before + after, "{size} {kernel} {stride}");
            assert!(before + after == 0 || (outputs - 1) * stride + kernel == len + before + after);
            assert!(after == before || after == before + 1);
        }
    }
    // Of TensorFlow's guide: 13 pixels, kernel 6, stride 5: one zero before, two after.
    let Padding { top, bottom, .. } = Padding::tensorflow_same((13, 13), 6, 5);
    assert_eq!((top, bottom), (1, 2));
}

#[test]
fn a_strided_view_is_read_as_its_elements() {
    let config = Conv2dConfig { padding: Padding::same(1), ..Conv2dConfig::default() };
    let (x, weight) = (tensor(1, &[7, 8, 3, 2]), tensor(2, &[3, 3, 3, 4]));
    // Channels last, without the first row; and filters last.
    let x = x.permute((3, 2, 1, 0)).unwrap().narrow(2, 1, 6).unwrap();
    let weight = weight.t().unwrap().narrow(2, 0, 3).unwrap();
    let got = conv2d(None, &x, &weight, None, config).unwrap();
    let [x, weight] = [x, weight].map(|t| t.force_contiguous().unwrap());
    assert_eq!(flat::<f64>(&got), flat::<f64>(&conv2d(None, &x, &weight, None, config).unwrap()));
}

#[test]
fn an_offset_into_a_batch_is_kept() {
    let (x, weight) = (tensor(1, &[4, 2, 5, 5]), tensor(2, &[3, 2, 3, 3]));
    let all = conv2d(None, &x, &weight, None, Conv2dConfig::default()).unwrap();
    let last = conv2d(None, &x.narrow(0, 3, 1).unwrap(), &weight, None, Conv2dConfig::default()).unwrap();
    assert_eq!(flat::<f64>(&all.narrow(0, 3, 1).unwrap()), flat::<f64>(&last));
}

#[test]
fn operands_without_gradient_get_none() {
    let (x, weight) = (tensor(1, &[2, 2, 5, 5]), var(2, &[3, 2, 3, 3]));
    let (_, gradients) =
        differentiate(std::slice::from_ref(&weight), |tape, t| conv2d(tape, &x, &t[0], None, Conv2dConfig::default()));
    assert!(gradients.get(&x).is_none() && gradients.get(&weight).is_some());
}

/// Enough channels for Winograd's way, in maps of any size.
fn winograd_cases() -> impl Strategy<Value = Case> {
    let padding = (0usize..4, 0usize..4, 0usize..4, 0usize..4);
    (1usize..4, (16usize..40, 16usize..70), (3usize..20, 3usize..20), padding).prop_map(
        |(batch, (group_channels, group_filters), size, (top, bottom, left, right))| {
            let config = Conv2dConfig { stride: 1, padding: Padding { top, bottom, left, right }, groups: 1 };
            Case { batch, group_channels, group_filters, size, kernel: (3, 3), config }
        },
    )
}

/// `|got - expected| / |expected|`, as Euclidean norms.
fn relative_error(got: &[f64], expected: &[f64]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    assert_eq!(got.len(), expected.len());
    norm(&mut got.iter().zip(expected).map(|(got, expected)| got - expected)) / norm(&mut expected.iter().copied())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn winograds_way_agrees_with_plain_loops(case in winograd_cases()) {
        let len = |shape: [usize; 4]| shape.iter().product::<usize>();
        let (x, weight) = (values(1, len(case.x())), values(2, len(case.weight())));
        let y = case.forward(&x, &weight);
        let (dx, dweight) = case.backward(&x, &weight, &values(99, len(case.out())));
        // Measured in f32: 0.4 to 2.1e-6; in f64 as much less as its digits are more.
        for (dtype, bound) in [(DType::F64, 1e-14), (DType::F32, 5e-6)] {
            let operands = [(1, case.x()), (2, case.weight())]
                .map(|(seed, shape)| Var::from_tensor(&tensor(seed, &shape).to_dtype(dtype).unwrap()).unwrap());
            let (got, gradients) =
                differentiate(&operands, |tape, t| conv2d(tape, &t[0], &t[1], None, case.config));
            let gradient = |of: &Var| flat64(gradients.get(of).unwrap());
            for (name, got, expected) in [
                ("y", flat64(&got), &y), ("dx", gradient(&operands[0]), &dx), ("dweight", gradient(&operands[1]), &dweight),
            ] {
                let error = relative_error(&got, expected);
                prop_assert!(error < bound, "{name} in {dtype:?}: {error:e}");
            }
        }
    }
}
