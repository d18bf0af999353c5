//! Operations on whole tensors: reshaping, joining, adding.

use candle_core::{Result, Tensor, bail};

use crate::{
    float::{ensure_alike, image_dims},
    tape::{Tape, record},
};

/// `[n, ...]` to `[n, product of the rest]`.
///
/// # Errors
/// If `x` has no dimensions, is neither `f32` nor `f64`, or not on the CPU.
pub fn flatten(tape: Option<&Tape>, x: &Tensor) -> Result<Tensor> {
    ensure_alike("flatten", &[x])?;
    let y = x.detach().flatten_from(1)?;
    let shape = x.shape().clone();
    record(tape, [Some(x)], &y, move |dy, [to_x], gradients| gradients.add(to_x, || dy.reshape(shape)))?;
    Ok(y)
}

/// `a + b`, shaped alike.
///
/// # Errors
/// If the shapes differ, or the tensors are not both `f32` or both `f64` on the CPU.
pub fn add(tape: Option<&Tape>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ensure_alike("add", &[a, b])?;
    if a.dims() != b.dims() {
        bail!("add: {:?} and {:?} differ", a.shape(), b.shape())
    }
    let y = (a.detach() + b.detach())?;
    record(tape, [Some(a), Some(b)], &y, move |dy, [to_a, to_b], gradients| {
        gradients.add(to_a, || dy.copy())?;
        gradients.add(to_b, || Ok(dy))
    })?;
    Ok(y)
}

/// The channels of `a`, then those of `b`. `a`: `[n, c, h, w]`; `b`: `[n, d, h, w]`; returns `[n, c + d, h, w]`.
///
/// # Errors
/// If the shapes do not fit each other, or the tensors are not both `f32` or both `f64` on the CPU.
pub fn cat(tape: Option<&Tape>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    ensure_alike("cat", &[a, b])?;
    let ([n, c, h, w], [_, d, ..]) = (image_dims("cat", a)?, image_dims("cat", b)?);
    if b.dims() != [n, d, h, w] {
        bail!("cat: {:?} and {:?} differ in more than their channels", a.shape(), b.shape())
    }
    let y = Tensor::cat(&[a.detach(), b.detach()], 1)?;
    record(tape, [Some(a), Some(b)], &y, move |dy, [to_a, to_b], gradients| {
        gradients.add(to_a, || dy.narrow(1, 0, c)?.force_contiguous())?;
        gradients.add(to_b, || dy.narrow(1, c, d)?.force_contiguous())
    })?;
    Ok(y)
}
