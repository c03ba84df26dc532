//! Which keys are a replica's where replicas share them: by the hash of how a key is shown.

use std::fmt::Display;

use trimtab_client_coordination::sharding::{Partitions, hash_of_name};

/// Some of all keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Share {
    All,
    Of(Partitions),
}

impl Share {
    pub(crate) fn has(&self, key: &impl Display) -> bool {
        match self {
            Self::All => true,
            Self::Of(partitions) => partitions.contains_hash(hash_of(key)),
        }
    }
}

/// The same on all replicas.
pub(crate) fn hash_of(key: &impl Display) -> u64 {
    hash_of_name(&key.to_string())
}
