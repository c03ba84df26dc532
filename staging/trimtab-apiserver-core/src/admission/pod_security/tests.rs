//! Each check by each version in which it differs, and the plugin's words.

use std::sync::Arc;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::*;
use crate::admission::tests::{Objects, attributes, named};
use crate::registry::hooks::Operation;

/// A pod that keeps to the restricted level, changed by merge patches to itself and to its only container.
fn pod(change: Value, container: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "c",
                "image": "i",
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    trimtab_apimachinery_schema::patch::merge(&mut pod["spec"]["containers"][0], &container);
    trimtab_apimachinery_schema::patch::merge(&mut pod, &change);
    pod
}

fn standard(text: &str) -> Standard {
    let (level, version) = text.split_once(':').expect("level:version");
    Standard {
        level: Level::parse(level).expect("a level"),
        version: Version::parse(version).expect("a version"),
    }
}

fn told(by: &str, pod: &Value) -> String {
    let template = Template {
        metadata: &pod["metadata"],
        spec: &pod["spec"],
    };
    details(&violations(standard(by), &template))
}

/// What standards say: each as `level:version`, and its text.
type Says = &'static [(&'static str, &'static str)];

/// Pods by what is changed in pod and container, and what each standard says of them; the empty text is "nothing".
#[test]
fn each_check_says_what_is_wrong_as_of_each_version() {
    let none = || json!({});
    let security = |context: Value| json!({"securityContext": context});
    let spec = |spec: Value| json!({ "spec": spec });
    const ESCALATION: &str = r#"allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)"#;
    const DROP_ALL: &str =
        r#"unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"])"#;
    const NON_ROOT: &str =
        r#"runAsNonRoot != true (pod or container "c" must set securityContext.runAsNonRoot=true)"#;
    const SECCOMP: &str = r#"seccompProfile (pod or container "c" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#;
    let windows = || json!({"spec": {"os": {"name": "windows"}}});
    let own_users = |mut change: Value| {
        change["spec"]["hostUsers"] = json!(false);
        change
    };
    let unconfined = json!({"type": "Unconfined"});
    let cases: Vec<(Value, Value, Says)> = vec![
        (
            none(),
            none(),
            &[("restricted:latest", ""), ("baseline:latest", "")],
        ),
        // appArmorProfile
        (
            spec(security(json!({"appArmorProfile": unconfined}))),
            security(json!({"appArmorProfile": unconfined})),
            &[(
                "baseline:v1.0",
                r#"forbidden AppArmor profile (pod and container "c" must not set AppArmor profile type to "Unconfined")"#,
            )],
        ),
        (
            json!({"metadata": {"annotations": {
                "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
                "container.apparmor.security.beta.kubernetes.io/d": "runtime/default",
                "container.apparmor.security.beta.kubernetes.io/e": "localhost/x",
            }}}),
            security(json!({"appArmorProfile": {"type": "Localhost"}})),
            &[(
                "baseline:latest",
                r#"forbidden AppArmor profile (annotation must not set AppArmor profile type to "container.apparmor.security.beta.kubernetes.io/c="unconfined"")"#,
            )],
        ),
        // capabilities
        (
            none(),
            security(json!({"capabilities": {"add": ["NET_RAW", "CHOWN", "BPF"]}})),
            &[
                (
                    "baseline:latest",
                    r#"non-default capabilities (container "c" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)"#,
                ),
                (
                    "restricted:v1.21",
                    r#"non-default capabilities (container "c" must not include "BPF", "NET_RAW" in securityContext.capabilities.add)"#,
                ),
                (
                    "restricted:latest",
                    r#"unrestricted capabilities (container "c" must not include "BPF", "CHOWN", "NET_RAW" in securityContext.capabilities.add)"#,
                ),
            ],
        ),
        (
            none(),
            security(json!({"capabilities": {"drop": ["CHOWN"], "add": ["SYS_TIME", "NET_BIND_SERVICE"]}})),
            &[(
                "restricted:latest",
                r#"unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; container "c" must not include "SYS_TIME" in securityContext.capabilities.add)"#,
            )],
        ),
        (
            none(),
            security(json!({"capabilities": null})),
            &[
                ("baseline:latest", ""),
                ("restricted:v1.21", ""),
                ("restricted:v1.22", DROP_ALL),
            ],
        ),
        (
            windows(),
            security(json!({"capabilities": null})),
            &[("restricted:v1.24", DROP_ALL), ("restricted:v1.25", "")],
        ),
        // hostNamespaces
        (
            spec(json!({"hostNetwork": true, "hostPID": true, "hostIPC": true})),
            none(),
            &[(
                "baseline:v1.0",
                "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)",
            )],
        ),
        // hostPathVolumes, restrictedVolumes
        (
            spec(json!({"volumes": [
                {"name": "a", "hostPath": {"path": "/"}},
                {"name": "b", "nfs": {}},
                {"name": "d", "emptyDir": {}},
                {"name": "e", "image": {}},
                {"name": "f", "hostPath": {"path": "/x"}},
                {"name": "g"},
            ]})),
            none(),
            &[
                ("baseline:latest", r#"hostPath volumes (volumes "a", "f")"#),
                (
                    "restricted:v1.0",
                    r#"restricted volume types (volumes "a", "b", "f", "g" use restricted volume types "hostPath", "nfs", "unknown")"#,
                ),
            ],
        ),
        (
            spec(json!({"volumes": [{"name": "a", "gitRepo": {}}]})),
            none(),
            &[
                ("baseline:latest", ""),
                (
                    "restricted:latest",
                    r#"restricted volume types (volume "a" uses restricted volume type "gitRepo")"#,
                ),
            ],
        ),
        // hostPorts
        (
            none(),
            json!({"ports": [{"containerPort": 1, "hostPort": 0}, {"hostPort": 80}, {"hostPort": 443}, {"containerPort": 5}]}),
            &[(
                "baseline:latest",
                r#"hostPort (container "c" uses hostPorts 443, 80)"#,
            )],
        ),
        (
            spec(
                json!({"initContainers": [{"name": "i", "ports": [{"hostPort": 80}], "securityContext": {}}]}),
            ),
            json!({"ports": [{"hostPort": 80}]}),
            &[(
                "baseline:latest",
                r#"hostPort (containers "i", "c" use hostPort 80)"#,
            )],
        ),
        // hostProbesAndHostLifecycle
        (
            none(),
            json!({
                "livenessProbe": {"httpGet": {"host": "b", "port": 1}},
                "startupProbe": {"tcpSocket": {"host": "", "port": 1}},
                "lifecycle": {"preStop": {"tcpSocket": {"host": "a"}}, "postStart": {"exec": {}}},
            }),
            &[
                ("baseline:v1.33", ""),
                (
                    "baseline:v1.34",
                    r#"probe or lifecycle host (container "c" uses probe or lifecycle hosts "a", "b")"#,
                ),
                (
                    "restricted:latest",
                    r#"probe or lifecycle host (container "c" uses probe or lifecycle hosts "a", "b")"#,
                ),
            ],
        ),
        // privileged
        (
            none(),
            security(json!({"privileged": true})),
            &[(
                "baseline:latest",
                r#"privileged (container "c" must not set securityContext.privileged=true)"#,
            )],
        ),
        // procMount
        (
            none(),
            security(json!({"procMount": "Unmasked"})),
            &[(
                "baseline:latest",
                r#"procMount (container "c" must not set securityContext.procMount to "Unmasked")"#,
            )],
        ),
        (
            own_users(none()),
            security(json!({"procMount": "Unmasked"})),
            &[
                ("baseline:latest", ""),
                (
                    "baseline:v1.34",
                    r#"procMount (container "c" must not set securityContext.procMount to "Unmasked")"#,
                ),
                (
                    "restricted:v1.35",
                    r#"procMount (container "c" must not set securityContext.procMount to "Unmasked")"#,
                ),
            ],
        ),
        (
            none(),
            security(json!({"procMount": "Default"})),
            &[("restricted:latest", "")],
        ),
        // seLinuxOptions
        (
            spec(security(json!({"seLinuxOptions": {"type": "spc_t"}}))),
            security(json!({"seLinuxOptions": {"type": "container_t", "user": "u", "role": "r"}})),
            &[(
                "baseline:v1.0",
                r#"seLinuxOptions (pod and container "c" set forbidden securityContext.seLinuxOptions: type "spc_t"; user may not be set; role may not be set)"#,
            )],
        ),
        (
            none(),
            security(json!({"seLinuxOptions": {"type": "container_engine_t"}})),
            &[
                (
                    "baseline:v1.30",
                    r#"seLinuxOptions (container "c" set forbidden securityContext.seLinuxOptions: type "container_engine_t")"#,
                ),
                ("baseline:v1.31", ""),
            ],
        ),
        // seccompProfile
        (
            json!({"metadata": {"annotations": {
                "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
                "container.seccomp.security.alpha.kubernetes.io/c": "docker/default",
                "container.seccomp.security.alpha.kubernetes.io/other": "unconfined",
            }}}),
            none(),
            &[
                (
                    "baseline:v1.18",
                    r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#,
                ),
                (
                    "restricted:v1.18",
                    r#"seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod="unconfined")"#,
                ),
                ("baseline:v1.19", ""),
            ],
        ),
        (
            spec(security(json!({"seccompProfile": unconfined}))),
            security(json!({"seccompProfile": unconfined})),
            &[
                ("baseline:v1.18", ""),
                (
                    "baseline:v1.19",
                    r#"seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")"#,
                ),
                (
                    "restricted:latest",
                    r#"seccompProfile (pod and container "c" must not set securityContext.seccompProfile.type to "Unconfined")"#,
                ),
            ],
        ),
        (
            spec(security(json!({"seccompProfile": null}))),
            none(),
            &[
                ("baseline:latest", ""),
                ("restricted:v1.18", ""),
                ("restricted:v1.19", SECCOMP),
            ],
        ),
        (
            spec(json!({"os": {"name": "windows"}, "securityContext": {"seccompProfile": null}})),
            none(),
            &[("restricted:v1.24", SECCOMP), ("restricted:v1.25", "")],
        ),
        (
            spec(security(json!({"seccompProfile": null}))),
            security(json!({"seccompProfile": {"type": "Localhost"}})),
            &[("restricted:latest", "")],
        ),
        // sysctls
        (
            spec(security(json!({"sysctls": [
                {"name": "net.ipv4.tcp_rmem"}, {"name": "net.ipv4.tcp_keepalive_time"}, {"name": "kernel.msgmax"},
                {"name": "net.ipv4.ip_local_reserved_ports"}, {"name": "kernel.shm_rmid_forced"},
            ]}))),
            none(),
            &[
                (
                    "baseline:v1.26",
                    "forbidden sysctls (net.ipv4.tcp_rmem, net.ipv4.tcp_keepalive_time, kernel.msgmax, net.ipv4.ip_local_reserved_ports)",
                ),
                (
                    "baseline:v1.27",
                    "forbidden sysctls (net.ipv4.tcp_rmem, net.ipv4.tcp_keepalive_time, kernel.msgmax)",
                ),
                (
                    "baseline:v1.29",
                    "forbidden sysctls (net.ipv4.tcp_rmem, kernel.msgmax)",
                ),
                ("baseline:v1.32", "forbidden sysctls (kernel.msgmax)"),
            ],
        ),
        // windowsHostProcess
        (
            spec(security(json!({"windowsOptions": {"hostProcess": true}}))),
            security(json!({"windowsOptions": {"hostProcess": true}})),
            &[(
                "baseline:latest",
                r#"hostProcess (pod and container "c" must not set securityContext.windowsOptions.hostProcess=true)"#,
            )],
        ),
        // allowPrivilegeEscalation
        (
            none(),
            security(json!({"allowPrivilegeEscalation": null})),
            &[
                ("baseline:latest", ""),
                ("restricted:v1.7", ""),
                ("restricted:v1.8", ESCALATION),
                ("restricted:latest", ESCALATION),
            ],
        ),
        (
            windows(),
            security(json!({"allowPrivilegeEscalation": true})),
            &[("restricted:v1.24", ESCALATION), ("restricted:v1.25", "")],
        ),
        // runAsNonRoot
        (
            spec(security(json!({"runAsNonRoot": null}))),
            none(),
            &[
                ("baseline:latest", ""),
                ("restricted:v1.0", NON_ROOT),
                ("restricted:latest", NON_ROOT),
            ],
        ),
        (
            spec(security(json!({"runAsNonRoot": null}))),
            security(json!({"runAsNonRoot": true})),
            &[("restricted:latest", "")],
        ),
        (
            spec(security(json!({"runAsNonRoot": false}))),
            security(json!({"runAsNonRoot": false})),
            &[(
                "restricted:latest",
                r#"runAsNonRoot != true (pod and container "c" must not set securityContext.runAsNonRoot=false)"#,
            )],
        ),
        (
            own_users(json!({"spec": {"securityContext": {"runAsNonRoot": null}}})),
            none(),
            &[("restricted:v1.34", NON_ROOT), ("restricted:v1.35", "")],
        ),
        // runAsUser
        (
            spec(security(json!({"runAsUser": 0}))),
            security(json!({"runAsUser": 0})),
            &[
                ("restricted:v1.22", ""),
                (
                    "restricted:v1.23",
                    r#"runAsUser=0 (pod and container "c" must not set runAsUser=0)"#,
                ),
            ],
        ),
        (
            own_users(json!({"spec": {"securityContext": {"runAsUser": 0}}})),
            none(),
            &[
                ("restricted:v1.34", "runAsUser=0 (pod must not set runAsUser=0)"),
                ("restricted:latest", ""),
            ],
        ),
        // Ephemeral containers are containers too, and privileged demands nothing.
        (
            spec(
                json!({"hostPID": true, "ephemeralContainers": [{"name": "e", "securityContext": {"privileged": true}}]}),
            ),
            none(),
            &[
                ("privileged:latest", ""),
                (
                    "baseline:v1.99",
                    r#"host namespaces (hostPID=true), privileged (container "e" must not set securityContext.privileged=true)"#,
                ),
            ],
        ),
    ];
    for (n, (change, container, says)) in cases.into_iter().enumerate() {
        let pod = pod(change, container);
        for (by, wanted) in says {
            assert_eq!(told(by, &pod), *wanted, "case {n} by {by}: {pod}");
        }
    }
}

#[test]
fn every_check_is_in_its_place() {
    for checks in [baseline::CHECKS, restricted::CHECKS] {
        assert!(checks.is_sorted_by(|a, b| a.id < b.id));
        assert!(
            checks
                .iter()
                .all(|check| check.versions.is_sorted_by(|a, b| a.0 < b.0))
        );
        let known = |id: &str| id.is_empty() || baseline::CHECKS.iter().any(|check| check.id == id);
        assert!(checks.iter().all(|check| known(check.replaces)));
    }
}

#[test]
fn labels_are_policies() {
    type Case<'a> = (&'a [(&'a str, &'a str)], [&'a str; 3], &'a [&'a str]);
    let cases: [Case<'_>; 8] = [
        (
            &[],
            ["privileged:latest", "privileged:latest", "privileged:latest"],
            &[],
        ),
        (
            &[("enforce", "baseline"), ("enforce-version", "v1.29")],
            ["baseline:v1.29", "privileged:latest", "baseline:v1.29"],
            &[],
        ),
        (
            &[("enforce", "baseline"), ("warn", "privileged")],
            ["baseline:latest", "privileged:latest", "privileged:latest"],
            &[],
        ),
        (
            &[
                ("enforce", "baseline"),
                ("enforce-version", "v1.1"),
                ("warn-version", "v1.2"),
            ],
            ["baseline:v1.1", "privileged:latest", "baseline:v1.2"],
            &[],
        ),
        (
            &[
                ("audit", "restricted"),
                ("audit-version", "v1.0"),
                ("warn", "baseline"),
            ],
            ["privileged:latest", "restricted:v1.0", "baseline:latest"],
            &[],
        ),
        (
            &[("enforce", "strict"), ("audit", "x"), ("warn", "y")],
            ["restricted:latest", "privileged:latest", "privileged:latest"],
            &[
                r#"metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/audit]: Invalid value: "x": must be one of privileged, baseline, restricted"#,
                r#"metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: "y": must be one of privileged, baseline, restricted"#,
            ],
        ),
        (
            &[("enforce-version", "v1.01")],
            ["privileged:latest", "privileged:latest", "privileged:latest"],
            &[
                r#"metadata.labels[pod-security.kubernetes.io/enforce-version]: Invalid value: "v1.01": must be "latest" or "v1.x""#,
            ],
        ),
        (
            &[("warn-version", "1.2")],
            ["privileged:latest", "privileged:latest", "privileged:latest"],
            &[
                r#"metadata.labels[pod-security.kubernetes.io/warn-version]: Invalid value: "1.2": must be "latest" or "v1.x""#,
            ],
        ),
    ];
    for (labels, wanted, faults) in cases {
        let (policy, errors) = Policy::of(&namespace("ns", labels), &Policy::default());
        let found = [policy.enforce, policy.audit, policy.warn].map(|standard| standard.to_string());
        assert_eq!(found, wanted, "{labels:?}");
        let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(errors, faults, "{labels:?}");
    }
}

fn namespace(name: &str, labels: &[(&str, &str)]) -> Value {
    let labels: serde_json::Map<String, Value> = labels
        .iter()
        .map(|(key, value)| (format!("pod-security.kubernetes.io/{key}"), json!(value)))
        .collect();
    named(name, json!({"metadata": {"labels": labels}}))
}

/// What is asked of the plugin, and what it says.
struct Request {
    operation: Operation,
    plural: &'static str,
    subresource: &'static str,
    object: Value,
    old: Option<Value>,
}

async fn ask(objects: Objects, config: &str, request: Request) -> (Result<(), ApiError>, Vec<String>) {
    let config = match config {
        "" => PodSecurityConfig::default(),
        text => {
            let config: Value = serde_saphyr::from_str(text).expect("YAML");
            PodSecurityConfig::read(&config).expect("a configuration")
        }
    };
    let plugin = PodSecurity::new(Arc::new(objects), config);
    let name = meta::name(&request.object).to_owned();
    let namespace = if request.plural == "namespaces" {
        &name
    } else {
        "ns"
    };
    let mut attributes = attributes(request.operation, request.plural, namespace, &name);
    request.subresource.clone_into(&mut attributes.subresource);
    attributes.user.name = "alice".to_owned();
    let mut warnings = Vec::new();
    let answer = plugin
        .validate(
            &attributes,
            Some(&request.object),
            request.old.as_ref(),
            &mut warnings,
        )
        .await;
    (answer, warnings)
}

fn create(plural: &'static str, object: Value) -> Request {
    Request {
        operation: Operation::Create,
        plural,
        subresource: "",
        object,
        old: None,
    }
}

fn update(plural: &'static str, object: Value, old: Value) -> Request {
    Request {
        operation: Operation::Update,
        old: Some(old),
        ..create(plural, object)
    }
}

fn with(labels: &[(&str, &str)]) -> Objects {
    Objects::default().with("namespaces", "", namespace("ns", labels))
}

const PRIVILEGED: &str = r#"privileged (container "c" must not set securityContext.privileged=true)"#;

fn privileged() -> Value {
    pod(json!({}), json!({"securityContext": {"privileged": true}}))
}

#[tokio::test(start_paused = true)]
async fn pods_are_refused_and_templates_are_warned_of() {
    let enforced = &[("enforce", "baseline")][..];
    let (answer, warnings) = ask(with(enforced), "", create("pods", privileged())).await;
    let error = answer.expect_err("refused");
    let text = format!("pods \"p\" is forbidden: violates PodSecurity \"baseline:latest\": {PRIVILEGED}");
    assert_eq!((error.code, error.message), (403, text));
    assert_eq!(warnings, [""; 0]);

    let would = format!("would violate PodSecurity \"baseline:latest\": {PRIVILEGED}");
    let warned = &[("warn", "baseline")][..];
    let deployment = |template: &Value| named("p", json!({"spec": {"template": template}}));
    let cron_job = named(
        "p",
        json!({"spec": {"jobTemplate": {"spec": {"template": privileged()}}}}),
    );
    let template = named("p", json!({"template": privileged()}));
    let none = [""; 0];
    for (labels, request, wanted) in [
        (warned, create("pods", privileged()), &[would.as_str()][..]),
        (&[("audit", "baseline")], create("pods", privileged()), &none),
        (&[], create("pods", privileged()), &none),
        (
            enforced,
            create("deployments", deployment(&privileged())),
            &[&would],
        ),
        (
            enforced,
            update(
                "deployments",
                deployment(&privileged()),
                deployment(&privileged()),
            ),
            &[&would],
        ),
        (warned, create("cronjobs", cron_job), &[&would]),
        (warned, create("podtemplates", template), &[&would]),
        (
            warned,
            create("replicationcontrollers", named("p", json!({"spec": {}}))),
            &none,
        ),
        (warned, create("configmaps", privileged()), &none),
    ] {
        let what = format!("{labels:?} {} {}", request.plural, request.object);
        let (answer, warnings) = ask(with(labels), "", request).await;
        assert!(answer.is_ok(), "{what}: {answer:?}");
        assert_eq!(warnings, wanted, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn updates_that_cannot_matter_are_not_looked_at() {
    let labels = &[("enforce", "baseline")];
    let image = |image: &str| {
        let mut pod = privileged();
        pod["spec"]["containers"][0]["image"] = json!(image);
        pod
    };
    let debugged = |name: &str| {
        let mut pod = privileged();
        pod["spec"]["ephemeralContainers"] = json!([{"name": name, "image": "i"}]);
        pod
    };
    let mut labelled = privileged();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    for (object, old, subresource, refused) in [
        (labelled, privileged(), "", false),
        (image("other"), image("i"), "", true),
        (image("other"), image("i"), "status", false),
        (debugged("d"), privileged(), "ephemeralcontainers", true),
        (debugged("d"), debugged("d"), "", false),
        (debugged("e"), debugged("d"), "ephemeralcontainers", true),
    ] {
        let what = format!("{subresource} {object}");
        let request = Request {
            subresource,
            ..update("pods", object, old)
        };
        let (answer, _) = ask(with(labels), "", request).await;
        assert_eq!(answer.is_err(), refused, "{what}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_namespace_whose_labels_change_hears_of_the_pods_that_it_has() {
    let owned = |name: &str, more: Value| {
        let mut pod = pod(json!({"metadata": {"name": name}}), json!({}));
        trimtab_apimachinery_schema::patch::merge(&mut pod, &more);
        pod
    };
    let pods = || {
        [
            owned("fine", json!({})),
            owned("b", json!({"spec": {"hostPID": true}})),
            owned("a", json!({"spec": {"hostPID": true}})),
            owned("c", json!({"spec": {"hostIPC": true}})),
            owned(
                "root",
                json!({"spec": {"securityContext": {"runAsNonRoot": false}}}),
            ),
        ]
        .into_iter()
        .fold(Objects::default(), |objects, pod| objects.with("pods", "ns", pod))
    };
    let head = |level: &str| {
        format!("existing pods in namespace \"ns\" violate the new PodSecurity enforce level \"{level}\"")
    };
    let baseline = vec![
        head("baseline:latest"),
        "a (and 2 other pods): host namespaces".into(),
    ];
    let restricted = vec![
        head("restricted:latest"),
        "a (and 2 other pods): host namespaces".into(),
        "root: runAsNonRoot != true".into(),
    ];
    for (new, old, wanted) in [
        (&[("enforce", "baseline")][..], &[][..], baseline.clone()),
        (
            &[("enforce", "restricted")],
            &[("enforce", "baseline")],
            restricted,
        ),
        (
            &[("enforce", "baseline")],
            &[("enforce", "restricted")],
            Vec::new(),
        ),
        (&[("enforce", "baseline")], &[("enforce", "baseline")], Vec::new()),
        (
            &[("enforce", "privileged")],
            &[("enforce", "baseline")],
            Vec::new(),
        ),
        (&[("warn", "baseline")], &[], Vec::new()),
    ] {
        let request = update("namespaces", namespace("ns", new), namespace("ns", old));
        let (answer, warnings) = ask(pods(), "", request).await;
        assert!(answer.is_ok(), "{answer:?}");
        assert_eq!(warnings, wanted, "{new:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn labels_must_make_sense_when_they_are_set() {
    let bad = || namespace("ns", &[("enforce", "strict")]);
    let (answer, _) = ask(Objects::default(), "", create("namespaces", bad())).await;
    let error = answer.expect_err("refused");
    assert_eq!(error.code, 422);
    assert!(error.message.ends_with(
        "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of privileged, baseline, restricted"
    ));
    let fine = || namespace("ns", &[]);
    for (new, old, refused) in [
        (bad(), fine(), true),
        (bad(), bad(), false),
        (fine(), bad(), false),
    ] {
        let (answer, _) = ask(Objects::default(), "", update("namespaces", new, old)).await;
        assert_eq!(answer.is_err(), refused);
    }
    // What cannot be read is enforced as restricted.
    let pod = pod(json!({}), json!({"securityContext": {"capabilities": null}}));
    let (answer, _) = ask(with(&[("enforce", "strict")]), "", create("pods", pod)).await;
    assert!(answer.expect_err("refused").message.contains("restricted:latest"));
}

const CONFIG: &str = "
apiVersion: pod-security.admission.config.k8s.io/v1
kind: PodSecurityConfiguration
defaults: {enforce: baseline, enforce-version: latest, warn: baseline}
exemptions: {usernames: [bob], runtimeClasses: [vm], namespaces: [kube-system]}
";

#[tokio::test(start_paused = true)]
async fn a_configuration_says_what_is_demanded_and_of_whom_not() {
    for (config, refused) in [
        (CONFIG.to_owned(), true),
        (CONFIG.replace("[bob]", "[alice]"), false),
        (CONFIG.replace("[kube-system]", "[ns]"), false),
        (CONFIG.replace("[vm]", "[kata]"), false),
        (CONFIG.replace("enforce: baseline", "enforce: privileged"), false),
    ] {
        let mut pod = privileged();
        pod["spec"]["runtimeClassName"] = json!("kata");
        let (answer, _) = ask(with(&[]), &config, create("pods", pod)).await;
        assert_eq!(answer.is_err(), refused, "{config}");
    }
    let system = namespace("kube-system", &[("enforce", "restricted"), ("audit", "baseline")]);
    let (_, warnings) = ask(Objects::default(), CONFIG, create("namespaces", system)).await;
    assert_eq!(
        warnings,
        [
            "namespace \"kube-system\" is exempt from Pod Security, and the policy (enforce=restricted:latest, audit=baseline:latest) will be ignored"
        ]
    );
}

#[test]
fn a_configuration_that_makes_no_sense_says_where() {
    for (from, to, wanted) in [
        (
            "enforce: baseline",
            "enforce: strict",
            "defaults.enforce: must be",
        ),
        ("latest", "newest", "defaults.enforce-version: must be"),
        ("[bob]", "bob", "exemptions.usernames: want a list"),
        ("[vm]", "[1]", "exemptions.runtimeClasses: want a list"),
        (
            "kind: PodSecurityConfiguration",
            "kind: Other",
            "want a PodSecurityConfiguration",
        ),
        ("k8s.io/v1", "k8s.io/v3", "want a PodSecurityConfiguration"),
    ] {
        let config: Value = serde_saphyr::from_str(&CONFIG.replace(from, to)).expect("YAML");
        let error = PodSecurityConfig::read(&config).expect_err("refused");
        assert!(error.starts_with(wanted), "{error}");
    }
}
