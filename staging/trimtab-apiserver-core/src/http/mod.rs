//! The HTTP half: from a request's bytes to a call of the registry, and back.
//!
//! Every request goes the same way: authenticate, impersonate, let in, authorize, dispatch. **Invariant:** nothing is
//! dispatched that has not been authorized (there is one place that dispatches, in `admit`, and it is behind
//! `Api::authorize`).

mod admit;
pub(crate) mod carrying;
mod head;
mod health;
mod held;
mod impersonate;
mod info;
mod negotiate;
mod passed_on;
mod paths;
mod pretty;
mod protobuf;
pub(crate) mod respond;
mod snapshot;
#[cfg(test)]
mod tests;
mod yaml;
mod yaml_scalar;
mod zpages;

use std::collections::BTreeMap;
use std::future::Future as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, stream};
use http::header::USER_AGENT;
use http::{Method, Request, Response};
use http_body::Body as _;
use jiff::Timestamp;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::{ApiError, GroupVersionKind};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::service_account::Issuer;
use trimtab_apiserver_kinds::resource::Resource;

use self::head::{Head, asked, read_body, read_head};
use self::impersonate::Impersonation;
pub(crate) use self::info::Target;
use self::negotiate::{Encoding, InProtobuf, Offer, Written};
use self::respond::Style;
use crate::api::{ApiRequest, ApiResponse, BodyFormat, RequestInfo};
use crate::audit::{Audit, Record};
use crate::auth::{Authenticator, Authorizer, Decider};
use crate::discovery::Discovery;
use crate::extensions::Served;
use crate::flow::{Classified, Flow, Permit};
use crate::metrics::{HealthMetrics, Metrics};
use crate::openapi::OpenApi;
use crate::registry::Registry;
use crate::serving::Believed;

pub(crate) use self::respond::Body;
pub(crate) use self::yaml::to_yaml;

/// The largest body that is read, in bytes; kube-apiserver's limit.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// Everything that answers requests.
#[derive(Debug)]
pub(crate) struct Api {
    registry: Arc<Registry>,
    authenticator: Arc<dyn Authenticator>,
    authorizer: Arc<dyn Authorizer>,
    impersonation: Impersonation,
    /// Who is asked instead of the authorizer, if anybody is.
    decider: Option<Arc<dyn Decider>>,
    /// Whose keys are published, if anybody's are.
    issuer: Option<Arc<Issuer>>,
    anonymous: bool,
    believed: Arc<Believed>,
    flow: Arc<Flow>,
    audit: Option<Arc<Audit>>,
    request_timeout: Duration,
    discovery: Discovery,
    openapi: OpenApi,
    /// What others serve, if anybody follows that.
    served: Option<Arc<Served>>,
    metrics: Metrics,
    healths: HealthMetrics,
    /// When it was started.
    started: Timestamp,
    /// By which flags; none where there were none to give.
    flags: BTreeMap<String, String>,
    /// Cancelled when the server stops: watches end then.
    stop: CancellationToken,
}

/// What a server's answers are made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Who is asked instead of the authorizer, if anybody is.
    pub(crate) decider: Option<Arc<dyn Decider>>,
    /// Whose keys are published, if anybody's are.
    pub(crate) issuer: Option<Arc<Issuer>>,
    pub(crate) anonymous: bool,
    /// Whose certificates are believed, and which proxies.
    pub(crate) believed: Arc<Believed>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) audit: Option<Arc<Audit>>,
    /// How long a request may take that does not last.
    pub(crate) request_timeout: Duration,
    /// What others serve, if anybody follows that.
    pub(crate) served: Option<Arc<Served>>,
    pub(crate) metrics: Metrics,
    /// By which flags the server was started.
    pub(crate) flags: BTreeMap<String, String>,
    pub(crate) stop: CancellationToken,
}

/// Who is at the other end of a connection, as far as that tells.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peer {
    /// The user that a certificate of the clients' authorities names.
    pub(crate) user: Option<UserInfo>,
    /// The common name in a certificate of the proxies' authorities.
    pub(crate) proxy: Option<String>,
    /// `None` for users in this process.
    pub(crate) address: Option<IpAddr>,
}

impl From<UserInfo> for Peer {
    fn from(user: UserInfo) -> Self {
        Self {
            user: Some(user),
            ..Self::default()
        }
    }
}

/// What has become known of a request on its way, whether it is refused or not.
#[derive(Default)]
struct Passage {
    /// For the client.
    warnings: Vec<String>,
    /// By which objects it was let in, or not.
    classified: Option<Classified>,
    /// What it holds while it is answered.
    permit: Permit,
    /// What is written down of it, if anything is.
    record: Option<Record>,
    /// What the connection says of the request beside its head.
    extensions: http::Extensions,
    /// Who is at the other end.
    address: Option<IpAddr>,
    /// By which all servers call it.
    audit_id: String,
}

impl Api {
    /// Who decides what may be done.
    #[cfg(test)]
    pub(crate) fn authorizer(&self) -> &dyn Authorizer {
        &*self.authorizer
    }

    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            registry,
            authenticator,
            authorizer,
            decider,
            issuer,
            anonymous,
            believed,
            flow,
            audit,
            request_timeout,
            served,
            metrics,
            flags,
            stop,
        } = parts;
        Self {
            discovery: Discovery::new(registry.resources().clone(), served.clone()),
            openapi: OpenApi::new(registry.resources().clone(), served.clone()),
            served,
            metrics,
            healths: HealthMetrics::new(),
            started: Timestamp::now(),
            flags,
            registry,
            authenticator,
            authorizer,
            impersonation: Impersonation::default(),
            decider,
            issuer,
            anonymous,
            believed,
            flow,
            audit,
            request_timeout,
            stop,
        }
    }

    /// Answers one request of this peer.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: Peer) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let start = Instant::now();
        let (mut parts, body) = request.into_parts();
        let mut passage = Passage {
            extensions: std::mem::take(&mut parts.extensions),
            address: peer.address,
            ..Passage::default()
        };
        let head = read_head(parts);
        passage.audit_id = match head.header("audit-id") {
            // It has to be another each time, and may be guessed.
            "" => uuid::Builder::from_random_bytes(fastrand::u128(..).to_ne_bytes())
                .into_uuid()
                .to_string(),
            given => given.to_owned(),
        };
        let watch = head.param("watch").is_some_and(negotiate::is_true);
        let named = head
            .param("fieldSelector")
            .and_then(|s| s.strip_prefix("metadata.name="));
        let target = info::parse(
            head.method.as_str(),
            &head.path,
            watch,
            named.filter(|n| !n.contains([',', '=', '!'])),
        );
        let _in_flight = self.metrics.begin(matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS
        ));
        let mut response = self
            .serve(&head, &target, peer, body, start, &mut passage)
            .await
            .unwrap_or_else(|error| {
                if let Some(record) = &mut passage.record {
                    record.refused(&error);
                }
                respond::error(&error, head.style)
            });
        if let Some(mut record) = passage.record.take() {
            record.begun(response.status().as_u16(), target.lasts());
            if response.body().size_hint().exact().is_none() {
                response = response.map(|body| record.with(body));
            }
        }
        if let Some(classified) = &passage.classified {
            classified.mark(&mut response);
        }
        respond::finish(&mut response, &passage.warnings, &passage.audit_id);
        let size = response.body().size_hint().exact();
        let code = response.status().as_u16();
        self.metrics
            .request(&asked(&head, &target), code, start.elapsed(), size);
        match head.method {
            // HTTP/1.1 leaves it out below; a stream of HTTP/2 would be broken by it.
            Method::HEAD => respond::without_body(response),
            _ => response,
        }
    }

    /// Answers a request that may be made.
    async fn dispatch<B>(
        &self,
        head: &Head,
        target: &Target,
        user: UserInfo,
        body: B,
        start: Instant,
        passage: &mut Passage,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if info::leads_nowhere(&head.path) {
            return self.path(head).await;
        }
        if let Some(backend) = self.elsewhere(head, target) {
            return self
                .pass_on(&*backend, head, target, user, body, start, passage)
                .await;
        }
        match target {
            Target::Resource(info) => {
                self.resource(head, target, info, user, body, start, passage)
                    .await
            }
            Target::Discovery(segments) => self.discover(head, segments),
            Target::Other => self.path(head).await,
        }
    }

    #[expect(clippy::too_many_arguments, reason = "all of it is one request")]
    async fn resource<B>(
        &self,
        head: &Head,
        target: &Target,
        info: &RequestInfo,
        user: UserInfo,
        body: B,
        start: Instant,
        passage: &mut Passage,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        if let Some(missing) = self.missing(info, head) {
            return missing;
        }
        if info.verb.is_empty() {
            return Err(paths::method_not_allowed());
        }
        let resources = self.registry.resources();
        let Some(resource) = resources.get(&info.group, &info.version, &info.resource) else {
            // Removed since it was looked for above.
            let missing = self.missing(info, head);
            return missing.unwrap_or_else(|| Err(ApiError::unknown_resource()));
        };
        let in_protobuf = if resource.custom {
            InProtobuf::Metadata
        } else {
            InProtobuf::Objects
        };
        let offer = match info.verb.as_str() {
            _ if resource.custom => Offer::Unrouted,
            "list" | "watch" => Offer::Lists,
            _ => Offer::Objects,
        };
        let mut accepted = head.accepted(offer)?;
        if accepted.encoding == Encoding::Protobuf {
            accepted = negotiate::accept(&head.headers, in_protobuf)
                .ok_or_else(|| negotiate::not_acceptable(&head.headers, offer))?;
        }
        let style = Style {
            encoding: accepted.encoding,
            ..head.style
        };
        let reads_body = matches!(info.verb.as_str(), "create" | "update" | "patch");
        let mut written = Written::As(BodyFormat::Json);
        if reads_body {
            written = negotiate::written(&head.headers, &info.verb, in_protobuf)?;
        }
        let mut body = read_body(body).await?;
        let deletes = matches!(info.verb.as_str(), "delete" | "deletecollection");
        if deletes && !body.is_empty() {
            // Options have a protobuf form, whatever is deleted.
            written = negotiate::written(&head.headers, &info.verb, InProtobuf::Objects)?;
        }
        let body_format = match written {
            Written::As(format) => format,
            Written::Protobuf if deletes => {
                body = protobuf::delete_options(&body)?;
                BodyFormat::Json
            }
            Written::Protobuf => {
                body = protobuf::body(&body, &expected_kind(&resource, info))?;
                BodyFormat::Json
            }
        };
        if let Some(record) = &mut passage.record {
            record.sent(&body);
        }
        let request = ApiRequest {
            info: info.clone(),
            query: head.query.clone(),
            user,
            shape: accepted.shape,
            body_format,
            body,
            user_agent: head.header(USER_AGENT).to_owned(),
        };
        let warnings = &mut passage.warnings;
        let response = match self.registry.answer(request, warnings).await {
            // The resource may have been removed since it was looked for.
            Err(error) if error.code == 404 => return self.missing(info, head).unwrap_or(Err(error)),
            other => other?,
        };
        Ok(match response {
            ApiResponse::Value {
                code,
                value,
                warnings: told,
            } => {
                *warnings = told;
                if let Some(record) = &mut passage.record {
                    record.answered(&value);
                }
                respond::value(code, &value, style)
            }
            ApiResponse::Encoded {
                code,
                json,
                warnings: told,
            } => {
                *warnings = told;
                match &mut passage.record {
                    Some(record) if record.wants_response() => {
                        let all: Vec<Bytes> = json.collect::<Result<_, _>>()?;
                        record.answered_pieces(&all);
                        respond::pieces(code, Box::new(all.into_iter().map(Ok)), style)?
                    }
                    _ => respond::pieces(code, json, style)?,
                }
            }
            ApiResponse::Watch {
                events,
                warnings: told,
            } => {
                *warnings = told;
                let permit = std::mem::take(&mut passage.permit);
                let events = held::to_the_beginning(events, permit, start + self.request_timeout);
                let watching = self.metrics.watching(&asked(head, target));
                let mut events = events.inspect(move |event| {
                    if let Some(watching) = &watching {
                        watching.event(event.json.len());
                    }
                });
                let mut stop = Box::pin(self.stop.clone().cancelled_owned());
                // Whether the server stops is asked only when there is nothing to tell: asking has its price.
                let until_stop = stream::poll_fn(move |cx| match events.poll_next_unpin(cx) {
                    Poll::Pending => stop.as_mut().poll(cx).map(|()| None),
                    ready => ready,
                });
                respond::watch(until_stop, style.encoding)
            }
        })
    }

    /// The answer for groups and versions that are not served: plain text where no such group or custom version is
    /// known, as kube-apiserver's fallback has it; a status otherwise.
    fn missing(&self, info: &RequestInfo, _head: &Head) -> Option<Result<Response<Body>, ApiError>> {
        let table = self.registry.resources().snapshot();
        if let Some(resource) = table.get(&info.group, &info.version, &info.resource) {
            // Requests for a custom resource in the wrong scope find nothing to answer them.
            let across = matches!(info.verb.as_str(), "list" | "watch");
            let misplaced = match (resource.namespaced(), info.namespace.is_empty()) {
                (true, true) => !across,
                (namespaced, empty) => !namespaced && !empty,
            };
            return (resource.custom && misplaced).then(|| Ok(respond::page_not_found()));
        }
        let custom = table.iter().any(|r| r.group == info.group && r.custom);
        let known = table.iter().any(|r| r.group == info.group);
        if info.group.is_empty() || (known && !custom) {
            return Some(Err(ApiError::unknown_resource()));
        }
        Some(Ok(respond::page_not_found()))
    }
}

/// The kind that a body is if it does not say.
fn expected_kind(resource: &Resource, info: &RequestInfo) -> GroupVersionKind {
    let below = resource.subresources.iter().find(|s| s.name == info.subresource);
    below.map_or_else(|| resource.gvk(), |s| s.gvk.clone())
}
