//! Slots by hash: open addressing in one array of words.
//!
//! A word is the upper half of a hash and a slot, and its home is its hash's share of the array: so the words lie in
//! the order of their hashes, but for a few steps, and growing or shrinking is one walk along both arrays which looks at
//! no key. A find touches one cache line, mostly; a table of slots apart from its tags, as `hashbrown`'s, takes two, and
//! hashes every key anew when it grows. That is what half the time of a large queue went to.

use crate::slab::{NONE, Slot};

/// No word at all: its slot is none.
const EMPTY: u64 = u64::MAX;

/// So many words are taken out at a time.
const TOGETHER: usize = 16;

/// The array is never smaller.
const LEAST: usize = 8;

#[derive(Debug, Default)]
pub(crate) struct Index {
    words: Vec<u64>,
    len: usize,
    /// Words that are still in the array, though nobody is to find them.
    doomed: Vec<u64>,
}

impl Index {
    pub(crate) fn len(&self) -> usize {
        self.len - self.doomed.len()
    }

    /// The slot with this hash that `is_it`, which must not be true of a slot that was removed.
    pub(crate) fn find(&self, hash: u64, is_it: impl Fn(Slot) -> bool) -> Option<Slot> {
        if self.len == 0 {
            return None;
        }
        let tag = tag(hash);
        let mut at = self.home(tag);
        loop {
            let word = self.words[at];
            if word == EMPTY {
                return None;
            }
            if word >> 32 == tag && is_it(word as Slot) {
                return Some(word as Slot);
            }
            at = self.after(at);
        }
    }

    /// Puts in a slot that is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, slot: Slot) {
        debug_assert_ne!(slot, NONE);
        // Four fifths full at most: beyond that, the walks to the next empty word become long.
        if (self.len + 1) * 5 > self.words.len() * 4 {
            self.resize(self.words.len() + self.words.len() / 2);
        }
        self.put(tag(hash) << 32 | u64::from(slot));
        self.len += 1;
    }

    /// Takes out a slot that is there. In fact they are taken out a few at a time, since each is most likely a cache
    /// miss, and a processor can wait for several of these at once.
    pub(crate) fn remove(&mut self, hash: u64, slot: Slot) {
        self.doomed.push(tag(hash) << 32 | u64::from(slot));
        if self.doomed.len() < TOGETHER {
            return;
        }
        let doomed = std::mem::take(&mut self.doomed);
        let seen = doomed.iter().map(|word| self.words[self.home(word >> 32)]);
        std::hint::black_box(seen.fold(0, |all, word| all ^ word));
        for word in &doomed {
            self.remove_word(*word);
        }
        self.doomed = doomed;
        self.doomed.clear();
        if self.words.len() > 1024 && self.len < self.words.len() / 8 {
            self.resize(self.len * 2);
        }
    }

    fn remove_word(&mut self, word: u64) {
        let mut hole = self.home(word >> 32);
        while self.words[hole] != word {
            if self.words[hole] == EMPTY {
                return;
            }
            hole = self.after(hole);
        }
        // Whoever was pushed past the hole moves back into it.
        let mut at = hole;
        loop {
            at = self.after(at);
            let word = self.words[at];
            if word == EMPTY {
                break;
            }
            let home = self.home(word >> 32);
            let stays = if hole < at {
                hole < home && home <= at
            } else {
                hole < home || home <= at
            };
            if !stays {
                self.words[hole] = word;
                hole = at;
            }
        }
        self.words[hole] = EMPTY;
        self.len -= 1;
    }

    fn resize(&mut self, len: usize) {
        let new = vec![EMPTY; len.max(LEAST)];
        let old = std::mem::replace(&mut self.words, new);
        for word in old {
            if word != EMPTY {
                self.put(word);
            }
        }
    }

    fn put(&mut self, word: u64) {
        let mut at = self.home(word >> 32);
        while self.words[at] != EMPTY {
            at = self.after(at);
        }
        self.words[at] = word;
    }

    /// Where a word with this tag belongs: as far along the array as the tag is among all tags.
    fn home(&self, tag: u64) -> usize {
        ((tag * self.words.len() as u64) >> 32) as usize
    }

    fn after(&self, at: usize) -> usize {
        if at + 1 == self.words.len() { 0 } else { at + 1 }
    }
}

/// The upper half of the hash, into which the lower is mixed: fast hashers do not spread equally over all bits.
fn tag(hash: u64) -> u64 {
    hash.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32
}
