//! `trimtab-apiserver` alone: the API server without controllers.

use trimtab_tests::Server;

#[test]
fn it_serves_kubectl_and_runs_no_controllers() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::apiserver(dir.path(), &[]);
    let Some(kubectl) = server.kubectl() else { return };
    for path in ["/readyz", "/livez", "/healthz"] {
        assert_eq!(kubectl.ok(&["get", "--raw", path]).trim(), "ok");
    }
    kubectl.ok(&["get", "namespaces"]);
    assert!(
        kubectl
            .ok(&["get", "--raw", "/metrics"])
            .contains("apiserver_request_total")
    );
    assert!(kubectl.ok(&["version"]).contains("Server Version: v1.36"));

    // Nobody empties a namespace here: it stays until someone finalizes it, as with kube-apiserver alone.
    kubectl.ok(&["create", "namespace", "stays"]);
    kubectl.ok(&["delete", "namespace", "stays", "--wait=false"]);
    assert_eq!(
        kubectl.json(&["get", "namespace", "stays"])["status"]["phase"],
        "Terminating"
    );
    server.stop();
}

#[test]
fn tokens_and_roles_decide() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(
        dir.path().join("tokens"),
        "root-token,root,root-uid,\"system:masters\"\nalice-token,alice,alice-uid\n",
    )
    .expect("a file");
    let server = Server::apiserver(
        dir.path(),
        &["--token-auth-file=tokens", "--authorization-mode=RBAC"],
    );
    let Some(kubectl) = server.kubectl() else { return };
    let alice = |args: &[&str]| kubectl.run(&[&["--as=alice"], args].concat());
    assert!(!alice(&["get", "pods"]).status.success());
    kubectl.ok(&["create", "role", "reader", "--verb=get,list", "--resource=pods"]);
    kubectl.ok(&["create", "rolebinding", "reader", "--role=reader", "--user=alice"]);
    trimtab_tests::eventually(
        || "the role takes no effect".to_owned(),
        || alice(&["get", "pods"]).status.success().then_some(()),
    );
    let error = alice(&["delete", "pod", "x"]);
    assert!(String::from_utf8_lossy(&error.stderr).contains(
        "pods \"x\" is forbidden: User \"alice\" cannot delete resource \"pods\" in API group \"\" in the namespace \"default\""
    ));
    assert_eq!(
        kubectl
            .ok(&["auth", "can-i", "list", "pods", "--as=alice"])
            .trim(),
        "yes"
    );
}
