//! Element-wise loops and sums, compiled three times: for AVX-512, for AVX2 and for any machine.
//!
//! A [`Kernel`] is plain Rust that the compiler can vectorise: sums run in [`LANES`] independent accumulators, as the compiler
//! may not reorder them itself. No version fuses multiply and add, so all give the same bits.

use std::array::from_fn;

use crate::float::Float;

/// Independent accumulators of a sum: four AVX2 registers of `f32`, to hide the latency of the addition.
pub(crate) const LANES: usize = 32;

/// A loop over slices. `run` and what it calls must be `#[inline(always)]`: only code inlined into [`Isa::run`] is compiled
/// for the instructions chosen there.
pub(crate) trait Kernel {
    type Output;
    fn run(self) -> Self::Output;
}

/// Proof of the instructions that this processor has; only [`Isa::detect`] can give more than [`Isa::PORTABLE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Isa {
    avx2: bool,
    /// With AVX2.
    fma: bool,
    avx512: bool,
}

impl Isa {
    #[cfg_attr(not(test), expect(dead_code, reason = "the tests compare the detected path with it"))]
    pub(crate) const PORTABLE: Isa = Isa { avx2: false, fma: false, avx512: false };

    pub(crate) fn detect() -> Isa {
        #[cfg(target_arch = "x86_64")]
        return Isa {
            avx2: is_x86_feature_detected!("avx2"),
            fma: is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            avx512: is_x86_feature_detected!("avx512f"),
        };
        #[cfg(not(target_arch = "x86_64"))]
        Isa { avx2: false, fma: false, avx512: false }
    }

    /// What this processor can do, from the least on.
    #[cfg(test)]
    pub(crate) fn available() -> [Isa; 3] {
        let best = Isa::detect();
        [Isa::PORTABLE, Isa { avx512: false, ..best }, best]
    }

    /// Whether the processor has AVX2 and FMA.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_fma(self) -> bool {
        self.fma
    }

    /// Whether the processor has the foundation of AVX-512.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_avx512(self) -> bool {
        self.avx512
    }

    #[inline]
    pub(crate) fn run<K: Kernel>(self, kernel: K) -> K::Output {
        #[cfg(target_arch = "x86_64")]
        if self.avx512 {
            // SAFETY: `avx512` is private to this module and only `detect` sets it, after asking the processor.
            return unsafe { run_avx512(kernel) };
        }
        #[cfg(target_arch = "x86_64")]
        if self.avx2 {
            // SAFETY: `avx2` is private to this module and only `detect` sets it, after asking the processor.
            return unsafe { run_avx2(kernel) };
        }
        kernel.run()
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn run_avx512<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn run_avx2<K: Kernel>(kernel: K) -> K::Output {
    kernel.run()
}

/// Sums of terms of slices that are equally long: in [`LANES`] accumulators each, what does not fill them in fewer.
#[inline(always)]
pub(crate) fn sum_lanes<T: Float, S: Float, const IN: usize, const OUT: usize>(
    slices: [&[T]; IN],
    term: impl Fn([T; IN]) -> [S; OUT],
) -> [S; OUT] {
    const FEW: usize = 8;
    let (sums, rest) = sum_chunks::<T, S, IN, OUT, LANES>(slices, &term);
    let (few, rest) = sum_chunks::<T, S, IN, OUT, FEW>(rest, &term);
    let (single, _) = sum_chunks::<T, S, IN, OUT, 1>(rest, &term);
    from_fn(|out| add_pairwise(sums[out]) + (add_pairwise(few[out]) + single[out][0]))
}

/// The sums of whole chunks in `N` accumulators, and what is left. Chunks are arrays, as the accumulators stay in registers
/// only where every index is known.
#[inline(always)]
fn sum_chunks<T: Float, S: Float, const IN: usize, const OUT: usize, const N: usize>(
    slices: [&[T]; IN],
    term: impl Fn([T; IN]) -> [S; OUT],
) -> ([[S; N]; OUT], [&[T]; IN]) {
    let chunks = slices.map(|slice| slice.as_chunks::<N>());
    let count = chunks.iter().map(|(chunks, _)| chunks.len()).min().unwrap_or(0);
    let chunked = chunks.map(|(chunks, _)| &chunks[..count]);
    let mut sums = [[S::ZERO; N]; OUT];
    for index in 0..count {
        let values: [&[T; N]; IN] = chunked.map(|chunks| &chunks[index]);
        for lane in 0..N {
            let terms = term(from_fn(|slice| values[slice][lane]));
            for (sum, term) in sums.iter_mut().zip(terms) {
                sum[lane] += term;
            }
        }
    }
    (sums, chunks.map(|(_, rest)| rest))
}

#[inline(always)]
fn add_pairwise<T: Float, const N: usize>(mut lanes: [T; N]) -> T {
    let mut half = N / 2;
    while half > 0 {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
        half /= 2;
    }
    lanes[0]
}
