//! Bytes that change by themselves, anywhere in the file: the store says so and names the file, or what it holds is not
//! touched by it. It never panics, and never answers with anything else than what was acknowledged.

use std::path::Path;

use tempfile::TempDir;
use trimtab_apiserver_storage::{EmbeddedStore, Error, Store};

use crate::disk::{Fault, Kind, SimDisk};
use crate::kit::{agrees, config, delete, number, open, put, runtime, txn};
use crate::model::Model;

const FILE: &str = "store.redb";

/// A closed store with keys old and new, deletions, and a history that was compacted; and its file's bytes.
async fn store() -> (TempDir, Model, Vec<u8>) {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), config()).expect("opens");
    let mut model = Model::default();
    for n in 0..40_u8 {
        let txn = txn([
            put(&format!("k{}", n % 11), vec![n; 700]),
            put("counter", vec![n]),
            delete(&format!("k{}", (n + 3) % 11)),
        ]);
        store.txn(txn.clone()).await.expect("writes");
        model.txn(&txn);
    }
    store.compact(30).await.expect("compacts");
    model.oldest = 30;
    store.tidy().await.expect("removes what was compacted");
    store.close().await.expect("closes");
    drop(store);
    let bytes = std::fs::read(dir.path().join(FILE)).expect("reads");
    (dir, model, bytes)
}

/// What becomes of the store when its file holds these bytes: whether the damage was found, when not what it did.
async fn found(dir: &Path, model: &Model, bytes: &[u8]) -> Result<bool, String> {
    std::fs::write(dir.join(FILE), bytes).expect("writes");
    match EmbeddedStore::open(dir, config()) {
        Ok(store) => agrees(&store, model).await.map(|()| false),
        Err(Error::Corrupt { path, why }) if path.ends_with(FILE) && !why.is_empty() => Ok(true),
        Err(error) => Err(format!("not named: {error}")),
    }
}

#[test]
fn a_changed_byte_is_found_or_does_no_harm() {
    runtime().block_on(async {
        let (dir, model, whole) = store().await;
        assert_eq!(found(dir.path(), &model, &whole).await, Ok(false), "it is whole");
        let step = number("TRIMTAB_STORAGE_DAMAGE", 8191) as usize;
        // The header's first part, and some of what follows it in two copies.
        let header = (0..64).chain((64..320).step_by(if step < 4096 { 1 } else { 5 }));
        let header = header.map(|at| (at, 0x01));
        // The tenth byte says which of the two counts, bit by bit.
        let bits = (0..8).map(|bit| (9, 1 << bit));
        let pages = (320..whole.len()).step_by(step).map(|at| (at, 0xff));
        let mut harmful = 0;
        for (at, change) in bits.chain(header).chain(pages) {
            let mut damaged = whole.clone();
            damaged[at] ^= change;
            let verdict = found(dir.path(), &model, &damaged).await;
            harmful += usize::from(verdict == Ok(true));
            assert!(verdict.is_ok(), "byte {at} changed by {change:#x}: {verdict:?}");
        }
        assert!(harmful > 50, "the file is looked at: {harmful}");
    });
}

#[test]
fn a_changed_value_is_found_wherever_it_is() {
    runtime().block_on(async {
        let (dir, model, whole) = store().await;
        for n in 30..40_u8 {
            let value = whole.windows(700).position(|w| w == [n; 700]).expect("is there");
            let mut damaged = whole.clone();
            damaged[value + usize::from(n)] ^= 1;
            assert_eq!(found(dir.path(), &model, &damaged).await, Ok(true), "value {n}");
        }
    });
}

#[test]
fn a_file_of_the_wrong_length_or_with_pages_missing_is_found() {
    runtime().block_on(async {
        let (dir, model, whole) = store().await;
        for len in [
            1,
            9,
            100,
            4095,
            4096,
            8192,
            whole.len() / 2,
            whole.len() - 4096,
            whole.len() - 1,
        ] {
            let verdict = found(dir.path(), &model, &whole[..len]).await;
            assert_eq!(verdict, Ok(true), "cut to {len} of {}", whole.len());
        }
        // Nothing at all is what a new store looks like; but this one is known not to be new.
        assert_eq!(found(dir.path(), &model, &[]).await, Ok(true), "emptied");
        assert_eq!(
            found(dir.path(), &model, &vec![0; whole.len()]).await,
            Ok(true),
            "zeroed"
        );
        assert_eq!(
            found(dir.path(), &model, &b"#!/bin/sh\n".repeat(1000)).await,
            Ok(true),
            "another kind of file"
        );
        let longer = [&whole[..], &[0; 100]].concat();
        assert_eq!(found(dir.path(), &model, &longer).await, Ok(true), "longer");
        for page in (0..whole.len() / 4096).step_by(7) {
            let mut damaged = whole.clone();
            damaged[page * 4096..(page + 1) * 4096].fill(0);
            let verdict = found(dir.path(), &model, &damaged).await;
            assert!(verdict.is_ok(), "page {page} zeroed: {verdict:?}");
        }
    });
}

#[test]
fn an_older_copy_of_the_file_is_found() {
    runtime().block_on(async {
        let (dir, mut model, older) = store().await;
        let store = EmbeddedStore::open(dir.path(), config()).expect("opens");
        let more = txn([put("more", "x")]);
        store.txn(more.clone()).await.expect("writes");
        model.txn(&more);
        drop(store);
        let newer = std::fs::read(dir.path().join(FILE)).expect("reads");
        std::fs::write(dir.path().join(FILE), older).expect("writes");
        let error = EmbeddedStore::open(dir.path(), config()).expect_err("it is not what was closed");
        assert!(
            error.to_string().ends_with(
                "it ends at revision 41, but was closed at revision 42: the last transactions are missing"
            ),
            "{error}"
        );
        assert_eq!(found(dir.path(), &model, &newer).await, Ok(false));
    });
}

#[test]
fn a_key_of_before_the_history_that_is_missing_is_found() {
    runtime().block_on(async {
        let (dir, model, _) = store().await;
        let file = dir.path().join(FILE);
        let whole = std::fs::read(&file).expect("reads");
        let rows = redb::TableDefinition::<&[u8], &[u8]>::new("rows");
        // Those of before the history, of which nothing but the number of keys or a later row tells.
        for missing in 0..9 {
            std::fs::write(&file, &whole).expect("writes");
            let database = redb::Database::open(&file).expect("opens");
            let txn = database.begin_write().expect("begins");
            let (mut seen, mut removed) = (0, false);
            let kept = |_: &[u8], _: &[u8]| {
                seen += 1;
                removed |= seen == missing + 1;
                seen != missing + 1
            };
            txn.open_table(rows)
                .expect("opens")
                .retain(kept)
                .expect("removes");
            txn.commit().expect("commits");
            drop(database);
            assert!(removed, "there are more rows than {missing}");
            let bytes = std::fs::read(&file).expect("reads");
            let verdict = found(dir.path(), &model, &bytes).await;
            assert_eq!(verdict, Ok(true), "row {missing}");
        }
    });
}

#[test]
fn a_running_store_does_not_build_upon_a_file_that_has_lost_something() {
    runtime().block_on(async {
        let disk = SimDisk::default();
        let store = open(&disk).expect("opens");
        let mut model = Model::default();
        let mut write = async |n: u8| {
            let txn = txn([put("a", vec![n])]);
            let done = store.txn(txn.clone()).await;
            done.map(|response| assert_eq!(response, model.txn(&txn)))
        };
        write(1).await.expect("writes");
        let older = disk.image();
        write(2).await.expect("writes");
        // After a fault the file is looked at again.
        disk.inject(Fault {
            at: disk.calls() + 1,
            kind: Kind::Broken,
            lasting: true,
        });
        write(3).await.expect_err("the disk is broken");
        disk.heal();
        let whole = disk.image();
        disk.exchange(older);
        for _ in 0..2 {
            let error = write(4).await.expect_err("it would be lost").to_string();
            assert!(
                error.ends_with("it ends at revision 2, and held revision 3 before"),
                "{error}"
            );
        }
        disk.exchange(whole.iter().map(|byte| byte ^ 1).collect());
        let error = write(5).await.expect_err("it would be lost");
        assert!(matches!(error, Error::Corrupt { .. }), "{error}");
        disk.exchange(whole);
        write(6).await.expect("all is well again");
        agrees(&store, &model).await.expect("nothing was lost");
    });
}
