//! A map of bounded size that forgets what was not used for longest.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;

/// Remembers at most so many entries.
#[derive(Debug)]
pub(super) struct Lru<K, V> {
    most: usize,
    /// Counts uses; each entry has the number of its last one, and in the order of these are their keys.
    uses: u64,
    entries: HashMap<Arc<K>, (u64, Box<V>)>,
    order: BTreeMap<u64, Arc<K>>,
}

impl<K: Clone + Eq + Hash, V> Lru<K, V> {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            uses: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
        }
    }

    /// The entry of this key, used now.
    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let (used, value) = self.entries.get_mut(key)?;
        self.uses += 1;
        let key = self.order.remove(used)?;
        *used = self.uses;
        self.order.insert(self.uses, key);
        Some(value)
    }

    /// Changes the entry of this key, made anew if there is none.
    pub(super) fn update<T>(
        &mut self,
        key: &K,
        new: impl FnOnce() -> V,
        change: impl FnOnce(&mut V) -> T,
    ) -> T {
        let mut value = self.remove(key).unwrap_or_else(new);
        let result = change(&mut value);
        self.insert(key.clone(), value);
        result
    }

    /// Puts an entry in, used now. What had to go for it, if anything.
    pub(super) fn insert(&mut self, key: K, value: V) -> Option<(K, V)> {
        self.remove(&key);
        let mut gone = None;
        if self.entries.len() >= self.most
            && let Some((_, oldest)) = self.order.pop_first()
        {
            let value = self.entries.remove(&oldest);
            gone = value.map(|(_, value)| (Arc::unwrap_or_clone(oldest), *value));
        }
        self.uses += 1;
        let key = Arc::new(key);
        self.order.insert(self.uses, key.clone());
        self.entries.insert(key, (self.uses, Box::new(value)));
        gone
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        let (used, value) = self.entries.remove(key)?;
        self.order.remove(&used);
        Some(*value)
    }

    /// Keeps the entries that are wanted.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&K, &mut V) -> bool) {
        let order = &mut self.order;
        self.entries.retain(|key, (used, value)| {
            let wanted = wanted(key, value);
            if !wanted {
                order.remove(used);
            }
            wanted
        });
    }

    /// Takes all entries out, in the order of their last use.
    pub(super) fn take(&mut self) -> impl Iterator<Item = (K, V)> {
        let mut entries = std::mem::take(&mut self.entries);
        let order = std::mem::take(&mut self.order).into_values();
        order.filter_map(move |key| {
            let (_, value) = entries.remove(&key)?;
            Some((Arc::unwrap_or_clone(key), *value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes() {
        let mut lru = Lru::new(2);
        assert_eq!(lru.insert("a", 1), None);
        assert_eq!(lru.insert("b", 2), None);
        assert_eq!(lru.get_mut(&"a"), Some(&mut 1));
        assert_eq!(lru.insert("c", 3), Some(("b", 2)));
        lru.update(&"a", || 0, |value| *value += 1);
        lru.update(&"d", || 4, |_| ());
        assert_eq!(lru.get_mut(&"c"), None);
        assert_eq!(lru.remove(&"x"), None);
        assert_eq!(lru.insert("d", 5), None, "it takes its own place");
        lru.retain(|key, _| *key == "a");
        let gone = (lru.insert("e", 6), lru.insert("f", 7));
        assert_eq!(gone, (None, Some(("a", 2))));
        assert_eq!(lru.take().collect::<Vec<_>>(), [("e", 6), ("f", 7)]);
        assert_eq!(lru.take().count(), 0);
    }
}
