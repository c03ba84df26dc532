//! Kinds of `storage.k8s.io`: classes of volumes, drivers, and what they say of nodes and volumes.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{
    default_to, immutable, int, invalid_for, is_empty, items, label_selector, non_negative, object, one_of,
    text,
};
use super::rules::{Rules, carry_over};

const TOKENS_MAY_BE_LOGGED: &str = "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true \
    to prevent possible logging of tokens in volume attributes";

/// The most parameters of a class, and their most bytes.
const MOST_PARAMETERS: usize = 512;
const MOST_BYTES: usize = 256 * 1024;

/// The rules of a kind of this group.
pub(super) fn rules(kind: &str) -> Option<Rules> {
    Some(match kind {
        "StorageClass" => Rules {
            default: |class| {
                default_to(class, "reclaimPolicy", "Delete");
                default_to(class, "volumeBindingMode", "Immediate");
            },
            validate: validate_class,
            validate_update: Some(|new, old| {
                let mut errors = validate_class(new);
                for field in ["parameters", "provisioner", "reclaimPolicy", "volumeBindingMode"] {
                    errors.extend(immutable(&new[field], &old[field], &FieldPath::new(field)));
                }
                errors
            }),
            ..Rules::NO_STATUS
        },
        "VolumeAttributesClass" => Rules {
            validate: validate_attributes,
            validate_update: Some(|new, old| {
                let mut errors = Vec::new();
                for field in ["driverName", "parameters"] {
                    if new[field] != old[field] {
                        let why = format!("updates to {field} are forbidden.");
                        errors.push(FieldError::forbidden(&FieldPath::new(field), why));
                    }
                }
                errors.extend(validate_attributes(new));
                errors
            }),
            ..Rules::NO_STATUS
        },
        "CSIDriver" => Rules {
            unconditional_update: false,
            generation: false,
            default: default_driver,
            prepare_create: |_, driver| drop_gated(driver, &Value::Null),
            prepare_update: drop_gated,
            validate: validate_driver,
            warnings: |driver, old| {
                let requests = &driver["spec"]["tokenRequests"];
                let changed = old.is_none_or(|old| old["spec"]["tokenRequests"] != *requests);
                let unset = driver["spec"]["serviceAccountTokenInSecrets"].is_null();
                let warned = changed && unset && !is_empty(requests);
                warned
                    .then(|| TOKENS_MAY_BE_LOGGED.to_owned())
                    .into_iter()
                    .collect()
            },
            validate_update: Some(|new, old| {
                let at = FieldPath::new("spec");
                let mut errors = validate_driver(new);
                for (field, told_as) in [
                    ("attachRequired", "attachedRequired"),
                    ("volumeLifecycleModes", "volumeLifecycleModes"),
                ] {
                    errors.extend(immutable(
                        &new["spec"][field],
                        &old["spec"][field],
                        &at.child(told_as),
                    ));
                }
                errors
            }),
            ..Rules::NO_STATUS
        },
        "CSINode" => Rules {
            unconditional_update: false,
            default: |node| default_to(object(node, "spec"), "drivers", Value::Null),
            validate: validate_node,
            validate_update: Some(update_node),
            ..Rules::NO_STATUS
        },
        "CSIStorageCapacity" => Rules {
            unconditional_update: false,
            validate: validate_capacity,
            validate_update: Some(|new, old| {
                let mut errors = validate_capacity(new);
                for field in ["nodeTopology", "storageClassName"] {
                    errors.extend(immutable(&new[field], &old[field], &FieldPath::new(field)));
                }
                errors
            }),
            ..Rules::NO_STATUS
        },
        "VolumeAttachment" => Rules {
            unconditional_update: false,
            prepare_status: keep_metadata,
            validate: validate_attachment,
            validate_update: Some(update_attachment),
            validate_status: update_attachment,
            ..Rules::ORDINARY
        },
        _ => return None,
    })
}

/// Kubernetes lets updates of some statuses change managed fields only, and nothing else of the metadata.
pub(super) fn keep_metadata(new: &mut Value, old: &Value) {
    for field in [
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "deletionTimestamp",
        "selfLink",
    ] {
        carry_over(&mut new["metadata"], &old["metadata"], field);
    }
}

fn provisioner(class: &Value, field: &str) -> Vec<FieldError> {
    let (name, at) = (text(&class[field]).to_lowercase(), FieldPath::new(field));
    if name.is_empty() {
        return vec![FieldError::required(&at, "")];
    }
    invalid_for(names::qualified_name(&name), &Value::from(name.as_str()), &at)
}

fn parameters(class: &Value, required: bool) -> Vec<FieldError> {
    let at = FieldPath::new("parameters");
    let all: Vec<_> = class["parameters"].as_object().into_iter().flatten().collect();
    if all.len() > MOST_PARAMETERS {
        return vec![FieldError::too_long(&at, MOST_PARAMETERS)];
    }
    let mut errors = Vec::new();
    if all.iter().any(|(key, _)| key.is_empty()) {
        errors.push(FieldError::invalid(&at, "", "field can not be empty."));
    }
    let bytes: usize = all.iter().map(|(key, value)| key.len() + text(value).len()).sum();
    if bytes > MOST_BYTES {
        errors.push(FieldError::too_long(&at, MOST_BYTES));
    }
    if required && all.is_empty() {
        errors.push(FieldError::required(
            &at,
            "must contain at least one key/value pair",
        ));
    }
    errors
}

fn validate_class(class: &Value) -> Vec<FieldError> {
    let mut errors = provisioner(class, "provisioner");
    errors.extend(parameters(class, false));
    if !text(&class["reclaimPolicy"]).is_empty() {
        let at = FieldPath::new("reclaimPolicy");
        errors.extend(one_of(&class["reclaimPolicy"], &["Delete", "Retain"], &at));
    }
    let modes = ["Immediate", "WaitForFirstConsumer"];
    let at = FieldPath::new("volumeBindingMode");
    errors.extend(one_of(&class["volumeBindingMode"], &modes, &at));
    for (i, term) in items(&class["allowedTopologies"]).iter().enumerate() {
        let at = FieldPath::new("allowedTopologies").index(i);
        errors.extend(topology(term, &at.child("matchLabelExpressions")));
        // Kubernetes takes as many empty terms as there are terms to have been before the first.
        let all = items(&class["allowedTopologies"]);
        let empty = is_empty(&term["matchLabelExpressions"]);
        let before = all
            .iter()
            .take(i)
            .filter(|earlier| same_topology(earlier, term))
            .count();
        let twice = before + if empty { all.len() } else { 0 };
        let error = FieldError::duplicate(&at.child("matchLabelExpressions"), "");
        errors.extend(std::iter::repeat_n(error, twice));
    }
    errors
}

/// Whether two terms select the same topologies, in whatever order they say so.
fn same_topology(one: &Value, other: &Value) -> bool {
    let of = |term: &Value| -> BTreeMap<String, BTreeSet<String>> {
        let all = items(&term["matchLabelExpressions"]).iter();
        let values = |e: &Value| items(&e["values"]).iter().map(|v| text(v).to_owned()).collect();
        all.map(|e| (text(&e["key"]).to_owned(), values(e))).collect()
    };
    of(one) == of(other)
}

fn topology(term: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let all = items(&term["matchLabelExpressions"]);
    for (i, expression) in all.iter().enumerate() {
        let at = at.index(i);
        let (key, values) = (text(&expression["key"]), items(&expression["values"]));
        if values.is_empty() {
            errors.push(FieldError::required(&at.child("values"), ""));
        }
        for (i, value) in values.iter().enumerate() {
            if values.iter().take(i).any(|earlier| earlier == value) {
                errors.push(FieldError::duplicate(&at.child("values").index(i), value.clone()));
            }
        }
        errors.extend(invalid_for(
            names::qualified_name(key),
            &Value::from(key),
            &at.child("key"),
        ));
        if all.iter().take(i).any(|earlier| text(&earlier["key"]) == key) {
            errors.push(FieldError::duplicate(&at.child("key"), key));
        }
    }
    errors
}

fn validate_attributes(class: &Value) -> Vec<FieldError> {
    let mut errors = provisioner(class, "driverName");
    errors.extend(parameters(class, true));
    errors
}

fn default_driver(driver: &mut Value) {
    let spec = object(driver, "spec");
    default_to(spec, "attachRequired", true);
    for field in [
        "podInfoOnMount",
        "storageCapacity",
        "requiresRepublish",
        "seLinuxMount",
    ] {
        default_to(spec, field, false);
    }
    default_to(spec, "fsGroupPolicy", "ReadWriteOnceWithFSType");
    if is_empty(&spec["volumeLifecycleModes"]) {
        spec["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

/// Kubernetes 1.36 has this behind a feature gate that is off.
fn drop_gated(driver: &mut Value, old: &Value) {
    const GATED: &str = "preventPodSchedulingIfMissing";
    if old["spec"][GATED].is_null()
        && let Some(spec) = driver.get_mut("spec").and_then(Value::as_object_mut)
    {
        spec.remove(GATED);
    }
}

fn validate_driver(driver: &Value) -> Vec<FieldError> {
    let (of, at) = (&driver["spec"], FieldPath::new("spec"));
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    let mut errors = one_of(&of["fsGroupPolicy"], &policies, &at.child("fsGroupPolicy"));
    errors.extend(token_requests(of, &at.child("tokenRequests")));
    for mode in items(&of["volumeLifecycleModes"]) {
        errors.extend(one_of(
            mode,
            &["Persistent", "Ephemeral"],
            &at.child("volumeLifecycleModes"),
        ));
    }
    let period = &of["nodeAllocatableUpdatePeriodSeconds"];
    if !period.is_null() && int(period) < 10 {
        let why = "must be greater than or equal to 10 seconds";
        let at = at.child("nodeAllocatableUpdatePeriodSeconds");
        errors.push(FieldError::invalid(&at, period.clone(), why));
    }
    let secret = &of["serviceAccountTokenInSecrets"];
    if !secret.is_null() && is_empty(&of["tokenRequests"]) {
        let why = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        let at = at.child("serviceAccountTokenInSecrets");
        errors.push(FieldError::invalid(&at, secret.clone(), why));
    }
    errors
}

fn token_requests(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    /// Ten minutes, and 2^32 seconds.
    const BOUNDS: (i64, i64) = (600, 1 << 32);
    let mut errors = Vec::new();
    let requests = items(&spec["tokenRequests"]);
    for (i, request) in requests.iter().enumerate() {
        let at = at.index(i);
        let audience = text(&request["audience"]);
        if requests.iter().take(i).any(|r| text(&r["audience"]) == audience) {
            errors.push(FieldError::duplicate(&at.child("audience"), audience));
            continue;
        }
        let seconds = &request["expirationSeconds"];
        let why = match seconds.as_i64() {
            Some(seconds) if seconds < BOUNDS.0 => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > BOUNDS.1 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.push(FieldError::invalid(
            &at.child("expirationSeconds"),
            seconds.clone(),
            why,
        ));
    }
    errors
}

fn driver_name(name: &Value, at: &FieldPath) -> Vec<FieldError> {
    const LONGEST: usize = 63;
    let text = text(name);
    if text.is_empty() {
        return vec![FieldError::required(at, "")];
    }
    let mut errors = Vec::new();
    if text.len() > LONGEST {
        errors.push(FieldError::too_long(at, LONGEST));
    }
    errors.extend(invalid_for(
        names::dns1123_subdomain(&text.to_lowercase()),
        name,
        at,
    ));
    errors
}

fn validate_node(node: &Value) -> Vec<FieldError> {
    const LONGEST_ID: usize = 256;
    let drivers = items(&node["spec"]["drivers"]);
    let mut errors = Vec::new();
    for (i, driver) in drivers.iter().enumerate() {
        let at = FieldPath::new("spec").child("drivers").index(i);
        errors.extend(driver_name(&driver["name"], &at.child("name")));
        let id = text(&driver["nodeID"]);
        if id.is_empty() {
            errors.push(FieldError::required(&at.child("nodeID"), ""));
        }
        if id.len() > LONGEST_ID {
            let why = format!("must be {LONGEST_ID} characters or less");
            errors.push(FieldError::invalid(&at.child("nodeID"), id, why));
        }
        let count_at = at.child("allocatable").child("count");
        errors.extend(non_negative(&driver["allocatable"]["count"], &count_at));
        if drivers
            .iter()
            .take(i)
            .any(|earlier| earlier["name"] == driver["name"])
        {
            errors.push(FieldError::duplicate(&at.child("name"), driver["name"].clone()));
        }
        let keys = items(&driver["topologyKeys"]);
        for (i, key) in keys.iter().enumerate() {
            if text(key).is_empty() {
                errors.push(FieldError::required(&at, ""));
            }
            if keys.iter().take(i).any(|earlier| earlier == key) {
                errors.push(FieldError::duplicate(&at, key.clone()));
            }
            errors.extend(invalid_for(names::qualified_name(text(key)), key, &at));
        }
    }
    errors
}

fn update_node(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_node(new);
    let fixed = |driver: &Value| {
        let mut driver = driver.clone();
        carry_over(&mut driver, &Value::Null, "allocatable");
        driver
    };
    for was in items(&old["spec"]["drivers"]) {
        let same = items(&new["spec"]["drivers"])
            .iter()
            .filter(|d| d["name"] == was["name"]);
        for driver in same {
            let at = FieldPath::new("spec").child("drivers");
            errors.extend(immutable(&fixed(driver), &fixed(was), &at));
        }
    }
    errors
}

fn validate_capacity(capacity: &Value) -> Vec<FieldError> {
    let mut errors = label_selector(&capacity["nodeTopology"], &FieldPath::new("nodeTopology"));
    let class = Value::from(text(&capacity["storageClassName"]));
    let at = FieldPath::new("storageClassName");
    errors.extend(invalid_for(names::dns1123_subdomain(text(&class)), &class, &at));
    if super::fields::quantity(&capacity["capacity"]).is_some_and(|q| q.is_negative()) {
        let at = FieldPath::new("capacity");
        let why = "must be greater than or equal to 0";
        errors.push(FieldError::invalid(&at, capacity["capacity"].clone(), why));
    }
    errors
}

fn validate_attachment(attachment: &Value) -> Vec<FieldError> {
    const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    let (of, at) = (&attachment["spec"], FieldPath::new("spec"));
    let mut errors = driver_name(&of["attacher"], &at.child("attacher"));
    let (source, source_at) = (&of["source"], at.child("source"));
    let volume = &source["persistentVolumeName"];
    let name_at = source_at.child("persistentVolumeName");
    match (source["inlineVolumeSpec"].is_null(), volume.is_null()) {
        (true, true) => errors.push(FieldError::required(&source_at, ONE)),
        (false, false) => errors.push(FieldError::forbidden(&source_at, ONE)),
        (true, false) if text(volume).is_empty() => {
            let why = "must specify non empty persistentVolumeName";
            errors.push(FieldError::required(&name_at, why));
        }
        _ => {}
    }
    let node = Value::from(text(&of["nodeName"]));
    errors.extend(invalid_for(
        names::dns1123_subdomain(text(&node)),
        &node,
        &at.child("nodeName"),
    ));
    for error in ["attachError", "detachError"] {
        let (of, at) = (
            &attachment["status"][error],
            FieldPath::new("status").child(error),
        );
        const LONGEST_MESSAGE: usize = 1024;
        if text(&of["message"]).len() > LONGEST_MESSAGE {
            errors.push(FieldError::too_long(&at.child("message"), MOST_BYTES));
        }
        if int(&of["errorCode"]) < 0 {
            let why = "must be between 0 and 2147483647, inclusive";
            errors.push(FieldError::invalid(
                &at.child("errorCode"),
                of["errorCode"].clone(),
                why,
            ));
        }
    }
    if !volume.is_null() {
        errors.extend(invalid_for(
            names::dns1123_subdomain(text(volume)),
            volume,
            &name_at,
        ));
    }
    errors
}

fn update_attachment(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_attachment(new);
    errors.extend(immutable(&new["spec"], &old["spec"], &FieldPath::new("spec")));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    fn check(kind: &str, object: Value, expected: &[&str]) {
        let rules = rules(kind).unwrap();
        let mut object = object;
        (rules.default)(&mut object);
        assert_eq!(told(&(rules.validate)(&object)), expected, "{kind} {object}");
    }

    #[test]
    fn errors_are_told_in_the_words_of_kubernetes() {
        check("StorageClass", json!({"provisioner": "example.com/x"}), &[]);
        check(
            "StorageClass",
            json!({"reclaimPolicy": "Recycle"}),
            &[
                "provisioner: Required value",
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ],
        );
        check("CSIDriver", json!({"spec": {}}), &[]);
        check(
            "CSIDriver",
            json!({"spec": {"tokenRequests": [{"audience": "a", "expirationSeconds": 1}, {"audience": "a"}]}}),
            &[
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 1: may not specify a duration less than 10 minutes",
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ],
        );
        check(
            "VolumeAttributesClass",
            json!({"driverName": "d"}),
            &["parameters: Required value: must contain at least one key/value pair"],
        );
        check(
            "CSINode",
            json!({"spec": {"drivers": [{"name": "d", "nodeID": "n"}, {"name": "d", "nodeID": ""}]}}),
            &[
                "spec.drivers[1].nodeID: Required value",
                "spec.drivers[1].name: Duplicate value: \"d\"",
            ],
        );
        check(
            "VolumeAttachment",
            json!({"spec": {"attacher": "a", "nodeName": "n", "source": {}}}),
            &[
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ],
        );
    }
}
