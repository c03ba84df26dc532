//! What is kept of keys, and that no more is kept when they are gone.

use std::mem::size_of;
use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use crate::entry::Entry;
use crate::limiter::Exponential;
use crate::slab::{Keyed, KeyedSlab};
use crate::{KeyedBackoff, NoBackoff};

impl Keyed for u16 {
    type Key = u16;

    fn key(&self) -> &u16 {
        self
    }
}

#[test]
fn an_entry_is_as_small_as_the_docs_say() {
    assert_eq!(size_of::<Entry<u64>>(), size_of::<u64>() + 32);
    assert_eq!(size_of::<Entry<String>>(), size_of::<String>() + 32);
    assert_eq!(KeyedSlab::<Entry<u64>>::CELL, size_of::<Entry<u64>>());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    /// Long runs of inserts and removals, so that chunks come and go.
    #[test]
    fn a_slab_finds_what_is_in_it_and_gives_back_the_rest(
        steps in prop::collection::vec((any::<bool>(), 0u16..3000, 1u16..2000), 1..12),
    ) {
        let mut slab = KeyedSlab::new();
        let mut there = std::collections::BTreeMap::new();
        for (put, first, count) in steps {
            for key in first..first + count {
                let hash = slab.hash(&key);
                prop_assert_eq!(slab.find(hash, &key), there.get(&key).copied());
                match (put, there.get(&key)) {
                    (true, None) => drop(there.insert(key, slab.insert(hash, key))),
                    (false, Some(slot)) => {
                        prop_assert_eq!(slab.remove(*slot), key);
                        there.remove(&key);
                    }
                    _ => {}
                }
            }
            prop_assert_eq!(slab.len(), there.len());
            prop_assert_eq!(slab.iter().count(), there.len());
            for (key, slot) in &there {
                prop_assert_eq!(slab.get(*slot), key);
            }
            if there.is_empty() {
                prop_assert!(slab.chunks() <= 1, "empty chunks are given back");
            }
        }
        let mut drained: Vec<u16> = slab.drain().collect();
        drained.sort_unstable();
        prop_assert_eq!(drained, there.into_keys().collect::<Vec<_>>());
    }
}

#[test]
fn a_keyed_backoff_counts_each_key_and_keeps_nothing_of_the_forgotten() {
    let ms = Duration::from_millis;
    let now = Instant::now();
    let mut backoff = KeyedBackoff::new(Exponential::default());
    for (failures, delay) in [(1, 5), (2, 10), (3, 20)] {
        assert_eq!(backoff.next(&"a", now), ms(delay));
        assert_eq!(backoff.failures(&"a"), failures);
    }
    assert_eq!(backoff.next(&"b", now), ms(5));
    assert!(backoff.forget(&"a"));
    assert!(!backoff.forget(&"a"), "it is forgotten already");
    assert_eq!((backoff.len(), backoff.failures(&"a")), (1, 0));
    assert_eq!(backoff.next(&"a", now), ms(5));

    let mut endless = KeyedBackoff::new(NoBackoff);
    for _ in 0..70_000 {
        endless.next(&"a", now);
    }
    assert_eq!(endless.failures(&"a"), 65_535);
}
