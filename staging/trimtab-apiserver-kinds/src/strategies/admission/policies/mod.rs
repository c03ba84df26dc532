//! Policies that are checked in the server itself, and what binds them.

mod expressions;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use serde_json::Value;
use trimtab_apimachinery_meta::conditions;
use trimtab_apimachinery_meta::{FieldError, FieldPath, names};

use self::expressions::Compiler;
use super::{FAILURE_POLICIES, MATCH_POLICIES, validate_rule};
use crate::strategies::apps::template::spec;
use crate::strategies::checks::{invalid_for, is_empty, items, label_selector, one_of, text};

/// Operations that there is something to mutate in.
const MUTATING_OPERATIONS: [&str; 4] = ["*", "CONNECT", "CREATE", "UPDATE"];
/// What is said of a name that is reserved for configurations that are no objects.
const STATIC_SUFFIX: &str = ".static.k8s.io";

/// What is wrong with a ValidatingAdmissionPolicy, or with an update from `old`.
pub(super) fn validate_policy(policy: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let of = &policy["spec"];
    let (mut errors, mut compiler) = begin(policy, old, !items(&of["variables"]).is_empty());
    let (validations, audits) = (items(&of["validations"]), items(&of["auditAnnotations"]));
    errors.extend(compiler.variables(&of["variables"]));
    if validations.is_empty() && audits.is_empty() {
        for field in ["validations", "auditAnnotations"] {
            let why = "validations or auditAnnotations must contain at least one item";
            errors.push(FieldError::required(&spec().child(field), why));
        }
    }
    for (i, validation) in validations.iter().enumerate() {
        errors.extend(compiler.validation(validation, &spec().child("validations").index(i)));
    }
    errors.extend(compiler.audit_annotations(policy, audits));
    errors
}

/// What is wrong with a MutatingAdmissionPolicy, or with an update from `old`.
pub(super) fn validate_mutating_policy(policy: &Value, old: Option<&Value>) -> Vec<FieldError> {
    const REINVOCATION_POLICIES: [&str; 2] = ["IfNeeded", "Never"];
    let of = &policy["spec"];
    let (mut errors, mut compiler) = begin(policy, old, true);
    errors.extend(mutating_operations(
        &of["matchConstraints"],
        &spec().child("matchConstraints"),
    ));
    errors.extend(compiler.variables(&of["variables"]));
    let (mutations, at) = (items(&of["mutations"]), spec().child("mutations"));
    if mutations.is_empty() {
        errors.push(FieldError::required(
            &at,
            "mutations must contain at least one item",
        ));
    }
    for (i, mutation) in mutations.iter().enumerate() {
        errors.extend(compiler.mutation(mutation, &at.index(i)));
    }
    let (reinvocation, at) = (&of["reinvocationPolicy"], spec().child("reinvocationPolicy"));
    if text(reinvocation).is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(one_of(reinvocation, &REINVOCATION_POLICIES, &at));
    }
    errors
}

/// What both kinds of policies have in common, up to their match conditions, and what compiles their expressions.
fn begin(policy: &Value, old: Option<&Value>, variables: bool) -> (Vec<FieldError>, Compiler) {
    let of = &policy["spec"];
    let mut errors = one_of(
        &of["failurePolicy"],
        &FAILURE_POLICIES,
        &spec().child("failurePolicy"),
    );
    if !of["paramKind"].is_null() {
        errors.extend(param_kind(&of["paramKind"], &spec().child("paramKind")));
    }
    let (constraints, at) = (&of["matchConstraints"], spec().child("matchConstraints"));
    if constraints.is_null() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(match_resources(constraints, &at));
        if is_empty(&constraints["resourceRules"]) {
            errors.push(FieldError::required(&at.child("resourceRules"), ""));
        }
    }
    let compiler = Compiler::new(!of["paramKind"].is_null(), variables);
    // Those that have been stored may be of other days, and are not looked at again.
    let same = |field: &str| old.is_some_and(|old| old["spec"][field] == of[field]);
    if !(same("paramKind") && same("matchConditions")) {
        errors.extend(compiler.conditions(&of["matchConditions"]));
    }
    (errors, compiler)
}

fn mutating_operations(resources: &Value, at: &FieldPath) -> Vec<FieldError> {
    let at = at.child("resourceRules").child("operations");
    let rules = items(&resources["resourceRules"]).iter();
    let operations = rules.flat_map(|rule| items(&rule["operations"]));
    operations
        .flat_map(|operation| one_of(operation, &MUTATING_OPERATIONS, &at))
        .collect()
}

/// What is wrong with what a controller says of a ValidatingAdmissionPolicy.
pub(super) fn validate_status(policy: &Value) -> Vec<FieldError> {
    let at = FieldPath::new("status");
    let (status, mut errors) = (&policy["status"], Vec::new());
    let warnings_at = at.child("typeChecking").child("expressionWarnings");
    for (i, warning) in items(&status["typeChecking"]["expressionWarnings"])
        .iter()
        .enumerate()
    {
        for field in ["warning", "fieldRef"] {
            if text(&warning[field]).trim().is_empty() {
                errors.push(FieldError::required(&warnings_at.index(i).child(field), ""));
            }
        }
    }
    let said: Result<Vec<Condition>, _> = serde_json::from_value(status["conditions"].clone());
    errors.extend(conditions::validate(
        &said.unwrap_or_default(),
        &at.child("conditions"),
    ));
    errors
}

/// What to warn of about an object's name.
pub(super) fn warn_of_name(object: &Value) -> Vec<String> {
    let name = text(&object["metadata"]["name"]);
    let reserved = name.ends_with(STATIC_SUFFIX).then(|| {
        format!(
            "metadata.name: names ending with {STATIC_SUFFIX:?} are reserved for static manifest-based configurations and \
             cannot be managed via the API"
        )
    });
    reserved.into_iter().collect()
}

fn param_kind(kind: &Value, at: &FieldPath) -> Vec<FieldError> {
    let (version, version_at) = (text(&kind["apiVersion"]), at.child("apiVersion"));
    let mut errors = Vec::new();
    let mut wrong =
        |at: &FieldPath, shown: &str, why: String| errors.push(FieldError::invalid(at, shown, why));
    match version.split('/').collect::<Vec<_>>().as_slice() {
        [""] => {}
        [.., version_part] if version.matches('/').count() <= 1 => {
            let group = version.split_once('/').map_or("", |(group, _)| group);
            let messages = names::dns1123_subdomain(group);
            if !group.is_empty() && !messages.is_empty() {
                wrong(&version_at, group, messages.join(","));
            }
            let messages = names::dns1035_label(version_part);
            if version_part.is_empty() {
                wrong(&version_at, version, "version must be specified".to_owned());
            } else if !messages.is_empty() {
                wrong(&version_at, version_part, messages.join(","));
            }
        }
        _ => wrong(
            &version_at,
            version,
            format!("unexpected GroupVersion string: {version}"),
        ),
    }
    let name = text(&kind["kind"]);
    let messages = if name.is_empty() {
        Vec::new()
    } else {
        names::dns1035_label(&name.to_lowercase())
    };
    if !messages.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            messages.join(",")
        );
        wrong(&at.child("kind"), name, why);
    }
    for (field, value) in [("apiVersion", version), ("kind", name)] {
        if value.is_empty() {
            errors.push(FieldError::required(&at.child(field), ""));
        }
    }
    errors
}

fn match_resources(resources: &Value, at: &FieldPath) -> Vec<FieldError> {
    let mut errors = one_of(
        &resources["matchPolicy"],
        &MATCH_POLICIES,
        &at.child("matchPolicy"),
    );
    for selector in ["namespaceSelector", "objectSelector"] {
        errors.extend(label_selector(&resources[selector], &at.child(selector)));
    }
    for rules in ["resourceRules", "excludeResourceRules"] {
        for (i, rule) in items(&resources[rules]).iter().enumerate() {
            let at = at.child(rules).index(i);
            let names_ = items(&rule["resourceNames"]);
            for (i, name) in names_.iter().enumerate() {
                let at = at.child("resourceNames").index(i);
                errors.extend(invalid_for(names::path_segment(text(name)), name, &at));
                if names_.iter().take(i).any(|earlier| earlier == name) {
                    errors.push(FieldError::duplicate(&at, name.clone()));
                }
            }
            errors.extend(validate_rule(rule, &at));
        }
    }
    errors
}

/// What is wrong with a ValidatingAdmissionPolicyBinding.
pub(super) fn validate_binding(binding: &Value) -> Vec<FieldError> {
    let of = &binding["spec"];
    let mut errors = bound(of);
    let (actions, at) = (items(&of["validationActions"]), spec().child("validationActions"));
    for (i, action) in actions.iter().enumerate() {
        errors.extend(one_of(action, &["Audit", "Deny", "Warn"], &at.index(i)));
        if actions.iter().take(i).any(|earlier| earlier == action) {
            errors.push(FieldError::duplicate(&at.index(i), action.clone()));
        }
    }
    if ["Deny", "Warn"]
        .iter()
        .all(|both| actions.iter().any(|action| action == both))
    {
        let why = "must not contain both Deny and Warn (repeating the same validation failure information in the API \
                   response and headers serves no purpose)";
        errors.push(FieldError::invalid(&at, of["validationActions"].clone(), why));
    }
    if actions.is_empty() {
        let why = "at least one validation action is required";
        errors.push(FieldError::required(&at, why));
    }
    errors
}

/// What is wrong with a MutatingAdmissionPolicyBinding.
pub(super) fn validate_mutating_binding(binding: &Value) -> Vec<FieldError> {
    let of = &binding["spec"];
    let mut errors = bound(of);
    errors.extend(mutating_operations(
        &of["matchResources"],
        &spec().child("matchResources"),
    ));
    errors
}

/// What both kinds of bindings have in common.
fn bound(of: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (policy, at) = (&of["policyName"], spec().child("policyName"));
    if text(policy).is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(invalid_for(names::dns1123_subdomain(text(policy)), policy, &at));
    }
    if !of["paramRef"].is_null() {
        errors.extend(param_ref(&of["paramRef"], &spec().child("paramRef")));
    }
    if !of["matchResources"].is_null() {
        errors.extend(match_resources(
            &of["matchResources"],
            &spec().child("matchResources"),
        ));
    }
    errors
}

fn param_ref(reference: &Value, at: &FieldPath) -> Vec<FieldError> {
    const EITHER: &str = "name and selector are mutually exclusive";
    let (name, selector) = (&reference["name"], &reference["selector"]);
    let (named, selected) = (!text(name).is_empty(), !selector.is_null());
    let mut errors = Vec::new();
    if named {
        errors.extend(invalid_for(
            names::path_segment(text(name)),
            name,
            &at.child("name"),
        ));
    }
    if named && selected {
        errors.push(FieldError::forbidden(&at.child("name"), EITHER));
    }
    if selected {
        errors.extend(label_selector(selector, &at.child("selector")));
    }
    if named && selected {
        errors.push(FieldError::forbidden(&at.child("selector"), EITHER));
    }
    if !named && !selected {
        errors.push(FieldError::required(
            at,
            "one of name or selector must be specified",
        ));
    }
    let (action, at) = (
        &reference["parameterNotFoundAction"],
        at.child("parameterNotFoundAction"),
    );
    if text(action).is_empty() {
        errors.push(FieldError::required(&at, ""));
    } else {
        errors.extend(one_of(action, &["Deny", "Allow"], &at));
    }
    errors
}

#[cfg(test)]
mod tests;
