//! The fully connected layer.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, Layout, Result, Shape, Tensor, bail};

use crate::{
    float::{Float, elements, ensure_alike, storage, with_float},
    gemm::{Mat, MatMut, Parallelism, Store, multiply},
};

/// `x weight^T + bias`. `x`: `[n, in]`; `weight`: `[out, in]`; `bias`: `[out]`; returns `[n, out]`.
///
/// # Errors
/// If the shapes do not fit each other or are empty, or the tensors are not all `f32` or all `f64` on the CPU.
pub fn linear(x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let mut operands = vec![x, weight];
    operands.extend(bias);
    ensure_alike("linear", &operands)?;
    let ([n, inputs], [outputs, weight_inputs]) = (x.dims(), weight.dims()) else {
        bail!("linear: expected x [n, in] and weight [out, in], got {:?} and {:?}", x.shape(), weight.shape())
    };
    if inputs != weight_inputs || n * inputs * outputs == 0 {
        bail!("linear: x {:?} does not fit weight {:?}", x.shape(), weight.shape())
    }
    if let Some(bias) = bias
        && bias.dims() != [*outputs]
    {
        bail!("linear: expected bias [{outputs}] for weight {:?}, got {:?}", weight.shape(), bias.shape())
    }
    let (x, weight) = (x.contiguous()?, weight.contiguous()?);
    match bias {
        None => x.apply_op2(&weight, Linear),
        Some(bias) => x.apply_op3(&weight, &bias.contiguous()?, Linear),
    }
}

struct Linear;

impl Linear {
    fn forward<T: Float>(x: &[T], weight: &[T], bias: Option<&[T]>, outputs: usize) -> Vec<T> {
        let inputs = weight.len() / outputs;
        let n = x.len() / inputs;
        let mut y = match bias {
            None => vec![T::ZERO; n * outputs],
            Some(bias) => bias.repeat(n),
        };
        multiply(
            &mut MatMut::new(&mut y, n, outputs),
            if bias.is_some() { Store::Add } else { Store::Replace },
            Mat::new(x, n, inputs, inputs),
            Mat::new(weight, outputs, inputs, inputs).transposed(),
            Parallelism::Rayon(0),
        );
        y
    }

    fn gradients(x: &Tensor, weight: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let dy = dy.contiguous()?;
        let dx = x.track_op().then(|| dy.apply_op2_no_bwd(weight, &Product { transpose_a: false }));
        let dweight = weight.track_op().then(|| dy.apply_op2_no_bwd(x, &Product { transpose_a: true }));
        Ok((dx.transpose()?, dweight.transpose()?))
    }
}

impl CustomOp2 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, outputs) = (x_layout.dims()[0], weight_layout.dims()[0]);
        let y = with_float!(x, "linear", T => {
            let x = elements::<T>("linear", x, x_layout)?;
            let weight = elements("linear", weight, weight_layout)?;
            storage(Self::forward(x, weight, None, outputs))
        });
        Ok((y, Shape::from((n, outputs))))
    }

    fn bwd(&self, x: &Tensor, weight: &Tensor, _y: &Tensor, dy: &Tensor) -> Result<(Option<Tensor>, Option<Tensor>)> {
        Self::gradients(x, weight, dy)
    }
}

impl CustomOp3 for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        weight: &CpuStorage,
        weight_layout: &Layout,
        bias: &CpuStorage,
        bias_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (n, outputs) = (x_layout.dims()[0], weight_layout.dims()[0]);
        let y = with_float!(x, "linear", T => {
            let x = elements::<T>("linear", x, x_layout)?;
            let weight = elements("linear", weight, weight_layout)?;
            let bias = elements("linear", bias, bias_layout)?;
            storage(Self::forward(x, weight, Some(bias), outputs))
        });
        Ok((y, Shape::from((n, outputs))))
    }

    fn bwd(
        &self,
        x: &Tensor,
        weight: &Tensor,
        bias: &Tensor,
        _y: &Tensor,
        dy: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        let (dx, dweight) = Self::gradients(x, weight, dy)?;
        let dbias = bias.track_op().then(|| dy.sum(0)).transpose()?;
        Ok((dx, dweight, dbias))
    }
}

/// `a b` or `a^T b` of matrices: the gradients of [`Linear`].
struct Product {
    transpose_a: bool,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear-backward"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (a_rows, a_cols) = a_layout.shape().dims2()?;
        let (b_rows, b_cols) = b_layout.shape().dims2()?;
        let rows = if self.transpose_a { a_cols } else { a_rows };
        let out = with_float!(a, self.name(), T => {
            let a = Mat::new(elements::<T>(self.name(), a, a_layout)?, a_rows, a_cols, a_cols);
            let b = Mat::new(elements::<T>(self.name(), b, b_layout)?, b_rows, b_cols, b_cols);
            let a = if self.transpose_a { a.transposed() } else { a };
            let mut out = vec![T::ZERO; rows * b_cols];
            let target = &mut MatMut::new(&mut out, rows, b_cols);
            multiply(target, Store::Replace, a, b, Parallelism::Rayon(0));
            storage(out)
        });
        Ok((out, Shape::from((rows, b_cols))))
    }
}
