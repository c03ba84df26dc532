//! What a store or a snapshot holds, short enough to be kept and compared: the revision, and a hash of keys and values.

use std::collections::BTreeMap;
use std::fmt;

use futures::TryStreamExt as _;
use ring::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use trimtab_apiserver_storage::{Result, Revision, Snapshot};

/// One key with what is compared of it.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The value.
    pub value: &'a [u8],
    /// When the key was created, and last changed.
    pub revisions: (Revision, Revision),
    /// Whether it will expire.
    pub expires: bool,
}

/// What is held at one revision. Keys that expire are listed one by one, since they may be gone when it is compared.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// The revision.
    pub revision: Revision,
    /// How many keys there are that do not expire.
    pub keys: u64,
    /// SHA-256 of those keys and their values, in the order of the keys.
    pub hash: String,
    /// The same with the revisions at which each was created and last changed.
    pub hash_with_revisions: String,
    /// Keys that expire, and the hash of each with its value.
    pub expiring: BTreeMap<String, String>,
}

/// How two inventories differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference(String);

/// Takes an inventory of keys that come in order.
pub(crate) struct Counter {
    keys: u64,
    plain: Context,
    exact: Context,
    expiring: BTreeMap<String, String>,
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self {
            keys: 0,
            plain: Context::new(&SHA256),
            exact: Context::new(&SHA256),
            expiring: BTreeMap::new(),
        }
    }

    pub(crate) fn add(&mut self, held: Held<'_>) {
        let digest = digest(held.key, held.value);
        if held.expires {
            let name = held.key.escape_ascii().to_string();
            self.expiring.insert(name, hex(digest.as_ref()));
            return;
        }
        self.add_digest(digest.as_ref(), held.revisions);
    }

    /// Adds a key that does not expire, by what [`digest`] made of it.
    pub(crate) fn add_digest(&mut self, digest: &[u8], (created, changed): (Revision, Revision)) {
        self.keys += 1;
        self.plain.update(digest);
        self.exact.update(digest);
        self.exact.update(&created.to_le_bytes());
        self.exact.update(&changed.to_le_bytes());
    }

    pub(crate) fn add_expiring(&mut self, key: &[u8], digest: &[u8]) {
        self.expiring.insert(key.escape_ascii().to_string(), hex(digest));
    }

    pub(crate) fn finish(self, revision: Revision) -> Inventory {
        Inventory {
            revision,
            keys: self.keys,
            hash: hex(self.plain.finish().as_ref()),
            hash_with_revisions: hex(self.exact.finish().as_ref()),
            expiring: self.expiring,
        }
    }
}

/// SHA-256 of a key and its value.
pub(crate) fn digest(key: &[u8], value: &[u8]) -> ring::digest::Digest {
    let mut context = Context::new(&SHA256);
    context.update(&(key.len() as u64).to_le_bytes());
    context.update(key);
    context.update(value);
    context.finish()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

impl Inventory {
    /// Takes the inventory of a store's snapshot; `progress` is told of the keys seen and of all keys.
    ///
    /// # Errors
    ///
    /// The store's.
    pub async fn of(mut snapshot: Snapshot, mut progress: impl FnMut(u64, u64)) -> Result<Self> {
        let mut counter = Counter::new();
        let mut seen = 0;
        while let Some(entries) = snapshot.entries.try_next().await? {
            for entry in &entries {
                counter.add(Held {
                    key: &entry.kv.key,
                    value: &entry.kv.value,
                    revisions: (entry.kv.create_revision, entry.kv.mod_revision),
                    expires: entry.expires.is_some(),
                });
            }
            seen += entries.len() as u64;
            progress(seen, snapshot.count);
        }
        Ok(counter.finish(snapshot.revision))
    }

    /// Whether `later` holds the same keys and values: all of them, but for those that expire, which may be gone, and
    /// must not be more. With `revisions`, keys must also be of the same ones. The store's own must not be lower.
    ///
    /// # Errors
    ///
    /// What differs.
    pub fn check(&self, later: &Self, revisions: bool) -> std::result::Result<(), Difference> {
        if later.revision < self.revision {
            let (before, after) = (self.revision, later.revision);
            return Err(Difference(format!("the revision was {before} and is {after}")));
        }
        if later.keys != self.keys {
            let (before, after) = (self.keys, later.keys);
            return Err(Difference(format!(
                "there were {before} keys and there are {after}"
            )));
        }
        let exact = !revisions || later.hash_with_revisions == self.hash_with_revisions;
        if later.hash != self.hash || !exact {
            let what = if later.hash == self.hash {
                "revisions"
            } else {
                "values"
            };
            return Err(Difference(format!(
                "{} keys are there, with other {what}",
                later.keys
            )));
        }
        for (key, hash) in &later.expiring {
            if self.expiring.get(key) != Some(hash) {
                return Err(Difference(format!("the key {key}, which expires, is another")));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Inventory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.hash.get(..16).unwrap_or(&self.hash);
        write!(
            f,
            "{} keys at revision {}, {} of them expiring, hash {short}",
            self.keys + self.expiring.len() as u64,
            self.revision,
            self.expiring.len()
        )
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(revision: Revision, keys: &[(&str, &str, u64, bool)]) -> Inventory {
        let mut counter = Counter::new();
        for (key, value, changed, expires) in keys {
            counter.add(Held {
                key: key.as_bytes(),
                value: value.as_bytes(),
                revisions: (2, *changed),
                expires: *expires,
            });
        }
        counter.finish(revision)
    }

    #[test]
    fn what_is_missing_changed_or_older_is_found() {
        let before = inventory(
            9,
            &[("a", "1", 2, false), ("b", "1", 3, false), ("e", "1", 4, true)],
        );
        for (later, wanted) in [
            (
                inventory(
                    9,
                    &[("a", "1", 2, false), ("b", "1", 3, false), ("e", "1", 4, true)],
                ),
                "",
            ),
            (inventory(10, &[("a", "1", 2, false), ("b", "1", 3, false)]), ""),
            (
                inventory(8, &[("a", "1", 2, false), ("b", "1", 3, false)]),
                "the revision was 9 and is 8",
            ),
            (
                inventory(9, &[("a", "1", 2, false)]),
                "there were 2 keys and there are 1",
            ),
            (
                inventory(9, &[("a", "1", 2, false), ("b", "2", 3, false)]),
                "with other values",
            ),
            (
                inventory(9, &[("a", "1", 2, false), ("c", "1", 3, false)]),
                "with other values",
            ),
            (
                inventory(9, &[("a", "1", 2, false), ("b", "1", 4, false)]),
                "with other revisions",
            ),
            (
                inventory(
                    9,
                    &[("a", "1", 2, false), ("b", "1", 3, false), ("e", "2", 4, true)],
                ),
                "the key e, which expires, is another",
            ),
        ] {
            let found = before.check(&later, true).err().map(|d| d.to_string());
            let found = found.unwrap_or_default();
            assert!(
                found.contains(wanted) && found.is_empty() == wanted.is_empty(),
                "{found}: {wanted}"
            );
        }
        let moved = inventory(20, &[("a", "1", 12, false), ("b", "1", 13, false)]);
        assert!(before.check(&moved, false).is_ok());
    }
}
