//! `trimtab migrate` between the embedded store and real etcd, both ways: there and back, cut off in the middle, under a
//! writer, and what clients see then.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::TryStreamExt as _;
use serde_json::Value;
use trimtab::apiserver::storage::{
    Config, EmbeddedStore, Error, EtcdStore, Op, Revision, Snapshot, Store, Txn, WatchRequest,
};
use trimtab_tests::{Kubectl, Process, Server, binary, eventually};

use crate::operated::{Operated, Writer, fill, put, runtime, watch_from};
use crate::process::versions;

/// What a key is compared by: its value, whether it expires, and its revisions.
pub(crate) type Held = BTreeMap<Bytes, (Bytes, bool, (Revision, Revision))>;

pub(crate) async fn held(mut snapshot: Snapshot) -> (Revision, Held) {
    let mut all = Held::new();
    while let Some(part) = snapshot.entries.try_next().await.expect("reads") {
        all.extend(part.into_iter().map(|e| {
            let revisions = (e.kv.create_revision, e.kv.mod_revision);
            (e.kv.key, (e.kv.value, e.expires.is_some(), revisions))
        }));
    }
    (snapshot.revision, all)
}

pub(crate) fn in_dir(dir: &Path) -> (Revision, Held) {
    runtime().block_on(held(EmbeddedStore::read(dir).expect("reads")))
}

pub(crate) fn in_etcd(cluster: &Operated, prefix: &str) -> (Revision, Held) {
    runtime().block_on(async {
        let config = cluster.config(&["http"]).below("/registry", prefix);
        let store = EtcdStore::connect(config).await.expect("etcd answers");
        held(store.snapshot().await.expect("reads")).await
    })
}

/// Without revisions, which etcd gives anew.
pub(crate) fn plain(held: &Held) -> BTreeMap<&Bytes, (&Bytes, bool)> {
    held.iter()
        .map(|(key, (value, ends, _))| (key, (value, *ends)))
        .collect()
}

/// A store with many small keys, custom resources, large and binary values, and events that expire.
pub(crate) fn store_in(dir: &Path, keys: usize) {
    let small = (0..keys).map(|n| {
        (
            format!("/registry/configmaps/default/c{n:05}"),
            vec![b'v'; n % 50],
            None,
        )
    });
    let custom = (0..20).map(|n| {
        (
            format!("/registry/example.com/widgets/default/w{n}"),
            vec![b'{'; n * 10_000],
            None,
        )
    });
    let binary = (0..20).map(|n| {
        (
            format!("/registry/secrets/default/s{n}"),
            vec![0, n, 0xff, b'\n'],
            None,
        )
    });
    let events = (0..200).map(|n| {
        (
            format!("/registry/events/default/e{n}"),
            vec![b'e'; 300],
            Some(600 + 17 * n),
        )
    });
    let all: Vec<_> = small.chain(custom).chain(binary).chain(events).collect();
    runtime().block_on(async {
        let store = EmbeddedStore::open(dir, Config::default()).expect("opens");
        for part in all.chunks(500) {
            let ops = part.iter().map(|(key, value, ttl)| Op::Put {
                key: key.clone().into(),
                value: value.clone().into(),
                ttl: *ttl,
            });
            let success = ops.collect();
            let txn = Txn {
                success,
                ..Txn::default()
            };
            store.txn(txn).await.expect("writes");
        }
        store
            .txn(put("/registry/configmaps/default/c00001", "again"))
            .await
            .expect("writes");
        store.close().await.expect("closes");
    });
}

fn raw(kubectl: &Kubectl, path: &str) -> Value {
    serde_json::from_str(&kubectl.ok(&["get", "--raw", path])).expect("JSON")
}

pub(crate) fn migrate<'a>(from: &'a str, to: &'a str, servers: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let usual = ["migrate", "--from", from, "--to", to, "--etcd-servers", servers];
    [&usual[..], more].concat()
}

#[test]
fn what_goes_into_etcd_and_back_is_the_same_and_revisions_do_not_go_back() {
    for version in versions() {
        let etcd = Operated::start(version, 1);
        let servers = etcd.urls("http").join(",");
        store_in(&etcd.path("old"), 10_000);
        let (old_revision, old) = in_dir(&etcd.path("old"));
        let said = etcd.ok(&migrate("old", "etcd", &servers, &["--etcd-prefix=a/b"]));
        assert!(
            said.contains(&format!(
                "{} keys at revision {old_revision}, 200 of them expiring",
                old.len()
            )),
            "{said}"
        );
        let (revision, there) = in_etcd(&etcd, "/a/b");
        assert_eq!(plain(&there), plain(&old), "{version}");
        let least = there.values().map(|(_, _, (created, _))| *created).min();
        assert!(
            least > Some(old_revision),
            "{version}: {least:?} is a version that clients may know"
        );
        // Who watches from before is told so, also from between.
        for from in [2, old_revision, old_revision + 1] {
            let error = watch_from(etcd.config(&["http"]).below("/registry", "/a/b"), from);
            assert!(
                matches!(error, Some(Error::Compacted { .. })),
                "{version}: {from}: {error:?}"
            );
        }
        // Nothing of the migration's own is left, and nothing is taken for another's.
        let everything = etcd.config(&["http"]);
        let all = runtime().block_on(async {
            let store = EtcdStore::connect(everything).await.expect("etcd answers");
            held(store.snapshot().await.expect("reads")).await.1
        });
        assert_eq!(all.len(), old.len(), "{version}");
        let refused = etcd.fails(&migrate("old", "etcd", &servers, &["--etcd-prefix=a/b"]));
        assert!(refused.contains("keys below the prefix already"), "{refused}");

        etcd.ok(&migrate("etcd", "new", &servers, &["--etcd-prefix=a/b"]));
        let (new_revision, new) = in_dir(&etcd.path("new"));
        assert_eq!(new, there, "{version}: this way keys keep their revisions");
        assert_eq!(new_revision, revision + 1, "{version}");
        let oldest = runtime().block_on(async {
            let store = EmbeddedStore::open(etcd.path("new"), Config::default()).expect("opens");
            let old = store
                .watch(WatchRequest::prefix("/registry/").from(revision))
                .await;
            old.err()
        });
        assert!(matches!(oldest, Some(Error::Compacted { .. })), "{oldest:?}");
        let refused = etcd.fails(&migrate("etcd", "new", &servers, &["--etcd-prefix=a/b"]));
        assert!(refused.contains("new is not empty"), "{refused}");
    }
}

#[test]
fn events_keep_the_time_that_they_have_left() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    let servers = etcd.urls("http").join(",");
    store_in(&etcd.path("old"), 10);
    etcd.ok(&migrate("old", "etcd", &servers, &[]));
    etcd.ok(&migrate("etcd", "new", &servers, &[]));
    let ends = |dir: &str| {
        runtime().block_on(async {
            let snapshot = EmbeddedStore::read(etcd.path(dir)).expect("reads");
            let all: Vec<_> = snapshot.entries.try_concat().await.expect("reads");
            let ends = all.into_iter().filter_map(|e| Some((e.kv.key, e.expires?)));
            ends.collect::<BTreeMap<_, _>>()
        })
    };
    let (old, new) = (ends("old"), ends("new"));
    assert_eq!(old.len(), 200);
    for (key, end) in &old {
        let left = new.get(key).map(|new| i128::from(*new) - i128::from(*end));
        // Etcd tells whole seconds; leases are shared by keys that go at about the same time.
        let most = 10_000 + 60_000 + 15_000;
        assert!(
            left.is_some_and(|left| (-2000..most).contains(&left)),
            "{key:?}: {left:?}"
        );
    }
}

#[test]
fn a_migration_that_is_killed_goes_on_and_takes_nothing_of_others() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    let servers = etcd.urls("http").join(",");
    store_in(&etcd.path("old"), 10_000);
    let (_, old) = in_dir(&etcd.path("old"));
    let mut seen = Vec::new();
    for least in [0, 1, 3000, 7000] {
        let mut going = Process::start(
            &binary("trimtab"),
            etcd.dir.path(),
            &migrate("old", "etcd", &servers, &[]),
        );
        eventually(
            || "nothing is copied".to_owned(),
            || {
                let found = in_etcd(&etcd, "/registry").1.len();
                (found >= least).then(|| seen.push(found))
            },
        );
        going.signal("KILL");
        going.wait();
    }
    assert!(
        seen.iter().any(|found| (1..old.len()).contains(found)),
        "none was killed in the middle: {seen:?}"
    );
    if in_etcd(&etcd, "/registry").1.len() < old.len() {
        let refused = etcd.fails(&migrate("etcd", "half", &servers, &[]));
        assert!(refused.contains("has not ended"), "{refused}");
        store_in(&etcd.path("other"), 10);
        let refused = etcd.fails(&migrate("other", "etcd", &servers, &[]));
        assert!(refused.contains("a migration of something else"), "{refused}");
        etcd.ok(&migrate("old", "etcd", &servers, &[]));
    }
    assert_eq!(plain(&in_etcd(&etcd, "/registry").1), plain(&old));
}

#[test]
fn nothing_that_was_acknowledged_is_lost_when_etcd_is_followed_under_a_writer() {
    for version in versions() {
        let etcd = Operated::start(version, 1);
        let servers = etcd.urls("http").join(",");
        fill(etcd.config(&["http"]), 40);
        let writer = Writer::start(etcd.config(&["http"]));
        let mut going = Process::start(
            &binary("trimtab"),
            etcd.dir.path(),
            &migrate("etcd", "new", &servers, &["--follow"]),
        );
        going.wait_for_line("following what is written to etcd");
        // It is told while the writer still writes, and takes what comes.
        let before = in_etcd(&etcd, "/registry").1.len();
        eventually(
            || "the writer does not write".to_owned(),
            || (in_etcd(&etcd, "/registry").1.len() > before + 20).then_some(()),
        );
        going.signal("INT");
        writer.check(etcd.config(&["http"]));
        let status = going.wait();
        assert!(status.success(), "{version}: {}", going.printed());
        let (revision, there) = in_etcd(&etcd, "/registry");
        let (begins, new) = in_dir(&etcd.path("new"));
        assert_eq!(new, there, "{version}");
        assert!(begins > revision, "{version}: {begins} {revision}");
    }
}

#[test]
fn clients_find_their_objects_in_etcd_and_back_and_old_watches_are_told_to_begin_anew() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    let servers = etcd.urls("http").join(",");
    let server = Server::up(etcd.dir.path(), &[]);
    let Some(kubectl) = server.kubectl() else { return };
    kubectl.ok(&["create", "configmap", "a", "--from-literal=k=v"]);
    kubectl.ok(&["create", "secret", "generic", "s", "--from-literal=k=v"]);
    let website = r#"{"apiVersion":"samples.example.com/v1","kind":"Website","metadata":{"name":"w"},"spec":{"host":"w.example.com","replicas":1,"html":"hi"}}"#;
    let made = kubectl.run_with_input(&["create", "-f", "-"], website);
    assert!(made.status.success(), "{made:?}");
    let refused = etcd.fails(&migrate("trimtab/data", "etcd", &servers, &[]));
    assert!(
        refused.contains("a server is running on trimtab/data"),
        "{refused}"
    );
    // Most of it while the server runs.
    let said = etcd.ok(&migrate("trimtab/data", "etcd", &servers, &["--ahead"]));
    assert!(said.contains("ahead"), "{said}");
    kubectl.ok(&["create", "configmap", "late", "--from-literal=k=v"]);
    let uids = |kubectl: &Kubectl| {
        let kinds = "configmaps,secrets,websites.samples.example.com,deployments,services";
        let list = kubectl.json(&["get", kinds, "--all-namespaces"]);
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let row = |item: Value| {
            let text = |at: &str| {
                item.pointer(at)
                    .and_then(|v| v.as_str())
                    .unwrap_or_default()
                    .to_owned()
            };
            (
                text("/metadata/uid"),
                text("/kind") + " " + &text("/metadata/name"),
            )
        };
        items.into_iter().map(row).collect::<BTreeMap<_, _>>()
    };
    let before = uids(&kubectl);
    let list = raw(&kubectl, "/api/v1/namespaces/default/configmaps");
    let version_then = list["metadata"]["resourceVersion"]
        .as_str()
        .expect("a version")
        .to_owned();
    server.stop();
    etcd.ok(&migrate("trimtab/data", "etcd", &servers, &[]));

    let again = |flags: &[&str], version_then: &str| {
        let server = Server::up(etcd.dir.path(), flags);
        let kubectl = server.kubectl().expect("it was there before");
        assert_eq!(uids(&kubectl), before, "{flags:?}");
        let path = format!(
            "/api/v1/namespaces/default/configmaps?watch=true&timeoutSeconds=5&resourceVersion={version_then}"
        );
        let watch = kubectl.run(&["get", "--raw", &path]);
        let answer = [&watch.stdout[..], &watch.stderr[..]].concat();
        let answer = String::from_utf8_lossy(&answer).into_owned();
        assert!(
            answer.contains("410") || answer.contains("too old resource version"),
            "{flags:?}: {answer}"
        );
        let list = raw(&kubectl, "/api/v1/namespaces/default/configmaps");
        let now = list["metadata"]["resourceVersion"]
            .as_str()
            .expect("a version")
            .to_owned();
        let numbers = [version_then, &now].map(|v| v.parse::<u64>().expect("a number"));
        assert!(numbers[0] < numbers[1], "{flags:?}: {numbers:?}");
        // What was current is old then.
        kubectl.ok(&[
            "annotate",
            "configmap",
            "a",
            "--overwrite",
            &format!("after={now}"),
        ]);
        server.stop();
        now
    };
    let then = again(&["--storage=etcd", "--etcd-servers", &servers], &version_then);
    let back = etcd.path("trimtab/back").display().to_string();
    etcd.ok(&migrate("etcd", &back, &servers, &[]));
    again(&["--data-dir", &back], &then);
}
