//! What a server behind an APIService says of itself: discovery in either form, and OpenAPI.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout_at};
use trimtab_apiserver_auth::user::MASTERS_GROUP;
use trimtab_apiserver_core::extensions::OldDocument;

use super::check::request_as;
use super::convert::to_v3;
use super::service::Registered;
use crate::proxy::Upstream;

/// How long discovery may take, and OpenAPI; kube-aggregator's.
const PATIENCE: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(60));
/// The longest document that is read, in bytes. All of Kubernetes is a tenth of that.
const MOST: usize = 64 * 1024 * 1024;
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
                          application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList";

/// What is known of one version of one server.
#[derive(Clone, Debug, Default)]
pub(super) struct Documents {
    /// As aggregated discovery has them.
    pub(super) resources: Vec<Value>,
    /// Whether that is what they are now.
    pub(super) is_current: bool,
    /// Entries of the index of OpenAPI documents, by their paths.
    pub(super) openapi: BTreeMap<String, Value>,
    pub(super) openapi_v2: Option<Arc<OldDocument>>,
    v2_etag: String,
    /// The new document, made of the old one for a server that has no other.
    pub(super) converted: Option<Bytes>,
}

impl Documents {
    /// Asks the server for its resources.
    ///
    /// # Errors
    ///
    /// A text that says why they are not known; they are stale then, and none.
    pub(super) async fn discover(&mut self, of: &Registered, upstream: &Upstream) -> Result<(), String> {
        let found = discover(of, upstream).await;
        self.is_current = found.is_ok();
        self.resources = found.as_ref().cloned().unwrap_or_default();
        found.map(drop)
    }

    /// Asks the server for its OpenAPI documents. What it has told before stays while it does not answer.
    ///
    /// # Errors
    ///
    /// A text that says why they are not known.
    pub(super) async fn describe(&mut self, of: &Registered, upstream: &Upstream) -> Result<(), String> {
        let end = Instant::now() + PATIENCE.1;
        let fetch = Fetch {
            upstream,
            user: "system:aggregator",
            groups: &[],
            end,
        };
        let index = fetch.get("/openapi/v3", "application/json", "").await?;
        let own = of.path();
        let own = own.trim_start_matches('/');
        if index.code == StatusCode::OK {
            let index = index.json()?;
            let paths = index["paths"].as_object().into_iter().flatten();
            // Whatever else it has, it is asked for that alone.
            self.openapi = paths
                .filter(|(path, _)| *path == own)
                .map(|(path, entry)| (path.clone(), entry.clone()))
                .collect();
        }
        let old = fetch
            .get("/openapi/v2", "application/json", &self.v2_etag)
            .await?;
        if old.code == StatusCode::OK {
            self.v2_etag = old.header(&ETAG).to_owned();
            self.openapi_v2 = Some(Arc::new(OldDocument {
                below: format!("{}/", of.path()),
                document: old.json()?,
            }));
            self.converted = None;
        }
        if index.code != StatusCode::NOT_FOUND {
            self.converted = None;
        } else if let (None, Some(old)) = (&self.converted, &self.openapi_v2) {
            let converted = Bytes::from(to_v3(&old.document, &old.below).to_string());
            let mut hasher = DefaultHasher::new();
            converted.hash(&mut hasher);
            let url = format!("/openapi/v3/{own}?hash={:016X}", hasher.finish());
            self.openapi = BTreeMap::from([(own.to_owned(), json!({"serverRelativeURL": url}))]);
            self.converted = Some(converted);
        }
        Ok(())
    }
}

/// The resources of one version, as aggregated discovery has them.
async fn discover(of: &Registered, upstream: &Upstream) -> Result<Vec<Value>, String> {
    let fetch = Fetch {
        upstream,
        user: "system:kube-aggregator",
        groups: &[MASTERS_GROUP],
        end: Instant::now() + PATIENCE.0,
    };
    let all = if of.group.is_empty() { "/api" } else { "/apis" };
    let answer = fetch.get(all, AGGREGATED, "").await?;
    let content_type = answer.header(&CONTENT_TYPE);
    if answer.code == StatusCode::OK && content_type.contains("as=APIGroupDiscoveryList") {
        return Ok(of_aggregated(&answer.json()?, of));
    }
    if answer.code == StatusCode::SERVICE_UNAVAILABLE {
        return Err(format!("{all} is answered with {}", answer.code));
    }
    let path = of.path();
    let answer = fetch.get(&path, "application/json", "").await?;
    if answer.code != StatusCode::OK {
        return Err(format!("{path} is answered with {}", answer.code));
    }
    Ok(of_list(&answer.json()?, of))
}

/// The resources of one version in an aggregated document.
fn of_aggregated(document: &Value, of: &Registered) -> Vec<Value> {
    let items = document["items"].as_array().into_iter().flatten();
    let mut groups = items.filter(|group| group["metadata"]["name"].as_str().unwrap_or_default() == of.group);
    let versions = groups.next().and_then(|group| group["versions"].as_array());
    let mut versions = versions.into_iter().flatten();
    let version = versions.find(|version| version["version"] == of.version.as_str());
    let mut resources = version
        .and_then(|version| version["resources"].as_array())
        .cloned()
        .unwrap_or_default();
    // Clients trip over kinds that are missing.
    let nothing = || json!({"group": "", "version": "", "kind": ""});
    for resource in &mut resources {
        if resource["responseKind"].is_null() {
            resource["responseKind"] = nothing();
        }
        for below in resource["subresources"].as_array_mut().into_iter().flatten() {
            if below["responseKind"].is_null() {
                below["responseKind"] = nothing();
            }
        }
    }
    resources
}

/// The resources of an `APIResourceList`, as aggregated discovery has them.
fn of_list(list: &Value, of: &Registered) -> Vec<Value> {
    let mut found: Vec<Value> = Vec::new();
    for entry in list["resources"].as_array().into_iter().flatten() {
        let text = |field: &str| entry[field].as_str().unwrap_or_default();
        let own = |field: &str, otherwise: &str| match text(field) {
            "" => otherwise.to_owned(),
            text => text.to_owned(),
        };
        let kind = json!({"group": own("group", &of.group), "version": own("version", &of.version), "kind": text("kind")});
        let scope = if entry["namespaced"] == true {
            "Namespaced"
        } else {
            "Cluster"
        };
        let (name, below) = match text("name").split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (text("name"), None),
        };
        let at = found.iter().position(|resource| resource["resource"] == name);
        let at = at.unwrap_or_else(|| {
            // A subresource may come before its resource, or without it.
            let empty = json!({"group": "", "version": "", "kind": ""});
            found.push(
                json!({"resource": name, "responseKind": empty, "scope": scope, "singularResource": "",
                "verbs": null}),
            );
            found.len() - 1
        });
        let resource = &mut found[at];
        if let Some(below) = below {
            let sub = json!({"subresource": below, "responseKind": kind, "verbs": entry["verbs"]});
            match resource["subresources"].as_array_mut() {
                Some(all) => all.push(sub),
                None => resource["subresources"] = json!([sub]),
            }
            continue;
        }
        resource["responseKind"] = kind;
        resource["singularResource"] = text("singularName").into();
        resource["verbs"] = entry["verbs"].clone();
        for list in ["shortNames", "categories"] {
            if entry[list].is_array() {
                resource[list] = entry[list].clone();
            }
        }
    }
    found
}

/// Requests of this server's own, by one of its names, which all have to be answered at the same time.
struct Fetch<'u> {
    upstream: &'u Upstream,
    user: &'u str,
    groups: &'u [&'u str],
    end: Instant,
}

struct Answer {
    code: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Fetch<'_> {
    async fn get(&self, path: &str, accept: &'static str, etag: &str) -> Result<Answer, String> {
        let mut request = request_as(path, self.user, self.groups)?;
        request
            .headers_mut()
            .insert(ACCEPT, HeaderValue::from_static(accept));
        if let Ok(etag) = HeaderValue::from_str(etag)
            && !etag.is_empty()
        {
            request.headers_mut().insert(IF_NONE_MATCH, etag);
        }
        let failed = |why: String| format!("{path}: {why}");
        let address = self.upstream.address().await;
        let address = address.map_err(|error| failed(error.to_string()))?;
        let response = self.upstream.send(request, &address, Some(self.end), true).await;
        let (head, body) = response.map_err(|error| failed(error.to_string()))?.into_parts();
        let body = timeout_at(self.end, Limited::new(body, MOST).collect()).await;
        let body = body.map_err(|_| failed("context deadline exceeded".to_owned()))?;
        Ok(Answer {
            code: head.status,
            headers: head.headers,
            body: body.map_err(|error| failed(error.to_string()))?.to_bytes(),
        })
    }
}

impl Answer {
    fn header(&self, name: &http::HeaderName) -> &str {
        let value = self.headers.get(name);
        value.and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    fn json(&self) -> Result<Value, String> {
        serde_json::from_slice(&self.body).map_err(|error| format!("the answer is no JSON: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registered() -> Registered {
        let object = json!({"metadata": {"name": "v1.g"}, "spec": {"group": "g", "version": "v1"}});
        Registered::read(&object).expect("has a name")
    }

    #[test]
    fn old_discovery_is_told_in_the_new_form() {
        let list = json!({"kind": "APIResourceList", "groupVersion": "g/v1", "resources": [
            {"name": "things/status", "singularName": "", "namespaced": true, "kind": "Thing", "verbs": ["get"]},
            {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing", "verbs": ["get", "list"],
                "shortNames": ["t"], "categories": ["all"]},
            {"name": "things/scale", "group": "autoscaling", "version": "v1", "kind": "Scale", "verbs": ["update"]},
        ]});
        let wanted = json!([{
            "resource": "things",
            "responseKind": {"group": "g", "version": "v1", "kind": "Thing"},
            "scope": "Namespaced",
            "singularResource": "thing",
            "verbs": ["get", "list"],
            "shortNames": ["t"],
            "categories": ["all"],
            "subresources": [
                {"subresource": "status", "responseKind": {"group": "g", "version": "v1", "kind": "Thing"}, "verbs": ["get"]},
                {"subresource": "scale", "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"},
                    "verbs": ["update"]},
            ],
        }]);
        assert_eq!(Value::from(of_list(&list, &registered())), wanted);
    }

    #[test]
    fn of_the_new_form_one_version_is_taken_and_kinds_that_are_missing_are_empty() {
        let document = json!({"items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v1", "resources": [{"resource": "no"}]}]},
            {"metadata": {"name": "g"}, "versions": [
                {"version": "v2", "resources": [{"resource": "no"}]},
                {"version": "v1", "resources": [{"resource": "yes", "subresources": [{"subresource": "s"}]}]},
            ]},
        ]});
        let empty = json!({"group": "", "version": "", "kind": ""});
        let wanted = json!([{"resource": "yes", "responseKind": empty,
            "subresources": [{"subresource": "s", "responseKind": empty}]}]);
        assert_eq!(Value::from(of_aggregated(&document, &registered())), wanted);
        assert!(of_aggregated(&json!({"items": []}), &registered()).is_empty());
    }
}
