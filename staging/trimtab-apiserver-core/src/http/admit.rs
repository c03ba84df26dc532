//! What a request goes through before it is answered: who asks, as whom, whether there is room, and whether they may. And
//! the time that all of it has.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::Either;
use http::Response;
use http::header::AUTHORIZATION;
use http_body::Body as _;
use tokio::time::{Instant, timeout_at};
use trimtab_apimachinery_meta::{ApiError, GroupResource};
use trimtab_apiserver_auth::{Attributes, UserInfo};

use super::head::{Head, asked, attributes};
use super::info::Target;
use super::respond::{self, Body};
use super::{Api, Passage, Peer, held};
use crate::audit::{Audit, Origin, Record};
use crate::auth::Credentials;
use crate::flow::{self, Digest};
use crate::registry::time_asked;

impl Api {
    /// Answers a request in the time that it has.
    pub(super) async fn serve<B>(
        &self,
        head: &Head,
        target: &Target,
        peer: Peer,
        body: B,
        start: Instant,
        passage: &mut Passage,
    ) -> Result<Response<Body>, ApiError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let address = peer.address;
        let known = self.who(head, peer).await;
        let attributes = attributes(head, target);
        if let Some(audit) = &self.audit {
            // Who has not said who they are has done something, too.
            let nobody = UserInfo::default();
            let user = known.as_ref().unwrap_or(&nobody);
            let end = start + self.request_timeout;
            passage.record = begin(audit, &passage.audit_id, user, &attributes, head, address, end).await?;
        }
        let known = known?;
        let other = self
            .impersonation
            .of(&head.headers, &known, &attributes, &*self.authorizer)?;
        if let Some(record) = &mut passage.record
            && let Some(other) = &other
        {
            record.impersonates(&other.user, other.constraint.as_deref());
        }
        let user = other.map_or(known, |other| other.user);
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
        B: http_body::Body<Data = Bytes> + Send + 'static,
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
        self.authorize(&user, &attributes, passage.record.as_ref())
            .await?;
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
        let proxied = peer.proxy.as_ref().and_then(|proxy| {
            let believed = self.believed.now();
            believed.trusted.proxy.as_ref()?.user(proxy, &head.headers)
        });
        // A proxy that does not say who asks is nobody itself, unless its certificate is a client's as well.
        let nobody = proxied.is_none() && peer.user.is_none() && peer.proxy.is_some();
        if nobody && token.is_none() {
            return Err(ApiError::unauthorized());
        }
        let certificate = proxied.or(peer.user);
        let credentials = Credentials { certificate, token };
        let begun = Instant::now();
        let known = self.authenticator.authenticate(&credentials).await;
        let user = known.as_ref().ok().and_then(Option::as_ref);
        self.metrics.authenticated(user, begun.elapsed());
        match known.map_err(|_| ApiError::unauthorized())? {
            Some(user) => Ok(user.authenticated()),
            None if self.anonymous => Ok(UserInfo::anonymous()),
            None => Err(ApiError::unauthorized()),
        }
    }

    /// Says whether they may do what they ask.
    async fn authorize(
        &self,
        user: &UserInfo,
        attributes: &Attributes,
        record: Option<&Record>,
    ) -> Result<(), ApiError> {
        let begun = Instant::now();
        let decision = match &self.decider {
            None => self.authorizer.authorize(user, attributes),
            Some(decider) => decider.decide(user, attributes).await?,
        };
        self.metrics.authorized(decision.allowed, begun.elapsed());
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
}

/// Begins the record of a request.
///
/// # Errors
///
/// 500 when it cannot be written, and must be.
async fn begin(
    audit: &Arc<Audit>,
    audit_id: &str,
    user: &UserInfo,
    attributes: &Attributes,
    head: &Head,
    address: Option<IpAddr>,
    end: Instant,
) -> Result<Option<Record>, ApiError> {
    let origin = Origin {
        uri: head.uri.path_and_query().map_or("", |uri| uri.as_str()),
        headers: &head.headers,
        address,
    };
    let begun = audit.begin(audit_id, user, attributes, origin, end).await;
    begun.map_err(|_| ApiError::internal("failed to store audit event"))
}
