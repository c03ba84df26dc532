//! Kinds that steer the API server itself: APIServices, and who is served first when it is busy.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::apps::template::spec;
use super::checks::{default_to, int, invalid_for, is_empty, items, object, one_of, text};
use super::core::words::port_number;
use super::flow_rules::validate_things;
use super::rules::Rules;
use super::storage::keep_metadata;

/// The rules of a kind of `apiregistration.k8s.io`.
pub(super) fn registration(kind: &str) -> Option<Rules> {
    (kind == "APIService").then_some(Rules {
        unconditional_update: false,
        name: names::path_segment,
        default: |service| {
            if let Some(service) = service.get_mut("spec").and_then(|s| s.get_mut("service")) {
                default_to(service, "port", 443);
            }
        },
        prepare_create: |ctx, service| {
            if service["spec"]["service"].is_null() {
                service["status"] = json!({"conditions": [{"type": "Available", "status": "True", "reason": "Local",
                    "lastTransitionTime": ctx.now, "message": "Local APIServices are always available"}]});
            }
        },
        prepare_status: keep_metadata,
        validate: validate_service,
        validate_status: |new, _| {
            let at = FieldPath::new("status").child("conditions");
            let conditions = items(&new["status"]["conditions"]).iter().enumerate();
            let wrong = conditions.flat_map(|(i, condition)| {
                let supported = ["True", "False", "Unknown"];
                one_of(&condition["status"], &supported, &at.index(i).child("status"))
            });
            wrong.collect()
        },
        ..Rules::ORDINARY
    })
}

fn validate_service(service: &Value) -> Vec<FieldError> {
    let of = &service["spec"];
    let (group, version) = (&of["group"], Value::from(text(&of["version"])));
    let mut errors = Vec::new();
    let name = text(&service["metadata"]["name"]);
    let required = format!("{}.{}", text(&version), text(group));
    if name != required && !name.is_empty() && names::path_segment(name).is_empty() {
        let why = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
        errors.push(FieldError::invalid(
            &FieldPath::new("metadata").child("name"),
            name,
            why,
        ));
    }
    let at = spec().child("group");
    if !text(group).is_empty() {
        errors.extend(invalid_for(names::dns1123_subdomain(text(group)), group, &at));
    } else if version != "v1" {
        let why = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(&at, why));
    }
    errors.extend(invalid_for(
        names::dns1035_label(text(&version)),
        &version,
        &spec().child("version"),
    ));
    for (field, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = int(&of[field]);
        if !(1..=most).contains(&priority) {
            let why = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(&spec().child(field), priority, why));
        }
    }
    let (bundle, insecure) = (text(&of["caBundle"]), of["insecureSkipTLSVerify"] == true);
    let (backend, insecure_at) = (&of["service"], spec().child("insecureSkipTLSVerify"));
    if backend.is_null() {
        if !bundle.is_empty() {
            // Bytes are written in base64, three in four letters.
            let bytes = bundle.trim_end_matches('=').len() * 3 / 4;
            let why = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(
                &spec().child("caBundle"),
                format!("{bytes} bytes"),
                why,
            ));
        }
        if insecure {
            let why = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(&insecure_at, true, why));
        }
        return errors;
    }
    let at = spec().child("service");
    for field in ["namespace", "name"] {
        if text(&backend[field]).is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    let port = int(&backend["port"]);
    let wrong = port_number(port);
    if !wrong.is_empty() {
        let why = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(&at.child("port"), port, why));
    }
    if insecure && !bundle.is_empty() {
        let why = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(&insecure_at, true, why));
    }
    errors
}

/// Queues among which hands can be dealt by a hash of 60 bits.
fn validate_queuing(queuing: &Value, at: &FieldPath) -> Vec<FieldError> {
    const MOST_QUEUES: i64 = 10_000_000;
    const HASH_BITS: f64 = 60.0;
    let number = |field: &str| int(&queuing[field]);
    let (length, queues, hand) = (number("queueLengthLimit"), number("queues"), number("handSize"));
    // What both are is small enough to be exact.
    let bits = ((queues.max(1) as f64).log2() * hand as f64).ceil();
    let positive = "must be positive".to_owned();
    let wrong = [
        (
            "queueLengthLimit",
            length,
            (length <= 0).then(|| positive.clone()),
        ),
        (
            "queues",
            queues,
            match queues {
                ..=0 => Some(positive.clone()),
                1..=MOST_QUEUES => None,
                _ => Some(format!("must not be greater than {MOST_QUEUES}")),
            },
        ),
        (
            "handSize",
            hand,
            if hand <= 0 {
                Some(positive)
            } else if hand > queues {
                Some(format!("should not be greater than queues ({queues})"))
            } else if bits > HASH_BITS {
                Some(format!(
                    "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {HASH_BITS}"
                ))
            } else {
                None
            },
        ),
    ];
    wrong
        .into_iter()
        .filter_map(|(field, value, why)| Some(FieldError::invalid(&at.child(field), value, why?)))
        .collect()
}

/// The rules of a kind of `flowcontrol.apiserver.k8s.io`.
pub(super) fn flow_control(kind: &str) -> Option<Rules> {
    let ordinary = Rules {
        generation: true,
        prepare_status: keep_metadata,
        validate_status: |new, _| condition_types(&new["status"]["conditions"]),
        ..Rules::ORDINARY
    };
    Some(match kind {
        "FlowSchema" => Rules {
            default: |schema| {
                let spec = object(schema, "spec");
                if int(&spec["matchingPrecedence"]) == 0 {
                    spec["matchingPrecedence"] = 1000.into();
                }
            },
            validate: validate_schema,
            ..ordinary
        },
        "PriorityLevelConfiguration" => Rules {
            default: default_level,
            validate: validate_level,
            ..ordinary
        },
        _ => return None,
    })
}

/// Conditions have types, each once.
fn condition_types(conditions: &Value) -> Vec<FieldError> {
    let all = items(conditions);
    let mut errors = Vec::new();
    for (i, condition) in all.iter().enumerate() {
        let at = FieldPath::new("status")
            .child("conditions")
            .index(i)
            .child("type");
        let kind = text(&condition["type"]);
        if kind.is_empty() {
            errors.push(FieldError::required(&at, ""));
        } else if all.iter().take(i).any(|earlier| text(&earlier["type"]) == kind) {
            errors.push(FieldError::duplicate(&at, kind));
        }
    }
    errors
}

fn validate_schema(schema: &Value) -> Vec<FieldError> {
    const LAST: i64 = 10_000;
    let of = &schema["spec"];
    let (precedence, at) = (int(&of["matchingPrecedence"]), spec().child("matchingPrecedence"));
    let wrong = match precedence {
        ..=0 => Some("must be a positive value".to_owned()),
        1 if text(&schema["metadata"]["name"]) != "exempt" => {
            Some("only the schema named 'exempt' may have matchingPrecedence 1".to_owned())
        }
        more if more > LAST => Some(format!("must not be greater than {LAST}")),
        _ => None,
    };
    let mut errors: Vec<FieldError> = wrong
        .into_iter()
        .map(|why| FieldError::invalid(&at, precedence, why))
        .collect();
    let method = &of["distinguisherMethod"];
    if !method.is_null() && !matches!(text(&method["type"]), "ByNamespace" | "ByUser") {
        let at = spec().child("distinguisherMethod").child("type");
        let shown = json!({"Type": method["type"]});
        errors.push(FieldError::not_supported(&at, shown, &["ByNamespace", "ByUser"]));
    }
    let (level, at) = (
        &of["priorityLevelConfiguration"]["name"],
        spec().child("priorityLevelConfiguration").child("name"),
    );
    if text(level).is_empty() {
        errors.push(FieldError::required(&at, "must reference a priority level"));
    } else {
        errors.extend(invalid_for(names::dns1123_subdomain(text(level)), level, &at));
    }
    for (i, rule) in items(&of["rules"]).iter().enumerate() {
        let at = spec().child("rules").index(i);
        if is_empty(&rule["subjects"]) {
            let why = "subjects must contain at least one value";
            errors.push(FieldError::required(&at.child("subjects"), why));
        }
        for (i, subject) in items(&rule["subjects"]).iter().enumerate() {
            errors.extend(validate_subject(subject, &at.child("subjects").index(i)));
        }
        if is_empty(&rule["resourceRules"]) && is_empty(&rule["nonResourceRules"]) {
            let why = "at least one of resourceRules and nonResourceRules has to be non-empty";
            errors.push(FieldError::required(&at, why));
        }
        errors.extend(validate_things(rule, &at));
    }
    errors
}

fn validate_subject(subject: &Value, at: &FieldPath) -> Vec<FieldError> {
    const KINDS: [(&str, &str); 3] = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let kind = text(&subject["kind"]);
    let Some((_, own)) = KINDS.iter().find(|(known, _)| *known == kind) else {
        let supported = ["Group", "ServiceAccount", "User"];
        return vec![FieldError::not_supported(&at.child("kind"), kind, &supported)];
    };
    let (who, own_at) = (&subject[*own], at.child(own));
    let mut errors = Vec::new();
    if who.is_null() {
        let why = format!("{own} is required when subject kind is '{kind}'");
        errors.push(FieldError::required(&own_at, why));
    } else {
        if text(&who["name"]).is_empty() {
            errors.push(FieldError::required(&own_at.child("name"), ""));
        }
        if *own == "serviceAccount" {
            let (name, namespace) = (&who["name"], &who["namespace"]);
            if !is_empty(name) && name != "*" {
                let wrong = names::dns1123_subdomain(text(name));
                errors.extend(invalid_for(wrong, name, &own_at.child("name")));
            }
            let at = own_at.child("namespace");
            if is_empty(namespace) {
                let why = "must specify namespace for service account";
                errors.push(FieldError::required(&at, why));
            } else {
                errors.extend(invalid_for(names::dns1123_label(text(namespace)), namespace, &at));
            }
        }
    }
    for (other_kind, other) in KINDS.iter().filter(|(_, other)| other != own) {
        if !subject[*other].is_null() {
            let why = format!("{other} is forbidden when subject kind is not '{other_kind}'");
            errors.push(FieldError::forbidden(&at.child(other), why));
        }
    }
    errors
}

fn default_level(level: &mut Value) {
    let spec = object(level, "spec");
    for (kind, shares) in [("exempt", 0), ("limited", 30)] {
        if let Some(own) = spec.get_mut(kind).filter(|own| own.is_object()) {
            default_to(own, "nominalConcurrencyShares", shares);
            default_to(own, "lendablePercent", 0);
        }
    }
    let response = spec.get_mut("limited").and_then(|l| l.get_mut("limitResponse"));
    let Some(queuing) = response
        .and_then(|r| r.get_mut("queuing"))
        .filter(|q| q.is_object())
    else {
        return;
    };
    for (field, value) in [("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)] {
        if int(&queuing[field]) == 0 {
            queuing[field] = value.into();
        }
    }
}

fn validate_level(level: &Value) -> Vec<FieldError> {
    let of = &level["spec"];
    let (type_, at) = (text(&of["type"]), spec().child("type"));
    let mut errors = Vec::new();
    if (text(&level["metadata"]["name"]) == "exempt") != (type_ == "Exempt") {
        let why = "must be 'Exempt' if and only if `name` is 'exempt'";
        errors.push(FieldError::invalid(&at, type_, why));
    }
    let (limited, exempt) = (&of["limited"], &of["exempt"]);
    match type_ {
        "Exempt" => {
            if !limited.is_null() {
                let why = "must be nil if the type is not Limited";
                errors.push(FieldError::forbidden(&spec().child("limited"), why));
            }
            errors.extend(shares(exempt, &spec().child("exempt")));
        }
        "Limited" => {
            if !exempt.is_null() {
                let why = "must be nil if the type is Limited";
                errors.push(FieldError::forbidden(&spec().child("exempt"), why));
            }
            if limited.is_null() {
                let why = "must not be empty when type is Limited";
                errors.push(FieldError::required(&spec().child("limited"), why));
            } else {
                errors.extend(validate_limited(limited, &spec().child("limited")));
            }
        }
        "" => errors.push(FieldError::required(&at, "")),
        other => errors.push(FieldError::not_supported(&at, other, &["Exempt", "Limited"])),
    }
    errors
}

fn shares(level: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (shares, lent) = (
        int(&level["nominalConcurrencyShares"]),
        int(&level["lendablePercent"]),
    );
    if shares < 0 {
        let why = "must be a non-negative integer";
        errors.push(FieldError::invalid(
            &at.child("nominalConcurrencyShares"),
            shares,
            why,
        ));
    }
    if !(0..=100).contains(&lent) {
        let why = "must be between 0 and 100, inclusive";
        errors.push(FieldError::invalid(&at.child("lendablePercent"), lent, why));
    }
    errors
}

fn validate_limited(limited: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = shares(limited, at);
    let (response, at_response) = (&limited["limitResponse"], at.child("limitResponse"));
    let (queuing, queuing_at) = (&response["queuing"], at_response.child("queuing"));
    match text(&response["type"]) {
        "Reject" if queuing.is_null() => {}
        "Reject" => {
            let why = "must be nil if limited.limitResponse.type is not Limited";
            errors.push(FieldError::forbidden(&queuing_at, why));
        }
        "Queue" if queuing.is_null() => {
            let why = "must not be empty if limited.limitResponse.type is Limited";
            errors.push(FieldError::required(&queuing_at, why));
        }
        "Queue" => errors.extend(validate_queuing(queuing, &queuing_at)),
        "" => errors.push(FieldError::required(&at_response.child("type"), "")),
        other => {
            let at = at_response.child("type");
            errors.push(FieldError::not_supported(&at, other, &["Queue", "Reject"]));
        }
    }
    let borrowed = &limited["borrowingLimitPercent"];
    if int(borrowed) < 0 {
        let why = "if specified, must be a non-negative integer";
        errors.push(FieldError::invalid(
            &at.child("borrowingLimitPercent"),
            borrowed.clone(),
            why,
        ));
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn services_of_the_api_are_named_after_what_they_serve() {
        let spec =
            json!({"group": "a.b", "version": "v1", "groupPriorityMinimum": 10, "versionPriority": 10});
        let service = |name: &str| json!({"metadata": {"name": name}, "spec": spec});
        assert_eq!(told(&validate_service(&service("v1.a.b"))), Vec::<String>::new());
        let expected =
            ["metadata.name: Invalid value: \"x\": must be `spec.version+\".\"+spec.group`: \"v1.a.b\""];
        assert_eq!(told(&validate_service(&service("x"))), expected);
        let empty =
            json!({"metadata": {"name": "v1."}, "spec": {"version": "v1", "insecureSkipTLSVerify": true}});
        let expected = [
            "spec.groupPriorityMinimum: Invalid value: 0: must be positive and less than 20000",
            "spec.versionPriority: Invalid value: 0: must be positive and less than 1000",
            "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
        ];
        assert_eq!(told(&validate_service(&empty)), expected);
    }

    #[test]
    fn levels_are_limited_or_exempt() {
        let cases: [(Value, &[&str]); 2] = [
            (
                json!({"type": "Limited", "limited": {"limitResponse": {"type": "Queue", "queuing": {}}}}),
                &[],
            ),
            (
                json!({"type": "Exempt", "limited": {}}),
                &[
                    "spec.type: Invalid value: \"Exempt\": must be 'Exempt' if and only if `name` is 'exempt'",
                    "spec.limited: Forbidden: must be nil if the type is not Limited",
                ],
            ),
        ];
        for (spec, expected) in cases {
            let mut level = json!({"metadata": {"name": "l"}, "spec": spec});
            default_level(&mut level);
            assert_eq!(told(&validate_level(&level)), expected, "{spec}");
        }
        let schema = json!({"spec": {"matchingPrecedence": 1, "rules": [{"subjects": [{"kind": "User", "group": {}}]}]}});
        let expected = [
            "spec.matchingPrecedence: Invalid value: 1: only the schema named 'exempt' may have matchingPrecedence 1",
            "spec.priorityLevelConfiguration.name: Required value: must reference a priority level",
            "spec.rules[0].subjects[0].user: Required value: user is required when subject kind is 'User'",
            "spec.rules[0].subjects[0].group: Forbidden: group is forbidden when subject kind is not 'Group'",
            "spec.rules[0]: Required value: at least one of resourceRules and nonResourceRules has to be non-empty",
        ];
        assert_eq!(told(&validate_schema(&schema)), expected);
    }

    #[test]
    fn queues_are_such_that_hands_can_be_dealt() {
        for (queues, hand, length, wanted) in [
            (64, 6, 50, ""),
            (1, 1, 1, ""),
            (
                -1,
                6,
                0,
                "queueLengthLimit: Invalid value: 0: must be positive|queues: Invalid value: -1: must be positive|\
                        handSize: Invalid value: 6: should not be greater than queues (-1)",
            ),
            (
                10_000_001,
                2,
                1,
                "queues: Invalid value: 10000001: must not be greater than 10000000",
            ),
            (
                4,
                5,
                1,
                "handSize: Invalid value: 5: should not be greater than queues (4)",
            ),
            (
                64,
                11,
                1,
                "handSize: Invalid value: 11: required entropy bits of deckSize 64 and handSize 11 should not be \
                         greater than 60",
            ),
            (64, -1, 1, "handSize: Invalid value: -1: must be positive"),
        ] {
            let queuing = json!({"queues": queues, "handSize": hand, "queueLengthLimit": length});
            let errors = told(&validate_queuing(&queuing, &FieldPath::new("q")));
            let wanted: Vec<String> = wanted
                .split('|')
                .filter(|text| !text.is_empty())
                .map(|text| format!("q.{text}"))
                .collect();
            assert_eq!(errors, wanted, "{queuing}");
        }
    }
}
