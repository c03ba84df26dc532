//! What values must be.

use serde_json::{Value, json};

use super::{faults, validator};

#[test]
fn faults_are_worded_as_kubernetes_words_them() {
    let cases = [
        (json!({"type": "string"}), json!("x"), vec![]),
        (
            json!({"type": "integer"}),
            json!("x"),
            vec!["spec: Invalid value: \"string\": spec in body must be of type integer: \"string\""],
        ),
        (
            json!({"type": "string"}),
            Value::Null,
            vec!["spec: Invalid value: \"null\": spec in body must be of type string: \"null\""],
        ),
        (json!({"type": "string", "nullable": true}), Value::Null, vec![]),
        (json!({"type": "integer"}), json!(1.0), vec![]),
        (json!({"type": "number"}), json!(1), vec![]),
        (
            json!({"type": "integer"}),
            json!(1.5),
            vec![
                "spec: Invalid value: \"number\": spec in body must be of type integer: \"number\"",
                "<nil>: Invalid value: \"\": Checked value must be of type integer (default format) in spec",
            ],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(3_000_000_000_i64),
            vec![
                "<nil>: Invalid value: \"\": Checked value must be of type integer with format int32 in spec",
            ],
        ),
        (
            json!({"type": "integer", "format": "int32"}),
            json!(true),
            vec!["spec: Invalid value: \"\": spec in body must be of type int32: \"\""],
        ),
        (
            json!({"x-kubernetes-int-or-string": true}),
            json!(true),
            vec![
                "spec: Invalid value: \"boolean\": spec in body must be of type integer,string: \"boolean\"",
            ],
        ),
        (
            json!({"type": "integer", "minimum": 1, "maximum": 3, "multipleOf": 2}),
            json!(5),
            vec![
                "spec: Invalid value: 5: spec in body should be a multiple of 2",
                "spec: Invalid value: 5: spec in body should be less than or equal to 3",
            ],
        ),
        (
            json!({"type": "number", "minimum": 0.5, "exclusiveMinimum": true}),
            json!(0.5),
            vec!["spec: Invalid value: 0.5: spec in body should be greater than 0.5"],
        ),
        (
            json!({"type": "string", "maxLength": 1}),
            json!("äö"),
            vec!["spec: Too long: may not be more than 1 byte"],
        ),
        (
            json!({"type": "string", "minLength": 3, "pattern": "^a"}),
            json!("b"),
            vec!["spec: Invalid value: \"b\": spec in body should be at least 3 chars long"],
        ),
        (
            json!({"type": "string", "pattern": "^a"}),
            json!("b"),
            vec!["spec: Invalid value: \"b\": spec in body should match '^a'"],
        ),
        (
            json!({"type": "string", "format": "date-time"}),
            json!("yesterday"),
            vec!["spec: Invalid value: \"yesterday\": spec in body must be of type date-time: \"yesterday\""],
        ),
        (
            json!({"type": "string", "format": "invented"}),
            json!("x"),
            vec![],
        ),
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!("c"),
            vec!["spec: Unsupported value: \"c\": supported values: \"a\", \"b\""],
        ),
        (json!({"type": "number", "enum": [1, 2.5]}), json!(1.0), vec![]),
        (
            json!({"type": "array", "items": {"type": "string"}, "minItems": 3}),
            json!(["a", 1]),
            vec![
                "spec[1]: Invalid value: \"integer\": spec[1] in body must be of type string: \"integer\"",
                "spec: Invalid value: 2: spec in body should have at least 3 items",
            ],
        ),
        (
            json!({"type": "array", "items": {"type": "integer"}, "maxItems": 1}),
            json!([1, 2]),
            vec!["spec: Too many: 2: must have at most 1 item"],
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a", "b"]}),
            json!({}),
            vec!["spec.a: Required value", "spec.b: Required value"],
        ),
        (
            json!({"type": "object", "additionalProperties": {"type": "string"}, "maxProperties": 1}),
            json!({"k.x": 1, "l": ""}),
            vec![
                "spec: Too many: 2: must have at most 1 item",
                "spec.k.x: Invalid value: \"integer\": spec.k.x in body must be of type string: \"integer\"",
            ],
        ),
        (
            json!({"type": "integer", "allOf": [{"minimum": 2}, {"maximum": 0}]}),
            json!(1),
            vec![
                "spec: Invalid value: 1: spec in body should be greater than or equal to 2",
                "spec: Invalid value: 1: spec in body should be less than or equal to 0",
                "<nil>: Invalid value: \"\": \"spec\" must validate all the schemas (allOf). None validated",
            ],
        ),
        (
            json!({"type": "integer", "anyOf": [{"minimum": 2}, {"maximum": 0}]}),
            json!(1),
            vec![
                "<nil>: Invalid value: \"\": \"spec\" must validate at least one schema (anyOf)",
                "spec: Invalid value: 1: spec in body should be greater than or equal to 2",
            ],
        ),
        (
            json!({"type": "integer", "oneOf": [{"minimum": 1}, {"maximum": 1}], "not": {"enum": [1]}}),
            json!(1),
            vec![
                "<nil>: Invalid value: \"\": \"spec\" must validate one and only one schema (oneOf). Found 2 valid \
                 alternatives",
                "<nil>: Invalid value: \"\": \"spec\" must not validate the schema (not)",
            ],
        ),
    ];
    for (schema, value, expected) in cases {
        assert_eq!(
            faults(&validator(schema.clone()), &value, None),
            expected,
            "{schema} {value}"
        );
    }
}

#[test]
fn what_did_not_change_is_not_refused() {
    let validator = validator(json!({"type": "object", "properties": {
        "a": {"type": "string", "enum": ["x"]},
        "b": {"type": "string"},
        "map": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
            "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": {"type": "integer", "maximum": 1}}}},
        "plain": {"type": "array", "items": {"type": "integer", "maximum": 1}},
        "set": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
        "need": {"type": "object", "required": ["n"], "properties": {"n": {"type": "string"}, "m": {"type": "string"}}},
    }}));
    let cases = [
        (json!({"a": "old"}), json!({"a": "old", "b": "1"}), vec![]),
        (
            json!({"a": "old"}),
            json!({"a": "new"}),
            vec!["spec.a: Unsupported value: \"new\": supported values: \"x\""],
        ),
        (
            json!({"map": [{"k": "a", "v": 5}]}),
            json!({"map": [{"k": "b"}, {"k": "a", "v": 5}]}),
            vec![],
        ),
        (
            json!({"map": [{"k": "a", "v": 5}]}),
            json!({"map": [{"k": "b", "v": 5}]}),
            vec!["spec.map[0].v: Invalid value: 5: spec.map[0].v in body should be less than or equal to 1"],
        ),
        (json!({"plain": [5]}), json!({"plain": [5]}), vec![]),
        (
            json!({"plain": [5]}),
            json!({"plain": [5, 1]}),
            vec!["spec.plain[0]: Invalid value: 5: spec.plain[0] in body should be less than or equal to 1"],
        ),
        (json!({"set": ["a", "a"]}), json!({"set": ["b", "b"]}), vec![]),
        (
            json!({"set": ["a"]}),
            json!({"set": ["b", "b"]}),
            vec!["spec.set[1]: Duplicate value: \"b\""],
        ),
        (json!({"need": {}}), json!({"need": {}, "b": "1"}), vec![]),
        (
            json!({"need": {}}),
            json!({"need": {"m": "1"}}),
            vec!["spec.need.n: Required value"],
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(faults(&validator, &new, Some(&old)), expected, "{old} {new}");
    }
}

#[test]
fn a_status_is_validated_by_itself() {
    let validator = super::Validator::new(std::sync::Arc::new(crate::Schema::from_openapi(&json!({
        "type": "object", "properties": {
            "spec": {"type": "object", "required": ["a"]},
            "status": {"type": "object", "properties": {"p": {"type": "string"}}},
        }
    }))));
    let old = json!({"spec": {}});
    let new = json!({"spec": {}, "status": {"p": 1}});
    assert_eq!(
        super::texts(&validator.validate_status(&new, &old)),
        ["status.p: Invalid value: \"integer\": p in body must be of type string: \"integer\""]
    );
}
