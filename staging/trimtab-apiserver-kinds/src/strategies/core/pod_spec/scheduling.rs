//! What is wrong with what a pod says about where it may run.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use crate::strategies::checks::{
    int, invalid_for, items, items_mut, label_selector, label_values, one_of, requirement, text,
};

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Effects of taints.
pub(in crate::strategies::core) const EFFECTS: [&str; 3] = ["NoSchedule", "PreferNoSchedule", "NoExecute"];

fn label_name(name: &str, at: &FieldPath) -> Vec<FieldError> {
    invalid_for(names::qualified_name(name), &name.into(), at)
}

/// Which nodes and which neighbours a pod wants.
pub(super) fn validate_affinity(affinity: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (nodes, path) = (&affinity["nodeAffinity"], at.child("nodeAffinity"));
    if nodes[REQUIRED].is_object() {
        errors.extend(node_selector(&nodes[REQUIRED], &path.child(REQUIRED)));
    }
    for (i, term) in items(&nodes[PREFERRED]).iter().enumerate() {
        let at = path.child(PREFERRED).index(i);
        errors.extend(weight(term, &at));
        errors.extend(node_term(&term["preference"], false, &at.child("preference")));
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let (pods, path) = (&affinity[kind], at.child(kind));
        for (i, term) in items(&pods[REQUIRED]).iter().enumerate() {
            errors.extend(pod_term(term, &path.child(REQUIRED).index(i)));
        }
        for (i, term) in items(&pods[PREFERRED]).iter().enumerate() {
            let at = path.child(PREFERRED).index(i);
            errors.extend(weight(term, &at));
            errors.extend(pod_term(&term["podAffinityTerm"], &at.child("podAffinityTerm")));
        }
    }
    errors
}

fn weight(term: &Value, at: &FieldPath) -> Option<FieldError> {
    let weight = int(&term["weight"]);
    let why = "must be in the range 1-100";
    (!(1..=100).contains(&weight)).then(|| FieldError::invalid(&at.child("weight"), weight, why))
}

/// A selector of nodes.
pub(in crate::strategies::core) fn node_selector(selector: &Value, at: &FieldPath) -> Vec<FieldError> {
    let at = at.child("nodeSelectorTerms");
    let terms = items(&selector["nodeSelectorTerms"]);
    if terms.is_empty() {
        return vec![FieldError::required(
            &at,
            "must have at least one node selector term",
        )];
    }
    let each = terms.iter().enumerate();
    each.flat_map(|(i, term)| node_term(term, true, &at.index(i)))
        .collect()
}

fn node_term(term: &Value, check_values: bool, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, expression) in items(&term["matchExpressions"]).iter().enumerate() {
        let at = at.child("matchExpressions").index(i);
        errors.extend(requirement(expression, true, &at));
        if check_values {
            errors.extend(label_values(expression, &at));
        }
    }
    for (i, field) in items(&term["matchFields"]).iter().enumerate() {
        let at = at.child("matchFields").index(i);
        let values = items(&field["values"]);
        match text(&field["operator"]) {
            "In" | "NotIn" if values.len() == 1 => {}
            "In" | "NotIn" => errors.push(FieldError::required(
                &at.child("values"),
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
            )),
            other => {
                let why = "not a valid selector operator";
                errors.push(FieldError::invalid(&at.child("operator"), other, why));
            }
        }
        if text(&field["key"]) != "metadata.name" {
            let why = "not a valid field selector key";
            errors.push(FieldError::invalid(&at.child("key"), text(&field["key"]), why));
        } else {
            for (i, value) in values.iter().enumerate() {
                let wrong = names::dns1123_subdomain(text(value));
                errors.extend(invalid_for(wrong, value, &at.child("values").index(i)));
            }
        }
    }
    errors
}

fn pod_term(term: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = label_selector(&term["labelSelector"], &at.child("labelSelector"));
    errors.extend(label_selector(
        &term["namespaceSelector"],
        &at.child("namespaceSelector"),
    ));
    for name in items(&term["namespaces"]) {
        let wrong = names::dns1123_label(text(name));
        errors.extend(invalid_for(wrong, name, &at.child("namespace")));
    }
    errors.extend(label_keys(term, at));
    let (key, at) = (text(&term["topologyKey"]), at.child("topologyKey"));
    if key.is_empty() {
        errors.push(FieldError::required(&at, "can not be empty"));
    }
    errors.extend(label_name(key, &at));
    errors
}

/// The labels whose values a pod adds to the selector of a term, or excludes by it.
fn label_keys(term: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (same, other) = ("matchLabelKeys", "mismatchLabelKeys");
    let mut errors = Vec::new();
    for field in [same, other] {
        let (keys, at) = (items(&term[field]), at.child(field));
        if !keys.is_empty() && term["labelSelector"].is_null() {
            let why = "must not be specified when labelSelector is not set";
            errors.push(FieldError::forbidden(&at, why));
            continue;
        }
        let each = keys.iter().enumerate();
        errors.extend(each.flat_map(|(i, key)| label_name(text(key), &at.index(i))));
    }
    for (i, key) in items(&term[same]).iter().enumerate() {
        if items(&term[other]).contains(key) {
            let why = "exists in both matchLabelKeys and mismatchLabelKeys";
            errors.push(FieldError::invalid(&at.child(same).index(i), key.clone(), why));
        }
    }
    errors
}

/// Adds to the selectors of a pod's terms what its labels say of the keys that are to match, or not to. Schedulers know
/// nothing else of those keys.
pub(in crate::strategies::core) fn merge_label_keys(pod: &mut Value) {
    let labels = pod["metadata"]["labels"].clone();
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    for constraint in items_mut(spec, "topologySpreadConstraints") {
        merge_into_selector(constraint, &labels, &[("matchLabelKeys", "In")]);
    }
    let both = [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")];
    for kind in ["podAffinity", "podAntiAffinity"] {
        let Some(of) = spec
            .get_mut("affinity")
            .and_then(|affinity| affinity.get_mut(kind))
        else {
            continue;
        };
        for term in items_mut(of, REQUIRED) {
            merge_into_selector(term, &labels, &both);
        }
        for weighted in items_mut(of, PREFERRED) {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                merge_into_selector(term, &labels, &both);
            }
        }
    }
}

fn merge_into_selector(term: &mut Value, labels: &Value, fields: &[(&str, &str)]) {
    let mut added = Vec::new();
    for (field, operator) in fields {
        for key in items(&term[*field]) {
            if let Some(value) = labels.get(text(key)) {
                added.push(json!({"key": key, "operator": operator, "values": [value]}));
            }
        }
    }
    if !term["labelSelector"].is_object() || added.is_empty() {
        return;
    }
    match term["labelSelector"]["matchExpressions"].as_array_mut() {
        Some(expressions) => expressions.extend(added),
        None => term["labelSelector"]["matchExpressions"] = added.into(),
    }
}

/// The taints that a pod bears.
pub(in crate::strategies) fn validate_tolerations(tolerations: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (i, toleration) in items(tolerations).iter().enumerate() {
        let at = at.index(i);
        let [key, operator, value, effect] =
            ["key", "operator", "value", "effect"].map(|field| text(&toleration[field]));
        let at_operator = at.child("operator");
        if !key.is_empty() {
            errors.extend(label_name(key, &at.child("key")));
        } else if operator != "Exists" {
            let why =
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            errors.push(FieldError::invalid(&at_operator, operator, why));
        }
        if !toleration["tolerationSeconds"].is_null() && effect != "NoExecute" {
            let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
            errors.push(FieldError::invalid(&at.child("effect"), effect, why));
        }
        match operator {
            "Equal" | "" => {
                let wrong = names::label_value(value);
                if !wrong.is_empty() {
                    errors.push(FieldError::invalid(&at_operator, value, wrong.join(";")));
                }
            }
            "Exists" if value.is_empty() => {}
            "Exists" => {
                let why = "value must be empty when `operator` is 'Exists'";
                errors.push(FieldError::invalid(&at_operator, value, why));
            }
            "Lt" | "Gt" => {
                let known = ["Equal", "Exists", "Lt", "Gt"];
                errors.push(FieldError::not_supported(&at_operator, operator, &known));
            }
            _ => errors.push(FieldError::not_supported(
                &at_operator,
                operator,
                &["Equal", "Exists"],
            )),
        }
        if !effect.is_empty() {
            errors.extend(one_of(&toleration["effect"], &EFFECTS, &at.child("effect")));
        }
    }
    errors
}

/// How pods are to be spread.
pub(super) fn validate_spread(constraints: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let positive = |value: i64, at: &FieldPath| {
        (value <= 0).then(|| FieldError::invalid(at, value, "must be greater than zero"))
    };
    let all = items(constraints);
    for (i, constraint) in all.iter().enumerate() {
        let at = at.index(i);
        errors.extend(positive(int(&constraint["maxSkew"]), &at.child("maxSkew")));
        let (key, action) = (
            text(&constraint["topologyKey"]),
            text(&constraint["whenUnsatisfiable"]),
        );
        if key.is_empty() {
            errors.push(FieldError::required(&at.child("topologyKey"), "can not be empty"));
        }
        let actions = ["DoNotSchedule", "ScheduleAnyway"];
        errors.extend(one_of(
            &constraint["whenUnsatisfiable"],
            &actions,
            &at.child("whenUnsatisfiable"),
        ));
        let same = |other: &&Value| {
            text(&other["topologyKey"]) == key && text(&other["whenUnsatisfiable"]) == action
        };
        if all.iter().skip(i + 1).any(|other| same(&other)) {
            let at = at.child("{topologyKey, whenUnsatisfiable}");
            errors.push(FieldError::duplicate(&at, format!("{{{key}, {action}}}")));
        }
        if let Some(domains) = constraint["minDomains"].as_i64() {
            errors.extend(positive(domains, &at.child("minDomains")));
            if action != "DoNotSchedule" {
                let why = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}");
                errors.push(FieldError::invalid(&at.child("minDomains"), domains, why));
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            if !constraint[policy].is_null() {
                errors.extend(one_of(
                    &constraint[policy],
                    &["Honor", "Ignore"],
                    &at.child(policy),
                ));
            }
        }
        errors.extend(label_keys(constraint, &at));
        errors.extend(label_selector(
            &constraint["labelSelector"],
            &at.child("labelSelector"),
        ));
    }
    errors
}
