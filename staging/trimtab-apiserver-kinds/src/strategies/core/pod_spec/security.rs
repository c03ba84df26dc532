//! What is wrong with what pods and containers say about their privileges.

use std::collections::HashSet;

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath};

use super::volumes::descending;
use crate::strategies::checks::{int, invalid_for, items, one_of, text};
use crate::strategies::core::words::{MAX_INT32, between, in_range};

/// Where the profiles of seccomp and AppArmor come from.
const PROFILES: [&str; 3] = ["Localhost", "RuntimeDefault", "Unconfined"];

/// The longest path: `PATH_MAX` of Linux without its end.
const MAX_PATH: usize = 4095;

/// The longest name of a kernel parameter (`SysctlMaxLength` of `k8s.io/kubernetes/pkg/apis/core/validation`).
const MAX_SYSCTL: usize = 253;

/// The security context of a pod.
pub(super) fn validate_pod_security(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let context = &spec["securityContext"];
    let mut errors = Vec::new();
    for id in ["fsGroup", "runAsUser", "runAsGroup"] {
        if let Some(number) = context[id].as_i64() {
            let wrong = in_range(number, 0, MAX_INT32);
            errors.extend(invalid_for(wrong, &number.into(), &at.child(id)));
        }
    }
    for (i, group) in items(&context["supplementalGroups"]).iter().enumerate() {
        let at = at.child("supplementalGroups").index(i);
        errors.extend(invalid_for(in_range(int(group), 0, MAX_INT32), group, &at));
    }
    if spec["shareProcessNamespace"] == true && spec["hostPID"] == true {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.push(FieldError::invalid(&at.child("shareProcessNamespace"), true, why));
    }
    errors.extend(sysctls(&context["sysctls"], &at.child("sysctls")));
    let changes = ["Always", "OnRootMismatch"];
    errors.extend(optional(context, "fsGroupChangePolicy", &changes, at));
    errors.extend(profiles(context, at));
    errors.extend(optional(
        context,
        "supplementalGroupsPolicy",
        &["Merge", "Strict"],
        at,
    ));
    errors.extend(optional(
        context,
        "seLinuxChangePolicy",
        &["MountOption", "Recursive"],
        at,
    ));
    errors
}

/// The security context of a container.
pub(super) fn validate_container_security(
    context: &Value,
    host_users: bool,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for id in ["runAsUser", "runAsGroup"] {
        let number = context[id].as_i64();
        if let Some(number) = number.filter(|n| !(0..=MAX_INT32).contains(n)) {
            errors.push(FieldError::invalid(&at.child(id), number, between(0, MAX_INT32)));
        }
    }
    errors.extend(optional(context, "procMount", &["Default", "Unmasked"], at));
    if host_users && context["procMount"] == "Unmasked" {
        let why = "`hostUsers` must be false to use `Unmasked`";
        errors.push(FieldError::invalid(&at.child("procMount"), "Unmasked", why));
    }
    errors.extend(seccomp(&context["seccompProfile"], &at.child("seccompProfile")));
    if context["allowPrivilegeEscalation"] == false {
        if context["privileged"] == true {
            let why = "cannot set `allowPrivilegeEscalation` to false and `privileged` to true";
            errors.push(FieldError::invalid(at, context.clone(), why));
        }
        let admin = |capability: &Value| capability == "CAP_SYS_ADMIN";
        if items(&context["capabilities"]["add"]).iter().any(admin) {
            let why = "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN";
            errors.push(FieldError::invalid(at, context.clone(), why));
        }
    }
    errors.extend(app_armor(
        &context["appArmorProfile"],
        &at.child("appArmorProfile"),
    ));
    errors
}

/// A field that is one of a few if it is there, though it may be empty.
fn optional(context: &Value, field: &str, supported: &[&str], at: &FieldPath) -> Vec<FieldError> {
    if context[field].is_null() {
        return Vec::new();
    }
    one_of(&context[field], supported, &at.child(field))
}

fn profiles(context: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = seccomp(&context["seccompProfile"], &at.child("seccompProfile"));
    errors.extend(app_armor(
        &context["appArmorProfile"],
        &at.child("appArmorProfile"),
    ));
    errors
}

fn seccomp(profile: &Value, at: &FieldPath) -> Vec<FieldError> {
    if profile.is_null() {
        return Vec::new();
    }
    let (kind, path) = (text(&profile["type"]), &profile["localhostProfile"]);
    let mut errors = Vec::new();
    if kind.is_empty() {
        let why = "type is required when seccompProfile is set";
        errors.push(FieldError::required(&at.child("type"), why));
    } else {
        errors.extend(one_of(&profile["type"], &PROFILES, &at.child("type")));
    }
    let at = at.child("localhostProfile");
    match (kind, path) {
        ("Localhost", Value::Null) => {
            let why = "must be set when seccomp type is Localhost";
            errors.push(FieldError::required(&at, why));
        }
        ("Localhost", path) => errors.extend(descending(text(path), &at)),
        (_, Value::Null) => {}
        (_, path) => {
            let shown = json!({"Type": kind, "LocalhostProfile": path});
            let why = "can only be set when seccomp type is Localhost";
            errors.push(FieldError::invalid(&at, shown, why));
        }
    }
    errors
}

fn app_armor(profile: &Value, at: &FieldPath) -> Vec<FieldError> {
    if profile.is_null() {
        return Vec::new();
    }
    let (kind, path) = (text(&profile["type"]), &profile["localhostProfile"]);
    let (at_type, at) = (at.child("type"), at.child("localhostProfile"));
    let missing = || FieldError::required(&at, "must be set when AppArmor type is Localhost");
    let mut errors = Vec::new();
    match kind {
        "Localhost" => match path.as_str() {
            None | Some("") => errors.push(missing()),
            Some(path) => {
                if path != path.trim() {
                    let why = "must not be padded with whitespace";
                    errors.push(FieldError::invalid(&at, path, why));
                }
                if path.len() > MAX_PATH {
                    errors.push(FieldError::too_long(&at, MAX_PATH));
                }
            }
        },
        "" => {
            let why = "type is required when appArmorProfile is set";
            errors.push(FieldError::required(&at_type, why));
        }
        other if !PROFILES.contains(&other) => {
            errors.push(FieldError::not_supported(&at_type, other, &PROFILES));
        }
        _ if !path.is_null() => {
            let why = "can only be set when AppArmor type is Localhost";
            errors.push(FieldError::invalid(&at, path.clone(), why));
        }
        _ => {}
    }
    errors
}

/// Words of small letters, digits, `-` and `_`, joined by dots or slashes.
fn is_sysctl(name: &str) -> bool {
    let end = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let inner = |b: &u8| end(b) || matches!(b, b'-' | b'_');
    name.len() <= MAX_SYSCTL
        && name.split(['.', '/']).all(|word| {
            let bytes = word.as_bytes();
            bytes.first().is_some_and(end) && bytes.last().is_some_and(end) && bytes.iter().all(inner)
        })
}

fn sysctls(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, sysctl) in items(list).iter().enumerate() {
        let (name, at) = (text(&sysctl["name"]), at.index(i).child("name"));
        if name.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if !is_sysctl(name) {
            let why = format!(
                "must have at most {MAX_SYSCTL} characters and match regex \
                 ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$"
            );
            errors.push(FieldError::invalid(&at, name, why));
        } else if seen.contains(name) {
            errors.push(FieldError::duplicate(&at, name));
        }
        seen.insert(name);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn profiles_and_parameters_are_checked() {
        let cases: [(Value, &[&str]); 8] = [
            (json!({}), &[]),
            (
                json!({"seccompProfile": {"type": "Localhost", "localhostProfile": "a/b"}}),
                &[],
            ),
            (
                json!({"seccompProfile": {"type": "Localhost"}}),
                &[
                    "c.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
                ],
            ),
            (
                json!({"seccompProfile": {}}),
                &["c.seccompProfile.type: Required value: type is required when seccompProfile is set"],
            ),
            (
                json!({"appArmorProfile": {"type": "x"}}),
                &[
                    "c.appArmorProfile.type: Unsupported value: \"x\": supported values: \"Localhost\", \
                   \"RuntimeDefault\", \"Unconfined\"",
                ],
            ),
            (
                json!({"appArmorProfile": {"type": "Unconfined", "localhostProfile": "p"}}),
                &[
                    "c.appArmorProfile.localhostProfile: Invalid value: \"p\": can only be set when AppArmor type is Localhost",
                ],
            ),
            (
                json!({"supplementalGroupsPolicy": ""}),
                &[
                    "c.supplementalGroupsPolicy: Unsupported value: \"\": supported values: \"Merge\", \"Strict\"",
                ],
            ),
            (
                json!({"sysctls": [{"name": "a.b"}, {"name": "a.b"}, {"name": ""}, {"name": "A"}]}),
                &[
                    "c.sysctls[1].name: Duplicate value: \"a.b\"",
                    "c.sysctls[2].name: Required value",
                    "c.sysctls[3].name: Invalid value: \"A\": must have at most 253 characters and match regex \
                     ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$",
                ],
            ),
        ];
        for (context, expected) in cases {
            let spec = json!({"securityContext": context});
            assert_eq!(
                told(&validate_pod_security(&spec, &FieldPath::new("c"))),
                expected,
                "{context}"
            );
        }
        let unmasked = json!({"procMount": "Unmasked"});
        let at = FieldPath::new("c");
        let expected =
            ["c.procMount: Invalid value: \"Unmasked\": `hostUsers` must be false to use `Unmasked`"];
        assert_eq!(told(&validate_container_security(&unmasked, true, &at)), expected);
        assert!(validate_container_security(&unmasked, false, &at).is_empty());
    }
}
