//! A set of fine labels.

use serde::{Deserialize, Serialize};

use super::FineId;

/// Fine labels in ascending order, each at most once. Two sets are equal iff they hold the same labels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(from = "Vec<FineId>")]
pub struct LabelSet(Vec<FineId>);

impl LabelSet {
    /// The labels, ascending.
    pub fn as_slice(&self) -> &[FineId] {
        &self.0
    }

    /// The labels, ascending.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = FineId> + '_ {
        self.0.iter().copied()
    }

    /// How many labels.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `label` is one of them.
    pub fn contains(&self, label: FineId) -> bool {
        self.0.binary_search(&label).is_ok()
    }
}

impl From<Vec<FineId>> for LabelSet {
    fn from(mut labels: Vec<FineId>) -> Self {
        labels.sort_unstable();
        labels.dedup();
        Self(labels)
    }
}

impl FromIterator<FineId> for LabelSet {
    fn from_iter<I: IntoIterator<Item = FineId>>(labels: I) -> Self {
        Vec::from_iter(labels).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn order_and_repetition_do_not_matter() {
        let a: LabelSet = [FineId(3), FineId(1), FineId(3)].into_iter().collect();
        let b: LabelSet = [FineId(1), FineId(3)].into_iter().collect();
        assert_eq!(a, b);
        assert!(a.contains(FineId(3)) && !a.contains(FineId(2)));
    }
}
