//! Scopes: which objects a quota counts, of those that it could.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{list, pods};

/// The scopes of a quota's spec, those of its selector too, as terms of a scope selector. The quota counts what is in all of
/// them.
pub fn terms(spec: &Value) -> impl Iterator<Item = Value> {
    let exists = |scope: &Value| json!({"scopeName": scope, "operator": "Exists"});
    let selected = list(&spec["scopeSelector"], "matchExpressions");
    list(spec, "scopes")
        .iter()
        .map(exists)
        .chain(selected.iter().cloned())
}

pub(super) fn pod_matches(term: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    let ends = spec["activeDeadlineSeconds"].as_i64().is_some_and(|s| s >= 0);
    match term["scopeName"].as_str() {
        Some("Terminating") => ends,
        Some("NotTerminating") => !ends,
        Some("BestEffort") => pods::is_best_effort(pod),
        Some("NotBestEffort") => !pods::is_best_effort(pod),
        Some("PriorityClass") => selects(term, &names([&spec["priorityClassName"]])),
        Some("CrossNamespacePodAffinity") => reaches_out(&spec["affinity"]),
        _ => false,
    }
}

pub(super) fn claim_matches(term: &Value, claim: &Value) -> bool {
    term["scopeName"] == "VolumeAttributesClass" && {
        let status = &claim["status"];
        let classes = names([
            &claim["spec"]["volumeAttributesClassName"],
            &status["currentVolumeAttributesClassName"],
            &status["modifyVolumeStatus"]["targetVolumeAttributesClassName"],
        ]);
        selects(term, &classes)
    }
}

fn names<'a>(values: impl IntoIterator<Item = &'a Value>) -> BTreeSet<&'a str> {
    let names = values.into_iter().filter_map(Value::as_str);
    names.filter(|name| !name.is_empty()).collect()
}

/// Whether a term of a selector matches one of the names that an object goes by, or that it has none.
fn selects(term: &Value, names: &BTreeSet<&str>) -> bool {
    let wanted = |name: &str| list(term, "values").iter().any(|value| value == name);
    match term["operator"].as_str() {
        Some("Exists") => !names.is_empty(),
        Some("DoesNotExist") => names.is_empty(),
        Some("In") => names.iter().any(|name| wanted(name)),
        Some("NotIn") => names.is_empty() || names.iter().any(|name| !wanted(name)),
        _ => false,
    }
}

/// Whether an affinity is about pods of other namespaces.
fn reaches_out(affinity: &Value) -> bool {
    const RULE: &str = "DuringSchedulingIgnoredDuringExecution";
    let out = |term: &Value| !list(term, "namespaces").is_empty() || term["namespaceSelector"].is_object();
    ["podAffinity", "podAntiAffinity"].into_iter().any(|kind| {
        let rules = &affinity[kind];
        list(rules, &format!("required{RULE}")).iter().any(out)
            || list(rules, &format!("preferred{RULE}"))
                .iter()
                .any(|weighted| out(&weighted["podAffinityTerm"]))
    })
}
