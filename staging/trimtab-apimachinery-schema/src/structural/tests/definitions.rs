//! What a definition may say.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::field::FieldPath;

use super::texts;
use crate::structural::check_definition;

/// Checks the property `x` of an object's spec, and strips the path to it.
fn check(property: &Value) -> Vec<String> {
    let spec = json!({"type": "object", "properties": {"x": property}});
    let root = json!({"type": "object", "properties": {"spec": spec}});
    let at = "s.properties[spec].properties[x]";
    texts(&check_definition(&root, FieldPath::new("s")))
        .into_iter()
        .map(|text| text.replace(&format!("{at}."), "").replace(at, "x"))
        .collect()
}

#[test]
fn what_is_not_structural_is_refused() {
    let cases = [
        (json!({"type": "string"}), vec![]),
        (
            json!({}),
            vec!["type: Required value: must not be empty for specified object fields"],
        ),
        (
            json!({"type": "array"}),
            vec!["items: Required value: must be specified"],
        ),
        (
            json!({"type": "array", "items": {}}),
            vec!["items.type: Required value: must not be empty for specified array items"],
        ),
        (json!({"x-kubernetes-preserve-unknown-fields": true}), vec![]),
        (json!({"x-kubernetes-int-or-string": true}), vec![]),
        (
            json!({"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]}),
            vec![],
        ),
        (
            json!({"x-kubernetes-int-or-string": true,
                "allOf": [{"anyOf": [{"type": "integer"}, {"type": "string"}]}, {"pattern": "a"}]}),
            vec![],
        ),
        (
            json!({"type": "string", "anyOf": [{"type": "string", "description": "d"}, {"default": "x"}]}),
            vec![
                "anyOf[0].description: Forbidden: must be empty to be structural",
                "anyOf[0].type: Forbidden: must be empty to be structural",
                "anyOf[1].default: Forbidden: must be undefined to be structural",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}},
                "oneOf": [{"required": ["a"]}, {"properties": {"a": {"pattern": "["}}}]}),
            vec![
                "oneOf[1].properties[a].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: \
                 error parsing regexp: missing closing ]: `[`",
            ],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}},
                "additionalProperties": {"type": "string"}}),
            vec!["additionalProperties: Forbidden: additionalProperties and properties are mutual exclusive"],
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            vec![
                "properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without \
                 x-kubernetes-preserve-unknown-fields",
            ],
        ),
        (
            json!({"type": "strange"}),
            vec![
                "type: Unsupported value: \"strange\": supported values: \"array\", \"boolean\", \"integer\", \
                 \"number\", \"object\", \"string\"",
            ],
        ),
        (
            json!({"type": "object", "$ref": "#/a"}),
            vec!["$ref: Forbidden: $ref is not supported"],
        ),
        (
            json!({"type": "object", "$schema": "s"}),
            vec!["s: Invalid value: \"\": OpenAPIV3Schema 'schema' is not supported"],
        ),
        (
            json!({"type": "object", "x-kubernetes-preserve-unknown-fields": false}),
            vec!["x-kubernetes-preserve-unknown-fields: Invalid value: false: must be true or undefined"],
        ),
        (
            json!({"type": "array", "items": {"type": "string"}, "uniqueItems": true}),
            vec![
                "uniqueItems: Forbidden: uniqueItems cannot be set to true since the runtime complexity becomes \
                 quadratic",
            ],
        ),
    ];
    for (property, expected) in cases {
        assert_eq!(check(&property), expected, "{property}");
    }
}

#[test]
fn lists_say_how_they_are_merged() {
    let element = json!({"type": "object", "properties": {"k": {"type": "string"}, "o": {"type": "object"}}});
    let list = |more: Value| {
        let mut list = json!({"type": "array", "items": element, "x-kubernetes-list-type": "map"});
        if let (Some(list), Some(more)) = (list.as_object_mut(), more.as_object()) {
            list.extend(more.clone());
        }
        list
    };
    let cases = [
        (
            list(json!({})),
            vec![
                "x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is map",
            ],
        ),
        (
            list(json!({"x-kubernetes-list-map-keys": ["k"]})),
            vec![
                "items.properties[k].default: Required value: this property is in x-kubernetes-list-map-keys, so it \
                 must have a default or be a required property",
            ],
        ),
        (
            list(json!({"x-kubernetes-list-map-keys": ["z"]})),
            vec![
                "x-kubernetes-list-map-keys: Invalid value: [\"z\"]: entries must all be names of item properties",
            ],
        ),
        (
            list(json!({"x-kubernetes-list-type": "set"})),
            vec![
                "items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with \
                 x-kubernetes-list-type=set",
            ],
        ),
        (
            list(json!({"x-kubernetes-list-type": "bag"})),
            vec![
                "x-kubernetes-list-type: Unsupported value: \"bag\": supported values: \"atomic\", \"set\", \"map\"",
            ],
        ),
        (
            json!({"type": "string", "x-kubernetes-list-type": "atomic", "x-kubernetes-map-type": "atomic"}),
            vec![
                "type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
                "type: Invalid value: \"string\": must be array if x-kubernetes-list-type is specified",
            ],
        ),
    ];
    for (property, expected) in cases {
        assert_eq!(check(&property), expected, "{property}");
    }
}

#[test]
fn defaults_are_valid() {
    let cases = [
        (json!({"type": "integer", "minimum": 5, "default": 5}), vec![]),
        (
            json!({"type": "integer", "minimum": 5, "default": 1}),
            vec!["default: Invalid value: 1:  in body should be greater than or equal to 5"],
        ),
        (
            json!({"type": "string", "default": 5}),
            vec!["default: Invalid value: \"integer\":  in body must be of type string: \"integer\""],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "default": {"b": 1}}),
            vec!["default: Invalid value: {\"b\":1}: must not have unknown fields"],
        ),
        (
            json!({"type": "integer", "default": 5, "x-kubernetes-validations": [{"rule": "self > 5"}]}),
            vec!["default: Invalid value: 5: failed rule: self > 5"],
        ),
    ];
    for (property, expected) in cases {
        assert_eq!(check(&property), expected, "{property}");
    }
}

#[test]
fn roots_are_objects_that_leave_metadata_alone() {
    let cases = [
        (
            json!({"type": "string"}),
            "s.type: Invalid value: \"string\": must be object at the root",
        ),
        (
            json!({"type": "object", "nullable": true}),
            "s.nullable: Forbidden: nullable cannot be true at the root",
        ),
        (
            json!({"type": "object", "properties": {"metadata": {"type": "object", "required": ["labels"]}}}),
            "s.properties[metadata]: Forbidden: must not specify anything other than name and generateName, but \
             metadata is implicitly specified",
        ),
        (
            json!({"type": "object", "properties": {"kind": {"type": "string", "default": "K"}}}),
            "s.properties[kind].default: Forbidden: must not be set in top-level kind",
        ),
        (
            json!({"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]}),
            "s.properties[a]: Required value: because it is defined in s.anyOf[0].properties[a]",
        ),
    ];
    for (schema, expected) in cases {
        assert_eq!(texts(&check_definition(&schema, FieldPath::new("s"))), [expected]);
    }
    let good = json!({"type": "object", "properties": {"metadata": {"type": "object", "properties": {
        "name": {"type": "string", "maxLength": 3}}}}});
    assert_eq!(
        texts(&check_definition(&good, FieldPath::new("s"))),
        Vec::<String>::new()
    );
}

#[test]
fn rules_compile() {
    let integer = |rule: Value| json!({"type": "integer", "x-kubernetes-validations": [rule]});
    let at = "x-kubernetes-validations[0]";
    let cases = [
        (json!({"rule": "self > 1"}), None),
        (
            json!({"rule": "oldSelf <= self && self in [1, 2].map(x, x + 1)"}),
            None,
        ),
        (
            json!({"rule": "self.a > 1"}),
            Some("ERROR: <input>:1:5: type 'int' does not support field selection\n | self.a > 1\n | ....^"),
        ),
        (
            json!({"rule": "other > 1"}),
            Some("ERROR: <input>:1:1: undeclared reference to 'other' (in container '')\n | other > 1\n | ^"),
        ),
        (
            json!({"rule": "self > 'a'"}),
            Some("found no matching overload for '_>_' applied to '(int, string)'"),
        ),
        (
            json!({"rule": "self && !self"}),
            Some(
                "ERROR: <input>:1:1: expected type 'bool' but found 'int'\n | self && !self\n | ^\nERROR: <input>:1:9: found \
                 no matching overload for '!_' applied to '(int)'\n | self && !self\n | ........^",
            ),
        ),
        (
            json!({"rule": "string(self).startsWith(1)"}),
            Some("found no matching overload for 'startsWith' applied to 'string.(int)'"),
        ),
        (
            json!({"rule": "self == null"}),
            Some("found no matching overload for '_==_' applied to '(int, null)'"),
        ),
        (
            json!({"rule": "self.frob()"}),
            Some("undeclared reference to 'frob' (in container '')"),
        ),
        (json!({"rule": "self +"}), Some("Invalid value: {")),
        (
            json!({"rule": "self + 1"}),
            Some("cel expression must evaluate to a bool"),
        ),
        (
            json!({"rule": ""}),
            Some("rule: Required value: rule is not specified"),
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            Some("messageExpression must evaluate to a string"),
        ),
        (
            json!({"rule": "true", "reason": "Because"}),
            Some("reason: Unsupported value: \"Because\""),
        ),
        (
            json!({"rule": "true", "fieldPath": ".a"}),
            Some("fieldPath: Invalid value: \".a\": must be a valid path"),
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            Some("may not be set if oldSelf is not used in rule"),
        ),
    ];
    for (rule, expected) in cases {
        let found = check(&integer(rule.clone()));
        match expected {
            None => assert_eq!(found, Vec::<String>::new(), "{rule}"),
            Some(part) => {
                assert_eq!(found.len(), 1, "{found:?}");
                assert!(found[0].starts_with(at) && found[0].contains(part), "{found:?}");
            }
        }
    }
    let list = json!({"type": "array", "items": integer(json!({"rule": "self == oldSelf"}))});
    assert_eq!(
        check(&list),
        [
            "items.x-kubernetes-validations[0].rule: Invalid value: \"self == oldSelf\": oldSelf cannot be used on the \
             uncorrelatable portion of the schema within x"
        ]
    );
}
