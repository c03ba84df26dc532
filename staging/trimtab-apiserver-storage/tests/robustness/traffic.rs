//! Clients at work: writers, readers and a watcher on one store, each recording what it asked and what it was answered.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime};

use bytes::Bytes;
use fastrand::Rng;
use futures::StreamExt as _;
use futures::future::join_all;
use trimtab_apiserver_storage::{
    Compare, Error, Op, RangeRequest, RangeResponse, Revision, Store, Txn, TxnResponse, WatchBatch,
    WatchRequest,
};

/// Keys below this expire; no client deletes them.
pub(crate) const EXPIRING: &str = "ttl/";
/// Below this each writer says which transaction was its last.
pub(crate) const IDS: &str = "id/";
const WRITERS: u64 = 6;

/// A transaction, and what its caller knows of it.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) id: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) txn: Txn,
    /// `None` where it was refused.
    pub(crate) response: Option<TxnResponse>,
}

/// A read, and what was answered.
#[derive(Clone, Debug)]
pub(crate) struct Read {
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    pub(crate) prefix: String,
    pub(crate) response: RangeResponse,
}

/// A watch, from where it began, over all its resumptions.
#[derive(Clone, Debug)]
pub(crate) struct Watched {
    pub(crate) prefix: String,
    pub(crate) from: Revision,
    pub(crate) batches: Vec<WatchBatch>,
}

impl Watched {
    pub(crate) fn new(prefix: &str, from: Revision) -> Self {
        Self {
            prefix: prefix.to_owned(),
            from,
            batches: Vec::new(),
        }
    }

    /// The first revision that it has not been told about.
    pub(crate) fn next(&self) -> Revision {
        self.batches.last().map_or(self.from, |batch| batch.revision + 1)
    }
}

/// Everything that clients saw from one opening of the store to the next.
#[derive(Clone, Debug)]
pub(crate) struct Life {
    /// What the wall clock said when it began.
    pub(crate) now: SystemTime,
    /// The revisions that happened in it.
    pub(crate) revisions: Range<Revision>,
    pub(crate) asked: Vec<Asked>,
    pub(crate) reads: Vec<Read>,
}

/// Numbers for transactions, over all lives.
#[derive(Debug, Default)]
pub(crate) struct Ids(AtomicU64);

impl Ids {
    fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

fn put(key: String, value: String, ttl: Option<u64>) -> Op {
    Op::Put {
        key: key.into(),
        value: value.into(),
        ttl,
    }
}

/// A transaction that says who it is, if it changes anything.
fn transaction(random: &mut Rng, writer: u64, id: u64, seen: &[(Bytes, Revision)]) -> Txn {
    let mut txn = Txn::default();
    for (key, revision) in seen {
        if random.u8(0..4) == 0 {
            txn.compare.push(Compare::ModRevision(key.clone(), *revision));
        }
    }
    txn.success
        .push(put(format!("{IDS}{writer}"), id.to_string(), None));
    for _ in 0..random.usize(0..4) {
        let key = format!("shared/{}", random.u8(0..6));
        txn.success.push(match random.u8(0..8) {
            0..4 => put(
                key,
                format!("{id}:{}", "x".repeat(if random.u8(0..9) == 0 { 9000 } else { 9 })),
                None,
            ),
            4..6 => Op::Delete { key: key.into() },
            6 => put(
                format!("{EXPIRING}{}", random.u8(0..4)),
                id.to_string(),
                Some(random.u64(1000..100_000)),
            ),
            _ => Op::Get { key: key.into() },
        });
    }
    txn.failure.push(Op::Get {
        key: "shared/0".into(),
    });
    txn
}

async fn writer(store: &dyn Store, mut random: Rng, writer: u64, turns: u64, ids: &Ids) -> Vec<Asked> {
    let mut asked = Vec::new();
    let mut seen: Vec<(Bytes, Revision)> = Vec::new();
    let mut refused = 0;
    for _ in 0..turns {
        let id = ids.next();
        let txn = transaction(&mut random, writer, id, &seen);
        let began = Instant::now();
        let response = store.txn(txn.clone()).await;
        let ended = Instant::now();
        match &response {
            Ok(response) => {
                let kvs = response.kvs.iter().flatten();
                seen = kvs.map(|kv| (kv.key.clone(), kv.mod_revision)).collect();
            }
            Err(Error::Full(_) | Error::Io(_)) => refused += 1,
            Err(other) => panic!("refused in an unknown way: {other}"),
        }
        asked.push(Asked {
            id,
            began,
            ended,
            txn,
            response: response.ok(),
        });
        if refused > 8 {
            break; // the power is gone, most likely
        }
        if random.bool() {
            tokio::task::yield_now().await;
        }
    }
    asked
}

async fn reader(store: &dyn Store, mut random: Rng, turns: u64) -> Vec<Read> {
    let mut reads = Vec::new();
    for _ in 0..turns {
        let prefix = ["", "shared/", "shared/1", IDS][random.usize(0..4)];
        let began = Instant::now();
        let response = store
            .range(RangeRequest::prefix(prefix))
            .await
            .expect("reads never fail");
        reads.push(Read {
            began,
            ended: Instant::now(),
            prefix: prefix.to_owned(),
            response,
        });
        tokio::task::yield_now().await;
    }
    reads
}

/// Watches until it has seen all that there is once `last` is known, and resumes whenever it is cut off.
async fn watcher(store: &dyn Store, watched: &mut Watched, last: &tokio::sync::watch::Receiver<Revision>) {
    let mut last = last.clone();
    'resume: loop {
        let request = WatchRequest::prefix(watched.prefix.clone()).from(watched.next());
        let mut stream = store
            .watch(request)
            .await
            .expect("what it has not seen is not compacted");
        loop {
            if *last.borrow() != 0 && watched.next() > *last.borrow() {
                return;
            }
            tokio::select! {
                biased;
                batch = stream.next() => match batch.expect("an error comes first") {
                    Ok(batch) => watched.batches.push(batch),
                    Err(Error::Lagged { .. }) => continue 'resume,
                    Err(other) => panic!("Reliable: {other}"),
                },
                changed = last.changed() => {
                    changed.expect("the sender waits for this");
                    // What is quiet says how far it is when asked.
                    store.request_progress().await.expect("asks");
                }
            }
        }
    }
}

/// Compacts now and then, never beyond what all watches have seen.
async fn compactor(store: &dyn Store, mut random: Rng, turns: u64, floor: Revision) {
    for _ in 0..turns {
        for _ in 0..random.u8(1..20) {
            tokio::task::yield_now().await;
        }
        match store.compact(random.u64(1..=floor)).await {
            Ok(()) | Err(Error::Compacted { .. } | Error::Full(_) | Error::Io(_)) => {}
            Err(other) => panic!("compaction is refused in an unknown way: {other}"),
        }
    }
}

/// Lets everybody work on a store until all have had their turns or nothing goes on; `trouble` is made meanwhile.
pub(crate) async fn life(
    store: &Arc<dyn Store>,
    random: &mut Rng,
    now: SystemTime,
    watches: &mut [Watched],
    ids: &Ids,
    trouble: impl Future<Output = ()>,
) -> Life {
    let store = &**store;
    let first = store.revision().await.expect("known") + 1;
    // Of the life before all watches have seen everything.
    let floor = watches
        .iter()
        .map(Watched::next)
        .min()
        .unwrap_or(2)
        .saturating_sub(1)
        .max(1);
    let (done, last) = tokio::sync::watch::channel(0);
    let turns = random.u64(5..40);
    let writers = join_all((0..WRITERS).map(|n| writer(store, random.fork(), n, turns, ids)));
    let readers = join_all((0..2).map(|_| reader(store, random.fork(), turns)));
    let compactor = compactor(store, random.fork(), turns / 8, floor);
    let working = async {
        let (asked, reads, (), ()) = tokio::join!(writers, readers, compactor, trouble);
        let last = store.revision().await.expect("known");
        done.send_replace(last);
        (asked, reads, last)
    };
    let watching = join_all(watches.iter_mut().map(|watched| watcher(store, watched, &last)));
    let ((asked, reads, last), _) = tokio::join!(working, watching);
    Life {
        now,
        revisions: first..last + 1,
        asked: asked.into_iter().flatten().collect(),
        reads: reads.into_iter().flatten().collect(),
    }
}
