//! What is not a resource: discovery, OpenAPI, health, version, metrics.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header::{ETAG, IF_NONE_MATCH};
use serde_json::json;
use tokio::time::timeout;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::negotiate;
use super::respond::{self, Body};
use super::{Api, Head};
use crate::discovery::Aggregated;
use crate::flow::dump;
use crate::openapi::protobuf;

/// How long the store may take to say that it is there; kube-apiserver gives its etcd as long.
const STORE_CHECK: Duration = Duration::from_secs(2);

/// 405, as routing words it.
pub(super) fn method_not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, StatusReason::MethodNotAllowed, message)
}

impl Api {
    /// Answers `/api`, `/apis`, a group or a version.
    pub(super) fn discover(&self, head: &Head, segments: &[String]) -> Result<Response<Body>, ApiError> {
        if head.path.starts_with("//") {
            return Ok(respond::page_not_found());
        }
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Err(method_not_allowed());
        }
        if let (["api" | "apis"], Some(wanted)) = (segments.as_slice(), aggregated(head.header("accept"))) {
            let found = self.discovery.aggregated(segments[0] == "api", wanted);
            if head.header(IF_NONE_MATCH) == found.etag {
                let mut response = Response::new(respond::full(Bytes::new()));
                *response.status_mut() = http::StatusCode::NOT_MODIFIED;
                respond::set(&mut response, ETAG, &found.etag);
                return Ok(response);
            }
            let mut response =
                respond::encoded(200, wanted.content_type(), found.json.clone(), head.style.gzip);
            respond::set(&mut response, ETAG, &found.etag);
            respond::set(&mut response, http::header::VARY, "Accept");
            return Ok(response);
        }
        head.accepted.clone()?;
        let value = match segments.as_slice() {
            ["api"] => Some(self.discovery.core_versions()),
            ["apis"] => Some(self.discovery.groups()),
            ["api", version] => self.discovery.resources("", version),
            ["apis", group] => self.discovery.group(group),
            ["apis", group, version] => self.discovery.resources(group, version),
            _ => None,
        };
        match (value, segments.as_slice()) {
            (Some(value), _) => Ok(respond::value(200, &value, head.style)),
            (None, ["apis", group, ..]) if !self.discovery.has_group(group) => Ok(respond::page_not_found()),
            (None, _) => Err(ApiError::unknown_resource()),
        }
    }

    /// Answers every other path.
    pub(super) async fn path(&self, head: &Head) -> Result<Response<Body>, ApiError> {
        let path = head.path.trim_end_matches('/');
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let reads = matches!(head.method.as_str(), "GET" | "HEAD");
        let known = matches!(
            segments.as_slice(),
            [] | ["version" | "metrics"]
                | ["healthz" | "livez" | "readyz", ..]
                | ["openapi", ..]
                | ["openid", "v1", "jwks"]
                | [".well-known", "openid-configuration"]
                | ["debug", "api_priority_and_fairness", _]
        );
        if known && !reads {
            return Err(method_not_allowed());
        }
        if path == super::snapshot::PATH {
            return match head.method.as_str() {
                "GET" => self.snapshot().await,
                _ => Err(method_not_allowed()),
            };
        }
        Ok(match segments.as_slice() {
            [] => respond::value(200, &json!({"paths": self.root_paths()}), head.style.json()),
            ["version"] => respond::value(200, &crate::version::document(), head.style.json()),
            ["metrics"] => {
                let content_type = "text/plain; version=0.0.4; charset=utf-8";
                respond::encoded(
                    200,
                    content_type,
                    Bytes::from(self.metrics.text()),
                    head.style.gzip,
                )
            }
            ["healthz" | "livez" | "readyz", rest @ ..] => self.health(head, segments[0], rest).await,
            ["openapi", "v2"] if wants_protobuf(head.header("accept")) => self
                .openapi
                .v2_protobuf(head.header(IF_NONE_MATCH), head.style.gzip),
            ["openapi", "v2"] => self.openapi.v2(head.header(IF_NONE_MATCH), head.style.gzip),
            ["openapi", "v3"] => self.openapi.index(head.style.gzip),
            ["openapi", "v3", rest @ ..] => {
                let found =
                    self.openapi
                        .group_version(&rest.join("/"), head.header(IF_NONE_MATCH), head.style.gzip);
                found.unwrap_or_else(respond::page_not_found)
            }
            ["openid", "v1", "jwks"] | [".well-known", "openid-configuration"]
                if !self.issuer.is_discoverable() =>
            {
                respond::page_not_found()
            }
            ["openid", "v1", "jwks"] => published(
                "application/jwk-set+json",
                &self.issuer.key_set(),
                head.style.gzip,
            ),
            [".well-known", "openid-configuration"] => {
                // The keys are where the client has found this document.
                let server = format!("https://{}", head.host);
                published(
                    "application/json",
                    &self.issuer.discovery(&server),
                    head.style.gzip,
                )
            }
            ["debug", "api_priority_and_fairness", name] => {
                let table = self.flow.table();
                let dumped = table.and_then(|table| table.dump(name));
                dumped.map_or_else(respond::page_not_found, |text| respond::text(200, text))
            }
            _ => respond::page_not_found(),
        })
    }

    fn root_paths(&self) -> Vec<String> {
        let fixed = [
            "/.well-known/openid-configuration",
            "/healthz",
            "/healthz/etcd",
            "/healthz/ping",
            "/livez",
            "/livez/etcd",
            "/livez/ping",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/readyz/etcd",
            "/readyz/ping",
            super::snapshot::PATH,
            "/version",
        ];
        let mut paths = self.discovery.paths();
        let dumps = dump::NAMES.iter().map(|name| format!("{}{name}", dump::PREFIX));
        paths.extend(dumps.filter(|_| self.flow.table().is_some()));
        paths.extend(fixed.iter().map(|p| (*p).to_owned()));
        paths.sort();
        paths
    }

    /// The checks of `/healthz` and its kin: `ping`, and `etcd` as clients call the storage.
    async fn health(&self, head: &Head, endpoint: &str, rest: &[&str]) -> Response<Body> {
        let checks = ["ping", "etcd"];
        let excluded: Vec<&str> = head
            .query
            .iter()
            .filter(|(k, _)| k == "exclude")
            .map(|(_, v)| v.as_str())
            .collect();
        let chosen: Vec<&str> = match rest {
            [] => checks.into_iter().filter(|c| !excluded.contains(c)).collect(),
            [check] if checks.contains(check) => vec![*check],
            _ => return respond::page_not_found(),
        };
        let mut report = String::new();
        let mut healthy = true;
        for check in chosen {
            let passed = check != "etcd" || {
                let asked = self.registry.store().revision();
                matches!(timeout(STORE_CHECK, asked).await, Ok(Ok(_)))
            };
            healthy &= passed;
            let line = if passed {
                format!("[+]{check} ok\n")
            } else {
                format!("[-]{check} failed: reason withheld\n")
            };
            report.push_str(&line);
        }
        if !healthy {
            return respond::text(500, format!("{report}{endpoint} check failed\n"));
        }
        if rest.is_empty() && head.param("verbose").is_some() {
            return respond::text(200, format!("{report}{endpoint} check passed\n"));
        }
        respond::text(200, "ok")
    }
}

/// Which form of aggregated discovery the client wants most, if any that we know.
fn aggregated(accept: &str) -> Option<Aggregated> {
    let types = negotiate::accepted_types(accept);
    let best = types.iter().find(|t| t.name == "application/json")?;
    if best.parameter("g") != Some("apidiscovery.k8s.io")
        || best.parameter("as") != Some("APIGroupDiscoveryList")
    {
        return None;
    }
    match best.parameter("v") {
        Some("v2") => Some(Aggregated::V2),
        Some("v2beta1") => Some(Aggregated::V2Beta1),
        _ => None,
    }
}

/// What relying parties read of the issuer of service accounts' tokens; they may keep it for an hour.
fn published(content_type: &str, document: &serde_json::Value, gzip: bool) -> Response<Body> {
    let mut response = respond::encoded(200, content_type, Bytes::from(document.to_string()), gzip);
    respond::set(&mut response, http::header::CACHE_CONTROL, "public, max-age=3600");
    response
}

/// Whether the client wants the old OpenAPI document in protobuf most.
fn wants_protobuf(accept: &str) -> bool {
    let types = negotiate::accepted_types(accept);
    // The name was once written with an `@`, which is not allowed in a media type.
    types
        .first()
        .is_some_and(|t| t.name.replace('@', ".") == protobuf::MEDIA_TYPE)
}
