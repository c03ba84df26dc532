//! A request's head, read: what everything after it looks at; and its body.

use bytes::Bytes;
use http::header::{ACCEPT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use trimtab_apimachinery_meta::{ApiError, StatusReason};
use trimtab_apiserver_auth::Attributes;

use super::MAX_BODY;
use super::info::Target;
use super::negotiate::{self, Accepted, Encoding, InProtobuf, Offer};
use super::respond::Style;
use crate::api::OutputShape;
use crate::metrics::Asked;

/// A request after its head has been read.
pub(super) struct Head {
    pub(super) method: Method,
    /// As it came.
    pub(super) uri: http::Uri,
    pub(super) path: String,
    pub(super) query: Vec<(String, String)>,
    /// The server as the client calls it: host and port.
    pub(super) host: String,
    pub(super) headers: HeaderMap,
    /// What the client accepts of what objects can be had in, if it does.
    accepted: Option<Accepted>,
    pub(super) style: Style,
}

impl Head {
    /// What the answer will look like.
    ///
    /// # Errors
    ///
    /// 406 when the client accepts nothing of what there is on offer.
    pub(super) fn accepted(&self, offer: Offer) -> Result<Accepted, ApiError> {
        let accepted = self.accepted.clone();
        accepted.ok_or_else(|| negotiate::not_acceptable(&self.headers, offer))
    }

    pub(super) fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }

    pub(super) fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }
}

/// What a request is counted by.
pub(super) fn asked<'a>(head: &'a Head, target: &'a Target) -> Asked<'a> {
    Asked {
        target,
        method: &head.method,
        path: &head.path,
        dry_run: head.query.iter().any(|(k, v)| k == "dryRun" && v == "All"),
        applies: head.method == Method::PATCH
            && head.header(CONTENT_TYPE).starts_with("application/apply-patch"),
    }
}

pub(super) fn attributes(head: &Head, target: &Target) -> Attributes {
    match target {
        Target::Resource(info) => Attributes {
            verb: if info.verb.is_empty() {
                head.method.as_str().to_lowercase()
            } else {
                info.verb.clone()
            },
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: if info.name.is_empty() {
                info.field_name.clone()
            } else {
                info.name.clone()
            },
            is_resource: true,
            path: head.path.clone(),
        },
        _ => Attributes {
            verb: head.method.as_str().to_lowercase(),
            path: head.path.clone(),
            ..Attributes::default()
        },
    }
}

pub(super) fn read_head(parts: http::request::Parts) -> Head {
    let path = percent_encoding::percent_decode_str(parts.uri.path())
        .decode_utf8_lossy()
        .into_owned();
    let query: Vec<(String, String)> =
        form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes())
            .into_owned()
            .collect();
    // Of resources whose objects have no protobuf form it is asked again.
    let accepted = negotiate::accept(&parts.headers, InProtobuf::Objects);
    let text = |name: http::HeaderName| {
        parts
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    };
    let host = match parts.uri.authority() {
        Some(authority) => authority.to_string(),
        None => text(http::header::HOST).to_owned(),
    };
    let best = accepted.unwrap_or_default();
    let asked = query.iter().find(|(k, _)| k == "pretty").map(|(_, v)| v.clone());
    // People's tools get readable answers without asking, as with kube-apiserver.
    let user_agent = text(USER_AGENT);
    let by_hand = ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|tool| user_agent.starts_with(tool));
    // Other shapes have their own ways to be written: what is no object is JSON then, refusals above all.
    let plain = best.shape == OutputShape::Object;
    let style = Style {
        encoding: if plain { best.encoding } else { Encoding::Json },
        pretty: asked.map_or(best.pretty || by_hand, |v| negotiate::is_true(&v)),
        gzip: text(ACCEPT_ENCODING)
            .split(',')
            .any(|e| e.trim().starts_with("gzip")),
    };
    Head {
        method: parts.method,
        uri: parts.uri,
        path,
        query,
        host,
        headers: parts.headers,
        accepted,
        style,
    }
}

pub(super) async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
where
    B: http_body::Body<Data = Bytes> + Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(read) => Ok(read.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let message = format!("Request entity too large: limit is {MAX_BODY}");
            Err(ApiError::new(413, StatusReason::RequestEntityTooLarge, message))
        }
        Err(error) => Err(ApiError::bad_request(format!(
            "the request body cannot be read: {error}"
        ))),
    }
}
