//! Classes that pods name: of priority, and of the runtime that runs them.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use super::checks::{default_to, immutable, int, invalid_for, items, labels, one_of, text};
use super::core::pod_spec::validate_tolerations;
use super::core::resources;
use super::rules::Rules;

/// The most that users may give; more is for the system.
const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
/// The classes whose names are reserved.
const SYSTEM_CLASSES: [(&str, i64); 2] = [
    ("system-node-critical", 2 * HIGHEST_USER_PRIORITY + 1000),
    ("system-cluster-critical", 2 * HIGHEST_USER_PRIORITY),
];

/// The rules of a kind of `scheduling.k8s.io`.
pub(super) fn scheduling(kind: &str) -> Option<Rules> {
    (kind == "PriorityClass").then_some(Rules {
        default: |class| {
            default_to(class, "value", 0);
            default_to(class, "preemptionPolicy", "PreemptLowerPriority");
        },
        // Generations of priority classes are set and never counted.
        prepare_create: |_, class| class["metadata"]["generation"] = 1.into(),
        validate: validate_priority,
        validate_update: Some(|new, old| {
            let mut errors = Vec::new();
            if int(&new["value"]) != int(&old["value"]) {
                let why = "may not be changed in an update.";
                errors.push(FieldError::forbidden(&FieldPath::new("value"), why));
            }
            let at = FieldPath::new("preemptionPolicy");
            errors.extend(immutable(&new["preemptionPolicy"], &old["preemptionPolicy"], &at));
            errors
        }),
        ..Rules::NO_STATUS
    })
}

fn validate_priority(class: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (name, value) = (text(&class["metadata"]["name"]), int(&class["value"]));
    if name.starts_with("system-") {
        if let Err(why) = system_class(name, value, class["globalDefault"] == true) {
            let at = FieldPath::new("metadata").child("name");
            let reserved =
                "priority class names with 'system-' prefix are reserved for system use only. error: ";
            errors.push(FieldError::forbidden(&at, format!("{reserved}{why}")));
        }
    } else if value > HIGHEST_USER_PRIORITY {
        let why = format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}");
        errors.push(FieldError::forbidden(&FieldPath::new("value"), why));
    }
    let at = FieldPath::new("preemptionPolicy");
    if class["preemptionPolicy"] == "" {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(one_of(
            &class["preemptionPolicy"],
            &["PreemptLowerPriority", "Never"],
            &at,
        ));
    }
    errors
}

fn system_class(name: &str, value: i64, global: bool) -> Result<(), String> {
    let Some((_, right)) = SYSTEM_CLASSES.iter().find(|(known, _)| *known == name) else {
        return Err(format!("{name} is not a known system priority class"));
    };
    if value != *right {
        return Err(format!("value of {name} PriorityClass must be {right}"));
    }
    if global {
        return Err(format!("globalDefault of {name} PriorityClass must be false"));
    }
    Ok(())
}

/// The rules of a kind of `node.k8s.io`.
pub(super) fn node(kind: &str) -> Option<Rules> {
    (kind == "RuntimeClass").then_some(Rules {
        create_on_update: true,
        unconditional_update: false,
        validate: validate_runtime,
        validate_update: Some(|new, old| {
            immutable(&new["handler"], &old["handler"], &FieldPath::new("handler"))
        }),
        ..Rules::NO_STATUS
    })
}

fn validate_runtime(class: &Value) -> Vec<FieldError> {
    let (handler, at) = (&class["handler"], FieldPath::new("handler"));
    let mut errors = if text(handler).is_empty() {
        vec![FieldError::required(&at, "")]
    } else {
        invalid_for(names::dns1123_label(text(handler)), handler, &at)
    };
    let overhead = json!({"limits": class["overhead"]["podFixed"]});
    let at = FieldPath::new("overhead");
    errors.extend(resources::requirements(&overhead, &at, resources::container_name));
    let (scheduling, at) = (&class["scheduling"], FieldPath::new("scheduling"));
    errors.extend(labels(&scheduling["nodeSelector"], &at.child("nodeSelector")));
    let (tolerations, at) = (&scheduling["tolerations"], at.child("tolerations"));
    errors.extend(validate_tolerations(tolerations, &at));
    let all = items(tolerations);
    let key = |t: &Value| ["key", "operator", "value", "effect"].map(|part| text(&t[part]).to_owned());
    for (i, toleration) in all.iter().enumerate() {
        if all.iter().take(i).any(|earlier| key(earlier) == key(toleration)) {
            // Kubernetes shows its own struct.
            let [key, operator, value, effect] = key(toleration);
            let shown = json!({"Key": key, "Operator": operator, "Value": value, "Effect": effect,
                "TolerationSeconds": toleration["tolerationSeconds"]});
            errors.push(FieldError::duplicate(&at.index(i), shown));
        }
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategies::checks::tests::told;

    #[test]
    fn high_priorities_are_for_the_system() {
        let cases: [(&str, i64, &[&str]); 5] = [
            ("a", HIGHEST_USER_PRIORITY, &[]),
            ("system-cluster-critical", 2_000_000_000, &[]),
            (
                "a",
                HIGHEST_USER_PRIORITY + 1,
                &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
            ),
            (
                "system-x",
                1,
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                   error: system-x is not a known system priority class",
                ],
            ),
            (
                "system-node-critical",
                1,
                &[
                    "metadata.name: Forbidden: priority class names with 'system-' prefix are reserved for system use only. \
                   error: value of system-node-critical PriorityClass must be 2000001000",
                ],
            ),
        ];
        for (name, value, expected) in cases {
            let class = json!({"metadata": {"name": name}, "value": value, "preemptionPolicy": "Never"});
            assert_eq!(told(&validate_priority(&class)), expected, "{name} {value}");
        }
    }

    #[test]
    fn runtimes_have_a_handler() {
        let cases = [
            (json!({"handler": "runc"}), vec![]),
            (json!({}), vec!["handler: Required value"]),
        ];
        for (class, expected) in cases {
            assert_eq!(told(&validate_runtime(&class)), expected, "{class}");
        }
    }
}
