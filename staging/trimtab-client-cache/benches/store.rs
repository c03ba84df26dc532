//! What a store of ten thousand objects costs: to replace, to read and to look up in, allocations counted.

use std::collections::HashMap;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher, black_box};
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::json;
use trimtab_client_cache::index::Index;
use trimtab_client_cache::key_of;
use trimtab_client_cache::store::{Replacement, Store, Writer, store};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const OBJECTS: usize = 10_000;
const NAMESPACES: usize = 20;
const TEAMS: usize = 100;

fn main() {
    divan::main();
}

fn object(number: usize, version: usize) -> ConfigMap {
    serde_json::from_value(json!({
        "metadata": {
            "namespace": format!("namespace-{}", number % NAMESPACES),
            "name": format!("object-{number}"),
            "uid": format!("uid-{number}"),
            "resourceVersion": version.to_string(),
            "labels": {"team": format!("team-{}", number % TEAMS)},
        },
    }))
    .expect("a config map")
}

fn all(version: usize) -> Replacement<ConfigMap> {
    Replacement {
        objects: (0..OBJECTS).map(|number| object(number, version)).collect(),
        skipped: HashMap::new(),
        resource_version: version.to_string(),
    }
}

fn team(object: &ConfigMap) -> Vec<String> {
    let team = object
        .metadata
        .labels
        .iter()
        .filter_map(|labels| labels.get("team"));
    team.cloned().collect()
}

fn full() -> (Store<ConfigMap>, Writer<ConfigMap>) {
    let (store, mut writer) = store();
    store.add_index(Index::new("team", team)).expect("a new name");
    writer.replace(all(1));
    (store, writer)
}

/// A list that brings nothing new: what a relist costs when nothing happened.
#[divan::bench]
fn replace_by_the_same(bencher: Bencher<'_, '_>) {
    let (_, mut writer) = full();
    let bencher = bencher.counter(ItemsCount::new(OBJECTS));
    bencher
        .with_inputs(|| all(1))
        .bench_local_values(|list| writer.replace(list));
}

/// A list in which every object has changed.
#[divan::bench]
fn replace_all(bencher: Bencher<'_, '_>) {
    let (_, mut writer) = full();
    let mut version = 1;
    let next = || {
        version += 1;
        all(version)
    };
    let bencher = bencher.counter(ItemsCount::new(OBJECTS));
    bencher
        .with_inputs(next)
        .bench_local_values(|list| writer.replace(list));
}

#[divan::bench]
fn upsert(bencher: Bencher<'_, '_>) {
    let (_, mut writer) = full();
    let mut version = 1;
    let next = || {
        version += 1;
        object(version % OBJECTS, version)
    };
    bencher
        .with_inputs(next)
        .bench_local_values(|object| writer.upsert(object));
}

#[divan::bench(threads = [1, 2])]
fn get(bencher: Bencher<'_, '_>) {
    let (store, _writer) = full();
    let key = key_of(&object(OBJECTS / 2, 1));
    bencher.bench(|| store.get(black_box(&key)));
}

/// Finds a hundred objects.
#[divan::bench]
fn index_lookup(bencher: Bencher<'_, '_>) {
    let (store, _writer) = full();
    bencher.bench(|| store.by_index("team", black_box("team-7")));
}

/// Finds five hundred objects.
#[divan::bench]
fn list_namespace(bencher: Bencher<'_, '_>) {
    let (store, _writer) = full();
    bencher.bench(|| store.list_in(black_box("namespace-7")));
}
