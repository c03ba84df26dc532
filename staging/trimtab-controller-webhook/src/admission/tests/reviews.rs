//! How reviews are answered.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use json_patch::Patch;
use serde_json::{Value, json};

use super::super::{Admitted, Handler, Operation, Refusal, Request, erase, review};
use super::super::{Defaults as Defaulting, Deletions, Validates};
use crate::tests::websites::{Defaults, Rules, Website, website};

/// A review as the API server sends it.
fn question(operation: &str, object: Value, old: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5", "name": "a", "namespace": "web", "operation": operation, "dryRun": true,
            "kind": {"group": "example.com", "version": "v1", "kind": "Website"},
            "resource": {"group": "example.com", "version": "v1", "resource": "websites"},
            "requestKind": {"group": "example.com", "version": "v1beta1", "kind": "Website"},
            "requestResource": {"group": "example.com", "version": "v1beta1", "resource": "websites"},
            "userInfo": {"username": "jane", "groups": ["system:authenticated"], "extra": {"k": ["v"]}},
            "object": object, "oldObject": old,
            "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
        },
    })
}

/// The response to a review, with its patch decoded; and whether there was a panic.
async fn ask(handler: impl Handler, mutates: bool, question: &Value) -> (Value, bool) {
    let answer = review(&erase(handler), mutates, question.to_string().as_bytes()).await;
    let answer = answer.expect("a review");
    let mut body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body["apiVersion"], question["apiVersion"]);
    assert_eq!(body["kind"], "AdmissionReview");
    let mut response = body["response"].take();
    assert_eq!(response["uid"], "705ab4f5");
    response.as_object_mut().expect("an object").remove("uid");
    if let Some(patch) = response["patch"].as_str() {
        assert_eq!(response["patchType"], "JSONPatch");
        let patch = STANDARD.decode(patch).expect("base64");
        let patch: Patch = serde_json::from_slice(&patch).expect("a patch");
        let mut object = question["request"]["object"].clone();
        json_patch::patch(&mut object, &patch).expect("it can be applied");
        response = json!({"allowed": response["allowed"], "object": object});
    }
    response.as_object_mut().expect("an object").remove("patch");
    (response, answer.panicked)
}

#[tokio::test]
async fn defaults_leave_everything_else_as_it_was_sent() {
    let sent = json!({"text": "t", "replicas": null, "later": {"deep": [1]},
        "pages": [{"name": "index", "later": 1}, {"name": "b", "text": "x", "later": 2}]});
    let wanted = json!({"text": "t", "replicas": 1, "host": "a.example.com", "later": {"deep": [1]},
        "pages": [{"name": "index", "text": "under construction: index", "later": 1},
            {"name": "b", "text": "x", "later": 2}]});
    for (operation, version) in [("CREATE", "v1"), ("UPDATE", "v1"), ("CREATE", "v1beta1")] {
        let mut question = question(operation, website("v1", sent.clone()), Value::Null);
        question["apiVersion"] = json!(format!("admission.k8s.io/{version}"));
        let (response, _) = ask(Defaulting::<Website, _>::new(Defaults), true, &question).await;
        assert_eq!(
            response,
            json!({"allowed": true, "object": website("v1", wanted.clone())})
        );
    }
    // What is complete stays: not even what reading fills in is sent back.
    let complete = json!({"replicas": 2, "host": "h"});
    let complete = question("CREATE", website("v1", complete), Value::Null);
    let (response, _) = ask(Defaulting::<Website, _>::new(Defaults), true, &complete).await;
    assert_eq!(response, json!({"allowed": true}));
    // There is nothing to complete in what goes away.
    let deleted = question("DELETE", Value::Null, website("v1", json!({})));
    let (response, _) = ask(Defaulting::<Website, _>::new(Defaults), true, &deleted).await;
    assert_eq!(response, json!({"allowed": true}));
}

fn no(code: u16, reason: &str, message: &str) -> Value {
    json!({"status": "Failure", "code": code, "reason": reason, "message": message})
}

#[tokio::test]
async fn verdicts_are_told_with_codes_causes_and_warnings() {
    let site = |spec: Value| website("v1", spec);
    let text = |text: &str| site(json!({"text": text}));
    let mut deleting = text("b");
    deleting["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
    let invalid = "Website.example.com \"a\" is invalid: spec.replicas: Invalid value: -1: must be positive";
    let stays = "Website.example.com \"a\" is invalid: spec.host: Forbidden: stays";
    let panicked = "the webhook panicked; its log says more";
    let cases = [
        ("CREATE", text("t"), Value::Null, None),
        (
            "CREATE",
            text("forbidden"),
            Value::Null,
            Some(no(403, "Forbidden", "such texts are not wanted")),
        ),
        (
            "CREATE",
            text("failed"),
            Value::Null,
            Some(no(500, "InternalError", "the list of texts is gone")),
        ),
        (
            "CREATE",
            text("taken"),
            Value::Null,
            Some(no(409, "Conflict", "another website has it")),
        ),
        (
            "CREATE",
            site(json!({"replicas": -1})),
            Value::Null,
            Some(no(422, "Invalid", invalid)),
        ),
        (
            "CREATE",
            text("panic"),
            Value::Null,
            Some(no(500, "InternalError", panicked)),
        ),
        (
            "UPDATE",
            site(json!({"host": "b"})),
            site(json!({"host": "a"})),
            Some(no(422, "Invalid", stays)),
        ),
        (
            "UPDATE",
            text("forbidden"),
            text("t"),
            Some(no(403, "Forbidden", "such texts are not wanted")),
        ),
        ("UPDATE", text("t"), text("forbidden"), None),
        ("UPDATE", text("forbidden"), deleting, None),
        ("DELETE", Value::Null, text("forbidden"), None),
        ("CONNECT", Value::Null, Value::Null, None),
    ];
    for (operation, object, old, refused) in cases {
        let asked = question(operation, object.clone(), old);
        let (response, did_panic) = ask(Validates::<Website, _>::new(Rules), false, &asked).await;
        let asked_for = format!("{operation} {object}: {response}");
        assert_eq!(response["allowed"], refused.is_none(), "{asked_for}");
        assert_eq!(
            did_panic,
            response["status"]["message"] == panicked,
            "{asked_for}"
        );
        if let Some(wanted) = refused {
            for (key, value) in wanted.as_object().expect("an object") {
                assert_eq!(response["status"][key], *value, "{asked_for}");
            }
        } else {
            assert_eq!(response["status"], Value::Null, "{asked_for}");
        }
    }

    let refused = question("CREATE", site(json!({"replicas": -1})), Value::Null);
    let (response, _) = ask(Validates::<Website, _>::new(Rules), false, &refused).await;
    assert_eq!(response["warnings"], json!(["dry run: true"]));
    assert_eq!(response["auditAnnotations"], json!({"text": "fine"}));
    let cause = json!([{"reason": "FieldValueInvalid", "message": "Invalid value: -1: must be positive",
        "field": "spec.replicas"}]);
    assert_eq!(response["status"]["details"]["causes"], cause);
}

#[tokio::test]
async fn deletions_are_asked_about_by_those_who_want_to_know() {
    let cases = [
        ("DELETE", "t", true),
        ("DELETE", "forbidden", false),
        ("UPDATE", "forbidden", true),
    ];
    for (operation, text, allowed) in cases {
        let site = website("v1", json!({"text": text}));
        let asked = question(operation, site.clone(), site);
        let (response, _) = ask(Deletions::<Website, _>::new(Rules), false, &asked).await;
        assert_eq!(response["allowed"], allowed, "{operation} {text}: {response}");
    }
}

#[tokio::test]
async fn what_is_no_object_of_the_type_is_a_bad_request() {
    let mut other = question("CREATE", website("v1", json!({})), Value::Null);
    other["request"]["kind"]["version"] = json!("v2");
    let unreadable = question("CREATE", website("v1", json!({"replicas": "many"})), Value::Null);
    let no_old = question("UPDATE", website("v1", json!({})), Value::Null);
    let cases = [
        (
            other,
            "this webhook is about Website of example.com/v1, and not Website of example.com/v2; correct its rules",
        ),
        (
            unreadable,
            "object is not a Website: invalid type: string \"many\", expected i32",
        ),
        (no_old, "oldObject is not a Website: "),
    ];
    for (question, says) in cases {
        let (response, _) = ask(Validates::<Website, _>::new(Rules), false, &question).await;
        assert_eq!(response["status"]["code"], 400, "{response}");
        let message = response["status"]["message"].as_str().expect("a text");
        assert!(message.starts_with(says), "{message}");
    }
}

/// Answers what it was made with, after looking at everything there is to see.
struct Answers(Admitted);

impl Handler for Answers {
    async fn handle(&self, request: &Request) -> Result<Admitted, Refusal> {
        assert_eq!(request.operation, Operation::Create);
        assert!(request.dry_run);
        assert_eq!(request.user_info.username.as_deref(), Some("jane"));
        assert_eq!(request.request_kind.as_ref().expect("a kind").version, "v1beta1");
        assert_eq!(request.resource.resource, "websites");
        assert_eq!(request.sub_resource, "");
        assert_eq!((request.namespace.as_str(), request.name.as_str()), ("web", "a"));
        assert_eq!(request.options["kind"], "CreateOptions");
        assert_eq!(request.object["metadata"]["new"], json!({"in": "meta"}));
        Ok(self.0.clone())
    }
}

#[tokio::test]
async fn plain_handlers_see_and_change_objects_as_they_are_sent() {
    let sent = website("v1", json!({"a": [1, 2]}));
    let changed = website("v1", json!({"a": [2], "b": null}));
    let patch: Patch = serde_json::from_value(json!([
        {"op": "remove", "path": "/spec/a/0"}, {"op": "add", "path": "/spec/b", "value": null}
    ]))
    .expect("a patch");
    let cases = [
        (Admitted::AsSent, None),
        (Admitted::Changed(sent.clone()), None),
        (Admitted::Patched(Patch::default()), None),
        (Admitted::Changed(changed.clone()), Some(changed.clone())),
        (Admitted::Patched(patch), Some(changed)),
    ];
    for (admitted, wanted) in cases {
        let asked = question("CREATE", sent.clone(), Value::Null);
        let (response, _) = ask(Answers(admitted.clone()), true, &asked).await;
        assert_eq!(response["allowed"], true, "{admitted:?}: {response}");
        assert_eq!(response.get("object"), wanted.as_ref(), "{admitted:?}");

        let (response, _) = ask(Answers(admitted.clone()), false, &asked).await;
        assert_eq!(
            response["allowed"],
            wanted.is_none(),
            "a validating webhook: {admitted:?}"
        );
        if wanted.is_some() {
            assert_eq!(response["status"]["code"], 500);
        }
    }
}

#[tokio::test]
async fn what_is_no_review_is_not_answered() {
    let mut cases = vec![
        ("".to_owned(), "the body is no AdmissionReview: EOF"),
        (
            "{}".to_owned(),
            "the body is a \"\" of \"\", expected AdmissionReview of admission.k8s.io/v1",
        ),
    ];
    for (field, value, says) in [
        ("apiVersion", json!("admission.k8s.io/v2"), "v2"),
        ("apiVersion", json!("v1"), "of \"v1\""),
        ("kind", json!("ConversionReview"), "ConversionReview"),
        ("request", Value::Null, "the review has no request"),
    ] {
        let mut question = question("CREATE", website("v1", json!({})), Value::Null);
        question[field] = value;
        cases.push((question.to_string(), says));
    }
    let mut unknown = question("CREATE", Value::Null, Value::Null);
    unknown["request"]["operation"] = json!("EAT");
    cases.push((unknown.to_string(), "unknown variant `EAT`"));
    for (body, says) in cases {
        let handler = erase(Answers(Admitted::AsSent));
        let error = review(&handler, true, body.as_bytes())
            .await
            .expect_err("no review");
        assert!(error.contains(says), "{error}");
    }
}

/// An author's test needs no server.
#[tokio::test]
async fn validators_can_be_asked_directly() {
    use crate::Validator;
    let site: Website =
        serde_json::from_value(website("v1", json!({"text": "forbidden"}))).expect("a website");
    let mut request = Request::new::<Website>(Operation::Create);
    request.dry_run = true;
    assert_eq!(request.kind.api_version(), "example.com/v1");
    assert_eq!(request.resource.resource, "websites");
    let refused = Rules.create(&site, &request).await;
    assert_eq!(refused, Err("such texts are not wanted".into()));
    assert_eq!(request.warnings(), ["dry run: true"]);
}
