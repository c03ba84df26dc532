//! Services as a server without a kube-proxy can reach them: at the ready addresses behind them.

use std::net::IpAddr;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::Value;

use super::Resolver;
use crate::admission::Reader;

/// Names the Service of an EndpointSlice.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Finds the addresses of Services in the store: of their EndpointSlices, else of their Endpoints.
#[derive(Debug)]
pub(crate) struct ServiceAddresses {
    reader: Arc<dyn Reader>,
}

impl ServiceAddresses {
    pub(crate) fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Resolver for ServiceAddresses {
    async fn resolve(&self, namespace: &str, name: &str, port: u16) -> Result<Vec<(String, u16)>, String> {
        let failed = |error: trimtab_apimachinery_meta::ApiError| error.message;
        let service = self.reader.get("", "services", namespace, name).await;
        let service = service
            .map_err(failed)?
            .ok_or_else(|| format!("service {name:?} not found"))?;
        let spec = &service["spec"];
        match spec["type"].as_str().unwrap_or("ClusterIP") {
            "ClusterIP" | "LoadBalancer" | "NodePort" => {}
            "ExternalName" => {
                let host = spec["externalName"].as_str().unwrap_or_default();
                return Ok(vec![(host.to_owned(), port)]);
            }
            other => return Err(format!("unsupported service type {other:?}")),
        }
        let of_service = service_port(spec, port)
            .ok_or_else(|| format!("no service port {port} found for service {name:?}"))?;
        let slices = self
            .reader
            .list("discovery.k8s.io", "endpointslices", namespace)
            .await
            .map_err(failed)?;
        let mine = |slice: &&Value| slice["metadata"]["labels"][SERVICE_NAME] == name;
        let mut found: Vec<(String, u16)> = slices
            .iter()
            .filter(mine)
            .flat_map(|slice| of_slice(slice, of_service))
            .collect();
        if found.is_empty() {
            let endpoints = self.reader.get("", "endpoints", namespace, name).await;
            let endpoints = endpoints.map_err(failed)?.unwrap_or_default();
            found = of_endpoints(&endpoints, of_service);
        }
        if found.is_empty() {
            return Err(format!("no endpoints available for service {name:?}"));
        }
        // Each connection begins elsewhere, so that all get some; the Service's first family comes first.
        let random = usize::from(uuid::Uuid::new_v4().as_bytes()[0]);
        let first = random % found.len();
        found.rotate_left(first);
        if let Some(family) = spec["ipFamilies"][0].as_str() {
            found.sort_by_key(|(host, _)| !is_of(host, family));
        }
        Ok(found)
    }
}

fn service_port(spec: &Value, port: u16) -> Option<&Value> {
    let ports = spec["ports"].as_array()?;
    ports.iter().find(|p| p["port"].as_u64() == Some(port.into()))
}

fn name_of(port: &Value) -> &str {
    port["name"].as_str().unwrap_or_default()
}

/// The port behind the Service: that of the same name in `ports`, else the target port if it is a number.
fn behind(ports: &Value, of_service: &Value) -> Option<u16> {
    let number = |value: &Value| value.as_u64().and_then(|p| u16::try_from(p).ok());
    match ports.as_array().filter(|ports| !ports.is_empty()) {
        Some(ports) => ports
            .iter()
            .find(|p| name_of(p) == name_of(of_service))
            .and_then(|p| number(&p["port"])),
        None => number(&of_service["targetPort"]).or_else(|| number(&of_service["port"])),
    }
}

fn of_slice(slice: &Value, of_service: &Value) -> Vec<(String, u16)> {
    let Some(port) = behind(&slice["ports"], of_service) else {
        return Vec::new();
    };
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    endpoints
        // Who does not say is ready.
        .filter(|endpoint| endpoint["conditions"]["ready"].as_bool() != Some(false))
        .filter_map(|endpoint| Some((endpoint["addresses"][0].as_str()?.to_owned(), port)))
        .collect()
}

fn of_endpoints(endpoints: &Value, of_service: &Value) -> Vec<(String, u16)> {
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let Some(port) = behind(&subset["ports"], of_service) else {
            continue;
        };
        let addresses = subset["addresses"].as_array().into_iter().flatten();
        found.extend(addresses.filter_map(|a| Some((a["ip"].as_str()?.to_owned(), port))));
    }
    found
}

fn is_of(host: &str, family: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(_)) => family == "IPv4",
        Ok(IpAddr::V6(_)) => family == "IPv6",
        Err(_) => false,
    }
}
