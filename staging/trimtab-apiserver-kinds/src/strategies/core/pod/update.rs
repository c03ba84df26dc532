//! What may change of a pod: little of its spec, its status, its resources.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::{keep_all_but, validate};
use crate::strategies::checks::{immutable, int, invalid_for, items, object, text};
use crate::strategies::core::difference::difference;
use crate::strategies::core::pod_spec::validate_tolerations;
use crate::strategies::core::resources::qos_class;
use crate::strategies::core::words::{MAX_INT32, between};
use crate::strategies::rules::carry_over;

const CHANGEABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
    `spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set \
    to 1 if it was previously negative)";

/// An update of the pod itself.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = validate(new);
    let at = FieldPath::new("spec");
    let (spec, was) = (&new["spec"], &old["spec"]);
    for list in ["containers", "initContainers"] {
        let at = at.child(list);
        if items(&spec[list]).len() != items(&was[list]).len() {
            errors.push(FieldError::forbidden(
                &at,
                "pod updates may not add or remove containers",
            ));
            return errors;
        }
        for (i, container) in items(&spec[list]).iter().enumerate() {
            let (image, at) = (text(&container["image"]), at.index(i).child("image"));
            if image.is_empty() {
                errors.push(FieldError::required(&at, ""));
            }
            if image.trim() != image {
                let why = "must not have leading or trailing whitespace";
                errors.push(FieldError::invalid(&at, image, why));
            }
        }
    }
    match deadline(spec, was, &at.child("activeDeadlineSeconds")) {
        Ok(wrong) => errors.extend(wrong),
        Err(wrong) => {
            errors.push(wrong);
            return errors;
        }
    }
    errors.extend(tolerations(spec, was, &at.child("tolerations")));
    errors.extend(gates(spec, was, &at.child("schedulingGates")));
    errors.extend(narrowed(spec, was, &at));
    let as_if = without_changeable(spec, was);
    if as_if != *was {
        let difference = difference(was, &as_if);
        let why = format!("pod updates may not change fields other than {CHANGEABLE}\n{difference}");
        errors.push(FieldError::forbidden(&at, why));
    }
    errors
}

/// The deadline may be set, and brought forward.
fn deadline(spec: &Value, was: &Value, at: &FieldPath) -> Result<Option<FieldError>, FieldError> {
    let (new, old) = (
        &spec["activeDeadlineSeconds"],
        was["activeDeadlineSeconds"].as_i64(),
    );
    let Some(seconds) = new.as_i64() else {
        let why = "must not update from a positive integer to nil value";
        return Ok(old.map(|_| FieldError::invalid(at, Value::Null, why)));
    };
    if !(0..=MAX_INT32).contains(&seconds) {
        return Err(FieldError::invalid(at, seconds, between(0, MAX_INT32)));
    }
    if old.is_some_and(|old| old < seconds) {
        let why = "must be less than or equal to previous value";
        return Err(FieldError::invalid(at, seconds, why));
    }
    Ok(None)
}

/// Tolerations are only added; how long each lasts may change.
fn tolerations(spec: &Value, was: &Value, at: &FieldPath) -> Vec<FieldError> {
    let timeless = |toleration: &Value| {
        let mut toleration = toleration.clone();
        carry_over(&mut toleration, &json!({}), "tolerationSeconds");
        toleration
    };
    let now: Vec<Value> = items(&spec["tolerations"]).iter().map(timeless).collect();
    if !items(&was["tolerations"])
        .iter()
        .all(|old| now.contains(&timeless(old)))
    {
        let why = "existing toleration can not be modified except its tolerationSeconds";
        return vec![FieldError::forbidden(at, why)];
    }
    validate_tolerations(&spec["tolerations"], at)
}

/// Gates are only taken away.
fn gates(spec: &Value, was: &Value, at: &FieldPath) -> Vec<FieldError> {
    let before = items(&was["schedulingGates"]);
    let mut errors = Vec::new();
    for (i, gate) in items(&spec["schedulingGates"]).iter().enumerate() {
        if !before.iter().any(|old| old["name"] == gate["name"]) {
            let name = text(&gate["name"]);
            let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.push(FieldError::forbidden(&at.index(i).child("name"), why));
        }
    }
    errors
}

/// The new spec with all that may change as it was.
fn without_changeable(spec: &Value, was: &Value) -> Value {
    let mut as_if = spec.clone();
    for list in ["containers", "initContainers"] {
        let pairs = as_if[list]
            .as_array_mut()
            .into_iter()
            .flatten()
            .zip(items(&was[list]));
        pairs.for_each(|(container, old)| carry_over(container, old, "image"));
        if as_if[list].is_null() {
            carry_over(&mut as_if, was, list);
        }
    }
    for field in ["activeDeadlineSeconds", "schedulingGates", "tolerations"] {
        carry_over(&mut as_if, was, field);
    }
    let grace = "terminationGracePeriodSeconds";
    if int(&was[grace]) < 0 && int(&as_if[grace]) == 1 {
        carry_over(&mut as_if, was, grace);
    }
    if !items(&was["schedulingGates"]).is_empty() {
        carry_over(&mut as_if, was, "nodeSelector");
        if was["affinity"].is_null()
            && as_if["affinity"]
                .as_object()
                .is_some_and(|a| a.keys().all(|k| k == "nodeAffinity"))
        {
            carry_over(&mut as_if, was, "affinity");
        } else if was["affinity"].is_object() || as_if["affinity"].is_object() {
            carry_over(object(&mut as_if, "affinity"), &was["affinity"], "nodeAffinity");
        }
    }
    as_if
}

/// A pod that waits for its gates may still be directed to fewer nodes, and to no others.
fn narrowed(spec: &Value, was: &Value, at: &FieldPath) -> Vec<FieldError> {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    let mut errors = Vec::new();
    if items(&was["schedulingGates"]).is_empty() {
        return errors;
    }
    let selector = &spec["nodeSelector"];
    let kept = |(key, value): (&String, &Value)| selector.get(key) == Some(value);
    if !was["nodeSelector"]
        .as_object()
        .is_none_or(|old| old.iter().all(kept))
    {
        let why = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.push(FieldError::invalid(
            &at.child("nodeSelector"),
            selector.clone(),
            why,
        ));
    }
    let terms = |spec: &Value| spec["affinity"]["nodeAffinity"][REQUIRED]["nodeSelectorTerms"].clone();
    let (now, before) = (terms(spec), terms(was));
    let at = at
        .child("affinity")
        .child("nodeAffinity")
        .child(REQUIRED)
        .child("nodeSelectorTerms");
    if items(&before).is_empty() {
        return errors;
    }
    if items(&now).len() != items(&before).len() {
        let why = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.push(FieldError::invalid(&at, now, why));
        return errors;
    }
    for (i, (now, before)) in items(&now).iter().zip(items(&before)).enumerate() {
        let of = |term: &Value| ["matchExpressions", "matchFields"].map(|list| items(&term[list]).to_vec());
        let (now_of, before_of) = (of(now), of(before));
        // A term that selects nothing goes on selecting nothing.
        let empty = before_of.iter().all(Vec::is_empty) && now_of.iter().any(|list| !list.is_empty());
        let added = now_of
            .iter()
            .zip(&before_of)
            .all(|(now, before)| now.starts_with(before));
        if empty || !added {
            let why = "only additions are allowed (no mutations or deletions)";
            errors.push(FieldError::invalid(&at.index(i), now.clone(), why));
        }
    }
    errors
}

/// An update of the status.
pub(super) fn validate_status(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let (status, was) = (&new["status"], &old["status"]);
    let mut errors = Vec::new();
    for (i, condition) in items(&status["conditions"]).iter().enumerate() {
        let at = at.child("conditions").index(i);
        if int(&condition["observedGeneration"]) < 0 {
            let (at, value) = (
                at.child("observedGeneration"),
                int(&condition["observedGeneration"]),
            );
            errors.push(FieldError::invalid(&at, value, "must be a non-negative integer"));
        }
        let kind = text(&condition["type"]);
        errors.extend(invalid_for(
            names::qualified_name(kind),
            &kind.into(),
            &at.child("Type"),
        ));
    }
    let nominated = text(&status["nominatedNodeName"]);
    if nominated != text(&was["nominatedNodeName"]) && !nominated.is_empty() {
        let at = at.child("nominatedNodeName");
        let wrong = names::dns1123_subdomain(nominated);
        errors.extend(invalid_for(wrong, &nominated.into(), &at));
        if !text(&old["spec"]["nodeName"]).is_empty() {
            let why = "may not be set on pods that are already bound to a node";
            errors.push(FieldError::forbidden(&at, why));
        }
    }
    if int(&status["observedGeneration"]) < 0 {
        let at = at.child("observedGeneration");
        let value = int(&status["observedGeneration"]);
        errors.push(FieldError::invalid(&at, value, "must be a non-negative integer"));
    }
    errors.extend(immutable(
        &status["qosClass"],
        &was["qosClass"],
        &at.child("qosClass"),
    ));
    if text(&old["spec"]["restartPolicy"]) != "Always" {
        errors.extend(no_return(new, old, &at.child("containerStatuses")));
    }
    errors
}

/// What has ended stays so, unless the pod is to restart it.
fn no_return(new: &Value, old: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let on_failure = text(&old["spec"]["restartPolicy"]) == "OnFailure";
    let after = items(&new["status"]["containerStatuses"]);
    for status in items(&old["status"]["containerStatuses"]) {
        let ended = &status["state"]["terminated"];
        if ended.is_null() || (on_failure && int(&ended["exitCode"]) != 0) {
            continue;
        }
        let same = after.iter().position(|s| s["name"] == status["name"]);
        let Some((i, now)) = same.and_then(|i| Some((i, after.get(i)?))) else {
            continue;
        };
        if now["state"]["terminated"].is_null() {
            let why = "may not be transitioned to non-terminated state";
            errors.push(FieldError::forbidden(&at.index(i).child("state"), why));
        }
    }
    errors
}

/// Containers are added for a while; those that are there stay as they are.
pub(super) fn validate_ephemeral_containers(new: &Value, old: &Value) -> Vec<FieldError> {
    if !old["metadata"]["annotations"]["kubernetes.io/config.mirror"].is_null() {
        let why = "static pods do not support ephemeral containers";
        return vec![FieldError::forbidden(&FieldPath::new("[]"), why)];
    }
    let mut errors = validate(new);
    let at = FieldPath::new("spec").child("ephemeralContainers");
    for was in items(&old["spec"]["ephemeralContainers"]) {
        let name = text(&was["name"]);
        let same = |now: &&Value| text(&now["name"]) == name;
        match items(&new["spec"]["ephemeralContainers"]).iter().find(same) {
            None => {
                let why = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.push(FieldError::forbidden(&at, why));
            }
            Some(now) if now != was => {
                let difference = difference(was, now);
                let why = format!("existing ephemeral containers {name:?} may not be changed\n{difference}");
                errors.push(FieldError::forbidden(&at, why));
            }
            Some(_) => {}
        }
    }
    errors
}

/// Of a resize, only resources and how they change count, if the containers are the same.
pub(super) fn prepare_resize(new: &mut Value, old: &Value) {
    let mut spec = old["spec"].clone();
    carry_over(&mut spec, &new["spec"], "resources");
    for list in ["containers", "initContainers"] {
        let (now, was) = (items(&new["spec"][list]), items(&old["spec"][list]));
        if now.len() != was.len() {
            return;
        }
        if now.iter().zip(was).any(|(a, b)| a["name"] != b["name"]) {
            carry_over(&mut spec, &new["spec"], list);
            continue;
        }
        for (container, now) in spec[list].as_array_mut().into_iter().flatten().zip(now) {
            carry_over(container, now, "resources");
            carry_over(container, now, "resizePolicy");
        }
        if spec[list].is_null() {
            carry_over(&mut spec, &old["spec"], list);
        }
    }
    new["spec"] = spec;
    let fields: Vec<String> = new["spec"]
        .as_object()
        .into_iter()
        .flat_map(|s| s.keys().cloned())
        .collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    keep_all_but(new, old, &fields);
}

/// CPU and memory of running containers may change, not be taken away.
pub(super) fn validate_resize(new: &Value, old: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = validate(new);
    if qos_class(&new["spec"]) != text(&old["status"]["qosClass"]) {
        let why = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid(&at, text(&new["status"]["qosClass"]), why));
    }
    let unsupported =
        |status: &Value| status["state"]["running"].is_object() && status["resources"].is_null();
    if old["status"]["phase"] == "Running"
        && items(&old["status"]["containerStatuses"]).iter().any(unsupported)
    {
        let why = "Pod running on node without support for resize";
        errors.push(FieldError::forbidden(&at, why));
    }
    let mut moved = Vec::new();
    for list in ["containers", "initContainers"] {
        let (now, was, at) = (
            items(&new["spec"][list]),
            items(&old["spec"][list]),
            at.child(list),
        );
        if now.len() != was.len() {
            let why = format!("{list} may not be added or removed on resize");
            moved.push(FieldError::forbidden(&at, why));
            continue;
        }
        let pairs = now.iter().zip(was).enumerate();
        let renamed = pairs.filter(|(_, (now, was))| now["name"] != was["name"]);
        let why = format!("{list} may not be renamed or reordered on resize");
        moved.extend(renamed.map(|(i, _)| FieldError::forbidden(&at.index(i).child("name"), why.clone())));
    }
    if !moved.is_empty() {
        errors.extend(moved);
        return errors;
    }
    for check in [removed, others_changed] {
        for list in ["initContainers", "containers"] {
            let pairs = items(&new["spec"][list]).iter().zip(items(&old["spec"][list]));
            for (i, (now, was)) in pairs.enumerate() {
                errors.extend(check(
                    &now["resources"],
                    &was["resources"],
                    &at.child(list).index(i),
                ));
            }
        }
    }
    errors
}

/// That nothing is no longer asked for.
fn removed(now: &Value, was: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for part in ["requests", "limits"] {
        let names = was[part].as_object().into_iter().flat_map(|list| list.keys());
        if names.into_iter().any(|name| now[part].get(name).is_none()) {
            let why = format!("resource {part} cannot be removed");
            errors.push(FieldError::forbidden(&at.child("resources").child(part), why));
        }
    }
    errors
}

/// That nothing but CPU and memory is asked for in another amount.
fn others_changed(now: &Value, was: &Value, at: &FieldPath) -> Vec<FieldError> {
    let others = |list: &Value| {
        let mut list = list.as_object().cloned().unwrap_or_default();
        list.retain(|name, _| !matches!(name.as_str(), "cpu" | "memory"));
        list
    };
    if ["requests", "limits"]
        .iter()
        .all(|part| others(&now[*part]) == others(&was[*part]))
    {
        return Vec::new();
    }
    let (at, why) = if at.as_str().starts_with("spec.containers") {
        (
            FieldPath::new("spec"),
            "only cpu and memory resources are mutable",
        )
    } else {
        let why = "only cpu and memory resources for init or sidecar containers are mutable";
        (at.clone(), why)
    };
    vec![FieldError::forbidden(&at, why)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::strategies::checks::tests::told;
    use crate::strategy::{Deletion, RequestContext, Strategy};

    fn strategy() -> Arc<dyn Strategy> {
        let mut all = crate::builtin::all().into_iter();
        let pods = all.find(|r| r.group.is_empty() && r.kind == "Pod");
        pods.unwrap().strategy.clone()
    }

    fn context(subresource: &str) -> RequestContext {
        RequestContext {
            now: "2024-01-01T00:00:00Z".to_owned(),
            namespace: "n".to_owned(),
            subresource: subresource.to_owned(),
            user: String::new(),
            requester: Value::Null,
        }
    }

    fn pod() -> Value {
        let mut pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [
            {"name": "c", "image": "i:1", "resources": {"requests": {"cpu": "1"}}}]}});
        strategy().default(&mut pod);
        strategy().prepare_create(&context(""), &mut pod);
        pod
    }

    #[test]
    fn little_of_a_pod_may_change() {
        let cases: [(&str, &str, Value, &[&str]); 9] = [
            ("", "/spec/containers/0/image", json!("i:2"), &[]),
            ("", "/spec/activeDeadlineSeconds", json!(10), &[]),
            ("", "/spec/tolerations", json!([{"operator": "Exists"}]), &[]),
            ("", "/status/phase", json!("Running"), &[]),
            (
                "",
                "/spec/containers",
                json!([]),
                &[
                    "spec.containers: Required value",
                    "spec.containers: Forbidden: pod updates may not add or remove containers",
                ],
            ),
            ("status", "/spec/restartPolicy", json!("Never"), &[]),
            (
                "status",
                "/status/qosClass",
                json!("Guaranteed"),
                &["status.qosClass: Invalid value: \"Guaranteed\": field is immutable"],
            ),
            (
                "resize",
                "/spec/containers/0/resources/requests/cpu",
                json!("2"),
                &[],
            ),
            (
                "resize",
                "/spec/containers/0/resources",
                json!({}),
                &[
                    "spec: Invalid value: \"Burstable\": Pod QOS Class may not change as a result of resizing",
                    "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
                ],
            ),
        ];
        for (subresource, pointer, value, expected) in cases {
            let (mut new, old) = (pod(), pod());
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            match new.pointer_mut(parent).unwrap() {
                Value::Array(list) => list[field.parse::<usize>().unwrap()] = value,
                parent => parent[field] = value,
            }
            let ctx = context(subresource);
            strategy().prepare_update(&ctx, &mut new, &old);
            assert_eq!(
                told(&strategy().validate_update(&ctx, &new, &old)),
                expected,
                "{pointer}"
            );
        }
        let (mut new, old) = (pod(), pod());
        new["spec"]["restartPolicy"] = "Never".into();
        let errors = told(&strategy().validate_update(&context(""), &new, &old));
        assert_eq!(errors.len(), 1);
        assert!(
            errors[0].contains("\n-  \"restartPolicy\": \"Always\",\n+  \"restartPolicy\": \"Never\",\n"),
            "{errors:?}"
        );
    }

    #[test]
    fn idle_pods_go_at_once() {
        let cases = [
            ("", "Pending", None, 0),
            ("node", "Running", None, 30),
            ("node", "Running", Some(5), 5),
            ("node", "Running", Some(-1), 1),
            ("node", "Succeeded", Some(5), 0),
        ];
        for (node, phase, asked, expected) in cases {
            let mut pod = pod();
            pod["spec"]["nodeName"] = node.into();
            pod["status"]["phase"] = phase.into();
            assert_eq!(
                strategy().deletion(&pod, asked),
                Deletion::Graceful(expected),
                "{node} {phase}"
            );
        }
    }
}
