//! The checks of the baseline level. Each names the fields that it looks at, and what is allowed there.

use std::collections::BTreeSet;

use serde_json::Value;

use super::standards::{Check, Template, Test, Violation, bad_texts, counted, plural, quoted, unless_none};

/// All of them, in the order of their names.
pub(super) const CHECKS: &[Check] = &[
    check("appArmorProfile", &[(0, app_armor)]),
    check("capabilities_baseline", &[(0, capabilities)]),
    check("hostNamespaces", &[(0, host_namespaces)]),
    check("hostPathVolumes", &[(0, host_paths)]),
    check("hostPorts", &[(0, host_ports)]),
    check("hostProbesAndHostLifecycle", &[(34, probe_hosts)]),
    check("privileged", &[(0, privileged)]),
    check("procMount", &[(0, proc_mount), (35, proc_mount_1_35)]),
    check("seLinuxOptions", &[(0, se_linux), (31, se_linux_1_31)]),
    check("seccompProfile_baseline", &[(0, seccomp), (19, seccomp_1_19)]),
    check(
        "sysctls",
        &[
            (0, sysctls),
            (27, sysctls_1_27),
            (29, sysctls_1_29),
            (32, sysctls_1_32),
        ],
    ),
    check("windowsHostProcess", &[(0, host_process)]),
];

const fn check(id: &'static str, versions: &'static [(u32, Test)]) -> Check {
    Check {
        id,
        versions,
        replaces: "",
    }
}

/// The capabilities that containers have unless told otherwise, but for that of raw sockets.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Sysctls that concern nobody but the pod: five from the start, one more since 1.27, four since 1.29, two since 1.32.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// SELinux types of containers; the last since 1.31.
const SE_LINUX_TYPES: [&str; 5] = [
    "",
    "container_t",
    "container_init_t",
    "container_kvm_t",
    "container_engine_t",
];

const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";

fn annotations<'a>(pod: &Template<'a>) -> impl Iterator<Item = (&'a str, &'a str)> {
    let annotations = pod.metadata["annotations"].as_object();
    annotations
        .into_iter()
        .flatten()
        .map(|(key, value)| (key.as_str(), value.as_str().unwrap_or_default()))
}

/// `securityContext.appArmorProfile.type` and the annotations from before it: the runtime's default, or one of the node's.
fn app_armor(pod: &Template<'_>) -> Option<Violation> {
    let allowed = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    fn at(context: &Value) -> &Value {
        match &context["appArmorProfile"] {
            Value::Null => &Value::Null,
            profile => profile.get("type").unwrap_or(&NO_TYPE),
        }
    }
    let bad = |context: &Value| !at(context).is_null() && !allowed(at(context).as_str().unwrap_or_default());
    let mut setters = pod.setters(bad);
    let mut values: Vec<String> = bad_texts(pod, at, allowed)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let mut forbidden: Vec<String> = annotations(pod)
        .filter(|(key, value)| {
            let fine = value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/");
            key.starts_with(APP_ARMOR) && !fine
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if !forbidden.is_empty() {
        forbidden.sort();
        setters.push(plural("annotation", forbidden.len()));
        values.extend(forbidden);
    }
    unless_none(
        &setters,
        plural("forbidden AppArmor profile", values.len()),
        || {
            let who = setters.join(" and ");
            format!("{who} must not set AppArmor profile type to {}", quoted(&values))
        },
    )
}

/// A profile whose type is not said.
static NO_TYPE: Value = Value::Bool(false);

/// `securityContext.capabilities.add`: those that containers have anyway.
fn capabilities(pod: &Template<'_>) -> Option<Violation> {
    let mut added = BTreeSet::new();
    let bad = pod.bad(|container| {
        let add = container["securityContext"]["capabilities"]["add"].as_array();
        let add = add.into_iter().flatten().filter_map(Value::as_str);
        let bad: Vec<&str> = add.filter(|c| !CAPABILITIES.contains(c)).collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    unless_none(&bad, "non-default capabilities", || {
        let who = counted("container", &bad);
        format!(
            "{who} must not include {} in securityContext.capabilities.add",
            quoted(&added)
        )
    })
}

/// `hostNetwork`, `hostPID`, `hostIPC`: not true.
fn host_namespaces(pod: &Template<'_>) -> Option<Violation> {
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .into_iter()
        .filter(|field| pod.spec[field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    unless_none(&shared, "host namespaces", || shared.join(", "))
}

/// `volumes[*].hostPath`: none.
fn host_paths(pod: &Template<'_>) -> Option<Violation> {
    let volumes: Vec<&str> = pod.spec["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|volume| !volume["hostPath"].is_null())
        .map(|volume| volume["name"].as_str().unwrap_or_default())
        .collect();
    unless_none(&volumes, "hostPath volumes", || counted("volume", &volumes))
}

/// `ports[*].hostPort`: none, or 0.
fn host_ports(pod: &Template<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.bad(|container| {
        let of = container["ports"].as_array().into_iter().flatten();
        let of: Vec<String> = of
            .filter_map(|port| port["hostPort"].as_i64())
            .filter(|port| *port != 0)
            .map(|port| port.to_string())
            .collect();
        let some = !of.is_empty();
        ports.extend(of);
        some
    });
    unless_none(&bad, "hostPort", || {
        let list: Vec<&str> = ports.iter().map(String::as_str).collect();
        format!(
            "{} {} {} {}",
            counted("container", &bad),
            uses(bad.len()),
            plural("hostPort", ports.len()),
            list.join(", ")
        )
    })
}

/// What one does, or several do.
pub(super) fn uses(count: usize) -> &'static str {
    if count == 1 { "uses" } else { "use" }
}

/// The hosts that probes and lifecycle handlers go to: the pod itself.
fn probe_hosts(pod: &Template<'_>) -> Option<Violation> {
    let mut hosts = BTreeSet::new();
    let bad: BTreeSet<&str> = pod
        .bad(|container| {
            let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &container[probe]);
            let handlers = ["postStart", "preStop"].map(|handler| &container["lifecycle"][handler]);
            let found: Vec<&str> = probes
                .into_iter()
                .chain(handlers)
                .flat_map(|way| [&way["httpGet"]["host"], &way["tcpSocket"]["host"]])
                .filter_map(Value::as_str)
                .filter(|host| !host.is_empty())
                .collect();
            hosts.extend(found.iter().copied());
            !found.is_empty()
        })
        .into_iter()
        .collect();
    let bad: Vec<&str> = bad.into_iter().collect();
    unless_none(&bad, "probe or lifecycle host", || {
        format!(
            "{} {} {} {}",
            counted("container", &bad),
            uses(bad.len()),
            plural("probe or lifecycle host", hosts.len()),
            quoted(&hosts)
        )
    })
}

/// `securityContext.privileged`: not true.
fn privileged(pod: &Template<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["privileged"] == true);
    unless_none(&bad, "privileged", || {
        format!(
            "{} must not set securityContext.privileged=true",
            counted("container", &bad)
        )
    })
}

/// `securityContext.procMount`: `Default`.
pub(super) fn proc_mount(pod: &Template<'_>) -> Option<Violation> {
    let mut kinds = BTreeSet::new();
    let bad = pod.bad(|container| {
        let kind = &container["securityContext"]["procMount"];
        let kind = kind.as_str().filter(|kind| *kind != "Default");
        kinds.extend(kind);
        kind.is_some()
    });
    unless_none(&bad, "procMount", || {
        format!(
            "{} must not set securityContext.procMount to {}",
            counted("container", &bad),
            quoted(&kinds)
        )
    })
}

fn proc_mount_1_35(pod: &Template<'_>) -> Option<Violation> {
    if pod.has_own_users() {
        None
    } else {
        proc_mount(pod)
    }
}

fn se_linux(pod: &Template<'_>) -> Option<Violation> {
    se_linux_of(pod, &SE_LINUX_TYPES[..4])
}

fn se_linux_1_31(pod: &Template<'_>) -> Option<Violation> {
    se_linux_of(pod, &SE_LINUX_TYPES)
}

/// `securityContext.seLinuxOptions`: a type of containers, no user and no role.
fn se_linux_of(pod: &Template<'_>, types: &[&str]) -> Option<Violation> {
    let options = |context: &Value| {
        let text = |field: &str| {
            context["seLinuxOptions"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        (text("type"), !text("user").is_empty(), !text("role").is_empty())
    };
    let is_bad = |context: &Value| {
        let (kind, user, role) = options(context);
        !types.contains(&kind.as_str()) || user || role
    };
    let setters = pod.setters(is_bad);
    unless_none(&setters, "seLinuxOptions", || {
        let contexts = pod.containers().map(|container| &container["securityContext"]);
        let all: Vec<_> = std::iter::once(&pod.spec["securityContext"])
            .chain(contexts)
            .map(options)
            .collect();
        let kinds: BTreeSet<&str> = all.iter().map(|(kind, _, _)| kind.as_str()).collect();
        let kinds: Vec<&str> = kinds.into_iter().filter(|kind| !types.contains(kind)).collect();
        let mut faults = Vec::new();
        if !kinds.is_empty() {
            faults.push(counted("type", &kinds));
        }
        if all.iter().any(|(_, user, _)| *user) {
            faults.push("user may not be set".to_owned());
        }
        if all.iter().any(|(_, _, role)| *role) {
            faults.push("role may not be set".to_owned());
        }
        format!(
            "{} set forbidden securityContext.seLinuxOptions: {}",
            setters.join(" and "),
            faults.join("; ")
        )
    })
}

/// The annotations by which seccomp was chosen before 1.19.
fn seccomp(pod: &Template<'_>) -> Option<Violation> {
    let names: Vec<String> = pod
        .containers()
        .map(|c| format!("{SECCOMP_CONTAINER}{}", c["name"].as_str().unwrap_or_default()))
        .collect();
    let forbidden: BTreeSet<String> = annotations(pod)
        .filter(|(key, _)| *key == SECCOMP_POD || names.iter().any(|name| name == key))
        .filter(|(_, value)| {
            !matches!(*value, "runtime/default" | "docker/default") && !value.starts_with("localhost/")
        })
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    let forbidden: Vec<String> = forbidden.into_iter().collect();
    unless_none(&forbidden, "seccompProfile", || {
        format!(
            "forbidden {} {}",
            plural("annotation", forbidden.len()),
            forbidden.join(", ")
        )
    })
}

/// Whether a security context names a seccomp profile, and which type of one.
pub(super) fn seccomp_type(context: &Value) -> &Value {
    match &context["seccompProfile"] {
        Value::Null => &Value::Null,
        profile => profile.get("type").unwrap_or(&NO_TYPE),
    }
}

/// Whether a seccomp profile is one that filters.
pub(super) fn is_seccomp(kind: &str) -> bool {
    matches!(kind, "RuntimeDefault" | "Localhost")
}

/// `securityContext.seccompProfile.type`: the runtime's default, or one of the node's.
pub(super) fn seccomp_1_19(pod: &Template<'_>) -> Option<Violation> {
    let is_bad = |context: &Value| {
        let kind = seccomp_type(context);
        !kind.is_null() && !is_seccomp(kind.as_str().unwrap_or_default())
    };
    let setters = pod.setters(is_bad);
    unless_none(&setters, "seccompProfile", || {
        format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            setters.join(" and "),
            quoted(bad_texts(pod, seccomp_type, is_seccomp))
        )
    })
}

fn sysctls(pod: &Template<'_>) -> Option<Violation> {
    sysctls_of(pod, 5)
}

fn sysctls_1_27(pod: &Template<'_>) -> Option<Violation> {
    sysctls_of(pod, 6)
}

fn sysctls_1_29(pod: &Template<'_>) -> Option<Violation> {
    sysctls_of(pod, 10)
}

fn sysctls_1_32(pod: &Template<'_>) -> Option<Violation> {
    sysctls_of(pod, 12)
}

/// `securityContext.sysctls[*].name`: the first so many of [`SYSCTLS`].
fn sysctls_of(pod: &Template<'_>, count: usize) -> Option<Violation> {
    let named = pod.spec["securityContext"]["sysctls"].as_array();
    let forbidden: Vec<&str> = named
        .into_iter()
        .flatten()
        .map(|sysctl| sysctl["name"].as_str().unwrap_or_default())
        .filter(|name| !SYSCTLS[..count].contains(name))
        .collect();
    unless_none(&forbidden, "forbidden sysctls", || forbidden.join(", "))
}

/// `securityContext.windowsOptions.hostProcess`: not true.
fn host_process(pod: &Template<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context["windowsOptions"]["hostProcess"] == true);
    unless_none(&setters, "hostProcess", || {
        format!(
            "{} must not set securityContext.windowsOptions.hostProcess=true",
            setters.join(" and ")
        )
    })
}
