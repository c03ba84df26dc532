//! Objects made and changed from files: apply on both sides, diff, edit, patch, replace, prune, kustomize.

use super::{Stories, Story};

pub(super) const STORIES: Stories = &[
    ("apply-here", applied_by_the_client),
    ("apply-there", applied_by_the_server),
    ("apply-sets", pruned),
    ("edit", edited_and_patched),
    ("kustomize", kustomized),
];

/// A ConfigMap with these data.
fn map(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {data}\n")
}

fn applied_by_the_client(story: &Story) {
    let file = story.file("m.yaml", &map("m", "{a: '1', b: '2'}"));
    story.prints(&["apply", "-f", &file], &["configmap/m created"]);
    story.prints(&["apply", "-f", &file], &["configmap/m unchanged"]);
    story.file("m.yaml", &map("m", "{a: '9'}"));
    let output = story.kubectl.run(&["diff", "-f", &file]);
    assert_eq!(output.status.code(), Some(1), "there is a difference");
    let printed = String::from_utf8_lossy(&output.stdout);
    super::in_order(
        &printed,
        &["diff"],
        &["-  a: \"1\"", "-  b: \"2\"", "+  a: \"9\""],
    );
    story.prints(
        &["apply", "-f", &file, "--dry-run=server"],
        &["configmap/m configured (server dry run)"],
    );
    assert_eq!(story.value("configmap", "m", ".data.b"), "2", "nothing was done");
    story.prints(&["apply", "-f", &file], &["configmap/m configured"]);
    assert_eq!(
        story.value("configmap", "m", ".data"),
        "{\"a\":\"9\"}",
        "what is left out goes"
    );
    story.kubectl.ok(&["diff", "-f", &file]);
    story.prints(&["apply", "view-last-applied", "configmap", "m"], &["a: \"9\""]);
    let uid = story.value("configmap", "m", ".metadata.uid");
    story.prints(
        &["replace", "--force", "-f", &file],
        &["\"m\" deleted", "configmap/m replaced"],
    );
    assert_ne!(story.value("configmap", "m", ".metadata.uid"), uid);
    let wrong = story.file("wrong.yaml", &map("w", "{a: 1, b: {c: d}}"));
    story.is_refused(
        &["apply", "-f", &wrong],
        &[
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap",
            "of type string",
        ],
    );
    let unknown = story.file(
        "unknown.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: u}\ndatum: {}\n",
    );
    story.is_refused(&["apply", "-f", &unknown], &["unknown field \"datum\""]);
    story.prints(&["delete", "-f", &file], &["configmap \"m\" deleted"]);
}

fn applied_by_the_server(story: &Story) {
    let file = story.file("m.yaml", &map("m", "{a: '1', b: '2'}"));
    let apply = ["apply", "--server-side", "-f", file.as_str()];
    story.prints(&apply, &["configmap/m serverside-applied"]);
    story.file("m.yaml", &map("m", "{a: '9'}"));
    let other = [&apply[..], &["--field-manager=other"]].concat();
    story.is_refused(
        &other,
        &["Apply failed with 1 conflict: conflict with \"kubectl\": .data.a"],
    );
    let forced = [&other[..], &["--force-conflicts"]].concat();
    story.prints(&forced, &["configmap/m serverside-applied"]);
    assert_eq!(
        story.value("configmap", "m", ".data"),
        "{\"a\":\"9\",\"b\":\"2\"}"
    );
    let managers = story.value("configmap", "m", ".metadata.managedFields[*].manager");
    assert_eq!(managers, "kubectl other");
    // The first one gives up what it no longer names.
    story.prints(
        &[&apply[..], &["--force-conflicts"]].concat(),
        &["serverside-applied"],
    );
    assert_eq!(story.value("configmap", "m", ".data"), "{\"a\":\"9\"}");
    let shown = ["get", "configmap", "m", "-o", "yaml"];
    assert!(!story.kubectl.ok(&shown).contains("managedFields"));
    story.prints(
        &[&shown[..], &["--show-managed-fields"]].concat(),
        &["managedFields:", "f:a: {}"],
    );
}

fn pruned(story: &Story) {
    for name in ["a", "b"] {
        story.file(&format!("set/{name}.yaml"), &map(name, "{k: v}"));
    }
    let folder = story.dir.join("set").display().to_string();
    let apply = [
        "apply",
        "-n",
        story.namespace,
        "--prune",
        "--applyset=all",
        "-f",
        folder.as_str(),
    ];
    // kubectl has this by a switch.
    let ask = |parts: &[&str]| {
        let output = story
            .kubectl
            .run_with_env(&apply, &[("KUBECTL_APPLYSET", "true")]);
        let printed = [output.stdout, output.stderr].concat();
        super::in_order(&String::from_utf8_lossy(&printed), &apply, parts);
    };
    ask(&["configmap/a created", "configmap/b created"]);
    std::fs::remove_file(story.dir.join("set/b.yaml")).expect("is there");
    ask(&["configmap/a unchanged", "configmap/b pruned"]);
    story.is_refused(&["get", "configmap", "b"], &["configmaps \"b\" not found"]);
    let kinds = story.value(
        "secret",
        "all",
        r".metadata.annotations.applyset\.kubernetes\.io/contains-group-kinds",
    );
    assert_eq!(kinds, "ConfigMap");
}

fn edited_and_patched(story: &Story) {
    story
        .kubectl
        .ok(&["create", "configmap", "m", "--from-literal=a=one"]);
    story.kubectl.edit(&["configmap", "m"], "s/a: one/a: two/");
    assert_eq!(story.value("configmap", "m", ".data.a"), "two");
    story.kubectl.edit(&["configmap", "m"], "s/nothing/new/");
    let patch = |kind: &str, patch: &str| ["patch", "configmap", "m", kind, "-p", patch].map(str::to_owned);
    for (kind, text, data) in [
        ("--type=merge", r#"{"data":{"a":null,"b":"3"}}"#, r#"{"b":"3"}"#),
        (
            "--type=json",
            r#"[{"op":"add","path":"/data/c","value":"4"}]"#,
            r#"{"b":"3","c":"4"}"#,
        ),
        (
            "--type=strategic",
            r#"{"data":{"d":"5"}}"#,
            r#"{"b":"3","c":"4","d":"5"}"#,
        ),
    ] {
        let args = patch(kind, text);
        story.prints(&args.each_ref().map(String::as_str), &["configmap/m patched"]);
        assert_eq!(story.value("configmap", "m", ".data"), data, "{kind}");
    }
    let test = patch(
        "--type=json",
        r#"[{"op":"test","path":"/data/c","value":"none"}]"#,
    );
    story.is_refused(&test.each_ref().map(String::as_str), &["The request is invalid"]);
    let nothing = patch("--type=merge", "{}");
    story.prints(
        &nothing.each_ref().map(String::as_str),
        &["configmap/m patched (no change)"],
    );
    story
        .kubectl
        .ok(&["create", "deployment", "d", "--image=i", "--replicas=2"]);
    let containers = r#"{"spec":{"template":{"spec":{"containers":[{"name":"side","image":"s"}]}}}}"#;
    story.kubectl.ok(&["patch", "deployment", "d", "-p", containers]);
    assert_eq!(
        story.value("deployment", "d", ".spec.template.spec.containers[*].name"),
        "side i"
    );
    let scale = [
        "patch",
        "deployment",
        "d",
        "--subresource=scale",
        "--type=merge",
        "-p",
        r#"{"spec":{"replicas":1}}"#,
    ];
    story.prints(&scale, &["scale.autoscaling/d patched"]);
    assert_eq!(story.value("deployment", "d", ".spec.replicas"), "1");
    story.prints(
        &["label", "configmap", "m", "tier=front"],
        &["configmap/m labeled"],
    );
    story.is_refused(
        &["label", "configmap", "m", "tier=back"],
        &["already has a value (front)"],
    );
    story.prints(
        &["label", "configmap", "m", "tier=back", "--overwrite"],
        &["configmap/m labeled"],
    );
    story.prints(
        &["get", "configmap", "m", "-L", "tier", "--show-labels"],
        &["TIER", "LABELS", "back", "tier=back"],
    );
    story.prints(&["label", "configmap", "m", "tier-"], &["configmap/m unlabeled"]);
    story.prints(
        &["annotate", "configmap", "m", "note=hi"],
        &["configmap/m annotated"],
    );
    story.is_refused(&["label", "configmap", "m", "a b=c"], &["a b"]);
}

fn kustomized(story: &Story) {
    story.file("base/m.yaml", &map("m", "{a: '1'}"));
    story.file("base/kustomization.yaml", "resources: [m.yaml]\n");
    let over = "resources: [../base]\nnamePrefix: my-\nlabels: [{pairs: {of: base}}]\n\
                configMapGenerator: [{name: made, literals: [x=y]}]\n";
    story.file("over/kustomization.yaml", over);
    let folder = story.dir.join("over").display().to_string();
    story.prints(&["kustomize", &folder], &["name: my-m\n", "name: my-made-"]);
    story.prints(&["apply", "-k", &folder], &["configmap/my-m created"]);
    story.prints(
        &["get", "configmaps", "-l", "of=base", "-o", "name"],
        &["configmap/my-m\n"],
    );
    story.prints(&["delete", "-k", &folder], &["\"my-m\" deleted"]);
}
