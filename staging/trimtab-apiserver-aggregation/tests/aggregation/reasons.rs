//! What APIServices say of themselves, and which of them the server writes by itself.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::kit::{APISERVICES, World};

const SERVICES: &str = "/api/v1/namespaces/default/services";
const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";

fn slice(ready: bool) -> Value {
    json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": "sample-x", "labels": {"kubernetes.io/service-name": "sample"}},
        "endpoints": [{"addresses": ["192.0.2.1"], "conditions": {"ready": ready}}],
        "ports": [{"name": "https", "port": 443, "protocol": "TCP"}]})
}

#[tokio::test]
async fn conditions_have_kube_aggregators_reasons() {
    let world = World::new().await;
    let name = "v1.samples.test";
    let registered = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": name},
        "spec": {"group": "samples.test", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1,
            "insecureSkipTLSVerify": true, "service": {"namespace": "default", "name": "sample", "port": 8443}}});
    assert_eq!(world.post(APISERVICES, &registered).await.code.as_u16(), 201);
    assert_eq!(
        world.reason(name, "ServiceNotFound").await,
        "service/sample in \"default\" is not present"
    );
    let refused = world.get("/apis/samples.test/v1").await;
    assert_eq!(
        (refused.code.as_u16(), refused.text.as_str()),
        (503, "service unavailable\n")
    );

    let ports = |port: u16| json!([{"name": "https", "port": port}]);
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"}, "spec": {"ports": ports(443)}});
    assert_eq!(world.post(SERVICES, &service).await.code.as_u16(), 201);
    let why = world.reason(name, "ServicePortError").await;
    assert_eq!(why, "service/sample in \"default\" is not listening on port 8443");

    let merge = [("content-type", "application/merge-patch+json")];
    let patch = json!({"spec": {"ports": ports(8443)}}).to_string();
    let patched = world
        .send(Method::PATCH, &format!("{SERVICES}/sample"), &merge, patch.into())
        .await;
    assert_eq!(patched.code.as_u16(), 200, "{}", patched.text);
    let why = world.reason(name, "EndpointsNotFound").await;
    assert_eq!(
        why,
        "cannot find endpointslices for service/sample in \"default\""
    );

    let made = world.post(SLICES, &slice(false)).await;
    assert_eq!(made.code.as_u16(), 201, "{}", made.text);
    let why = world.reason(name, "MissingEndpoints").await;
    assert_eq!(
        why,
        "endpointslices for service/sample in \"default\" have no addresses with port name \"https\""
    );
    let apply = [("content-type", "application/apply-patch+yaml")];
    let mut other = slice(true);
    other["ports"][0]["name"] = "http".into();
    let path = format!("{SLICES}/sample-x?fieldManager=t&force=true");
    let applied = world
        .send(Method::PATCH, &path, &apply, other.to_string().into())
        .await;
    assert_eq!(applied.code.as_u16(), 200, "{}", applied.text);
    world.reason(name, "MissingEndpoints").await;
    let service = world
        .send(Method::DELETE, &format!("{SERVICES}/sample"), &[], Bytes::new())
        .await;
    assert_eq!(service.code.as_u16(), 200, "{}", service.text);
    world.reason(name, "ServiceNotFound").await;
    let patch = json!({"spec": {"service": null, "insecureSkipTLSVerify": null}}).to_string();
    let path = format!("{APISERVICES}/{name}");
    let patched = world.send(Method::PATCH, &path, &merge, patch.into()).await;
    assert_eq!(patched.code.as_u16(), 200, "{}", patched.text);
    world.reason(name, "Local").await;
    world.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn what_the_server_has_itself_is_registered_as_it_comes_and_goes() {
    let world = World::new().await;
    assert_eq!(
        world.reason("v1.", "Local").await,
        "Local APIServices are always available"
    );
    let apps = world
        .eventually(&format!("{APISERVICES}/v1.apps"), |answer| {
            (answer.code == 200).then(|| answer.json.clone())
        })
        .await;
    assert_eq!(
        (
            &apps["spec"]["groupPriorityMinimum"],
            &apps["spec"]["versionPriority"]
        ),
        (&json!(17800), &json!(15))
    );
    assert_eq!(
        apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    let none = world
        .get(&format!("{APISERVICES}/v1.apiregistration.k8s.io"))
        .await;
    assert_eq!(none.code.as_u16(), 404, "it needs none");

    let schema = json!({"type": "object"});
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.custom.test"}, "spec": {"group": "custom.test", "scope": "Cluster",
            "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(world.post(definitions, &definition).await.code.as_u16(), 201);
    assert!(!world.reason("v1.custom.test", "Local").await.is_empty());
    let custom = world.get(&format!("{APISERVICES}/v1.custom.test")).await.json;
    assert_eq!(
        (
            &custom["spec"]["groupPriorityMinimum"],
            &custom["spec"]["versionPriority"]
        ),
        (&json!(1000), &json!(100))
    );
    // Somebody deletes it, and it comes back; its definition goes, and it goes.
    let path = format!("{APISERVICES}/v1.custom.test");
    assert_eq!(
        world
            .send(Method::DELETE, &path, &[], Bytes::new())
            .await
            .code
            .as_u16(),
        200
    );
    let uid = custom["metadata"]["uid"].clone();
    world
        .eventually(&path, |answer| {
            (answer.code == 200 && answer.json["metadata"]["uid"] != uid).then_some(())
        })
        .await;
    let path_of = format!("{definitions}/widgets.custom.test");
    assert_eq!(
        world
            .send(Method::DELETE, &path_of, &[], Bytes::new())
            .await
            .code
            .as_u16(),
        200
    );
    world
        .eventually(&path, |answer| (answer.code == 404).then_some(()))
        .await;
    world.server.shutdown().await.expect("stops");
}
