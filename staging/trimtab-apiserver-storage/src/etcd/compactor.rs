//! Compaction at intervals, by one of all API servers on an etcd: ours and kube-apiservers take turns.
//!
//! The protocol is kube-apiserver's. The version of a key is a clock that all of them read; whoever advances it
//! from the time that it knows compacts to the revision that it saw when it last looked, an interval ago. The others
//! learn the new time. If the one that did it dies, another is the first to advance the clock.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::sleep;

use super::client::Kind;
use super::status::is_compacted;
use super::wire::{self, compare, request, response};
use super::{Inner, as_i64};
use crate::contract::{Result, Revision};

/// The key, which has no prefix.
pub(crate) const KEY: &[u8] = b"compact_rev_key";

/// Where the clock was when we last looked, and the store's revision then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    time: i64,
    revision: Revision,
}

/// Compacts until it is aborted.
pub(super) async fn run(inner: Arc<Inner>, interval: Duration) {
    let mut seen = Seen::default();
    loop {
        sleep(interval).await;
        match turn(&inner, seen).await {
            Ok(now) => seen = now,
            Err(error) => tracing::warn!(%error, "cannot compact etcd"),
        }
    }
}

/// Advances the clock and compacts, or learns that another did.
pub(super) async fn turn(inner: &Inner, seen: Seen) -> Result<Seen> {
    let txn = wire::Txn {
        compare: vec![wire::Compare {
            result: 0,
            target: compare::VERSION,
            key: Bytes::from_static(KEY),
            value: Some(compare::Value::Version(seen.time)),
        }],
        success: vec![wire::Request {
            kind: Some(request::Kind::Put(wire::Put {
                key: Bytes::from_static(KEY),
                value: seen.revision.to_string().into(),
                lease: 0,
            })),
        }],
        failure: vec![
            wire::Range {
                key: KEY.to_vec(),
                ..wire::Range::default()
            }
            .into(),
        ],
    };
    let answer: wire::TxnAnswer = inner.client.call(wire::path::TXN, Kind::Write, &txn).await?;
    let revision = inner.saw(answer.header.as_ref());
    if !answer.succeeded {
        let found = answer.responses.into_iter().next().and_then(|r| r.kind);
        let time = match found {
            Some(response::Kind::Range(range)) => range.kvs.first().map_or(0, |kv| kv.version),
            _ => 0,
        };
        return Ok(Seen { time, revision });
    }
    let now = Seen {
        time: seen.time + 1,
        revision,
    };
    // The first time nothing is known to be an interval old.
    if seen.revision == 0 {
        return Ok(now);
    }
    let request = wire::Compaction {
        revision: as_i64(seen.revision),
    };
    let done: Result<wire::Empty, _> = inner.client.call(wire::path::COMPACT, Kind::Read, &request).await;
    match done {
        Ok(wire::Empty {}) => tracing::debug!(revision = seen.revision, "compacted etcd"),
        // Somebody who is not of the protocol was faster.
        Err(failure) if is_compacted(&failure.status) => {}
        Err(failure) => {
            // The clock has been advanced all the same.
            tracing::warn!(error = %crate::contract::Error::from(failure), "cannot compact etcd");
            return Ok(now);
        }
    }
    inner.compacted_to(seen.revision + 1);
    Ok(now)
}
