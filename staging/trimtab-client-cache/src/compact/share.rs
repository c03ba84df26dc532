//! Shared sub-trees: what was seen in two documents is kept once.
//!
//! A sub-tree is recognised by a hash over its content, which is the same whether or not parts of it are shared already,
//! and compared before it is shared. It lives as long as a document has it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::words::Sightings;

/// A sub-tree that documents point to.
pub(crate) type Shared = Arc<Subtree>;

/// The encoding of one value.
#[derive(Debug)]
pub(crate) struct Subtree {
    pub(crate) bytes: Box<[u8]>,
    pub(crate) shared: Box<[Shared]>,
}

/// The sub-trees that can be shared with further documents.
pub(crate) struct Pool {
    subtrees: HashMap<u64, Weak<Subtree>, foldhash::fast::RandomState>,
    sightings: Sightings,
    /// Looks for sub-trees that are gone when there are so many, or after so many looks: where all is being deleted, none
    /// are added.
    sweep_at: usize,
    looks: usize,
    /// How many there were after a sweep, at most, since the sightings began.
    most: usize,
}

const FIRST_SWEEP: usize = 1024;
/// After how many looks for each sub-tree there is another sweep.
const LOOKS: usize = 8;

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            subtrees: HashMap::default(),
            sightings: Sightings::new(18),
            sweep_at: FIRST_SWEEP,
            looks: 0,
            most: 0,
        }
    }

    /// The shared copy of this sub-tree, if it has been seen before. It is made at the second sighting.
    pub(crate) fn share(&mut self, hash: u64, bytes: &[u8], parts: &[Shared]) -> Option<Shared> {
        self.looks += 1;
        if self.subtrees.len() >= self.sweep_at || self.looks >= self.sweep_at * LOOKS {
            self.sweep();
        }
        if let Some(known) = self.subtrees.get(&hash).and_then(Weak::upgrade) {
            let same = *known.bytes == *bytes
                && known.shared.len() == parts.len()
                && known.shared.iter().zip(parts).all(|(a, b)| Arc::ptr_eq(a, b));
            if same {
                return Some(known);
            }
            // The same one, in which other parts are shared by now: those to come will look like this one.
        } else if self.sightings.see(hash) < 2 {
            return None;
        }
        let subtree = Arc::new(Subtree {
            bytes: bytes.into(),
            shared: parts.into(),
        });
        self.subtrees.insert(hash, Arc::downgrade(&subtree));
        Some(subtree)
    }

    fn sweep(&mut self) {
        self.subtrees.retain(|_, subtree| subtree.strong_count() > 0);
        self.subtrees.shrink_to(self.subtrees.len() * 2);
        let left = self.subtrees.len();
        self.sweep_at = FIRST_SWEEP.max(left * 2);
        self.looks = 0;
        self.most = self.most.max(left);
        if left * 4 < self.most {
            // Most objects are gone, and what was seen of them is not worth its memory.
            self.sightings.clear();
            self.most = left;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_forgotten_though_nothing_new_comes() {
        let mut pool = Pool::new();
        let mut seen_twice = |number: u64| {
            let hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let share = |pool: &mut Pool| pool.share(hash, &number.to_le_bytes(), &[]);
            share(&mut pool).or_else(|| share(&mut pool))
        };
        let kept: Vec<_> = (0..4 * FIRST_SWEEP as u64).map(&mut seen_twice).collect();
        assert!(kept.iter().flatten().count() > 3 * FIRST_SWEEP);
        drop(kept);
        for _ in 0..=8 * FIRST_SWEEP * LOOKS {
            seen_twice(0);
        }
        assert_eq!(pool.subtrees.len(), 1);
        assert!(pool.subtrees.capacity() < FIRST_SWEEP && pool.most < FIRST_SWEEP);
    }
}
