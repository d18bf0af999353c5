//! A small cache of what was used last.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The values used last, by a key whose value never changes, such as a hash of the content: an entry is never out of date.
/// Clones share it.
#[derive(Clone)]
pub struct Recent<V> {
    capacity: usize,
    weigh: fn(&V) -> usize,
    /// The latest used last.
    entries: Arc<Mutex<VecDeque<(String, V)>>>,
}

impl<V: Clone> Recent<V> {
    /// Keeps at most `capacity` values.
    pub fn new(capacity: usize) -> Self {
        Self::weighing(capacity, |_| 1)
    }

    /// Keeps values that weigh at most `capacity` together; one that weighs more by itself is kept alone.
    pub fn weighing(capacity: usize, weigh: fn(&V) -> usize) -> Self {
        Self { capacity, weigh, entries: Arc::default() }
    }

    /// The value of `key`, if it is kept.
    pub fn get(&self, key: &str) -> Option<V> {
        let mut entries = self.lock();
        let position = entries.iter().position(|(other, _)| other == key)?;
        let entry = entries.remove(position)?;
        let value = entry.1.clone();
        entries.push_back(entry);
        Some(value)
    }

    /// Keeps a value, in place of the one that was not used for longest if need be.
    pub fn put(&self, key: String, value: V) {
        let mut entries = self.lock();
        entries.retain(|(other, _)| *other != key);
        entries.push_back((key, value));
        let mut weight: usize = entries.iter().map(|(_, value)| (self.weigh)(value)).sum();
        while weight > self.capacity && entries.len() > 1 {
            weight -= entries.pop_front().map_or(0, |(_, value)| (self.weigh)(&value));
        }
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(String, V)>> {
        // Each change is whole before anything can panic.
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<V> fmt::Debug for Recent<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("capacity", &self.capacity).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let recent = Recent::new(2);
        recent.put("a".into(), 1);
        recent.put("b".into(), 2);
        assert_eq!(recent.get("a"), Some(1));
        recent.put("c".into(), 3);
        assert_eq!((recent.get("a"), recent.get("b"), recent.get("c")), (Some(1), None, Some(3)));
        recent.put("a".into(), 4);
        assert_eq!((recent.get("a"), recent.get("c")), (Some(4), Some(3)));
    }

    #[test]
    fn what_weighs_too_much_together_is_not_kept_together() {
        let recent = Recent::weighing(10, |value: &usize| *value);
        for value in [3, 4, 5] {
            recent.put(value.to_string(), value);
        }
        assert_eq!((recent.get("3"), recent.get("4"), recent.get("5")), (None, Some(4), Some(5)));
        recent.put("12".into(), 12);
        assert_eq!((recent.get("4"), recent.get("5"), recent.get("12")), (None, None, Some(12)));
    }
}
