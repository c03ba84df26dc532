//! Definitions and their objects through a registry over a store in memory, with the controller at work.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use trimtab_apiserver_storage::{Config, MemoryStore, WatchRequest};

use super::controller::{self, Terminating};
use super::{NoCreation, PLURAL, view};
use crate::admission::{Chain, Reader, StoreReader};
use crate::api::{ApiRequest, ApiResponse, BodyFormat, RequestInfo};
use crate::registry::{Registry, keys};
use crate::webhook::{Clients, ServiceAddresses};

pub(super) struct Server {
    pub(super) registry: Arc<Registry>,
    stop: CancellationToken,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Server {
    async fn over(store: Arc<MemoryStore>) -> Self {
        let registry = Arc::new(Registry::new(store.clone(), super::builtin()));
        let reader: Arc<dyn Reader> = Arc::new(StoreReader::new(store, registry.resources().clone()));
        let clients = Arc::new(Clients::new(Arc::new(ServiceAddresses::new(reader))));
        let (terminating, stop) = (Terminating::default(), CancellationToken::new());
        registry.set_admission(Arc::new(Chain::default().then(NoCreation(terminating.clone()))));
        controller::start(&registry, terminating, clients, stop.clone())
            .await
            .expect("the controller starts");
        Self { registry, stop }
    }

    pub(super) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(Config::default()))).await
    }

    /// `path` is `GROUP/VERSION/[NAMESPACE:]RESOURCE[/NAME[/SUBRESOURCE]][?QUERY]`; `PATCH` is a merge patch, and `APPLY`
    /// one of server-side apply.
    pub(super) async fn ask(&self, verb: &str, path: &str, body: Value) -> (u16, Value) {
        match self
            .registry
            .handle(Self::request(verb, path, body))
            .await
            .and_then(ApiResponse::decoded)
        {
            Ok(ApiResponse::Value { code, value, .. }) => (code, value),
            Ok(_) => (200, Value::Null),
            Err(error) => (error.code, json!({"message": error.message})),
        }
    }

    pub(super) fn request(verb: &str, path: &str, body: Value) -> ApiRequest {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let mut parts = path.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (group, version, resource) = (next(), next(), next());
        let (namespace, resource) = match resource.split_once(':') {
            Some((namespace, resource)) => (namespace.to_owned(), resource.to_owned()),
            None => (String::new(), resource),
        };
        let info = RequestInfo {
            verb: verb.replace("apply", "patch"),
            group,
            version,
            namespace,
            resource,
            name: next(),
            subresource: next(),
            ..RequestInfo::default()
        };
        ApiRequest {
            info,
            query: form_urlencoded::parse(query.as_bytes()).into_owned().collect(),
            body_format: match verb {
                "patch" => BodyFormat::MergePatch,
                "apply" => BodyFormat::ApplyPatch,
                _ => BodyFormat::Json,
            },
            body: if body.is_null() {
                Bytes::new()
            } else {
                body.to_string().into()
            },
            ..ApiRequest::default()
        }
    }

    async fn definition(&self, name: &str) -> (u16, Value) {
        let path = format!("{}/v1/{PLURAL}/{name}", super::GROUP);
        self.ask("get", &path, Value::Null).await
    }

    /// Waits until the definition is as wanted; the test's own time limit is the runner's.
    pub(super) async fn until(&self, name: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        loop {
            let revision = self.registry.store().revision().await.expect("the store is open");
            let (code, definition) = self.definition(name).await;
            if wanted(code, &definition) {
                return definition;
            }
            let watch = WatchRequest::prefix(keys::ROOT).from(revision + 1);
            let mut changes = self.registry.store().watch(watch).await.expect("watches");
            changes.next().await;
        }
    }

    pub(super) async fn define(&self, definition: Value) -> Value {
        let path = format!("{}/v1/{PLURAL}", super::GROUP);
        let name = definition["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        let (code, answer) = self.ask("create", &path, definition).await;
        assert_eq!(code, 201, "{answer}");
        self.until(&name, |_, d| view::condition(d, "NamesAccepted").is_some())
            .await
    }
}

/// A definition of widgets with two versions; v1 is stored.
pub(super) fn widgets() -> Value {
    let schema = |default: &str| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": {"x": {"type": "string"},
                "y": {"type": "string", "default": default}}},
            "status": {"type": "object", "properties": {"ok": {"type": "boolean"}}}}}})
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": schema("one"),
                    "subresources": {"status": {}}},
                {"name": "v2", "served": true, "storage": false, "schema": schema("two")},
            ],
        },
    })
}

fn widget(version: &str, name: &str) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name},
        "spec": {"x": "1", "unknown": true}, "status": {"ok": true}})
}

#[tokio::test]
async fn what_is_established_is_served() {
    let store = Arc::new(MemoryStore::new(Config::default()));
    let server = Server::over(store.clone()).await;
    let definition = server.define(widgets()).await;
    assert!(view::is_true(&definition, "Established"), "{definition}");
    let (code, made) = server
        .ask("create", "example.com/v1/default:widgets", widget("v1", "a"))
        .await;
    assert_eq!((code, &made["spec"]), (201, &json!({"x": "1", "y": "one"})));
    assert_eq!(made.get("status"), None, "the status has its own path");
    drop(server);

    let again = Server::over(store).await;
    let (code, list) = again.ask("list", "example.com/v1/widgets", Value::Null).await;
    assert_eq!((code, &list["items"][0]["metadata"]["name"]), (200, &json!("a")));
}

#[tokio::test]
async fn every_version_sees_the_same_objects() {
    let server = Server::new().await;
    server.define(widgets()).await;
    let (code, made) = server
        .ask("create", "example.com/v2/default:widgets", widget("v2", "a"))
        .await;
    assert_eq!(
        (code, &made["spec"]["y"], &made["status"]),
        (201, &json!("two"), &json!({"ok": true}))
    );
    let (_, read) = server
        .ask("get", "example.com/v1/default:widgets/a", Value::Null)
        .await;
    assert_eq!(
        (&read["apiVersion"], &read["spec"]["y"]),
        (&json!("example.com/v1"), &json!("two"))
    );
    // A status is no change of what is wanted where it is written by itself, and one where it is not.
    for (path, body, generation) in [
        ("v1/default:widgets/a/status", json!({"status": {"ok": false}}), 1),
        ("v2/default:widgets/a", json!({"status": {"ok": true}}), 2),
        (
            "v1/default:widgets/a",
            json!({"spec": {"x": "2"}, "status": {"ok": false}}),
            3,
        ),
    ] {
        let (code, patched) = server.ask("patch", &format!("example.com/{path}"), body).await;
        assert_eq!(
            (code, &patched["metadata"]["generation"]),
            (200, &json!(generation)),
            "{path}"
        );
    }
    let (_, read) = server
        .ask("get", "example.com/v2/default:widgets/a", Value::Null)
        .await;
    assert_eq!(
        (&read["spec"]["x"], &read["status"]["ok"]),
        (&json!("2"), &json!(true))
    );
}

/// Versions without a webhook differ in their names, and in what they know: the stored one keeps what it knows, and each
/// shows of that what it knows itself.
#[tokio::test]
async fn what_a_version_does_not_know_is_dropped_on_the_way() {
    let server = Server::new().await;
    let schema = |own: &str| {
        json!({"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {
            "name": {"type": "string"}, own: {"type": "string"},
            format!("default-{own}"): {"type": "string", "default": own}}}}}})
    };
    let mut definition = widgets();
    definition["spec"]["versions"] = json!([
        {"name": "v1", "served": true, "storage": true, "schema": schema("old")},
        {"name": "v2", "served": true, "storage": false, "schema": schema("new")},
    ]);
    server.define(definition.clone()).await;
    let object = |version: &str, name: &str| {
        json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name},
            "spec": {"name": "n", "old": "o", "new": "n"}})
    };
    let steps = async |steps: Vec<(&str, &str, Value, Value)>| {
        for (verb, path, body, spec) in steps {
            let path = format!("example.com/{path}");
            let (code, answer) = server.ask(verb, &path, body).await;
            assert!(code < 300 && answer["spec"] == spec, "{verb} {path}: {answer}");
        }
    };
    let name = |name: &str| json!({"name": name});
    let old = json!({"name": "n", "old": "o", "default-old": "old"});
    let create = [
        ("v1/default:widgets", "v1", "a"),
        ("v2/default:widgets", "v2", "b"),
    ];
    let [first, second] = create.map(|(path, version, name)| (path, object(version, name)));
    steps(vec![
        ("create", first.0, first.1, old.clone()),
        ("create", second.0, second.1, name("n")),
        ("get", "v1/default:widgets/a", Value::Null, old),
        ("get", "v2/default:widgets/a", Value::Null, name("n")),
        (
            "get",
            "v1/default:widgets/b",
            Value::Null,
            json!({"name": "n", "default-old": "old"}),
        ),
        // What is changed by one version loses what that does not know.
        (
            "patch",
            "v2/default:widgets/a",
            json!({"spec": {"name": "m"}}),
            name("m"),
        ),
        (
            "get",
            "v1/default:widgets/a",
            Value::Null,
            json!({"name": "m", "default-old": "old"}),
        ),
    ])
    .await;
    let (_, list) = server.ask("list", "example.com/v2/widgets", Value::Null).await;
    assert_eq!(
        [&list["items"][0]["spec"], &list["items"][1]["spec"]],
        [&name("m"), &name("n")]
    );
    let mut versions = definition["spec"]["versions"].clone();
    versions[0]["storage"] = json!(false);
    versions[1]["storage"] = json!(true);
    let path = format!("apiextensions.k8s.io/v1/{PLURAL}/widgets.example.com");
    let (code, answer) = server
        .ask("patch", &path, json!({"spec": {"versions": versions}}))
        .await;
    assert_eq!(code, 200, "{answer}");
    // Until the other version is the stored one, what is read of it has no default of its own.
    let stored = async {
        while server
            .ask("get", "example.com/v2/default:widgets/a", Value::Null)
            .await
            .1["spec"]
            == name("m")
        {
            let put = server
                .ask(
                    "patch",
                    "example.com/v1/default:widgets/a",
                    json!({"spec": {"old": "p"}}),
                )
                .await;
            assert_eq!(put.0, 200, "{put:?}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), stored)
        .await
        .expect("the definition takes effect");
    steps(vec![
        (
            "patch",
            "v1/default:widgets/a",
            json!({"spec": {"old": "q"}}),
            name("m"),
        ),
        (
            "get",
            "v2/default:widgets/a",
            Value::Null,
            json!({"name": "m", "default-new": "new"}),
        ),
    ])
    .await;
}

#[tokio::test]
async fn metadata_has_types_whatever_the_schema_says() {
    let server = Server::new().await;
    server.define(widgets()).await;
    for (metadata, expected) in [
        (
            json!({"name": "a", "labels": {"k": 1}}),
            "cannot unmarshal number into Go struct field ObjectMeta.labels",
        ),
        (
            json!({"name": "a", "finalizers": "f"}),
            "cannot unmarshal string into Go struct field ObjectMeta.finalizers",
        ),
        (
            json!("a"),
            "cannot unmarshal string into Go value of type v1.ObjectMeta",
        ),
    ] {
        let mut object = widget("v1", "a");
        object["metadata"] = metadata;
        let (code, answer) = server
            .ask("create", "example.com/v1/default:widgets", object)
            .await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(code == 400 && message.contains(expected), "{code} {message}");
    }
}

#[tokio::test]
async fn a_definition_goes_when_its_objects_are_gone() {
    let server = Server::new().await;
    server.define(widgets()).await;
    let mut held = widget("v1", "held");
    held["metadata"]["finalizers"] = json!(["example.com/f"]);
    for object in [widget("v1", "free"), held] {
        let (code, _) = server
            .ask("create", "example.com/v1/default:widgets", object)
            .await;
        assert_eq!(code, 201);
    }
    let path = format!("{}/v1/{PLURAL}/widgets.example.com", super::GROUP);
    let (code, marked) = server.ask("delete", &path, Value::Null).await;
    assert_eq!(
        (code, &marked["metadata"]["finalizers"]),
        (200, &json!([super::FINALIZER]))
    );
    server
        .until("widgets.example.com", |_, d| {
            view::condition(d, "Terminating").is_some_and(|c| c["reason"] == "InstanceDeletionInProgress")
        })
        .await;
    let (code, refused) = server
        .ask("create", "example.com/v1/default:widgets", widget("v1", "late"))
        .await;
    assert_eq!(code, 403, "{refused}");
    let unheld = json!({"metadata": {"finalizers": null}});
    let (code, _) = server
        .ask("patch", "example.com/v1/default:widgets/held", unheld)
        .await;
    assert_eq!(code, 200);
    server.until("widgets.example.com", |code, _| code == 404).await;
    let mut changes = server.registry.resources().changes();
    while server
        .registry
        .resources()
        .get("example.com", "v1", "widgets")
        .is_some()
    {
        changes.changed().await;
    }
    let (code, _) = server.ask("list", "example.com/v1/widgets", Value::Null).await;
    assert_eq!(code, 404);
}

#[tokio::test]
async fn a_name_that_is_given_up_goes_to_who_waits_for_it() {
    let server = Server::new().await;
    server.define(widgets()).await;
    let mut second = widgets();
    second["metadata"]["name"] = "gadgets.example.com".into();
    second["spec"]["names"]["plural"] = "gadgets".into();
    let refused = server.define(second).await;
    assert!(!view::is_true(&refused, "Established"));
    assert_eq!(
        view::condition(&refused, "NamesAccepted").map(|c| &c["reason"]),
        Some(&json!("ListKindConflict"))
    );
    let (code, _) = server.ask("list", "example.com/v1/gadgets", Value::Null).await;
    assert_eq!(code, 404);
    let path = format!("{}/v1/{PLURAL}/widgets.example.com", super::GROUP);
    server.ask("delete", &path, Value::Null).await;
    server
        .until("gadgets.example.com", |_, d| view::is_true(d, "Established"))
        .await;
    let (code, _) = server.ask("list", "example.com/v1/gadgets", Value::Null).await;
    assert_eq!(code, 200);
}

#[tokio::test]
async fn wrong_definitions_are_refused_by_field() {
    let server = Server::new().await;
    let webhook = |client: Value, versions: Value| {
        json!({"strategy": "Webhook",
            "webhook": {"conversionReviewVersions": versions, "clientConfig": client}})
    };
    let url = || json!({"url": "https://example.com"});
    let cases: [(&str, Value, &str); 16] = [
        (
            "/metadata/name",
            json!("x.example.com"),
            "must be spec.names.plural+\".\"+spec.group",
        ),
        (
            "/spec/group",
            json!("example"),
            "spec.group: Invalid value: \"example\": should be a domain with at least",
        ),
        (
            "/spec/scope",
            json!("Everywhere"),
            "supported values: \"Cluster\", \"Namespaced\"",
        ),
        (
            "/spec/names/kind",
            json!("a b"),
            "may have mixed case, but should otherwise match: a DNS-1035 label",
        ),
        (
            "/spec/versions/1/storage",
            json!(true),
            "must have exactly one version marked as storage version",
        ),
        (
            "/spec/versions/1/name",
            json!("v1"),
            "must contain unique version names",
        ),
        (
            "/spec/versions/1/schema",
            json!(null),
            "spec.versions[1].schema.openAPIV3Schema: Required value",
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".spec.r",
            "statusReplicasPath": ".r"}}),
            "scale.statusReplicasPath: Invalid value: \".r\": should be a json path",
        ),
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "A", "type": "text", "jsonPath": ".a"}]),
            "additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer",
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.z"}]),
            "does not refer to a valid field",
        ),
        (
            "/spec/versions/0/deprecationWarning",
            json!("w"),
            "can only be set for deprecated versions",
        ),
        (
            "/spec/conversion",
            webhook(url(), json!(["v2"])),
            "spec.conversion.conversionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "/spec/conversion",
            webhook(url(), json!(["v1", "v1"])),
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            "/spec/conversion",
            webhook(json!({"url": "http://example.com"}), json!(["v1"])),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ),
        (
            "/spec/conversion",
            webhook(
                json!({"service": {"namespace": "n", "name": "s", "path": "x"}}),
                json!(["v1"]),
            ),
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"x\": must start with a '/'",
        ),
        (
            "/spec/conversion",
            webhook(json!({}), json!(["v1"])),
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
        ),
    ];
    for (pointer, value, expected) in cases {
        let mut definition = widgets();
        let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
        definition.pointer_mut(parent).expect("a parent")[field] = value;
        let (code, answer) = server
            .ask("create", &format!("{}/v1/{PLURAL}", super::GROUP), definition)
            .await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(
            code == 422 && message.contains(expected),
            "{pointer}: {code} {message}"
        );
    }
}

#[tokio::test]
async fn what_objects_depend_on_does_not_change() {
    let server = Server::new().await;
    server.define(widgets()).await;
    let path = format!("{}/v1/{PLURAL}/widgets.example.com", super::GROUP);
    for (change, expected) in [
        (
            json!({"spec": {"scope": "Cluster"}}),
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
        ),
        (
            json!({"spec": {"names": {"kind": "W"}}}),
            "spec.names.kind: Invalid value: \"W\": field is immutable",
        ),
        (
            json!({"spec": {"names": {"plural": "ws"}}}),
            "spec.names.plural: Invalid value: \"ws\": field is immutable",
        ),
        (
            json!({"spec": {"versions": [{"name": "v2", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object"}}}]}}),
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously",
        ),
    ] {
        let (code, answer) = server.ask("patch", &path, change).await;
        let message = answer["message"].as_str().unwrap_or_default();
        assert!(code == 422 && message.contains(expected), "{code} {message}");
    }
}

/// As deep as a definition can be, in a schema that has rules all the way down.
#[tokio::test]
async fn deep_objects_are_judged() {
    let server = Server::new().await;
    let deepest = 44;
    let leaf = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let spec = (0..deepest).fold(leaf, |inner, _| {
        json!({"type": "object", "properties": {"a": inner, "b": {"type": "string"}},
            "x-kubernetes-validations": [{"rule": "!has(self.b) || self.b == 'fine'", "message": "not fine"}]})
    });
    let mut definition = widgets();
    definition["spec"]["versions"] = json!([{"name": "v1", "served": true, "storage": true,
        "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}]);
    server.define(definition).await;
    let deep = |b: &str| {
        (1..deepest).fold(
            json!({"a": {"x": [[{}]]}, "b": b}),
            |inner, _| json!({"a": inner}),
        )
    };
    let object = |b: &str| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "deep"}, "spec": deep(b)});
    let all = "example.com/v1/default:widgets";
    let (code, answer) = server.ask("create", all, object("wrong")).await;
    let message = answer["message"].as_str().unwrap_or_default();
    assert!(
        code == 422 && message.ends_with(".a: Invalid value: not fine"),
        "{code} {message}"
    );
    let (code, _) = server.ask("create", all, object("fine")).await;
    assert_eq!(code, 201);
    let one = format!("{all}/deep");
    for (verb, path) in [
        ("apply", format!("{one}?fieldManager=f&force=true")),
        ("patch", one.clone()),
    ] {
        let (code, answer) = server.ask(verb, &path, object("fine")).await;
        assert_eq!(code, 200, "{verb} {answer}");
    }
}
