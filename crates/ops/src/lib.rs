//! The tensor operations that training a convolutional network needs, on candle's tensors: forward, backward, and right.
//! candle's own are slow in the backward pass (convolution, batch norm) or wrong there (max pooling). Gradients go by way of
//! a [`Tape`].
//!
//! All functions take and give `f32` or `f64` tensors in row-major NCHW order; other layouts are made contiguous first. They
//! run on the CPU, on rayon's current pool; on another device they return an error until they have a kernel there. Wrong
//! shapes are errors that name the shapes, never panics.
//!
//! **Reproducible**: the work is cut by shape and number of threads alone, and partial sums are added in a fixed order, so the
//! same call gives the same bits each time, gradients included. With another number of threads, only what is computed as a
//! product of matrices ([`linear`], and [`conv2d`] unless depthwise) may differ in the last digits.
//!
//! ```
//! use candle_core::{DType, Device, Var};
//! use twograin_ops::{Activation, Conv2dConfig, Padding, Tape, batch_norm_train, conv2d, global_avg_pool};
//! # fn main() -> candle_core::Result<()> {
//! let images = candle_core::Tensor::rand(0f32, 1., (2, 3, 9, 9), &Device::Cpu)?;
//! let weight = Var::rand(-1f32, 1., (4, 3, 3, 3), &Device::Cpu)?;
//! let (gamma, beta) = (Var::ones(4, DType::F32, &Device::Cpu)?, Var::zeros(4, DType::F32, &Device::Cpu)?);
//! let config = Conv2dConfig { stride: 2, padding: Padding::same(1), ..Conv2dConfig::default() };
//! let tape = Tape::new();
//! let maps = conv2d(Some(&tape), &images, &weight, None, config)?;
//! let maps = batch_norm_train(Some(&tape), &maps, &gamma, &beta, None, 1e-5, Activation::Relu)?.y;
//! let features = tape.output(&global_avg_pool(Some(&tape), &maps)?)?;
//! let mut gradients = features.sqr()?.sum_all()?.backward()?;
//! tape.backward(&mut gradients)?;
//! assert_eq!(gradients.get(&weight).unwrap().dims(), [4, 3, 3, 3]);
//! # Ok(())
//! # }
//! ```
#![deny(missing_docs, unsafe_op_in_unsafe_fn, clippy::undocumented_unsafe_blocks)]

mod activation;
mod batch_norm;
mod buffer;
mod conv;
mod dropout;
mod float;
mod gemm;
mod linear;
mod optimizer;
mod parallel;
mod pool;
mod product;
mod reshape;
mod scratch;
mod simd;
mod tape;
mod window;

pub use activation::{Activation, activate, relu};
pub use batch_norm::{BatchNormOutput, Moments, Statistics, batch_norm_eval, batch_norm_train, batch_norm_train_given};
pub use conv::{Conv2dConfig, Padding, PreparedConv2d, conv2d, conv2d_activated};
pub use dropout::{dropout, stochastic_depth};
pub use linear::linear;
pub use optimizer::{AdamW, Sgd, adamw_step, sgd_step, sum_of_squares};
pub use pool::{Pool2dConfig, adaptive_avg_pool2d, avg_pool2d, global_avg_pool, max_pool2d};
pub use reshape::{add, cat, flatten};
pub use tape::Tape;
