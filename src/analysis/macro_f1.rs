//! Macro F1 of two ways to decide fine labels on the same images, and its difference.

use super::{
    Decision, Estimate, Truth,
    resample::{LANES, once, resample},
};

/// The mean over the labels that have images of each label's F1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct MacroF1 {
    /// Under the first decisions.
    pub before: Estimate,
    /// Under the second.
    pub after: Estimate,
    /// The second minus the first.
    pub difference: Estimate,
}

/// An image that has a label or is said to have it.
struct Entry {
    image: usize,
    truly: bool,
    before: bool,
    after: bool,
}

impl MacroF1 {
    /// Of `labels` fine labels, with paired percentile bootstrap intervals: at least `resamples` times images are drawn, each
    /// with what is true of it and what both decided, and the mean is over the labels that those have. `truths`: one for each
    /// decision.
    pub fn of<'a>(
        before: &[Decision],
        after: &[Decision],
        truths: impl IntoIterator<Item = Truth<'a>>,
        labels: usize,
        resamples: usize,
        seed: u64,
    ) -> Self {
        let entries = entries(before, after, truths, labels);
        let figures = |weights: &[[u32; LANES]]| figures(&entries, weights);
        let blocks = resample(before.len(), resamples, seed, figures);
        let observed = figures(&once(before.len()));
        let estimate = |figure: usize| {
            let drawn = blocks.iter().flat_map(|block| block[figure]).flatten().collect();
            Estimate::of(observed[figure][0], drawn, blocks.len() * LANES)
        };
        Self { before: estimate(0), after: estimate(1), difference: estimate(2) }
    }
}

/// Of each label, the images that count for it.
fn entries<'a>(
    before: &[Decision],
    after: &[Decision],
    truths: impl IntoIterator<Item = Truth<'a>>,
    labels: usize,
) -> Vec<Vec<Entry>> {
    let mut entries: Vec<Vec<Entry>> = (0..labels).map(|_| Vec::new()).collect();
    for (image, ((before, after), truth)) in before.iter().zip(after).zip(truths).enumerate() {
        let sets = [Some(truth.fine), before.fine.as_ref(), after.fine.as_ref()];
        for (at, set) in sets.iter().enumerate() {
            for label in set.iter().flat_map(|set| set.iter()) {
                let [truly, before, after] = sets.map(|set| set.is_some_and(|set| set.contains(label)));
                // Once, by the first set that has it.
                if [truly, before, after].iter().position(|has| *has) == Some(at) {
                    entries[label.index()].push(Entry { image, truly, before, after });
                }
            }
        }
    }
    entries
}

/// Before, after and their difference in each lane.
fn figures(labels: &[Vec<Entry>], weights: &[[u32; LANES]]) -> [[Option<f64>; LANES]; 3] {
    let (mut sums, mut supported) = ([[0.0; LANES]; 2], [0u32; LANES]);
    for entries in labels {
        let mut support = [0; LANES];
        let (mut predicted, mut correct) = ([[0; LANES]; 2], [[0; LANES]; 2]);
        for entry in entries {
            let weight = &weights[entry.image];
            add(&mut support, weight, entry.truly);
            for (rule, said) in [entry.before, entry.after].into_iter().enumerate() {
                add(&mut predicted[rule], weight, said);
                add(&mut correct[rule], weight, entry.truly && said);
            }
        }
        for lane in (0..LANES).filter(|lane| support[*lane] > 0) {
            supported[lane] += 1;
            for rule in 0..2 {
                let all = f64::from(predicted[rule][lane] + support[lane]);
                sums[rule][lane] += 2.0 * f64::from(correct[rule][lane]) / all;
            }
        }
    }
    let mean = |sum: f64, lane: usize| (supported[lane] > 0).then(|| sum / f64::from(supported[lane]));
    let [before, after] = sums.map(|sum| std::array::from_fn(|lane| mean(sum[lane], lane)));
    let difference = std::array::from_fn(|lane| mean(sums[1][lane] - sums[0][lane], lane));
    [before, after, difference]
}

fn add(counts: &mut [u32; LANES], weight: &[u32; LANES], counted: bool) {
    if counted {
        for (count, weight) in counts.iter_mut().zip(weight) {
            *count += weight;
        }
    }
}
