//! Simulated nodes, and a person with kubectl who looks at them, drains one, and has pods fail.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::Duration;

use trimtab_tests::{Kubectl, Process, Server, binary, eventually};

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
fn nodes_are_added_to_a_cluster_that_has_none() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let server = Server::up(dir.path(), &["--storage=memory", "--nodes=0"]);
    let Some(kubectl) = server.kubectl() else { return };
    let kubeconfig = format!("--kubeconfig={}", server.kubeconfig().display());
    let nothing = Process::start(
        &binary("trimtab"),
        dir.path(),
        &["nodes", "--nodes=0", &kubeconfig],
    );
    nothing.wait_for_line("there is nothing to run");
    let nodes = Process::start(
        &binary("trimtab"),
        dir.path(),
        &["nodes", "--nodes=2", &kubeconfig],
    );
    nodes.wait_for_line("ready; Ctrl-C stops it");
    run(&kubectl, "a", &[]);
    kubectl.ok(&["wait", "--for=condition=Ready", "pod/a", "--timeout=60s"]);
    assert_eq!(
        kubectl.json(&["get", "nodes"])["items"].as_array().map(Vec::len),
        Some(2)
    );
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

/// The addresses that a server has for a name, asked as `dig` does; none if there is no such name.
fn dig(server: SocketAddr, name: &str) -> BTreeSet<Ipv4Addr> {
    let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(u8::try_from(label.len()).expect("a short label"));
        question.extend(label.as_bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
    socket
        .set_read_timeout(Some(Duration::from_secs(30)))
        .expect("a timeout");
    socket.send_to(&question, server).expect("sent");
    let mut answer = [0; 512];
    let length = socket.recv(&mut answer).expect("an answer");
    assert!(
        length >= question.len(),
        "the question comes back with the answer"
    );
    let mut at = question.len();
    let mut found = BTreeSet::new();
    for _ in 0..answer[7] {
        // A name: labels, up to an empty one or a pointer.
        while answer[at] != 0 && answer[at] < 0xc0 {
            at += usize::from(answer[at]) + 1;
        }
        at += if answer[at] == 0 { 1 } else { 2 };
        // Type, class, time to live and length of the data.
        at += 10;
        found.insert(Ipv4Addr::new(
            answer[at],
            answer[at + 1],
            answer[at + 2],
            answer[at + 3],
        ));
        at += 4;
    }
    found
}

#[test]
fn what_is_stateful_keeps_its_names() {
    let Some((_dir, server, kubectl)) = started(&["--nodes=2", "--dns=127.0.0.1:0"]) else {
        return;
    };
    let printed = server.process.printed();
    let port = printed
        .split("dig @127.0.0.1 -p ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    let port: u16 = port.and_then(|port| port.parse().ok()).expect("a port");
    let dns = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    kubectl.with_input(
        &["apply", "-f", "-"],
        include_str!("../../../examples/names.yaml"),
    );
    kubectl.ok(&["rollout", "status", "deployment/web", "--timeout=60s"]);
    kubectl.ok(&["rollout", "status", "statefulset/db", "--timeout=60s"]);
    let full = |name: &str| format!("{name}.default.svc.cluster.local");
    let becomes = |name: &str, is: &dyn Fn(&BTreeSet<Ipv4Addr>) -> bool| {
        eventually(
            || format!("{name}: {:?}", dig(dns, &full(name))),
            || Some(dig(dns, &full(name))).filter(|found| is(found)),
        )
    };
    let pods = becomes("web-pods", &|found| found.len() == 2);
    let service = becomes("web", &|found| found.len() == 1);
    let first = becomes("db-0.db", &|found| found.len() == 1);
    becomes("db", &|found| found.len() == 2 && found.is_superset(&first));
    let named = |found: &serde_json::Value| -> BTreeSet<String> {
        let items = found["items"].as_array().into_iter().flatten();
        items
            .map(|pod| pod["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let names = named(&kubectl.json(&["get", "pods", "-l", "app=web"]));

    kubectl.ok(&["delete", "pod", "-l", "app=web", "--timeout=60s"]);
    // Not waited for: kubectl looks at the name alone, and may find the successor before it has seen the pod go.
    kubectl.ok(&["delete", "pod", "db-0", "--wait=false"]);
    becomes("web-pods", &|found| found.len() == 2 && found.is_disjoint(&pods));
    becomes("db-0.db", &|found| found.len() == 1 && found.is_disjoint(&first));
    assert_eq!(
        dig(dns, &full("web")),
        service,
        "what stands before the pods stays"
    );
    let after = named(&kubectl.json(&["get", "pods", "-l", "app=web"]));
    assert!(after.is_disjoint(&names), "{names:?} {after:?}");
    server.stop();
}
