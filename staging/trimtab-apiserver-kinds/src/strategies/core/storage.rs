//! Persistent volumes and claims to them.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::difference::difference;
use super::pod_spec::{OLD_VOLUMES, node_selector, node_term_warnings, volume_sources};
use super::resources;
use super::volume_sources::validate_source;
use crate::strategies::checks::{
    default_text, default_to, immutable, invalid_for, is_empty, items, items_mut, label_selector, object,
    one_of, text,
};
use crate::strategies::fields::{quantity, round_up_resources};
use crate::strategies::rules::{Part, Rules, carry_over};
use crate::strategy::RequestContext;

const ACCESS_MODES: [&str; 4] = [
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
const VOLUME_MODES: [&str; 2] = ["Block", "Filesystem"];

/// The annotation that named storage classes before there was a field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// What a volume says beyond where it is stored.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeMode",
    "volumeAttributesClassName",
];

pub(super) const VOLUME: Rules = Rules {
    default: default_volume,
    prepare_create: |ctx, volume| {
        volume["status"] = json!({"phase": "Pending", "lastPhaseTransitionTime": ctx.now});
    },
    parts: &[Part {
        name: "status",
        prepare: prepare_volume_status,
        validate: |_, _| Vec::new(),
    }],
    validate: validate_volume,
    validate_update: Some(validate_volume_update),
    warnings: volume_warnings,
    ..Rules::ORDINARY
};

pub(super) const CLAIM: Rules = Rules {
    default: |claim| {
        default_claim_spec(object(claim, "spec"));
        default_text(object(claim, "status"), "phase", "Pending");
    },
    prepare_create: |_, claim| {
        claim["status"] = json!({"phase": "Pending"});
        settle_data_source(object(claim, "spec"), &Value::Null);
    },
    prepare_update: |new, old| settle_data_source(object(new, "spec"), &old["spec"]),
    validate: |claim| validate_claim_spec(&claim["spec"], &FieldPath::new("spec")),
    validate_update: Some(validate_claim_update),
    validate_status: |new, _| {
        let at = FieldPath::new("status").child("capacity");
        let all = new["status"]["capacity"].as_object().into_iter().flatten();
        all.flat_map(|(name, value)| resources::amount(name, value, &at.key(name)))
            .collect()
    },
    ..Rules::ORDINARY
};

/// Fills in what the spec of a claim leaves out.
pub(in crate::strategies) fn default_claim_spec(spec: &mut Value) {
    default_to(spec, "volumeMode", "Filesystem");
    let resources = object(spec, "resources");
    for part in ["limits", "requests"] {
        if let Some(part) = resources.get_mut(part) {
            round_up_resources(part);
        }
    }
}

/// The two fields that say where content comes from agree, if one is left out. The older one is for claims and snapshots:
/// others are forgotten, as they always were.
fn settle_data_source(spec: &mut Value, old: &Value) {
    let (before, reference) = ("dataSource", "dataSourceRef");
    let known = |source: &Value| match source["apiGroup"].as_str() {
        None | Some("") => source["kind"] == "PersistentVolumeClaim",
        Some(group) => group == "snapshot.storage.k8s.io" && source["kind"] == "VolumeSnapshot",
    };
    if old[before].is_null() && spec[reference].is_null() && !known(&spec[before]) {
        carry_over(spec, &Value::Null, before);
    }
    if spec[before].is_object() && spec[reference].is_null() {
        spec[reference] = spec[before].clone();
        if spec[reference]["apiGroup"].is_null() {
            carry_over(&mut spec[reference], &Value::Null, "apiGroup");
        }
    } else if spec[reference].is_object() && spec[before].is_null() && is_empty(&spec[reference]["namespace"])
    {
        spec[before] = spec[reference].clone();
        carry_over(&mut spec[before], &Value::Null, "namespace");
    }
}

fn default_volume(volume: &mut Value) {
    default_text(object(volume, "status"), "phase", "Pending");
    let spec = object(volume, "spec");
    default_text(spec, "persistentVolumeReclaimPolicy", "Retain");
    default_to(spec, "volumeMode", "Filesystem");
    if let Some(path) = spec.get_mut("hostPath").filter(|path| path.is_object()) {
        default_to(path, "type", "");
    }
    let texts = [
        ("iscsi", "iscsiInterface", "default"),
        ("rbd", "pool", "rbd"),
        ("rbd", "user", "admin"),
        ("rbd", "keyring", "/etc/ceph/keyring"),
        ("scaleIO", "storageMode", "ThinProvisioned"),
        ("scaleIO", "fsType", "xfs"),
    ];
    for (kind, field, value) in texts {
        if let Some(source) = spec.get_mut(kind).filter(|source| source.is_object()) {
            default_text(source, field, value);
        }
    }
    if let Some(capacity) = spec.get_mut("capacity") {
        round_up_resources(capacity);
    }
}

fn access_modes(spec: &Value, missing: &str, at: &FieldPath) -> Vec<FieldError> {
    let (modes, at) = (items(&spec["accessModes"]), at.child("accessModes"));
    let mut errors = Vec::new();
    if modes.is_empty() {
        errors.push(FieldError::required(&at, missing));
    }
    errors.extend(modes.iter().flat_map(|mode| one_of(mode, &ACCESS_MODES, &at)));
    let single = |mode: &Value| mode == "ReadWriteOncePod";
    let other = |mode: &Value| !single(mode) && ACCESS_MODES.contains(&text(mode));
    if modes.iter().any(single) && modes.iter().any(other) {
        let why = "may not use ReadWriteOncePod with other access modes";
        errors.push(FieldError::forbidden(&at, why));
    }
    errors
}

/// An amount that must be more than nothing.
fn positive(value: &Value, at: &FieldPath) -> Option<FieldError> {
    let amount = quantity(value).unwrap_or_default();
    let wrong = amount.is_zero() || amount.is_negative();
    wrong.then(|| FieldError::invalid(at, amount.to_string(), "must be greater than zero"))
}

fn class_name(spec: &Value, field: &str, at: &FieldPath) -> Vec<FieldError> {
    match text(&spec[field]) {
        "" => Vec::new(),
        name => invalid_for(names::dns1123_subdomain(name), &spec[field], &at.child(field)),
    }
}

fn validate_volume(volume: &Value) -> Vec<FieldError> {
    let (spec, at) = (&volume["spec"], FieldPath::new("spec"));
    let mut errors = access_modes(spec, "", &at);
    let capacity = spec["capacity"].as_object().cloned().unwrap_or_default();
    let path = at.child("capacity");
    if capacity.is_empty() {
        errors.push(FieldError::required(&path, ""));
    }
    if !capacity.contains_key("storage") || capacity.len() > 1 {
        errors.push(FieldError::not_supported(
            &path,
            spec["capacity"].clone(),
            &["storage"],
        ));
    }
    for (name, value) in &capacity {
        errors.extend(positive(value, &path.key(name)));
    }
    let policies = ["Delete", "Recycle", "Retain"];
    let policy = "persistentVolumeReclaimPolicy";
    errors.extend(one_of(&spec[policy], &policies, &at.child(policy)));
    let affinity = &spec["nodeAffinity"]["required"];
    if spec["nodeAffinity"].is_object() {
        let at = at.child("nodeAffinity").child("required");
        if affinity.is_object() {
            errors.extend(node_selector(affinity, &at));
        } else {
            errors.push(FieldError::required(
                &at,
                "must specify required node constraints",
            ));
        }
    }
    let name = text(&volume["metadata"]["name"]);
    errors.extend(volume_sources(spec, &at, |kind, source, at| {
        validate_source(name, kind, source, at)
    }));
    if spec["local"].is_object() && spec["nodeAffinity"].is_null() {
        let why = "Local volume requires node affinity";
        errors.push(FieldError::required(&at.child("nodeAffinity"), why));
    }
    if spec["hostPath"]["path"] == "/" && spec[policy] == "Recycle" {
        let why = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden(&at.child(policy), why));
    }
    errors.extend(class_name(spec, "storageClassName", &at));
    errors.extend(one_of(
        &spec["volumeMode"],
        &VOLUME_MODES,
        &at.child("volumeMode"),
    ));
    errors
}

/// Takes over the status, and writes down when its phase has changed, unless that is said.
fn prepare_volume_status(ctx: &RequestContext, new: &mut Value, old: &Value) {
    let mut whole = old.clone();
    carry_over(&mut whole, new, "status");
    carry_over(&mut whole, new, "metadata");
    *new = whole;
    let (was, status) = (&old["status"], object(new, "status"));
    let time = "lastPhaseTransitionTime";
    let said = !status[time].is_null() && status[time] != was[time];
    if status["phase"] != was["phase"] && !said {
        status[time] = ctx.now.as_str().into();
    } else if status["phase"] == was["phase"] {
        carry_over(status, was, time);
    }
}

fn volume_warnings(volume: &Value, _: Option<&Value>) -> Vec<String> {
    let (spec, at) = (&volume["spec"], FieldPath::new("spec"));
    let mut warnings = Vec::new();
    if spec["persistentVolumeReclaimPolicy"] == "Recycle" {
        warnings.push(format!(
            "{}: The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic provisioning.",
            at.child("persistentVolumeReclaimPolicy")
        ));
    }
    let terms = at
        .child("nodeAffinity")
        .child("required")
        .child("nodeSelectorTerms");
    for (i, term) in items(&spec["nodeAffinity"]["required"]["nodeSelectorTerms"])
        .iter()
        .enumerate()
    {
        warnings.extend(node_term_warnings(term, false, &terms.index(i)));
    }
    // Kubernetes says nothing of the other old ones here.
    let told = [
        "cephfs",
        "photonPersistentDisk",
        "scaleIO",
        "storageos",
        "glusterfs",
        "rbd",
    ];
    for kind in told.into_iter().filter(|kind| spec[*kind].is_object()) {
        let why = OLD_VOLUMES.iter().find(|(old, _)| *old == kind);
        let shown = if kind == "storageos" { "storageOS" } else { kind };
        warnings.extend(why.map(|(_, why)| format!("{}: {why}", at.child(shown))));
    }
    warnings
}

fn validate_volume_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate_volume(new);
    let source = |volume: &Value| {
        let mut spec = volume["spec"].clone();
        NOT_SOURCES
            .iter()
            .for_each(|field| carry_over(&mut spec, &json!({}), field));
        spec
    };
    let (is, was) = (source(new), source(old));
    if is != was {
        let difference = difference(&was, &is);
        let why = format!("spec.persistentvolumesource is immutable after creation\n{difference}");
        let at = FieldPath::new("spec").child("persistentvolumesource");
        errors.push(FieldError::forbidden(&at, why));
    }
    let (mode, at) = ("volumeMode", FieldPath::new("volumeMode"));
    errors.extend(immutable(&new["spec"][mode], &old["spec"][mode], &at));
    let [is, was] = [new, old].map(|volume| &volume["spec"]["nodeAffinity"]);
    // Labels may be called by their newer names.
    if !was.is_null() && is != was && *is != renamed_labels(was) {
        let why = "field is immutable, except for updating from beta label to GA";
        errors.push(FieldError::invalid(
            &FieldPath::new("nodeAffinity"),
            is.clone(),
            why,
        ));
    }
    errors
}

/// What selects nodes, with the labels that had beta names called by those that they have now.
fn renamed_labels(affinity: &Value) -> Value {
    const LABELS: [(&str, &str); 5] = [
        (
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
        ),
        (
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        (
            "beta.kubernetes.io/instance-type",
            "node.kubernetes.io/instance-type",
        ),
        ("beta.kubernetes.io/os", "kubernetes.io/os"),
        ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    ];
    let mut affinity = affinity.clone();
    let Some(required) = affinity.get_mut("required") else {
        return affinity;
    };
    for term in items_mut(required, "nodeSelectorTerms") {
        for expression in items_mut(term, "matchExpressions") {
            let newer = LABELS.iter().find(|(beta, _)| expression["key"] == *beta);
            if let Some((_, newer)) = newer {
                expression["key"] = (*newer).into();
            }
        }
    }
    affinity
}

/// What is wrong with the spec of a claim; `at` is its path.
pub(in crate::strategies) fn validate_claim_spec(spec: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let modes = access_modes(spec, "at least 1 access mode is required", at);
    let missing = items(&spec["accessModes"]).is_empty();
    let selector = label_selector(&spec["selector"], &at.child("selector"));
    errors.extend(if missing {
        [modes, selector].concat()
    } else {
        [selector, modes].concat()
    });
    let (wanted, path) = (
        &spec["resources"]["requests"]["storage"],
        at.child("resources").key("storage"),
    );
    if wanted.is_null() {
        errors.push(FieldError::required(&path, ""));
    } else {
        errors.extend(positive(wanted, &path));
    }
    errors.extend(class_name(spec, "storageClassName", at));
    if !spec["volumeMode"].is_null() {
        errors.extend(one_of(
            &spec["volumeMode"],
            &VOLUME_MODES,
            &at.child("volumeMode"),
        ));
    }
    for field in ["dataSource", "dataSourceRef"] {
        let (source, at) = (&spec[field], at.child(field));
        if !source.is_object() {
            continue;
        }
        for required in ["name", "kind"] {
            if is_empty(&source[required]) {
                errors.push(FieldError::required(&at.child(required), ""));
            }
        }
        let (group, kind) = (text(&source["apiGroup"]), text(&source["kind"]));
        if group.is_empty() && kind != "PersistentVolumeClaim" {
            let why = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(&at, kind, why));
        } else if !group.is_empty() {
            let wrong = names::dns1123_subdomain(group);
            errors.extend(invalid_for(wrong, &group.into(), &at.child("apiGroup")));
        }
    }
    errors.extend(sources_differ(spec, at));
    errors.extend(class_name(spec, "volumeAttributesClassName", at));
    errors
}

/// A claim says in two fields what it is filled from: both are to say the same.
fn sources_differ(spec: &Value, at: &FieldPath) -> Option<FieldError> {
    let (source, reference) = (&spec["dataSource"], &spec["dataSourceRef"]);
    let namespaced = !is_empty(&reference["namespace"]);
    let same = ["apiGroup", "kind", "name"]
        .iter()
        .all(|field| source[*field] == reference[*field]);
    let why = if namespaced {
        "may not be specified when dataSourceRef.namespace is specified"
    } else {
        "must match dataSourceRef"
    };
    let wrong = source.is_object() && reference.is_object() && (namespaced || !same);
    // Kubernetes shows a path, which has nothing to show.
    wrong.then(|| FieldError::invalid(at, json!({}), why))
}

fn validate_claim_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = validate_claim_spec(&new["spec"], &at);
    let class = |claim: &Value| text(&claim["metadata"]["annotations"][BETA_CLASS]).to_owned();
    let (mut is, mut was) = (new["spec"].clone(), old["spec"].clone());
    if is_empty(&was["volumeName"]) {
        carry_over(&mut was, &is, "volumeName");
    }
    if was["storageClassName"].is_null()
        && !class(old).is_empty()
        && is["storageClassName"] == class(old).as_str()
    {
        carry_over(&mut is, &was, "storageClassName");
    } else {
        let at = FieldPath::new("metadata").child("annotations").child(BETA_CLASS);
        errors.extend(immutable(&class(new).into(), &class(old).into(), &at));
        if was["storageClassName"].is_null() && class(old).is_empty() {
            carry_over(&mut is, &was, "storageClassName");
        }
    }
    if new["status"]["phase"] == "Bound" {
        let size = &was["resources"]["requests"]["storage"];
        if is["resources"]["requests"].is_object() {
            is["resources"]["requests"]["storage"] = size.clone();
        }
        carry_over(&mut is, &was, "volumeAttributesClassName");
    }
    if is != was {
        let difference = difference(&was, &is);
        let why = format!(
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound \
             claims\n{difference}"
        );
        errors.push(FieldError::forbidden(&at, why));
    }
    let size = |of: &Value| quantity(&of["storage"]).unwrap_or_default();
    let [now, before] = [new, old].map(|claim| size(&claim["spec"]["resources"]["requests"]));
    if now < before && now <= size(&old["status"]["capacity"]) {
        let at = at.child("resources").child("requests").child("storage");
        errors.push(FieldError::forbidden(
            &at,
            "field can not be less than status.capacity",
        ));
    }
    let (mode, at) = ("volumeMode", FieldPath::new("volumeMode"));
    errors.extend(immutable(&new["spec"][mode], &old["spec"][mode], &at));
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    fn claim(size: &str) -> Value {
        let mut claim =
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}});
        (CLAIM.default)(&mut claim);
        claim
    }

    #[test]
    fn what_a_claim_is_filled_from_is_said_once() {
        let source = |group: Value, kind: &str| json!({"apiGroup": group, "kind": kind, "name": "s"});
        let claims = source(Value::Null, "PersistentVolumeClaim");
        let mut elsewhere = claims.clone();
        elsewhere["namespace"] = json!("x");
        for (reference, expected) in [
            (claims.clone(), ""),
            (
                source(json!("a.b"), "X"),
                "spec: Invalid value: {}: must match dataSourceRef",
            ),
            (
                elsewhere,
                "spec: Invalid value: {}: may not be specified when dataSourceRef.namespace is specified",
            ),
        ] {
            let mut spec = claim("1Gi")["spec"].clone();
            spec["dataSource"] = claims.clone();
            spec["dataSourceRef"] = reference;
            let found = told(&validate_claim_spec(&spec, &FieldPath::new("spec")));
            assert_eq!(found.join("; "), expected);
        }
    }

    #[test]
    fn claims_and_volumes_are_checked() {
        let at = FieldPath::new("spec");
        let spec = json!({"accessModes": ["ReadWriteOncePod", "ReadWriteOnce", "x"],
            "resources": {"requests": {"storage": "0"}}});
        let expected = [
            "spec.accessModes: Unsupported value: \"x\": supported values: \"ReadOnlyMany\", \"ReadWriteMany\", \
             \"ReadWriteOnce\", \"ReadWriteOncePod\"",
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        ];
        assert_eq!(told(&validate_claim_spec(&spec, &at)), expected);
        let mut volume = json!({"spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}});
        default_volume(&mut volume);
        let expected = ["spec: Required value: must specify a volume type"];
        assert_eq!(told(&validate_volume(&volume)), expected);
        volume["spec"]["hostPath"] = json!({"path": "/data", "type": ""});
        assert_eq!(told(&validate_volume(&volume)), [""; 0]);
    }

    #[test]
    fn a_bound_claim_may_grow() {
        let (mut new, mut old) = (claim("2Gi"), claim("1Gi"));
        let errors = told(&validate_claim_update(&new, &old));
        assert!(
            errors[0].starts_with("spec: Forbidden: spec is immutable after creation except"),
            "{errors:?}"
        );
        new["status"]["phase"] = "Bound".into();
        assert_eq!(told(&validate_claim_update(&new, &old)), [""; 0]);
        (new["spec"], old["spec"]) = (old["spec"].clone(), new["spec"].clone());
        old["status"]["capacity"] = json!({"storage": "2Gi"});
        let expected =
            ["spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"];
        assert_eq!(told(&validate_claim_update(&new, &old)), expected);
    }
}
