//! Bad input: one clear line and a non-zero exit.

use std::path::Path;
use std::process::Command;

use trimtab_tests::{Server, binary};

/// Runs a binary that must refuse; returns its error output, which must be one line that names the culprit.
fn refused(program: &str, dir: &Path, args: &[&str], culprit: &str) {
    let output = Command::new(binary(program))
        .current_dir(dir)
        .args(args)
        .output()
        .expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "{program} {args:?} succeeded");
    assert_eq!(error.trim_end().lines().count(), 1, "one line, not:\n{error}");
    assert!(error.contains(culprit), "{culprit:?} is not named in: {error}");
}

#[test]
fn a_busy_port() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = taken.local_addr().expect("it is bound").port().to_string();
    let flag = format!("--secure-port={port}");
    refused("trimtab", dir.path(), &["up", "--storage=memory", &flag], &port);
    refused(
        "trimtab-apiserver",
        dir.path(),
        &["--storage=memory", &flag],
        &port,
    );
}

#[test]
fn a_data_dir_that_cannot_be_written() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    // A file where the folder should be: refused even for a superuser.
    std::fs::write(dir.path().join("file"), "").expect("a file");
    refused(
        "trimtab",
        dir.path(),
        &["up", "--secure-port=0", "--data-dir=file/data"],
        "file/data",
    );
    refused(
        "trimtab-apiserver",
        dir.path(),
        &["--secure-port=0", "--data-dir=file/data"],
        "file/data",
    );
}

#[test]
fn a_data_dir_that_another_process_uses() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let _first = Server::up(dir.path(), &[]);
    refused(
        "trimtab",
        dir.path(),
        &["up", "--secure-port=0"],
        "in use by another process",
    );
}

#[test]
fn a_broken_kubeconfig() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("broken"), "clusters: [").expect("a file");
    for program in ["sample-controller", "trimtab-controller-manager"] {
        refused(program, dir.path(), &["--kubeconfig=broken"], "broken");
        refused(program, dir.path(), &["--kubeconfig=absent"], "absent");
    }
}

#[test]
fn flags_that_make_no_sense() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let cases: &[(&[&str], &str)] = &[
        (&["--token-auth-file=absent"], "absent"),
        (
            &["--tls-cert-file=absent", "--tls-private-key-file=absent"],
            "absent",
        ),
        (&["--storage=etcd"], "--etcd-servers"),
        (
            &["--storage=memory", "--etcd-servers=http://127.0.0.1:1"],
            "--storage is not etcd",
        ),
        (&["--etcd-servers=127.0.0.1:2379"], "must begin with http://"),
        (
            &["--etcd-servers=https://127.0.0.1:2379", "--etcd-cafile=absent"],
            "--etcd-cafile absent",
        ),
        (
            &[
                "--etcd-servers=http://127.0.0.1:2379",
                "--etcd-username=a",
                "--etcd-password-file=absent",
            ],
            "--etcd-password-file absent",
        ),
    ];
    for (args, culprit) in cases {
        let all = [&["--secure-port=0"], *args].concat();
        refused("trimtab-apiserver", dir.path(), &all, culprit);
    }
}

#[test]
fn values_that_are_none() {
    for (args, culprit) in [
        (["--service-cluster-ip-range", "banana"], "banana"),
        (["--secure-port", "99999"], "99999"),
        (["--etcd-compaction-interval", "soon"], "soon"),
    ] {
        let output = Command::new(binary("trimtab-apiserver"))
            .args(args)
            .output()
            .expect("it starts");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert!(
            error.lines().next().is_some_and(|line| line.contains(culprit)),
            "{error}"
        );
    }
}

#[test]
fn stages_that_are_not_understood() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let stage = "apiVersion: kwok.x-k8s.io/v1alpha1\nkind: Stage\nmetadata: {name: a}\nspec:\n  resourceRef: {kind: Pod}\n  nonsense: 1\n";
    std::fs::write(dir.path().join("stages.yaml"), stage).expect("a file");
    let up = |file: &str, culprit: &str| {
        let flag = format!("--node-stages={file}");
        refused(
            "trimtab",
            dir.path(),
            &["up", "--storage=memory", "--secure-port=0", &flag],
            culprit,
        );
    };
    up("stages.yaml", "nonsense");
    up("nowhere.yaml", "nowhere.yaml");
}
