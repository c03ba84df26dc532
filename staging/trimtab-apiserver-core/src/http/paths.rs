//! What is not a resource: discovery, OpenAPI, health, version, metrics.

use bytes::Bytes;
use http::Response;
use http::header::{ETAG, IF_NONE_MATCH};
use serde_json::json;
use trimtab_apimachinery_meta::{ApiError, StatusReason};

use super::negotiate::{self, Offer};
use super::respond::{self, Body};
use super::{Api, Head, health};
use crate::discovery::Aggregated;
use crate::flow::dump;
use crate::openapi::protobuf;

/// 405, as routing words it.
pub(super) fn method_not_allowed() -> ApiError {
    let message = "the server does not allow this method on the requested resource";
    ApiError::new(405, StatusReason::MethodNotAllowed, message)
}

impl Api {
    /// Answers `/api`, `/apis`, a group or a version.
    pub(super) fn discover(&self, head: &Head, segments: &[String]) -> Result<Response<Body>, ApiError> {
        let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Err(method_not_allowed());
        }
        if let (["api" | "apis"], Some(wanted)) = (segments.as_slice(), aggregated(head.header("accept")))
            && (segments[0] == "apis" || self.discovery.has_core())
        {
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
        let offer = match segments.as_slice() {
            ["apis", _] => Offer::Unrouted,
            _ => Offer::Objects,
        };
        head.accepted(offer)?;
        let value = match segments.as_slice() {
            ["api"] => self.discovery.core_versions(&head.host),
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
        let path = match head.path.as_str() {
            "" | "/index.html" => "/",
            "/version/" => "/version",
            path => path,
        };
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let reads = matches!(head.method.as_str(), "GET" | "HEAD");
        let known = matches!(
            segments.as_slice(),
            ["" | "version" | "metrics"]
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
            [""] => respond::document(&json!({"paths": self.root_paths()})),
            ["version"] => {
                negotiate::accept_json(&head.headers)?;
                respond::document(&crate::version::document())
            }
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
            ["openid", "v1", "jwks"] | [".well-known", "openid-configuration"] => {
                let issuer = self.issuer.as_ref().filter(|issuer| issuer.is_discoverable());
                match (issuer, segments[0]) {
                    (None, _) => respond::page_not_found(),
                    (Some(issuer), "openid") => {
                        published("application/jwk-set+json", &issuer.key_set(), head.style.gzip)
                    }
                    (Some(issuer), _) => {
                        // The keys are where the client has found this document.
                        let server = format!("https://{}", head.host);
                        published("application/json", &issuer.discovery(&server), head.style.gzip)
                    }
                }
            }
            ["debug", "api_priority_and_fairness", name] => {
                let table = self.flow.table();
                let dumped = table.and_then(|table| table.dump(name));
                dumped.map_or_else(respond::page_not_found, |text| respond::text(200, text))
            }
            // What has nothing between two slashes, among what is routed.
            ["api", ..] => return Err(ApiError::unknown_resource()),
            ["apis", group, ..] if self.discovery.has_group(group) => {
                return Err(ApiError::unknown_resource());
            }
            _ => respond::page_not_found(),
        })
    }

    fn root_paths(&self) -> Vec<String> {
        let fixed = [
            "/.well-known/openid-configuration",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            super::snapshot::PATH,
            "/version",
        ];
        let mut paths = self.discovery.paths();
        let dumps = dump::NAMES.iter().map(|name| format!("{}{name}", dump::PREFIX));
        paths.extend(dumps.filter(|_| self.flow.table().is_some()));
        paths.extend(fixed.iter().map(|p| (*p).to_owned()));
        paths.extend(health::paths());
        paths.sort();
        paths
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
