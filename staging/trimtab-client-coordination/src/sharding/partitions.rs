//! The parts into which the keys of a group are divided: sets of them, and which key belongs to which.

use std::fmt;
use std::ops::{BitAnd, BitOr, Sub};

/// How many partitions a group has: each is an equal range of the 64-bit hashes.
pub const PARTITIONS: usize = 256;

/// Of the hashes, how many bits do not tell partitions apart.
const BITS_WITHIN: u32 = 56;
const WORDS: usize = PARTITIONS / 64;

/// A set of partitions.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Partitions([u64; WORDS]);

/// By which field the API server can shard a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// An object's UID: spreads all kinds evenly.
    Uid,
    /// Its namespace: keeps the objects of a namespace together.
    Namespace,
}

/// The hash by which the API server shards (KEP-5866): 64-bit FNV-1a. For UIDs and namespaces.
///
/// Its upper bits hardly depend on the last two characters: a hundred names that are counted up fall into three
/// partitions. Where no API server has to agree, use [`hash_of_name`].
pub fn hash_of(text: &str) -> u64 {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x100_0000_01b3;
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(PRIME);
    text.bytes().fold(OFFSET, step)
}

/// A hash that spreads names and other keys of people's choice, as `namespace/name`. No API server can shard by it.
pub fn hash_of_name(text: &str) -> u64 {
    mixed(hash_of(text))
}

/// Has each bit depend on all others: the end of MurmurHash3.
pub(super) fn mixed(mut hash: u64) -> u64 {
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

impl Partitions {
    /// None.
    pub const NONE: Self = Self([0; WORDS]);
    /// All.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// The partition of a hash.
    pub fn of(hash: u64) -> u8 {
        (hash >> BITS_WITHIN) as u8
    }

    /// Whether the partition of this hash is among them.
    pub fn contains_hash(&self, hash: u64) -> bool {
        self.contains(Self::of(hash))
    }

    /// Whether this partition is among them.
    pub fn contains(&self, partition: u8) -> bool {
        self.0[usize::from(partition / 64)] & Self::bit(partition) != 0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = u8> {
        (0..=u8::MAX).filter(|partition| self.contains(*partition))
    }

    /// What an API server takes as `shardSelector` for the objects whose `field` falls into these partitions (KEP-5866), with
    /// as few ranges as possible; none for no partition. At most 11 KiB, and half of that for the shares of real groups.
    ///
    /// It needs a server that has the feature `ShardedListAndWatch`, and [`hash_of`] of the same field must be what holds are
    /// asked by.
    pub fn selector(&self, field: Field) -> Option<String> {
        let path = match field {
            Field::Uid => "object.metadata.uid",
            Field::Namespace => "object.metadata.namespace",
        };
        let edge = |partition: usize| (partition as u128) << BITS_WITHIN;
        let range = |(from, to)| {
            format!(
                "shardRange({path}, '0x{:016x}', '0x{:016x}')",
                edge(from),
                edge(to)
            )
        };
        let ranges: Vec<String> = self.ranges().into_iter().map(range).collect();
        (!ranges.is_empty()).then(|| ranges.join(" || "))
    }

    /// The runs of neighbours: from the first of each up to before the second.
    fn ranges(&self) -> Vec<(usize, usize)> {
        let mut ranges: Vec<(usize, usize)> = Vec::new();
        for partition in self.iter().map(usize::from) {
            match ranges.last_mut() {
                Some((_, to)) if *to == partition => *to += 1,
                _ => ranges.push((partition, partition + 1)),
            }
        }
        ranges
    }

    pub(super) fn insert(&mut self, partition: u8) {
        self.0[usize::from(partition / 64)] |= Self::bit(partition);
    }

    pub(super) fn remove(&mut self, partition: u8) {
        self.0[usize::from(partition / 64)] &= !Self::bit(partition);
    }

    /// As a Lease has it: a digit for every four partitions, the first one's first.
    pub(super) fn to_hex(self) -> String {
        self.0
            .iter()
            .map(|word| format!("{:016x}", word.reverse_bits()))
            .collect()
    }

    /// Reads what [`Partitions::to_hex`] has written.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        if text.len() != PARTITIONS / 4 || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut words = [0; WORDS];
        for (at, word) in words.iter_mut().enumerate() {
            *word = u64::from_str_radix(&text[at * 16..(at + 1) * 16], 16)
                .ok()?
                .reverse_bits();
        }
        Some(Self(words))
    }

    fn bit(partition: u8) -> u64 {
        1 << (partition % 64)
    }

    fn zip(self, other: Self, each: impl Fn(u64, u64) -> u64) -> Self {
        let mut words = self.0;
        words
            .iter_mut()
            .zip(other.0)
            .for_each(|(word, other)| *word = each(*word, other));
        Self(words)
    }
}

impl BitOr for Partitions {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.zip(other, |one, other| one | other)
    }
}

impl BitAnd for Partitions {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        self.zip(other, |one, other| one & other)
    }
}

impl Sub for Partitions {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self.zip(other, |one, other| one & !other)
    }
}

impl FromIterator<u8> for Partitions {
    fn from_iter<I: IntoIterator<Item = u8>>(partitions: I) -> Self {
        let mut all = Self::NONE;
        partitions.into_iter().for_each(|partition| all.insert(partition));
        all
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("{")?;
        for (at, (from, to)) in self.ranges().into_iter().enumerate() {
            let space = if at == 0 { "" } else { " " };
            match to - from {
                1 => write!(f, "{space}{from}")?,
                _ => write!(f, "{space}{from}-{}", to - 1)?,
            }
        }
        f.write_str("}")
    }
}
