//! What fine labels say for and against a category, over many images.

use crate::{domain::CoarseId, exchange::FineScores};

/// The mean of each fine label's contribution `W_mt p_t` to `category` m (`W_mt z_t` where the coarse layer reads logits)
/// over the images in `rows`: `[fine]`. With b_m they add up to the mean of the category's logits. `None` without images.
pub fn mean_contributions(
    fine: &FineScores,
    category: CoarseId,
    rows: impl IntoIterator<Item = usize>,
) -> Option<Vec<f64>> {
    let mut sums = vec![0.0; fine.fine_count];
    let mut images = 0u64;
    let mut inputs = Vec::with_capacity(fine.fine_count);
    for row in rows {
        let logits = &fine.logits[row * fine.fine_count..][..fine.fine_count];
        fine.activation.coarse_inputs(fine.coarse_input, logits, &mut inputs);
        sums.iter_mut().zip(&inputs).for_each(|(sum, input)| *sum += input);
        images += 1;
    }
    let weight = &fine.weight[category.index() * fine.fine_count..][..fine.fine_count];
    let mean = |(sum, weight): (f64, &f32)| f64::from(*weight) * sum / images as f64;
    (images > 0).then(|| sums.into_iter().zip(weight).map(mean).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::spec::CoarseInput, exchange::ScoreActivation};

    #[test]
    fn contributions_are_averaged_over_the_images_that_are_named() {
        let fine = FineScores {
            fine_count: 2,
            logits: vec![0.0, 5.0, 0.0, 0.0, 9.0, 9.0],
            activation: ScoreActivation::Softmax,
            coarse_input: CoarseInput::Logits,
            weight: vec![1.0, 2.0, -4.0, 8.0],
            bias: vec![0.0, 0.0],
            p05: vec![0.0; 2],
            p95: vec![0.0; 2],
        };
        assert_eq!(mean_contributions(&fine, CoarseId(1), [0, 1]), Some(vec![0.0, 20.0]));
        let read = |activation| FineScores { activation, coarse_input: CoarseInput::Probabilities, ..fine.clone() };
        let even = Some(vec![-2.0, 4.0]);
        assert_eq!(mean_contributions(&read(ScoreActivation::Softmax), CoarseId(1), [1, 2]), even);
        assert_eq!(mean_contributions(&read(ScoreActivation::Sigmoid), CoarseId(1), [1]), even);
        assert_eq!(mean_contributions(&fine, CoarseId(0), []), None);
    }
}
