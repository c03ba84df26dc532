//! `LimitRange`s and `ResourceQuota`s: how much may be used.

use std::cmp::Ordering;
use std::collections::{BTreeSet, HashSet};

use serde_json::{Map, Value};
use trimtab_apimachinery_meta::{FieldError, FieldPath, Quantity, names};

use super::resources;
use crate::strategies::checks::{immutable, invalid_for, items, object, text};
use crate::strategies::fields::{each_mut, quantity, round_up_resources};
use crate::strategies::rules::Rules;

pub(super) const LIMIT_RANGE: Rules = Rules {
    create_on_update: true,
    default: |range| each_mut(object(range, "spec"), "limits").for_each(default_limit),
    validate: validate_limits,
    ..Rules::NO_STATUS
};

pub(super) const QUOTA: Rules = Rules {
    default: |quota| {
        for list in ["/spec/hard", "/status/hard", "/status/used"] {
            if let Some(list) = quota.pointer_mut(list) {
                round_up_resources(list);
            }
        }
    },
    validate: |quota| validate_quota(&quota["spec"]),
    validate_update: Some(|new, old| {
        let mut errors = validate_quota(&new["spec"]);
        let scopes = |quota: &Value| -> Value {
            let mut scopes = items(&quota["spec"]["scopes"]).to_vec();
            scopes.sort_by(|a, b| text(a).cmp(text(b)));
            scopes.dedup();
            scopes.into()
        };
        if scopes(new) != scopes(old) {
            let at = FieldPath::new("spec").child("scopes");
            errors.extend(immutable(&new["spec"]["scopes"], &old["spec"]["scopes"], &at));
        }
        errors
    }),
    validate_status: |new, _| {
        let lists = ["hard", "used"];
        lists
            .iter()
            .flat_map(|list| counted(&new["status"][*list], &FieldPath::new("status").child(list)))
            .collect()
    },
    ..Rules::ORDINARY
};

/// The parts of a limit.
const PARTS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

fn entries(list: &Value) -> impl Iterator<Item = (&String, &Value)> {
    list.as_object().into_iter().flatten()
}

/// Defaults of containers follow from the most and the least that there may be.
fn default_limit(limit: &mut Value) {
    if limit["type"] == "Container" {
        let part = |limit: &Value, name: &str| limit[name].as_object().cloned().unwrap_or_default();
        let fill = |into: &mut Map<String, Value>, from: &Map<String, Value>| {
            for (name, value) in from {
                into.entry(name).or_insert_with(|| value.clone());
            }
        };
        let (mut limits, mut requests) = (part(limit, "default"), part(limit, "defaultRequest"));
        fill(&mut limits, &part(limit, "max"));
        fill(&mut requests, &limits);
        fill(&mut requests, &part(limit, "min"));
        for (name, list) in [("default", limits), ("defaultRequest", requests)] {
            if !list.is_empty() {
                limit[name] = list.into();
            }
        }
    }
    for part in PARTS {
        if let Some(part) = limit.get_mut(part) {
            round_up_resources(part);
        }
    }
}

fn validate_limits(range: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen = HashSet::new();
    for (i, limit) in items(&range["spec"]["limits"]).iter().enumerate() {
        let at = FieldPath::new("spec").child("limits").index(i);
        let kind = text(&limit["type"]);
        let path = at.child("type");
        let wrong = names::qualified_name(kind);
        let standard = matches!(kind, "Pod" | "Container" | "PersistentVolumeClaim");
        if wrong.is_empty() && !kind.contains('/') && !standard {
            let why = "must be a standard limit type or fully qualified";
            errors.push(FieldError::invalid(&path, kind, why));
        }
        errors.extend(invalid_for(wrong, &kind.into(), &path));
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(&path, kind));
        }
        errors.extend(validate_limit(limit, &at));
    }
    errors
}

fn validate_limit(limit: &Value, at: &FieldPath) -> Vec<FieldError> {
    let kind = text(&limit["type"]);
    let named = if matches!(kind, "Pod" | "Container") {
        resources::container_name
    } else {
        resources::name
    };
    let of_pods = |part: &str| kind == "Pod" && part.starts_with("default");
    let mut errors = Vec::new();
    for part in ["max", "min", "default", "defaultRequest"] {
        let at = at.child(part);
        if of_pods(part) && entries(&limit[part]).next().is_some() {
            let why = "may not be specified when `type` is 'Pod'";
            errors.push(FieldError::forbidden(&at, why));
        } else {
            errors.extend(entries(&limit[part]).flat_map(|(name, _)| named(name, &at.key(name))));
        }
    }
    let bounded = ["min", "max"]
        .iter()
        .any(|part| limit[*part].get("storage").is_some());
    if kind == "PersistentVolumeClaim" && !bounded {
        let why = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(&at.child("limits"), why));
    }
    let ratio = at.child("maxLimitRequestRatio");
    errors
        .extend(entries(&limit["maxLimitRequestRatio"]).flat_map(|(name, _)| named(name, &ratio.key(name))));
    let known = PARTS.iter().filter(|part| !of_pods(part));
    let all: BTreeSet<&String> = known
        .flat_map(|part| entries(&limit[*part]).map(|(name, _)| name))
        .collect();
    for name in all {
        errors.extend(validate_amounts(limit, name, at));
    }
    errors
}

/// That the amounts of one resource make sense together.
fn validate_amounts(limit: &Value, name: &str, at: &FieldPath) -> Vec<FieldError> {
    let of_pods = limit["type"] == "Pod";
    let amount = |part: &str| -> Option<Quantity> {
        let hidden = of_pods && part.starts_with("default");
        quantity(limit[part].get(name)?).filter(|_| !hidden)
    };
    let mut errors = Vec::new();
    // What may not be more than what, under which names; where, and which of the two is shown.
    let order = [
        ("min", "min", "max", "max", "min", false),
        (
            "min",
            "min",
            "defaultRequest",
            "default request",
            "defaultRequest",
            true,
        ),
        (
            "defaultRequest",
            "default request",
            "max",
            "max",
            "defaultRequest",
            false,
        ),
        (
            "defaultRequest",
            "default request",
            "default",
            "default limit",
            "defaultRequest",
            false,
        ),
        ("min", "min", "default", "default", "default", false),
        ("default", "default", "max", "max", "default", true),
    ];
    for (less, less_name, more, more_name, field, shows_more) in order {
        let (Some(a), Some(b)) = (amount(less), amount(more)) else {
            continue;
        };
        if a.cmp(&b) == Ordering::Greater {
            let why = format!("{less_name} value {a} is greater than {more_name} value {b}");
            let shown = if shows_more { b } else { a };
            errors.push(FieldError::invalid(
                &at.child(field).key(name),
                shown.to_string(),
                why,
            ));
        }
    }
    let path = at.child("maxLimitRequestRatio").key(name);
    if let Some(ratio) = amount("maxLimitRequestRatio") {
        if ratio < Quantity::whole(1) {
            let why = format!("ratio {ratio} is less than 1");
            errors.push(FieldError::invalid(&path, ratio.to_string(), why));
        }
        if let (Some(min), Some(max)) = (amount("min"), amount("max")) {
            let most = as_number(max) / as_number(min);
            if as_number(ratio) > most {
                let why = format!("ratio {ratio} is greater than max/min = {most:.6}");
                errors.push(FieldError::invalid(&path, ratio.to_string(), why));
            }
        }
    }
    if let (Some(limit), Some(request)) = (amount("default"), amount("defaultRequest"))
        && !resources::shared(name)
        && limit != request
    {
        let why = format!("default value {limit} must equal to defaultRequest value {request} in {name}");
        let at = at.child("defaultRequest").key(name);
        errors.push(FieldError::invalid(&at, request.to_string(), why));
    }
    errors
}

/// An amount as a number to divide; huge ones lose what does not matter.
#[allow(
    clippy::cast_precision_loss,
    reason = "only the ratio of two amounts is wanted"
)]
fn as_number(amount: Quantity) -> f64 {
    match amount.milli_value() {
        i64::MAX => amount.value() as f64,
        milli => milli as f64 / 1000.0,
    }
}

/// Resources and how much of each.
fn counted(list: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for (name, value) in entries(list) {
        let at = at.key(name);
        let wrong = resources::name(name, &at);
        if !name.contains('/') && (!wrong.is_empty() || name == "storage") {
            errors.extend(wrong);
            let why = "must be a standard resource for quota";
            errors.push(FieldError::invalid(&at, name.as_str(), why));
        } else {
            errors.extend(wrong);
        }
        errors.extend(resources::amount(name, value, &at));
    }
    errors
}

/// Whether a scope says something about a resource.
fn scopes_resource(scope: &str, resource: &str) -> bool {
    let computed = matches!(
        resource,
        "cpu" | "memory" | "limits.cpu" | "limits.memory" | "requests.cpu" | "requests.memory"
    );
    match scope {
        "Terminating"
        | "NotTerminating"
        | "NotBestEffort"
        | "PriorityClass"
        | "CrossNamespacePodAffinity" => resource == "pods" || computed,
        "BestEffort" => resource == "pods",
        "VolumeAttributesClass" => matches!(resource, "persistentvolumeclaims" | "requests.storage"),
        _ => true,
    }
}

fn validate_quota(spec: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("spec");
    let mut errors = counted(&spec["hard"], &at.child("hard"));
    let scopes: Vec<&str> = items(&spec["scopes"]).iter().map(text).collect();
    errors.extend(validate_scopes(
        spec,
        &scopes,
        &spec["scopes"],
        None,
        &at.child("scopes"),
    ));
    let conflicts = |scopes: &[&str], at: &FieldPath| -> Vec<FieldError> {
        let both = |(a, b): &(&str, &str)| scopes.contains(a) && scopes.contains(b);
        let pairs = [("BestEffort", "NotBestEffort"), ("Terminating", "NotTerminating")];
        let found = pairs.iter().filter(|pair| both(pair));
        found
            .map(|_| FieldError::invalid(at, spec["scopes"].clone(), "conflicting scopes"))
            .collect()
    };
    errors.extend(conflicts(&scopes, &at.child("scopes")));
    let at = at.child("scopeSelector").child("matchExpressions");
    let expressions = items(&spec["scopeSelector"]["matchExpressions"]);
    for expression in expressions {
        let scope = text(&expression["scopeName"]);
        let name = at.child("scopeName");
        errors.extend(validate_scopes(
            spec,
            &[scope],
            &spec["scopeSelector"],
            Some(&name),
            &at,
        ));
        let (operator, values) = (text(&expression["operator"]), items(&expression["values"]));
        let path = at.child("operator");
        let plain = !matches!(scope, "PriorityClass" | "VolumeAttributesClass") && is_scope(scope);
        if plain && operator != "Exists" {
            let why = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                       ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort \
                       or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.push(FieldError::invalid(&path, operator, why));
        }
        match operator {
            "In" | "NotIn" if values.is_empty() => errors.push(FieldError::required(
                &at.child("values"),
                "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
            )),
            "Exists" | "DoesNotExist" if !values.is_empty() => errors.push(FieldError::invalid(
                &at.child("values"),
                values.to_vec(),
                "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector",
            )),
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            _ => errors.push(FieldError::invalid(
                &path,
                operator,
                "not a valid selector operator",
            )),
        }
    }
    let selected: Vec<&str> = expressions.iter().map(|e| text(&e["scopeName"])).collect();
    errors.extend(conflicts(&selected, &at));
    errors
}

fn is_scope(scope: &str) -> bool {
    matches!(
        scope,
        "Terminating"
            | "NotTerminating"
            | "BestEffort"
            | "NotBestEffort"
            | "PriorityClass"
            | "VolumeAttributesClass"
            | "CrossNamespacePodAffinity"
    )
}

/// That scopes exist, and say something about the resources; `name` is where a scope is named, if not at `at`.
fn validate_scopes(
    spec: &Value,
    scopes: &[&str],
    shown: &Value,
    name: Option<&FieldPath>,
    at: &FieldPath,
) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for scope in scopes {
        if !is_scope(scope) {
            let why = "unsupported scope";
            errors.push(match name {
                Some(name) => FieldError::invalid(name, *scope, why),
                None => FieldError::invalid(at, shown.clone(), why),
            });
        }
        for (resource, _) in entries(&spec["hard"]) {
            let known = resource != "storage" && resources::standard(resource);
            if known && !scopes_resource(scope, resource) {
                let why = "unsupported scope applied to resource";
                errors.push(FieldError::invalid(at, shown.clone(), why));
            }
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
    fn limits_follow_from_each_other_and_agree() {
        let mut range = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}});
        (LIMIT_RANGE.default)(&mut range);
        let expected = json!({"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"},
            "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}});
        assert_eq!(range["spec"]["limits"][0], expected);
        assert_eq!(told(&validate_limits(&range)), [""; 0]);
        let limits = json!([{"type": "Pod", "min": {"cpu": "2"}, "max": {"cpu": "1"}, "default": {"cpu": "1"}},
            {"type": "PersistentVolumeClaim"}]);
        let expected = [
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            "spec.limits[0].min[cpu]: Invalid value: \"2\": min value 2 is greater than max value 1",
            "spec.limits[1].limits: Required value: either minimum or maximum storage value is required, but neither was \
             provided",
        ];
        assert_eq!(
            told(&validate_limits(&json!({"spec": {"limits": limits}}))),
            expected
        );
    }

    #[test]
    fn quotas_have_known_resources_and_scopes() {
        let cases: [(Value, &[&str]); 5] = [
            (
                json!({"hard": {"pods": "10", "count/jobs.batch": "1", "requests.cpu": "1"}}),
                &[],
            ),
            (
                json!({"hard": {"pods": "-1.5"}}),
                &[
                    "spec.hard[pods]: Invalid value: \"-1500m\": must be greater than or equal to 0",
                    "spec.hard[pods]: Invalid value: \"-1500m\": must be an integer",
                ],
            ),
            (
                json!({"hard": {"services": "1"}, "scopes": ["BestEffort"]}),
                &["spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"],
            ),
            (
                json!({"scopes": ["Terminating", "NotTerminating"]}),
                &["spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"],
            ),
            (
                json!({"scopes": ["BestEffort", "NotBestEffort"], "scopeSelector": {"matchExpressions": [
                    {"scopeName": "PriorityClass", "operator": "Exists", "values": ["x"]}]}}),
                &[
                    "spec.scopes: Invalid value: [\"BestEffort\",\"NotBestEffort\"]: conflicting scopes",
                    "spec.scopeSelector.matchExpressions.values: Invalid value: [\"x\"]: must be no value when `operator` is \
                     'Exist' or 'DoesNotExist' for scope selector",
                ],
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(told(&validate_quota(&spec)), expected, "{spec}");
        }
    }
}
