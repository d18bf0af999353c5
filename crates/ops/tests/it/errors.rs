//! Wrong operands are errors that name what is wrong.

use candle_core::{DType, Device, Result, Tensor};
use twograin_ops::{
    Activation, Conv2dConfig, Padding, Pool2dConfig, PreparedConv2d, Statistics, adaptive_avg_pool2d, batch_norm_eval,
    batch_norm_train, conv2d, dropout, linear, max_pool2d, relu,
};

fn zeros(shape: &[usize]) -> Tensor {
    Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap()
}

#[track_caller]
fn refused(result: Result<Tensor>, naming: &[&str]) {
    let message = result.expect_err("an error").to_string();
    for part in naming {
        assert!(message.contains(part), "{message:?} does not name {part:?}");
    }
}

#[test]
fn convolution_names_the_shapes_that_do_not_fit() {
    let conv = |x: &[usize], weight: &[usize], config| conv2d(None, &zeros(x), &zeros(weight), None, config);
    let config = Conv2dConfig::default();
    refused(conv(&[2, 3, 8, 8], &[4, 2, 3, 3], config), &["[2, 3, 8, 8]", "[4, 2, 3, 3]"]);
    refused(conv(&[3, 8, 8], &[4, 3, 3, 3], config), &["[3, 8, 8]", "[n, c, h, w]"]);
    refused(conv(&[2, 3, 2, 8], &[4, 3, 3, 3], config), &["larger", "[2, 3, 2, 8]"]);
    refused(conv(&[0, 3, 8, 8], &[4, 3, 3, 3], config), &["empty"]);
    refused(conv(&[2, 4, 8, 8], &[3, 2, 3, 3], Conv2dConfig { groups: 2, ..config }), &["2 groups"]);
    refused(conv(&[2, 4, 8, 8], &[3, 2, 3, 3], Conv2dConfig { groups: 0, ..config }), &["positive"]);
    refused(conv(&[2, 4, 8, 8], &[3, 4, 3, 3], Conv2dConfig { stride: 0, ..config }), &["positive"]);
    let padding = Padding { top: 1, ..Padding::default() };
    assert!(conv(&[2, 3, 2, 8], &[4, 3, 3, 3], Conv2dConfig { padding, ..config }).is_ok());
    let (x, weight) = (zeros(&[2, 3, 8, 8]), zeros(&[4, 3, 3, 3]));
    refused(conv2d(None, &x, &weight, Some(&zeros(&[3])), config), &["bias [4]", "[3]"]);
    let double = weight.to_dtype(DType::F64).unwrap();
    refused(conv2d(None, &x, &double, None, config), &["F32", "F64"]);
    let prepared = PreparedConv2d::new(&weight, None, None).unwrap();
    refused(
        prepared.forward(&x, Some(&zeros(&[2, 4, 5, 6])), Activation::Identity, Conv2dConfig::default()),
        &["residual", "[2, 4, 6, 6]", "[2, 4, 5, 6]"],
    );
    let half = |t: &Tensor| t.to_dtype(DType::F16).unwrap();
    refused(conv2d(None, &half(&x), &half(&weight), None, config), &["F16"]);
}

#[test]
fn batch_norm_names_the_operand_that_does_not_fit() {
    let train = |x: &[usize], gamma: usize, beta: usize, residual: Option<&[usize]>| {
        let residual = residual.map(zeros);
        let (gamma, beta) = (zeros(&[gamma]), zeros(&[beta]));
        batch_norm_train(None, &zeros(x), &gamma, &beta, residual.as_ref(), 1e-5, Activation::Relu)
            .map(|output| output.y)
    };
    refused(train(&[2, 3, 4, 4], 2, 3, None), &["gamma [3]", "[2]"]);
    refused(train(&[2, 3, 4, 4], 3, 2, None), &["beta [3]", "[2]"]);
    refused(train(&[2, 3, 4, 4], 3, 3, Some(&[2, 3, 4, 5])), &["residual", "[2, 3, 4, 5]"]);
    refused(train(&[2, 3, 4], 3, 3, None), &["[2, 3, 4]"]);
    refused(train(&[1, 3, 1, 1], 3, 3, None), &["more than one value per channel"]);
    let (x, c) = (zeros(&[1, 3, 1, 1]), zeros(&[3]));
    let statistics = |var: &Tensor| Statistics { mean: c.clone(), var: var.clone(), eps: 1e-5 };
    assert!(batch_norm_eval(None, &x, &c, &c, &statistics(&c), None, Activation::Identity).is_ok());
    let wrong = batch_norm_eval(None, &x, &c, &c, &statistics(&zeros(&[1, 3])), None, Activation::Identity);
    refused(wrong, &["var [3]", "[1, 3]"]);
}

#[test]
fn pooling_refuses_windows_that_do_not_fit() {
    let pool =
        |x: &[usize], kernel, stride, padding| max_pool2d(None, &zeros(x), Pool2dConfig::new(kernel, stride, padding));
    refused(pool(&[1, 1, 2, 8], 3, 1, 0), &["larger", "2 by 8"]);
    refused(pool(&[1, 1, 8, 8], 3, 1, 2), &["half a kernel"]);
    refused(pool(&[1, 1, 8, 8], 0, 1, 0), &["positive"]);
    refused(pool(&[1, 1, 8, 8], 2, 0, 0), &["positive"]);
    refused(pool(&[1, 8, 8], 2, 2, 0), &["[1, 8, 8]"]);
    refused(adaptive_avg_pool2d(None, &zeros(&[1, 1, 8, 8]), (0, 2)), &["non-empty"]);
}

#[test]
fn the_others_refuse_what_they_cannot_take() {
    refused(linear(None, &zeros(&[2, 3]), &zeros(&[4, 2]), None), &["[2, 3]", "[4, 2]"]);
    refused(linear(None, &zeros(&[2, 3, 1]), &zeros(&[4, 3]), None), &["[2, 3, 1]"]);
    refused(linear(None, &zeros(&[2, 3]), &zeros(&[4, 3]), Some(&zeros(&[3]))), &["bias [4]"]);
    refused(dropout(None, &zeros(&[2]), 1., 0), &["[0, 1)", "1"]);
    refused(dropout(None, &zeros(&[2]), f64::NAN, 0), &["NaN"]);
    refused(relu(None, &zeros(&[2]).to_dtype(DType::U8).unwrap()), &["U8"]);
}
