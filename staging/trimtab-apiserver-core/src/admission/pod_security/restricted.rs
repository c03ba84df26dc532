//! The checks that the restricted level adds to the baseline, some of them in the place of one of that.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{is_seccomp, proc_mount, seccomp_1_19, seccomp_type, uses};
use super::standards::{Check, Template, Violation, counted, plural, quoted, unless_none};

/// All of them, in the order of their names.
pub(super) const CHECKS: &[Check] = &[
    Check {
        id: "allowPrivilegeEscalation",
        versions: &[(8, escalation), (25, escalation_1_25)],
        replaces: "",
    },
    Check {
        id: "capabilities_restricted",
        versions: &[(22, capabilities), (25, capabilities_1_25)],
        replaces: "capabilities_baseline",
    },
    Check {
        id: "procMount_restricted",
        versions: &[(35, proc_mount)],
        replaces: "procMount",
    },
    Check {
        id: "restrictedVolumes",
        versions: &[(0, volumes)],
        replaces: "hostPathVolumes",
    },
    Check {
        id: "runAsNonRoot",
        versions: &[(0, non_root), (35, non_root_1_35)],
        replaces: "",
    },
    Check {
        id: "runAsUser",
        versions: &[(23, user), (35, user_1_35)],
        replaces: "",
    },
    Check {
        id: "seccompProfile_restricted",
        versions: &[(19, seccomp), (25, seccomp_1_25)],
        replaces: "seccompProfile_baseline",
    },
];

/// The volumes that hold nothing of a node's.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The other volumes that there are.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

/// `securityContext.allowPrivilegeEscalation`: false.
fn escalation(pod: &Template<'_>) -> Option<Violation> {
    let bad = pod.bad(|container| container["securityContext"]["allowPrivilegeEscalation"] != false);
    unless_none(&bad, "allowPrivilegeEscalation != false", || {
        format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            counted("container", &bad)
        )
    })
}

fn escalation_1_25(pod: &Template<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { escalation(pod) }
}

/// `securityContext.capabilities`: all dropped, none added but that of low ports.
fn capabilities(pod: &Template<'_>) -> Option<Violation> {
    fn of<'a>(container: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
        let list = container["securityContext"]["capabilities"][field].as_array();
        list.into_iter().flatten().filter_map(Value::as_str)
    }
    let keeping = pod.bad(|container| !of(container, "drop").any(|c| c == "ALL"));
    let mut added = BTreeSet::new();
    let adding = pod.bad(|container| {
        let bad: Vec<&str> = of(container, "add")
            .filter(|c| *c != "NET_BIND_SERVICE")
            .collect();
        added.extend(bad.iter().copied());
        !bad.is_empty()
    });
    let mut details = Vec::new();
    if !keeping.is_empty() {
        let who = counted("container", &keeping);
        details.push(format!(
            r#"{who} must set securityContext.capabilities.drop=["ALL"]"#
        ));
    }
    if !adding.is_empty() {
        let who = counted("container", &adding);
        let what = quoted(&added);
        details.push(format!(
            "{who} must not include {what} in securityContext.capabilities.add"
        ));
    }
    unless_none(&details, "unrestricted capabilities", || details.join("; "))
}

fn capabilities_1_25(pod: &Template<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { capabilities(pod) }
}

/// `volumes[*]`: of [`VOLUMES`].
fn volumes(pod: &Template<'_>) -> Option<Violation> {
    let has = |volume: &Value, kind: &str| !volume[kind].is_null();
    let mut kinds = BTreeSet::new();
    let mut bad = Vec::new();
    for volume in pod.spec["volumes"].as_array().into_iter().flatten() {
        if VOLUMES.iter().any(|kind| has(volume, kind)) {
            continue;
        }
        bad.push(volume["name"].as_str().unwrap_or_default());
        kinds.insert(
            OTHER_VOLUMES
                .into_iter()
                .find(|kind| has(volume, kind))
                .unwrap_or("unknown"),
        );
    }
    unless_none(&bad, "restricted volume types", || {
        format!(
            "{} {} {} {}",
            counted("volume", &bad),
            uses(bad.len()),
            plural("restricted volume type", kinds.len()),
            quoted(&kinds)
        )
    })
}

/// `securityContext.runAsNonRoot`: true, of the pod or of each container, and false of none.
fn non_root(pod: &Template<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| context["runAsNonRoot"] == false);
    if !setters.is_empty() {
        return unless_none(&setters, REASON, || {
            format!(
                "{} must not set securityContext.runAsNonRoot=false",
                setters.join(" and ")
            )
        });
    }
    if pod.spec["securityContext"]["runAsNonRoot"] == true {
        return None;
    }
    let silent = pod.bad(|container| container["securityContext"]["runAsNonRoot"] != true);
    unless_none(&silent, REASON, || {
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            counted("container", &silent)
        )
    })
}

fn non_root_1_35(pod: &Template<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { non_root(pod) }
}

/// `securityContext.runAsUser`: not 0.
fn user(pod: &Template<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context["runAsUser"] == 0);
    unless_none(&setters, "runAsUser=0", || {
        format!("{} must not set runAsUser=0", setters.join(" and "))
    })
}

fn user_1_35(pod: &Template<'_>) -> Option<Violation> {
    if pod.has_own_users() { None } else { user(pod) }
}

/// `securityContext.seccompProfile.type`: as in the baseline, and said, of the pod or of each container.
fn seccomp(pod: &Template<'_>) -> Option<Violation> {
    if let Some(violation) = seccomp_1_19(pod) {
        return Some(violation);
    }
    let is_set = |context: &Value| is_seccomp(seccomp_type(context).as_str().unwrap_or_default());
    if is_set(&pod.spec["securityContext"]) {
        return None;
    }
    let silent = pod.bad(|container| !is_set(&container["securityContext"]));
    unless_none(&silent, "seccompProfile", || {
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            counted("container", &silent)
        )
    })
}

fn seccomp_1_25(pod: &Template<'_>) -> Option<Violation> {
    if pod.is_windows() { None } else { seccomp(pod) }
}
