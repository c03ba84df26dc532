//! A stock kubectl, an API server, and the sample server behind it.

use std::path::Path;

use trimtab_tests::{Kubectl, Process, Server, binary, eventually};

const APISERVICE: &str = "apiservice/v1.samples.trimtab.dev";

fn sample(dir: &Path, kubeconfig: &Path, port: u16) -> Process {
    let (kubeconfig, port) = (
        format!("--kubeconfig={}", kubeconfig.display()),
        format!("--secure-port={port}"),
    );
    let process = Process::start(&binary("sample-apiserver"), dir, &[&kubeconfig, &port]);
    process.wait_for_line("ready");
    process
}

fn manifests(dir: &Path) -> String {
    dir.join("sample-apiserver/manifests.json").display().to_string()
}

fn available(kubectl: &Kubectl, status: &str) {
    let wanted = format!("--for=condition=Available={status}");
    kubectl.ok(&["wait", &wanted, APISERVICE, "--timeout=60s"]);
}

#[test]
fn kubectl_uses_what_a_server_behind_has_as_if_it_were_the_servers_own() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    std::fs::write(dir.path().join("tokens"), "alice-token,alice,alice-uid\n").expect("a file");
    let server = Server::apiserver(dir.path(), &["--token-auth-file=tokens"]);
    let Some(kubectl) = server.kubectl() else { return };
    let extension = sample(dir.path(), server.kubeconfig(), 0);
    kubectl.ok(&["apply", "-f", &manifests(dir.path())]);
    available(&kubectl, "True");
    let port = kubectl.json(&["get", APISERVICE])["spec"]["service"]["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok())
        .expect("a port");
    eventually(
        || kubectl.ok(&["api-resources"]),
        || {
            kubectl
                .ok(&["api-resources", "--api-group=samples.trimtab.dev"])
                .contains("notes")
                .then_some(())
        },
    );

    // What is computed.
    let usage = kubectl.ok(&["get", "namespaceusages"]);
    assert!(usage.contains("PODS") && usage.contains("kube-system"), "{usage}");
    let pod = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [
        {"name": "c", "image": "i", "resources": {"requests": {"cpu": "250m", "memory": "64Mi"}}}]}}"#;
    std::fs::write(dir.path().join("pod.json"), pod).expect("a file");
    let account = ["create", "serviceaccount", "default"];
    kubectl.ok(&account);
    kubectl.ok(&["create", "-f", &dir.path().join("pod.json").display().to_string()]);
    let usage = kubectl.json(&["get", "nsu", "default"]);
    assert_eq!(
        (&usage["pods"], &usage["cpu"], &usage["memory"]),
        (&1.into(), &"250m".into(), &"64Mi".into())
    );
    let error = kubectl.fails(&["delete", "nsu", "default"]);
    assert!(
        error.contains("MethodNotAllowed") || error.contains("does not allow"),
        "{error}"
    );

    // What is stored: explain, create, apply, edit, watch, delete, and what is refused.
    let explained = kubectl.ok(&["explain", "notes.spec.weight"]);
    assert!(explained.contains("How much it matters."), "{explained}");
    let file = dir.path().join("note.yaml");
    let note = |text: &str| {
        let yaml = format!(
            "apiVersion: samples.trimtab.dev/v1\nkind: Note\nmetadata: {{name: first}}\nspec: {{text: '{text}'}}\n"
        );
        std::fs::write(&file, yaml).expect("a file");
        file.display().to_string()
    };
    kubectl.ok(&["apply", "-f", &note("one")]);
    assert_eq!(kubectl.json(&["get", "note", "first"])["spec"]["weight"], 1);
    let watch = kubectl.start(&["get", "notes", "--watch", "-o", "custom-columns=TEXT:.spec.text"]);
    watch.wait_for_line("one");
    assert!(
        kubectl
            .ok(&["apply", "--server-side", "--force-conflicts", "-f", &note("two")])
            .contains("applied")
    );
    watch.wait_for_line("two");
    assert!(kubectl.ok(&["get", "notes"]).contains("TEXT"));
    let error = kubectl.fails(&["apply", "-f", &note("")]);
    assert!(error.contains("spec.text"), "{error}");
    let error = kubectl.fails(&[
        "patch",
        "note",
        "first",
        "--type=merge",
        "-p",
        r#"{"spec":{"weight":9}}"#,
    ]);
    assert!(error.contains("less than or equal to 5"), "{error}");

    // Who may not.
    let alice = |args: &[&str]| kubectl.fails(&[args, &["--as=alice"]].concat());
    let error = alice(&["get", "notes"]);
    assert!(
        error.contains("notes.samples.trimtab.dev is forbidden: User \"alice\" cannot list"),
        "{error}"
    );
    let url = kubectl.ok(&["config", "view", "-o", "jsonpath={.clusters[0].cluster.server}"]);
    let (url, authority) = (
        format!("--server={url}"),
        format!(
            "--certificate-authority={}",
            dir.path().join("certs/ca.crt").display()
        ),
    );
    for (token, wanted) in [("nobodys", "Unauthorized"), ("alice-token", "forbidden")] {
        let token = format!("--token={token}");
        let error = kubectl.fails(&["get", "notes", "--kubeconfig=/dev/null", &url, &authority, &token]);
        assert!(error.contains(wanted), "{error}");
    }

    // It goes, and comes back with what it has kept.
    extension.signal("INT");
    drop(extension);
    eventually(
        || kubectl.ok(&["get", APISERVICE, "-o", "yaml"]),
        || (!kubectl.run(&["get", "notes"]).status.success()).then_some(()),
    );
    available(&kubectl, "False");
    let shown = kubectl.ok(&["get", APISERVICE]);
    assert!(shown.contains("False (FailedDiscoveryCheck)"), "{shown}");
    let error = kubectl.fails(&["get", "--raw", "/apis/samples.trimtab.dev/v1/notes"]);
    assert!(
        error.contains("currently unable to handle the request"),
        "{error}"
    );
    kubectl.ok(&["get", "namespaces"]);
    let extension = sample(dir.path(), server.kubeconfig(), port);
    available(&kubectl, "True");
    assert_eq!(kubectl.json(&["get", "note", "first"])["spec"]["text"], "two");
    kubectl.ok(&["delete", "note", "first"]);
    drop(extension);
    server.stop();
}
