//! Reviews as tables, and custom resources whose versions differ, converted by a server on loopback.

use futures::StreamExt;
use proptest::prelude::*;
use serde_json::{Value, json};
use trimtab_apiserver_storage::{Op, Txn};

use super::super::tests::{Server, widgets};
use super::super::{GROUP, PLURAL, view};
use super::review::{Version, check, read, review};
use crate::api::ApiResponse;
use crate::webhook::testing::{Asked, Hook, Reply};

fn answer(response: Value) -> Value {
    json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response})
}

#[test]
fn answers_are_checked() {
    let success = json!({"status": "Success"});
    for (answer, expected) in [
        (
            json!({}),
            Err("expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got /, Kind="),
        ),
        (answer(json!(null)), Err("no response provided")),
        (
            answer(json!({"uid": "x", "result": success})),
            Err("expected response.uid=\"u\", got \"x\""),
        ),
        (
            answer(json!({"uid": "u", "result": {"status": "Failure", "message": "cannot"}})),
            Err("cannot"),
        ),
        (
            answer(json!({"uid": "u"})),
            Err("response.result.status was '', not 'Success'"),
        ),
        (
            answer(json!({"uid": "u", "result": success, "convertedObjects": [1]})),
            Ok(vec![json!(1)]),
        ),
        (answer(json!({"uid": "u", "result": success})), Ok(vec![])),
    ] {
        assert_eq!(read(&answer, Version::V1, "u"), expected.map_err(str::to_owned));
    }
    // The older version is not strict about who answers what.
    let old = json!({"response": {"result": success, "convertedObjects": [1]}});
    assert_eq!(read(&old, Version::V1beta1, "u"), Ok(vec![json!(1)]));
    let sent = review(Version::V1beta1, "u", &[&json!(1)], "g/v2");
    assert_eq!(
        sent,
        json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1beta1",
            "request": {"uid": "u", "desiredAPIVersion": "g/v2", "objects": [1]}})
    );
}

fn original() -> Value {
    json!({"apiVersion": "g/v1", "kind": "W", "metadata": {"name": "a", "namespace": "ns", "uid": "u",
        "labels": {"l": "1"}, "annotations": {"a": "1"}, "finalizers": ["f"]}, "spec": {"x": 1}})
}

#[test]
fn objects_stay_who_they_are() {
    let convert = |pointer: &str, value: Value| {
        let mut converted = original();
        converted["apiVersion"] = "g/v2".into();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        converted.pointer_mut(parent).expect("a parent")[field] = value;
        converted
    };
    let checked = |converted: Value| check("g/v1, Kind=W", &[&original()], vec![converted], "g/v2");
    for (pointer, value, expected) in [
        (
            "/apiVersion",
            json!("g/v3"),
            "invalid object at index 0: invalid groupVersion (expected g/v2, received g/v3)",
        ),
        (
            "/kind",
            json!("X"),
            "invalid object at index 0: invalid kind (expected W, received X)",
        ),
        (
            "/metadata/name",
            json!("b"),
            "invalid object: must have the same name: a != b",
        ),
        (
            "/metadata/namespace",
            json!("b"),
            "invalid object: must have the same namespace: ns != b",
        ),
        (
            "/metadata/uid",
            json!(null),
            "invalid object: must have the same UID: u != ",
        ),
        (
            "/metadata/labels",
            json!([]),
            "invalid metadata: invalid metadata.labels of type []interface {} in converted object",
        ),
        (
            "/metadata/labels",
            json!({"l": 1}),
            "invalid metadata: metadata.labels[l] must be a string, but is int64 in converted object",
        ),
        (
            "/metadata/labels",
            json!({"l": "a b"}),
            "invalid metadata: metadata.labels: Invalid value: \"a b\": a valid label must be",
        ),
        (
            "/metadata/annotations",
            json!({"a b": ""}),
            "invalid metadata: metadata.annotation: Invalid value: \"a b\": name part must consist of",
        ),
    ] {
        let error = checked(convert(pointer, value)).expect_err(expected);
        let text = format!("conversion webhook for g/v1, Kind=W returned {expected}");
        assert!(error.starts_with(&text), "{error}");
    }
    let missing = checked(json!("x")).expect_err("no object");
    assert!(
        missing.ends_with("returned invalid object at index 0: Object 'Kind' is missing in '\"x\"'"),
        "{missing}"
    );
    // Labels and annotations may change, and go; the rest of the metadata stays.
    let converted = checked(convert(
        "/metadata",
        json!({"name": "a", "namespace": "ns", "uid": "u",
        "labels": {"m": "2"}, "finalizers": ["other"]}),
    ));
    let metadata =
        json!({"name": "a", "namespace": "ns", "uid": "u", "labels": {"m": "2"}, "finalizers": ["f"]});
    assert_eq!(converted.map(|all| all[0]["metadata"].clone()), Ok(metadata));
}

#[test]
fn of_several_objects_the_wrong_one_is_named() {
    let (first, second) = (original(), original());
    let mut good = original();
    good["apiVersion"] = "g/v2".into();
    let originals = [&first, &second];
    let of = |converted: Vec<Value>| check("g/v1, Kind=W", &originals, converted, "g/v2");
    let returned = "conversion webhook for g/v1, Kind=W returned";
    assert_eq!(
        of(vec![good.clone()]),
        Err(format!("{returned} 1 objects, expected 2"))
    );
    let mut renamed = good.clone();
    renamed["metadata"]["name"] = "b".into();
    assert_eq!(
        of(vec![good.clone(), renamed]),
        Err(format!(
            "{returned} invalid converted object at index 1: must have the same name: a != b"
        ))
    );
    let mut relabelled = good.clone();
    relabelled["metadata"]["labels"] = json!(1);
    assert_eq!(
        of(vec![good, relabelled]),
        Err(format!(
            "{returned} invalid metadata in object at index 1: invalid metadata.labels of type int64 in converted object"
        ))
    );
}

proptest! {
    /// Whatever comes back: what is accepted is of the version asked for, and the same object as before.
    #[test]
    fn what_is_accepted_is_the_same_object(
        api_version in "g/v[123]", name in "[ab]", uid in "[uv]",
        labels in proptest::option::of("[a-z]{1,3}"), finalizers in "[fg]", metadata in any::<bool>(),
    ) {
        let mut converted = json!({"apiVersion": api_version, "kind": "W", "spec": {"y": 1}});
        if metadata {
            converted["metadata"] = json!({"name": name, "namespace": "ns", "uid": uid, "finalizers": [finalizers]});
            if let Some(value) = &labels {
                converted["metadata"]["labels"] = json!({"l": value});
            }
        }
        let before = original();
        if let Ok(checked) = check("g/v1, Kind=W", &[&before], vec![converted], "g/v2") {
            prop_assert_eq!(&checked[0]["apiVersion"], "g/v2");
            let mut expected = before["metadata"].clone();
            let fields = expected.as_object_mut().expect("metadata");
            fields.remove("annotations");
            match labels {
                Some(value) => drop(fields.insert("labels".to_owned(), json!({"l": value}))),
                None => drop(fields.remove("labels")),
            }
            prop_assert_eq!(&checked[0]["metadata"], &expected);
        } else {
            prop_assert!(!metadata || api_version != "g/v2" || name != "a" || uid != "u");
        }
    }
}

/// Converts widgets: what v1 calls `x` and writes as it is, v2 calls `text` and writes in brackets. `filled`, which has
/// another default in each, is kept.
pub(crate) fn convert(asked: &Asked) -> Reply {
    let request = &asked.body["request"];
    let wanted = request["desiredAPIVersion"].as_str().unwrap_or_default();
    let objects = request["objects"].as_array().cloned().unwrap_or_default();
    let converted: Vec<Value> = objects
        .into_iter()
        .map(|mut object| {
            let to_v2 = wanted.ends_with("/v2");
            let (from, to) = if to_v2 { ("x", "text") } else { ("text", "x") };
            let before = object["spec"][from].as_str().unwrap_or_default().to_owned();
            let after = if to_v2 {
                format!("[{before}]")
            } else {
                before.trim_matches(['[', ']']).to_owned()
            };
            let filled = object["spec"]["filled"].clone();
            object["spec"] = json!({to: after, "filled": filled, "unknown": true});
            object["apiVersion"] = wanted.into();
            object
        })
        .collect();
    respond(
        asked,
        json!({"result": {"status": "Success"}, "convertedObjects": converted}),
    )
}

fn respond(asked: &Asked, mut response: Value) -> Reply {
    response["uid"] = asked.body["request"]["uid"].clone();
    Reply::Json(json!({
        "kind": "ConversionReview",
        "apiVersion": asked.body["apiVersion"],
        "response": response,
    }))
}

/// A definition of widgets whose versions differ; v1 is stored.
pub(crate) fn differing(client_config: Value) -> Value {
    let mut definition = widgets();
    let schema = |field: &str| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {
                field: {"type": "string"}, "filled": {"type": "string", "default": field}}}}}})
    };
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": schema("x")},
        {"name": "v2", "served": true, "storage": false, "schema": schema("text")},
    ]);
    definition["spec"]["conversion"] = json!({"strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": client_config}});
    definition
}

async fn served(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> (Server, Hook) {
    let (server, hook) = (Server::new().await, Hook::start(answer).await);
    let definition = server.define(differing(hook.client_config("/convert"))).await;
    assert!(view::is_true(&definition, "Established"), "{definition}");
    (server, hook)
}

fn widget(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

const V1: &str = "example.com/v1/default:widgets";
const V2: &str = "example.com/v2/default:widgets";

/// How many objects each call was about.
fn batches(hook: &Hook) -> Vec<usize> {
    let count = |asked: Asked| asked.body["request"]["objects"].as_array().map_or(0, Vec::len);
    hook.take().into_iter().map(count).collect()
}

async fn ok(server: &Server, verb: &str, path: &str, body: Value) -> Value {
    let (code, answer) = server.ask(verb, path, body).await;
    assert!(code < 300, "{verb} {path}: {code} {answer}");
    answer
}

#[tokio::test]
async fn an_object_is_read_in_either_version_and_stored_in_one() {
    let (server, hook) = served(convert).await;
    let made = ok(&server, "create", V2, widget("v2", "a", json!({"text": "one"}))).await;
    // It has been there and back.
    assert_eq!(
        (&made["apiVersion"], &made["spec"]),
        (
            &json!("example.com/v2"),
            &json!({"text": "[one]", "filled": "text"})
        )
    );
    assert_eq!(hook.asked()[0].path_and_query, "/convert?timeout=30s");
    let sent = &hook.asked()[0].body["request"]["objects"][0]["metadata"];
    assert_eq!(
        sent.get("resourceVersion"),
        None,
        "it has none before it is stored"
    );
    hook.take();
    let stored = ok(&server, "get", &format!("{V1}/a"), Value::Null).await;
    assert_eq!(
        (&stored["apiVersion"], &stored["spec"]),
        (&json!("example.com/v1"), &json!({"x": "one", "filled": "text"}))
    );
    assert!(
        batches(&hook).is_empty(),
        "what is stored like this is not converted"
    );

    let patched = ok(
        &server,
        "patch",
        &format!("{V2}/a"),
        json!({"spec": {"text": "[two]"}}),
    )
    .await;
    assert_eq!(patched["spec"]["text"], "[two]");
    assert_eq!(
        (&patched["metadata"]["generation"], &patched["metadata"]["uid"]),
        (&json!(2), &made["metadata"]["uid"])
    );
    let read = ok(&server, "get", &format!("{V1}/a"), Value::Null).await;
    assert_eq!(read["spec"]["x"], "two");
    assert_eq!(
        read["metadata"]["resourceVersion"],
        patched["metadata"]["resourceVersion"]
    );
    // The same once more changes nothing.
    let same = ok(
        &server,
        "patch",
        &format!("{V2}/a"),
        json!({"spec": {"text": "[two]"}}),
    )
    .await;
    assert_eq!(
        same["metadata"]["resourceVersion"],
        read["metadata"]["resourceVersion"]
    );

    let path = format!("{V2}/b?fieldManager=m");
    let applied = ok(&server, "apply", &path, widget("v2", "b", json!({"text": "[b]"}))).await;
    assert_eq!(applied["spec"]["text"], "[b]");
    let dry = ok(
        &server,
        "patch",
        &format!("{V2}/b?dryRun=All"),
        json!({"spec": {"text": "c"}}),
    )
    .await;
    assert_eq!(dry["spec"]["text"], "[c]", "a dry run goes there and back too");
    ok(&server, "delete", &format!("{V2}/b"), Value::Null).await;
    let (code, _) = server.ask("get", &format!("{V1}/b"), Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn what_was_stored_is_filled_in_by_its_own_version() {
    let (server, _hook) = served(convert).await;
    // As it was stored before its definition had a default.
    let mut bare = widget("v1", "a", json!({"x": "1"}));
    bare["metadata"]["namespace"] = "default".into();
    let put = Op::Put {
        key: "/registry/example.com/widgets/default/a".into(),
        value: bare.to_string().into(),
        ttl: None,
    };
    let txn = Txn {
        success: vec![put],
        ..Txn::default()
    };
    server.registry.store().txn(txn).await.expect("stores");
    for (path, expected) in [
        (V1, json!({"x": "1", "filled": "x"})),
        (V2, json!({"text": "[1]", "filled": "x"})),
    ] {
        let read = ok(&server, "get", &format!("{path}/a"), Value::Null).await;
        assert_eq!(read["spec"], expected);
    }
}

#[tokio::test]
async fn a_list_is_converted_at_once() {
    let (server, hook) = served(convert).await;
    for name in ["a", "b", "c"] {
        ok(&server, "create", V1, widget("v1", name, json!({"x": name}))).await;
    }
    assert!(batches(&hook).is_empty());
    let list = ok(&server, "list", V2, Value::Null).await;
    let texts: Vec<&Value> = view::items(&list, "items")
        .map(|item| &item["spec"]["text"])
        .collect();
    assert_eq!(texts, ["[a]", "[b]", "[c]"]);
    let versions: Vec<&Value> = view::items(&list, "items")
        .map(|item| &item["apiVersion"])
        .collect();
    assert_eq!(versions, ["example.com/v2"; 3]);
    assert_eq!(batches(&hook), [3]);
    let page = ok(&server, "list", &format!("{V2}?limit=2"), Value::Null).await;
    assert_eq!(view::items(&page, "items").count(), 2);
    assert_eq!(batches(&hook), [2]);
    ok(&server, "deletecollection", V2, Value::Null).await;
    let list = ok(&server, "list", V1, Value::Null).await;
    assert_eq!(view::items(&list, "items").count(), 0);
}

#[tokio::test]
async fn watches_see_their_own_version() {
    let (server, _hook) = served(convert).await;
    let watch = |path: &str| Server::request("watch", path, Value::Null);
    ok(&server, "create", V1, widget("v1", "a", json!({"x": "1"}))).await;
    let mut streams = Vec::new();
    for path in [V2, V2, &format!("{V2}?labelSelector=l")] {
        match server.registry.handle(watch(path)).await {
            Ok(ApiResponse::Watch { events, .. }) => streams.push(events),
            other => panic!("{path} answers {other:?}"),
        }
    }
    let change = json!({"metadata": {"labels": {"l": ""}}, "spec": {"x": "2"}});
    ok(&server, "patch", &format!("{V1}/a"), change).await;
    ok(&server, "delete", &format!("{V1}/a"), Value::Null).await;
    let expected = [
        &["ADDED [1]", "MODIFIED [2]", "DELETED [2]"][..],
        &["ADDED [1]", "MODIFIED [2]", "DELETED [2]"][..],
        &["ADDED [2]", "DELETED [2]"][..],
    ];
    for (stream, expected) in streams.into_iter().zip(expected) {
        let events: Vec<String> = stream
            .take(expected.len())
            .map(|event| {
                let event: Value = serde_json::from_slice(&event.json).unwrap_or_default();
                let object = &event["object"];
                assert_eq!(object["apiVersion"], "example.com/v2", "{event}");
                format!(
                    "{} {}",
                    view::text(&event, "type"),
                    view::text(&object["spec"], "text")
                )
            })
            .collect()
            .await;
        assert_eq!(events, expected);
    }
}

#[tokio::test]
async fn what_cannot_be_converted_is_told_of() {
    let (server, hook) = served(|asked| respond(asked, json!({"result": {"message": "cannot"}}))).await;
    ok(&server, "create", V1, widget("v1", "a", json!({"x": "1"}))).await;
    let failed = "conversion webhook for example.com/v1, Kind=Widget failed: cannot";
    let backwards = "conversion webhook for example.com/v2, Kind=Widget failed: cannot";
    for (verb, path, body, expected) in [
        ("get", format!("{V2}/a"), Value::Null, failed),
        ("list", V2.to_owned(), Value::Null, failed),
        ("delete", format!("{V2}/a"), Value::Null, failed),
        (
            "create",
            V2.to_owned(),
            widget("v2", "b", json!({"text": "1"})),
            backwards,
        ),
    ] {
        let (code, answer) = server.ask(verb, &path, body).await;
        assert_eq!(
            (code, &answer["message"]),
            (500, &json!(expected)),
            "{verb} {path}"
        );
    }
    // In the version that is stored all is well.
    ok(&server, "get", &format!("{V1}/a"), Value::Null).await;
    let watch = Server::request("watch", &format!("{V2}?resourceVersion=1"), Value::Null);
    let Ok(ApiResponse::Watch { mut events, .. }) = server.registry.handle(watch).await else {
        panic!("no watch")
    };
    let event = events.next().await.expect("an event");
    let event: Value = serde_json::from_slice(&event.json).unwrap_or_default();
    assert_eq!(
        (&event["type"], &event["object"]["message"]),
        (&json!("ERROR"), &json!(failed))
    );
    assert!(events.next().await.is_none(), "the watch ends with the error");
    drop(hook);
}

#[tokio::test]
async fn a_definition_that_is_mended_counts_at_once() {
    let (server, _broken) = served(|_| Reply::raw(500, "text/plain", "broken")).await;
    ok(&server, "create", V1, widget("v1", "a", json!({"x": "1"}))).await;
    let (code, answer) = server.ask("get", &format!("{V2}/a"), Value::Null).await;
    let expected = "conversion webhook for example.com/v1, Kind=Widget failed: an error on the server (\"broken\") has \
        prevented the request from succeeding";
    assert_eq!((code, &answer["message"]), (500, &json!(expected)));
    let good = Hook::start(convert).await;
    let path = format!("{GROUP}/v1/{PLURAL}/widgets.example.com");
    let change = json!({"spec": {"conversion": {"webhook": {"clientConfig": good.client_config("/")}}}});
    let mut changes = server.registry.resources().changes();
    ok(&server, "patch", &path, change).await;
    changes.changed().await;
    let read = ok(&server, "get", &format!("{V2}/a"), Value::Null).await;
    assert_eq!(read["spec"]["text"], "[1]");
    // And back to none: then only what the version is called changes.
    let none = json!({"spec": {"conversion": {"strategy": "None", "webhook": null}}});
    ok(&server, "patch", &path, none).await;
    changes.changed().await;
    let read = ok(&server, "get", &format!("{V2}/a"), Value::Null).await;
    assert_eq!(
        (&read["apiVersion"], &read["spec"]),
        (&json!("example.com/v2"), &json!({"filled": "x"}))
    );
}

#[tokio::test]
async fn authorities_have_to_make_sense_once_objects_may_exist() {
    let server = Server::new().await;
    let nonsense = json!({"url": "https://example.com", "caBundle": "bm9uc2Vuc2U="});
    let (code, answer) = {
        // Others may fill them in later.
        server.define(differing(nonsense.clone())).await;
        let path = format!("{GROUP}/v1/{PLURAL}/widgets.example.com");
        let good = Hook::start(convert).await;
        let bundle = good.client_config("/")["caBundle"].clone();
        let change = |bundle: &Value| json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": bundle}}}}});
        ok(&server, "patch", &path, change(&bundle)).await;
        server.ask("patch", &path, change(&nonsense["caBundle"])).await
    };
    let message = view::text(&answer, "message");
    let expected = "spec.conversion.webhookClientConfig.caBundle: Invalid value: \"bm9uc2Vuc2U=\": unable to load root \
        certificates: unable to parse bytes as PEM block";
    assert!(code == 422 && message.contains(expected), "{code} {message}");
}

#[tokio::test(start_paused = true)]
async fn a_conversion_has_no_more_time_than_its_request() {
    let (server, _hook) = served(|_| Reply::Never).await;
    ok(&server, "create", V1, widget("v1", "a", json!({"x": "1"}))).await;
    let (code, answer) = server
        .ask("get", &format!("{V2}/a?timeout=1s"), Value::Null)
        .await;
    let expected = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    assert_eq!((code, &answer["message"]), (504, &json!(expected)));
    let (code, answer) = server.ask("get", &format!("{V2}/a"), Value::Null).await;
    let message = view::text(&answer, "message");
    assert!(
        code == 500 && message.ends_with("?timeout=30s\": context deadline exceeded"),
        "{code} {message}"
    );
}
