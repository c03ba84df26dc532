//! `trimtab testenv` as the runner of a test suite sees it: a control plane for one command, and its status.

use std::path::Path;
use std::process::{Command, Output, Stdio};

fn testenv(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trimtab"));
    command.arg("testenv").args(arguments).stdin(Stdio::null());
    command
}

fn text(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn the_command_has_a_kubeconfig_and_its_status_is_passed_on() {
    let script = r#"grep -q 'https://127.0.0.1:' "$KUBECONFIG" && printf %s "$KUBECONFIG"; exit 7"#;
    let output = testenv(&["--", "sh", "-c", script]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    let kubeconfig = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(kubeconfig.ends_with(".kubeconfig"), "{}", text(&output));
    assert!(!Path::new(&kubeconfig).exists(), "it is removed");
}

#[test]
fn a_command_that_dies_of_a_signal_is_told_of_as_shells_do() {
    let output = testenv(&["--", "sh", "-c", "kill -KILL $$"])
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(137), "{}", text(&output));
}

#[test]
fn signals_are_passed_on() {
    // The command has its parent told to end, and ends well when it is told so itself.
    let script = "trap 'exit 3' TERM; kill -TERM $PPID; while :; do sleep 0.05; done";
    let output = testenv(&["--", "sh", "-c", script]).output().expect("it starts");
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
}

#[test]
fn what_cannot_be_run_is_one_line() {
    let table: [(&[&str], &str); 2] = [
        (&["--", "/nowhere/to/be/found"], "/nowhere/to/be/found"),
        (&["-f", "missing.yaml", "--", "true"], "missing.yaml"),
    ];
    for (arguments, what) in table {
        let output = testenv(arguments).output().expect("it starts");
        let text = text(&output);
        assert_eq!(output.status.code(), Some(1), "{text}");
        assert!(
            text.contains(what) && text.trim_end().lines().count() == 1,
            "{text}"
        );
    }
}

#[test]
fn manifests_are_there_and_a_user_may_do_what_a_role_allows() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let manifest = dir.path().join("map.yaml");
    std::fs::write(
        &manifest,
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: given}}",
    )
    .expect("writes");
    // curl is where kubectl need not be.
    let script = r#"
        url=$(grep -o 'https://127.0.0.1:[0-9]*' "$KUBECONFIG" | head -1)
        token=$(grep -o '"token":"[^"]*"' "$KUBECONFIG" | cut -d'"' -f4)
        ask() { curl -sk -o /dev/null -w '%{http_code} ' -H "Authorization: Bearer $token" "$@"; }
        maps="$url/api/v1/namespaces/default/configmaps"
        ask "$maps/given"; ask -X DELETE "$maps/given"
    "#;
    let manifest = manifest.display().to_string();
    let arguments = ["-f", &manifest, "--as", "alice=view", "--", "sh", "-c", script];
    let output = testenv(&arguments).output().expect("it starts");
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "200 403",
        "{}",
        text(&output)
    );
}

#[test]
fn workloads_run_on_simulated_nodes() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (manifest, stages) = (dir.path().join("job.yaml"), dir.path().join("stages.yaml"));
    let job = "{apiVersion: batch/v1, kind: Job, metadata: {name: once}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: a, image: none}]}}}}";
    std::fs::write(&manifest, job).expect("writes");
    let stage = "{kind: Stage, apiVersion: kwok.x-k8s.io/v1alpha1, metadata: {name: done}, spec: {resourceRef: {kind: Pod}, \
                 selector: {matchExpressions: [{key: .spec.nodeName, operator: Exists}]}, next: {statusTemplate: 'phase: Succeeded'}}}";
    std::fs::write(&stages, stage).expect("writes");
    let script = r#"
        url=$(grep -o 'https://127.0.0.1:[0-9]*' "$KUBECONFIG" | head -1)
        field() { sed -n "s/^ *$1: //p" "$KUBECONFIG"; }
        field client-certificate-data | base64 -d > "$0.crt"; field client-key-data | base64 -d > "$0.key"
        while :; do
            curl -sk --cert "$0.crt" --key "$0.key" "$url/apis/batch/v1/namespaces/default/jobs/once" | grep -q completionTime && exit 5
            sleep 0.1
        done
    "#;
    let [manifest, stages, keys] =
        [manifest, stages, dir.path().join("keys")].map(|path| path.display().to_string());
    let flags = [
        "--workload-controllers",
        "--nodes",
        "2",
        "--node-stages",
        &stages,
        "-f",
        &manifest,
    ];
    let command = ["--", "timeout", "60", "sh", "-c", script, &keys];
    let output = testenv(&[&flags[..], &command].concat())
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(5), "{}", text(&output));
    let wrong = testenv(&["--node-stages", &manifest, "--nodes", "1", "--", "true"]).output();
    let wrong = text(&wrong.expect("it starts"));
    assert!(wrong.contains("job.yaml") || wrong.contains("stage"), "{wrong}");
}
