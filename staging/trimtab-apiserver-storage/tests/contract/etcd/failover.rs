//! Three members of which one at a time is killed or stops, under writers and watchers: the recorded history must fit
//! every clause, and work must go on.
//!
//! A write that was not answered may have happened; [`Error::Unknown`] says so. The checkers are told of it once it
//! is clear: what it would have put is unlike anything else, so the watches show whether it did.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use trimtab_apiserver_storage::{
    Compare, Config, Error, EtcdConfig, EtcdStore, Op, RangeRequest, Store, Txn, TxnResponse, WatchBatch,
    WatchRequest,
};

use super::{Etcd, Settings, usual};
use crate::backends::connect;
use crate::clauses::{self, Call};

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);
const WRITERS: usize = 4;

/// What a writer did: calls that were answered, and those of which nobody knows.
#[derive(Default)]
struct Written {
    calls: Vec<Call>,
    unknown: Vec<(Instant, Instant, Txn)>,
}

struct Run {
    etcd: Etcd,
    store: Arc<dyn Store>,
    stop: Arc<AtomicBool>,
    /// How many writes have been acknowledged.
    done: Arc<AtomicUsize>,
    writers: Vec<JoinHandle<Written>>,
    watches: Vec<(&'static str, JoinHandle<Vec<WatchBatch>>)>,
}

/// Read-modify-write of a counter and of keys of one's own, until told to stop.
async fn write(
    store: Arc<dyn Store>,
    id: usize,
    counter: Bytes,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
) -> Written {
    let mut written = Written::default();
    for turn in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Ok(read) = store.range(RangeRequest::key(counter.clone())).await else {
            continue;
        };
        let seen = read.kvs.first().map_or(0, |kv| kv.mod_revision);
        let put = |key: Bytes| Op::Put {
            key,
            value: Bytes::from(format!("{id} {turn}")),
            ttl: None,
        };
        let txn = Txn {
            compare: vec![Compare::ModRevision(counter.clone(), seen)],
            success: vec![put(counter.clone()), put(format!("own/{id}/{}", turn % 3).into())],
            failure: vec![Op::Get { key: counter.clone() }],
        };
        let began = Instant::now();
        let answer = store.txn(txn.clone()).await;
        let ended = Instant::now();
        match answer {
            Ok(response) => {
                done.fetch_add(usize::from(response.succeeded), Ordering::Relaxed);
                written.calls.push(Call {
                    began,
                    ended,
                    txn,
                    response,
                });
            }
            Err(Error::Unknown(_)) => written.unknown.push((began, ended, txn)),
            // Then nothing has changed, which the clauses hold it to.
            Err(_) => {}
        }
    }
    written
}

async fn watch(store: Arc<dyn Store>, prefix: &'static str) -> Vec<WatchBatch> {
    let request = WatchRequest::prefix(prefix).from(2);
    let mut watch = store.watch(request).await.expect("watches");
    let mut batches = Vec::new();
    loop {
        match watch.next().await.expect("ends with a word") {
            Ok(batch) => batches.push(batch),
            Err(Error::Closed) => return batches,
            Err(error) => panic!("{prefix}: {error}"),
        }
    }
}

impl Run {
    /// Writers of one counter, who may ask any of three members.
    async fn start(version: &str) -> Self {
        let etcd = Etcd::start(version, 3, Settings::default());
        let urls = etcd.urls();
        Self::of(etcd, urls, WRITERS, |_| Bytes::from("shared/counter")).await
    }

    async fn of(etcd: Etcd, urls: Vec<String>, writers: usize, counter: fn(usize) -> Bytes) -> Self {
        let mut config = EtcdConfig::new(urls);
        config.compaction_interval = None;
        config.progress_interval = Duration::from_millis(200);
        let store: Arc<dyn Store> = Arc::new(EtcdStore::connect(config).await.expect("connects"));
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let writers = (0..writers)
            .map(|id| tokio::spawn(write(store.clone(), id, counter(id), stop.clone(), done.clone())));
        let writers = writers.collect();
        let watches =
            ["", "own/1", "shared/"].map(|prefix| (prefix, tokio::spawn(watch(store.clone(), prefix))));
        let run = Self {
            etcd,
            store,
            stop,
            done,
            writers,
            watches: watches.into(),
        };
        run.goes_on().await;
        run
    }

    /// Waits for more writes to be acknowledged.
    async fn goes_on(&self) {
        let wanted = self.done.load(Ordering::Relaxed) + 20;
        let going = async {
            while self.done.load(Ordering::Relaxed) < wanted {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, going).await.expect("writes go on");
    }

    async fn leader(&self) -> usize {
        let asking = async {
            loop {
                if let Some(leader) = self.etcd.leader() {
                    return leader;
                }
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, asking).await.expect("somebody leads")
    }

    /// Ends everything and holds it to the clauses.
    async fn judge(self) {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Written::default();
        for writer in self.writers {
            let writer = timeout(PATIENCE, writer).await.expect("ends").expect("no panic");
            written.calls.extend(writer.calls);
            written.unknown.extend(writer.unknown);
        }
        let all = self.store.range(RangeRequest::prefix("")).await.expect("reads");
        // Watches say how far they are, so they have come to the end when they say so.
        self.store.request_progress().await.expect("asks");
        sleep(Duration::from_millis(500)).await;
        self.store.close().await.expect("closes");
        let mut seen = Vec::new();
        for (prefix, watch) in self.watches {
            let batches = timeout(PATIENCE, watch).await.expect("ends").expect("no panic");
            seen.push((prefix, batches));
        }
        let everything = &seen[0].1;
        let mut calls = written.calls;
        calls.extend(clear_up(written.unknown, everything));
        let model = clauses::linearizable(&calls).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(clauses::durable(&model, &all), Ok(()));
        for (prefix, batches) in &seen {
            let bytes = prefix.as_bytes();
            for verdict in [
                clauses::ordered(batches),
                clauses::unique(batches),
                clauses::atomic(batches),
                clauses::reliable(&model, bytes, 2, batches),
                clauses::bookmarkable(&model, bytes, 2, batches),
            ] {
                assert_eq!(verdict, Ok(()), "{prefix:?}");
            }
            let events = model.events(bytes, 2, model.revision());
            let last = events.last().map(|event| event.kv.mod_revision);
            assert!(
                batches.last().map(|batch| batch.revision) >= last,
                "{prefix:?}: Reliable up to the end: {last:?}"
            );
        }
    }
}

/// Of the calls that were not answered, those that happened, as they would have been answered.
fn clear_up(unknown: Vec<(Instant, Instant, Txn)>, everything: &[WatchBatch]) -> Vec<Call> {
    let events = everything.iter().flat_map(|batch| &batch.events);
    let by_value: HashMap<(Bytes, Bytes), _> = events
        .map(|e| ((e.kv.key.clone(), e.kv.value.clone()), e.kv.clone()))
        .collect();
    let happened = unknown.into_iter().filter_map(|(began, _, txn)| {
        let kvs: Vec<_> = txn
            .success
            .iter()
            .map(|op| match op {
                Op::Put { key, value, .. } => by_value.get(&(key.clone(), value.clone())).cloned(),
                Op::Delete { .. } | Op::Get { .. } => None,
            })
            .collect();
        let revision = kvs.first()?.as_ref()?.mod_revision;
        Some(Call {
            began,
            // It may have happened long after it was given up.
            ended: Instant::now(),
            txn,
            response: TxnResponse {
                succeeded: true,
                revision,
                kvs,
            },
        })
    });
    happened.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_member_may_die_and_come_back() {
    let Some(version) = usual() else { return };
    let mut run = Run::start(version).await;
    for member in 0..3 {
        run.etcd.kill(member);
        run.goes_on().await;
        run.etcd.restart(member);
        // The next one must not die before this one is there.
        run.leader().await;
        run.goes_on().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_may_die_and_be_succeeded() {
    let Some(version) = usual() else { return };
    let mut run = Run::start(version).await;
    for _ in 0..2 {
        let leader = run.leader().await;
        run.etcd.kill(leader);
        run.goes_on().await;
        run.etcd.restart(leader);
        run.goes_on().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_stands_still_holds_up_nobody_for_long() {
    let Some(version) = usual() else { return };
    let run = Run::start(version).await;
    for member in 0..3 {
        run.etcd.signal(member, "-STOP");
        run.goes_on().await;
        run.etcd.signal(member, "-CONT");
        run.leader().await;
        run.goes_on().await;
    }
    run.judge().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_whose_answer_is_lost_is_done_once_or_not_at_all() {
    let Some(version) = usual() else { return };
    let etcd = Etcd::start(version, 3, Settings::default());
    // One member is asked, so that it dies with answers in its hands, which the others have agreed on.
    let urls = etcd.urls().into_iter().take(1).collect();
    let mut run = Run::of(etcd, urls, 16, |id| format!("shared/{id:02}").into()).await;
    for _ in 0..12 {
        run.etcd.kill(0);
        run.etcd.restart(0);
        run.goes_on().await;
    }
    run.judge().await;
}

#[tokio::test]
async fn without_a_majority_calls_end_with_an_error_that_says_so() {
    let Some(version) = usual() else { return };
    let mut etcd = Etcd::start(version, 3, Settings::default());
    let store = connect(&etcd, &Config::default()).await;
    etcd.kill(0);
    etcd.kill(1);
    let read = timeout(PATIENCE, store.range(RangeRequest::key("a")));
    let write = timeout(
        PATIENCE,
        store.txn(Txn {
            success: vec![Op::Delete { key: "a".into() }],
            ..Txn::default()
        }),
    );
    let (read, write) = tokio::join!(read, write);
    let read = read.expect("is answered").expect_err("nobody can know");
    assert!(
        matches!(&read, Error::Io(why) if why.contains("etcd at http")),
        "{read}"
    );
    let write = write.expect("is answered").expect_err("nobody can do it");
    assert!(
        matches!(&write, Error::Io(why) | Error::Unknown(why) if why.contains("etcd at http")),
        "{write}"
    );
    etcd.restart(0);
    let back = async { while store.range(RangeRequest::key("a")).await.is_err() {} };
    timeout(PATIENCE, back).await.expect("reads again");
}
