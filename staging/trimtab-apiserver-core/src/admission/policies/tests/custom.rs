//! Policies about custom resources, with params that are some.

use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::kit::{bind, mutating, validating};
use crate::admission::StoreReader;
use crate::admission::kit::Server;
use crate::crd::controller::{self, Terminating};
use crate::webhook::{Clients, ServiceAddresses};

const DEFINITIONS: &str = "apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(plural: &str, kind: &str, scope: &str) -> Value {
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {
        "size": {"type": "integer"},
        "color": {"type": "string", "default": "red"},
        "parts": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "weight": {"type": "integer", "default": 1}}}},
    }}}});
    let version = |name: &str, storage: bool| json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema}});
    json!({"metadata": {"name": format!("{plural}.example.com")}, "spec": {
        "group": "example.com", "scope": scope, "names": {"plural": plural, "kind": kind},
        "versions": [version("v1", true), version("v1beta1", false)],
    }})
}

/// A server that serves widgets, which are in namespaces, and limits, which are not.
async fn server() -> (Server, CancellationToken) {
    let server = Server::new().await;
    let (registry, stop) = (&server.registry, CancellationToken::new());
    let reader = StoreReader::new(registry.store().clone(), registry.resources().clone());
    let clients = Arc::new(Clients::new(Arc::new(ServiceAddresses::new(Arc::new(reader)))));
    controller::start(registry, Terminating::default(), clients, stop.clone())
        .await
        .expect("starts");
    for (plural, kind, scope) in [
        ("widgets", "Widget", "Namespaced"),
        ("limits", "Limit", "Cluster"),
    ] {
        let mut changes = registry.resources().changes();
        server
            .ok("create", DEFINITIONS, definition(plural, kind, scope))
            .await;
        while registry.resources().get("example.com", "v1", plural).is_none() {
            changes.changed().await;
        }
    }
    (server, stop)
}

fn widget(version: &str, name: &str, size: i64) -> Value {
    json!({"apiVersion": format!("example.com/{version}"), "kind": "Widget", "metadata": {"name": name},
        "spec": {"size": size, "parts": [{"name": "a"}]}})
}

fn widgets() -> Value {
    json!({"resourceRules": [
        {"operations": ["CREATE", "UPDATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["widgets"]},
    ]})
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_checked_with_custom_params() {
    let (server, _stop) = server().await;
    validating(&server, "p", json!({
        "matchConstraints": widgets(), "paramKind": {"apiVersion": "example.com/v1beta1", "kind": "Limit"},
        "validations": [{"expression": "object.spec.size <= params.spec.size && object.apiVersion == 'example.com/v1' \
            && params.apiVersion == 'example.com/v1beta1'", "messageExpression": "'at most ' + string(params.spec.size)"}],
    }))
    .await;
    bind(
        &server,
        "validating",
        "p",
        json!({"paramRef": {"name": "most", "parameterNotFoundAction": "Deny"}}),
    )
    .await;
    let limit = |size: i64| json!({"apiVersion": "example.com/v1", "kind": "Limit", "metadata": {"name": "most"}, "spec": {"size": size}});
    server.ok("create", "example.com/v1/limits", limit(3)).await;
    for version in ["v1", "v1beta1"] {
        let path = format!("example.com/{version}/default:widgets");
        let (code, message) = server.refused("create", &path, widget(version, "w", 4)).await;
        assert_eq!(code, 422);
        assert!(message.ends_with("denied request: at most 3"), "{message}");
        server.ok("create", &path, widget(version, version, 3)).await;
    }
    server
        .ok(
            "patch",
            "example.com/v1/limits/most",
            json!({"spec": {"size": 4}}),
        )
        .await;
    server
        .ok("create", "example.com/v1/default:widgets", widget("v1", "w", 4))
        .await;
}

#[tokio::test(start_paused = true)]
async fn custom_resources_are_merged_by_their_schema() {
    let (server, _stop) = server().await;
    let expressions = [
        "Object{spec: Object.spec{size: object.spec.size + 1, parts: [Object.spec.parts{name: 'b'}, \
         Object.spec.parts{name: 'a', weight: 7}]}}",
        "[JSONPatch{op: 'add', path: '/spec/unknown', value: 1}, JSONPatch{op: 'remove', path: '/spec/color'}]",
    ];
    mutating(&server, "p", &expressions, json!({"matchConstraints": widgets()})).await;
    bind(&server, "mutating", "p", json!({})).await;
    for version in ["v1", "v1beta1"] {
        let path = format!("example.com/{version}/default:widgets");
        let made = server.ok("create", &path, widget(version, version, 1)).await;
        assert_eq!(made["apiVersion"], json!(format!("example.com/{version}")));
        let parts = json!([{"name": "b", "weight": 1}, {"name": "a", "weight": 7}]);
        assert_eq!(
            made["spec"],
            json!({"size": 2, "color": "red", "parts": parts}),
            "{made}"
        );
    }
}
