//! Products of small matrices in registers: what the `gemm` crate does for large ones, without its packing.

use crate::{float::Float, parallel::DisjointMut, simd::Isa};

/// Columns of a panel of the right operand.
pub(crate) const PANEL: usize = 32;

/// `out[m][n] = sum over r of a[m][r] b[r][n]` for one panel of columns `n`.
pub(crate) struct Product<'a, T> {
    pub a: &'a [T],
    /// From one row of `a` to the next.
    pub a_row: usize,
    /// From one term of the sum to the next in `a`.
    pub a_step: usize,
    /// `[depth, PANEL]`
    pub b: &'a [T],
    pub rows: usize,
    pub depth: usize,
}

/// Rows of `PANEL` elements in a larger buffer.
#[derive(Clone, Copy)]
pub(crate) struct Rows {
    pub start: usize,
    /// From one row to the next.
    pub stride: usize,
}

impl<T: Float> Product<'_, T> {
    /// Writes the product to `out`, or adds it to what is there.
    ///
    /// # Safety
    /// No element of the rows may be part of another slice that is in use.
    pub(crate) unsafe fn run(&self, isa: Isa, out: &DisjointMut<'_, T>, to: Rows, add: bool) {
        let Product { a, a_row, a_step, b, rows, depth } = *self;
        assert!(rows > 0 && depth > 0);
        assert!((rows - 1) * a_row + (depth - 1) * a_step < a.len() && depth * PANEL <= b.len());
        assert!(to.start + (rows - 1) * to.stride + PANEL <= out.len());
        let mut row = 0;
        while row < rows {
            let tile = Tile {
                rows: rows - row,
                a: a[row * a_row..].as_ptr(),
                a_row,
                a_step,
                b: b.as_ptr(),
                depth,
                // SAFETY: within the buffer by the last assertion.
                out: unsafe { out.start().add(to.start + row * to.stride) },
                stride: to.stride,
                add,
            };
            // SAFETY: the tile's operands and outputs are within their buffers by the assertions, and the outputs are reached
            // in no other way by the caller's promise.
            row += unsafe { T::tile(isa, tile) };
        }
    }
}

/// Some rows of a [`Product`], by pointers that are valid for it.
pub(crate) struct Tile<T> {
    /// At most so many.
    rows: usize,
    a: *const T,
    a_row: usize,
    a_step: usize,
    b: *const T,
    depth: usize,
    out: *mut T,
    stride: usize,
    add: bool,
}

/// Calls a function that is generic over the number of rows with as many as there are, up to a maximum; gives their number.
macro_rules! by_rows {
    ($tile:expr, $function:ident, [$($rows:literal),+]) => {
        match $tile.rows.min([$($rows),+].len()) {
            $($rows => { $function::<$rows>($tile); $rows })+
            rows => unreachable!("{rows} rows"),
        }
    };
}

/// The rows of any element type on any machine. Returns how many were done.
///
/// # Safety
/// The tile's pointers must be valid for its rows.
pub(crate) unsafe fn portable<T: Float>(tile: Tile<T>) -> usize {
    match tile.rows {
        // SAFETY: as the caller promises.
        1 => unsafe { plain::<1, T>(tile) },
        // SAFETY: as the caller promises.
        _ => unsafe { plain::<2, T>(tile) },
    }
}

/// # Safety
/// The tile's pointers must be valid for `ROWS` rows.
unsafe fn plain<const ROWS: usize, T: Float>(tile: Tile<T>) -> usize {
    /// Columns whose sums stay in registers.
    const COLUMNS: usize = 8;
    for column in (0..PANEL).step_by(COLUMNS) {
        let mut sums = [[T::ZERO; COLUMNS]; ROWS];
        for step in 0..tile.depth {
            // SAFETY: `b` has `depth` rows of PANEL elements.
            let b = unsafe { &*tile.b.add(step * PANEL + column).cast::<[T; COLUMNS]>() };
            for (row, sums) in sums.iter_mut().enumerate() {
                // SAFETY: `a` has an element for each row and step.
                let a = unsafe { *tile.a.add(row * tile.a_row + step * tile.a_step) };
                for (sum, &b) in sums.iter_mut().zip(b) {
                    *sum += a * b;
                }
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (index, &sum) in sums.iter().enumerate() {
                // SAFETY: `out` has PANEL elements in each row.
                unsafe {
                    let out = tile.out.add(row * tile.stride + column + index);
                    *out = if tile.add { *out + sum } else { sum };
                }
            }
        }
    }
    ROWS
}

/// The rows of `f32`, by the widest registers there are. Returns how many were done.
///
/// # Safety
/// The tile's pointers must be valid for its rows.
pub(crate) unsafe fn single(isa: Isa, tile: Tile<f32>) -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        if isa.has_avx512() {
            // SAFETY: the processor has AVX-512; else as the caller promises.
            return unsafe { by_rows!(tile, avx512, [1, 2, 3, 4, 5, 6, 7, 8]) };
        }
        if isa.has_fma() {
            // SAFETY: the processor has AVX2 and FMA; else as the caller promises.
            return unsafe { by_rows!(tile, fma, [1, 2, 3, 4, 5, 6]) };
        }
    }
    // SAFETY: as the caller promises.
    unsafe { portable(tile) }
}

/// # Safety
/// The tile's pointers must be valid for `ROWS` rows, and the processor must have AVX-512.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn avx512<const ROWS: usize>(tile: Tile<f32>) {
    use std::arch::x86_64::{
        _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    };
    let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
    // SAFETY: `b` has `depth` rows of PANEL = 2 × 16 elements, `a` an element for each row and step, and `out` PANEL elements in
    // each row.
    unsafe {
        for step in 0..tile.depth {
            let b = tile.b.add(step * PANEL);
            let b = [_mm512_loadu_ps(b), _mm512_loadu_ps(b.add(16))];
            let a = tile.a.add(step * tile.a_step);
            for (row, sums) in sums.iter_mut().enumerate() {
                let a = _mm512_set1_ps(*a.add(row * tile.a_row));
                *sums = [_mm512_fmadd_ps(a, b[0], sums[0]), _mm512_fmadd_ps(a, b[1], sums[1])];
            }
        }
        for (row, sums) in sums.iter().enumerate() {
            for (half, &sum) in sums.iter().enumerate() {
                let out = tile.out.add(row * tile.stride + 16 * half);
                _mm512_storeu_ps(out, if tile.add { _mm512_add_ps(_mm512_loadu_ps(out), sum) } else { sum });
            }
        }
    }
}

/// # Safety
/// The tile's pointers must be valid for `ROWS` rows, and the processor must have AVX2 and FMA.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn fma<const ROWS: usize>(tile: Tile<f32>) {
    use std::arch::x86_64::{
        _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps,
    };
    for column in (0..PANEL).step_by(16) {
        let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
        // SAFETY: as in `avx512`, 16 of the PANEL columns at a time.
        unsafe {
            for step in 0..tile.depth {
                let b = tile.b.add(step * PANEL + column);
                let b = [_mm256_loadu_ps(b), _mm256_loadu_ps(b.add(8))];
                let a = tile.a.add(step * tile.a_step);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let a = _mm256_set1_ps(*a.add(row * tile.a_row));
                    *sums = [_mm256_fmadd_ps(a, b[0], sums[0]), _mm256_fmadd_ps(a, b[1], sums[1])];
                }
            }
            for (row, sums) in sums.iter().enumerate() {
                for (half, &sum) in sums.iter().enumerate() {
                    let out = tile.out.add(row * tile.stride + column + 8 * half);
                    _mm256_storeu_ps(out, if tile.add { _mm256_add_ps(_mm256_loadu_ps(out), sum) } else { sum });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave<T: Float>(len: usize, step: f64) -> Vec<T> {
        (0..len).map(|i| T::from_f64((i as f64 * step).sin())).collect()
    }

    /// On each instruction set, both ways the left operand can lie, and more rows than a kernel takes at once.
    fn check<T: Float>(tolerance: f64) {
        for isa in Isa::available() {
            for (rows, depth) in (1..20).map(|rows| (rows, 1 + rows * 7 % 33)) {
                for (a_row, a_step) in [(depth + 3, 1), (1, rows + 5)] {
                    let a = wave::<T>(rows * a_row + depth * a_step, 0.7);
                    let b = wave::<T>(depth * PANEL, 1.3);
                    let (start, stride) = (5, PANEL + 16);
                    let before = wave::<T>(start + rows * stride, 2.1);
                    for add in [false, true] {
                        let mut out = before.clone();
                        let product = Product { a: &a, a_row, a_step, b: &b, rows, depth };
                        let target = DisjointMut::new(&mut out);
                        // SAFETY: nothing else uses the buffer.
                        unsafe { product.run(isa, &target, Rows { start, stride }, add) };
                        for (at, (&got, &before)) in out.iter().zip(&before).enumerate() {
                            let (row, column) = (at.wrapping_sub(start) / stride, at.wrapping_sub(start) % stride);
                            let outside = at < start || row >= rows || column >= PANEL;
                            let sum = |step: usize| {
                                a[row * a_row + step * a_step].to_f64() * b[step * PANEL + column].to_f64()
                            };
                            let kept = if add || outside { before.to_f64() } else { 0. };
                            let expected = kept + if outside { 0. } else { (0..depth).map(sum).sum::<f64>() };
                            assert!(
                                (got.to_f64() - expected).abs() <= tolerance,
                                "{isa:?} {rows} {depth} {at}: {got} {expected}"
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn each_kernel_gives_the_product_and_touches_nothing_else() {
        // Sums of at most 34 terms of size at most 1.
        check::<f32>(34. * 34. * f64::from(f32::EPSILON));
        check::<f64>(34. * 34. * f64::EPSILON);
    }
}
