//! The HTTP half: from a request's bytes to a call of the registry, and back.
//!
//! Every request goes the same way: authenticate, impersonate, authorize, dispatch. **Invariant:** nothing is
//! dispatched that has not been authorized (there is one place that dispatches, and it is behind [`Api::admit`]).

mod held;
mod impersonate;
mod info;
mod negotiate;
mod paths;
mod protobuf;
pub(crate) mod respond;
mod snapshot;
#[cfg(test)]
mod tests;
mod yaml;
mod yaml_scalar;

use std::future::Future as _;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures::future::Either;
use futures::{StreamExt as _, stream};
use http::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, Method, Request, Response};
use http_body::Body as _;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::{ApiError, GroupResource, GroupVersionKind, StatusReason};
use trimtab_apiserver_auth::service_account::Issuer;
use trimtab_apiserver_auth::{Attributes, UserInfo};
use trimtab_apiserver_kinds::resource::Resource;

pub(crate) use self::info::Target;
use self::negotiate::{Accepted, Encoding, InProtobuf, Written};
use self::respond::Style;
use crate::api::{ApiRequest, ApiResponse, BodyFormat, RequestInfo};
use crate::audit::{Audit, Origin, Record};
use crate::auth::{Authenticator, Authorizer, Credentials, FrontProxy};
use crate::discovery::Discovery;
use crate::flow::{self, Classified, Digest, Flow, Permit};
use crate::metrics::{Asked, Metrics};
use crate::openapi::OpenApi;
use crate::registry::{Registry, time_asked};

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
    /// Whose keys are published.
    issuer: Arc<Issuer>,
    anonymous: bool,
    flow: Arc<Flow>,
    audit: Option<Arc<Audit>>,
    request_timeout: Duration,
    discovery: Discovery,
    openapi: OpenApi,
    metrics: Metrics,
    front_proxy: Option<FrontProxy>,
    /// Cancelled when the server stops: watches end then.
    stop: CancellationToken,
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

/// A request after its head has been read.
struct Head {
    method: Method,
    /// As it came.
    uri: http::Uri,
    path: String,
    query: Vec<(String, String)>,
    /// The server as the client calls it: host and port.
    host: String,
    headers: HeaderMap,
    accepted: Result<Accepted, ApiError>,
    style: Style,
}

impl Head {
    fn param(&self, name: &str) -> Option<&str> {
        self.query
            .iter()
            .find(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
    }

    fn header(&self, name: impl http::header::AsHeaderName) -> &str {
        self.headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default()
    }
}

/// What a server's answers are made with.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    /// Whose keys are published.
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) anonymous: bool,
    /// Which proxies are believed.
    pub(crate) front_proxy: Option<FrontProxy>,
    pub(crate) flow: Arc<Flow>,
    pub(crate) audit: Option<Arc<Audit>>,
    /// How long a request may take that does not last.
    pub(crate) request_timeout: Duration,
    pub(crate) metrics: Metrics,
    pub(crate) stop: CancellationToken,
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
}

impl Api {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            registry,
            authenticator,
            authorizer,
            issuer,
            anonymous,
            front_proxy,
            flow,
            audit,
            request_timeout,
            metrics,
            stop,
        } = parts;
        Self {
            discovery: Discovery::new(registry.resources().clone()),
            openapi: OpenApi::new(registry.resources().clone()),
            metrics,
            registry,
            authenticator,
            authorizer,
            issuer,
            anonymous,
            front_proxy,
            flow,
            audit,
            request_timeout,
            stop,
        }
    }

    /// Answers one request of this peer.
    pub(crate) async fn answer<B>(&self, request: Request<B>, peer: Peer) -> Response<Body>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let head = read_head(parts);
        let audit_id = match head.header("audit-id") {
            "" => uuid::Uuid::new_v4().to_string(),
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
        let mut passage = Passage::default();
        let mut response = self
            .serve(&head, &target, peer, &audit_id, body, start, &mut passage)
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
        respond::finish(&mut response, &passage.warnings, &audit_id);
        let size = response.body().size_hint().exact();
        let code = response.status().as_u16();
        self.metrics
            .request(&asked(&head, &target), code, start.elapsed(), size);
        response
    }

    /// Answers a request in the time that it has.
    #[expect(clippy::too_many_arguments, reason = "all of it is one request")]
    async fn serve<B>(
        &self,
        head: &Head,
        target: &Target,
        peer: Peer,
        audit_id: &str,
        body: B,
        start: Instant,
        passage: &mut Passage,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let address = peer.address;
        let known = self.who(head, peer).await;
        let attributes = attributes(head, target);
        if let Some(audit) = &self.audit {
            // Who has not said who they are has done something, too.
            let nobody = UserInfo::default();
            let user = known.as_ref().unwrap_or(&nobody);
            passage.record = begin(audit, audit_id, user, &attributes, head, address)?;
        }
        let known = known?;
        let user = impersonate::impersonate(&head.headers, &known, &*self.authorizer)?;
        if let Some(record) = &mut passage.record
            && let Some(user) = &user
        {
            record.impersonates(user);
        }
        let user = user.unwrap_or(known);
        let annotations = passage.record.as_ref().map(|record| record.annotations().clone());
        if target.lasts() {
            let answer = self.let_in(head, target, user, attributes, body, start, passage);
            return match annotations {
                Some(annotations) => annotations.scope(answer).await,
                None => answer.await,
            };
        }
        let end = start + time_asked(head.param("timeout"), self.request_timeout)?;
        let answer = self.let_in(head, target, user, attributes, body, start, passage);
        let answer = match annotations {
            Some(annotations) => Either::Left(annotations.scope(answer)),
            None => Either::Right(answer),
        };
        let answer = timeout_at(end, answer).await;
        let mut response = answer.map_err(|_| {
            // Undone or done, which nobody knows; the registry does nothing by halves.
            ApiError::timeout("request did not complete within the allotted timeout")
        })??;
        let permit = std::mem::take(&mut passage.permit);
        if response.body().size_hint().exact().is_none() {
            // It is made as it is sent.
            response = response.map(|body| held::to_the_end(body, permit, end));
        }
        Ok(response)
    }

    /// Lets a request in when there is room for it, and answers it if it may be made.
    #[expect(clippy::too_many_arguments, reason = "all of it is one request")]
    async fn let_in<B>(
        &self,
        head: &Head,
        target: &Target,
        user: UserInfo,
        attributes: Attributes,
        body: B,
        start: Instant,
        passage: &mut Passage,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let is_watch = attributes.verb == "watch";
        if !self.flow.is_free(is_watch, target.lasts() && !is_watch) {
            let digest = Digest {
                user: &user,
                verb: &attributes.verb,
                is_resource: attributes.is_resource,
                group: &attributes.group,
                resource: &attributes.resource,
                subresource: &attributes.subresource,
                namespace: &attributes.namespace,
                path: &attributes.path,
            };
            let width = |widest| self.width(head, target, widest);
            let may_last = || time_asked(head.param("timeout"), self.request_timeout);
            let may_last = || may_last().unwrap_or(self.request_timeout);
            let (classified, permit) = self.flow.enter(&digest, width, may_last).await;
            passage.classified = classified;
            match permit {
                Ok(permit) => passage.permit = permit,
                Err(refused) => {
                    self.metrics.terminated(&asked(head, target), 429);
                    return Ok(respond::too_many_requests(refused.retry_after));
                }
            }
        }
        self.authorize(&user, &attributes, passage.record.as_ref())?;
        self.dispatch(head, target, user, body, start, passage).await
    }

    /// How many seats a request takes, if it may have so many.
    fn width(&self, head: &Head, target: &Target, widest: u32) -> u32 {
        match target {
            Target::Resource(info) if matches!(info.verb.as_str(), "list" | "watch") => {
                let size = self.registry.size_of(&info.group, &info.version, &info.resource);
                let collection = size.map(|(objects, bytes)| flow::Collection { objects, bytes });
                flow::of_list(info, |name| head.param(name), collection, widest)
            }
            _ => 1,
        }
    }

    /// Says who asks.
    async fn who(&self, head: &Head, peer: Peer) -> Result<UserInfo, ApiError> {
        let token = head.header(AUTHORIZATION).split_once(' ');
        let token = token
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, t)| t.trim().to_owned());
        let proxied = self
            .front_proxy
            .as_ref()
            .zip(peer.proxy.as_ref())
            .and_then(|(front, proxy)| front.user(proxy, &head.headers));
        // A proxy that does not say who asks is nobody itself, unless its certificate is a client's as well.
        let nobody = proxied.is_none() && peer.user.is_none() && peer.proxy.is_some();
        if nobody && token.is_none() {
            return Err(ApiError::unauthorized());
        }
        let certificate = proxied.or(peer.user);
        let credentials = Credentials { certificate, token };
        let known = self.authenticator.authenticate(&credentials).await;
        self.metrics
            .authenticated(known.as_ref().ok().and_then(Option::as_ref));
        match known.map_err(|_| ApiError::unauthorized())? {
            Some(user) => Ok(user.authenticated()),
            None if self.anonymous => Ok(UserInfo::anonymous()),
            None => Err(ApiError::unauthorized()),
        }
    }

    /// Says whether they may do what they ask.
    fn authorize(
        &self,
        user: &UserInfo,
        attributes: &Attributes,
        record: Option<&Record>,
    ) -> Result<(), ApiError> {
        let decision = self.authorizer.authorize(user, attributes);
        self.metrics.authorized(decision.allowed);
        if let Some(record) = record {
            record.decided(decision.allowed, &decision.reason);
        }
        if decision.allowed {
            return Ok(());
        }
        let mut why = attributes.refusal(user);
        if !decision.reason.is_empty() {
            why = format!("{why}: {}", decision.reason);
        }
        let resource = GroupResource::new(&attributes.group, &attributes.resource);
        Err(ApiError::forbidden(&resource, &attributes.name, why))
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
        B: http_body::Body<Data = Bytes> + Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
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
        B: http_body::Body<Data = Bytes> + Send,
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
        let mut accepted = head.accepted.clone()?;
        if accepted.encoding == Encoding::Protobuf {
            accepted = negotiate::accept(&head.headers, in_protobuf)?;
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

/// Begins the record of a request.
///
/// # Errors
///
/// 500 when it cannot be written, and must be.
fn begin(
    audit: &Arc<Audit>,
    audit_id: &str,
    user: &UserInfo,
    attributes: &Attributes,
    head: &Head,
    address: Option<IpAddr>,
) -> Result<Option<Record>, ApiError> {
    let origin = Origin {
        uri: head.uri.path_and_query().map_or("", |uri| uri.as_str()),
        headers: &head.headers,
        address,
    };
    let begun = audit.begin(audit_id, user, attributes, origin);
    begun.map_err(|_| ApiError::internal("failed to store audit event"))
}

/// The kind that a body is if it does not say.
fn expected_kind(resource: &Resource, info: &RequestInfo) -> GroupVersionKind {
    let below = resource.subresources.iter().find(|s| s.name == info.subresource);
    below.map_or_else(|| resource.gvk(), |s| s.gvk.clone())
}

/// What a request is counted by.
fn asked<'a>(head: &'a Head, target: &'a Target) -> Asked<'a> {
    Asked {
        target,
        method: &head.method,
        path: &head.path,
        dry_run: head.query.iter().any(|(k, v)| k == "dryRun" && v == "All"),
        applies: head.method == Method::PATCH
            && head.header(CONTENT_TYPE).starts_with("application/apply-patch"),
    }
}

fn attributes(head: &Head, target: &Target) -> Attributes {
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

fn read_head(parts: http::request::Parts) -> Head {
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
            .to_owned()
    };
    let host = match parts.uri.authority() {
        Some(authority) => authority.to_string(),
        None => text(http::header::HOST),
    };
    let best = accepted.clone().unwrap_or_default();
    let asked = query.iter().find(|(k, _)| k == "pretty").map(|(_, v)| v.clone());
    // People's tools get readable answers without asking, as with kube-apiserver.
    let by_hand = ["curl", "Wget", "Mozilla/5.0"]
        .iter()
        .any(|tool| text(USER_AGENT).starts_with(tool));
    let style = Style {
        encoding: best.encoding,
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

async fn read_body<B>(body: B) -> Result<Bytes, ApiError>
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
