//! What expressions about requests see, cost and come to.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::library::DOCUMENTED;
use super::super::library::authorizers::{Authorizer, Check, Decision};
use super::*;

/// Allows everything.
#[derive(Debug)]
struct Yes;

impl Authorizer for Yes {
    fn decide(&self, _: &Check) -> Decision {
        Decision {
            allowed: true,
            ..Decision::default()
        }
    }
}

fn object() -> Value {
    json!({"metadata": {"name": "a", "labels": {"x.io/y": "z"}}, "n": 3, "list": [1, 2, 3], "ratio": 1.5})
}

/// Evaluates, in a policy with these variables.
fn evaluate(
    variables: &[(&str, &str)],
    expression: &str,
    returns: Returns,
    budget: &mut u64,
) -> Result<Output, String> {
    let names = Declarations::default().with_params(true).with_patches();
    let mut composition = Composition::new(names.with_variables());
    for (name, expression) in variables {
        assert_eq!(composition.add_variable(name, expression), None, "{name}");
    }
    let (object, params) = (object(), json!({"max": 5}));
    let request = json!({"operation": "CREATE", "name": "a", "namespace": "ns"});
    let authorizer: Arc<dyn Authorizer> = Arc::new(Yes);
    let inputs = Inputs {
        object: &object,
        old_object: &Value::Null,
        request: &request,
        params: &params,
        namespace: &json!({"metadata": {"name": "ns", "labels": {"team": "a"}}}),
        authorizer: &authorizer,
    };
    let activation = Activation::new(&composition, inputs);
    let expression = composition.compile(expression, returns);
    activation
        .evaluate(&expression, budget)
        .map_err(|error| error.to_string())
}

fn come_to(variables: &[(&str, &str)], expression: &str, returns: Returns) -> Result<Output, String> {
    evaluate(variables, expression, returns, &mut COST_OF_POLICY.clone())
}

#[test]
fn expressions_see_what_is_declared() {
    for expression in [
        "object.n == 3 && oldObject == null && params.max == 5",
        "namespaceObject.metadata.labels['team'] == 'a'",
        "object.list.all(x, x < 4) && object.list.exists(x, x == 2) && object.list.map(x, x * 2) == [2, 4, 6]",
        "object.list.filter(x, x > 1).size() == 2 && object.list.exists_one(x, x == 1)",
        "object.list.map(x, x > 1, string(x)).join(',') == '2,3'",
        "object.metadata.labels == {'x.io/y': 'z'} && 'x.io/y' in object.metadata.labels",
        "has(object.metadata.labels) && !has(object.spec)",
        "object.?spec.?replicas.orValue(1) == 1 && object.?n.orValue(1) == 3",
        "object.metadata.name.startsWith('a') && object.metadata.name.matches('^a$') && 'b' + object.metadata.name == 'ba'",
        "object.ratio > 1.0 && sets.contains(object.list, [1])",
        "[[1, 2], [3]].all(l, l.exists(x, x > 1))",
        "authorizer.requestResource.check('get').allowed() && authorizer.group('').resource('pods').check('get').allowed()",
        "object == object && request.operation in ['CREATE', 'UPDATE']",
        "object.list.sum() == 6 && quantity('1Gi').isGreaterThan(quantity('1Mi'))",
        "params.?min.hasValue() == false",
    ] {
        assert_eq!(
            come_to(&[], expression, Returns::Bool),
            Ok(Output::Bool(true)),
            "{expression}"
        );
    }
}

#[test]
fn variables_are_made_of_earlier_ones_and_only_when_they_are_needed() {
    let variables = [
        ("n", "object.n"),
        ("twice", "variables.n * 2"),
        ("broken", "object.missing.field"),
        ("words", "['a', 'b'].map(w, w + string(variables.twice))"),
        ("amount", "quantity('1Gi')"),
        ("n", "variables.n + 1"),
        ("all", "variables"),
    ];
    for (expression, expected) in [
        ("variables.twice == 6", Ok(Output::Bool(true))),
        (
            "variables.words == ['a6', 'b6'] && variables.words[1] == 'b6'",
            Ok(Output::Bool(true)),
        ),
        ("variables.n == 4", Ok(Output::Bool(true))),
        (
            "has(variables.n) && variables.?twice.orValue(0) == 6",
            Ok(Output::Bool(true)),
        ),
        (
            "variables.amount.isGreaterThan(quantity('1'))",
            Ok(Output::Bool(true)),
        ),
        ("variables.all.twice == 6", Ok(Output::Bool(true))),
        ("true || variables.broken", Ok(Output::Bool(true))),
        (
            "variables.broken == 1",
            Err(
                "expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to evaluate: \
                 no such key: missing",
            ),
        ),
    ] {
        let got = come_to(&variables, expression, Returns::Bool);
        assert_eq!(got, expected.map_err(str::to_owned), "{expression}");
    }
}

#[test]
fn faults_are_found_when_expressions_are_compiled() {
    let composition = || {
        let mut composition = Composition::new(Declarations::default().with_variables());
        composition.add_variable("n", "1");
        composition
    };
    for (expression, returns, expected) in [
        (
            "variables.m == 1",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:10: undefined field 'm'\n | variables.m == 1\n | .........^",
        ),
        (
            "params.x == 1",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'params' (in container '')\n | params.x == 1\n | ^",
        ),
        ("object.spec", Returns::Bool, "must evaluate to bool but got dyn"),
        (
            "object.?a.orValue(true)",
            Returns::Bool,
            "must evaluate to bool but got dyn",
        ),
        (
            "object.b ? object.a : 'x'",
            Returns::Text,
            "must evaluate to string but got dyn",
        ),
        (
            "object.a ? 'x' : null",
            Returns::TextOrNull,
            "compilation failed: ERROR: <input>:1:10: found no matching overload for '_?_:_' applied to '(dyn, string, null)'",
        ),
        (
            "[1, 'a'] == []",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:5: expected type 'int' but found 'string'",
        ),
        (
            "'abc'.all(x, x == 'a')",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:1: expression of type 'string' cannot be range of a comprehension (must be \
             list, map, or dynamic)",
        ),
        (
            "authorizer.path('/').check('get')",
            Returns::Bool,
            "must evaluate to bool but got kubernetes.authorization.Decision",
        ),
        (
            "object.a[0].b",
            Returns::Text,
            "must evaluate to string but got dyn",
        ),
        (
            "1",
            Returns::TextOrNull,
            "must evaluate to one of [string null_type] but got int",
        ),
        ("null", Returns::Bool, "must evaluate to bool but got null_type"),
        (
            "Object{spec: Object.spec{}}",
            Returns::Object,
            "compilation failed: ERROR: <input>:1:7: undeclared reference to 'Object' (in container '')",
        ),
        (
            "variables.n + 'a' == ''",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:13: found no matching overload",
        ),
        (
            "namespaceObject.metadata.uid == ''",
            Returns::Bool,
            "compilation failed: ERROR: <input>:1:25: undefined field 'uid'",
        ),
    ] {
        let compiled = composition().compile(expression, returns);
        let fault = compiled.fault().unwrap_or_default();
        assert!(fault.starts_with(expected), "{expression}: {fault}");
    }
    let without = composition().compile_with(
        "authorizer.path('/').check('get').allowed()",
        Returns::Bool,
        |d| d.without_authorizer(),
    );
    assert!(
        without
            .fault()
            .is_some_and(|fault| fault.contains("undeclared reference to 'authorizer'"))
    );
    for (expression, returns) in [
        ("variables.n == 1", Returns::Bool),
        ("'a' + string(variables.n)", Returns::Text),
        ("null", Returns::TextOrNull),
        ("object.a ? 'x' : string(1)", Returns::Text),
        ("object.?a.orValue('x') == 'x'", Returns::Bool),
    ] {
        assert_eq!(
            composition().compile(expression, returns).fault(),
            None,
            "{expression}"
        );
    }
}

#[test]
fn types_are_checked_where_there_are_schemas() {
    let schema = Arc::new(crate::Schema::from_openapi(
        &json!({"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"replicas": {"type": "integer"}}},
        }}),
    ));
    let composition = Composition::new(
        Declarations::default()
            .with_schemas(&schema, None)
            .with_variables(),
    );
    let fault = |expression| {
        let compiled = composition.compile(expression, Returns::Anything);
        compiled
            .fault()
            .map(|fault| fault.lines().next().unwrap_or_default().to_owned())
    };
    assert_eq!(fault("object.spec.replicas > 1"), None);
    assert_eq!(
        fault("object.spec.replica > 1").as_deref(),
        Some("compilation failed: ERROR: <input>:1:12: undefined field 'replica'")
    );
    assert_eq!(
        fault("object.spec.replicas == 'a'").as_deref(),
        Some(
            "compilation failed: ERROR: <input>:1:22: found no matching overload for '_==_' applied to '(int, string)'"
        )
    );
}

#[test]
fn mutations_come_to_json() {
    for (expression, returns, expected) in [
        (
            "Object{spec: Object.spec{replicas: object.n + 1, flags: [true, false], of: {'k': 1.5}}}",
            Returns::Object,
            Ok(json!({"spec": {"replicas": 4, "flags": [true, false], "of": {"k": 1.5}}})),
        ),
        ("Object{}", Returns::Object, Ok(json!({}))),
        (
            "Object{?spec: optional.none(), ?n: object.?n}",
            Returns::Object,
            Ok(json!({"n": 3})),
        ),
        (
            "has(object.spec) ? Object{} : Object{metadata: Object.metadata{labels: {'a': 'b'}}}",
            Returns::Object,
            Ok(json!({"metadata": {"labels": {"a": "b"}}})),
        ),
        (
            "Object{spec: Object.spec{list: object.list.map(x, Object.spec.list{n: x})}}",
            Returns::Object,
            Ok(json!({"spec": {"list": [{"n": 1}, {"n": 2}, {"n": 3}]}})),
        ),
        (
            "Object{spec: Object.wrong{}}",
            Returns::Object,
            Err(
                "type mismatch: unexpected type name \"Object.wrong\", expected \"Object.spec\", which matches field name path \
                 from root Object type",
            ),
        ),
        (
            "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: 'v'}, \
             JSONPatch{op: 'test', path: '/n', value: 3}]",
            Returns::Patches,
            Ok(json!([
                {"op": "add", "path": "/metadata/labels/a~1b~0c", "value": "v"},
                {"op": "test", "path": "/n", "value": 3},
            ])),
        ),
        (
            "has(object.spec) ? [] : [JSONPatch{op: 'copy', from: '/n', path: '/m'}]",
            Returns::Patches,
            Ok(json!([{"op": "copy", "from": "/n", "path": "/m"}])),
        ),
        (
            "object.list.map(x, JSONPatch{op: 'add', path: '/x', value: Object.spec{n: x}}) + []",
            Returns::Patches,
            Ok(json!([
                {"op": "add", "path": "/x", "value": {"n": 1}},
                {"op": "add", "path": "/x", "value": {"n": 2}},
                {"op": "add", "path": "/x", "value": {"n": 3}},
            ])),
        ),
        (
            "[JSONPatch{op: 'add', where: '/x'}]",
            Returns::Patches,
            Err(
                "compilation error: compilation failed: ERROR: <input>:1:28: expected type of field 'where' is '' but provided type is 'string'",
            ),
        ),
        (
            "[1]",
            Returns::Patches,
            Err("compilation error: must evaluate to list(JSONPatch) but got list(int)"),
        ),
        (
            "object",
            Returns::Object,
            Err("compilation error: must evaluate to Object but got dyn"),
        ),
        (
            "has(object.spec) ? Object{} : null",
            Returns::Object,
            Err("unsupported return type from ApplyConfiguration expression: null_type"),
        ),
        (
            "[{'a': 1}][0]",
            Returns::Object,
            Err("unsupported return type from ApplyConfiguration expression: map"),
        ),
    ] {
        let got = come_to(&[], expression, returns);
        match (got, expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, Output::Json(expected), "{expression}"),
            (Err(got), Err(expected)) => {
                let got = got.split_once("\n |").map_or(got.as_str(), |(first, _)| first);
                assert_eq!(got, expected, "{expression}");
            }
            (got, expected) => panic!("{expression}: {got:?} instead of {expected:?}"),
        }
    }
}

#[test]
fn counting_changes_nothing_else() {
    let mut wrong = Vec::new();
    for expression in DOCUMENTED {
        let mut budget = COST_OF_POLICY;
        let got = evaluate(&[], expression, Returns::Bool, &mut budget);
        if got != Ok(Output::Bool(true)) || budget == COST_OF_POLICY {
            wrong.push((*expression, got));
        }
    }
    assert_eq!(wrong, []);
}

#[test]
fn what_costs_too_much_ends() {
    const TOO_MUCH: &str = "operation cancelled: actual cost limit exceeded";
    let range = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28]";
    let loops = |step: &str, end: &str, result: &str| {
        let mut expression = end.to_owned();
        for variable in ["a", "b", "c", "d", "e", "f"] {
            expression = format!("variables.r.{step}({variable}, {expression}){result}");
        }
        expression
    };
    for expression in [
        loops("all", "true", ""),
        loops("exists", "false", ""),
        loops("exists_one", "false", ""),
        loops("filter", "true", ".size() > 0"),
        format!("{}.size() > 0", loops("map", "1", "")),
    ] {
        let mut budget = COST_OF_POLICY;
        let got = evaluate(&[("r", range)], &expression, Returns::Bool, &mut budget);
        assert!(
            got.as_ref().is_err_and(|why| why.contains(TOO_MUCH)),
            "{expression}: {got:?}"
        );
        let spent = COST_OF_POLICY - budget;
        assert!(
            (COST_OF_ONE..2 * COST_OF_ONE).contains(&spent),
            "{expression}: {spent}"
        );
    }
    let check = "authorizer.path('/').check('get').allowed()";
    let two = format!("{check} && {check}");
    assert_eq!(come_to(&[], &two, Returns::Bool), Ok(Output::Bool(true)));
    let three = format!("{two} && {check}");
    assert!(come_to(&[], &three, Returns::Bool).is_err_and(|why| why.ends_with(TOO_MUCH)));
    assert_eq!(
        come_to(&[], &format!("true || {three}"), Returns::Bool),
        Ok(Output::Bool(true))
    );
}

#[test]
fn budgets_are_used_up_by_variables_too() {
    let mut budget = 100;
    let got = evaluate(&[], "object.n == 3", Returns::Bool, &mut budget);
    assert_eq!(got, Ok(Output::Bool(true)));
    assert!((90..100).contains(&budget), "{budget}");
    let variables = [("sum", "object.list.map(x, object.list.map(y, y)).size()")];
    let got = evaluate(&variables, "variables.sum > 0", Returns::Bool, &mut budget);
    assert_eq!(
        got,
        Err(
            "validation failed due to running out of cost budget, no further validation rules will be run"
                .to_owned()
        )
    );
}

#[test]
fn what_is_deep_has_room_and_what_is_too_deep_is_refused() {
    let nested = |open: &str, close: &str, levels: usize| {
        format!(
            "{}true{} != {open}{close}",
            open.repeat(levels),
            close.repeat(levels)
        )
    };
    for expression in [
        nested("(", ")", 90).replace(" != ()", ""),
        nested("[", "]", 90),
        format!("1{} > 0", "+1".repeat(240)),
        format!("true{}", "&&true".repeat(2000)),
        format!("{}true", "!".repeat(200)),
    ] {
        let got = come_to(&[], &expression, Returns::Bool);
        assert_eq!(got, Ok(Output::Bool(true)), "{expression}");
    }
    let depth = "max recursion depth exceeded";
    for (expression, why) in [
        (format!("1{} > 0", "+1".repeat(300)), depth),
        (nested("(", ")", 5000), depth),
        (nested("[", "]", 300), "expression recursion limit exceeded: 96"),
    ] {
        let got = come_to(&[], &expression, Returns::Bool);
        let expected = format!("compilation error: compilation failed: ERROR: <input>:-1:0: {why}");
        assert_eq!(got, Err(expected), "{expression}");
    }
    let chain = |length: usize| -> Vec<(String, String)> {
        let step = |i: usize| format!("[variables.v{}].map(x, x + 1)[0]", i - 1);
        let of = |i: usize| if i == 0 { "1".to_owned() } else { step(i) };
        (0..length).map(|i| (format!("v{i}"), of(i))).collect()
    };
    let chain_of = chain(100);
    let variables: Vec<(&str, &str)> = chain_of.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert_eq!(
        come_to(&variables, "variables.v99 == 100", Returns::Bool),
        Ok(Output::Bool(true))
    );
    let chain_of = chain(2000);
    let variables: Vec<(&str, &str)> = chain_of.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    assert!(come_to(&variables, "variables.v1999 == 2000", Returns::Bool).is_err());
}
