//! Simulated nodes, and a person with kubectl who looks at them, drains one, and has pods fail.

use std::path::Path;

use trimtab_tests::{Kubectl, Server, eventually};

fn started(args: &[&str]) -> Option<(tempfile::TempDir, Server, Kubectl)> {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &[&["--storage=memory"], args].concat());
    let kubectl = server.kubectl()?;
    kubectl.ok(&["wait", "--for=condition=Ready", "node", "--all", "--timeout=60s"]);
    Some((dir, server, kubectl))
}

fn run(kubectl: &Kubectl, name: &str, args: &[&str]) {
    eventually(
        || "the service account is not there".to_owned(),
        || {
            kubectl
                .run(&["get", "serviceaccount", "default"])
                .status
                .success()
                .then_some(())
        },
    );
    kubectl.ok(&[&["run", name, "--image=image"], args].concat());
}

#[test]
fn pods_run_and_a_node_is_drained() {
    let Some((_dir, server, kubectl)) = started(&["--nodes=2", "--dns=127.0.0.1:0"]) else {
        return;
    };
    let printed = server.process.printed();
    assert!(printed.contains("dig @127.0.0.1 -p"), "{printed}");
    for name in ["a", "b", "c", "d"] {
        run(&kubectl, name, &[]);
    }
    kubectl.ok(&["wait", "--for=condition=Ready", "pod", "--all", "--timeout=60s"]);
    let wide = kubectl.ok(&["get", "pods", "-o", "wide"]);
    assert!(wide.contains("10.128.") && wide.contains("node-"), "{wide}");
    kubectl.ok(&["drain", "node-1", "--force", "--timeout=60s"]);
    let wide = kubectl.ok(&["get", "pods", "-o", "wide"]);
    assert!(!wide.contains("node-1"), "{wide}");
    run(&kubectl, "after", &[]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/after", "--timeout=60s"]);
    assert_eq!(
        kubectl.json(&["get", "pod", "after"])["spec"]["nodeName"],
        "node-0"
    );
    let described = kubectl.ok(&["describe", "node", "node-1"]);
    for text in [
        "KubeletReady",
        "HolderIdentity:  node-1",
        "Unschedulable:      true",
        "PodCIDR",
    ] {
        assert!(described.contains(text), "{text}: {described}");
    }
    let described = kubectl.ok(&["describe", "pod", "after"]);
    for text in [
        "Successfully assigned default/after to node-0",
        "Container started",
    ] {
        assert!(described.contains(text), "{text}: {described}");
    }
    // Nothing is left that would take it.
    kubectl.ok(&["cordon", "node-0"]);
    run(&kubectl, "waits", &[]);
    eventually(
        || kubectl.ok(&["describe", "pod", "waits"]),
        || {
            let described = kubectl.ok(&["describe", "pod", "waits"]);
            described
                .contains("0/2 nodes are available: 2 node(s) were unschedulable.")
                .then_some(())
        },
    );
    server.stop();
}

#[test]
fn containers_fail_as_they_are_told() {
    let Some((_dir, server, kubectl)) = started(&[]) else {
        return;
    };
    run(
        &kubectl,
        "fails",
        &["--restart=Never", "--annotations=trimtab.dev/exit-code=3"],
    );
    kubectl.ok(&[
        "wait",
        "--for=jsonpath={.status.phase}=Failed",
        "pod/fails",
        "--timeout=60s",
    ]);
    let pod = kubectl.json(&["get", "pod", "fails"]);
    let ended = &pod["status"]["containerStatuses"][0]["state"]["terminated"];
    assert_eq!(
        (&ended["exitCode"], &ended["reason"]),
        (&3.into(), &"Error".into())
    );
    let listed = kubectl.ok(&["get", "pod", "fails"]);
    assert!(listed.contains("Error"), "{listed}");
    server.stop();
}

#[test]
fn pods_go_through_the_stages_of_a_file() {
    let stages = concat!(
        "--node-stages=",
        env!("CARGO_MANIFEST_DIR"),
        "/../examples/stages.yaml"
    );
    assert!(Path::new(&stages["--node-stages=".len()..]).exists());
    let Some((_dir, server, kubectl)) = started(&[stages]) else {
        return;
    };
    run(&kubectl, "staged", &[]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/staged", "--timeout=60s"]);
    kubectl.ok(&["delete", "pod", "staged", "--timeout=60s"]);
    server.stop();
}
