//! The matrix product of the `gemm` crate behind checked views.

use std::marker::PhantomData;

pub(crate) use gemm::Parallelism;

use crate::float::Float;

/// A matrix in a slice, by strides.
#[derive(Clone, Copy)]
pub(crate) struct Mat<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T> Mat<'a, T> {
    /// A row-major matrix whose rows start `row_stride` apart.
    pub(crate) fn new(data: &'a [T], rows: usize, cols: usize, row_stride: usize) -> Self {
        assert!(rows > 0 && cols > 0);
        assert!((rows - 1) * row_stride + cols <= data.len());
        Mat { data, rows, cols, row_stride, col_stride: 1 }
    }

    pub(crate) fn transposed(self) -> Self {
        Mat { rows: self.cols, cols: self.rows, row_stride: self.col_stride, col_stride: self.row_stride, ..self }
    }
}

/// A row-major matrix to write to. It may interleave with others in one buffer and hold nothing yet, so it is a pointer, not a
/// slice.
pub(crate) struct MatMut<'a, T> {
    start: *mut T,
    rows: usize,
    cols: usize,
    row_stride: usize,
    initialized: bool,
    buffer: PhantomData<&'a mut [T]>,
}

impl<'a, T: Float> MatMut<'a, T> {
    pub(crate) fn new(data: &'a mut [T], rows: usize, cols: usize) -> Self {
        assert!(rows > 0 && cols > 0 && rows * cols <= data.len());
        let start = data.as_mut_ptr();
        MatMut { start, rows, cols, row_stride: cols, initialized: true, buffer: PhantomData }
    }

    /// A matrix that holds nothing yet.
    ///
    /// # Safety
    /// For `'a`, each element `row * row_stride + col` with `row < rows` and `col < cols` must be valid for writes through
    /// `start`, and reached in no other way.
    pub(crate) unsafe fn uninitialized(start: *mut T, rows: usize, cols: usize, row_stride: usize) -> Self {
        MatMut { start, rows, cols, row_stride, initialized: false, buffer: PhantomData }
    }

    pub(crate) fn row(&mut self, row: usize) -> &mut [T] {
        assert!(self.initialized && row < self.rows);
        // SAFETY: the row's elements are initialised by the assertion, and valid and exclusively ours by what `new` borrowed or
        // `uninitialized` was promised.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(row * self.row_stride), self.cols) }
    }
}

/// Whether a product replaces what its destination held.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Store {
    Replace,
    Add,
}

/// `out = a b`, or `out += a b`.
pub(crate) fn multiply<T: Float>(
    out: &mut MatMut<'_, T>,
    store: Store,
    a: Mat<'_, T>,
    b: Mat<'_, T>,
    parallelism: Parallelism,
) {
    assert_eq!((out.rows, out.cols, a.cols), (a.rows, b.cols, b.rows));
    assert!(out.initialized || store == Store::Replace);
    // SAFETY: the views hold their bounds (`Mat::new`, `MatMut::new`, `MatMut::uninitialized`), their dimensions agree by the
    // first assertion, and `out` is exclusive, so it overlaps neither operand; it is read only where it is initialised (second
    // assertion). Strides of a view are below its buffer's length, thus fit an isize.
    unsafe {
        gemm::gemm(
            out.rows,
            out.cols,
            a.cols,
            out.start,
            1,
            out.row_stride as isize,
            store == Store::Add,
            a.data.as_ptr(),
            a.col_stride as isize,
            a.row_stride as isize,
            b.data.as_ptr(),
            b.col_stride as isize,
            b.row_stride as isize,
            T::ONE,
            T::ONE,
            false,
            false,
            false,
            parallelism,
        );
    }
    out.initialized = true;
}
