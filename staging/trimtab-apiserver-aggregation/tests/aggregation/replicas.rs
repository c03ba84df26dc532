//! Two replicas over one store, and a resource in two versions, of which either is what clients see and one is kept.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use trimtab_apiserver_aggregation::kit::{Convert, Definition, ExtensionServer};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_storage::{Config, MemoryStore};

use crate::kit::{GROUP, World, begin, send, watched};

const OLD: &str = "/apis/samples.test/v1/boxes";
const NEW: &str = "/apis/samples.test/v2/boxes";

/// The old version has a size as text, `3x4`, the new one its width and height.
#[derive(Debug)]
struct Sizes;

impl Convert for Sizes {
    fn convert(&self, mut object: Value, api_version: &str) -> Result<Value, String> {
        object["spec"] = match object["spec"]["size"].as_str() {
            Some(size) => {
                let (width, height) = size.split_once('x').ok_or(format!("{size} is no size"))?;
                let number = |text: &str| text.parse::<u32>().map_err(|error| error.to_string());
                json!({"width": number(width)?, "height": number(height)?})
            }
            None => json!({"size": format!("{}x{}", object["spec"]["width"], object["spec"]["height"])}),
        };
        object["apiVersion"] = api_version.into();
        Ok(object)
    }
}

fn boxes() -> Definition {
    let version = |name: &str, storage: bool, fields: Value| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object", "properties": {
            "spec": {"type": "object", "properties": fields}}}}})
    };
    let number = json!({"type": "integer", "minimum": 1});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("boxes.{GROUP}")},
        "spec": {"group": GROUP, "scope": "Cluster", "names": {"kind": "Box", "plural": "boxes"}, "versions": [
            version("v1", true, json!({"size": {"type": "string"}})),
            version("v2", false, json!({"width": number, "height": number}))]}});
    Definition::of(&definition)
        .expect("makes sense")
        .converting(Sizes)
}

#[tokio::test]
async fn either_replica_serves_either_version_of_what_the_other_wrote() {
    let world = World::new().await;
    let store = Arc::new(MemoryStore::new(Config::default()));
    let replica = || ExtensionServer::builder(world.delegation()).stored(boxes(), store.clone());
    let first = replica().start().await.expect("starts");
    let second = replica().start().await.expect("starts");
    let root = UserInfo {
        name: "root".to_owned(),
        groups: vec![MASTERS_GROUP.to_owned()],
        ..UserInfo::default()
    };
    let ask = |server: &ExtensionServer, method: Method, path: String, kind: &'static str, body: Value| {
        let body: Bytes = match body {
            Value::Null => Bytes::new(),
            body => body.to_string().into(),
        };
        let service = server.service(root.clone());
        async move { send(service, method, &path, &[("content-type", kind)], body).await }
    };
    let plain = "application/json";
    let watch = format!("{NEW}?watch=1");
    let answer = begin(
        second.service(root.clone()),
        Method::GET,
        &watch,
        &[],
        Bytes::new(),
    )
    .await;
    let mut body = answer.into_body();

    let old = json!({"apiVersion": format!("{GROUP}/v1"), "kind": "Box", "metadata": {"name": "a"}, "spec": {"size": "3x4"}});
    let made = ask(&first, Method::POST, OLD.to_owned(), plain, old).await;
    assert_eq!(made.code, 201, "{}", made.text);
    let seen = ask(&second, Method::GET, format!("{NEW}/a"), plain, Value::Null).await;
    assert_eq!(
        (&seen.json["apiVersion"], &seen.json["spec"]),
        (&json!("samples.test/v2"), &json!({"width": 3, "height": 4})),
        "{}",
        seen.text
    );
    assert_eq!(
        seen.json["metadata"]["resourceVersion"],
        made.json["metadata"]["resourceVersion"]
    );

    // A write of the other replica, in the other version, and one that comes too late.
    let path = format!("{NEW}/a?fieldManager=me&force=true");
    let applied = json!({"apiVersion": format!("{GROUP}/v2"), "kind": "Box", "metadata": {"name": "a"}, "spec": {"width": 5, "height": 4}});
    let applied = ask(
        &second,
        Method::PATCH,
        path,
        "application/apply-patch+yaml",
        applied,
    )
    .await;
    assert_eq!(
        applied.json["spec"],
        json!({"width": 5, "height": 4}),
        "{}",
        applied.text
    );
    let late = ask(&first, Method::PUT, format!("{OLD}/a"), plain, made.json.clone()).await;
    assert_eq!(late.json["reason"], "Conflict", "{}", late.text);
    let patch = json!({"spec": {"width": 0}});
    let refused = ask(
        &first,
        Method::PATCH,
        format!("{NEW}/a"),
        "application/merge-patch+json",
        patch,
    )
    .await;
    assert_eq!(refused.code, 422, "{}", refused.text);
    let listed = ask(&first, Method::GET, OLD.to_owned(), plain, Value::Null).await;
    assert_eq!(
        listed.json["items"][0]["spec"],
        json!({"size": "5x4"}),
        "{}",
        listed.text
    );
    let deleted = ask(&first, Method::DELETE, format!("{OLD}/a"), plain, Value::Null).await;
    assert_eq!(deleted.code, 200, "{}", deleted.text);

    let told = watched(&mut body, 3).await;
    let told: Vec<_> = told
        .iter()
        .map(|event| {
            format!(
                "{} {}",
                event["type"].as_str().unwrap_or_default(),
                event["object"]["spec"]["width"]
            )
        })
        .collect();
    assert_eq!(told, ["ADDED 3", "MODIFIED 5", "DELETED 5"]);
    drop(body);
    first.shutdown().await.expect("stops");
    second.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}
