//! The weights of a coarse head: what it makes of each fine label, and where that is not what the taxonomy says.

use serde::{Deserialize, Serialize};

use crate::{
    domain::{Taxonomy, decision::arg_max},
    exchange::FineScores,
};

/// How many labels are named in favour of a category, and against it.
const NAMED: usize = 5;

/// W and b of a coarse head, label by label and category by category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct HeadWeights {
    /// The categories, in the order of each label's weights.
    pub categories: Vec<String>,
    /// The labels, grouped by category, public ones last.
    pub labels: Vec<LabelWeights>,
    /// What each category rests on.
    pub by_category: Vec<CategoryWeights>,
    /// How many labels belong to a category.
    pub with_category: usize,
    /// Of those, how many have their largest weight there.
    pub own_largest: usize,
}

/// What the head makes of one label.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelWeights {
    /// Its name.
    pub name: String,
    /// The category it belongs to; `None` for a public label.
    pub category: Option<String>,
    /// The category it speaks for most; ties: the first.
    pub largest: String,
    /// Its weight for each category.
    pub weights: Vec<f32>,
}

/// What speaks for a category and against it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct CategoryWeights {
    /// The category.
    pub name: String,
    /// Its bias.
    pub bias: f32,
    /// How many labels it has.
    pub own_labels: usize,
    /// Its largest positive weights, at most five, the largest first.
    pub in_favour: Vec<LabelWeight>,
    /// Its largest negative weights, at most five, the largest first.
    pub against: Vec<LabelWeight>,
    /// How many labels of other categories have a larger weight for it than at least one of its own.
    pub intruders: usize,
    /// The largest of those weights, at most five, the largest first.
    pub largest_intruders: Vec<LabelWeight>,
}

/// One label's weight for a category.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LabelWeight {
    /// The label.
    pub label: String,
    /// The category the label belongs to; `None` for a public label.
    pub category: Option<String>,
    /// Its weight.
    pub weight: f32,
    /// How many of the category's own labels have a smaller weight.
    pub own_below: usize,
}

impl LabelWeights {
    /// Whether a label that belongs to a category speaks for another one most.
    pub fn astray(&self) -> bool {
        self.category.as_ref().is_some_and(|category| *category != self.largest)
    }
}

impl HeadWeights {
    pub(super) fn of(fine: &FineScores, taxonomy: &Taxonomy) -> Self {
        let category =
            |label: usize| taxonomy.fine()[label].parent.map(|category| taxonomy.coarse_name(category).to_owned());
        let mut order: Vec<usize> = (0..taxonomy.fine().len()).collect();
        // Stable: within a category in the taxonomy's order. `None` is made the last.
        order.sort_by_key(|label| taxonomy.fine()[*label].parent.map_or(usize::MAX, |parent| parent.index()));
        let rows: Vec<&[f32]> = fine.weight.chunks_exact(fine.fine_count).collect();
        let one = |&label: &usize| {
            let weights: Vec<f32> = rows.iter().map(|row| row[label]).collect();
            LabelWeights {
                name: taxonomy.fine()[label].name.clone(),
                category: category(label),
                largest: taxonomy.coarse()[arg_max(&weights)].clone(),
                weights,
            }
        };
        let labels: Vec<LabelWeights> = order.iter().map(one).collect();
        let with_category = labels.iter().filter(|label| label.category.is_some()).count();
        let astray = labels.iter().filter(|label| label.astray()).count();
        let by_category = taxonomy.coarse().iter().zip(&fine.bias).enumerate();
        Self {
            by_category: by_category
                .map(|(index, (name, bias))| CategoryWeights::of(name, *bias, index, &labels))
                .collect(),
            categories: taxonomy.coarse().to_vec(),
            with_category,
            own_largest: with_category - astray,
            labels,
        }
    }
}

impl CategoryWeights {
    /// `index`: of the category among the weights of each of `labels`.
    fn of(name: &str, bias: f32, index: usize, labels: &[LabelWeights]) -> Self {
        let is_own = |label: &LabelWeights| label.category.as_deref() == Some(name);
        let mut own: Vec<f32> = labels.iter().filter(|label| is_own(label)).map(|label| label.weights[index]).collect();
        own.sort_unstable_by(f32::total_cmp);
        let mut all: Vec<&LabelWeights> = labels.iter().collect();
        all.sort_by(|a, b| b.weights[index].total_cmp(&a.weights[index]));
        let named = |label: &&LabelWeights| LabelWeight {
            label: label.name.clone(),
            category: label.category.clone(),
            weight: label.weights[index],
            own_below: own.partition_point(|weight| *weight < label.weights[index]),
        };
        let in_favour = all.iter().filter(|label| label.weights[index] > 0.0);
        let against = all.iter().rev().filter(|label| label.weights[index] < 0.0);
        let foreign = || all.iter().filter(|label| label.category.is_some() && !is_own(label));
        let intruders = || foreign().filter(|label| own.first().is_some_and(|least| label.weights[index] > *least));
        Self {
            name: name.to_owned(),
            bias,
            own_labels: own.len(),
            in_favour: in_favour.take(NAMED).map(named).collect(),
            against: against.take(NAMED).map(named).collect(),
            intruders: intruders().count(),
            largest_intruders: intruders().take(NAMED).map(named).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::spec::CoarseInput, exchange::ScoreActivation};

    #[test]
    fn labels_stand_by_category_and_those_astray_are_found() {
        let text = r#"{"name": "t", "coarse": ["a", "b"], "fine": [{"name": "z", "public": true}, {"name": "y", "parent": "b"},
            {"name": "x", "parent": "a"}, {"name": "v", "parent": "b"}, {"name": "w", "parent": "a"}]}"#;
        let fine = FineScores {
            fine_count: 5,
            logits: vec![],
            activation: ScoreActivation::Sigmoid,
            coarse_input: CoarseInput::Probabilities,
            //           z    y     x    v    w
            weight: vec![0.5, -2.0, 3.0, 1.5, 1.0, /* */ -0.5, 2.0, -3.0, 1.0, -1.0],
            bias: vec![0.25, -0.25],
            p05: vec![0.0; 5],
            p95: vec![0.0; 5],
        };
        let weights = HeadWeights::of(&fine, &Taxonomy::from_json(text).unwrap());
        let names: Vec<_> =
            weights.labels.iter().map(|label| (&*label.name, &*label.largest, label.astray())).collect();
        let expected = [("x", "a", false), ("w", "a", false), ("y", "b", false), ("v", "a", true), ("z", "a", false)];
        assert_eq!(names, expected);
        assert_eq!((weights.with_category, weights.own_largest), (4, 3));
        let named = |weights: &[LabelWeight]| -> Vec<(String, f32, usize)> {
            weights.iter().map(|one| (one.label.clone(), one.weight, one.own_below)).collect()
        };
        let [a, b] = &weights.by_category[..] else { panic!("two categories") };
        let label = |name: &str, weight, below| (name.to_owned(), weight, below);
        assert_eq!(
            named(&a.in_favour),
            [label("x", 3.0, 1), label("v", 1.5, 1), label("w", 1.0, 0), label("z", 0.5, 0)]
        );
        assert_eq!(named(&a.against), [label("y", -2.0, 0)]);
        // v of b speaks for a more than w does, which is a's own.
        assert_eq!((a.own_labels, a.intruders, named(&a.largest_intruders)), (2, 1, vec![label("v", 1.5, 1)]));
        assert_eq!((b.intruders, b.bias), (0, -0.25));
        assert_eq!(named(&b.against), [label("x", -3.0, 0), label("w", -1.0, 0), label("z", -0.5, 0)]);
    }
}
