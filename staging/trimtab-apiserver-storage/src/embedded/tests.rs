//! Tests of the embedded store on its file: reopening, crashes, damage, a full disk.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use proptest::prelude::*;
use redb::StorageBackend;

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

/// A disk in memory: what was written since the last sync may be lost in a crash, in part and in any order.
#[derive(Clone, Debug, Default)]
struct Disk(Arc<Mutex<DiskState>>);

#[derive(Debug, Default)]
struct DiskState {
    /// As the process sees it.
    seen: Vec<u8>,
    synced: Vec<u8>,
    since: Vec<(u64, Vec<u8>)>,
    /// Writes and growth beyond this fail.
    room: Option<usize>,
    /// So many syncs succeed before one fails.
    syncs_left: Option<usize>,
}

impl Disk {
    fn opener(&self) -> Opener {
        let disk = self.clone();
        Box::new(move || {
            let mut builder = redb::Builder::new();
            builder
                .set_cache_size(1 << 20)
                .set_check_integrity_on_open(true)
                .create_with_backend(disk.clone())
        })
    }

    fn open(&self) -> Result<EmbeddedStore> {
        EmbeddedStore::start("disk".to_owned(), self.opener(), Config::default(), ())
    }

    /// What is on the disk after a power cut: of the writes since the last sync, those that `kept` picks.
    fn crashed(&self, mut kept: impl FnMut() -> bool) -> Self {
        let state = self.0.lock();
        let mut image = state.synced.clone();
        image.resize(state.seen.len(), 0);
        for (offset, data) in state.since.iter() {
            for (n, sector) in data.chunks(512).enumerate() {
                let at = *offset as usize + n * 512;
                if kept() && at + sector.len() <= image.len() {
                    image[at..at + sector.len()].copy_from_slice(sector);
                }
            }
        }
        Self(Arc::new(Mutex::new(DiskState {
            seen: image.clone(),
            synced: image,
            ..DiskState::default()
        })))
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().seen.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.0.lock();
        let from = offset as usize;
        let bytes = state
            .seen
            .get(from..from + out.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.0.lock();
        if state.room.is_some_and(|room| len as usize > room) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.seen.resize(len as usize, 0);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.0.lock();
        if let Some(left) = &mut state.syncs_left {
            if *left == 0 {
                return Err(io::Error::other("the disk is on fire"));
            }
            *left -= 1;
        }
        state.synced = state.seen.clone();
        state.since.clear();
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.0.lock();
        let from = offset as usize;
        let end = from + data.len();
        state
            .seen
            .get_mut(from..end)
            .ok_or(io::ErrorKind::UnexpectedEof)?
            .copy_from_slice(data);
        state.since.push((offset, data.to_vec()));
        Ok(())
    }
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
    let disk = Disk::default();
    let store = disk.open().expect("opens");
    let mut txn = put("a", "");
    if let Some(Op::Put { ttl, .. }) = txn.success.first_mut() {
        *ttl = Some(1_000);
    }
    store.txn(txn).await.expect("writes");
    let expiry = store.shared.read(State::next_expiry);
    assert!(expiry.is_some());
    drop(store);
    let store = disk.open().expect("opens");
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

#[tokio::test]
async fn a_second_opener_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens");
    let second = EmbeddedStore::open(dir.path(), Config::default());
    assert!(matches!(&second, Err(Error::Locked { path }) if *path == dir.path().display().to_string()));
    store.close().await.expect("closes");
    EmbeddedStore::open(dir.path(), Config::default()).expect("closing lets go of it");
}

#[tokio::test]
async fn what_cannot_be_opened_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join(STORE_FILE);
    let why = |what: Result<EmbeddedStore>| what.expect_err("cannot be opened").to_string();

    std::fs::write(&file, b"#!/bin/sh\n".repeat(1000)).expect("writes");
    assert!(
        why(EmbeddedStore::open(dir.path(), Config::default())).contains("cannot be read as a trimtab store")
    );
    std::fs::remove_file(&file).expect("removes");

    let store = EmbeddedStore::open(dir.path(), Config::default()).expect("opens");
    for n in 0..50 {
        store
            .txn(put(&format!("k{n}"), vec![n; 1000]))
            .await
            .expect("writes");
    }
    drop(store);
    let whole = std::fs::read(&file).expect("reads");
    let mut damaged = whole.clone();
    let at = damaged
        .windows(1000)
        .position(|w| w == [33; 1000])
        .expect("the value is there");
    damaged[at + 500] ^= 1;
    std::fs::write(&file, &damaged).expect("writes");
    assert!(
        why(EmbeddedStore::open(dir.path(), Config::default())).contains("cannot be read as a trimtab store")
    );
    std::fs::write(&file, &whole[..whole.len() / 2]).expect("writes");
    assert!(
        why(EmbeddedStore::open(dir.path(), Config::default())).contains("cannot be read as a trimtab store")
    );

    std::fs::write(&file, &whole).expect("writes");
    {
        let database = redb::Database::open(&file).expect("opens");
        let txn = database.begin_write().expect("begins");
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        txn.open_table(meta)
            .expect("opens")
            .insert("format", 2)
            .expect("inserts");
        txn.commit().expect("commits");
    }
    let text = why(EmbeddedStore::open(dir.path(), Config::default()));
    assert!(text.contains("format 2"), "{text}");

    let text = why(EmbeddedStore::open(file.join("below-a-file"), Config::default()));
    assert!(text.contains("Not a directory"), "{text}");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_recovers() {
    let disk = Disk::default();
    let store = disk.open().expect("opens");
    store.txn(put("a", "1")).await.expect("writes");
    let room = disk.0.lock().seen.len();
    disk.0.lock().room = Some(room);
    let big = vec![7; 64 << 10];
    let mut refused = 0;
    for n in 0..200 {
        match store.txn(put(&format!("big{n}"), big.clone())).await {
            Ok(_) => {}
            Err(Error::Full(_)) => refused += 1,
            Err(other) => panic!("not named: {other}"),
        }
    }
    assert!(refused > 0);
    let before = all(&store).await;
    disk.0.lock().room = None;
    let revision = store
        .txn(put("a", "2"))
        .await
        .expect("there is room again")
        .revision;
    assert_eq!(revision, before.revision + 1);
    let before = all(&store).await;
    drop(store);
    assert_eq!(all(&disk.open().expect("opens")).await, before);
}

#[tokio::test]
async fn a_failed_sync_changes_nothing_that_is_seen() {
    let disk = Disk::default();
    let store = disk.open().expect("opens");
    store.txn(put("a", "1")).await.expect("writes");
    disk.0.lock().syncs_left = Some(0);
    let failed = store.txn(put("a", "2")).await;
    assert!(matches!(failed, Err(Error::Io(_))), "{failed:?}");
    assert_eq!(all(&store).await.kvs[0].value, "1");
    disk.0.lock().syncs_left = None;
    // What the failed write may have left in the file does not come back.
    assert_eq!(store.txn(put("b", "3")).await.expect("works again").revision, 3);
    let before = all(&store).await;
    drop(store);
    assert_eq!(all(&disk.open().expect("opens")).await, before);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    /// *Durable*, at the worst moment: in the middle of a write, with any part of it on the disk.
    #[test]
    fn a_power_cut_loses_nothing_acknowledged(writes in 1..30usize, seed in any::<u64>(), keep in 0..=4u32) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(async {
            let disk = Disk::default();
            let store = disk.open().expect("opens");
            for n in 0..writes {
                store.txn(put(&format!("k{}", n % 7), vec![n as u8; 300])).await.expect("writes");
                if n % 10 == 9 {
                    store.compact(n as u64 - 3).await.expect("compacts");
                }
            }
            let before = all(&store).await;
            disk.0.lock().syncs_left = Some(0);
            drop(store.txn(put("last", "x")).await.expect_err("no sync, no acknowledgement"));
            let mut random = seed | 1;
            let crashed = disk.crashed(|| {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                random % 4 < u64::from(keep)
            });
            let after = all(&crashed.open().expect("opens after the crash")).await;
            if after.revision == before.revision {
                assert_eq!(after, before);
            } else {
                // The write that was cut off may have happened, but then in full.
                assert_eq!(after.revision, before.revision + 1);
                assert_eq!(after.count, before.count + 1);
            }
        });
    }
}
