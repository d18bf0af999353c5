//! Times the sweep of 101 thresholds over stored scores: `cargo bench --bench sweep`. `benches/sweep_numpy.py` is its peer.
//!
//! 100,000 images × 80 labels, 1 to 5 of them true, whose logits are 4.5 higher. On as many threads as there are cores, or as
//! `RAYON_NUM_THREADS` says. Medians of 31 rounds.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use twograin::{
    analysis::{Separations, Truth},
    domain::{CoarseId, FineId, LabelSet, Split, Threshold, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation, Scores},
};

const IMAGES: usize = 100_000;
const FINE: usize = 80;
const COARSE: usize = 11;
const STEPS: u16 = 101;
const ROUNDS: usize = 31;

fn main() {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let labels: Vec<LabelSet> = (0..IMAGES)
        .map(|_| (0..rng.random_range(1..6)).map(|_| FineId(rng.random_range(0..FINE as u16))).collect())
        .collect();
    let mut logits: Vec<f32> = (0..IMAGES * FINE).map(|_| rng.random_range(-5.0..-1.0)).collect();
    for (row, labels) in logits.chunks_exact_mut(FINE).zip(&labels) {
        labels.iter().for_each(|label| row[label.index()] += 4.5);
    }
    let scores = Scores {
        split: Split::Test,
        image_ids: (0..IMAGES as i64).collect(),
        coarse_count: COARSE,
        coarse_logits: (0..IMAGES * COARSE).map(|_| rng.random()).collect(),
        fine: Some(FineScores {
            fine_count: FINE,
            logits,
            activation: ScoreActivation::Sigmoid,
            coarse_input: CoarseInput::Probabilities,
            weight: vec![0.0; COARSE * FINE],
            bias: vec![0.0; COARSE],
            p05: vec![0.0; FINE],
            p95: vec![0.0; FINE],
        }),
    };
    let categories = (0..COARSE as u16).map(CoarseId).cycle();
    let truths: Vec<Truth> = labels.iter().zip(categories).map(|(fine, coarse)| Truth { fine, coarse }).collect();
    let thresholds: Vec<Threshold> =
        (0..STEPS).filter_map(|step| Threshold::new(f64::from(step) / f64::from(STEPS - 1))).collect();

    let Some(separations) = Separations::of(&scores, &truths) else { return };
    let pass = median(|| drop(black_box(Separations::of(&scores, &truths))));
    let steps = median(|| drop(black_box(separations.at_thresholds(&thresholds))));
    println!("{IMAGES} images x {FINE} labels: one pass {pass:?}, {STEPS} thresholds from it {steps:?}");
}

fn median(work: impl Fn()) -> Duration {
    let time = |_| {
        let start = Instant::now();
        work();
        start.elapsed()
    };
    let mut times: Vec<Duration> = (0..ROUNDS).map(time).collect();
    times.sort_unstable();
    times[ROUNDS / 2]
}
