//! The index that memory and embedded stores answer from: every key with its versions, and the history of
//! commits since the last compaction. Plain data; whoever owns it decides when a commit is applied.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use crate::contract::{
    Error, Event, EventKind, Figures, KeyValue, RangeRequest, RangeResponse, Result, Revision, Snapshot,
    SnapshotEntry,
};

/// Milliseconds since 1970, on the store's own clock.
pub(crate) type Millis = u64;

/// What a row takes beside its key and value, in bytes.
const ROW: usize = 48;

/// One key as of one revision.
#[derive(Clone, Debug)]
struct Version {
    mod_revision: Revision,
    create_revision: Revision,
    /// `None` marks a deletion.
    value: Option<Bytes>,
    expires: Option<Millis>,
}

/// One change of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) event: Event,
    /// When the key is to be deleted, unless it is set again.
    pub(crate) expires: Option<Millis>,
}

/// All changes of one revision, in the order of their keys, at most one for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) revision: Revision,
    pub(crate) changes: Vec<Change>,
}

/// A row that is needed no more: the version of `key` that was written at `revision`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Garbage {
    pub(crate) revision: Revision,
    pub(crate) key: Bytes,
}

/// The keys and their history.
///
/// Invariants: `history` holds exactly the commits `max(oldest, start + 1)..=revision`, without gaps, where `start` is
/// the revision that the store began with (1, or what it was restored to); a key's versions
/// are in ascending order, at most one of them is at or below `oldest`, and a lone deletion is not among them
/// once it is at or below `oldest`; `expiries` holds what the latest version of each key says.
#[derive(Debug)]
pub(crate) struct State {
    revision: Revision,
    /// The oldest revision that can be read; 1 until the first compaction.
    oldest: Revision,
    keys: BTreeMap<Bytes, Vec<Version>>,
    history: VecDeque<Arc<Commit>>,
    expiries: BTreeSet<(Millis, Bytes)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            revision: 1,
            oldest: 1,
            keys: BTreeMap::new(),
            history: VecDeque::new(),
            expiries: BTreeSet::new(),
        }
    }
}

impl State {
    /// A state that holds nothing yet, began with revision `start` and can be read from `oldest` on; to be filled by
    /// [`State::load`] with what was there just before `oldest`, or at `start` when that is later.
    pub(crate) fn starting_at(start: Revision, oldest: Revision) -> Self {
        Self {
            revision: oldest.saturating_sub(1).max(start),
            oldest: oldest.max(start),
            ..Self::default()
        }
    }

    /// Puts in a key as it was before the history begins; of calls for one key the last counts.
    pub(crate) fn load(&mut self, kv: KeyValue, expires: Option<Millis>) {
        self.set_expiry(&kv.key, expires);
        let version = Version {
            mod_revision: kv.mod_revision,
            create_revision: kv.create_revision,
            value: Some(kv.value),
            expires,
        };
        self.keys.insert(kv.key, vec![version]);
    }

    /// All keys as they are now, with when they expire.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let entries = self.keys.iter().filter_map(|(key, versions)| {
            let version = versions.last()?;
            let kv = key_value(key, version)?;
            let expires = version.expires;
            Some(SnapshotEntry { kv, expires })
        });
        Snapshot::new(self.revision, entries.collect())
    }

    /// How many keys there are now.
    pub(crate) fn len(&self) -> usize {
        let latest = self.keys.values().filter_map(|versions| versions.last());
        latest.filter(|version| version.value.is_some()).count()
    }

    /// What it says of itself.
    pub(crate) fn figures(&self) -> Figures {
        Figures {
            revision: Some(self.revision),
            oldest: Some(self.oldest),
            ..Figures::default()
        }
    }

    /// About how many bytes the rows take that this state is made of.
    pub(crate) fn bytes(&self) -> u64 {
        let row =
            |key: &Bytes, version: &Version| key.len() + version.value.as_ref().map_or(0, Bytes::len) + ROW;
        let rows = self
            .keys
            .iter()
            .flat_map(|(key, versions)| versions.iter().map(move |v| row(key, v)));
        rows.map(|bytes| bytes as u64).sum()
    }

    /// The current revision.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    /// The oldest revision that can be read.
    pub(crate) fn oldest(&self) -> Revision {
        self.oldest
    }

    /// A key as it is now.
    pub(crate) fn get(&self, key: &[u8]) -> Option<KeyValue> {
        let (key, versions) = self.keys.get_key_value(key)?;
        key_value(key, versions.last()?)
    }

    /// Reads a range; see [`crate::Store::range`].
    pub(crate) fn range(&self, request: &RangeRequest) -> Result<RangeResponse> {
        let revision = request.revision.unwrap_or(self.revision);
        self.check_readable(revision)?;
        let mut response = RangeResponse {
            kvs: Vec::new(),
            count: 0,
            more: false,
            revision,
        };
        if is_empty(&request.start, &request.end) {
            return Ok(response);
        }
        let end = request.end.as_ref().map(|b| &b[..]);
        for (key, versions) in self
            .keys
            .range::<[u8], _>((Bound::Included(&request.start[..]), end))
        {
            let Some(kv) = at(versions, revision).and_then(|v| key_value(key, v)) else {
                continue;
            };
            response.count += 1;
            if request.limit > 0 && response.count > request.limit {
                response.more = true;
            } else if !request.count_only {
                response.kvs.push(kv);
            }
        }
        Ok(response)
    }

    fn check_readable(&self, revision: Revision) -> Result<()> {
        if revision > self.revision {
            return Err(Error::Future {
                asked: revision,
                current: self.revision,
            });
        }
        if revision < self.oldest {
            return Err(Error::Compacted { oldest: self.oldest });
        }
        Ok(())
    }

    /// The commits from a revision on, which must not be below [`State::oldest`].
    pub(crate) fn commits_from(&self, revision: Revision) -> impl Iterator<Item = &Arc<Commit>> {
        let first = self.history.front().map_or(Revision::MAX, |c| c.revision);
        let skip = usize::try_from(revision.saturating_sub(first)).unwrap_or(usize::MAX);
        self.history.iter().skip(skip)
    }

    /// Makes a commit, which must be the one after the current revision, part of the state.
    pub(crate) fn apply(&mut self, commit: Arc<Commit>) {
        debug_assert_eq!(
            commit.revision,
            self.revision + 1,
            "commits come one after the other"
        );
        self.revision = commit.revision;
        for change in &commit.changes {
            let kv = &change.event.kv;
            self.set_expiry(&kv.key, change.expires);
            let version = Version {
                mod_revision: kv.mod_revision,
                create_revision: kv.create_revision,
                value: (change.event.kind == EventKind::Put).then(|| kv.value.clone()),
                expires: change.expires,
            };
            match self.keys.get_mut(&kv.key) {
                Some(versions) => versions.push(version),
                None => drop(self.keys.insert(kv.key.clone(), vec![version])),
            }
        }
        self.history.push_back(commit);
    }

    fn set_expiry(&mut self, key: &Bytes, expires: Option<Millis>) {
        let before = self.keys.get(key).and_then(|v| v.last()).and_then(|v| v.expires);
        if let Some(before) = before {
            self.expiries.remove(&(before, key.clone()));
        }
        if let Some(expires) = expires {
            self.expiries.insert((expires, key.clone()));
        }
    }

    /// When the next key expires.
    pub(crate) fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// At most `limit` keys, as they are now, whose time has come.
    pub(crate) fn expired(&self, now: Millis, limit: usize) -> Vec<KeyValue> {
        let due = self.expiries.iter().take_while(|(at, _)| *at <= now);
        due.take(limit).filter_map(|(_, key)| self.get(key)).collect()
    }

    /// Forgets what is older than `revision`; see [`crate::Store::compact`]. Answers with the rows that nobody needs any
    /// more, in an order in which no deletion comes before what it has deleted. What was current just before `revision`
    /// is not among them: it is what the changes of `revision` name as their predecessors.
    pub(crate) fn compact(&mut self, revision: Revision) -> Result<Vec<Garbage>> {
        self.can_compact(revision)?;
        self.oldest = revision;
        let mut garbage = Vec::new();
        while self.history.front().is_some_and(|c| c.revision < revision) {
            let Some(commit) = self.history.pop_front() else {
                break;
            };
            for change in &commit.changes {
                let key = &change.event.kv.key;
                if let Some(prev) = &change.event.prev {
                    garbage.push(Garbage {
                        revision: prev.mod_revision,
                        key: key.clone(),
                    });
                }
                if change.event.kind == EventKind::Delete {
                    garbage.push(Garbage {
                        revision: commit.revision,
                        key: key.clone(),
                    });
                }
                self.trim(key);
            }
        }
        self.settle();
        Ok(garbage)
    }

    /// Whether [`State::compact`] would do it.
    pub(crate) fn can_compact(&self, revision: Revision) -> Result<()> {
        if revision > self.revision {
            return Err(Error::Future {
                asked: revision,
                current: self.revision,
            });
        }
        if revision <= self.oldest {
            return Err(Error::Compacted { oldest: self.oldest });
        }
        Ok(())
    }

    /// Drops what the oldest readable revision itself has superseded.
    pub(crate) fn settle(&mut self) {
        if let Some(commit) = self
            .history
            .front()
            .filter(|c| c.revision == self.oldest)
            .cloned()
        {
            commit
                .changes
                .iter()
                .for_each(|change| self.trim(&change.event.kv.key));
        }
    }

    /// Drops the versions of a key that nobody can ask for any more.
    fn trim(&mut self, key: &Bytes) {
        let Some(versions) = self.keys.get_mut(key) else {
            return;
        };
        let readable = versions.partition_point(|v| v.mod_revision <= self.oldest);
        let mut drop_first = readable.saturating_sub(1);
        if readable > 0 && versions[readable - 1].value.is_none() {
            drop_first = readable;
        }
        versions.drain(..drop_first);
        if versions.is_empty() {
            self.keys.remove(key);
        } else if versions.capacity() > 2 * versions.len() {
            versions.shrink_to_fit();
        }
    }
}

/// Whether a range can hold no key at all.
pub(crate) fn is_empty(start: &[u8], end: &Bound<Bytes>) -> bool {
    match end {
        Bound::Included(end) => start > &end[..],
        Bound::Excluded(end) => start >= &end[..],
        Bound::Unbounded => false,
    }
}

/// Whether a key is in a range.
pub(crate) fn in_range(key: &[u8], start: &[u8], end: &Bound<Bytes>) -> bool {
    key >= start
        && match end {
            Bound::Included(end) => key <= &end[..],
            Bound::Excluded(end) => key < &end[..],
            Bound::Unbounded => true,
        }
}

fn at(versions: &[Version], revision: Revision) -> Option<&Version> {
    let after = versions.partition_point(|v| v.mod_revision <= revision);
    after.checked_sub(1).and_then(|i| versions.get(i))
}

fn key_value(key: &Bytes, version: &Version) -> Option<KeyValue> {
    Some(KeyValue {
        key: key.clone(),
        value: version.value.clone()?,
        create_revision: version.create_revision,
        mod_revision: version.mod_revision,
    })
}
