//! The fully connected layer.

use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor, bail};

use crate::{
    buffer::filled,
    float::{Float, elements, ensure_alike, storage, with_float},
    gemm::{Mat, MatMut, Parallelism, Store, multiply},
    parallel::DisjointMut,
    tape::{Tape, record},
};

/// `x weight^T + bias`. `x`: `[n, in]`; `weight`: `[out, in]`; `bias`: `[out]`; returns `[n, out]`.
///
/// # Errors
/// If the shapes do not fit each other or are empty, or the tensors are not all `f32` or all `f64` on the CPU.
pub fn linear(tape: Option<&Tape>, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
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
    let (input, matrix) = (x.contiguous()?, weight.contiguous()?);
    let product = Product { transpose_a: false, transpose_b: true, bias: bias.map(Tensor::detach) };
    let y = input.apply_op2_no_bwd(&matrix, &product)?;
    record(tape, [Some(x), Some(weight), bias], &y, move |dy, [to_x, to_weight, to_bias], gradients| {
        gradients.add(to_bias, || dy.sum(0))?;
        let [of_x, of_weight] =
            [false, true].map(|transpose_a| Product { transpose_a, transpose_b: false, bias: None });
        gradients.add(to_weight, || dy.apply_op2_no_bwd(&input, &of_weight))?;
        gradients.add(to_x, || dy.apply_op2_no_bwd(&matrix, &of_x))
    })?;
    Ok(y)
}

/// `a b + bias` of matrices, either of them transposed; the bias is added to each row.
struct Product {
    transpose_a: bool,
    transpose_b: bool,
    bias: Option<Tensor>,
}

impl CustomOp2 for Product {
    fn name(&self) -> &'static str {
        "linear"
    }

    fn cpu_fwd(
        &self,
        a: &CpuStorage,
        a_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let matrix = |layout: &Layout, transpose| {
            let (rows, cols) = layout.shape().dims2()?;
            Ok::<_, candle_core::Error>(((rows, cols), if transpose { (cols, rows) } else { (rows, cols) }))
        };
        let ((a_dims, (rows, _)), (b_dims, (_, cols))) =
            (matrix(a_layout, self.transpose_a)?, matrix(b_layout, self.transpose_b)?);
        let out = with_float!(a, self.name(), T => {
            let a = operand(elements::<T>(self.name(), a, a_layout)?, a_dims, self.transpose_a);
            let b = operand(elements::<T>(self.name(), b, b_layout)?, b_dims, self.transpose_b);
            match &self.bias {
                None => {
                    // SAFETY: the product covers the whole buffer.
                    let out = unsafe {
                        filled(rows * cols, |out| {
                            let mut out = DisjointMut::new(out).matrix(0, rows, cols, cols);
                            multiply(&mut out, Store::Replace, a, b, Parallelism::Rayon(0));
                        })
                    };
                    storage(out)
                }
                Some(bias) => {
                    let mut out = bias.to_vec1::<T>()?.repeat(rows);
                    multiply(&mut MatMut::new(&mut out, rows, cols), Store::Add, a, b, Parallelism::Rayon(0));
                    storage(out)
                }
            }
        });
        Ok((out, Shape::from((rows, cols))))
    }
}

fn operand<T: Float>(elements: &[T], (rows, cols): (usize, usize), transpose: bool) -> Mat<'_, T> {
    let matrix = Mat::new(elements, rows, cols, cols);
    if transpose { matrix.transposed() } else { matrix }
}
