//! A server of three small kinds, and requests to it written as a method, a path and a body.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::StreamExt;
use futures::stream::BoxStream;
use serde_json::Value;
use trimtab_apimachinery_meta::{GroupResource, names};
use trimtab_apimachinery_schema::Schema;
use trimtab_apimachinery_schema::schema::{Additional, Type};
use trimtab_apiserver_kinds::resource::{ALL_VERBS, Column, Resource, ScalePaths, Scope, Subresource};
use trimtab_apiserver_kinds::strategy::{Deletion, RequestContext, Strategy};
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::api::{ApiRequest, ApiResponse, BodyFormat, OutputShape, RequestInfo, WatchEvent};
use crate::registry::Registry;

/// Answer of a request: status code, body, warnings.
pub(super) type Answer = (u16, Value, Vec<String>);

pub(super) struct Server {
    pub(super) registry: Registry,
}

#[derive(Debug)]
struct Plain;

impl Strategy for Plain {
    fn validate_name(&self, name: &str, _: bool) -> Vec<String> {
        names::dns1123_subdomain(name.trim_end_matches('-'))
    }

    fn has_generation(&self) -> bool {
        false
    }
}

/// A kind whose objects are made by a PUT, too.
#[derive(Debug)]
struct Notes;

impl Strategy for Notes {
    fn validate_name(&self, name: &str, _: bool) -> Vec<String> {
        names::dns1123_subdomain(name)
    }

    fn allow_create_on_update(&self) -> bool {
        true
    }
}

/// A custom kind with status and scale, whose objects take their time to go when they ask for it.
#[derive(Debug)]
struct Widgets;

impl Strategy for Widgets {
    fn validate_name(&self, name: &str, _: bool) -> Vec<String> {
        names::dns1123_subdomain(name)
    }

    fn prepare_create(&self, _: &RequestContext, object: &mut Value) {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
    }

    fn prepare_update(&self, ctx: &RequestContext, new: &mut Value, old: &Value) {
        let part = if ctx.subresource == "status" {
            "spec"
        } else {
            "status"
        };
        match old.get(part) {
            Some(value) => new[part] = value.clone(),
            None => {
                new.as_object_mut().and_then(|fields| fields.remove(part));
            }
        }
    }

    fn allow_unconditional_update(&self) -> bool {
        false
    }

    fn deletion(&self, object: &Value, grace_seconds: Option<i64>) -> Deletion {
        match object["spec"]["grace"].as_i64() {
            Some(own) => Deletion::Graceful(grace_seconds.unwrap_or(own)),
            None => Deletion::Immediate,
        }
    }
}

fn object(fields: &[(&str, Schema)]) -> Schema {
    Schema {
        type_: Some(Type::Object),
        properties: fields
            .iter()
            .map(|(k, v)| ((*k).to_owned(), Arc::new(v.clone())))
            .collect::<BTreeMap<_, _>>(),
        ..Schema::default()
    }
}

fn text() -> Schema {
    Schema {
        type_: Some(Type::String),
        ..Schema::default()
    }
}

fn texts() -> Schema {
    Schema {
        type_: Some(Type::Object),
        additional: Additional::Schema(Arc::new(text())),
        ..Schema::default()
    }
}

fn metadata() -> Schema {
    let mut metadata = Schema {
        type_: Some(Type::Object),
        ..Schema::any()
    };
    for field in ["labels", "annotations"] {
        metadata.properties.insert(field.to_owned(), Arc::new(texts()));
    }
    metadata
}

fn resource(group: &str, kind: &str, schema: Schema, strategy: Arc<dyn Strategy>) -> Resource {
    let singular = kind.to_lowercase();
    let plural = format!("{singular}s");
    let verbs = ALL_VERBS;
    let column = |name: &str, format: &str| Column {
        name: name.to_owned(),
        type_: "string".to_owned(),
        format: format.to_owned(),
        description: String::new(),
        priority: 0,
        json_path: None,
    };
    Resource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        kind: kind.to_owned(),
        list_kind: format!("{kind}List"),
        storage: GroupResource::new(group, &plural),
        plural,
        singular,
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: Scope::Namespaced,
        verbs: verbs.iter().map(|v| (*v).to_owned()).collect(),
        subresources: Vec::new(),
        columns: vec![column("Name", "name"), column("Age", "")],
        schema: schema.into(),
        strategy,
        custom: !group.is_empty(),
        deprecation_warning: None,
        conversion: None,
    }
}

pub(in crate::registry) fn config_maps() -> Resource {
    resource("", "ConfigMap", data(), Arc::new(Plain))
}

fn notes() -> Resource {
    resource("", "Note", data(), Arc::new(Notes))
}

fn data() -> Schema {
    object(&[
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", metadata()),
        ("data", texts()),
    ])
}

pub(super) fn widgets() -> Resource {
    let fields = [
        ("apiVersion", text()),
        ("kind", text()),
        ("metadata", metadata()),
        (
            "spec",
            Schema {
                type_: Some(Type::Object),
                ..Schema::any()
            },
        ),
        (
            "status",
            Schema {
                type_: Some(Type::Object),
                ..Schema::any()
            },
        ),
    ];
    let mut widgets = resource("example.com", "Widget", object(&fields), Arc::new(Widgets));
    let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
    let below = |name: &str, scale| Subresource {
        name: name.to_owned(),
        gvk: widgets.gvk(),
        verbs: ["get", "patch", "update"]
            .iter()
            .map(|v| (*v).to_owned())
            .collect(),
        scale,
    };
    let paths = ScalePaths {
        spec_replicas: path("spec.replicas"),
        status_replicas: path("status.replicas"),
        selector: Some(path("status.selector")),
    };
    widgets.subresources = vec![below("status", None), below("scale", Some(paths))];
    widgets
}

impl Server {
    pub(super) fn new() -> Self {
        let store = Arc::new(MemoryStore::new(Config::default()));
        Self {
            registry: Registry::new(store, [config_maps(), notes(), widgets()].map(Arc::new)),
        }
    }

    /// Makes a request, and expects its status code.
    pub(super) async fn ok(&self, method: &str, path: &str, body: Value, code: u16) -> Value {
        let (got, answer, _) = self.call(method, path, body).await;
        assert_eq!(got, code, "{method} {path}: {answer}");
        answer
    }

    /// Makes a request of JSON. The method may carry the form of a patch, as `PATCH/merge`.
    pub(super) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        self.raw(method, path, &body).await
    }

    pub(super) async fn raw(&self, method: &str, path: &str, body: &str) -> Answer {
        match self
            .registry
            .handle(request(method, path, body))
            .await
            .and_then(ApiResponse::decoded)
        {
            Ok(ApiResponse::Value {
                code,
                value,
                warnings,
            }) => (code, value, warnings),
            Ok(other) => panic!("{method} {path} answers {other:?}"),
            Err(e) => (
                e.code,
                serde_json::to_value(e.to_status()).unwrap_or_default(),
                Vec::new(),
            ),
        }
    }

    pub(super) async fn watch(&self, path: &str) -> Events {
        match self.registry.handle(request("GET", path, "")).await {
            Ok(ApiResponse::Watch { events, .. }) => Events(events),
            other => panic!("GET {path} answers {other:?}"),
        }
    }
}

pub(super) struct Events(BoxStream<'static, WatchEvent>);

impl Events {
    /// The next event: its type, the object's name and the whole object.
    pub(super) async fn next(&mut self) -> Option<(String, String, Value)> {
        let event = self.0.next().await?;
        let value: Value = serde_json::from_slice(&event.json).unwrap_or_default();
        let kind = value["type"].as_str().unwrap_or_default().to_owned();
        let name = value["object"]["metadata"]["name"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Some((kind, name, value["object"].clone()))
    }

    /// The types and names of the next events, as `ADDED a`.
    pub(super) async fn take(&mut self, count: usize) -> Vec<String> {
        let mut out = Vec::new();
        while out.len() < count {
            let Some((kind, name, _)) = self.next().await else {
                break;
            };
            out.push(format!("{kind} {name}"));
        }
        out
    }
}

/// A request from a method, a path below `/api/v1/` (configmaps) or `/apis/example.com/v1/` (widgets), and a body.
pub(super) fn request(method: &str, path: &str, body: &str) -> ApiRequest {
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let (method, format) = method.split_once('/').unwrap_or((method, ""));
    let mut parts: Vec<&str> = path.split('/').collect();
    let namespace = if parts[0] == "-" { "" } else { parts[0] };
    parts.remove(0);
    let part = |i: usize| parts.get(i).copied().unwrap_or_default().to_owned();
    let watch = query.split('&').any(|p| p == "watch=1");
    let verb = match (method, parts.len() > 1) {
        ("GET", false) if watch => "watch",
        ("GET", false) => "list",
        ("GET", true) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", false) => "deletecollection",
        ("DELETE", true) => "delete",
        _ => "",
    };
    let query: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let shape = match query.iter().find(|(k, _)| k == "as").map(|(_, v)| v.as_str()) {
        Some("table") => OutputShape::Table,
        Some("metadata") => OutputShape::PartialMetadata,
        Some("metadata-list") => OutputShape::PartialMetadataList,
        _ => OutputShape::Object,
    };
    ApiRequest {
        info: RequestInfo {
            verb: verb.to_owned(),
            group: if part(0) == "widgets" {
                "example.com".to_owned()
            } else {
                String::new()
            },
            version: "v1".to_owned(),
            namespace: namespace.to_owned(),
            resource: part(0),
            name: part(1),
            subresource: part(2),
            path: path.to_owned(),
            method: method.to_owned(),
            ..RequestInfo::default()
        },
        query,
        shape,
        body_format: match format {
            "json" => BodyFormat::JsonPatch,
            "merge" => BodyFormat::MergePatch,
            "strategic" => BodyFormat::StrategicMergePatch,
            "apply" => BodyFormat::ApplyPatch,
            _ => BodyFormat::Json,
        },
        body: body.to_owned().into(),
        user_agent: "tests/1.0".to_owned(),
        ..ApiRequest::default()
    }
}

/// Whether everything in `part` is in `whole`.
pub(super) fn contains(whole: &Value, part: &Value) -> bool {
    match (whole, part) {
        (Value::Object(whole), Value::Object(part)) => part
            .iter()
            .all(|(k, v)| contains(whole.get(k).unwrap_or(&Value::Null), v)),
        (whole, part) => whole == part,
    }
}

/// Runs a test on paused time.
pub(super) fn run(future: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    runtime.unwrap_or_else(|e| panic!("{e}")).block_on(future);
}
