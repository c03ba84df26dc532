//! Backups: of a state that was, whatever goes on meanwhile; and stores made of them.

use std::io::Cursor;
use std::path::Path;

use futures::StreamExt as _;
use futures::future::join_all;
use trimtab_apiserver_storage::backup::{self, save};
use trimtab_apiserver_storage::embedded::{Phase, Vacant};
use trimtab_apiserver_storage::{
    Config, EmbeddedStore, Error, MemoryStore, Op, RangeRequest, Revision, Snapshot, SnapshotEntry, Store,
    WatchRequest,
};

use crate::kit::{all, config, delete, put, txn};

async fn saved(snapshot: Snapshot) -> Vec<u8> {
    let mut bytes = Vec::new();
    save(snapshot, 5, &mut bytes, |_, _| {}).await.expect("writes");
    bytes
}

async fn entries(snapshot: Snapshot) -> Vec<SnapshotEntry> {
    let parts: Vec<_> = snapshot.entries.collect().await;
    parts.into_iter().flat_map(|part| part.expect("reads")).collect()
}

fn restore(dir: &Path, bytes: &[u8], bump: u64) -> Result<Revision, backup::Error> {
    EmbeddedStore::restore(dir, Cursor::new(bytes), bump, |_, _, _| {}).map(|(_, start)| start)
}

/// A store with keys that were changed, deleted and are to expire.
async fn filled(store: &dyn Store) {
    for n in 0..300_u64 {
        let key = format!("k{:03}", n % 200);
        store
            .txn(txn([put(&key, vec![n as u8; 300])]))
            .await
            .expect("writes");
    }
    store.txn(txn([delete("k007")])).await.expect("writes");
    let expiring = Op::Put {
        key: "expiring".into(),
        value: "x".into(),
        ttl: Some(100_000),
    };
    store.txn(txn([expiring])).await.expect("writes");
}

/// What is there is what was, and what was asked with old revisions is answered so.
async fn continues(store: &dyn Store, before: &[SnapshotEntry], revision: Revision, start: Revision) {
    let now = store.snapshot().await.expect("reads");
    assert_eq!((now.revision, now.count), (start, before.len() as u64));
    assert_eq!(
        entries(now).await,
        before,
        "each key with its revisions and its expiry"
    );
    for old in [1, revision, revision + 1, start - 1]
        .into_iter()
        .filter(|old| *old < start)
    {
        let watch = store.watch(WatchRequest::prefix("").from(old)).await.err();
        assert!(
            matches!(watch, Some(Error::Compacted { oldest }) if oldest == start),
            "{old}: {watch:?}"
        );
        let read = store.range(RangeRequest::prefix("").at(old)).await;
        assert!(matches!(read, Err(Error::Compacted { .. })), "{old}: {read:?}");
    }
    let mut watch = store
        .watch(WatchRequest::prefix("").from(start))
        .await
        .expect("watches");
    let progress = watch.next().await.expect("goes on").expect("no error");
    assert_eq!(
        (progress.events.len(), progress.revision),
        (0, start),
        "nothing has happened since"
    );
    let written = store
        .txn(txn([put("k000", "new"), delete("k001")]))
        .await
        .expect("writes");
    assert_eq!(written.revision, start + 1);
    let batch = watch.next().await.expect("goes on").expect("no error");
    let prev: Vec<_> = batch
        .events
        .iter()
        .map(|e| e.prev.clone().map(|kv| kv.mod_revision))
        .collect();
    let was = |key: &str| before.iter().find(|e| e.kv.key == key).map(|e| e.kv.mod_revision);
    assert_eq!(prev, [was("k000"), was("k001")]);
    store.compact(start + 1).await.expect("compacts");
}

#[tokio::test]
async fn a_store_continues_where_its_backup_was_made() {
    let dir = tempfile::tempdir().expect("a directory");
    let original = EmbeddedStore::open(dir.path(), config()).expect("opens");
    filled(&original).await;
    let revision = original.revision().await.expect("known");
    let before = entries(original.snapshot().await.expect("reads")).await;
    let bytes = saved(original.snapshot().await.expect("reads")).await;
    drop(original);
    let closed = EmbeddedStore::read(dir.path()).expect("reads");
    assert_eq!(saved(closed).await, bytes, "the same of a store that is closed");

    for (bump, start) in [
        (0, revision + 1),
        (1, revision + 1),
        (backup::BUMP, revision + 1_000_000_000),
    ] {
        let target = dir.path().join(format!("restored-{bump}"));
        assert_eq!(restore(&target, &bytes, bump).expect("restores"), start);
        let store = EmbeddedStore::open(&target, config()).expect("opens");
        continues(&store, &before, revision, start).await;
        let after = all(&store).await;
        drop(store);
        let store = EmbeddedStore::open(&target, config()).expect("opens again");
        assert_eq!(all(&store).await, after);
        let memory = MemoryStore::restore(config(), &bytes[..], bump).expect("restores");
        continues(&memory, &before, revision, start).await;
    }
}

#[tokio::test]
async fn an_empty_store_can_be_restored() {
    let dir = tempfile::tempdir().expect("a directory");
    let bytes = saved(MemoryStore::new(config()).snapshot().await.expect("reads")).await;
    restore(&dir.path().join("new"), &bytes, 0).expect("restores");
    let store = EmbeddedStore::open(dir.path().join("new"), config()).expect("opens");
    assert_eq!(
        (store.revision().await.expect("known"), all(&store).await.count),
        (2, 0)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_of_a_state_that_was() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path().join("live"), Config::default()).expect("opens");
    // Each transaction moves what one key holds to another: the sum stays.
    let keys = || (0..10).map(|n| format!("account{n}"));
    store
        .txn(txn(keys().map(|key| put(&key, vec![10]))))
        .await
        .expect("writes");
    let transfers = join_all((0..8_usize).map(|writer| {
        let store = &store;
        async move {
            for turn in 0..60 {
                let (from, to) = (
                    format!("account{}", writer),
                    format!("account{}", (writer + turn) % 10),
                );
                loop {
                    let read = |key: &str| store.range(RangeRequest::key(key.to_owned()));
                    let (a, b) = (read(&from).await.expect("reads"), read(&to).await.expect("reads"));
                    let (a, b) = (&a.kvs[0], &b.kvs[0]);
                    if a.value[0] == 0 || from == to {
                        break;
                    }
                    let mut transfer =
                        txn([put(&from, vec![a.value[0] - 1]), put(&to, vec![b.value[0] + 1])]);
                    transfer.compare = [a, b]
                        .map(|kv| {
                            trimtab_apiserver_storage::Compare::ModRevision(kv.key.clone(), kv.mod_revision)
                        })
                        .into();
                    if store.txn(transfer).await.expect("writes").succeeded {
                        break;
                    }
                }
            }
        }
    }));
    let backups = async {
        let mut backups = Vec::new();
        for _ in 0..10 {
            let snapshot = store.snapshot().await.expect("reads");
            let revision = snapshot.revision;
            let at = store
                .range(RangeRequest::prefix("").at(revision))
                .await
                .expect("reads");
            tokio::task::yield_now().await;
            backups.push((revision, at.kvs, saved(snapshot).await));
        }
        backups
    };
    let (_, backups) = tokio::join!(transfers, backups);
    for (n, (revision, kvs, bytes)) in backups.into_iter().enumerate() {
        let target = dir.path().join(n.to_string());
        assert_eq!(restore(&target, &bytes, 0).expect("restores"), revision + 1);
        let restored = all(&EmbeddedStore::open(&target, config()).expect("opens")).await;
        assert_eq!(restored.kvs, kvs, "Snapshot: what was there at {revision}");
        assert_eq!(
            restored
                .kvs
                .iter()
                .map(|kv| usize::from(kv.value[0]))
                .sum::<usize>(),
            100
        );
    }
}

#[tokio::test]
async fn a_restore_touches_nothing_that_is_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let live = dir.path().join("live");
    let store = EmbeddedStore::open(&live, config()).expect("opens");
    filled(&store).await;
    let bytes = saved(store.snapshot().await.expect("reads")).await;
    let why = |dir: &Path, bytes: &[u8]| restore(dir, bytes, 0).expect_err("refused").to_string();
    assert!(why(&live, &bytes).ends_with("live is in use by another process"));
    drop(store);
    assert!(why(&live, &bytes).contains("live is not empty"));
    let other = dir.path().join("other");
    std::fs::create_dir(&other).expect("makes");
    std::fs::write(other.join("file"), "x").expect("writes");
    assert!(why(&other, &bytes).contains("other is not empty"));
    // What is wrong with the backup is known before anything is made.
    let new = dir.path().join("new");
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    assert!(why(&new, &damaged).contains("it is damaged at byte"));
    assert!(why(&new, &bytes[..bytes.len() - 3]).contains("it is cut off after"));
    assert!(!new.exists());
    // What an interrupted restore has left is not in the way of another, and no empty store is made in its place.
    std::fs::create_dir(&new).expect("makes");
    std::fs::write(new.join("store.redb.restoring"), "").expect("writes");
    let refused = EmbeddedStore::open(&new, config())
        .expect_err("is not whole")
        .to_string();
    assert!(refused.contains("was cut off. Run it again"), "{refused}");
    // Whoever gives up leaves nothing.
    let given_up = Vacant::find(&new).expect("nothing is there");
    drop(given_up);
    assert!(!new.join("store.redb.restoring").exists());
    std::fs::write(new.join("store.redb.restoring"), "half of it").expect("writes");
    let mut phases = Vec::new();
    let restored = EmbeddedStore::restore(&new, Cursor::new(&bytes), 0, |phase, keys, of| {
        phases.push((phase, keys, of))
    });
    restored.expect("restores");
    assert_eq!(phases.first().map(|p| p.0), Some(Phase::Checking));
    assert_eq!(phases.last(), Some(&(Phase::Writing, 200, 200)));
    let names: std::collections::BTreeSet<_> = std::fs::read_dir(&new)
        .expect("reads")
        .map(|entry| entry.expect("reads").file_name().into_string().expect("a name"))
        .collect();
    assert_eq!(
        names.into_iter().collect::<Vec<_>>(),
        ["closed", "lock", "store.redb"]
    );
}
