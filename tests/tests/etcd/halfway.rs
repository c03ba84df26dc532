//! `trimtab migrate` that is not over: API servers do not start on what is there, nobody is written over, and what the source has
//! come to meanwhile is no other thing to clients. Also by https.

use std::path::Path;

use futures::StreamExt as _;
use trimtab::apiserver::storage::{Config, EmbeddedStore, EtcdStore, Store as _};
use trimtab_tests::{Process, Server, binary, eventually};

use crate::migrated::{held, in_dir, in_etcd, migrate, plain, store_in};
use crate::operated::{Operated, put, runtime};
use crate::process::versions;

/// What an API server says that does not start.
fn refused(etcd: &Operated, program: &str, args: &[&str]) -> String {
    let mut process = Process::start(&binary(program), etcd.dir.path(), args);
    let status = process.wait();
    let said = process.printed();
    assert!(!status.success(), "{args:?} starts: {said}");
    said
}

/// Begins to copy, and waits until some of it is there.
fn begun(etcd: &Operated, servers: &str) -> Process {
    let args = migrate("old", "etcd", servers, &[]);
    let going = Process::start(&binary("trimtab"), etcd.dir.path(), &args);
    eventually(
        || "nothing is copied".to_owned(),
        || (!in_etcd(etcd, "/registry").1.is_empty()).then_some(()),
    );
    going
}

#[test]
fn no_api_server_starts_before_all_is_there() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    let servers = etcd.urls("http").join(",");
    store_in(&etcd.path("old"), 10_000);
    let mut going = begun(&etcd, &servers);
    going.signal("KILL");
    going.wait();
    let half = in_etcd(&etcd, "/registry");
    assert!(half.1.len() < 10_000, "it was over before it was killed");
    let storage = ["--storage=etcd", "--etcd-servers", &servers];
    let server = [&["--secure-port=0"][..], &storage].concat();
    let up = [&["up", "--secure-port=0"][..], &storage].concat();
    for (program, args) in [("trimtab-apiserver", server), ("trimtab", up)] {
        let said = refused(&etcd, program, &args);
        let wanted = format!(
            "`trimtab migrate --from {} --to etcd` again",
            etcd.path("old").display()
        );
        assert!(said.contains("has not ended") && said.contains(&wanted), "{said}");
    }
    assert_eq!(in_etcd(&etcd, "/registry"), half, "nothing was written");
    etcd.ok(&migrate("old", "etcd", &servers, &[]));
    Server::apiserver_on(etcd.dir.path(), &storage).stop();

    // The other way nothing is there before all is, and an empty store is not made in its place.
    let args = migrate("etcd", "new", &servers, &["--follow"]);
    let mut going = Process::start(&binary("trimtab"), etcd.dir.path(), &args);
    going.wait_for_line("following what is written to etcd");
    going.signal("KILL");
    going.wait();
    let embedded = ["--secure-port=0", "--data-dir=new"];
    let said = refused(&etcd, "trimtab-apiserver", &embedded);
    assert!(
        said.contains("--data-dir new") && said.contains("was cut off. Run it again"),
        "{said}"
    );
    etcd.ok(&migrate("etcd", "new", &servers, &[]));
    Server::apiserver_on(etcd.dir.path(), &["--data-dir=new"]).stop();
}

#[test]
fn whoever_writes_where_is_migrated_to_is_noticed_and_not_written_over() {
    let Some(version) = versions().pop() else { return };
    // A key of another, and a key of the migration's with something else in it.
    for key in [
        "/registry/configmaps/default/a-foreign",
        "/registry/configmaps/default/c00000",
    ] {
        let etcd = Operated::start(version, 1);
        let servers = etcd.urls("http").join(",");
        store_in(&etcd.path("old"), 10_000);
        let mut going = begun(&etcd, &servers);
        let config = etcd.config(&["http"]);
        runtime().block_on(async {
            let store = EtcdStore::connect(config).await.expect("etcd answers");
            store.txn(put(key, "of another")).await.expect("writes");
        });
        let status = going.wait();
        let said = going.printed();
        assert!(!status.success(), "{key}: {said}");
        assert!(
            said.contains("somebody else writes below the prefix"),
            "{key}: {said}"
        );
        let there = in_etcd(&etcd, "/registry").1;
        let found = there.iter().find(|(name, _)| *name == key.as_bytes());
        assert!(
            found.is_some_and(|(_, (value, ..))| value == "of another"),
            "{key} was written over"
        );
    }
}

/// Has a store come as many revisions further.
fn go_on(dir: &Path, revisions: usize) {
    runtime().block_on(async {
        let store = EmbeddedStore::open(dir, Config::default()).expect("opens");
        let writes = futures::stream::iter(0..revisions);
        let writes = writes.map(|n| store.txn(put("/registry/configmaps/default/busy", &n.to_string())));
        let mut writes = writes.buffer_unordered(512);
        while let Some(written) = writes.next().await {
            written.expect("writes");
        }
        store.close().await.expect("closes");
    });
}

#[test]
fn what_was_copied_ahead_is_copied_anew_where_the_source_has_come_too_far() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    let servers = etcd.urls("http").join(",");
    let server = Server::apiserver_on(etcd.dir.path(), &["--data-dir=trimtab/data"]);
    // Where `trimtab migrate` looks for it.
    std::fs::copy(server.kubeconfig(), etcd.path("trimtab/admin.kubeconfig")).expect("copies");
    let said = etcd.ok(&migrate("trimtab/data", "etcd", &servers, &["--ahead"]));
    assert!(said.contains("ahead"), "{said}");
    server.stop();
    let ahead = in_etcd(&etcd, "/registry").1;
    go_on(&etcd.path("trimtab/data"), 20_100);
    let (revision, old) = in_dir(&etcd.path("trimtab/data"));
    let first = |held: &crate::migrated::Held| held.values().map(|(_, _, (created, _))| *created).min();
    assert!(
        first(&ahead) <= Some(revision),
        "clients know its revisions for something else by now"
    );
    etcd.ok(&migrate("trimtab/data", "etcd", &servers, &[]));
    let there = in_etcd(&etcd, "/registry").1;
    assert_eq!(plain(&there), plain(&old));
    assert!(first(&there) > Some(revision), "{:?} {revision}", first(&there));
}

#[test]
fn etcd_is_reached_by_https_both_ways() {
    let Some(version) = versions().pop() else { return };
    let etcd = Operated::start(version, 1);
    etcd.ok(&Operated::switch("https", &[]));
    let servers = etcd.urls("https").join(",");
    store_in(&etcd.path("old"), 100);
    let refused = etcd.fails(&migrate("old", "etcd", &servers, &[]));
    assert!(refused.contains("certificate"), "{refused}");
    let no_client = etcd.fails(&migrate("old", "etcd", &servers, &["--etcd-cafile=certs/ca.crt"]));
    assert!(no_client.contains("etcd at https://"), "{no_client}");
    let named = [
        "--etcd-cafile=certs/ca.crt",
        "--etcd-certfile=certs/client.crt",
        "--etcd-keyfile=certs/client.key",
    ];
    etcd.ok(&migrate("old", "etcd", &servers, &named));
    let there = runtime().block_on(async {
        let store = EtcdStore::connect(etcd.config(&["https"]))
            .await
            .expect("etcd answers");
        held(store.snapshot().await.expect("reads")).await.1
    });
    assert_eq!(plain(&there), plain(&in_dir(&etcd.path("old")).1));
    etcd.ok(&migrate("etcd", "new", &servers, &["--certificates=certs"]));
    assert_eq!(in_dir(&etcd.path("new")).1, there);
}
