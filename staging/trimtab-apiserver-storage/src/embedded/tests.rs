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

/// An engine on the file in a directory, as a process finds it that starts now.
fn engine(dir: &std::path::Path) -> (Engine, State, Vec<Garbage>) {
    let file = dir.join("rows");
    let disk = FileDisk::open(&file, dir.join("doubt")).expect("opens");
    let medium = Medium::new(Arc::new(disk)).expect("owes nothing");
    Engine::open("rows".to_owned(), medium).expect("opens")
}

/// Wherever the removal of compacted rows is interrupted, what is found is the same: above all, nothing that was deleted.
#[test]
fn compacted_rows_can_be_removed_in_part() {
    for (delete_at, again) in [(2, false), (3, false), (3, true)] {
        let dir = tempfile::tempdir().expect("a directory");
        let (mut engine_, mut state, _) = engine(dir.path());
        for turn in 0..5_u8 {
            let ops = ["a", "b"].into_iter().flat_map(|key| match turn.cmp(&delete_at) {
                std::cmp::Ordering::Less => put(key, vec![turn]).success,
                std::cmp::Ordering::Equal => vec![Op::Delete {
                    key: Bytes::from_static(key.as_bytes()),
                }],
                std::cmp::Ordering::Greater if again => put(key, vec![turn]).success,
                std::cmp::Ordering::Greater => put("other", vec![turn]).success,
            });
            let mut draft = crate::draft::Draft::default();
            let txn = Txn {
                success: ops.collect(),
                ..Txn::default()
            };
            draft.txn(&state, txn, 0);
            engine_
                .write(state.revision(), &draft.commits, &[])
                .expect("writes");
            draft.commits.into_iter().for_each(|commit| state.apply(commit));
        }
        engine_.set_oldest(state.revision(), 6).expect("writes");
        let garbage = state.compact(6).expect("compacts");
        assert!(garbage.len() > 4, "{garbage:?}");
        for row in &garbage {
            engine_
                .write(state.revision(), &[], std::slice::from_ref(row))
                .expect("writes");
            drop(engine_);
            let (again, found, left) = engine(dir.path());
            engine_ = again;
            let everything = RangeRequest::prefix("");
            assert_eq!(
                found.range(&everything).ok(),
                state.range(&everything).ok(),
                "after {row:?}"
            );
            let history = |state: &State| state.commits_from(6).cloned().collect::<Vec<_>>();
            assert_eq!(history(&found), history(&state), "after {row:?}");
            // What is left is told in an order that will do as well.
            let deleted = |row: &Garbage| {
                left.iter()
                    .filter(|other| other.key == row.key)
                    .all(|other| other.revision <= row.revision)
            };
            let last = ["a", "b"].map(|key| left.iter().rev().find(|row| row.key == key));
            assert!(last.iter().flatten().all(|row| deleted(row)), "{left:?}");
        }
    }
}
