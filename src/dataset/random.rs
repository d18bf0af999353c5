//! Random numbers that depend on what they are for, never on the order in which threads ask for them.

use rand_chacha::{ChaCha8Rng, rand_core::SeedableRng};

/// What a stream of random numbers decides. Streams of different purposes never overlap.
#[derive(Clone, Copy, Debug)]
#[repr(u64)]
pub(super) enum Purpose {
    /// The validation split: one stream per coarse category.
    Validation,
    /// The order of the samples: one stream per epoch.
    Order,
    /// The augmentation: one stream per epoch and draw of a sample.
    Augmentation,
    /// The scenes of the demo: one stream per split and scene.
    Scene,
    /// What label-balanced sampling draws: one stream per epoch.
    LabelBalance,
}

/// The stream of `purpose` under `seed`; `major` and `minor` number the streams of one purpose.
pub(super) fn stream(purpose: Purpose, seed: u64, major: u64, minor: u64) -> ChaCha8Rng {
    let mut key = [0; 32];
    for (bytes, word) in key.chunks_exact_mut(8).zip([purpose as u64, seed, major, minor]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    ChaCha8Rng::from_seed(key)
}
