//! The Website story: `trimtab up` from nothing, and a person with kubectl.

use serde_json::Value;
use trimtab_tests::{Kubectl, Server, eventually};

const WEBSITE: &str = include_str!("../../../examples/website.yaml");

fn started() -> Option<(tempfile::TempDir, Server, Kubectl)> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &["--storage=memory"]);
    let kubectl = server.kubectl()?;
    Some((dir, server, kubectl))
}

fn publish(kubectl: &Kubectl) {
    kubectl.with_input(&["apply", "-f", "-"], WEBSITE);
    kubectl.ok(&["wait", "--for=condition=Synced", "website/hello", "--timeout=60s"]);
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"]
        .as_str()
        .expect("stored objects have a uid")
}

#[test]
fn a_website_is_published_and_collected() {
    let Some((_dir, server, kubectl)) = started() else {
        return;
    };
    publish(&kubectl);

    let site = kubectl.json(&["get", "website", "hello"]);
    assert_eq!(
        site["status"]["observedGeneration"],
        site["metadata"]["generation"]
    );
    for kind in ["configmap", "deployment", "service"] {
        let child = kubectl.json(&["get", kind, "hello"]);
        let owner = &child["metadata"]["ownerReferences"][0];
        assert_eq!(owner["uid"], uid(&site), "{kind} is owned by the website");
        assert_eq!(owner["controller"], true);
    }
    let table = kubectl.ok(&["get", "websites,deployments,services,configmaps"]);
    assert!(table.contains("website.samples.example.com/hello"), "{table}");
    let columns = kubectl.ok(&["get", "ws"]);
    let heading = columns.lines().next().unwrap_or_default();
    for column in ["NAME", "REPLICAS", "READY", "HOST", "AGE"] {
        assert!(heading.contains(column), "{columns}");
    }
    let described = kubectl.ok(&["describe", "website", "hello"]);
    assert!(
        described.contains("Events:") && !described.contains("Events:  <none>"),
        "{described}"
    );
    let explained = kubectl.ok(&["explain", "website.spec"]);
    assert!(explained.contains("replicas"), "{explained}");

    kubectl.ok(&["delete", "website", "hello", "--timeout=60s"]);
    for kind in ["configmap", "deployment", "service"] {
        kubectl.ok(&["wait", "--for=delete", &format!("{kind}/hello"), "--timeout=60s"]);
    }
    server.stop();
}

#[test]
fn what_others_change_or_delete_is_repaired() {
    let Some((_dir, _server, kubectl)) = started() else {
        return;
    };
    publish(&kubectl);

    let before = kubectl.json(&["get", "deployment", "hello"]);
    kubectl.ok(&["delete", "deployment", "hello"]);
    eventually(
        || "no new deployment".to_owned(),
        || {
            let output = kubectl.run(&["get", "deployment", "hello", "-o", "json"]);
            let found: Value = serde_json::from_slice(&output.stdout).ok()?;
            (uid(&found) != uid(&before)).then_some(())
        },
    );

    kubectl.ok(&["scale", "deployment", "hello", "--replicas=9"]);
    let wanted = kubectl.json(&["get", "website", "hello"])["spec"]["replicas"].clone();
    let path = format!("jsonpath={{.spec.replicas}}={wanted}");
    kubectl.ok(&[
        "wait",
        &format!("--for={path}"),
        "deployment/hello",
        "--timeout=60s",
    ]);

    kubectl.ok(&[
        "patch",
        "configmap",
        "hello",
        "--type=merge",
        "-p",
        r#"{"data":{"index.html":"defaced"}}"#,
    ]);
    eventually(
        || "the page stays defaced".to_owned(),
        || {
            let map = kubectl.json(&["get", "configmap", "hello"]);
            (map["data"]["index.html"] != "defaced").then_some(())
        },
    );
}

#[test]
fn edits_scale_and_labels_reach_the_children() {
    let Some((_dir, _server, kubectl)) = started() else {
        return;
    };
    publish(&kubectl);

    kubectl.edit(&["website", "hello"], "s/replicas: .*/replicas: 5/");
    kubectl.ok(&[
        "wait",
        "--for=jsonpath={.spec.replicas}=5",
        "deployment/hello",
        "--timeout=60s",
    ]);

    kubectl.ok(&["scale", "website", "hello", "--replicas=3"]);
    kubectl.ok(&[
        "wait",
        "--for=jsonpath={.spec.replicas}=3",
        "deployment/hello",
        "--timeout=60s",
    ]);

    kubectl.ok(&["label", "website", "hello", "team=web"]);
    let found = kubectl.ok(&["get", "websites", "-l", "team=web", "-o", "name"]);
    assert_eq!(found.trim(), "website.samples.example.com/hello");

    // No kubelet runs here: someone says that the deployment is ready, and the website hears of it.
    let status = r#"{"status":{"replicas":3,"readyReplicas":3,"availableReplicas":3,"observedGeneration":99,"conditions":[{"type":"Available","status":"True","reason":"MinimumReplicasAvailable","message":"ready"}]}}"#;
    kubectl.ok(&[
        "patch",
        "deployment",
        "hello",
        "--subresource=status",
        "--type=merge",
        "-p",
        status,
    ]);
    kubectl.ok(&[
        "wait",
        "--for=condition=Available",
        "website/hello",
        "--timeout=60s",
    ]);
    kubectl.ok(&[
        "wait",
        "--for=jsonpath={.status.readyReplicas}=3",
        "website/hello",
        "--timeout=60s",
    ]);
}

#[test]
fn changes_are_watched_live() {
    let Some((_dir, _server, kubectl)) = started() else {
        return;
    };
    let watch = kubectl.start(&["get", "websites", "-w", "--output-watch-events"]);
    publish(&kubectl);
    watch.wait_for_line("ADDED      hello");
    kubectl.ok(&["delete", "website", "hello", "--timeout=60s"]);
    watch.wait_for_line("DELETED    hello");
}

#[test]
fn an_invalid_website_is_refused_in_kubernetes_words() {
    let Some((_dir, _server, kubectl)) = started() else {
        return;
    };
    let bad = WEBSITE.replace("replicas: 2", "replicas: -1");
    let output = kubectl.run_with_input(&["apply", "-f", "-"], &bad);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    for line in [
        "The Website \"hello\" is invalid:",
        "* spec.replicas: Invalid value: -1: spec.replicas in body should be greater than or equal to 0",
        "* .spec.replicas: Invalid value: -1: should be a non-negative integer",
    ] {
        assert!(error.contains(line), "{error}");
    }
    let unknown = WEBSITE.replace("replicas: 2", "replica: 2");
    let output = kubectl.run_with_input(&["apply", "-f", "-"], &unknown);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(error.contains("unknown field \"spec.replica\""), "{error}");
}

#[test]
fn deleting_a_namespace_removes_what_is_in_it() {
    let Some((_dir, _server, kubectl)) = started() else {
        return;
    };
    kubectl.ok(&["create", "namespace", "team"]);
    kubectl.with_input(&["apply", "-n", "team", "-f", "-"], WEBSITE);
    kubectl.ok(&[
        "wait",
        "-n",
        "team",
        "--for=condition=Synced",
        "website/hello",
        "--timeout=60s",
    ]);
    kubectl.ok(&[
        "create",
        "secret",
        "generic",
        "key",
        "-n",
        "team",
        "--from-literal=a=b",
    ]);
    kubectl.ok(&["delete", "namespace", "team", "--timeout=60s"]);
    let error = kubectl.fails(&["get", "namespace", "team"]);
    assert!(error.contains("NotFound"), "{error}");
    // A namespace of the same name starts empty.
    kubectl.ok(&["create", "namespace", "team"]);
    let left = kubectl.ok(&[
        "get",
        "websites,deployments,services,configmaps,secrets",
        "-n",
        "team",
        "-o",
        "name",
    ]);
    let left: Vec<&str> = left
        .lines()
        .filter(|l| *l != "configmap/kube-root-ca.crt")
        .collect();
    assert!(left.is_empty(), "{left:?}");
}
