//! Where persistent volumes are stored: what is wrong with each kind of source, where it is not as in pods.

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::pod_spec::{no_backsteps, required, validate_kind};
use super::words::{Rule, between};
use crate::strategies::checks::{int, invalid_for, is_empty, items, text};

/// The longest name of a CSI driver.
const MAX_DRIVER: usize = 63;

/// The most bytes of a volume's name and its portal together, where who initiates has a name.
const MAX_PORTAL: usize = 64;

/// What is wrong with the source of a volume called `name`.
pub(super) fn validate_source(name: &str, kind: &str, source: &Value, at: &FieldPath) -> Vec<FieldError> {
    match kind {
        "local" if text(&source["path"]).is_empty() => required(source, &["path"], at),
        "local" => invalid_for(
            no_backsteps(text(&source["path"])),
            &source["path"],
            &at.child("path"),
        ),
        "csi" => csi(source, at),
        "iscsi" => iscsi(name, source, at),
        "fc" => fibre_channel(source, at),
        "rbd" => required(source, &["monitors", "image"], at),
        "cephfs" => required(source, &["monitors"], at),
        "azureFile" => {
            let mut errors = required(source, &["secretName", "shareName"], at);
            if source["secretNamespace"] == "" {
                errors.push(FieldError::required(&at.child("secretNamespace"), ""));
            }
            errors
        }
        "flexVolume" => required(source, &["driver"], at),
        "glusterfs" => required(source, &["endpoints", "path"], at),
        "vsphereVolume" => required(source, &["volumePath"], at),
        "photonPersistentDisk" => required(source, &["pdID"], at),
        "portworxVolume" => required(source, &["volumeID"], at),
        "gcePersistentDisk" => required(source, &["pdName"], at),
        "awsElasticBlockStore" => required(source, &["volumeID"], at),
        "cinder" => required(source, &["volumeID"], at),
        _ => validate_kind(kind, source, at),
    }
}

fn csi(source: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (driver, path) = (text(&source["driver"]), at.child("driver"));
    if driver.is_empty() {
        errors.push(FieldError::required(&path, ""));
    } else {
        if driver.len() > MAX_DRIVER {
            errors.push(FieldError::too_long(&path, MAX_DRIVER));
        }
        let wrong = names::dns1123_subdomain(&driver.to_lowercase());
        errors.extend(invalid_for(wrong, &source["driver"], &path));
    }
    errors.extend(required(source, &["volumeHandle"], at));
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if source[field].is_object() {
            errors.extend(secret(&source[field], &at.child(field)));
        }
    }
    errors
}

fn secret(reference: &Value, at: &FieldPath) -> Vec<FieldError> {
    let rules: [(&str, Rule); 2] = [
        ("name", names::dns1123_subdomain),
        ("namespace", names::dns1123_label),
    ];
    let mut errors = Vec::new();
    for (field, rule) in rules {
        if is_empty(&reference[field]) {
            errors.push(FieldError::required(&at.child(field), ""));
        } else {
            let wrong = rule(text(&reference[field]));
            errors.extend(invalid_for(wrong, &reference[field], &at.child(field)));
        }
    }
    errors
}

fn iscsi(name: &str, source: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = required(source, &["targetPortal"], at);
    let (portal, initiator) = (text(&source["targetPortal"]), source["initiatorName"].as_str());
    if initiator.is_some() && name.len() + 1 + portal.len() > MAX_PORTAL {
        let why = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                   iscsi.initiatorName is specified.";
        errors.push(FieldError::invalid(&at.child("targetportal"), portal, why));
    }
    let malformed = |at: FieldPath, name: &str| FieldError::invalid(&at, name, "must be valid format");
    let target = text(&source["iqn"]);
    if target.is_empty() {
        errors.push(FieldError::required(&at.child("iqn"), ""));
    } else if !is_iscsi_name(target) {
        errors.push(malformed(at.child("iqn"), target));
    }
    errors.extend(unit(&source["lun"], &at.child("lun")));
    let secret = &source["secretRef"];
    if (source["chapAuthDiscovery"] == true || source["chapAuthSession"] == true) && secret.is_null() {
        errors.push(FieldError::required(&at.child("secretRef"), ""));
    }
    if secret.is_object() {
        errors.extend(required(secret, &["name"], &at.child("secretRef")));
    }
    if let Some(initiator) = initiator.filter(|name| !is_iscsi_name(name)) {
        errors.push(malformed(at.child("initiatorname"), initiator));
    }
    errors
}

/// A name of one of the three kinds that iSCSI has (RFC 3720, 3.2.6.3).
fn is_iscsi_name(name: &str) -> bool {
    let of = |digits: &str, length: usize| {
        let mut rest = digits.chars();
        rest.next().is_some() && rest.as_str().len() == length && rest.all(|c| c.is_ascii_alphanumeric())
    };
    if let Some(rest) = name.strip_prefix("eui") {
        return of(rest, 16);
    }
    if let Some(rest) = name.strip_prefix("naa") {
        return of(rest, 32);
    }
    let Some(rest) = name.strip_prefix("iqn.") else {
        return false;
    };
    let Some((date, rest)) = rest.split_once('.') else {
        return false;
    };
    let Some((authority, own)) = rest.split_once(':') else {
        return false;
    };
    let is_date = date.len() == 7
        && date
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 { b == b'-' } else { b.is_ascii_digit() });
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    is_date
        && !authority.is_empty()
        && authority.chars().all(word)
        && !own.is_empty()
        && !own.contains([',', ';', '*', '&', '$', '|'])
        && !own.contains(char::is_whitespace)
}

/// The number of a logical unit.
fn unit(lun: &Value, at: &FieldPath) -> Option<FieldError> {
    let number = int(lun);
    (!(0..=255).contains(&number)).then(|| FieldError::invalid(at, number, between(0, 255)))
}

fn fibre_channel(source: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (targets, path) = (items(&source["targetWWNs"]), at.child("targetWWNs"));
    let mut errors = Vec::new();
    match (targets.is_empty(), items(&source["wwids"]).is_empty()) {
        (true, true) => {
            let why = "must specify either targetWWNs or wwids, but not both";
            errors.push(FieldError::required(&path, why));
        }
        (false, false) => {
            let why = "targetWWNs and wwids can not be specified simultaneously";
            errors.push(FieldError::invalid(&path, source["targetWWNs"].clone(), why));
        }
        _ => {}
    }
    if !targets.is_empty() {
        if source["lun"].is_null() {
            let why = "lun is required if targetWWNs is specified";
            errors.push(FieldError::required(&at.child("lun"), why));
        } else {
            errors.extend(unit(&source["lun"], &at.child("lun")));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn each_kind_of_source_is_checked() {
        let iqn = "iqn.2001-04.com.example:storage";
        let cases: [(&str, Value, &[&str]); 8] = [
            ("local", json!({}), &["s.path: Required value"]),
            (
                "local",
                json!({"path": "a/.."}),
                &["s.path: Invalid value: \"a/..\": must not contain '..'"],
            ),
            ("csi", json!({"driver": "d", "volumeHandle": "h"}), &[]),
            (
                "csi",
                json!({"driver": "D.x", "nodePublishSecretRef": {"name": "n"}}),
                &[
                    "s.volumeHandle: Required value",
                    "s.nodePublishSecretRef.namespace: Required value",
                ],
            ),
            (
                "iscsi",
                json!({"targetPortal": "p", "iqn": iqn, "lun": 256, "initiatorName": "x", "chapAuthSession": true}),
                &[
                    "s.lun: Invalid value: 256: must be between 0 and 255, inclusive",
                    "s.secretRef: Required value",
                    "s.initiatorname: Invalid value: \"x\": must be valid format",
                ],
            ),
            (
                "iscsi",
                json!({"targetPortal": "p", "iqn": iqn, "initiatorName": "eui.0123456789abcdef"}),
                &[],
            ),
            (
                "fc",
                json!({"targetWWNs": ["a"]}),
                &["s.lun: Required value: lun is required if targetWWNs is specified"],
            ),
            (
                "nfs",
                json!({"path": "a"}),
                &[
                    "s.server: Required value",
                    "s.path: Invalid value: \"a\": must be an absolute path",
                ],
            ),
        ];
        for (kind, source, expected) in cases {
            let errors = validate_source("v", kind, &source, &FieldPath::new("s"));
            assert_eq!(told(&errors), expected, "{kind} {source}");
        }
    }
}
