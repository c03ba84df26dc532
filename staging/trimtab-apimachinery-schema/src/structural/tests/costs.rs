//! What rules may cost, by the figures that kube-apiserver 1.36 gives of the same definitions.

use serde_json::{Value, json};
use trimtab_apimachinery_meta::FieldPath;

use crate::structural::check_definition;

/// What is said of a definition whose spec has that schema, without the advice at the end, and without the place in it.
fn said(spec: &Value) -> Vec<String> {
    let schema = json!({"type": "object", "properties": {"spec": spec}});
    let errors = check_definition(&schema, FieldPath::new("schema"));
    let short = |text: String| {
        let text = text.split(" (try").next().unwrap_or_default().to_owned();
        text.split_once("Forbidden: ")
            .map_or(text.clone(), |(_, why)| why.to_owned())
    };
    errors.iter().map(|error| short(error.to_string())).collect()
}

fn list(items: Value, most: Option<u64>) -> Value {
    let mut list = json!({"type": "array", "items": items});
    if let Some(most) = most {
        list["maxItems"] = most.into();
    }
    list
}

/// Fields of all sorts, with a rule.
fn fields(rule: &str) -> Value {
    let int = json!({"type": "integer"});
    let text = |most: u64| json!({"type": "string", "maxLength": most});
    let part = |b: Value| json!({"type": "object", "properties": {"b": b, "c": int, "ll": list(int.clone(), Some(30))}});
    json!({"type": "object", "x-kubernetes-validations": [{"rule": rule, "message": "m"}], "properties": {
        "s": {"type": "string"}, "s10": text(10), "s1k": text(1000), "i": int,
        "e": {"type": "string", "enum": ["a", "bbb"]}, "d": {"type": "string", "format": "duration"},
        "x": {"x-kubernetes-int-or-string": true}, "l": list(int.clone(), None), "l100": list(int.clone(), Some(100)),
        "ls10": list(text(20), Some(10)), "lo50": list(part(text(7)), Some(50)),
        "m10": {"type": "object", "additionalProperties": text(30), "maxProperties": 10},
        "o": {"type": "object", "properties": {"q": int}},
    }})
}

#[test]
fn rules_are_estimated_as_kube_apiserver_estimates_them() {
    for (rule, times, factor) in [
        ("self.s == 'a'", 8_000_000, "2.4x"),
        ("self.s == self.s1k", 200_000, "8.1x"),
        ("self.s10 == self.s1k", 8_000_000, "6.4x"),
        ("self.i == 5", 8_000_000, "1.6x"),
        ("self.i < 5", 8_000_000, "2.4x"),
        ("self.d < duration('1h')", 8_000_000, "3.2x"),
        ("self.s.contains('abc')", 3000, "94.4x"),
        ("self.s.contains(self.s10)", 3000, "more than 100x"),
        ("self.s.startsWith(self.s)", 3000, "94.4x"),
        (
            "self.s1k.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            200_000,
            "64.2x",
        ),
        ("self.l.all(x, x > 0)", 3000, "more than 100x"),
        ("self.l100.all(x, self.l100.all(y, x == y))", 3000, "15.2x"),
        ("self.ls10.exists(x, x.contains('q'))", 200_000, "2.7x"),
        ("self.ls10.exists_one(x, x == self.s)", 200_000, "2.7x"),
        ("self.lo50.map(x, x.c).sum() > 5", 200_000, "15.3x"),
        (
            "self.lo50.filter(x, x.c > 1).map(x, x.b).exists(y, y == 'a')",
            200_000,
            "35.5x",
        ),
        ("self.m10.all(k, self.m10[k].size() > 3)", 200_000, "1.9x"),
        ("3 in self.l100", 200_000, "2.0x"),
        ("self.s in ['a','b']", 8_000_000, "11.2x"),
        ("self.o == self.o", 8_000_000, "3.2x"),
        ("self.ls10.isSorted()", 200_000, "1.8x"),
        ("self.ls10.max() == 'a'", 200_000, "1.9x"),
        ("self.s1k.replace('a','bb') == self.s", 200_000, "32.1x"),
        ("self.s1k.split(',').all(x, x == 'a')", 3000, "5.0x"),
        ("self.ls10.join(',') == self.s", 200_000, "3.3x"),
        ("self.s1k.findAll('[a-z]+').all(x, x == 'a')", 3000, "5.0x"),
        ("self.s10 + self.s1k == self.s", 200_000, "16.3x"),
        ("self.i == 1 ? self.s == 'a' : self.s1k == 'b'", 8_000_000, "4.0x"),
        ("quantity(self.s).isGreaterThan(quantity('1'))", 3000, "94.4x"),
        ("cidr(self.s1k).containsIP('10.0.0.1')", 200_000, "8.1x"),
        (
            "format.dns1123Label().validate(self.s1k).hasValue()",
            3000,
            "3.8x",
        ),
        ("self.x == 'a'", 8_000_000, "2.4x"),
        ("self.e == self.e", 8_000_000, "4.0x"),
        ("sets.contains(self.l100, [1,2])", 200_000, "4.3x"),
        (
            "self.lo50.all(x, self.lo50.exists_one(y, y.b == x.b))",
            3000,
            "6.9x",
        ),
        ("self.l100.map(x, x * 2).all(y, y > 1)", 200_000, "38.3x"),
    ] {
        let found = said(&list(fields(rule), Some(times)));
        let expected = format!("estimated rule cost exceeds budget by factor of {factor}");
        assert_eq!(found.first(), Some(&expected), "{rule}");
        let fewer = said(&list(fields(rule), Some(1)));
        assert_eq!(fewer, Vec::<String>::new(), "{rule}");
    }
}

#[test]
fn all_rules_together_have_a_limit() {
    let dear = "self.l100.all(x, self.l100.all(y, x == y)) && self.l100.all(x, self.l100.all(y, x == y))";
    let mut spec = fields(dear);
    let rule = spec["x-kubernetes-validations"][0].clone();
    let with = |times: usize| {
        let mut list = list(spec.clone(), Some(95));
        list["items"]["x-kubernetes-validations"] = vec![rule.clone(); times].into();
        said(&list)
    };
    assert_eq!(with(10), Vec::<String>::new());
    let mut expected =
        vec!["contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema"; 4];
    expected.push(
        "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of \
         1.9x",
    );
    assert_eq!(with(20), expected);
    spec["x-kubernetes-validations"] = json!([]);
    assert_eq!(said(&spec), Vec::<String>::new());
}

#[test]
fn what_is_around_a_schema_says_how_often_its_rules_apply() {
    let ruled = |mut schema: Value, rule: &str| {
        schema["x-kubernetes-validations"] = json!([{"rule": rule, "message": "m"}]);
        schema
    };
    let text = || json!({"type": "string"});
    for (schema, factor) in [
        (
            list(
                list(ruled(json!({"type": "integer"}), "self > 1"), Some(5000)),
                Some(4000),
            ),
            "4.0x",
        ),
        (
            ruled(list(text(), None), "self.all(x, self.exists_one(y, x == y))"),
            "more than 100x",
        ),
    ] {
        let expected = format!("estimated rule cost exceeds budget by factor of {factor}");
        assert_eq!(said(&schema).first(), Some(&expected), "{schema}");
    }
    // As many values as a request has room for.
    let short = json!({"type": "object", "properties": {"aa": {"type": "string", "default": "x"}, "bb": {"type": "integer"}},
        "required": ["aa", "bb"]});
    assert_eq!(
        said(&list(
            ruled(short, "self.bb > 1 && self.bb > 2 && self.bb > 3"),
            None
        )),
        Vec::<String>::new()
    );
}

/// A message is computed once, however often its rule applies.
#[test]
fn messages_have_the_limit_of_rules() {
    for (message, expected) in [
        ("'x' + self.s", vec![]),
        ("string(self.i)", vec![]),
        ("'a ' + self.s1k", vec![]),
        ("self.ls10.join(',')", vec![]),
        ("'%d'.format([self.i])", vec![]),
        (
            "'a ' + string(self.i)",
            vec![
                "estimated messageExpression cost exceeds budget by factor of more than 100x",
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
                "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema exceeds budget by factor of \
                 more than 100x",
            ],
        ),
    ] {
        let mut spec = fields("true");
        spec["x-kubernetes-validations"][0] = json!({"rule": "true", "messageExpression": message});
        assert_eq!(said(&spec), expected, "{message}");
    }
}
