//! How many syncs there are: one for a lone write, one for many that come at once, none for what changes nothing.

use futures::future::join_all;
use trimtab_apiserver_storage::{Op, Store};

use crate::disk::SimDisk;
use crate::kit::{open, put, txn};

#[tokio::test]
async fn a_lone_write_makes_one_sync_and_a_read_none() {
    let disk = SimDisk::default();
    let store = open(&disk).expect("opens");
    store.txn(txn([put("a", "")])).await.expect("writes");
    let growths = disk.growths();
    for n in 0..200_u8 {
        let before = disk.syncs() - disk.growths();
        store
            .txn(txn([put(&format!("k{}", n % 9), vec![n; 1024])]))
            .await
            .expect("writes");
        // The file doubles when it grows, and is synced before what it has grown for.
        let made = disk.syncs() - disk.growths() - before;
        assert_eq!(made, 1, "write {n}");
    }
    assert!(disk.growths() - growths < 5, "{}", disk.growths());
    let before = disk.syncs();
    let get = Op::Get { key: "a".into() };
    store.txn(txn([get])).await.expect("reads");
    store
        .txn(txn([Op::Delete { key: "none".into() }]))
        .await
        .expect("changes nothing");
    assert_eq!(disk.syncs(), before);
    let figures = store.figures();
    let said = figures.disk.expect("it has a disk");
    assert_eq!(said.syncs, disk.syncs(), "what the store says of itself");
    assert_eq!(said.buckets.iter().sum::<u64>(), disk.syncs());
    assert_eq!((figures.revision, figures.oldest), (Some(202), Some(1)));
}

#[tokio::test]
async fn writes_that_come_at_once_share_their_syncs() {
    let disk = SimDisk::default();
    let store = open(&disk).expect("opens");
    store.txn(txn([put("a", "")])).await.expect("writes");
    let before = disk.syncs() - disk.growths();
    // All are sent before the thread that writes can have done more than a few.
    let held = disk.hold();
    let writes = join_all((0..500).map(|n| store.txn(txn([put(&format!("k{n}"), "x")]))));
    let mut writes = std::pin::pin!(writes);
    assert!(futures::poll!(writes.as_mut()).is_pending());
    drop(held);
    for written in writes.await {
        written.expect("writes");
    }
    // The first may have been on its way alone; the rest go together.
    let made = disk.syncs() - disk.growths() - before;
    assert!((1..=2).contains(&made), "{made}");
    assert_eq!(store.revision().await.expect("known"), 502);
}
