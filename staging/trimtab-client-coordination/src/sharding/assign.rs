//! Which member is to have which partition: rendezvous hashing.
//!
//! Each member has a weight for each partition, and the heaviest has it. So who joins takes partitions from all and nobody
//! else's change hands, and what a member leaves goes to all others.

use std::collections::BTreeSet;

use super::partitions::{Partitions, hash_of, mixed};

/// What `member` is to have, of all partitions among these members.
pub(super) fn share(members: &BTreeSet<String>, member: &str) -> Partitions {
    let seeds: Vec<(u64, &str)> = members
        .iter()
        .map(|member| (hash_of(member), member.as_str()))
        .collect();
    let heaviest = |partition: u8| {
        let seeds = seeds.iter();
        let weights = seeds.map(|(seed, member)| (mixed(seed ^ mixed(u64::from(partition) + 1)), *member));
        weights.max()
    };
    (0..=u8::MAX)
        .filter(|partition| heaviest(*partition).is_some_and(|(_, heaviest)| heaviest == member))
        .collect()
}
