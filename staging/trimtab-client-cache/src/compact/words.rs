//! The table of words: strings that documents name by number.
//!
//! Words are only ever added, by the one who encodes, so that readers need no lock. The table is bounded: when it is
//! full, further strings are written out. A string must be seen more than once to become a word.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// How many words there can be: what the tags can name.
pub(crate) const MOST_WORDS: usize = 128 + 32 * 256;
/// The longest word, in bytes. With [`MOST_WORDS`] this bounds the table to half a megabyte.
const LONGEST_WORD: usize = 64;
/// The shortest string that takes less as a word.
const SHORTEST_WORD: usize = 2;
/// How often a value is seen before it is a word, so that names of fields, which recur in all objects, find room.
const VALUE_SIGHTINGS: u8 = 6;
/// How often the name of a field is seen before it is a word.
const NAME_SIGHTINGS: u8 = 2;

/// How far ahead in the words of the document before a word is looked for.
const AHEAD: usize = 32;
/// How many words of a document are kept for the next one to follow.
const MOST_FOLLOWED: usize = 4096;

const CHUNK: usize = 128;
const CHUNKS: usize = MOST_WORDS / CHUNK;

type Chunk = Box<[OnceLock<Box<str>>]>;

/// Words by number, for readers.
pub(crate) struct Words {
    chunks: [OnceLock<Chunk>; CHUNKS],
}

/// Numbers by word, for the one who encodes.
pub(crate) struct Dictionary {
    words: Arc<Words>,
    /// By the hash of the word.
    numbers: HashMap<u64, u16, foldhash::fast::RandomState>,
    /// By number.
    known: Vec<Known>,
    /// The words again, one after the other. Those of one document are mostly numbered in its order, so that to look at one
    /// has the next at hand already.
    texts: Vec<u8>,
    course: Course,
    sightings: Sightings,
}

struct Known {
    hash: u64,
    /// Where in the texts it is.
    start: u32,
    length: u8,
}

/// The words of the document before, which the next one mostly has in the same order: to compare a string with the one word
/// that is expected takes a fraction of looking for it.
#[derive(Default)]
struct Course {
    before: Vec<u16>,
    /// What is expected, in `before`.
    at: usize,
    now: Vec<u16>,
}

/// What a string is used as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Name,
    Value,
}

impl Words {
    #[inline]
    pub(crate) fn get(&self, number: u16) -> Option<&str> {
        let number = usize::from(number);
        let word = self
            .chunks
            .get(number / CHUNK)?
            .get()?
            .get(number % CHUNK)?
            .get()?;
        Some(word)
    }

    fn set(&self, number: usize, word: Box<str>) {
        let chunk = self.chunks[number / CHUNK].get_or_init(|| (0..CHUNK).map(|_| OnceLock::new()).collect());
        // Each number is given once.
        let _new = chunk[number % CHUNK].set(word);
    }
}

impl Dictionary {
    pub(crate) fn new() -> Self {
        let words = Words {
            chunks: [const { OnceLock::new() }; CHUNKS],
        };
        Self {
            words: Arc::new(words),
            numbers: HashMap::default(),
            known: Vec::new(),
            texts: Vec::new(),
            course: Course::default(),
            sightings: Sightings::new(16),
        }
    }

    pub(crate) fn words(&self) -> &Arc<Words> {
        &self.words
    }

    /// Begins a document.
    pub(crate) fn begin(&mut self) {
        self.course.begin();
    }

    /// The number and the hash of a string, if it is the word that comes now if all goes as in the document before.
    pub(crate) fn expected(&mut self, string: &str) -> Option<(u16, u64)> {
        let number = self.course.expected()?;
        let hash = self.hash_if(number, string)?;
        self.course.pass(number);
        Some((number, hash))
    }

    /// The number of a string, if it is a word or has now become one. `hash` is of the string.
    pub(crate) fn number(&mut self, string: &str, hash: u64, used: Use) -> Option<u16> {
        if !(SHORTEST_WORD..=LONGEST_WORD).contains(&string.len()) {
            return None;
        }
        if let Some(number) = self.numbers.get(&hash).copied() {
            // One of two strings of the same hash has to be written out.
            self.hash_if(number, string)?;
            self.course.pass(number);
            return Some(number);
        }
        let needed = match used {
            Use::Name => NAME_SIGHTINGS,
            Use::Value => VALUE_SIGHTINGS,
        };
        let next = self.numbers.len();
        if next == MOST_WORDS || self.sightings.see(hash) < needed {
            return None;
        }
        let number = u16::try_from(next).ok()?;
        let known = Known {
            hash,
            start: u32::try_from(self.texts.len()).ok()?,
            length: u8::try_from(string.len()).ok()?,
        };
        self.words.set(next, string.into());
        self.numbers.insert(hash, number);
        self.known.push(known);
        self.texts.extend_from_slice(string.as_bytes());
        self.course.pass(number);
        Some(number)
    }

    /// The hash of a word, if it is this string.
    fn hash_if(&self, number: u16, string: &str) -> Option<u64> {
        let known = self.known.get(usize::from(number))?;
        let start = known.start as usize;
        let word = self.texts.get(start..start + usize::from(known.length))?;
        (word == string.as_bytes()).then_some(known.hash)
    }
}

impl Course {
    fn begin(&mut self) {
        std::mem::swap(&mut self.before, &mut self.now);
        self.now.clear();
        self.at = 0;
    }

    fn expected(&self) -> Option<u16> {
        self.before.get(self.at).copied()
    }

    /// Takes note of the next word. One that was not expected, but comes soon, says that what is in between is left out; another
    /// one, that it is put in.
    fn pass(&mut self, number: u16) {
        let mut ahead = self.before.iter().skip(self.at).take(AHEAD);
        if let Some(skipped) = ahead.position(|other| *other == number) {
            self.at += skipped + 1;
        }
        if self.now.len() < MOST_FOLLOWED {
            self.now.push(number);
        }
    }
}

/// How often things were seen, by their hashes, in bounded space: who is not seen again soon is forgotten.
pub(crate) struct Sightings {
    /// The upper 28 bits of the hash's lower half, then how often it was seen.
    slots: Vec<u32>,
    used: usize,
    turn: bool,
    most_bits: u32,
}

const COUNT: u32 = 0xf;
/// Of most kinds there are few objects.
const FIRST_SLOTS: usize = 64;

impl Sightings {
    /// Remembers at most `2^most_bits` things.
    pub(crate) fn new(most_bits: u32) -> Self {
        Self {
            slots: vec![0; FIRST_SLOTS],
            used: 0,
            turn: false,
            most_bits,
        }
    }

    /// Sees a thing, and says how often it was seen, this time included; at least that often, as hashes collide.
    pub(crate) fn see(&mut self, hash: u64) -> u8 {
        if self.used * 3 > self.slots.len() && self.slots.len() < 1 << self.most_bits {
            self.grow();
        }
        let mark = (hash >> 32) as u32 & !COUNT;
        let at = self.place(mark);
        let pair = [at, at ^ 1];
        let known = pair
            .into_iter()
            .find(|at| self.slots[*at] != 0 && self.slots[*at] & !COUNT == mark);
        if let Some(at) = known {
            let count = (self.slots[at] & COUNT).saturating_add(1).min(COUNT);
            self.slots[at] = mark | count;
            return count as u8;
        }
        let rarer = if self.slots[pair[1]] & COUNT < self.slots[pair[0]] & COUNT {
            pair[1]
        } else {
            pair[0]
        };
        match self.slots[rarer] & COUNT {
            // Who was seen often stays for a while, or two that meet here would make each other forgotten for ever.
            count @ 2.. => self.slots[rarer] = self.slots[rarer] & !COUNT | (count - 1),
            0 => {
                self.used += 1;
                self.slots[rarer] = mark | 1;
            }
            // Every other time, for the same reason.
            _ => {
                self.turn = !self.turn;
                if self.turn {
                    self.slots[rarer] = mark | 1;
                }
            }
        }
        1
    }

    /// Forgets what was seen.
    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.most_bits);
    }

    fn place(&self, mark: u32) -> usize {
        (mark >> 4) as usize & (self.slots.len() - 1)
    }

    fn grow(&mut self) {
        let old = std::mem::take(&mut self.slots);
        self.slots = vec![0; old.len() * 2];
        self.used = 0;
        for slot in old.into_iter().filter(|slot| *slot != 0) {
            let at = self.place(slot & !COUNT);
            self.slots[at] = slot;
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many of the words of a second document are expected after a first one.
    #[test]
    fn a_document_is_followed_past_what_is_left_out_or_put_in() {
        let cases: [(&[u16], usize); 6] = [
            (&[1, 2, 3, 4, 5, 6], 6),
            (&[1, 2, 5, 6], 3),
            (&[1, 2, 9, 9, 3, 4, 5, 6], 6),
            (&[1, 9, 3, 4, 5, 6], 4),
            (&[9, 9], 0),
            (&[1, 2, 3, 4, 5, 6, 1], 6),
        ];
        for (second, expected) in cases {
            let mut course = Course::default();
            (1..=6).for_each(|number| course.pass(number));
            course.begin();
            let mut met = 0;
            for number in second {
                met += usize::from(course.expected() == Some(*number));
                course.pass(*number);
            }
            assert_eq!(met, expected, "{second:?}");
        }
    }

    #[test]
    fn of_long_documents_the_beginning_is_followed() {
        let mut course = Course::default();
        (0..2 * MOST_FOLLOWED).for_each(|_| course.pass(7));
        course.begin();
        assert_eq!(course.before.len(), MOST_FOLLOWED);
    }
}
