//! From the embedded store into etcd: what differs is written, until nothing does.
//!
//! A mark beside the prefix says whose copy this is. Each transaction asks for the mark as this process wrote it, and for
//! each key as it was found, so neither a second migration nor a server that is started too early can be written over. Who
//! comes again finds the mark, and what is there already is not written again.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use serde::{Deserialize, Serialize};
use trimtab_apiserver_storage::{
    Compare, Error as StoreError, EtcdStore, MIGRATION, Op, Revision, Snapshot, SnapshotEntry, Store as _,
    Txn,
};

use super::raise::{SCRATCH, compact, raise};
use super::{Migrated, OURS, entries_of, mark, now};
use crate::backup::Told;
use crate::error::{Error, Result};
use crate::inventory::Inventory;

/// How much further etcd's revision is raised while a server still runs on the source: more than it makes until it is
/// stopped. Where it makes more, all is written again.
pub(super) const HEADROOM: u64 = 20_000;
/// A transaction has so many changes and about so many bytes at most: etcd takes 128 and 1.5 MiB by its defaults.
const CHANGES: usize = 30;
const BYTES: usize = 512 << 10;
/// How many transactions are under way.
const UNDER_WAY: usize = 8;
/// How often what differs is written: again after a write that was not answered.
const PASSES: u32 = 5;
/// Times to live above a hundred seconds are rounded up to this, since etcd has a lease for each.
const GRAIN: u64 = 10;
/// A key whose end at the target is earlier than it should be by more than this, in milliseconds, is written again; etcd
/// tells whole seconds.
const EARLY: u64 = 3000;

/// What is written under the mark.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    /// What is copied.
    from: String,
    /// Every copy is of a later revision of etcd than this.
    base: Revision,
}

/// One change, and the revision that its key must be of.
#[derive(Clone, Debug)]
struct Step {
    key: Bytes,
    found: Revision,
    /// The value and when it expires; `None` deletes.
    put: Option<(Bytes, Option<u64>)>,
}

pub(super) async fn run(
    store: &EtcdStore,
    snapshot: Snapshot,
    from: &str,
    headroom: u64,
    told: &mut Told<'_>,
) -> Result<Migrated> {
    let revision = snapshot.revision;
    let entries = entries_of(snapshot, "reading", told).await?;
    let below = format!("{OURS}/");
    if let Some(entry) = entries.iter().find(|e| !e.kv.key.starts_with(below.as_bytes())) {
        return Err(Error::Usage(format!(
            "the key {} is not below {below}: this is no API server's store",
            entry.kv.key.escape_ascii()
        )));
    }
    let fence = claim(store, from, revision, revision + headroom, told).await?;
    raise(store, fence.base, told).await?;
    let mut passes = 0;
    let mut unknown = BTreeSet::new();
    loop {
        let found = entries_of(store.snapshot().await?, "comparing", told).await?;
        let steps = differences(&entries, &found);
        if steps.is_empty() {
            break;
        }
        if passes > 0 && steps.iter().any(|step| is_others(step, &unknown)) {
            return Err(disturbed());
        }
        passes += 1;
        if passes > PASSES {
            return Err(Error::Late(format!(
                "etcd has not taken all of it in {PASSES} passes: {} keys still differ. Run this again to go on",
                steps.len()
            )));
        }
        unknown = write(store, fence.revision, steps, told).await?;
    }
    let source = Inventory::of(Snapshot::new(revision, entries.clone()), |_, _| ()).await?;
    let target = compare(store, &source, &entries, told).await?;
    let begins = store.revision().await?;
    if headroom == 0 {
        // Before the mark goes: who watches from before must begin anew, also when this ends here.
        compact(store, begins).await?;
        let done = [MIGRATION, SCRATCH].map(|name| Op::Delete { key: key(name) });
        fenced(store, fence.revision, Vec::new(), done.to_vec()).await?;
    }
    Ok(Migrated {
        source,
        target,
        begins,
        ahead: headroom > 0,
    })
}

/// What every write asks for.
struct Fence {
    /// The revision of the mark.
    revision: Revision,
    /// What etcd's revision is raised to.
    base: Revision,
}

/// Marks etcd as the target of this migration.
async fn claim(
    store: &EtcdStore,
    from: &str,
    at_least: Revision,
    base: Revision,
    told: &mut Told<'_>,
) -> Result<Fence> {
    let found = mark(store).await?;
    let seen = found.as_ref().map_or(0, |(_, revision)| *revision);
    let mut base = base;
    match &found {
        None => {
            let there = store.outline().await?.count;
            if there > 0 {
                return Err(Error::Usage(format!(
                    "etcd has {there} keys below the prefix already, of no migration: nothing was changed. Take another \
                     --etcd-prefix, or an etcd that is empty"
                )));
            }
        }
        Some((value, _)) => {
            let old: Option<Mark> = serde_json::from_slice(value).ok();
            let Some(old) = old.filter(|old| old.from == from) else {
                return Err(Error::Usage(format!(
                    "a migration of something else into this etcd has not ended ({}): finish it, or delete what is below \
                     the prefix and the key {MIGRATION}",
                    value.escape_ascii()
                )));
            };
            if old.base >= at_least {
                base = base.max(old.base);
            } else {
                // Its copies may be of revisions that the source has come to meanwhile, for something else.
                let found = entries_of(store.snapshot().await?, "beginning anew", told).await?;
                write(store, seen, differences(&[], &found), told).await?;
            }
        }
    }
    let value = Mark {
        from: from.to_owned(),
        base,
    };
    let value = serde_json::to_vec(&value).map_err(|e| Error::Usage(e.to_string()))?;
    let put = Op::Put {
        key: key(MIGRATION),
        value: value.into(),
        ttl: None,
    };
    let revision = fenced(store, seen, Vec::new(), vec![put]).await?;
    Ok(Fence { revision, base })
}

/// Whether what has to be done in a later pass is what somebody else has done. What was there before went in the first pass, and
/// what was acknowledged stays, unless it expires.
fn is_others(step: &Step, unknown: &BTreeSet<Bytes>) -> bool {
    match &step.put {
        None => true,
        Some((_, Some(_))) => false,
        Some((_, None)) => !unknown.contains(&step.key),
    }
}

/// What has to be done so that what was found becomes what is wanted; both are in the order of their keys.
fn differences(wanted: &[SnapshotEntry], found: &[SnapshotEntry]) -> Vec<Step> {
    let time = now();
    let mut there: BTreeMap<&Bytes, &SnapshotEntry> = found.iter().map(|e| (&e.kv.key, e)).collect();
    let mut steps = Vec::new();
    for entry in wanted.iter().filter(|e| !is_over(e, time)) {
        let old = there.remove(&entry.kv.key);
        let same = |old: &SnapshotEntry| {
            let end = |entry: &SnapshotEntry| entry.expires.unwrap_or(u64::MAX);
            old.kv.value == entry.kv.value
                && old.expires.is_some() == entry.expires.is_some()
                && end(old).saturating_add(EARLY) >= end(entry)
        };
        if !old.is_some_and(same) {
            steps.push(Step {
                key: entry.kv.key.clone(),
                found: old.map_or(0, |old| old.kv.mod_revision),
                put: Some((entry.kv.value.clone(), entry.expires)),
            });
        }
    }
    // What has expired at the source goes by itself.
    let over: BTreeSet<&Bytes> = wanted
        .iter()
        .filter(|e| is_over(e, time))
        .map(|e| &e.kv.key)
        .collect();
    steps.extend(there.into_values().filter_map(|old| {
        let goes = old.expires.is_some() && over.contains(&old.kv.key);
        (!goes).then(|| Step {
            key: old.kv.key.clone(),
            found: old.kv.mod_revision,
            put: None,
        })
    }));
    steps
}

fn is_over(entry: &SnapshotEntry, time: u64) -> bool {
    entry.expires.is_some_and(|end| end <= time)
}

/// Answers with the keys of which it is not known whether they are written.
async fn write(
    store: &EtcdStore,
    mark: Revision,
    steps: Vec<Step>,
    told: &mut Told<'_>,
) -> Result<BTreeSet<Bytes>> {
    let mut unknown = BTreeSet::new();
    let of = steps.len();
    let mut done = 0;
    let mut writes = stream::iter(batches(steps))
        .map(|batch| async move {
            let keys: Vec<Bytes> = batch.iter().map(|step| step.key.clone()).collect();
            let time = now();
            let asked = batch
                .iter()
                .map(|step| Compare::ModRevision(step.key.clone(), step.found))
                .collect();
            let ops = batch.into_iter().map(|step| op(step, time)).collect();
            match fenced(store, mark, asked, ops).await {
                Ok(_) => Ok((keys.len(), Vec::new())),
                // The next pass finds out.
                Err(Error::Store(StoreError::Unknown(_))) => Ok((keys.len(), keys)),
                Err(Error::Store(source)) => Err(Error::Key {
                    key: keys
                        .first()
                        .map(|key| key.escape_ascii().to_string())
                        .unwrap_or_default(),
                    source,
                }),
                Err(error) => Err(error),
            }
        })
        .buffered(UNDER_WAY);
    while let Some(batch) = writes.next().await {
        let (size, not_known) = batch?;
        unknown.extend(not_known);
        done += size;
        told(format!("writing: {done} of {of} keys"));
    }
    Ok(unknown)
}

/// Does something as long as the mark is of a revision. Answers with the revision that it made.
async fn fenced(
    store: &EtcdStore,
    revision: Revision,
    mut compare: Vec<Compare>,
    success: Vec<Op>,
) -> Result<Revision> {
    compare.push(Compare::ModRevision(key(MIGRATION), revision));
    let txn = Txn {
        compare,
        success,
        failure: Vec::new(),
    };
    let answer = store.txn(txn).await?;
    if answer.succeeded {
        return Ok(answer.revision);
    }
    Err(disturbed())
}

fn disturbed() -> Error {
    Error::Differs(
        "somebody else writes below the prefix in etcd, or migrates into it: stop that, and run this again"
            .to_owned(),
    )
}

fn op(step: Step, time: u64) -> Op {
    let Step { key, put, .. } = step;
    match put {
        Some((value, expires)) => Op::Put {
            key,
            value,
            ttl: expires.map(|end| time_to_live(end.saturating_sub(time))),
        },
        None => Op::Delete { key },
    }
}

/// Seconds to live, of the milliseconds that are left.
fn time_to_live(left: u64) -> u64 {
    let seconds = left.div_ceil(1000).max(1);
    if seconds > 100 {
        seconds.next_multiple_of(GRAIN)
    } else {
        seconds
    }
}

fn batches(steps: Vec<Step>) -> Vec<Vec<Step>> {
    let mut batches: Vec<Vec<Step>> = Vec::new();
    let mut bytes = 0;
    for step in steps {
        let size = step.key.len() + step.put.as_ref().map_or(0, |(value, _)| value.len());
        match batches.last_mut() {
            Some(batch) if batch.len() < CHANGES && bytes + size <= BYTES => {
                bytes += size;
                batch.push(step);
            }
            _ => {
                bytes = size;
                batches.push(vec![step]);
            }
        }
    }
    batches
}

/// Compares what etcd holds with the source. Keys that expire must be there as long as they are to live.
async fn compare(
    store: &EtcdStore,
    source: &Inventory,
    entries: &[SnapshotEntry],
    told: &mut Told<'_>,
) -> Result<Inventory> {
    let snapshot = store.snapshot().await?;
    let target = Inventory::of(snapshot, |seen, of| {
        told(format!("comparing: {seen} of {of} keys"))
    })
    .await?;
    let time = now();
    let missing = entries.iter().find(|entry| {
        let name = || entry.kv.key.escape_ascii().to_string();
        entry.expires.is_some_and(|end| end > time) && !target.expiring.contains_key(&name())
    });
    let found = match missing {
        Some(entry) => Err(format!(
            "the key {}, which expires, is missing",
            entry.kv.key.escape_ascii()
        )),
        None => source.check(&target, false).map_err(|d| d.to_string()),
    };
    match found {
        Ok(()) => Ok(target),
        Err(why) => Err(Error::Differs(format!(
            "etcd does not hold what was copied: {why} (source: {source}; target: {target})"
        ))),
    }
}

fn key(name: &'static str) -> Bytes {
    Bytes::from_static(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use trimtab_apiserver_storage::KeyValue;

    use super::*;

    fn entry(key: &str, value: &str, revision: Revision, expires: Option<u64>) -> SnapshotEntry {
        let kv = KeyValue {
            key: key.to_owned().into(),
            value: value.to_owned().into(),
            create_revision: 2,
            mod_revision: revision,
        };
        SnapshotEntry { kv, expires }
    }

    #[test]
    fn only_what_differs_is_written_and_only_what_was_found_is_replaced() {
        let never = Some(u64::MAX);
        let wanted = [
            entry("a", "1", 5, None),
            entry("b", "1", 5, None),
            entry("c", "1", 5, None),
            entry("e", "1", 5, never),
            entry("f", "1", 5, never),
            entry("gone", "1", 5, Some(1)),
            entry("lived", "1", 5, Some(1)),
            entry("t", "1", 5, never),
        ];
        let found = [
            entry("b", "1", 31, None),
            entry("c", "0", 32, None),
            entry("e", "1", 33, Some(u64::MAX - 5)),
            entry("f", "1", 37, Some(u64::MAX - 5000)),
            entry("lived", "1", 34, Some(1)),
            entry("more", "1", 35, None),
            entry("t", "1", 36, None),
        ];
        let shown: Vec<String> = differences(&wanted, &found)
            .into_iter()
            .map(|s| {
                let what = if s.put.is_some() { "put" } else { "delete" };
                format!("{what} {}@{}", s.key.escape_ascii(), s.found)
            })
            .collect();
        assert_eq!(
            shown,
            ["put a@0", "put c@32", "put f@37", "put t@36", "delete more@35"]
        );
    }

    #[test]
    fn what_others_have_done_is_told_apart_from_what_was_not_acknowledged() {
        let unknown = BTreeSet::from([Bytes::from("lost")]);
        for (key, put, wanted) in [
            ("lost", Some(None), false),
            ("changed", Some(None), true),
            ("event", Some(Some(7)), false),
            ("more", None, true),
            ("lost", None, true),
        ] {
            let step = Step {
                key: key.into(),
                found: 3,
                put: put.map(|expires| ("v".into(), expires)),
            };
            assert_eq!(is_others(&step, &unknown), wanted, "{key} {put:?}");
        }
    }

    #[test]
    fn transactions_stay_within_what_etcd_takes() {
        let step = |size: usize| Step {
            key: "k".into(),
            found: 0,
            put: Some((vec![0; size].into(), None)),
        };
        for (sizes, wanted) in [
            (vec![1; 61], vec![30, 30, 1]),
            (vec![BYTES / 2; 3], vec![1, 1, 1]),
            (vec![3 * BYTES, 1, 1, 3 * BYTES], vec![1, 2, 1]),
            (vec![], vec![]),
        ] {
            let steps = sizes.iter().map(|size| step(*size)).collect();
            let got: Vec<usize> = batches(steps).iter().map(Vec::len).collect();
            assert_eq!(got, wanted, "{sizes:?}");
        }
    }

    #[test]
    fn what_is_left_to_live_is_never_shortened() {
        for (left, wanted) in [
            (0, 1),
            (1, 1),
            (1000, 1),
            (1001, 2),
            (100_000, 100),
            (100_001, 110),
            (3_600_000, 3600),
        ] {
            assert_eq!(time_to_live(left), wanted, "{left}");
        }
    }
}
