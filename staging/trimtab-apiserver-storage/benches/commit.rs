//! What an acknowledged write costs, by how many writers share a sync; and what reading costs, which shares nothing.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::future::join_all;
use trimtab_apiserver_storage::{Config, EmbeddedStore, MemoryStore, Op, RangeRequest, Store, Txn};

fn main() {
    divan::main();
}

fn put(n: usize) -> Txn {
    let key = Bytes::from(format!("/registry/configmaps/default/name-{n}"));
    let op = Op::Put {
        key,
        value: Bytes::from(vec![7; 1024]),
        ttl: None,
    };
    Txn {
        success: vec![op],
        ..Txn::default()
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime")
}

fn write(
    bencher: Bencher<'_, '_>,
    store: &Arc<dyn Store>,
    runtime: &tokio::runtime::Runtime,
    writers: usize,
) {
    bencher.counter(ItemsCount::new(writers)).bench_local(|| {
        runtime.block_on(join_all((0..writers).map(|n| {
            let store = store.clone();
            async move { store.txn(put(n)).await.expect("writes") }
        })))
    });
}

#[divan::bench(args = [1, 16, 64])]
fn embedded(bencher: Bencher<'_, '_>, writers: usize) {
    let (runtime, dir) = (runtime(), tempfile::tempdir().expect("a directory"));
    let _entered = runtime.enter();
    let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(dir.path(), Config::default()).expect("opens"));
    write(bencher, &store, &runtime, writers);
}

#[divan::bench(args = [1, 16, 64])]
fn memory(bencher: Bencher<'_, '_>, writers: usize) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new(Config::default()));
    write(bencher, &store, &runtime, writers);
}

/// Opening an empty store for the first time, closing included.
#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let _entered = runtime.enter();
    bencher
        .with_inputs(|| tempfile::tempdir().expect("a directory"))
        .bench_local_values(|dir| {
            drop(EmbeddedStore::open(dir.path(), Config::default()).expect("opens"));
            dir
        });
}

/// All of 20,000 keys.
#[divan::bench]
fn list(bencher: Bencher<'_, '_>) {
    let runtime = runtime();
    let _entered = runtime.enter();
    let store = MemoryStore::new(Config::default());
    let ops = (0..20_000).flat_map(|n| put(n).success).collect();
    runtime
        .block_on(store.txn(Txn {
            success: ops,
            ..Txn::default()
        }))
        .expect("writes");
    bencher.bench_local(|| {
        runtime
            .block_on(store.range(RangeRequest::prefix("/registry/")))
            .expect("reads")
    });
}
