//! `trimtab backup` of a server that is running and busy, and of one that is stopped; `trimtab restore`, and what clients
//! see of the server that comes back.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use trimtab_tests::{DEADLINE, Server, binary};

use crate::rust_client::client;

/// Runs `trimtab`; answers with whether it succeeded and what it printed.
fn trimtab(dir: &Path, args: &[&str]) -> (bool, String) {
    let output = Command::new(binary("trimtab"))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("it starts");
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

fn ok(dir: &Path, args: &[&str]) -> String {
    let (done, text) = trimtab(dir, args);
    assert!(done, "{args:?}: {text}");
    text
}

fn refused(dir: &Path, args: &[&str], why: &str) {
    let (done, text) = trimtab(dir, args);
    assert!(!done && text.contains(why), "{args:?}: {text}");
    assert_eq!(text.trim_end().lines().count(), 1, "one line, not: {text}");
}

fn map(name: &str, value: &str) -> ConfigMap {
    let mut map = ConfigMap {
        data: Some(BTreeMap::from([("value".to_owned(), value.to_owned())])),
        ..ConfigMap::default()
    };
    map.metadata.name = Some(name.to_owned());
    map
}

/// Names with what they hold and their resource versions.
async fn maps(api: &Api<ConfigMap>) -> BTreeMap<String, (String, String)> {
    let list = api.list(&ListParams::default()).await.expect("lists");
    let row = |map: ConfigMap| {
        let value = map.data.unwrap_or_default().remove("value").unwrap_or_default();
        let version = map.metadata.resource_version.unwrap_or_default();
        (map.metadata.name.unwrap_or_default(), (value, version))
    };
    list.items.into_iter().map(row).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn status_tells_what_is_stored_while_a_server_runs_and_when_it_has_stopped() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    refused(dir.path(), &["status"], "there is no store in trimtab/data");
    let server = Server::up(dir.path(), &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    let made = api.create(&PostParams::default(), &map("one", "1")).await;
    let version = made.expect("creates").metadata.resource_version;
    let version: u64 = version.and_then(|v| v.parse().ok()).expect("a version");
    let status = |args: &[&str]| -> serde_json::Value {
        let text = ok(dir.path(), &[&["status", "-o", "json"], args].concat());
        serde_json::from_str(&text).expect("JSON")
    };
    let running = status(&[]);
    assert_eq!(running["served"], true);
    assert!(running["revision"].as_u64() >= Some(version), "{running}");
    let maps = running["byResource"]["configmaps"]["keys"].as_u64();
    assert!(maps >= Some(1), "{running}");
    assert_eq!(
        status(&["--kubeconfig", "trimtab/admin.kubeconfig"])["served"],
        true
    );
    server.stop();
    let stopped = status(&[]);
    assert_eq!(stopped["served"], false);
    assert!(stopped["revision"].as_u64() >= running["revision"].as_u64());
    assert!(stopped["oldestRevision"].as_u64() >= Some(1), "{stopped}");
    assert_eq!(stopped["file"]["format"], 2);
    assert!(
        stopped["file"]["bytes"].as_u64() > stopped["bytes"].as_u64(),
        "{stopped}"
    );
    let text = ok(dir.path(), &["status"]);
    assert!(
        text.contains("served   by nobody") && text.contains(" configmaps, "),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_brings_back_a_state_that_was() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    // A writer goes round: at each moment the values are what some round and its predecessor wrote.
    let (stop, writing) = (Arc::new(AtomicBool::new(false)), api.clone());
    let stopped = stop.clone();
    for n in 0..10 {
        api.create(&PostParams::default(), &map(&format!("m{n}"), "0"))
            .await
            .expect("creates");
    }
    let writer = tokio::spawn(async move {
        let mut round = 0_u64;
        while !stopped.load(Ordering::Relaxed) {
            round += 1;
            for n in 0..10 {
                let changed = map(&format!("m{n}"), &round.to_string());
                writing
                    .replace(&format!("m{n}"), &PostParams::default(), &changed)
                    .await
                    .expect("replaces");
            }
        }
        round
    });
    let before = maps(&api).await;
    let text = tokio::task::block_in_place(|| ok(dir.path(), &["backup", "live.backup"]));
    assert!(text.contains("saved    live.backup"), "{text}");
    stop.store(true, Ordering::Relaxed);
    assert!(writer.await.expect("no panic") > 0);
    let latest = api
        .list(&ListParams::default())
        .await
        .expect("lists")
        .metadata
        .resource_version;
    let after = maps(&api).await;
    let mode = std::fs::metadata(dir.path().join("live.backup"))
        .expect("is there")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds every Secret");
    refused(
        dir.path(),
        &["restore", "live.backup"],
        "is in use by another process",
    );
    server.stop();
    refused(dir.path(), &["restore", "live.backup"], "is not empty");

    // What was there in between, whole: no value is older than before or newer than after.
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).expect("makes");
    ok(&elsewhere, &["restore", "../live.backup"]);
    let server = Server::up(&elsewhere, &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    let back = maps(&api).await;
    let round = |maps: &BTreeMap<String, (String, String)>, name: &str| {
        maps[name].0.parse::<u64>().expect("a number")
    };
    let mut rounds = Vec::new();
    for n in 0..10 {
        let name = format!("m{n}");
        assert!(
            (round(&before, &name)..=round(&after, &name)).contains(&round(&back, &name)),
            "{name}"
        );
        rounds.push(round(&back, &name));
    }
    assert!(
        rounds.is_sorted_by(|a, b| a >= b) && rounds[0] - rounds[9] <= 1,
        "of one moment: {rounds:?}"
    );

    // Nobody sees a resource version twice, and who watched the old server is told to list again.
    let latest = latest.expect("lists have a version");
    let newer = api
        .list(&ListParams::default())
        .await
        .expect("lists")
        .metadata
        .resource_version;
    let number = |version: &str| version.parse::<u64>().expect("a number");
    assert!(number(&newer.expect("lists have a version")) > number(&latest));
    let mut watch = api
        .watch(&WatchParams::default(), &latest)
        .await
        .expect("begins")
        .boxed();
    let told = tokio::time::timeout(DEADLINE, watch.next())
        .await
        .expect("says something");
    match told.expect("says something before it ends") {
        Ok(WatchEvent::Error(status)) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        Err(kube::Error::Api(status)) => assert_eq!((status.code, status.reason.as_str()), (410, "Expired")),
        other => panic!("not told to list again: {other:?}"),
    }
    server.stop();
}

#[tokio::test]
async fn what_is_stopped_in_memory_or_damaged() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    refused(
        dir.path(),
        &["backup", "x.backup"],
        "there is no store in trimtab/data",
    );
    let server = Server::up(dir.path(), &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    api.create(&PostParams::default(), &map("kept", "1"))
        .await
        .expect("creates");
    server.stop();
    ok(dir.path(), &["backup", "stopped.backup"]);
    let text = ok(dir.path(), &["restore", "--check", "stopped.backup"]);
    assert!(
        text.contains("keys at revision") && !text.contains("restored"),
        "{text}"
    );

    let whole = std::fs::read(dir.path().join("stopped.backup")).expect("reads");
    let mut damaged = whole.clone();
    damaged[whole.len() / 2] ^= 1;
    std::fs::write(dir.path().join("damaged.backup"), damaged).expect("writes");
    std::fs::write(dir.path().join("short.backup"), &whole[..whole.len() / 2]).expect("writes");
    std::fs::write(dir.path().join("other.backup"), "{}").expect("writes");
    for (file, why) in [
        ("damaged.backup", "it is damaged at byte"),
        ("short.backup", "it is cut off after"),
        ("other.backup", "it is not a backup"),
        ("none.backup", "No such file"),
    ] {
        refused(
            dir.path(),
            &["restore", "--check", file],
            &format!("{file}: {why}"),
        );
        refused(
            dir.path(),
            &["restore", file, "--data-dir=new"],
            &format!("{file}: {why}"),
        );
        assert!(!dir.path().join("new").exists(), "{file}");
    }

    // A server that keeps nothing can be saved, and saved into a server that does.
    let server = Server::apiserver(dir.path(), &[]);
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    api.create(&PostParams::default(), &map("of-memory", "2"))
        .await
        .expect("creates");
    let kubeconfig = format!("--kubeconfig={}", server.kubeconfig().display());
    ok(dir.path(), &["backup", "memory.backup", &kubeconfig]);
    server.stop();
    ok(
        dir.path(),
        &["restore", "memory.backup", "--data-dir=memory/data"],
    );
    let server = Server::up(
        dir.path(),
        &[
            "--data-dir=memory/data",
            "--kubeconfig-out=trimtab/admin.kubeconfig",
        ],
    );
    let api: Api<ConfigMap> = Api::default_namespaced(client(&server).await);
    assert_eq!(maps(&api).await["of-memory"].0, "2");
    server.stop();
}
