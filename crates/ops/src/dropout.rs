//! Dropout whose mask is a function of a seed and the element's index.

use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor, bail};
use rayon::prelude::*;

use crate::{
    float::{Float, elements, ensure_alike, storage, with_float},
    tape::{Tape, record},
};

/// Inverted dropout: each element is 0 with probability `p`, else scaled by `1 / (1 - p)`.
///
/// Which elements are dropped depends on `rng_seed` and their row-major index alone: the same for each thread count, and
/// backward without a stored mask. Pass another seed for each layer and step.
/// Source: Srivastava et al. 2014; the generator is SplitMix64 (Steele et al. 2014) read at the index.
///
/// # Errors
/// If `p` is not in `[0, 1)`, or `x` is neither `f32` nor `f64`, or not on the CPU.
pub fn dropout(tape: Option<&Tape>, x: &Tensor, p: f64, rng_seed: u64) -> Result<Tensor> {
    ensure_alike("dropout", &[x])?;
    if !(0. ..1.).contains(&p) {
        bail!("dropout: the probability must be in [0, 1), got {p}")
    }
    apply(tape, x, Dropout { p, seed: rng_seed, unit: 1 })
}

/// [`dropout`] of whole images: those of a batch `[n, ...]` are 0 with probability `p`, else scaled by `1 / (1 - p)`. Beside a
/// shortcut this leaves out a block now and then.
/// Source: Huang et al. 2016, “stochastic depth”, per image as in torchvision's `stochastic_depth(mode="row")`.
///
/// # Errors
/// As [`dropout`], or if `x` has no dimension or an empty one.
pub fn stochastic_depth(tape: Option<&Tape>, x: &Tensor, p: f64, rng_seed: u64) -> Result<Tensor> {
    ensure_alike("stochastic_depth", &[x])?;
    if !(0. ..1.).contains(&p) {
        bail!("stochastic_depth: the probability must be in [0, 1), got {p}")
    }
    if x.rank() == 0 || x.elem_count() == 0 {
        bail!("stochastic_depth: expected a non-empty tensor [n, ...], got {:?}", x.shape())
    }
    apply(tape, x, Dropout { p, seed: rng_seed, unit: x.elem_count() / x.dim(0)? })
}

fn apply(tape: Option<&Tape>, x: &Tensor, op: Dropout) -> Result<Tensor> {
    if op.p == 0. {
        return Ok(x.clone());
    }
    let y = x.contiguous()?.apply_op1_no_bwd(&op)?;
    // Dropout is linear with a fixed mask: its gradient is the same operation.
    record(tape, [Some(x)], &y, move |dy, [to_x], gradients| gradients.add(to_x, || dy.apply_op1_no_bwd(&op)))?;
    Ok(y)
}

struct Dropout {
    p: f64,
    seed: u64,
    /// Neighbouring elements with a fate in common.
    unit: usize,
}

const CHUNK: usize = 1 << 14;

impl Dropout {
    fn apply<T: Float>(&self, x: &[T]) -> Vec<T> {
        /// Random bits that are compared: as many as an `f64` holds exactly.
        const BITS: u32 = 53;
        let threshold = (self.p * (1u64 << BITS) as f64) as u64;
        let scale = T::from_f64(1. / (1. - self.p));
        let kept = |index: usize| splitmix(self.seed, index as u64) >> (u64::BITS - BITS) >= threshold;
        let chunk = if self.unit > 1 { self.unit } else { CHUNK };
        let mut y = vec![T::ZERO; x.len()];
        y.par_chunks_mut(chunk).zip(x.par_chunks(chunk)).enumerate().for_each(|(number, (y, x))| {
            let whole = (self.unit > 1).then(|| kept(number));
            for (index, (y, &x)) in (number * chunk..).zip(y.iter_mut().zip(x)) {
                if whole.unwrap_or_else(|| kept(index)) {
                    *y = x * scale;
                }
            }
        });
        y
    }
}

/// The `index`th output of SplitMix64 that starts at the mixed `seed`: unmixed, neighbouring seeds would give shifted copies
/// of one stream.
fn splitmix(seed: u64, index: u64) -> u64 {
    fn mix(mut z: u64) -> u64 {
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
    mix(mix(seed.wrapping_add(GOLDEN)).wrapping_add(index.wrapping_add(1).wrapping_mul(GOLDEN)))
}

impl CustomOp1 for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    fn cpu_fwd(&self, x: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let y = with_float!(x, self.name(), T => {
            storage(self.apply::<T>(elements(self.name(), x, layout)?))
        });
        Ok((y, layout.shape().clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::splitmix;

    #[test]
    fn neighbouring_seeds_share_no_stream() {
        let stream = |seed| (0..64).map(|index| splitmix(seed, index)).collect::<Vec<_>>();
        assert!(stream(1).iter().all(|value| !stream(2).contains(value)));
    }
}
