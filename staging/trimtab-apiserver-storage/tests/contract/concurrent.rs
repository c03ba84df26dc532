//! Many writers and watchers at once: the recorded history must fit every clause.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::oneshot;
use trimtab_apiserver_storage::{Compare, Config, Op, RangeRequest, Store, Txn, WatchBatch, WatchRequest};

use crate::backends::all;
use crate::clauses::{self, Call};

const WRITERS: u8 = 8;
const TURNS: u8 = 30;

/// Read-modify-write on a shared counter and writes of one's own, each recorded.
async fn writer(store: Arc<dyn Store>, id: u8) -> Vec<Call> {
    let counter = Bytes::from("shared/counter");
    let mut calls = Vec::new();
    for turn in 0..TURNS {
        let read = store
            .range(RangeRequest::key(counter.clone()))
            .await
            .expect("reads");
        let seen = read.kvs.first().map_or(0, |kv| kv.mod_revision);
        let own = Bytes::from(format!("own/{}", id.wrapping_add(turn) % 5));
        let txn = Txn {
            compare: vec![Compare::ModRevision(counter.clone(), seen)],
            success: vec![
                Op::Put {
                    key: counter.clone(),
                    value: Bytes::from(vec![id, turn]),
                    ttl: None,
                },
                if turn % 3 == 0 {
                    Op::Delete { key: own }
                } else {
                    Op::Put {
                        key: own,
                        value: Bytes::from("x"),
                        ttl: None,
                    }
                },
            ],
            failure: vec![Op::Get { key: counter.clone() }],
        };
        let began = Instant::now();
        let response = store.txn(txn.clone()).await.expect("writes");
        calls.push(Call {
            began,
            ended: Instant::now(),
            txn,
            response,
        });
    }
    calls
}

/// Watches until the store is closed, and tells `begun` when it has begun.
async fn watcher(
    store: Arc<dyn Store>,
    prefix: &'static str,
    from: u64,
    begun: oneshot::Sender<()>,
) -> Vec<WatchBatch> {
    let mut watch = store
        .watch(WatchRequest::prefix(prefix).from(from))
        .await
        .expect("watches");
    let _ = begun.send(());
    let mut batches = Vec::new();
    while let Some(Ok(batch)) = watch.next().await {
        batches.push(batch);
    }
    batches
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_concurrent_history_fits_every_clause() {
    for backend in all() {
        let subject = backend.open(Config::default()).await;
        let mut watches: Vec<_> = [("", 1), ("own/", 2), ("shared/", 1), ("own/1", 9)]
            .map(|(prefix, from)| {
                let (begun, has_begun) = oneshot::channel();
                let watch = tokio::spawn(watcher(subject.store.clone(), prefix, from, begun));
                (prefix, from, has_begun, watch)
            })
            .into();
        let writers: Vec<_> = (0..WRITERS)
            .map(|id| tokio::spawn(writer(subject.store.clone(), id)))
            .collect();
        let mut calls = Vec::new();
        for writer in writers {
            calls.extend(writer.await.expect("no panic"));
        }
        let model = clauses::linearizable(&calls).unwrap_or_else(|e| panic!("{backend:?}: {e}"));
        let all = subject
            .store
            .range(RangeRequest::prefix(""))
            .await
            .expect("reads");
        assert_eq!(clauses::durable(&model, &all), Ok(()), "{backend:?}");
        // The writers may be done before a watcher had its first turn, and a closed store begins no watch.
        for (.., has_begun, _) in &mut watches {
            has_begun.await.expect("watches");
        }
        subject.store.close().await.expect("closes");
        for (prefix, from, _, watch) in watches {
            let batches = watch.await.expect("no panic");
            let prefix = prefix.as_bytes();
            for verdict in [
                clauses::ordered(&batches),
                clauses::unique(&batches),
                clauses::atomic(&batches),
                clauses::reliable(&model, prefix, from, &batches),
                clauses::bookmarkable(&model, prefix, from, &batches),
            ] {
                assert_eq!(verdict, Ok(()), "{backend:?}");
            }
            let last = batches
                .iter()
                .flat_map(|b| &b.events)
                .map(|e| e.kv.mod_revision)
                .max();
            let wanted = model
                .events(prefix, from, model.revision())
                .last()
                .map(|e| e.kv.mod_revision);
            assert_eq!(last, wanted, "{backend:?}: Reliable up to the end");
        }
    }
}
