//! Delayed keys by the time at which they are due.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::hash::Hash;

use crate::entry::{Entry, Phase};
use crate::slab::{KeyedSlab, Slot};

/// A heap in which a place is not looked for when its key leaves: it is passed over when its time comes, and all such
/// places are swept out as soon as they are the majority.
#[derive(Debug, Default)]
pub(crate) struct Delays {
    heap: BinaryHeap<Reverse<Place>>,
    /// Keys in here.
    len: usize,
    next_number: u32,
}

/// Orders by time, then by arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    due: u64,
    /// The entry's `next` says the same number as long as this is its place.
    number: u32,
    slot: Slot,
}

impl Delays {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn push<K: Clone + Eq + Hash>(&mut self, slot: Slot, keys: &mut KeyedSlab<Entry<K>>) {
        let entry = keys.get_mut(slot);
        entry.phase = Phase::Delayed;
        entry.next = self.next_number;
        let place = Place {
            due: entry.at,
            number: self.next_number,
            slot,
        };
        self.next_number = self.next_number.wrapping_add(1);
        self.len += 1;
        self.heap.push(Reverse(place));
        if self.heap.len() > 2 * self.len + 64 {
            self.heap.retain(|place| place.0.holds(keys));
            self.heap.shrink_to(2 * self.len);
        }
    }

    /// Takes out a key that is in here, whose time has been changed already.
    pub(crate) fn remove(&mut self) {
        self.len -= 1;
    }

    /// When the first key is due.
    pub(crate) fn next_due<K: Clone + Eq + Hash>(&mut self, keys: &KeyedSlab<Entry<K>>) -> Option<u64> {
        while let Some(Reverse(first)) = self.heap.peek() {
            if first.holds(keys) {
                return Some(first.due);
            }
            self.heap.pop();
        }
        self.heap.shrink_to(64);
        None
    }

    /// Takes out the first key, if it is due. Its phase must change before the next call.
    pub(crate) fn pop_due<K: Clone + Eq + Hash>(
        &mut self,
        now: u64,
        keys: &KeyedSlab<Entry<K>>,
    ) -> Option<Slot> {
        // A place whose key has left may be first: it is due before the others, so the answer is right without it.
        if self.heap.peek()?.0.due > now || self.next_due(keys)? > now {
            return None;
        }
        self.len -= 1;
        self.heap.pop().map(|place| place.0.slot)
    }
}

impl Place {
    fn holds<K: Clone + Eq + Hash>(&self, keys: &KeyedSlab<Entry<K>>) -> bool {
        keys.try_get(self.slot).is_some_and(|entry| {
            entry.phase == Phase::Delayed && entry.at == self.due && entry.next == self.number
        })
    }
}
