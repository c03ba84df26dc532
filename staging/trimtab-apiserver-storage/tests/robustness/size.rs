//! How large the file becomes: a few times what it holds, however long it is written to, and no more again after it has
//! held much.

use trimtab_apiserver_storage::embedded::Disk as _;
use trimtab_apiserver_storage::{EmbeddedStore, Store};

use crate::disk::SimDisk;
use crate::kit::{delete, open, put, runtime, txn};

const KEYS: u64 = 100;
const VALUE: usize = 1024;

/// Overwrites each key so many times, and compacts.
async fn overwrite(store: &EmbeddedStore, rounds: u8) {
    for round in 0..rounds {
        for n in 0..KEYS / 10 {
            let ops = (0..10).map(|m| put(&format!("k{:03}", (n + m * 31) % KEYS), vec![round; VALUE]));
            store.txn(txn(ops)).await.expect("writes");
        }
    }
    let current = store.revision().await.expect("known");
    store.compact(current).await.expect("compacts");
}

#[test]
fn a_file_that_is_overwritten_stops_growing() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let store = open(&disk).expect("opens");
        let len = || disk.len().expect("known");
        let mut most = 0;
        for _ in 0..60 {
            overwrite(&store, 4).await;
            most = most.max(len());
        }
        // What is there between two compactions: each key, and four times what it was before. 24 MB were written.
        let held = KEYS * VALUE as u64 * 5;
        assert!(most < 4 * held, "{most} for {held}");
    });
}

#[test]
fn a_file_that_has_held_much_becomes_short_again() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let store = open(&disk).expect("opens");
        overwrite(&store, 2).await;
        let names = || (0..3000).map(|n| format!("much{n}"));
        let all: Vec<_> = names().collect();
        for some in all.chunks(500) {
            let ops = some.iter().map(|key| put(key, vec![1; VALUE]));
            store.txn(txn(ops)).await.expect("writes");
        }
        overwrite(&store, 2).await; // behind it
        let long = disk.len().expect("known");
        assert!(long > 3000 * VALUE as u64, "{long}");
        store
            .txn(txn(names().map(|key| delete(&key))))
            .await
            .expect("writes");
        overwrite(&store, 1).await;
        store.tidy().await.expect("removes");
        let short = disk.len().expect("known");
        assert!(short < 5 * KEYS * VALUE as u64, "{long} to {short}");
        let revision = store
            .txn(txn([put("after", "x")]))
            .await
            .expect("writes")
            .revision;
        drop(store);
        let store = open(&disk).expect("opens");
        assert_eq!(store.revision().await.expect("known"), revision);
    });
}
