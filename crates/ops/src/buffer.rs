//! New buffers without a first pass of zeros over them.

use std::mem::MaybeUninit;

/// A buffer of `len` elements that `write` fills.
///
/// # Safety
/// `write` must initialise every element.
pub(crate) unsafe fn filled<T>(len: usize, write: impl FnOnce(&mut [MaybeUninit<T>])) -> Vec<T> {
    let mut buffer = Vec::with_capacity(len);
    write(&mut buffer.spare_capacity_mut()[..len]);
    // SAFETY: the capacity is at least `len`, and the elements are initialised by the caller's promise.
    unsafe { buffer.set_len(len) };
    buffer
}
