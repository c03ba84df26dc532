//! Creating, reading, changing and deleting objects.

use serde_json::{Value, json};

use super::kit::{Server, contains};

fn named(name: &str) -> Value {
    json!({"metadata": {"name": name}})
}

fn widget(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn an_object_lives_and_goes() {
    let server = Server::new();
    let body =
        json!({"metadata": {"name": "a", "uid": "x", "generation": 7, "selfLink": "/"}, "data": {"k": "v"}});
    let created = server.ok("POST", "ns/configmaps", body, 201).await;
    assert!(
        contains(
            &created,
            &json!({"kind": "ConfigMap", "apiVersion": "v1", "data": {"k": "v"},
        "metadata": {"name": "a", "namespace": "ns", "generation": 7}})
        ),
        "{created}"
    );
    assert_ne!(created["metadata"]["uid"], "x");
    assert_eq!(
        server.ok("GET", "ns/configmaps/a", Value::Null, 200).await,
        created
    );

    let same = server
        .ok(
            "PUT",
            "ns/configmaps/a",
            json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
            200,
        )
        .await;
    assert_eq!(
        same["metadata"]["resourceVersion"], created["metadata"]["resourceVersion"],
        "nothing has changed"
    );
    let put = server
        .ok(
            "PUT",
            "ns/configmaps/a",
            json!({"metadata": {"name": "a"}, "data": {"k": "w"}}),
            200,
        )
        .await;
    assert_eq!(put["metadata"]["uid"], created["metadata"]["uid"]);

    let stale = json!({"metadata": {"name": "a", "resourceVersion": created["metadata"]["resourceVersion"]}});
    server.ok("PUT", "ns/configmaps/a", stale, 409).await;
    let status = server.ok("DELETE", "ns/configmaps/a", Value::Null, 200).await;
    assert_eq!(
        status["details"],
        json!({"name": "a", "kind": "configmaps", "uid": created["metadata"]["uid"]})
    );
    server.ok("GET", "ns/configmaps/a", Value::Null, 404).await;
}

#[tokio::test]
async fn what_is_wrong_is_refused_in_the_servers_words() {
    let server = Server::new();
    server.ok("POST", "ns/configmaps", named("there"), 201).await;
    let kind = |kind: &str, api: &str| json!({"kind": kind, "apiVersion": api, "metadata": {"name": "a"}});
    let cases = [
        (
            "POST",
            "ns/configmaps",
            json!({}),
            422,
            "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required",
        ),
        (
            "POST",
            "ns/configmaps",
            named("there"),
            409,
            "configmaps \"there\" already exists",
        ),
        (
            "POST",
            "ns/configmaps?dryRun=All",
            named("there"),
            409,
            "configmaps \"there\" already exists",
        ),
        (
            "POST",
            "ns/configmaps",
            json!({"metadata": {"name": "a", "namespace": "other"}}),
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            "POST",
            "ns/configmaps",
            json!({"metadata": {"name": "a", "resourceVersion": "5"}}),
            500,
            "resourceVersion should not be set on objects to be created",
        ),
        (
            "POST",
            "ns/configmaps",
            kind("Nosuch", "v1"),
            400,
            "Nosuch in version \"v1\" cannot be handled as a ConfigMap: no kind \"Nosuch\" is registered for version \
             \"v1\" in scheme \"k8s.io/kubernetes/pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            "POST",
            "ns/configmaps?fieldValidation=Strict",
            json!({"metadata": {"name": "a"}, "nosuch": 1}),
            400,
            "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: strict decoding error: unknown field \"nosuch\"",
        ),
        (
            "POST",
            "ns/configmaps?fieldValidation=Maybe",
            named("a"),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: fieldValidation: Unsupported value: \"Maybe\": supported values: \
             \"\", \"Ignore\", \"Strict\", \"Warn\"",
        ),
        (
            "PUT",
            "ns/configmaps/there",
            named("b"),
            400,
            "the name of the object (b) does not match the name on the URL (there)",
        ),
        (
            "PUT",
            "ns/configmaps/nosuch",
            named("nosuch"),
            404,
            "configmaps \"nosuch\" not found",
        ),
        (
            "PUT",
            "ns/configmaps/there",
            json!({"metadata": {"name": "there", "resourceVersion": "abc"}}),
            500,
            "strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "POST",
            "-/configmaps",
            named("a"),
            405,
            "the server does not allow this method on the requested resource",
        ),
        (
            "GET",
            "ns/configmaps?limit=abc",
            Value::Null,
            400,
            "strconv.ParseInt: parsing \"abc\": invalid syntax",
        ),
        (
            "GET",
            "ns/configmaps?resourceVersionMatch=Exact",
            Value::Null,
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden \
             unless resourceVersion is provided",
        ),
        (
            "GET",
            "ns/configmaps?fieldSelector=data.k%3Dv",
            Value::Null,
            400,
            "\"data.k\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (
            "DELETE",
            "ns/configmaps/there?propagationPolicy=Sideways",
            Value::Null,
            422,
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: \"Sideways\": supported \
             values: \"Foreground\", \"Background\", \"Orphan\", \"nil\"",
        ),
        (
            "DELETE",
            "ns/configmaps/there",
            json!({"preconditions": {"resourceVersion": "1"}}),
            409,
            "Operation cannot be fulfilled on ConfigMap \"there\": the ResourceVersion in the precondition (1) does not \
             match the ResourceVersion in record (2). The object might have been modified",
        ),
        (
            "PATCH/strategic",
            "ns/widgets/a",
            json!({}),
            415,
            "the body of the request was in an unknown format - accepted media types include: \
             application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        ),
        (
            "PATCH/apply",
            "ns/configmaps/a",
            json!({}),
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
    ];
    for (method, path, body, code, message) in cases {
        let (got, status, _) = server.call(method, path, body).await;
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message)),
            "{method} {path}"
        );
    }
}

#[tokio::test]
async fn unknown_and_repeated_fields_are_warned_of() {
    let server = Server::new();
    let body = r#"{"metadata":{"name":"a","name":"b"},"data":{"k":"v","k":"w"},"nosuch":1}"#;
    let (code, object, warnings) = server.raw("POST", "ns/configmaps", body).await;
    assert_eq!((code, &object["data"]), (201, &json!({"k": "w"})));
    let expected = [
        "duplicate field \"metadata.name\"",
        "duplicate field \"data.k\"",
        "unknown field \"nosuch\"",
    ];
    assert_eq!(warnings, expected);
}

#[tokio::test]
async fn names_are_generated() {
    let server = Server::new();
    let body = json!({"metadata": {"generateName": "pre-"}});
    let created = server.ok("POST", "ns/configmaps", body, 201).await;
    let name = created["metadata"]["name"].as_str().unwrap_or_default();
    assert!(name.starts_with("pre-") && name.len() == 9, "{name}");
}

#[tokio::test]
async fn dry_runs_store_nothing() {
    let server = Server::new();
    let dry = server
        .ok("POST", "ns/configmaps?dryRun=All", named("a"), 201)
        .await;
    assert_eq!(dry["metadata"]["resourceVersion"], Value::Null);
    server.ok("GET", "ns/configmaps/a", Value::Null, 404).await;
    let created = server.ok("POST", "ns/configmaps", named("a"), 201).await;
    server
        .ok(
            "PATCH/merge",
            "ns/configmaps/a?dryRun=All",
            json!({"data": {"k": "v"}}),
            200,
        )
        .await;
    server
        .ok("DELETE", "ns/configmaps/a?dryRun=All", Value::Null, 200)
        .await;
    server
        .ok("DELETE", "ns/configmaps?dryRun=All", Value::Null, 200)
        .await;
    assert_eq!(
        server.ok("GET", "ns/configmaps/a", Value::Null, 200).await,
        created
    );
}

/// A PUT makes objects of some kinds; what changes something that is there makes none, of no kind.
#[tokio::test]
async fn what_is_not_there_cannot_be_patched() {
    let server = Server::new();
    for (resource, by_put) in [("configmaps", 404), ("notes", 201)] {
        let place = format!("ns/{resource}/a");
        for (method, patch) in [
            ("PATCH/merge", json!({"metadata": {"name": "a"}})),
            (
                "PATCH/json",
                json!([{"op": "add", "path": "/metadata", "value": {"name": "a"}}]),
            ),
            ("PATCH/strategic", json!({"metadata": {"name": "a"}})),
        ] {
            let refused = server.ok(method, &place, patch, 404).await;
            let words = format!("{resource} \"a\" not found");
            assert_eq!(refused["message"], words, "{method}");
        }
        let object = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
        server.ok("PUT", &place, object, by_put).await;
    }
}

#[tokio::test]
async fn all_forms_of_patch_change_what_they_say() {
    let server = Server::new();
    let body = json!({"metadata": {"name": "a"}, "data": {"k": "v", "l": "w"}});
    server.ok("POST", "ns/configmaps", body, 201).await;
    let cases = [
        (
            "PATCH/merge",
            json!({"data": {"l": null, "m": "1"}}),
            json!({"k": "v", "m": "1"}),
        ),
        (
            "PATCH/json",
            json!([{"op": "replace", "path": "/data/k", "value": "z"}]),
            json!({"k": "z", "m": "1"}),
        ),
        (
            "PATCH/strategic",
            json!({"data": {"$patch": "replace", "n": "2"}}),
            json!({"n": "2"}),
        ),
    ];
    for (method, patch, data) in cases {
        assert_eq!(
            server.ok(method, "ns/configmaps/a", patch, 200).await["data"],
            data,
            "{method}"
        );
    }
    let config =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "v"}});
    server
        .ok(
            "PATCH/apply",
            "ns/configmaps/b?fieldManager=m",
            config.clone(),
            201,
        )
        .await;
    let first = server.ok("GET", "ns/configmaps/b", Value::Null, 200).await;
    let again = server
        .ok(
            "PATCH/apply",
            "ns/configmaps/b?fieldManager=m",
            config.clone(),
            200,
        )
        .await;
    assert_eq!(first, again, "applying again changes nothing");
    let other =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}, "data": {"k": "w"}});
    let conflict = server
        .ok("PATCH/apply", "ns/configmaps/b?fieldManager=n", other, 409)
        .await;
    assert_eq!(
        conflict["message"],
        "Apply failed with 1 conflict: conflict with \"m\": .data.k"
    );
}

#[tokio::test]
async fn finalizers_hold_what_is_deleted() {
    let server = Server::new();
    let body = json!({"metadata": {"name": "a", "finalizers": ["example.com/f"]}});
    server.ok("POST", "ns/configmaps", body, 201).await;
    let deleting = server.ok("DELETE", "ns/configmaps/a", Value::Null, 200).await;
    assert_eq!(deleting["metadata"]["deletionGracePeriodSeconds"], 0);
    let again = server.ok("DELETE", "ns/configmaps/a", Value::Null, 200).await;
    assert_eq!(again, deleting, "deleting again changes nothing");
    let more = json!({"metadata": {"finalizers": ["example.com/f", "example.com/g"]}});
    let refused = server.ok("PATCH/merge", "ns/configmaps/a", more, 422).await;
    assert_eq!(
        refused["details"]["causes"].as_array().map(Vec::len),
        Some(2),
        "{refused}"
    );
    server
        .ok(
            "PATCH/merge",
            "ns/configmaps/a",
            json!({"metadata": {"finalizers": null}}),
            200,
        )
        .await;
    server.ok("GET", "ns/configmaps/a", Value::Null, 404).await;
}

#[tokio::test]
async fn dependents_are_dealt_with_by_finalizers() {
    let server = Server::new();
    for (policy, finalizer) in [("Foreground", "foregroundDeletion"), ("Orphan", "orphan")] {
        server.ok("POST", "ns/configmaps", named("a"), 201).await;
        let path = format!("ns/configmaps/a?propagationPolicy={policy}");
        let marked = server.ok("DELETE", &path, Value::Null, 200).await;
        assert_eq!(marked["metadata"]["finalizers"], json!([finalizer]));
        server
            .ok(
                "PATCH/merge",
                "ns/configmaps/a",
                json!({"metadata": {"finalizers": []}}),
                200,
            )
            .await;
    }
}

#[tokio::test]
async fn grace_periods_are_kept_and_only_shortened() {
    let server = Server::new();
    server
        .ok("POST", "ns/widgets", widget("a", json!({"grace": 30})), 201)
        .await;
    let steps = [
        ("", 30),
        ("?gracePeriodSeconds=50", 30),
        ("?gracePeriodSeconds=5", 5),
    ];
    for (query, seconds) in steps {
        let marked = server
            .ok("DELETE", &format!("ns/widgets/a{query}"), Value::Null, 200)
            .await;
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], seconds);
        assert_eq!(marked["metadata"]["generation"], 2);
    }
    server
        .ok("DELETE", "ns/widgets/a?gracePeriodSeconds=0", Value::Null, 200)
        .await;
    server.ok("GET", "ns/widgets/a", Value::Null, 404).await;
}

#[tokio::test]
async fn generation_counts_changes_of_the_spec_and_status_is_written_by_itself() {
    let server = Server::new();
    let mut body = widget("a", json!({"x": 1}));
    body["status"] = json!({"ok": true});
    let created = server.ok("POST", "ns/widgets", body, 201).await;
    assert_eq!(
        (&created["metadata"]["generation"], &created["status"]),
        (&json!(1), &Value::Null)
    );
    let steps = [
        (
            "ns/widgets/a",
            json!({"spec": {"x": 2}, "status": {"ok": false}}),
            2,
            json!(2),
            Value::Null,
        ),
        (
            "ns/widgets/a/status",
            json!({"spec": {"x": 3}, "status": {"ok": true}}),
            2,
            json!(2),
            json!({"ok": true}),
        ),
        (
            "ns/widgets/a",
            json!({"metadata": {"labels": {"l": "v"}}}),
            2,
            json!(2),
            json!({"ok": true}),
        ),
    ];
    for (path, patch, generation, x, status) in steps {
        let patched = server.ok("PATCH/merge", path, patch.clone(), 200).await;
        assert_eq!(patched["metadata"]["generation"], generation, "{patch}");
        assert_eq!(
            (&patched["spec"]["x"], &patched["status"]),
            (&x, &status),
            "{patch}"
        );
    }
    let put = widget("a", json!({"x": 4}));
    let refused = server.ok("PUT", "ns/widgets/a", put, 422).await;
    let message = "widgets.example.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified \
                   for an update";
    assert_eq!(refused["message"], message);
}

#[tokio::test]
async fn scales_are_windows_on_the_object() {
    let server = Server::new();
    server
        .ok("POST", "ns/widgets", widget("a", json!({"replicas": 2})), 201)
        .await;
    let scale = server.ok("GET", "ns/widgets/a/scale", Value::Null, 200).await;
    let expected = json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 2}, "status": {"replicas": 0}});
    assert!(contains(&scale, &expected), "{scale}");
    server
        .ok(
            "PATCH/merge",
            "ns/widgets/a/scale",
            json!({"spec": {"replicas": 3}}),
            200,
        )
        .await;
    let mut put = scale.clone();
    put["spec"]["replicas"] = 4.into();
    server.ok("PUT", "ns/widgets/a/scale", put.clone(), 409).await;
    put["metadata"]["resourceVersion"] = Value::Null;
    put["metadata"]["uid"] = Value::Null;
    let object = server.ok("GET", "ns/widgets/a", Value::Null, 200).await;
    assert_eq!(
        (&object["spec"]["replicas"], &object["metadata"]["generation"]),
        (&json!(3), &json!(2))
    );
}
