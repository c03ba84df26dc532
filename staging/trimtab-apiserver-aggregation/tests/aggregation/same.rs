//! The same definition, once as a CustomResourceDefinition of the API server and once served by a server behind it: the same
//! requests have the same answers. `same.json` has the requests, one a line: what is sent, its body, and what else is said.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use trimtab_apiserver_aggregation::kit::{Definition, ExtensionServer};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_storage::{Config, MemoryStore, Op, Store as _, Txn};

use crate::kit::{APISERVICES, GROUP, World, begin};

const REQUESTS: &str = include_str!("same.json");
/// Headers whose values are another for each request, or say the length of others.
const OF_ITS_OWN: [&str; 5] = [
    "audit-id",
    "content-length",
    "date",
    "x-kubernetes-pf-flowschema-uid",
    "x-kubernetes-pf-prioritylevel-uid",
];

/// Where the revisions of both stores begin, so that no other number in an answer looks like one.
const FIRST: u64 = 100;

/// One of the two, and what its answers have told so far.
struct Side {
    world: World,
    store: Arc<MemoryStore>,
    told: BTreeMap<String, String>,
}

/// An answer as it is compared.
#[derive(Debug, PartialEq)]
struct Seen {
    code: u16,
    headers: Vec<(String, String)>,
    body: Value,
}

fn things() -> Value {
    let spec = json!({"type": "object", "required": ["text"], "properties": {
        "text": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "default": 1, "minimum": 0, "maximum": 10},
        "color": {"type": "string", "enum": ["red", "green"]},
        "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"],
            "items": {"type": "object", "required": ["name"], "properties": {
                "name": {"type": "string"}, "port": {"type": "integer"},
                "protocol": {"type": "string", "default": "TCP"}}}}},
        "x-kubernetes-validations": [
            {"rule": "!has(self.color) || self.size < 7", "message": "what is large has no color"},
            {"rule": "self.size >= oldSelf.size || self.text != 'immutable'", "reason": "FieldValueForbidden"}]});
    let schema = json!({"type": "object", "description": "A thing", "properties": {"spec": spec,
        "status": {"type": "object", "properties": {
            "phase": {"type": "string"}, "replicas": {"type": "integer"}, "selector": {"type": "string"}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": schema},
            "deprecated": !storage,
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [
                {"name": "Text", "type": "string", "jsonPath": ".spec.text"},
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "priority": 1},
                {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}]})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("things.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Namespaced",
            "names": {"kind": "Thing", "plural": "things", "shortNames": ["th"], "categories": ["all"]},
            "versions": [version("v1", true), version("v2", false)]}})
}

fn globes() -> Value {
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("globes.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Cluster", "names": {"kind": "Globe", "plural": "globes"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
}

async fn store() -> Arc<MemoryStore> {
    let store = MemoryStore::new(Config::default());
    for _ in 0..FIRST {
        let value = Op::Put {
            key: "before".into(),
            value: "x".into(),
            ttl: None,
        };
        let txn = Txn {
            success: vec![value],
            ..Txn::default()
        };
        store.txn(txn).await.expect("is written");
    }
    Arc::new(store)
}

impl Side {
    async fn custom() -> Self {
        let store = store().await;
        let world = World::over(store.clone()).await;
        for definition in [things(), globes()] {
            let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
            let made = world.post(path, &definition).await;
            assert_eq!(made.code, 201, "{}", made.text);
        }
        Self::ready(world, store).await
    }

    async fn extended() -> (Self, ExtensionServer) {
        let store = store().await;
        let world = World::new().await;
        let of = |definition: Value| Definition::of(&definition).expect("makes sense");
        let server = ExtensionServer::builder(world.delegation())
            .stored(of(things()), store.clone())
            .stored(of(globes()), store.clone())
            .service("default", "sample")
            .bind(([127, 0, 0, 1], 0).into())
            .start()
            .await
            .expect("starts");
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}});
        world.post("/api/v1/namespaces/default/services", &service).await;
        let port = server.address().expect("listens").port();
        let services = server.api_services(port).expect("has a Service");
        for service in services["items"].as_array().expect("items") {
            let made = world.post(APISERVICES, service).await;
            assert_eq!(made.code, 201, "{}", made.text);
        }
        (Self::ready(world, store).await, server)
    }

    /// Waits until all is served, and discovery says so.
    async fn ready(world: World, store: Arc<MemoryStore>) -> Self {
        for path in [
            format!("/apis/{GROUP}/v1/globes"),
            format!("/apis/{GROUP}/v1/things"),
            format!("/apis/{GROUP}/v2/things"),
        ] {
            world
                .eventually(&path, |answer| (answer.code == 200).then_some(()))
                .await;
        }
        let whole = |answer: &crate::kit::Answer| {
            let versions = answer.json["versions"].as_array()?;
            (versions.len() == 2).then_some(())
        };
        world.eventually(&format!("/apis/{GROUP}"), whole).await;
        let told = BTreeMap::new();
        Self { world, store, told }
    }

    /// Sends one of the requests.
    async fn send(&mut self, request: &Value) -> Seen {
        let (what, said) = (request[0].as_str().expect("what is sent"), &request[2]);
        if what == "compact" {
            let revision = self.store.revision().await.expect("is there");
            self.store.compact(revision).await.expect("compacts");
            return Seen {
                code: 0,
                headers: Vec::new(),
                body: Value::Null,
            };
        }
        let body = match &request[1] {
            Value::Null => said["raw"].as_str().unwrap_or_default().to_owned(),
            body => body.to_string(),
        };
        let fill = |text: &str| {
            let filled = self.told.iter().fold(text.to_owned(), |text, (name, value)| {
                text.replace(&format!("${{{name}}}"), value)
            });
            assert!(!filled.contains("${"), "{filled}");
            filled
        };
        let (method, path) = what.split_once(' ').expect("a method and a path");
        let things = |version: &str| format!("/apis/{GROUP}/{version}/namespaces/default/things");
        let path = match path.split_at(path.find(['/', '?']).unwrap_or(path.len())) {
            ("T", rest) => things("v1") + rest,
            ("T2", rest) => things("v2") + rest,
            ("G", rest) => format!("/apis/{GROUP}/v1/globes{rest}"),
            _ => path.to_owned(),
        };
        let headers = said["headers"].as_object().into_iter().flatten();
        let mut headers: Vec<(&str, &str)> = headers
            .map(|(name, value)| (name.as_str(), value.as_str().expect("a value")))
            .collect();
        let alice = headers.iter().any(|(name, _)| *name == "as");
        headers.retain(|(name, _)| *name != "as");
        let user = match alice {
            true => UserInfo {
                name: "alice".to_owned(),
                ..UserInfo::default()
            },
            false => UserInfo {
                name: "root".to_owned(),
                groups: vec!["system:masters".to_owned()],
                ..UserInfo::default()
            },
        };
        let service = self.world.server.service().for_user(user);
        let (path, body) = (fill(&path), fill(&body));
        let method = method.parse().expect("a method");
        let (head, body) = begin(service, method, &path, &headers, body.into())
            .await
            .into_parts();
        let text = match said["events"].as_u64() {
            Some(events) if head.status == 200 => lines(body, usize::try_from(events).expect("few")).await,
            _ => body.collect().await.expect("a whole body").to_bytes(),
        };
        let text = String::from_utf8_lossy(&text).into_owned();
        let values: Result<Vec<Value>, _> = serde_json::Deserializer::from_str(&text).into_iter().collect();
        let mut body = values.map_or_else(|_| text.into(), Value::Array);
        for (name, pointer) in said["keep"].as_object().into_iter().flatten() {
            let value = body[0]
                .pointer(pointer.as_str().expect("a pointer"))
                .and_then(Value::as_str);
            let value = value.unwrap_or_else(|| panic!("{what}: nothing at {pointer} of {body}"));
            self.told.insert(name.clone(), value.to_owned());
        }
        alike(&mut body, "");
        let headers = head.headers.iter().map(|(name, value)| {
            (
                name.as_str().to_owned(),
                String::from_utf8_lossy(value.as_bytes()).into_owned(),
            )
        });
        let mut headers: Vec<_> = headers
            .filter(|(name, _)| !OF_ITS_OWN.contains(&name.as_str()))
            .collect();
        headers.sort();
        Seen {
            code: head.status.as_u16(),
            headers,
            body,
        }
    }
}

/// The first lines of a body that goes on.
async fn lines<B>(mut body: B, wanted: usize) -> Bytes
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: std::fmt::Debug,
{
    let mut read = Vec::new();
    while read.iter().filter(|byte| **byte == b'\n').count() < wanted {
        let next = tokio::time::timeout(crate::kit::DEADLINE, body.frame()).await;
        let next = next.unwrap_or_else(|_| panic!("no more than {}", String::from_utf8_lossy(&read)));
        let Some(frame) = next else { break };
        read.extend_from_slice(frame.expect("goes on").data_ref().expect("data"));
    }
    let all = String::from_utf8(read).expect("text");
    let first: String = all.split_inclusive('\n').take(wanted).collect();
    first.into()
}

/// Has what is another for each object and each run be the same.
fn alike(value: &mut Value, field: &str) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| alike(value, name)),
        Value::Array(items) => {
            items.iter_mut().for_each(|item| alike(item, field));
            if field == "managedFields" {
                // They are in the order of their times.
                items.sort_by_key(Value::to_string);
            }
        }
        Value::String(text) => *text = told_alike(text, field),
        _ => {}
    }
}

fn told_alike(text: &str, field: &str) -> String {
    let is_number = !text.is_empty() && text != "0" && text.bytes().all(|byte| byte.is_ascii_digit());
    match field {
        "uid" => return "UID".to_owned(),
        "continue" if !text.is_empty() => return "CONTINUE".to_owned(),
        "resourceVersion" if is_number => return "REVISION".to_owned(),
        "storageVersionHash" => return "HASH".to_owned(),
        "cells"
            if text
                .strip_suffix('s')
                .is_some_and(|age| age.parse::<u8>().is_ok()) =>
        {
            return "AGE".to_owned();
        }
        _ => {}
    }
    // In sentences, and in documents in documents, each word for itself.
    let is_word = |c: char| c.is_ascii_alphanumeric() || "-:.".contains(c);
    let mut alike = String::new();
    for part in text.split_inclusive(|c| !is_word(c)) {
        let (whole, end) = part.split_at(part.trim_end_matches(|c| !is_word(c)).len());
        let word = whole.trim_end_matches([':', '.']);
        alike += match word {
            word if word.parse::<jiff::Timestamp>().is_ok() => "TIME",
            word if word.len() == 36 && word.matches('-').count() == 4 => "UID",
            word if word.starts_with("gen-") => "gen-",
            word if word.starts_with("eyJ") => "CONTINUE",
            word if word.parse::<u32>().is_ok_and(|number| u64::from(number) >= FIRST) => "NUMBER",
            word => word,
        };
        alike += &whole[word.len()..];
        alike += end;
    }
    alike
}

#[tokio::test]
async fn a_server_behind_answers_as_the_server_does_for_custom_resources() {
    let requests: Vec<Value> = serde_json::from_str(REQUESTS).expect("JSON");
    let mut custom = Side::custom().await;
    let (mut extended, server) = Side::extended().await;
    let mut differences = Vec::new();
    for request in &requests {
        let (wanted, seen) = tokio::join!(custom.send(request), extended.send(request));
        if wanted != seen {
            differences.push(format!("{request}\n  custom:   {wanted:?}\n  extended: {seen:?}"));
        }
    }
    server.shutdown().await.expect("stops");
    assert!(
        differences.is_empty(),
        "{} of {} differ:\n{}",
        differences.len(),
        requests.len(),
        differences.join("\n")
    );
}
