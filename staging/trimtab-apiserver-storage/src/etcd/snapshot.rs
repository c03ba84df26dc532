//! Snapshots of what is in etcd: pages of one revision, and when what is under leases ends.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use futures::{StreamExt as _, stream};

use super::client::Kind;
use super::txn::key_value;
use super::{Inner, as_i64, compactor, wire};
use crate::contract::{Result, Revision, Snapshot, SnapshotEntry};
use crate::keeper::Clock;

/// How many keys a page asks for, unless they are too large for one answer.
const PAGE: usize = 500;

/// Where a snapshot is.
struct Reading {
    inner: Arc<Inner>,
    /// The next page to ask for.
    page: wire::Range,
    /// Of the leases that were met: when each ends, in milliseconds since 1970.
    ends: HashMap<i64, u64>,
    more: bool,
}

impl Inner {
    /// All keys below the root; without one, all that etcd has, but for the key by which servers take turns to compact.
    /// `at` is the revision, the current one if `None`; without `values` they are left out.
    pub(super) async fn snapshot(self: &Arc<Self>, at: Option<Revision>, values: bool) -> Result<Snapshot> {
        let (key, range_end) = self.root.all();
        let page = wire::Range {
            key,
            range_end,
            limit: PAGE as i64,
            revision: at.map_or(0, as_i64),
            keys_only: !values,
            ..wire::Range::default()
        };
        let mut reading = Reading {
            inner: self.clone(),
            page,
            ends: HashMap::new(),
            more: true,
        };
        let answer = self.ask(&mut reading.page).await?;
        let revision = at.unwrap_or_else(|| wire::revision(answer.header.as_ref()));
        let mut count = u64::try_from(answer.count).unwrap_or(0);
        if reading.has(compactor::KEY) && self.exists(compactor::KEY, revision).await? {
            count -= 1;
        }
        // Every page is of the first one's revision.
        reading.page.revision = as_i64(revision);
        let first = reading.take(answer).await?;
        let rest = stream::try_unfold(reading, |mut reading| async move {
            if !reading.more {
                return Ok(None);
            }
            let answer = reading.inner.ask(&mut reading.page).await?;
            let entries = reading.take(answer).await?;
            Ok(Some((entries, reading)))
        });
        let all = stream::once(async { Ok(first) }).chain(rest);
        let entries = all.filter(|part| std::future::ready(!part.as_ref().is_ok_and(Vec::is_empty)));
        Ok(Snapshot {
            revision,
            count,
            entries: entries.boxed(),
        })
    }

    async fn exists(&self, key: &[u8], revision: Revision) -> Result<bool> {
        let range = wire::Range {
            key: key.to_vec(),
            revision: as_i64(revision),
            count_only: true,
            ..wire::Range::default()
        };
        let answer: wire::RangeAnswer = self.client.call(wire::path::RANGE, Kind::Read, &range).await?;
        Ok(answer.count > 0)
    }
}

impl Reading {
    /// Whether a key of etcd's is in the range.
    fn has(&self, key: &[u8]) -> bool {
        let open = self.page.range_end == [0];
        key >= &self.page.key[..] && (open || key < &self.page.range_end[..])
    }

    /// The entries of a page.
    async fn take(&mut self, answer: wire::RangeAnswer) -> Result<Vec<SnapshotEntry>> {
        if let Some(last) = answer.kvs.last() {
            self.page.key = [&last.key[..], &[0]].concat();
        }
        self.more = answer.more && !answer.kvs.is_empty();
        let mut entries = Vec::with_capacity(answer.kvs.len());
        for kv in answer.kvs {
            if kv.key == compactor::KEY {
                continue;
            }
            let expires = match kv.lease {
                0 => None,
                lease => Some(self.end_of(lease).await?),
            };
            let key = self.inner.root.ours(kv.key.clone());
            entries.push(SnapshotEntry {
                kv: key_value(key, kv),
                expires,
            });
        }
        Ok(entries)
    }

    /// When a lease ends. One that has ended meanwhile has ended now.
    async fn end_of(&mut self, lease: i64) -> Result<u64> {
        if let Some(end) = self.ends.get(&lease) {
            return Ok(*end);
        }
        let asked = wire::LeaseTimeToLive { id: lease };
        let answer: wire::LeaseAnswer = self
            .inner
            .client
            .call(wire::path::LEASE_TIME_TO_LIVE, Kind::Read, &asked)
            .await?;
        let left = u64::try_from(answer.ttl).unwrap_or(0);
        let now = Clock::start(SystemTime::now()).now();
        let end = now.saturating_add(left.saturating_mul(1000));
        self.ends.insert(lease, end);
        Ok(end)
    }
}
