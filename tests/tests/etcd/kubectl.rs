//! `trimtab-apiserver --storage=etcd` behind the real kubectl, with etcdctl looking at what it wrote.

use std::path::Path;

use serde_json::Value;
use trimtab_tests::{Kubectl, Server, eventually};

use crate::certificates::Certificates;
use crate::process::{Etcd, Settings, usual, versions};

fn server(dir: &Path, etcd: &Etcd, more: &[&str]) -> Server {
    let servers = format!("--etcd-servers={}", etcd.urls().join(","));
    Server::apiserver_on(dir, &[&["--storage=etcd", servers.as_str()], more].concat())
}

/// What etcd has under a key, as JSON.
fn stored(etcd: &Etcd, key: &str) -> Value {
    let text = etcd
        .ctl(&["get", key, "--print-value-only"])
        .expect("etcdctl reads");
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{key}: {e}: {text:?}"))
}

fn config_map(kubectl: &Kubectl, name: &str, value: &str) {
    let object = format!(
        "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"{name}\"}},\"data\":{{\"a\":\"{value}\"}}}}"
    );
    kubectl.with_input(&["apply", "--server-side", "-f", "-"], &object);
}

#[test]
fn kubectl_works_on_etcd_and_etcd_has_what_it_wrote() {
    for version in versions() {
        let etcd = Etcd::start(version, 1, Settings::default());
        let dir = tempfile::tempdir().expect("a temporary folder");
        let first = server(dir.path(), &etcd, &[]);
        let Some(kubectl) = first.kubectl() else { return };
        assert_eq!(kubectl.ok(&["get", "--raw", "/readyz/etcd"]).trim(), "ok");
        config_map(&kubectl, "a", "1");
        let watch = kubectl.start(&["get", "configmaps", "--watch", "--output=name"]);
        watch.wait_for_line("configmap/a");
        config_map(&kubectl, "b", "1");
        watch.wait_for_line("configmap/b");
        config_map(&kubectl, "a", "2");

        let object = stored(&etcd, "/registry/configmaps/default/a");
        assert_eq!(object["data"]["a"], "2", "{version}");
        assert_eq!(
            (&object["apiVersion"], &object["kind"]),
            (&"v1".into(), &"ConfigMap".into())
        );
        assert!(
            object["metadata"].get("resourceVersion").is_none(),
            "{version}: {object}"
        );
        first.stop();

        let again = server(dir.path(), &etcd, &[]);
        let Some(kubectl) = again.kubectl() else { return };
        let object = kubectl.json(&["get", "configmap", "a"]);
        assert_eq!(object["data"]["a"], "2", "{version}: what was written stays");
        again.stop();
    }
}

#[test]
fn a_prefix_keeps_clusters_apart() {
    let Some(version) = usual() else {
        return;
    };
    let etcd = Etcd::start(version, 1, Settings::default());
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
    let servers = [
        server(dirs[0].path(), &etcd, &["--etcd-prefix=one"]),
        server(dirs[1].path(), &etcd, &["--etcd-prefix=/two/"]),
    ];
    let Some(kubectl) = servers[0].kubectl() else {
        return;
    };
    config_map(&kubectl, "a", "1");
    assert_eq!(stored(&etcd, "/one/configmaps/default/a")["data"]["a"], "1");
    let Some(kubectl) = servers[1].kubectl() else {
        return;
    };
    kubectl.fails(&["get", "configmap", "a"]);
    let keys = etcd
        .ctl(&["get", "", "--from-key", "--keys-only"])
        .expect("lists");
    let outside = keys
        .lines()
        .find(|key| !key.is_empty() && !key.starts_with("/one/") && !key.starts_with("/two/"));
    assert_eq!(outside, None);
}

#[test]
fn without_etcd_a_server_is_not_ready_and_says_why() {
    let Some(version) = usual() else {
        return;
    };
    let mut etcd = Etcd::start(version, 1, Settings::default());
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = server(dir.path(), &etcd, &[]);
    let Some(kubectl) = server.kubectl() else { return };
    config_map(&kubectl, "a", "1");
    etcd.kill(0);
    kubectl.fails(&["get", "--raw", "/readyz"]);
    let error = kubectl.fails(&["get", "configmap", "a"]);
    assert!(error.contains("etcd at http://127.0.0.1"), "{error}");
    etcd.restart(0);
    let why = || "it does not find its etcd again".to_owned();
    let object = eventually(why, || {
        let output = kubectl.run(&["get", "configmap", "a", "--output=json"]);
        let read = || serde_json::from_slice::<Value>(&output.stdout).ok();
        output.status.success().then(read).flatten()
    });
    assert_eq!(object["data"]["a"], "1");
    server.stop();
}

#[test]
fn flags_lead_into_an_etcd_with_tls_and_users() {
    let Some(version) = usual() else { return };
    let certificates = Certificates::new();
    let settings = Settings {
        tls: Some(certificates.serving()),
        ..Settings::default()
    };
    let etcd = Etcd::start(version, 1, settings);
    // A certificate that names no user of etcd.
    let (certificate, key) = certificates.issue("nobody", None);
    let files = ["ca.crt", "api.crt", "api.key"].map(|name| certificates.path(name));
    std::fs::write(&files[1], certificate).expect("a file");
    std::fs::write(&files[2], key).expect("a file");
    let [ca, certificate, key] = files.map(|path| path.display().to_string());
    let tls = ["--cacert", &ca, "--cert", &certificate, "--key", &key];
    let ready = || etcd.ctl(&[&tls[..], &["endpoint", "health"]].concat()).ok();
    eventually(|| "etcd does not start".to_owned(), ready);
    for command in [
        &["user", "add", "root:secret"][..],
        &["role", "add", "root"],
        &["user", "grant-role", "root", "root"],
        &["auth", "enable"],
    ] {
        etcd.ctl(&[&tls[..], command].concat()).expect("etcdctl does it");
    }
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("password"), "secret\n").expect("a file");
    let [ca, certificate, key] = [
        format!("--etcd-cafile={ca}"),
        format!("--etcd-certfile={certificate}"),
        format!("--etcd-keyfile={key}"),
    ];
    let flags = [
        &ca,
        &certificate,
        &key,
        "--etcd-username=root",
        "--etcd-password-file=password",
    ];
    let server = server(dir.path(), &etcd, &flags);
    let Some(kubectl) = server.kubectl() else { return };
    config_map(&kubectl, "a", "1");
    assert_eq!(kubectl.json(&["get", "configmap", "a"])["data"]["a"], "1");
    server.stop();
}
