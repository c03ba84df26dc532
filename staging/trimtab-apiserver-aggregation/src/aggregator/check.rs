//! Whether the server behind an APIService is there: the checks, reasons and texts of kube-aggregator.

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use serde_json::Value;
use std::time::Duration;
use tokio::time::Instant;
use trimtab_apimachinery_meta::{ApiError, LabelSelector};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_core::extensions::RequestBody;
use trimtab_apiserver_core::registry::Registry;

use super::service::{Reference, Registered};
use super::status::Finding;
use crate::proxy::{Upstream, say_who};

/// How long the server has to say what it serves.
const PATIENCE: Duration = Duration::from_secs(5);
/// As often it is tried at a time, since the addresses of a Service differ. One that answers is enough.
const ATTEMPTS: usize = 5;
/// Names the Service of an EndpointSlice.
pub(super) const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Looks for the server behind an APIService.
pub(super) async fn check(registry: &Registry, registered: &Registered, upstream: &Upstream) -> Finding {
    let reference = upstream.reference();
    if let Some(finding) = look_for_endpoints(registry, reference).await {
        return finding;
    }
    let mut attempts: FuturesUnordered<_> = (0..ATTEMPTS).map(|_| ask(registered, upstream)).collect();
    let mut last = String::new();
    while let Some(attempt) = attempts.next().await {
        match attempt {
            Ok(()) => return Finding::yes("Passed", "all checks passed"),
            Err(why) => last = why,
        }
    }
    Finding::no("FailedDiscoveryCheck", last)
}

/// What is wrong with the Service, if anything is.
async fn look_for_endpoints(registry: &Registry, reference: &Reference) -> Option<Finding> {
    let Reference {
        namespace,
        name,
        port,
        ..
    } = reference;
    let unclear = |error: ApiError| {
        format!(
            "service/{name} in {namespace:?} cannot be checked due to: {}",
            error.message
        )
    };
    let service = match object(registry, "", "services", namespace, name).await {
        Ok(Some(service)) => service,
        Ok(None) => {
            let message = format!("service/{name} in {namespace:?} is not present");
            return Some(Finding::no("ServiceNotFound", message));
        }
        Err(error) => return Some(Finding::unknown("ServiceAccessError", unclear(error))),
    };
    if service["spec"]["type"].as_str().unwrap_or("ClusterIP") != "ClusterIP" {
        return None;
    }
    let ports = service["spec"]["ports"].as_array();
    let found = ports.and_then(|ports| {
        ports
            .iter()
            .find(|p| p["port"].as_u64() == Some(u64::from(*port)))
    });
    let Some(found) = found else {
        let message = format!("service/{name} in {namespace:?} is not listening on port {port}");
        return Some(Finding::no("ServicePortError", message));
    };
    let port_name = found["name"].as_str().unwrap_or_default();
    match slices(registry, namespace, name).await {
        Err(error) => Some(Finding::unknown("EndpointsAccessError", unclear(error))),
        Ok(slices) => endpoints_fault(&slices, namespace, name, port_name),
    }
}

/// What is wrong with the endpoints of a Service, if anything is.
fn endpoints_fault(slices: &[Value], namespace: &str, name: &str, port_name: &str) -> Option<Finding> {
    if slices.is_empty() {
        let message = format!("cannot find endpointslices for service/{name} in {namespace:?}");
        return Some(Finding::no("EndpointsNotFound", message));
    }
    let is_ready = |slice: &Value| {
        let endpoints = slice["endpoints"].as_array().into_iter().flatten();
        let mut ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != false);
        let ports = slice["ports"].as_array().into_iter().flatten();
        let mut named = ports
            .filter(|port| port["name"].as_str().unwrap_or_default() == port_name && !port["port"].is_null());
        ready.next().is_some() && named.next().is_some()
    };
    if slices.iter().any(is_ready) {
        return None;
    }
    let message = format!(
        "endpointslices for service/{name} in {namespace:?} have no addresses with port name {port_name:?}"
    );
    Some(Finding::no("MissingEndpoints", message))
}

/// Asks the server once for what it serves.
async fn ask(registered: &Registered, upstream: &Upstream) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    let address = upstream.address().await.map_err(|error| error.to_string())?;
    let path = registered.path();
    let url = format!("{address}{path}");
    let request = request_as(&path, "system:kube-aggregator", &[MASTERS_GROUP])?;
    let answer = upstream.send(request, &address, Some(end), true).await;
    let failing = |why: String| format!("failing or missing response from {url}: {why}");
    let response = answer.map_err(|error| failing(format!("Get {url:?}: {error}")))?;
    let code = response.status().as_u16();
    if !(200..300).contains(&code) {
        return Err(failing(format!("bad status from {url}: {code}")));
    }
    // A connection whose answer has been read to its end can be used again.
    let _ = tokio::time::timeout_at(end, response.into_body().collect()).await;
    Ok(())
}

/// A request of this server's own, by one of its names.
///
/// # Errors
///
/// A text that says why there can be none.
pub(super) fn request_as(path: &str, user: &str, groups: &[&str]) -> Result<Request<RequestBody>, String> {
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    let mut request = Request::get(path).body(body).map_err(|error| error.to_string())?;
    let user = UserInfo {
        name: user.to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        ..UserInfo::default()
    };
    say_who(request.headers_mut(), &user)?;
    Ok(request)
}

async fn object(
    registry: &Registry,
    group: &str,
    plural: &str,
    namespace: &str,
    name: &str,
) -> Result<Option<Value>, ApiError> {
    let table = registry.resources().snapshot();
    let resource = table
        .any_version(group, plural)
        .ok_or_else(ApiError::unknown_resource)?;
    registry.get_object(resource, namespace, name).await
}

async fn slices(registry: &Registry, namespace: &str, name: &str) -> Result<Vec<Value>, ApiError> {
    let table = registry.resources().snapshot();
    let resource = table.any_version("discovery.k8s.io", "endpointslices");
    let resource = resource.ok_or_else(ApiError::unknown_resource)?;
    let of_service = LabelSelector::parse(&format!("{SERVICE_NAME}={name}"));
    let of_service = of_service.map_err(|error| ApiError::bad_request(error.to_string()))?;
    registry.list_objects(resource, namespace, &of_service).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn endpoints_are_looked_for_by_the_name_of_the_port() {
        let slice = |ready: Value, port: Value| json!({"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {"ready": ready}}], "ports": [port]});
        let https = || json!({"name": "https", "port": 443});
        for (slices, wanted) in [
            (vec![], "EndpointsNotFound"),
            (vec![slice(true.into(), https())], ""),
            (vec![slice(Value::Null, https())], ""),
            (vec![slice(false.into(), https())], "MissingEndpoints"),
            (
                vec![slice(true.into(), json!({"name": "", "port": 1}))],
                "MissingEndpoints",
            ),
            (
                vec![slice(true.into(), json!({"name": "https"}))],
                "MissingEndpoints",
            ),
            (
                vec![slice(false.into(), https()), slice(true.into(), https())],
                "",
            ),
            (
                vec![json!({"endpoints": null, "ports": [https()]})],
                "MissingEndpoints",
            ),
        ] {
            let fault = endpoints_fault(&slices, "n", "s", "https");
            assert_eq!(fault.map_or("", |finding| finding.reason), wanted, "{slices:?}");
        }
    }
}
