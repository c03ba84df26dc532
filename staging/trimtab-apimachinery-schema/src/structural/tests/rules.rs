//! What rules say of values.

use serde_json::{Value, json};

use super::{faults, validator};

fn ruled(type_: &str, rules: Value, more: Value) -> Value {
    let mut schema = json!({"type": type_, "x-kubernetes-validations": rules});
    if let (Some(schema), Some(more)) = (schema.as_object_mut(), more.as_object()) {
        schema.extend(more.clone());
    }
    schema
}

#[test]
fn rules_see_values_as_the_schema_says() {
    let properties = json!({"properties": {
        "namespace": {"type": "string"}, "a.b": {"type": "integer"}, "n": {"type": "number"},
        "t": {"type": "string", "format": "date-time"}, "d": {"type": "string", "format": "duration"},
        "bytes": {"type": "string", "format": "byte"}, "p": {"x-kubernetes-int-or-string": true},
        "m": {"type": "object", "additionalProperties": {"type": "integer"}},
        "l": {"type": "array", "items": {"type": "object", "properties": {"k": {"type": "string"}}}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let value = json!({
        "namespace": "x", "a.b": 1, "n": 2, "t": "2020-01-02T03:04:05Z", "d": "1h", "bytes": "aGk=", "p": 5,
        "m": {"a.b": 1, "c": 2}, "l": [{"k": "v"}], "free": {"x": 1},
    });
    let holds = [
        "self.__namespace__ == 'x' && self.a__dot__b == 1",
        "self.n == 2.0 && self.n / 4.0 == 0.5",
        "self.t.getFullYear() == 2020 && self.d > duration('59m')",
        "self.bytes == b'hi'",
        "type(self.p) == int ? self.p == 5 : self.p == '5'",
        "self.m['a.b'] == 1 && 'c' in self.m && self.m.all(k, self.m[k] < 3) && self.m.c == 2",
        "self.l.exists(e, e.k == 'v') && self.l.filter(e, e.k == 'w').size() == 0",
        "has(self.l) && !has(self.missing)",
    ];
    for rule in holds {
        let validator = validator(ruled("object", json!([{ "rule": rule }]), properties.clone()));
        assert_eq!(faults(&validator, &value, None), Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn objects_show_their_type_and_name() {
    let root = json!({"type": "object", "x-kubernetes-validations": [
        {"rule": "self.metadata.name == 'n' && self.kind == 'K' && self.apiVersion == 'a/v1'"},
        {"rule": "!has(self.metadata.labels)", "message": "hidden"},
    ]});
    let validator = super::Validator::new(std::sync::Arc::new(crate::Schema::from_openapi(&root)));
    let object = json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "n", "labels": {"a": "b"}}});
    let found = validator.validate(&object, None, &trimtab_apimachinery_meta::FieldPath::root());
    assert_eq!(super::texts(&found), Vec::<String>::new());
}

#[test]
fn failures_say_what_the_rule_says() {
    let cases = [
        (
            json!({"rule": "self > 5"}),
            "spec: Invalid value: 1: failed rule: self > 5",
        ),
        (
            json!({"rule": " self > 5 ", "message": " too few "}),
            "spec: Invalid value: 1: too few",
        ),
        (
            json!({"rule": "self > 5", "messageExpression": "string(self) + ' is too few'"}),
            "spec: Invalid value: 1: 1 is too few",
        ),
        (
            json!({"rule": "self > 5", "message": "plain", "messageExpression": "''"}),
            "spec: Invalid value: 1: plain",
        ),
        (
            json!({"rule": "self > 5", "message": "m", "messageExpression": "['a'][self]"}),
            "spec: Invalid value: 1: m",
        ),
        (
            json!({"rule": "self > 5", "reason": "FieldValueForbidden"}),
            "spec: Forbidden: failed rule: self > 5",
        ),
        (
            json!({"rule": "self > 5", "reason": "FieldValueRequired"}),
            "spec: Required value: failed rule: self > 5",
        ),
        (
            json!({"rule": "self > 5", "reason": "FieldValueDuplicate"}),
            "spec: Duplicate value: 1",
        ),
        (
            json!({"rule": "[1][self] == 1"}),
            "spec: Invalid value: \"integer\": index out of bounds: 1 evaluating rule: [1][self] == 1",
        ),
        (
            json!({"rule": "1 / (self - 1) == 1"}),
            "spec: Invalid value: \"integer\": division by zero evaluating rule: 1 / (self - 1) == 1",
        ),
        (
            json!({"rule": "{'a': 1}['b'] == self", "message": "m"}),
            "spec: Invalid value: \"integer\": no such key: b evaluating rule: m",
        ),
        (
            json!({"rule": "dyn(self) > 'a'"}),
            "spec: Invalid value: \"integer\": 'no such overload': call arguments did not match a supported operator, \
             function or macro signature for rule: dyn(self) > 'a'",
        ),
    ];
    for (rule, expected) in cases {
        let validator = validator(ruled("integer", json!([rule]), json!({})));
        assert_eq!(faults(&validator, &json!(1), None), [expected], "{rule}");
    }
}

#[test]
fn the_blamed_field_can_be_named() {
    let rules =
        json!([{"rule": "false", "message": "m", "fieldPath": ".a['b.c']", "reason": "FieldValueForbidden"}]);
    let more = json!({"properties": {"a": {"type": "object", "properties": {"b.c": {"type": "string"}}}}});
    assert_eq!(
        faults(&validator(ruled("object", rules, more)), &json!({}), None),
        ["spec.a.b.c: Forbidden: m"]
    );
}

#[test]
fn transitions_are_judged_on_update_only() {
    let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"], "items":
        {"type": "object", "properties": {"k": {"type": "string"}, "v":
            ruled("integer", json!([{"rule": "self >= oldSelf", "message": "shrinks"}]), json!({}))}}});
    let schema = json!({"type": "object", "properties": {
        "grows": ruled("integer", json!([{"rule": "self >= oldSelf", "message": "shrinks"}]), json!({})),
        "starts": ruled("integer", json!([{
            "rule": "oldSelf.hasValue() ? self >= oldSelf.value() : self == 1", "message": "starts at one",
            "optionalOldSelf": true}]), json!({})),
        "small": ruled("integer", json!([{"rule": "self < 5", "message": "too big"}]), json!({})),
        "keyed": keyed,
        "other": {"type": "string"},
    }});
    let validator = validator(schema);
    let cases = [
        (None, json!({"grows": 1}), vec![]),
        (
            Some(json!({"grows": 2})),
            json!({"grows": 1}),
            vec!["spec.grows: Invalid value: 1: shrinks"],
        ),
        (Some(json!({})), json!({"grows": 1}), vec![]),
        (
            None,
            json!({"starts": 2}),
            vec!["spec.starts: Invalid value: 2: starts at one"],
        ),
        (None, json!({"starts": 1}), vec![]),
        (Some(json!({"starts": 1})), json!({"starts": 2}), vec![]),
        (
            Some(json!({"keyed": [{"k": "a", "v": 2}, {"k": "b", "v": 1}]})),
            json!({"keyed": [{"k": "b", "v": 1}, {"k": "a", "v": 1}, {"k": "c", "v": 0}]}),
            vec!["spec.keyed[1].v: Invalid value: 1: shrinks"],
        ),
        // A rule that holds no more does not hold up what does not touch its value.
        (
            Some(json!({"small": 7})),
            json!({"small": 7, "other": "x"}),
            vec![],
        ),
        (
            Some(json!({"small": 7})),
            json!({"small": 8}),
            vec!["spec.small: Invalid value: 8: too big"],
        ),
    ];
    for (old, new, expected) in cases {
        assert_eq!(faults(&validator, &new, old.as_ref()), expected, "{old:?} {new}");
    }
}

#[test]
fn rules_wait_for_values_of_the_declared_shape() {
    let more = json!({"properties": {"a": {"type": "string"}}, "required": ["a"]});
    let validator = validator(ruled("object", json!([{"rule": "self.a == 'x'"}]), more));
    assert_eq!(
        faults(&validator, &json!({}), None),
        [
            "spec.a: Required value",
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct \
             the existing errors to complete validation",
        ]
    );
}
