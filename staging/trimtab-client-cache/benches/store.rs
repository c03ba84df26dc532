//! What a store of ten thousand objects costs: to replace, to read and to look up in, allocations counted.

use std::collections::HashMap;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use trimtab_client_cache::cached::{Cached, Codec, Form};
use trimtab_client_cache::index::Index;
use trimtab_client_cache::store::{Replacement, Store, Writer, store};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const OBJECTS: usize = 10_000;
const NAMESPACES: usize = 20;
const TEAMS: usize = 100;

fn main() {
    divan::main();
}

fn object(codec: &mut Codec<ConfigMap>, number: usize, version: usize) -> Cached<ConfigMap> {
    let text = json!({
        "metadata": {
            "namespace": format!("namespace-{}", number % NAMESPACES),
            "name": format!("object-{number}"),
            "uid": format!("uid-{number}"),
            "resourceVersion": version.to_string(),
            "labels": {"team": format!("team-{}", number % TEAMS)},
        },
    });
    codec
        .encode_json(text.to_string().as_bytes())
        .expect("a config map")
}

fn all(codec: &mut Codec<ConfigMap>, version: usize) -> Replacement<ConfigMap> {
    Replacement {
        objects: (0..OBJECTS)
            .map(|number| object(codec, number, version))
            .collect(),
        skipped: HashMap::new(),
        resource_version: version.to_string(),
    }
}

fn codec() -> Codec<ConfigMap> {
    Codec::new(&(), Form::default())
}

fn full(codec: &mut Codec<ConfigMap>) -> (Store<ConfigMap>, Writer<ConfigMap>) {
    let (store, mut writer) = store();
    let teams = Index::by_field("team", ["metadata", "labels", "team"]);
    store.add_index(teams).expect("a new name");
    writer.replace(all(codec, 1));
    (store, writer)
}

/// A list that brings nothing new: what a relist costs when nothing happened.
#[divan::bench]
fn replace_by_the_same(bencher: Bencher<'_, '_>) {
    let mut codec = codec();
    let (_, mut writer) = full(&mut codec);
    let bencher = bencher.counter(ItemsCount::new(OBJECTS));
    bencher
        .with_inputs(|| all(&mut codec, 1))
        .bench_local_values(|list| writer.replace(list));
}

/// A list in which every object has changed.
#[divan::bench]
fn replace_all(bencher: Bencher<'_, '_>) {
    let mut codec = codec();
    let (_, mut writer) = full(&mut codec);
    let mut version = 1;
    let next = || {
        version += 1;
        all(&mut codec, version)
    };
    let bencher = bencher.counter(ItemsCount::new(OBJECTS));
    bencher
        .with_inputs(next)
        .bench_local_values(|list| writer.replace(list));
}

#[divan::bench]
fn upsert(bencher: Bencher<'_, '_>) {
    let mut codec = codec();
    let (_, mut writer) = full(&mut codec);
    let mut version = 1;
    let next = || {
        version += 1;
        object(&mut codec, version % OBJECTS, version)
    };
    bencher
        .with_inputs(next)
        .bench_local_values(|object| writer.upsert(object));
}

#[divan::bench(threads = [1, 2])]
fn get(bencher: Bencher<'_, '_>) {
    let mut codec = codec();
    let (store, _writer) = full(&mut codec);
    let key = object(&mut codec, OBJECTS / 2, 1).key().clone();
    bencher.bench(|| store.get(black_box(&key)));
}

/// Finds a hundred objects.
#[divan::bench]
fn index_lookup(bencher: Bencher<'_, '_>) {
    let (store, _writer) = full(&mut codec());
    bencher.bench(|| store.by_index("team", black_box("team-7")));
}

/// Finds five hundred objects.
#[divan::bench]
fn list_namespace(bencher: Bencher<'_, '_>) {
    let (store, _writer) = full(&mut codec());
    bencher.bench(|| store.list_in(black_box("namespace-7")));
}
