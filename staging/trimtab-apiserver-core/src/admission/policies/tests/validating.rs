//! What validating policies find, and what follows from it.

use serde_json::{Value, json};

use super::kit::{bind, bind_as, bound, config_maps, make, noted, store, stored, validating};
use crate::admission::kit::{CONFIGURATIONS, Server, hook, reply};
use crate::metrics::Metrics;
use crate::webhook::testing::Hook;

#[tokio::test]
async fn a_policy_counts_from_the_next_request_on() {
    let server = Server::new().await;
    let (policies, bindings) = ("validatingadmissionpolicies", "validatingadmissionpolicybindings");
    for round in 0..3 {
        validating(&server, "p", json!({"validations": [{"expression": "false"}]})).await;
        assert_eq!(make(&server, &format!("unbound-{round}")).await.0, 201);
        bind(&server, "validating", "p", json!({})).await;
        assert_eq!(make(&server, "a").await.0, 422);
        let path = format!("{CONFIGURATIONS}/{policies}/p");
        let spec = |expression: &str| json!({"spec": {"validations": [{"expression": expression}]}});
        server.ok("patch", &path, spec("true")).await;
        assert_eq!(make(&server, &format!("between-{round}")).await.0, 201);
        server.ok("patch", &path, spec("false")).await;
        assert_eq!(make(&server, "a").await.0, 422);
        server
            .ok("delete", &format!("{CONFIGURATIONS}/{bindings}/p"), Value::Null)
            .await;
        assert_eq!(make(&server, &format!("after-{round}")).await.0, 201);
        server.ok("delete", &path, Value::Null).await;
    }
}

#[tokio::test]
async fn refusals_are_worded_as_kube_apiserver_words_them() {
    let server = Server::new().await;
    let cases = [
        (
            json!({"validations": [{"expression": "object.metadata.name == 'b'"}]}),
            422,
            "failed expression: object.metadata.name == 'b'",
        ),
        (
            json!({"validations": [{"expression": "false", "message": " no ", "reason": "Forbidden"}]}),
            403,
            "no",
        ),
        (
            json!({"validations": [{"expression": "false", "message": "no", "reason": "RequestEntityTooLarge",
                "messageExpression": "'no ' + object.metadata.name + ' in ' + namespaceObject.metadata.name"}]}),
            413,
            "no a in default",
        ),
        (
            json!({"validations": [{"expression": "false", "message": "plain", "messageExpression": "'a\\nb'"}]}),
            422,
            "plain",
        ),
        (
            json!({"validations": [{"expression": "false", "messageExpression": "string(object.spec.x)"}]}),
            422,
            "failed expression: false",
        ),
        (
            json!({"validations": [{"expression": "object.spec.x == 1"}]}),
            422,
            "expression 'object.spec.x == 1' resulted in error: no such key: spec",
        ),
        (
            json!({"variables": [{"name": "x", "expression": "object.spec.x"}],
                "validations": [{"expression": "variables.x == 1"}]}),
            422,
            "expression 'variables.x == 1' resulted in error: composited variable \"x\" fails to evaluate: no such key: spec",
        ),
        (
            json!({"variables": [{"name": "list", "expression": "[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20]"}],
                "validations": [{"expression": "variables.list.all(a, variables.list.all(b, variables.list.all(c, \
                    variables.list.all(d, variables.list.all(e, true)))))"}]}),
            422,
            "expression 'variables.list.all(a, variables.list.all(b, variables.list.all(c, variables.list.all(d, \
             variables.list.all(e, true)))))' resulted in error: operation cancelled: actual cost limit exceeded",
        ),
    ];
    for (i, (spec, code, message)) in cases.into_iter().enumerate() {
        let name = format!("p{i}");
        bound(&server, &name, spec).await;
        let (got, answer, _) = server.make("a").await;
        let message =
            format!("ValidatingAdmissionPolicy '{name}' with binding '{name}' denied request: {message}");
        assert_eq!(got, code, "{answer}");
        assert_eq!(
            answer["message"],
            json!(format!("configmaps \"a\" is forbidden: {message}"))
        );
        assert_eq!(answer["details"]["causes"], json!([{"message": message}]));
        let reason = match code {
            403 => "Forbidden",
            413 => "RequestEntityTooLarge",
            _ => "Invalid",
        };
        assert_eq!(answer["reason"], json!(reason));
        let binding = format!("{CONFIGURATIONS}/validatingadmissionpolicybindings/{name}");
        server.ok("delete", &binding, Value::Null).await;
    }
}

#[tokio::test]
async fn the_first_refusal_is_told_and_all_are_counted() {
    let server = Server::new().await;
    for name in ["b", "a"] {
        bound(&server, name, json!({"validations": [
            {"expression": "true"}, {"expression": "false", "message": "first"}, {"expression": "false", "message": "second"},
        ]})).await;
    }
    let (code, message) = make(&server, "m").await;
    assert_eq!(code, 422);
    assert!(
        message.ends_with("ValidatingAdmissionPolicy 'a' with binding 'a' denied request: first"),
        "{message}"
    );
    let text = Metrics::new(&server.policy_metrics, &server.metrics).text();
    for policy in ["a", "b"] {
        let line = format!(
            "apiserver_validating_admission_policy_check_total{{policy=\"{policy}\",policy_binding=\"{policy}\",\
             error_type=\"invalid_error\",enforcement_action=\"deny\"}} 2"
        );
        assert!(text.contains(&line), "{text}");
    }
}

#[tokio::test]
async fn bindings_say_what_follows() {
    let server = Server::new().await;
    validating(
        &server,
        "p",
        json!({"validations": [{"expression": "true"}, {"expression": "false", "message": "no"}]}),
    )
    .await;
    bind_as(
        &server,
        "validating",
        "w",
        "p",
        json!({"validationActions": ["Warn"]}),
    )
    .await;
    let (code, _, warnings) = server.make("a").await;
    let warning = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'w': no";
    assert_eq!((code, warnings), (201, vec![warning.to_owned()]));
    bind_as(
        &server,
        "validating",
        "x",
        "p",
        json!({"validationActions": ["Audit"]}),
    )
    .await;
    let noted_ = noted(&server, "b").await;
    let failure = &noted_["validation.policy.admission.k8s.io/validation_failure"];
    assert_eq!(
        failure,
        r#"[{"message":"no","policy":"p","binding":"x","expressionIndex":1,"validationActions":["Audit"]}]"#
    );
    bind_as(
        &server,
        "validating",
        "y",
        "p",
        json!({"validationActions": ["Deny", "Audit"]}),
    )
    .await;
    let (code, message) = make(&server, "c").await;
    assert_eq!(code, 422);
    assert!(message.contains("with binding 'y'"), "{message}");
}

#[tokio::test]
async fn audit_annotations_are_noted_and_must_be_texts() {
    let server = Server::new().await;
    let annotation = |key: &str, value: &str| json!({"key": key, "valueExpression": value});
    bound(&server, "p", json!({"validations": null, "auditAnnotations": [
        annotation("name", "' ' + object.metadata.name + ' '"), annotation("none", "null"), annotation("empty", "''"),
    ]}))
    .await;
    bind_as(&server, "validating", "q", "p", json!({})).await;
    let expected = [("p/name".to_owned(), "a".to_owned())];
    assert_eq!(noted(&server, "a").await, expected.into());
    bound(
        &server,
        "r",
        json!({"validations": null, "auditAnnotations": [annotation("x", "[object.metadata][0].name")]}),
    )
    .await;
    assert_eq!(noted(&server, "b").await.len(), 2);
    bound(
        &server,
        "s",
        json!({"validations": null, "auditAnnotations": [annotation("x", "[object.metadata][0]")]}),
    )
    .await;
    let (_, message) = make(&server, "c").await;
    let wrong = "valueExpression '[object.metadata][0]' resulted in unsupported return type: map. Return type must be either string \
                 or null.";
    assert!(message.ends_with(wrong), "{message}");
}

#[tokio::test]
async fn what_cannot_be_evaluated_is_forgiven_by_policies_that_may_fail() {
    let server = Server::new().await;
    for (name, change) in [
        (
            "a",
            json!({"validations": [{"expression": "object.spec.x == 1"}]}),
        ),
        (
            "b",
            json!({"matchConditions": [{"name": "c", "expression": "object.spec.x == 1"}], "validations": [{"expression": "false"}]}),
        ),
        (
            "c",
            json!({"paramKind": {"apiVersion": "g.io/v1", "kind": "Nothing"}, "validations": [{"expression": "false"}]}),
        ),
        (
            "d",
            json!({"auditAnnotations": [{"key": "k", "valueExpression": "string(object.spec.x)"}]}),
        ),
    ] {
        let mut change = change;
        change["failurePolicy"] = "Ignore".into();
        bound(&server, name, change).await;
    }
    assert_eq!(make(&server, "a").await, (201, String::new()));
    bound(
        &server,
        "e",
        json!({"failurePolicy": "Ignore", "validations": [{"expression": "false"}]}),
    )
    .await;
    assert_eq!(make(&server, "b").await.0, 422);
}

#[tokio::test]
async fn conditions_say_whether_a_policy_is_asked() {
    let server = Server::new().await;
    let condition = |name: &str, expression: &str| json!({"name": name, "expression": expression});
    bound(&server, "p", json!({"validations": [{"expression": "false"}], "matchConditions": [
        condition("a", "object.metadata.name != 'let-by'"), condition("b", "request.userInfo.username == 'alice'"),
    ]}))
    .await;
    assert_eq!(make(&server, "let-by").await.0, 201);
    assert_eq!(make(&server, "other").await.0, 422);
    bound(&server, "q", json!({"matchConditions": [condition("a", "object.spec.x == 1"), condition("b", "object.spec.y == 1")]})).await;
    bound(
        &server,
        "r",
        json!({"matchConditions": [condition("a", "object.spec.x == 1"), condition("b", "false")]}),
    )
    .await;
    let (_, message) = make(&server, "let-by-too").await;
    assert!(message.contains("'p' with binding"), "{message}");
    server
        .ok(
            "delete",
            &format!("{CONFIGURATIONS}/validatingadmissionpolicybindings/p"),
            Value::Null,
        )
        .await;
    let (_, message) = make(&server, "x").await;
    let wrong = "'q' with binding 'q' denied request: [expression 'object.spec.x == 1' resulted in error: no such key: spec, \
                 expression 'object.spec.y == 1' resulted in error: no such key: spec]";
    assert!(message.ends_with(wrong), "{message}");
}

#[tokio::test]
async fn expressions_see_old_objects_params_the_namespace_and_the_authorizer() {
    let mut server = Server::new().await;
    server
        .ok(
            "create",
            "/v1/default:configmaps",
            json!({"metadata": {"name": "limits", "labels": {"of": "limits"}},
        "data": {"most": "2"}}),
        )
        .await;
    bound(&server, "p", json!({"validations": [
        {"expression": "request.operation != 'DELETE' || object == null && oldObject.data.k == 'v'", "message": "delete"},
        {"expression": "request.operation != 'UPDATE' || object.data.k != oldObject.data.k", "message": "update"},
        {"expression": "namespaceObject.metadata.labels['team'] == 'a' && namespaceObject.metadata.name == request.namespace"},
        {"expression": "request.userInfo.username == 'alice' && 'devs' in request.userInfo.groups"},
        {"expression": "!authorizer.group('').resource('secrets').check('get').allowed() \
            && !authorizer.requestResource.check('create').allowed()"},
        {"expression": "request.resource.resource == 'configmaps' && request.kind.kind == 'ConfigMap' && !request.dryRun"},
    ]}))
    .await;
    assert_eq!(make(&server, "a").await, (201, String::new()));
    let path = "/v1/default:configmaps/a";
    let same = server.ok("get", path, Value::Null).await;
    assert_eq!(server.refused("update", path, same.clone()).await.0, 422);
    server.ok("patch", path, json!({"data": {"k": "w"}})).await;
    assert_eq!(server.refused("delete", path, Value::Null).await.0, 422);
    server.ok("patch", path, json!({"data": {"k": "v"}})).await;
    server.ok("delete", path, Value::Null).await;
    server.user.name = "admin".to_owned();
    assert_eq!(make(&server, "b").await.0, 422);
}

#[tokio::test]
async fn params_are_found_by_name_or_selector() {
    let server = Server::new().await;
    let secret = |name: &str, must: &str| json!({"metadata": {"name": name, "labels": {"of": "limits"}}, "stringData": {"must": must}});
    let path = "/v1/default:secrets";
    // `v` and `w` in base64.
    server.ok("create", path, secret("one", "v")).await;
    validating(&server, "p", json!({"paramKind": {"apiVersion": "v1", "kind": "Secret"}, "validations": [
        {"expression": "params == null || object.data.k == (params.data.must == 'dg==' ? 'v' : 'w')", "message": "wrong"},
    ]}))
    .await;
    let bindings = "validatingadmissionpolicybindings";
    let missing =
        "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction";
    let limits = json!({"selector": {"matchLabels": {"of": "limits"}}, "parameterNotFoundAction": "Deny"});
    for (i, (reference, expected)) in [
        (Value::Null, ""),
        (json!({"name": "one", "parameterNotFoundAction": "Deny"}), ""),
        (json!({"name": "two", "parameterNotFoundAction": "Deny"}), missing),
        (json!({"name": "two", "parameterNotFoundAction": "Allow"}), ""),
        (
            json!({"name": "one", "namespace": "default", "parameterNotFoundAction": "Deny"}),
            "",
        ),
        (
            json!({"name": "one", "namespace": "elsewhere", "parameterNotFoundAction": "Deny"}),
            missing,
        ),
        (limits.clone(), ""),
        (
            json!({"selector": {"matchLabels": {"of": "nothing"}}, "parameterNotFoundAction": "Deny"}),
            missing,
        ),
        (json!({"selector": {}, "parameterNotFoundAction": "Deny"}), ""),
        (limits, "wrong"),
    ]
    .into_iter()
    .enumerate()
    {
        if expected == "wrong" {
            server.ok("create", path, secret("two", "w")).await;
        }
        let spec = json!({"policyName": "p", "validationActions": ["Deny"], "paramRef": reference});
        stored(&server, bindings, "b", spec).await;
        let (code, message) = make(&server, &format!("a{i}")).await;
        let is_as_expected = if expected.is_empty() {
            code == 201
        } else {
            code == 422 && message.ends_with(expected)
        };
        assert!(is_as_expected, "{reference}: {code} {message}");
        server
            .ok("delete", &format!("{CONFIGURATIONS}/{bindings}/b"), Value::Null)
            .await;
    }
}

#[tokio::test]
async fn params_may_be_of_the_cluster_and_must_be_of_a_kind_that_is_served() {
    let server = Server::new().await;
    validating(
        &server,
        "p",
        json!({"paramKind": {"apiVersion": "v1", "kind": "Namespace"}, "validations": [
            {"expression": "params.metadata.labels.team == 'a' && params.kind == 'Namespace'"},
        ]}),
    )
    .await;
    bind(
        &server,
        "validating",
        "p",
        json!({"paramRef": {"name": "default", "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    assert_eq!(make(&server, "a").await, (201, String::new()));
    bind_as(
        &server,
        "validating",
        "q",
        "p",
        json!({"paramRef": {"name": "default", "namespace": "x",
        "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    let (_, message) = make(&server, "b").await;
    let wrong = "failed to configure binding: paramRef.namespace must not be provided for a cluster-scoped `paramKind`";
    assert!(message.ends_with(wrong), "{message}");
    bound(
        &server,
        "o",
        json!({"paramKind": {"apiVersion": "g.io/v1", "kind": "Nothing"}}),
    )
    .await;
    let (code, message) = make(&server, "c").await;
    let wrong = "configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'o' denied request: failed to configure policy: failed to \
                 find resource referenced by paramKind: 'g.io/v1, Kind=Nothing'";
    assert_eq!((code, message.as_str()), (422, wrong));
}

#[tokio::test]
async fn writers_must_be_allowed_to_read_params() {
    let mut server = Server::new().await;
    server.user.groups.clear();
    server.user.extra.clear();
    let policy = json!({"matchConstraints": config_maps(), "validations": [{"expression": "true"}],
        "paramKind": {"apiVersion": "v1", "kind": "Secret"}});
    let plural = "validatingadmissionpolicies";
    let (code, answer, _) = store(&server, plural, "p", &policy).await;
    let why = "ValidatingAdmissionPolicy.admissionregistration.k8s.io \"p\" is invalid: spec.paramKind: Forbidden: user &{alice u1 [] \
               map[]} must have \"get\" permission on all objects of the referenced paramKind (kind=Secret, apiVersion=v1)";
    assert_eq!((code, &answer["message"]), (422, &json!(why)));
    server.user.name = "admin".to_owned();
    assert_eq!(store(&server, plural, "p", &policy).await.0, 201);
    server.user.name = "alice".to_owned();
    for (policy, reference, why) in [
        (
            "p",
            json!({"name": "s", "parameterNotFoundAction": "Deny"}),
            "user &{alice u1 [] map[]} does not have \"get\" permission on the object referenced by paramRef",
        ),
        (
            "p",
            json!({"selector": {}, "parameterNotFoundAction": "Deny"}),
            "user &{alice u1 [] map[]} does not have \"list\" permission on the object referenced by paramRef",
        ),
        (
            "q",
            json!({"selector": {}, "parameterNotFoundAction": "Deny"}),
            "unable to get policy q to determine minimum required permissions and user &{alice u1 [] map[]} does not have \"list\" \
             permission for all groups, versions and resources",
        ),
    ] {
        let spec = json!({"policyName": policy, "validationActions": ["Deny"], "paramRef": reference});
        let (code, answer, _) = store(&server, "validatingadmissionpolicybindings", "b", &spec).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            code == 422 && message.ends_with(&format!("spec.paramRef: Forbidden: {why}")),
            "{code} {message}"
        );
    }
}

#[tokio::test]
async fn policies_are_asked_before_webhooks_and_can_always_be_mended() {
    let server = Server::new().await;
    let no = Hook::start(|asked| reply(asked, json!({"allowed": false}))).await;
    let everything = json!({"resourceRules": [
        {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": ["*"]},
    ]});
    bound(
        &server,
        "p",
        json!({"matchConstraints": everything, "validations": [{"expression": "false"}]}),
    )
    .await;
    let path = format!("{CONFIGURATIONS}/validatingwebhookconfigurations");
    let configuration =
        json!({"metadata": {"name": "w"}, "webhooks": [hook(no.client_config("/"), json!({}))]});
    let (_, message) = server.refused("create", &path, configuration.clone()).await;
    assert!(message.contains("ValidatingAdmissionPolicy"), "{message}");
    let policy = format!("{CONFIGURATIONS}/validatingadmissionpolicies/p");
    let rule = |resource: &str| {
        json!({"spec": {"matchConstraints": {"resourceRules": [
            {"operations": ["*"], "apiGroups": ["*"], "apiVersions": ["*"], "resources": [resource]},
        ]}}})
    };
    server.ok("patch", &policy, rule("configmaps")).await;
    server.ok("create", &path, configuration).await;
    let (_, message) = make(&server, "a").await;
    assert!(message.contains("ValidatingAdmissionPolicy"), "{message}");
    assert_eq!(no.take().len(), 0);
    server.ok("patch", &policy, rule("secrets")).await;
    let (_, message) = make(&server, "a").await;
    assert!(message.contains("admission webhook"), "{message}");
}
