//! What is large: ranges of many pages, changes that etcd tells in fragments, writes that are too much for it.

use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio::time::timeout;
use trimtab_apiserver_storage::{
    Config, Error, EtcdStore, Op, RangeRequest, Store, Txn, WatchBatch, WatchRequest, WatchStream,
};

use super::{Etcd, Settings, usual, versions};
use crate::backends::connect;
use crate::clauses;
use crate::model::Model;

/// Longer than anything here takes on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

fn quiet() -> Config {
    Config {
        compaction_window: None,
        ..Config::default()
    }
}

/// An etcd with room for four megabytes, and the store in it.
async fn narrow(version: &str) -> (Etcd, EtcdStore) {
    let settings = Settings {
        flags: vec!["--quota-backend-bytes=4000000".to_owned()],
        ..Settings::default()
    };
    let etcd = Etcd::start(version, 1, settings);
    let store = connect(&etcd, &quiet()).await;
    (etcd, store)
}

fn put(key: String, size: usize, filling: u8) -> Op {
    Op::Put {
        key: key.into(),
        value: vec![filling; size].into(),
        ttl: None,
    }
}

/// Does a transaction in the store and in the model, which must agree.
async fn both(store: &dyn Store, model: &mut Model, success: Vec<Op>) {
    let txn = Txn {
        success,
        ..Txn::default()
    };
    let wanted = model.txn(&txn);
    let got = store.txn(txn).await.expect("writes");
    assert!(
        wanted == got,
        "wanted revision {}, got {}",
        wanted.revision,
        got.revision
    );
}

/// Reads a watch until it has come to a revision.
async fn until(watch: &mut WatchStream, revision: u64) -> Vec<WatchBatch> {
    let mut batches: Vec<WatchBatch> = Vec::new();
    while batches.last().is_none_or(|batch| batch.revision < revision) {
        let next = timeout(PATIENCE, watch.next()).await.expect("comes");
        batches.push(next.expect("goes on").expect("no error"));
    }
    batches
}

#[tokio::test]
async fn ranges_of_any_size_are_of_one_revision() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let store = connect(&etcd, &quiet()).await;
        let mut model = Model::default();
        // Many small ones and a few large ones: pages of many sizes.
        for block in 0..20_u8 {
            let size = if block % 10 == 9 { 20_000 } else { 500 };
            let puts = (0..50).map(|n| put(format!("a/{block:02}/{n:02}"), size, block));
            both(&store, &mut model, puts.collect()).await;
        }
        let then = model.revision();
        let list = |limit, at: Option<u64>| {
            let mut request = RangeRequest::prefix("a/").limit(limit);
            request.revision = at;
            store.range(request)
        };
        // While it is read, it changes.
        let (all, ()) = tokio::join!(async { list(0, None).await.expect("reads") }, async {
            for n in 0..20 {
                let ops = vec![
                    put(format!("a/00/{n:02}"), 10, 255),
                    Op::Delete {
                        key: format!("a/19/{n:02}").into(),
                    },
                ];
                both(&store, &mut model, ops).await;
            }
        });
        assert!(all.revision >= then && !all.more, "{version}");
        let verdict = clauses::snapshot(&model, b"a/", all.revision, std::slice::from_ref(&all));
        assert!(verdict.is_ok(), "{version}: not of one revision");
        assert_eq!(all.count, all.kvs.len(), "{version}");
        for limit in [1, 249, 250, 251, 999, 1000, 1001] {
            let some = list(limit, Some(then)).await.expect("reads");
            let wanted = (limit.min(1000), 1000, limit < 1000, then);
            assert_eq!(
                (some.kvs.len(), some.count, some.more, some.revision),
                wanted,
                "{version}: {limit}"
            );
        }
        let mut count = RangeRequest::prefix("a/");
        count.count_only = true;
        let count = store.range(count).await.expect("reads");
        assert_eq!(
            (count.kvs.len(), count.count, count.more),
            (0, 980, false),
            "{version}"
        );
    }
}

#[tokio::test]
async fn changes_that_come_in_fragments_are_put_together() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let store = connect(&etcd, &quiet()).await;
        let mut model = Model::default();
        let mut live = store
            .watch(WatchRequest::prefix("").from(2))
            .await
            .expect("watches");
        let mut seen = Vec::new();
        // Each with what was before it is more than one message holds.
        for turn in 0..12_u8 {
            let puts = (0..10).map(|n| put(format!("{n}"), 120_000, turn));
            both(&store, &mut model, puts.collect()).await;
            if turn % 3 == 0 {
                seen.extend(until(&mut live, model.revision()).await);
            }
        }
        seen.extend(until(&mut live, model.revision()).await);
        let mut late = store
            .watch(WatchRequest::prefix("").from(2))
            .await
            .expect("watches");
        let late = until(&mut late, model.revision()).await;
        for batches in [seen, late] {
            for verdict in [
                clauses::ordered(&batches),
                clauses::unique(&batches),
                clauses::atomic(&batches),
                clauses::reliable(&model, b"", 2, &batches),
                clauses::bookmarkable(&model, b"", 2, &batches),
            ] {
                // What broke it is too long to be shown.
                let name = verdict.map_err(|e| e.chars().take(60).collect::<String>());
                assert_eq!(name, Ok(()), "{version}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_too_much_for_etcd_is_refused_by_name_and_changes_nothing() {
    let Some(version) = usual() else { return };
    let (_etcd, store) = narrow(version).await;
    let write = |ops: Vec<Op>| {
        store.txn(Txn {
            success: ops,
            ..Txn::default()
        })
    };
    let refused = write(vec![put("large".to_owned(), 3_000_000, 0)]).await;
    assert!(matches!(refused, Err(Error::TooLarge(_))), "{refused:?}");
    let many = (0..200).map(|n| put(format!("{n}"), 1, 0)).collect();
    let refused = write(many).await;
    assert!(
        matches!(&refused, Err(Error::Io(why)) if why.contains("--max-txn-ops")),
        "{refused:?}"
    );
    let mut written = 0;
    let full = loop {
        let key = format!("a/{written}");
        match write(vec![put(key.clone(), 500_000, 0)]).await {
            Ok(_) => written += 1,
            // That it has reached its quota etcd may notice when it has written already.
            Err(Error::Unknown(_)) => {
                let found = store
                    .range(RangeRequest::key(key))
                    .await
                    .expect("reads still work");
                assert_eq!(found.count, 1, "it is known that it has not happened");
                written += 1;
            }
            Err(error) => break error,
        }
        assert!(written < 100, "the quota has no effect");
    };
    assert!(
        matches!(&full, Error::Full(why) if why.contains("alarm disarm")),
        "{full:?}"
    );
    let left = store
        .range(RangeRequest::prefix(""))
        .await
        .expect("reads still work");
    assert_eq!(left.count, written);
    let empty = Bytes::new();
    let refused = write(vec![Op::Delete { key: empty }]).await;
    assert!(matches!(refused, Err(Error::Io(_))), "{refused:?}");
}

/// etcd looks whether there is room before it takes a write, and again after it has written it: of what comes at once some is
/// there of which it says that there is no room.
#[tokio::test]
async fn what_there_is_no_room_for_is_not_there() {
    let Some(version) = usual() else { return };
    let (_etcd, store) = narrow(version).await;
    let mut refused = false;
    for round in 0..100 {
        let keys: Vec<String> = (0..8).map(|n| format!("{round}/{n}")).collect();
        let writes = keys.iter().map(|key| {
            store.txn(Txn {
                success: vec![put(key.clone(), 50_000, 0)],
                ..Txn::default()
            })
        });
        let answers = futures::future::join_all(writes).await;
        for (key, answer) in keys.iter().zip(answers) {
            let found = store.range(RangeRequest::key(key.clone())).await;
            let count = found.expect("reads still work").count;
            refused |= answer.is_err();
            match answer {
                Ok(_) => assert_eq!(count, 1, "{key} was acknowledged"),
                Err(Error::Full(why)) => assert_eq!(count, 0, "{key}: {why}"),
                // It says so itself.
                Err(Error::Unknown(_)) => {}
                Err(error) => panic!("{key}: {error}"),
            }
        }
        if refused {
            return;
        }
    }
    panic!("the quota has no effect");
}
