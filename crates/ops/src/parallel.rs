//! Writing one buffer from several tasks.

use std::{marker::PhantomData, mem::MaybeUninit, ops::Range};

use crate::{float::Float, gemm::MatMut};

/// A buffer whose parts are handed to tasks that write them at the same time, where `chunks_mut` cannot say which parts: the
/// planes of one channel across a batch, a block of columns of a matrix.
pub(crate) struct DisjointMut<'a, T> {
    start: *mut T,
    len: usize,
    buffer: PhantomData<&'a mut [T]>,
}

// SAFETY: sharing it lets threads reach the elements only through the `unsafe` methods below, whose callers promise that no
// element is reached twice; the elements themselves may move between threads.
unsafe impl<T: Send> Sync for DisjointMut<'_, T> {}
// SAFETY: as for `Sync`; it owns no more than the exclusive borrow of a slice.
unsafe impl<T: Send> Send for DisjointMut<'_, T> {}

impl<'a, T> DisjointMut<'a, T> {
    pub(crate) fn new(buffer: &'a mut [T]) -> Self {
        DisjointMut { start: buffer.as_mut_ptr(), len: buffer.len(), buffer: PhantomData }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn start(&self) -> *mut T {
        self.start
    }

    /// # Safety
    /// No element of `range` may be part of another slice or matrix that is still in use.
    pub(crate) unsafe fn slice(&self, range: Range<usize>) -> &'a mut [T] {
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: in bounds by the assertion, borrowed exclusively for 'a by `new`, and disjoint by the caller's promise.
        unsafe { std::slice::from_raw_parts_mut(self.start.add(range.start), range.len()) }
    }

    /// A slice of a length known in advance.
    ///
    /// # Safety
    /// As for [`slice`](Self::slice).
    pub(crate) unsafe fn array<const N: usize>(&self, start: usize) -> &'a mut [T; N] {
        assert!(start <= self.len && N <= self.len - start);
        // SAFETY: as in `slice`; an array is laid out as a slice of its length.
        unsafe { &mut *self.start.add(start).cast::<[T; N]>() }
    }
}

impl<'a, T: Float> DisjointMut<'a, MaybeUninit<T>> {
    /// The row-major matrix that starts at `offset`, its rows `row_stride` apart.
    ///
    /// # Safety
    /// No element of the matrix may be part of another slice or matrix that is still in use.
    pub(crate) unsafe fn matrix(&self, offset: usize, rows: usize, cols: usize, row_stride: usize) -> MatMut<'a, T> {
        assert!(rows > 0 && cols > 0 && cols <= row_stride);
        assert!(offset + (rows - 1) * row_stride + cols <= self.len);
        // SAFETY: in bounds by the assertion, borrowed exclusively for 'a by `new`, and disjoint by the caller's promise.
        unsafe { MatMut::uninitialized(self.start.add(offset).cast::<T>(), rows, cols, row_stride) }
    }
}
