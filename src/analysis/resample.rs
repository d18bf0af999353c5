//! Images drawn again, as many as there are, for figures that their counts alone do not give.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

/// Resamples that are computed side by side.
pub(super) const LANES: usize = 16;

/// What `figures` makes of at least `resamples` resamples, [`LANES`] at a time: it is handed how often each image is drawn in
/// each lane, `[images]`. What is drawn depends on `images` and `seed` alone.
pub(super) fn resample<T: Send>(
    images: usize,
    resamples: usize,
    seed: u64,
    figures: impl Fn(&[[u32; LANES]]) -> T + Sync,
) -> Vec<T> {
    // Each block has its own stream of random numbers, so the number of threads changes nothing.
    (0..resamples.div_ceil(LANES) as u64)
        .into_par_iter()
        .map(|block| {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            rng.set_stream(block);
            figures(&drawn(images, &mut rng))
        })
        .collect()
}

/// Each image drawn once: the figures themselves.
pub(super) fn once(images: usize) -> Vec<[u32; LANES]> {
    vec![[1; LANES]; images]
}

fn drawn(images: usize, rng: &mut ChaCha8Rng) -> Vec<[u32; LANES]> {
    let mut weights = vec![[0; LANES]; images];
    for draw in 0..images * LANES {
        weights[rng.random_range(0..images)][draw % LANES] += 1;
    }
    weights
}
