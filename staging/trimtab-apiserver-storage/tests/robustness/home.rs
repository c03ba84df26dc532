//! The directory: one process at a time, its owner's eyes only, and versions of the format.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use redb::TableDefinition;
use trimtab_apiserver_storage::{EmbeddedStore, Error, Store};

use crate::kit::{agrees, config, put, txn};
use crate::model::Model;

const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).expect("is there").permissions().mode() & 0o777
}

#[tokio::test]
async fn only_its_owner_may_read_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let data = dir.path().join("deep/data");
    let store = EmbeddedStore::open(&data, config()).expect("opens");
    store.txn(txn([put("a", "1")])).await.expect("writes");
    store.close().await.expect("closes");
    assert_eq!((mode(&data), mode(&dir.path().join("deep"))), (0o700, 0o700));
    let files: Vec<_> = std::fs::read_dir(&data)
        .expect("reads")
        .map(|entry| entry.expect("reads").path())
        .collect();
    assert_eq!(files.len(), 3, "{files:?}");
    for file in files {
        assert_eq!(mode(&file), 0o600, "{}", file.display());
    }
}

#[tokio::test]
async fn a_second_opener_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), config()).expect("opens");
    let second = EmbeddedStore::open(dir.path(), config());
    assert!(matches!(&second, Err(Error::Locked { path }) if *path == dir.path().display().to_string()));
    store.close().await.expect("closes");
    EmbeddedStore::open(dir.path(), config()).expect("closing lets go of it");
}

#[tokio::test]
async fn a_relative_directory_will_do() {
    // Below where the tests run, whose name is not given.
    let dir = tempfile::tempdir_in(".").expect("a directory");
    let relative = Path::new(dir.path().file_name().expect("a name")).join("a/b");
    let store = EmbeddedStore::open(&relative, config()).expect("opens");
    store.txn(txn([put("a", "1")])).await.expect("writes");
    assert_eq!(mode(&relative), 0o700);
    assert!(EmbeddedStore::is_open(&relative) && EmbeddedStore::exists(&relative));
    store.close().await.expect("closes");
    assert!(!EmbeddedStore::is_open(&relative) && EmbeddedStore::exists(&relative));
}

#[tokio::test]
async fn a_path_that_cannot_be_a_directory_is_named() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("file");
    std::fs::write(&file, "x").expect("writes");
    let error = EmbeddedStore::open(file.join("below"), config()).expect_err("is a file");
    assert!(
        error.to_string().contains("below") && error.to_string().contains("Not a directory"),
        "{error}"
    );
}

/// Says in the file that it is of another format.
fn pretend(dir: &Path, format: u64) {
    let database = redb::Database::open(dir.join("store.redb")).expect("opens");
    let txn = database.begin_write().expect("begins");
    txn.open_table(META)
        .expect("opens")
        .insert("format", format)
        .expect("inserts");
    txn.commit().expect("commits");
}

#[tokio::test]
async fn other_versions_of_the_format_are_upgraded_or_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = EmbeddedStore::open(dir.path(), config()).expect("opens");
    let mut model = Model::default();
    for n in 0..3 {
        let txn = txn([put("a", vec![n])]);
        store.txn(txn.clone()).await.expect("writes");
        model.txn(&txn);
    }
    drop(store);
    let refused = |format| {
        pretend(dir.path(), format);
        let error = EmbeddedStore::open(dir.path(), config()).expect_err("cannot be read");
        assert!(matches!(error, Error::Corrupt { .. }), "{error:?}");
        error.to_string()
    };
    assert!(
        refused(3).contains("it is of format 3, which a newer version of trimtab wrote"),
        "newer"
    );
    assert!(refused(0).contains("it says that it is of format 0, which never was"));
    // An older one is read, and is of the current format from then on.
    pretend(dir.path(), 1);
    let store = EmbeddedStore::open(dir.path(), config()).expect("opens");
    agrees(&store, &model).await.expect("all there");
    drop(store);
    let database = redb::Database::open(dir.path().join("store.redb")).expect("opens");
    let read = redb::ReadableDatabase::begin_read(&database).expect("begins");
    let meta = read.open_table(META).expect("opens");
    let format = redb::ReadableTable::get(&meta, "format")
        .expect("reads")
        .expect("is there");
    assert_eq!(format.value(), 2);
}
