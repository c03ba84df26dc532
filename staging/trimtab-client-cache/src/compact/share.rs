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
    /// Looks for sub-trees that are gone when there are so many.
    sweep_at: usize,
}

const FIRST_SWEEP: usize = 1024;

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            subtrees: HashMap::default(),
            sightings: Sightings::new(18),
            sweep_at: FIRST_SWEEP,
        }
    }

    /// The shared copy of this sub-tree, if it has been seen before. It is made at the second sighting.
    pub(crate) fn share(&mut self, hash: u64, bytes: &[u8], parts: &[Shared]) -> Option<Shared> {
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
        if self.subtrees.len() >= self.sweep_at {
            self.sweep();
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
        self.sweep_at = FIRST_SWEEP.max(self.subtrees.len() * 2);
    }
}
