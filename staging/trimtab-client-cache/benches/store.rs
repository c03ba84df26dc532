//! What a store of ten thousand objects costs: to replace, to read and to look up in; and what an object costs to encode and
//! to decode, beside `serde_json`. Allocations are counted.

use std::collections::HashMap;

use divan::counter::{BytesCount, ItemsCount};
use divan::{AllocProfiler, Bencher, black_box};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
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

/// A Pod of some 3 KB, as a server sends it.
fn pod() -> String {
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example.com/{name}:1.2.3"), "imagePullPolicy": "IfNotPresent",
            "args": ["--listen=:8080", "--verbose"], "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}],
            "env": [{"name": "LEVEL", "value": "info"}, {"name": "REGION", "value": "north"}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
            "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        })
    };
    let condition = |kind: &str| json!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": "2026-01-02T03:04:05Z"});
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "app-7d9c5b6f4-x2x7k", "namespace": "default", "resourceVersion": "123456", "generation": 1,
            "uid": "01234567-89ab-cdef-0123-456789abcdef", "creationTimestamp": "2026-01-02T03:04:05Z",
            "labels": {"app": "app", "pod-template-hash": "7d9c5b6f4"},
        },
        "spec": {
            "containers": [container("app"), container("proxy"), container("logs")], "nodeName": "node-17",
            "volumes": [{"name": "config", "configMap": {"name": "app-config", "defaultMode": 420}}],
            "restartPolicy": "Always", "dnsPolicy": "ClusterFirst", "schedulerName": "default-scheduler",
        },
        "status": {
            "phase": "Running", "podIP": "10.1.2.3", "hostIP": "192.168.1.2", "startTime": "2026-01-02T03:04:05Z",
            "conditions": [condition("Initialized"), condition("Ready"), condition("PodScheduled")],
        },
    })
    .to_string()
}

#[divan::bench]
fn encode(bencher: Bencher<'_, '_>) {
    let (text, mut codec) = (pod(), Codec::<Pod>::new(&(), Form::default()));
    let bencher = bencher.counter(BytesCount::of_str(&text));
    bencher.bench_local(|| codec.encode_json(black_box(text.as_bytes())));
}

/// To be compared with [`parse_json`].
#[divan::bench]
fn decode(bencher: Bencher<'_, '_>) {
    let (text, mut codec) = (pod(), Codec::<Pod>::new(&(), Form::Compact { hot: 0 }));
    let states = (0..20).map(|_| codec.encode_json(text.as_bytes()).expect("a pod"));
    let pod = states.last().expect("twenty");
    let bencher = bencher.counter(BytesCount::of_str(&text));
    bencher.bench(|| black_box(&pod).decode());
}

#[divan::bench]
fn parse_json(bencher: Bencher<'_, '_>) {
    let text = pod();
    let bencher = bencher.counter(BytesCount::of_str(&text));
    bencher.bench(|| serde_json::from_str::<Pod>(black_box(&text)));
}
