//! Slots that keep their place, in chunks that come and go with what they hold, and an index that finds them by key.
//!
//! Memory follows what is kept: a chunk without anything in it is given back, and growing copies nothing but the index.

use std::hash::{BuildHasher, Hash};

use foldhash::fast::RandomState;

use crate::index::Index;

/// Slots in a chunk.
const CHUNK: usize = 256;

/// No slot at all.
pub(crate) const NONE: u32 = u32::MAX;

/// The number of a slot.
pub(crate) type Slot = u32;

/// What lies in a slot knows its key.
pub(crate) trait Keyed {
    type Key: Eq + Hash;

    fn key(&self) -> &Self::Key;
}

/// Things of one type, each found by its key or by its slot.
#[derive(Debug)]
pub(crate) struct KeyedSlab<T> {
    slots: Slab<T>,
    index: Index,
    hasher: RandomState,
}

#[derive(Debug)]
struct Slab<T> {
    /// A chunk that is absent has no memory for cells.
    chunks: Vec<Chunk<T>>,
    /// Chunks with room. The last one is filled first.
    open: Vec<u32>,
    /// Places in `chunks` without a chunk.
    absent: Vec<u32>,
}

#[derive(Debug)]
struct Chunk<T> {
    cells: Vec<Cell<T>>,
    /// The first vacant cell, each of which names the next.
    vacant: u32,
    used: usize,
    /// Where this chunk is in `open`.
    place: usize,
}

#[derive(Debug)]
enum Cell<T> {
    Vacant { next: u32 },
    Used(T),
}

// === impl KeyedSlab ===

impl<T: Keyed> KeyedSlab<T> {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slab {
                chunks: Vec::new(),
                open: Vec::new(),
                absent: Vec::new(),
            },
            index: Index::default(),
            hasher: RandomState::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.index.len()
    }

    pub(crate) fn hash(&self, key: &T::Key) -> u64 {
        self.hasher.hash_one(key)
    }

    /// Where the key is. `hash` is [`KeyedSlab::hash`] of it.
    pub(crate) fn find(&self, hash: u64, key: &T::Key) -> Option<Slot> {
        let slots = &self.slots;
        let is_it = |slot| slots.try_get(slot).is_some_and(|value| value.key() == key);
        self.index.find(hash, is_it)
    }

    /// Puts in what is not there yet.
    pub(crate) fn insert(&mut self, hash: u64, value: T) -> Slot {
        let slot = self.slots.insert(value);
        self.index.insert(hash, slot);
        slot
    }

    pub(crate) fn remove(&mut self, slot: Slot) -> T {
        let value = self.slots.remove(slot);
        self.index.remove(self.hasher.hash_one(value.key()), slot);
        value
    }

    pub(crate) fn get(&self, slot: Slot) -> &T {
        self.slots.get(slot)
    }

    /// What is in a slot that may be vacant by now.
    pub(crate) fn try_get(&self, slot: Slot) -> Option<&T> {
        self.slots.try_get(slot)
    }

    pub(crate) fn get_mut(&mut self, slot: Slot) -> &mut T {
        self.slots.get_mut(slot)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let chunks = self.slots.chunks.iter();
        chunks.flat_map(|chunk| &chunk.cells).filter_map(Cell::used)
    }

    #[cfg(test)]
    pub(crate) const CELL: usize = size_of::<Cell<T>>();

    #[cfg(test)]
    pub(crate) fn chunks(&self) -> usize {
        self.slots
            .chunks
            .iter()
            .filter(|chunk| !chunk.is_absent())
            .count()
    }

    /// Takes everything out.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + use<T> {
        let old = std::mem::replace(self, Self::new());
        let chunks = old.slots.chunks.into_iter();
        chunks
            .flat_map(|chunk| chunk.cells)
            .filter_map(|cell| match cell {
                Cell::Used(value) => Some(value),
                Cell::Vacant { .. } => None,
            })
    }
}

// === impl Slab ===

impl<T> Slab<T> {
    fn try_get(&self, slot: Slot) -> Option<&T> {
        let (chunk, cell) = split(slot);
        self.chunks.get(chunk)?.cells.get(cell)?.used()
    }

    fn get(&self, slot: Slot) -> &T {
        self.try_get(slot).expect("the slot is in use")
    }

    fn get_mut(&mut self, slot: Slot) -> &mut T {
        let (chunk, cell) = split(slot);
        match &mut self.chunks[chunk].cells[cell] {
            Cell::Used(value) => value,
            Cell::Vacant { .. } => unreachable!("the slot is in use"),
        }
    }

    fn insert(&mut self, value: T) -> Slot {
        let index = match self.open.last() {
            Some(index) => *index,
            None => self.open_chunk(),
        };
        let chunk = &mut self.chunks[index as usize];
        let cell = match chunk.vacant {
            NONE => {
                chunk.cells.push(Cell::Used(value));
                chunk.cells.len() - 1
            }
            vacant => {
                let cell = vacant as usize;
                if let Cell::Vacant { next } = chunk.cells[cell] {
                    chunk.vacant = next;
                }
                chunk.cells[cell] = Cell::Used(value);
                cell
            }
        };
        chunk.used += 1;
        if chunk.used == CHUNK {
            self.open.pop();
        }
        index * CHUNK as u32 + cell as u32
    }

    fn remove(&mut self, slot: Slot) -> T {
        let (index, cell) = split(slot);
        let chunk = &mut self.chunks[index];
        let next = std::mem::replace(&mut chunk.vacant, cell as u32);
        let Cell::Used(value) = std::mem::replace(&mut chunk.cells[cell], Cell::Vacant { next }) else {
            unreachable!("the slot is in use")
        };
        if chunk.used == CHUNK {
            chunk.place = self.open.len();
            self.open.push(index as u32);
        }
        chunk.used -= 1;
        if chunk.used == 0 && self.open.len() > 1 {
            let place = chunk.place;
            self.open.swap_remove(place);
            if let Some(moved) = self.open.get(place) {
                self.chunks[*moved as usize].place = place;
            }
            self.chunks[index] = Chunk::absent();
            self.absent.push(index as u32);
            if self.absent.len() == self.chunks.len() - 1 && self.chunks.len() > CHUNK {
                self.trim();
            }
        }
        value
    }

    /// Makes a chunk, at the end of `open`.
    fn open_chunk(&mut self) -> u32 {
        let index = self.absent.pop().unwrap_or_else(|| {
            self.chunks.push(Chunk::absent());
            self.chunks.len() as u32 - 1
        });
        let chunk = &mut self.chunks[index as usize];
        chunk.place = self.open.len();
        if index > 0 {
            // A queue with few keys stays small; one with many does not copy them as it grows.
            chunk.cells.reserve_exact(CHUNK);
        }
        self.open.push(index);
        index
    }

    /// Forgets the absent chunks after the last one that is there.
    fn trim(&mut self) {
        while self.chunks.last().is_some_and(Chunk::is_absent) {
            self.chunks.pop();
        }
        self.chunks.shrink_to_fit();
        let there = self.chunks.len() as u32;
        self.absent.retain(|index| *index < there);
        self.absent.shrink_to_fit();
        self.open.shrink_to_fit();
    }
}

impl<T> Chunk<T> {
    fn absent() -> Self {
        Self {
            cells: Vec::new(),
            vacant: NONE,
            used: 0,
            place: 0,
        }
    }

    /// A chunk that is open may be without cells as well, but only until its first insert.
    fn is_absent(&self) -> bool {
        self.cells.is_empty()
    }
}

impl<T> Cell<T> {
    fn used(&self) -> Option<&T> {
        match self {
            Cell::Used(value) => Some(value),
            Cell::Vacant { .. } => None,
        }
    }
}

#[inline]
fn split(slot: Slot) -> (usize, usize) {
    (slot as usize / CHUNK, slot as usize % CHUNK)
}
