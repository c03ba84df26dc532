//! What is wrong with policies and bindings, in the words of Kubernetes.

use serde_json::{Value, json};

use super::*;
use crate::strategies::checks::tests::told;

fn matched() -> Value {
    let rule = json!({"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]});
    json!({"matchPolicy": "Exact", "resourceRules": [rule]})
}

/// A policy of what is usual, and this.
fn policy(change: &Value) -> Value {
    let mut spec = json!({"failurePolicy": "Fail", "matchConstraints": matched()});
    for (field, value) in change.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    json!({"metadata": {"name": "p"}, "spec": spec})
}

/// What was told, without the source that is quoted.
fn first_lines(errors: &[FieldError]) -> Vec<String> {
    let first = |text: &String| text.lines().next().unwrap_or_default().to_owned();
    told(errors).iter().map(first).collect()
}

#[test]
fn policies_validate_something() {
    let cases: [(Value, &[&str]); 8] = [
        (json!({"validations": [{"expression": "true"}]}), &[]),
        (
            json!({"matchConstraints": null}),
            &[
                "spec.matchConstraints: Required value",
                "spec.validations: Required value: validations or auditAnnotations must contain at least one item",
                "spec.auditAnnotations: Required value: validations or auditAnnotations must contain at least one item",
            ],
        ),
        (
            json!({"paramKind": {"apiVersion": "a/b/c", "kind": "K"},
                "validations": [{"expression": "params.x == 1", "message": " "}]}),
            &[
                "spec.paramKind.apiVersion: Invalid value: \"a/b/c\": unexpected GroupVersion string: a/b/c",
                "spec.validations[0].message: Invalid value: \" \": must be non-empty if specified",
            ],
        ),
        (
            json!({"validations": [
                {"expression": "object.x"},
                {"expression": "params.x == 1", "messageExpression": "authorizer.path('/')", "reason": "Unauthorized"},
                {"expression": "variables.x == 1", "messageExpression": "1 + 1"},
            ]}),
            &[
                "spec.validations[0].expression: Invalid value: \"object.x\": must evaluate to bool but got dyn",
                "spec.validations[1].expression: Invalid value: \"params.x == 1\": compilation failed: ERROR: <input>:1:1: \
                 undeclared reference to 'params' (in container '')",
                "spec.validations[1].messageExpression: Invalid value: \"authorizer.path('/')\": compilation failed: ERROR: \
                 <input>:1:1: undeclared reference to 'authorizer' (in container '')",
                "spec.validations[1].reason: Unsupported value: \"Unauthorized\": supported values: \"Forbidden\", \
                 \"Invalid\", \"RequestEntityTooLarge\"",
                "spec.validations[2].expression: Invalid value: \"variables.x == 1\": compilation failed: ERROR: \
                 <input>:1:1: undeclared reference to 'variables' (in container '')",
                "spec.validations[2].messageExpression: Invalid value: \"1 + 1\": must evaluate to string but got int",
            ],
        ),
        (
            json!({"variables": [
                    {"name": "a", "expression": "object.spec.replicas"},
                    {"name": "b", "expression": "variables.a + 1"},
                    {"name": "in", "expression": "1"},
                    {"name": "", "expression": " "},
                    {"name": "d", "expression": "variables.c"},
                ], "validations": [{"expression": "variables.b > 1", "messageExpression": "'at ' + string(variables.b)"}]}),
            &[
                "spec.variables[2].name: Invalid value: \"in\": must be a valid CEL identifier",
                "spec.variables[3].name: Required value: name is not specified",
                "spec.variables[3].expression: Required value: expression is not specified",
                "spec.variables[4].expression: Invalid value: \"variables.c\": compilation failed: ERROR: <input>:1:10: \
                 undefined field 'c'",
            ],
        ),
        (
            json!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "matchConditions": [
                    {"name": "a", "expression": "params.data.on == 'yes'"}, {"name": "b", "expression": "variables.a"},
                ], "variables": [{"name": "a", "expression": "true"}], "validations": [{"expression": "variables.a"}]}),
            &[
                "spec.matchConditions[1].expression: Invalid value: \"variables.a\": compilation failed: ERROR: <input>:1:1: \
                 undeclared reference to 'variables' (in container '')",
            ],
        ),
        (
            json!({"auditAnnotations": [
                {"key": "k", "valueExpression": "object.metadata.name == 'a' ? 'yes' : ''"},
                {"key": "k", "valueExpression": "1"}, {"key": "a b", "valueExpression": "'x'"},
            ]}),
            &[
                "spec.auditAnnotations[1].valueExpression: Invalid value: \"1\": must evaluate to one of [string null_type] but \
                 got int",
                "spec.auditAnnotations[1].key: Duplicate value: \"k\"",
                "spec.auditAnnotations[2].key: Invalid value: \"p/a b\": name part must consist of alphanumeric characters, '-', \
                 '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or \
                 '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')",
            ],
        ),
        (
            json!({"validations": [{"expression": "size(object.x) = 1"}]}),
            &[
                "spec.validations[0].expression: Invalid value: \"size(object.x) = 1\": compilation failed: ERROR: \
                 <input>:1:16: Syntax error: token recognition error at: '= '",
            ],
        ),
    ];
    for (change, expected) in cases {
        let errors = validate_policy(&policy(&change), None);
        assert_eq!(first_lines(&errors), expected, "{change}");
    }
}

#[test]
fn conditions_that_have_been_stored_are_not_looked_at_again() {
    let of = |condition: &str, message: &str| {
        policy(
            &json!({"matchConditions": [{"name": "a", "expression": condition}],
            "validations": [{"expression": "true", "message": message}]}),
        )
    };
    let old = of("gone", "a");
    assert_eq!(validate_policy(&of("gone", "b"), Some(&old)), []);
    assert_eq!(validate_policy(&of("gone", "b"), None).len(), 1);
    assert_eq!(validate_policy(&of("gone too", "b"), Some(&old)).len(), 1);
}

#[test]
fn mutating_policies_say_how_objects_are_patched() {
    let apply = |expression: &str| json!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}});
    let patch = |expression: &str| json!({"patchType": "JSONPatch", "jsonPatch": {"expression": expression}});
    let mut deletes = matched();
    deletes["resourceRules"][0]["operations"] = json!(["DELETE"]);
    let cases: [(Value, &[&str]); 4] = [
        (
            json!({"variables": [{"name": "n", "expression": "1"}], "mutations": [
                apply("Object{spec: Object.spec{replicas: variables.n}}"),
                patch("[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'c'}]"),
            ]}),
            &[],
        ),
        (
            json!({"matchConstraints": deletes, "reinvocationPolicy": "Always", "mutations": []}),
            &[
                "spec.matchConstraints.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
                 \"CONNECT\", \"CREATE\", \"UPDATE\"",
                "spec.mutations: Required value: mutations must contain at least one item",
                "spec.reinvocationPolicy: Unsupported value: \"Always\": supported values: \"IfNeeded\", \"Never\"",
            ],
        ),
        (
            json!({"reinvocationPolicy": null, "mutations": [{}, {"patchType": "Merge"}, {"patchType": "JSONPatch",
                "applyConfiguration": {"expression": "Object{}"}}, apply(" ")]}),
            &[
                "spec.mutations[0].patchType: Required value",
                "spec.mutations[1].patchType: Unsupported value: \"Merge\": supported values: \"ApplyConfiguration\", \
                 \"JSONPatch\"",
                "spec.mutations[2].jsonPatch: Required value: must be specified when patchType is JSONPatch",
                "spec.mutations[2].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
                 patchType is JSONPatch",
                "spec.mutations[3].applyConfiguration.expression: Required value",
                "spec.reinvocationPolicy: Required value",
            ],
        ),
        (
            json!({"mutations": [apply("{'spec': {}}"), patch("Object{}"), patch("[JSONPatch{o: 'add'}]")]}),
            &[
                "spec.mutations[0].applyConfiguration.expression: Invalid value: \"{'spec': {}}\": must evaluate to Object but \
                 got map(string, dyn)",
                "spec.mutations[1].jsonPatch.expression: Invalid value: \"Object{}\": must evaluate to list(JSONPatch) but got \
                 Object",
                "spec.mutations[2].jsonPatch.expression: Invalid value: \"[JSONPatch{o: 'add'}]\": compilation failed: ERROR: \
                 <input>:1:13: expected type of field 'o' is '' but provided type is 'string'",
            ],
        ),
    ];
    for (mut change, expected) in cases {
        if change.get("reinvocationPolicy").is_none() {
            change["reinvocationPolicy"] = "Never".into();
        }
        let errors = validate_mutating_policy(&policy(&change), None);
        assert_eq!(first_lines(&errors), expected, "{change}");
    }
}

#[test]
fn bindings_name_a_policy_and_actions() {
    let binding = json!({"spec": {"policyName": "p", "validationActions": ["Deny", "Warn"], "paramRef": {}}});
    let expected = [
        "spec.paramRef: Required value: one of name or selector must be specified",
        "spec.paramRef.parameterNotFoundAction: Required value",
        "spec.validationActions: Invalid value: [\"Deny\",\"Warn\"]: must not contain both Deny and Warn (repeating the \
         same validation failure information in the API response and headers serves no purpose)",
    ];
    assert_eq!(told(&validate_binding(&binding)), expected);
    let mut resources = matched();
    resources["resourceRules"][0]["operations"] = json!(["CREATE", "DELETE"]);
    let binding = json!({"spec": {"policyName": "p", "matchResources": resources}});
    assert_eq!(
        told(&validate_mutating_binding(&binding)),
        [
            "spec.matchResources.resourceRules.operations: Unsupported value: \"DELETE\": supported values: \"*\", \
             \"CONNECT\", \"CREATE\", \"UPDATE\""
        ]
    );
}

#[test]
fn what_a_controller_says_is_checked_too() {
    let status = json!({"typeChecking": {"expressionWarnings": [{"fieldRef": "spec.validations[0].expression", "warning": ""}]},
        "conditions": [{"type": "A", "status": "Maybe", "reason": "R", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}]});
    let told = told(&validate_status(&json!({"status": status})));
    assert_eq!(
        told[0],
        "status.typeChecking.expressionWarnings[0].warning: Required value"
    );
    assert!(
        told[1].starts_with("status.conditions[0].status: Unsupported value"),
        "{told:?}"
    );
}
