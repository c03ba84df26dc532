//! The worked example of the contract's documentation, line by line.

use bytes::Bytes;
use futures::StreamExt;
use trimtab_apiserver_storage::{
    Compare, Config, Error, EventKind, Op, RangeRequest, Store, Txn, WatchRequest,
};

use crate::backends::all;

pub(crate) fn put(key: &str, value: &str) -> Op {
    Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ttl: None,
    }
}

pub(crate) fn delete(key: &str) -> Op {
    Op::Delete {
        key: Bytes::copy_from_slice(key.as_bytes()),
    }
}

pub(crate) async fn run(store: &dyn Store, ops: impl IntoIterator<Item = Op>) -> u64 {
    let txn = Txn {
        success: ops.into_iter().collect(),
        ..Txn::default()
    };
    store.txn(txn).await.expect("writes").revision
}

async fn show(store: &dyn Store, revision: u64) -> String {
    let range = store
        .range(RangeRequest::prefix("").at(revision))
        .await
        .expect("readable");
    let show = |kv: &trimtab_apiserver_storage::KeyValue| {
        let (key, value) = (
            String::from_utf8_lossy(&kv.key),
            String::from_utf8_lossy(&kv.value),
        );
        format!("{key}={value} ({}, {})", kv.create_revision, kv.mod_revision)
    };
    range.kvs.iter().map(show).collect::<Vec<_>>().join(" ")
}

async fn watched(store: &dyn Store, from: u64) -> Vec<(EventKind, u64, Option<Bytes>)> {
    let mut watch = store
        .watch(WatchRequest::prefix("a").from(from))
        .await
        .expect("watches");
    let batch = watch.next().await.expect("goes on").expect("no error");
    batch
        .events
        .into_iter()
        .map(|e| (e.kind, e.kv.mod_revision, e.prev.map(|kv| kv.value)))
        .collect()
}

#[tokio::test]
async fn the_worked_example_holds() {
    for backend in all() {
        let mut subject = backend.open(Config::default()).await;
        let store = subject.store.clone();
        assert_eq!(store.revision().await.expect("known"), 1);
        assert_eq!(run(&*store, [put("a", "1")]).await, 2);
        assert_eq!(run(&*store, [put("b", "1"), put("a", "2")]).await, 3);
        assert_eq!(run(&*store, [delete("a")]).await, 4);
        assert_eq!(run(&*store, [put("a", "3")]).await, 5);

        assert_eq!(show(&*store, 1).await, "");
        assert_eq!(show(&*store, 2).await, "a=1 (2, 2)");
        assert_eq!(show(&*store, 3).await, "a=2 (2, 3) b=1 (3, 3)");
        assert_eq!(show(&*store, 4).await, "b=1 (3, 3)");
        assert_eq!(show(&*store, 5).await, "a=3 (5, 5) b=1 (3, 3)");
        let future = store.range(RangeRequest::prefix("").at(6)).await;
        assert!(
            matches!(future, Err(Error::Future { asked: 6, current: 5 })),
            "{future:?}"
        );

        let stale = Txn {
            compare: vec![Compare::ModRevision("a".into(), 4)],
            success: vec![delete("a")],
            ..Txn::default()
        };
        let response = store.txn(stale).await.expect("answers");
        assert!(!response.succeeded && response.revision == 5);

        let (two, one) = (Some(Bytes::from("2")), Some(Bytes::from("1")));
        let all = vec![
            (EventKind::Put, 3, one),
            (EventKind::Delete, 4, two),
            (EventKind::Put, 5, None),
        ];
        assert_eq!(watched(&*store, 3).await, all);

        store.compact(4).await.expect("compacts");
        drop(store);
        for _ in 0..2 {
            let store = subject.store.clone();
            assert_eq!(show(&*store, 4).await, "b=1 (3, 3)");
            let compacted = store.range(RangeRequest::prefix("").at(3)).await;
            assert!(
                matches!(compacted, Err(Error::Compacted { oldest: 4 })),
                "{compacted:?}"
            );
            assert_eq!(watched(&*store, 4).await, all[1..]);
            let compacted = store.watch(WatchRequest::prefix("a").from(3)).await.map(drop);
            assert!(
                matches!(compacted, Err(Error::Compacted { oldest: 4 })),
                "{compacted:?}"
            );
            let again = store.compact(4).await;
            assert!(matches!(again, Err(Error::Compacted { oldest: 4 })), "{again:?}");
            drop(store);
            subject.reopen().await;
        }
    }
}
