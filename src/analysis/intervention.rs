//! Interventions: what the coarse head decides when fine labels are put right, one group after the other.
//!
//! The head is linear, so a corrected label changes a category's logit by its weight times the change of what the head reads of
//! it: nothing is approximated, and no model is run. The term is from the literature on concept bottleneck models (Koh et al.
//! 2020).

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use super::{Agreement, Estimate, Interval, Truth};
use crate::{
    domain::{Taxonomy, decision::arg_max, ratio, spec::CoarseInput},
    exchange::{FineScores, ScoreActivation, Scores},
};

/// How many random orders each image's groups are corrected in.
pub const RANDOM_ORDERS: usize = 20;

/// 0.975 quantile of Student's t with [`RANDOM_ORDERS`] − 1 = 19 degrees of freedom: `scipy.stats.t.ppf(0.975, 19)`.
const T: f64 = 2.093024054408263;

/// Right categories by how many groups of fine labels were corrected: a group for each category, and one of the public labels
/// where there are any. Lists have one entry for each number of groups, from none to all.
#[derive(Clone, Debug, PartialEq)]
pub struct Interventions {
    /// Share of right categories in random orders, of each image's own: mean over [`RANDOM_ORDERS`] and t-interval, which says
    /// how much the order matters and nothing of the choice of images.
    pub random: Vec<Estimate>,
    /// Images with the right category, the group first that has the largest error Σ|x − target|, where x is what the head reads.
    pub largest_error: Vec<u64>,
    /// Images with the right category, the group first that has the label closest to p = ½; `None` in softmax mode.
    pub most_uncertain: Option<Vec<u64>>,
    /// Images with the right category before (A) and after (B) all groups are corrected.
    pub all: Agreement,
    /// The largest difference between a stored coarse logit and the sum of bias and contributions, relative to the sum of their
    /// absolute values.
    pub deviation: f64,
}

/// Corrects the labels of every image. `truths`: one per row of `scores`, which are of `taxonomy`. `None` for a coarse-only
/// model.
pub fn intervene(scores: &Scores, truths: &[Truth], taxonomy: &Taxonomy, seed: u64) -> Option<Interventions> {
    let head = Head::of(scores, taxonomy)?;
    let count = |(mut sums, mut image): (Sums, Image), (row, truth): (usize, &Truth)| {
        image.prepare(&head, row, truth);
        image.count(&head, row, truth.coarse.index(), seed, &mut sums);
        (sums, image)
    };
    let sums = truths
        .par_iter()
        .enumerate()
        .fold(|| (Sums::of(&head), Image::default()), count)
        .map(|(sums, _)| sums)
        .reduce(|| Sums::of(&head), Sums::and);
    let mut orders: Vec<Vec<u64>> = sums.right.chunks_exact(head.groups + 1).map(<[u64]>::to_vec).collect();
    let most_uncertain = (head.fine.activation == ScoreActivation::Sigmoid).then(|| orders.pop()).flatten();
    let largest_error = orders.pop()?;
    let images = truths.len() as u64;
    let random = |groups: usize| mean_of_orders(orders.iter().map(|right| ratio(right[groups], images)).collect());
    Some(Interventions {
        random: (0..=head.groups).map(random).collect(),
        largest_error,
        most_uncertain,
        all: sums.agreement(),
        deviation: sums.deviation,
    })
}

/// Mean and t-interval; `None` without images.
fn mean_of_orders(shares: Option<Vec<f64>>) -> Estimate {
    let Some(shares) = shares.filter(|shares| !shares.is_empty()) else { return Estimate::default() };
    let n = shares.len() as f64;
    let mean = shares.iter().sum::<f64>() / n;
    let spread = (shares.iter().map(|share| (share - mean).powi(2)).sum::<f64>() / (n - 1.0)).sqrt();
    // Equal shares have a mean that rounding could set apart from them.
    let degenerate = shares.iter().all(|share| *share == shares[0]);
    let (mean, half) = if degenerate { (shares[0], 0.0) } else { (mean, T * spread / n.sqrt()) };
    let interval = Interval { low: mean - half, high: mean + half, degenerate, dropped: 0 };
    Estimate { value: Some(mean), interval: Some(interval) }
}

/// The coarse layer, and which labels are corrected together.
struct Head<'a> {
    scores: &'a Scores,
    fine: &'a FineScores,
    /// W, label by label: `[fine, coarse]`.
    weight: Vec<f64>,
    /// The group of each label.
    group: Vec<usize>,
    groups: usize,
    categories: usize,
}

impl<'a> Head<'a> {
    fn of(scores: &'a Scores, taxonomy: &Taxonomy) -> Option<Self> {
        let (fine, categories) = (scores.fine.as_ref()?, scores.coarse_count);
        let entry = |label: usize, category: usize| f64::from(fine.weight[category * fine.fine_count + label]);
        let row = |label: usize| (0..categories).map(move |category| entry(label, category));
        let group: Vec<usize> =
            taxonomy.fine().iter().map(|label| label.parent.map_or(categories, |parent| parent.index())).collect();
        let groups = group.iter().max()? + 1;
        Some(Self { scores, fine, weight: (0..fine.fine_count).flat_map(row).collect(), group, groups, categories })
    }

    /// What the head reads of a label that is corrected.
    fn target(&self, label: usize, truth: &Truth, is_true: bool) -> f64 {
        match (self.fine.coarse_input, self.fine.activation, is_true) {
            (CoarseInput::Logits, _, true) => f64::from(self.fine.p95[label]),
            (CoarseInput::Logits, _, false) => f64::from(self.fine.p05[label]),
            (CoarseInput::Probabilities, _, false) => 0.0,
            (CoarseInput::Probabilities, ScoreActivation::Sigmoid, true) => 1.0,
            (CoarseInput::Probabilities, ScoreActivation::Softmax, true) => 1.0 / truth.fine.len() as f64,
        }
    }

    fn orders(&self) -> usize {
        match self.fine.activation {
            ScoreActivation::Softmax => RANDOM_ORDERS + 1,
            ScoreActivation::Sigmoid => RANDOM_ORDERS + 2,
        }
    }
}

/// What is counted over images.
struct Sums {
    /// Right categories: `[orders, groups + 1]`; the random orders, largest error, most uncertain.
    right: Vec<u64>,
    /// Images by whether the category is right before (0 or 1), and after all groups are corrected.
    ends: [[u64; 2]; 2],
    deviation: f64,
}

impl Sums {
    fn of(head: &Head) -> Self {
        Self { right: vec![0; head.orders() * (head.groups + 1)], ends: [[0; 2]; 2], deviation: 0.0 }
    }

    fn and(mut self, other: Self) -> Self {
        let add = |(sum, count): (&mut u64, u64)| *sum += count;
        self.right.iter_mut().zip(other.right).for_each(add);
        self.ends.as_flattened_mut().iter_mut().zip(other.ends.into_iter().flatten()).for_each(add);
        self.deviation = self.deviation.max(other.deviation);
        self
    }

    fn agreement(&self) -> Agreement {
        let [[neither, only_b], [only_a, both]] = self.ends;
        Agreement { both, only_a, only_b, neither }
    }
}

/// The work on one image, whose memory serves the next one.
#[derive(Default)]
struct Image {
    /// What the head reads of each label.
    inputs: Vec<f64>,
    /// What correcting a group adds to each logit: `[groups, coarse]`.
    change: Vec<f64>,
    /// Σ|x − target| of each group.
    error: Vec<f64>,
    /// The least |z| of each group, which is in the order of |p − ½| without rounding to it.
    doubt: Vec<f64>,
    /// Bias and contributions as they are, the sum of their absolute values, and their sum with all labels corrected: `[coarse]`.
    sum: Vec<f64>,
    scale: Vec<f64>,
    corrected: Vec<f64>,
    /// The logits along an order.
    logits: Vec<f64>,
    order: Vec<usize>,
}

impl Image {
    fn prepare(&mut self, head: &Head, row: usize, truth: &Truth) {
        let (fine, categories) = (head.fine, head.categories);
        let logits = &fine.logits[row * fine.fine_count..][..fine.fine_count];
        fine.activation.coarse_inputs(fine.coarse_input, logits, &mut self.inputs);
        fill(&mut self.change, head.groups * categories, 0.0);
        fill(&mut self.error, head.groups, 0.0);
        fill(&mut self.doubt, head.groups, f64::INFINITY);
        self.sum.clear();
        self.sum.extend(fine.bias.iter().map(|&bias| f64::from(bias)));
        self.corrected.clone_from(&self.sum);
        self.scale.clear();
        self.scale.extend(self.sum.iter().map(|bias| bias.abs()));
        let mut true_labels = truth.fine.iter().peekable();
        for (label, (&input, weights)) in self.inputs.iter().zip(head.weight.chunks_exact(categories)).enumerate() {
            let is_true = true_labels.next_if(|next| next.index() == label).is_some();
            let target = head.target(label, truth, is_true);
            let (group, change) = (head.group[label], target - input);
            self.error[group] += change.abs();
            self.doubt[group] = self.doubt[group].min(f64::from(logits[label]).abs());
            let changes = &mut self.change[group * categories..][..categories];
            let sums = self.corrected.iter_mut().zip(&mut self.sum).zip(&mut self.scale);
            for ((weight, added), ((corrected, sum), scale)) in weights.iter().zip(changes).zip(sums) {
                *added += weight * change;
                *corrected += weight * target;
                *sum += weight * input;
                *scale += (weight * input).abs();
            }
        }
    }

    fn count(&mut self, head: &Head, row: usize, truth: usize, seed: u64, sums: &mut Sums) {
        let stored = head.scores.coarse_row(row);
        for ((sum, scale), logit) in self.sum.iter().zip(&self.scale).zip(stored) {
            let difference = (sum - f64::from(*logit)).abs();
            sums.deviation = sums.deviation.max(if difference > 0.0 { difference / scale } else { 0.0 });
        }
        // The ends are the same in every order, to the last bit.
        let ends = [arg_max(stored) == truth, arg_max(&self.corrected) == truth];
        sums.ends[usize::from(ends[0])][usize::from(ends[1])] += 1;
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(row as u64);
        self.order.clear();
        self.order.extend(0..head.groups);
        for (order, right) in sums.right.chunks_exact_mut(head.groups + 1).enumerate() {
            let (error, doubt) = (&self.error, &self.doubt);
            match order {
                0..RANDOM_ORDERS => self.order.shuffle(&mut rng),
                RANDOM_ORDERS => self.order.sort_unstable_by(|&a, &b| error[b].total_cmp(&error[a]).then(a.cmp(&b))),
                _ => self.order.sort_unstable_by(|&a, &b| doubt[a].total_cmp(&doubt[b]).then(a.cmp(&b))),
            }
            right[0] += u64::from(ends[0]);
            right[head.groups] += u64::from(ends[1]);
            self.logits.clear();
            self.logits.extend(stored.iter().map(|&logit| f64::from(logit)));
            for (group, right) in self.order.iter().zip(&mut right[1..head.groups]) {
                let changes = &self.change[group * head.categories..][..head.categories];
                self.logits.iter_mut().zip(changes).for_each(|(logit, change)| *logit += change);
                *right += u64::from(arg_max(&self.logits) == truth);
            }
        }
    }
}

fn fill(values: &mut Vec<f64>, len: usize, value: f64) {
    values.clear();
    values.resize(len, value);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{CoarseId, FineId, LabelSet, Split};

    fn taxonomy() -> Taxonomy {
        let text = r#"{"name": "t", "coarse": ["a", "b"], "fine": [
            {"name": "x", "parent": "a"}, {"name": "y", "parent": "b"}, {"name": "z", "public": true}]}"#;
        Taxonomy::from_json(text).unwrap()
    }

    /// One image as often as asked for: p = ½, ⅘, ⅘ under a sigmoid, and logits ½·2 = 1 and ⅘·1 + ⅘·3 = 3.2.
    fn scores(images: usize, activation: ScoreActivation, coarse_input: CoarseInput) -> Scores {
        Scores {
            split: Split::Test,
            image_ids: (0..images as i64).collect(),
            coarse_count: 2,
            coarse_logits: [1.0, 3.2].repeat(images),
            fine: Some(FineScores {
                fine_count: 3,
                logits: [0.0, 4f32.ln(), 4f32.ln()].repeat(images),
                activation,
                coarse_input,
                weight: vec![2.0, 0.0, 0.0, /* */ 0.0, 1.0, 3.0],
                bias: vec![0.0, 0.0],
                p05: vec![-1.0, -2.0, -3.0],
                p95: vec![4.0, 5.0, 6.0],
            }),
        }
    }

    fn intervened(scores: &Scores, labels: &[u16]) -> Interventions {
        let labels: LabelSet = labels.iter().copied().map(FineId).collect();
        let truths = vec![Truth { fine: &labels, coarse: CoarseId(0) }; scores.len()];
        intervene(scores, &truths, &taxonomy(), 3).unwrap()
    }

    #[test]
    fn a_hand_worked_image() {
        let images = 300;
        let found = intervened(&scores(images, ScoreActivation::Sigmoid, CoarseInput::Probabilities), &[0]);
        // Truly x alone. Errors ½, ⅘, ⅘: y first (tie: lower index), then z, then x.
        // Logits: 1, 3.2; without y 1, 2.4; without z too 1, 0; x put right 2, 0.
        assert_eq!(found.largest_error, [0, 0, 300, 300]);
        // x is the most uncertain, then y and z. Logits: 2, 3.2; 2, 2.4; 2, 0.
        assert_eq!(found.most_uncertain, Some(vec![0, 0, 0, 300]));
        // One group right is enough if it is z (1, 0.8), two if z is among them.
        for (share, expected) in found.random.iter().zip([0.0, 1.0 / 3.0, 2.0 / 3.0, 1.0]) {
            let (value, interval) = (share.value.unwrap(), share.interval.unwrap());
            assert!((value - expected).abs() < 0.03, "{value} and {expected}");
            assert!(interval.low <= value && value <= interval.high);
            assert_eq!(interval.degenerate, expected == 0.0 || expected == 1.0, "at the ends all orders agree");
        }
        assert_eq!(found.all, Agreement { both: 0, only_a: 0, only_b: 300, neither: 0 });
        assert!(found.deviation < 1e-7, "{}", found.deviation);
    }

    #[test]
    fn a_true_label_becomes_1_of_k_under_a_softmax_and_the_95th_percentile_of_logits() {
        // Corrected, x and z weigh ½ each: logits 1 and 1.5.
        let softmax = scores(1, ScoreActivation::Softmax, CoarseInput::Probabilities);
        let found = intervened(&softmax, &[0, 2]);
        assert_eq!((found.largest_error[3], found.most_uncertain), (0, None));
        // x at its 95th, y and z at their 5th percentile: 8 and −2 − 9. y has the largest error, ln 4 + 2 < ln 4 + 3 < 4.
        let logits = intervened(&scores(1, ScoreActivation::Sigmoid, CoarseInput::Logits), &[0]);
        assert_eq!((logits.largest_error[3], logits.all.only_b), (1, 1));
    }

    #[test]
    fn threads_do_not_change_what_is_found() {
        let scores = scores(50, ScoreActivation::Sigmoid, CoarseInput::Probabilities);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| intervened(&scores, &[0]))
        };
        assert_eq!(with(1), with(3));
    }

    #[test]
    fn the_t_interval_is_scipys() {
        // x = numpy.arange(20) / 40; scipy.stats.t.interval(0.95, 19, x.mean(), scipy.stats.sem(x))
        let found = mean_of_orders((0..20).map(|n| Some(f64::from(n) / 40.0)).collect());
        let interval = found.interval.unwrap();
        assert!((found.value.unwrap() - 0.2375).abs() < 1e-12);
        assert!(
            (interval.low - 0.16827973579949362).abs() < 1e-12 && (interval.high - 0.3067202642005063).abs() < 1e-12,
            "{interval:?}"
        );
        assert_eq!(mean_of_orders(None), Estimate::default());
    }
}
