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

/// Looking through a text costs by its length, so that a long one is soon dear.
#[test]
fn rules_cost_and_stop_when_they_have_cost_enough() {
    const OUT: &str = "due to running out of cost budget, no further validation rules will be run";
    const LIMIT: &str = "no further validation rules will be run due to call cost exceeds limit for";
    let after = "spec.z: Invalid value: \"x\": after";
    let at = "spec.t: Invalid value: \"string\":";
    let look = |times: usize, end: &str| "self.contains('b') || ".repeat(times) + end;
    let rule = |text: String| json!({"rule": text, "message": "m"});
    let message =
        |times: usize| json!({"rule": "false", "messageExpression": look(times, "true") + " ? 'a' : 'b'"});
    let said = "spec.t: Invalid value: \"aaa";
    let cases = [
        (json!([rule(look(9, "true"))]), vec![after.to_owned()]),
        // One rule may cost only so much, and then nothing else is looked at. `||` forgives errors, but not this one.
        (
            json!([rule(look(11, "true")), rule("false".to_owned())]),
            vec![format!(
                "{at} 'operation cancelled: actual cost limit exceeded': {LIMIT} rule: m"
            )],
        ),
        // All together may cost as much as ten of the dearest.
        (
            json!(vec![rule(look(9, "true")); 12]),
            vec![format!("{at} validation failed {OUT}")],
        ),
        (
            json!([message(11)]),
            vec![format!(
                "{at} {LIMIT} messageExpression: {:?}",
                look(11, "true") + " ? 'a' : 'b'"
            )],
        ),
        (
            json!(vec![message(9); 12]),
            vec![
                said.to_owned(),
                format!("{at} messageExpression evaluation failed {OUT}"),
            ],
        ),
    ];
    for (rules, expected) in cases {
        let text = rules.to_string();
        let validator = validator(json!({"type": "object", "properties": {
            "t": ruled("string", rules, json!({})),
            "z": ruled("string", json!([{"rule": "self == 'y'", "message": "after"}]), json!({})),
        }}));
        let mut found = faults(&validator, &json!({"t": "a".repeat(1_000_000), "z": "x"}), None);
        // How many fit in is not what this is about.
        found
            .iter_mut()
            .filter(|fault| fault.starts_with(said))
            .for_each(|fault| fault.truncate(said.len()));
        found.dedup();
        assert_eq!(found, expected, "{}", &text[..text.len().min(100)]);
        let cheap = faults(&validator, &json!({"t": "a", "z": "y"}), None);
        assert!(cheap.iter().all(|fault| !fault.contains("cost")), "{cheap:?}");
    }
}

/// The deepest schema that a definition can have, with rules at all levels, and a value as deep as values can be.
#[test]
fn deep_values_have_room() {
    let deepest = 62;
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let schema = (0..deepest).fold(free, |inner, _| {
        let rule = json!([{"rule": "has(self.a) && size(self.a) >= 0 && !has(self.b)", "message": "m"}]);
        ruled(
            "object",
            rule,
            json!({"properties": {"a": inner, "b": {"type": "string"}}}),
        )
    });
    let value = (0..126).fold(json!({}), |inner, _| json!({"a": inner}));
    let broken = (1..deepest).fold(json!({"b": "x", "a": {}}), |inner, _| json!({"a": inner}));
    let work = || {
        let validator = validator(schema.clone());
        assert_eq!(faults(&validator, &value, Some(&value)), Vec::<String>::new());
        let found = faults(&validator, &broken, None);
        assert_eq!(
            found,
            [format!("spec{}: Invalid value: m", ".a".repeat(deepest - 1))]
        );
    };
    // As large as the stack of those who serve requests.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new()
            .stack_size(2 << 20)
            .spawn_scoped(scope, work);
        thread.expect("starts").join().expect("has room");
    });
}
