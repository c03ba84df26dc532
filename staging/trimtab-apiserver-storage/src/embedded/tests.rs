//! Tests of the embedded store that look inside; what can be seen from outside is tested in `tests/`.

use bytes::Bytes;
use futures::StreamExt;

use super::*;
use crate::contract::{EventKind, Op};

fn put(key: &str, value: impl Into<Bytes>) -> Txn {
    let op = Op::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: value.into(),
        ttl: None,
    };
    Txn {
        success: vec![op],
        ..Txn::default()
    }
}

async fn all(store: &EmbeddedStore) -> RangeResponse {
    store.range(RangeRequest::prefix("")).await.expect("reads")
}

#[tokio::test]
async fn what_was_acknowledged_is_there_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens");
    for n in 0..5 {
        store
            .txn(put(&format!("k{}", n % 3), vec![n; 100]))
            .await
            .expect("writes");
    }
    store.compact(4).await.expect("compacts");
    let before = all(&store).await;
    drop(store);
    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens again");
    assert_eq!(all(&store).await, before);
    assert!(matches!(
        store.range(RangeRequest::prefix("").at(3)).await,
        Err(Error::Compacted { oldest: 4 })
    ));
    let mut watch = store
        .watch(WatchRequest::prefix("").from(4))
        .await
        .expect("watches");
    let batch = watch.next().await.expect("goes on").expect("no error");
    let prev: Vec<_> = batch
        .events
        .iter()
        .map(|e| e.prev.as_ref().map(|kv| kv.mod_revision))
        .collect();
    assert_eq!(prev, [None, Some(2), Some(3)]);
}

#[tokio::test]
async fn a_time_to_live_survives_reopening() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens");
    let mut txn = put("a", "");
    if let Some(Op::Put { ttl, .. }) = txn.success.first_mut() {
        *ttl = Some(1_000);
    }
    store.txn(txn).await.expect("writes");
    let expiry = store.shared.read(State::next_expiry);
    assert!(expiry.is_some());
    drop(store);
    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens");
    assert_eq!(store.shared.read(State::next_expiry), expiry);

    let mut watch = store.watch(WatchRequest::prefix("b")).await.expect("watches");
    let op = Op::Put {
        key: "b".into(),
        value: Bytes::new(),
        ttl: Some(0),
    };
    store
        .txn(Txn {
            success: vec![op],
            ..Txn::default()
        })
        .await
        .expect("writes");
    let mut kinds = Vec::new();
    while kinds.len() < 2 {
        let batch = watch.next().await.expect("goes on").expect("no error");
        kinds.extend(batch.events.iter().map(|e| e.kind));
    }
    assert_eq!(kinds, [EventKind::Put, EventKind::Delete]);
}
