//! Buffers that outlive a call: fresh memory from the system costs more than the work done in it.

use std::{
    ops::{Deref, DerefMut},
    sync::{Mutex, PoisonError},
};

use crate::float::Float;

/// Buffers kept between calls, per element type.
const KEPT: usize = 8;
/// Start of a buffer, in bytes: a line of the cache, which is also the widest vector.
const ALIGNMENT: usize = 64;

/// A buffer of stale values that starts at a cache line. It goes back to its pool when dropped.
pub(crate) struct Scratch<T: Float> {
    buffer: Vec<T>,
    start: usize,
    len: usize,
}

impl<T: Float> Scratch<T> {
    /// A buffer of `len` elements.
    pub(crate) fn take(len: usize) -> Self {
        let needed = len + ALIGNMENT / size_of::<T>();
        let mut pool = lock(T::pool());
        // The smallest that is large enough; else one is made anew.
        let fitting = pool.iter().enumerate().filter(|(_, buffer)| buffer.len() >= needed);
        let best = fitting.min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index);
        let buffer = best.map(|index| pool.swap_remove(index));
        drop(pool);
        let buffer = buffer.unwrap_or_else(|| vec![T::ZERO; needed]);
        let start = buffer.as_ptr().align_offset(ALIGNMENT).min(needed - len);
        Scratch { buffer, start, len }
    }
}

impl<T: Float> Drop for Scratch<T> {
    fn drop(&mut self) {
        let mut pool = lock(T::pool());
        pool.push(std::mem::take(&mut self.buffer));
        if pool.len() > KEPT {
            // The smallest is the cheapest to make again.
            let smallest = pool.iter().enumerate().min_by_key(|(_, buffer)| buffer.len()).map(|(index, _)| index);
            smallest.map(|index| pool.swap_remove(index));
        }
    }
}

impl<T: Float> Deref for Scratch<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl<T: Float> DerefMut for Scratch<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

/// Buffers waiting for their next use.
pub(crate) type Pool<T> = Mutex<Vec<Vec<T>>>;

fn lock<T>(pool: &Pool<T>) -> std::sync::MutexGuard<'_, Vec<Vec<T>>> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}
