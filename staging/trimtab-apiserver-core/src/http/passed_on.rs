//! Requests that another server answers.

use std::sync::Arc;

use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName, Request, Response};
use http_body_util::BodyExt as _;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;

use super::head::Head;
use super::info::Target;
use super::respond::Body;
use super::{Api, Passage};
use crate::extensions::{Backend, Forwarded};
use crate::registry::time_asked;

impl Api {
    /// Who else answers a request, if anybody does.
    pub(super) fn elsewhere(&self, head: &Head, target: &Target) -> Option<Arc<dyn Backend>> {
        let picture = self.served.as_ref()?.load();
        match target {
            Target::Resource(info) => picture.backend(&info.group, &info.version).cloned(),
            Target::Discovery(segments) => match segments.as_slice() {
                [api, version] if api == "api" => picture.backend("", version).cloned(),
                [_, group, version] => picture.backend(group, version).cloned(),
                _ => None,
            },
            Target::Other => {
                let path = head.path.strip_prefix("/openapi/v3/")?;
                picture.openapi.get(path).map(|(_, backend)| backend.clone())
            }
        }
    }

    /// Takes away all headers by which somebody has said, or could say, who asks: whoever believes this server is to be told by
    /// it alone.
    fn forget_who(&self, headers: &mut HeaderMap) {
        let believed = self.believed.now();
        let front_proxy = believed.trusted.proxy.as_ref();
        let forgotten: Vec<HeaderName> = headers
            .keys()
            .filter(|name| {
                let name = name.as_str();
                name == AUTHORIZATION.as_str()
                    || name.starts_with("impersonate-")
                    || name.starts_with("x-remote-")
                    || front_proxy.is_some_and(|proxy| proxy.reads(name))
            })
            .cloned()
            .collect();
        for name in forgotten {
            headers.remove(name);
        }
    }

    /// Has another server answer a request. What it holds of this one it gives back first: whoever is slow elsewhere is to
    /// keep nobody waiting here.
    #[expect(clippy::too_many_arguments, reason = "all of it is one request")]
    pub(super) async fn pass_on<B>(
        &self,
        backend: &dyn Backend,
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
        drop(std::mem::take(&mut passage.permit));
        let deadline = match target.lasts() {
            true => None,
            false => Some(start + time_asked(head.param("timeout"), self.request_timeout)?),
        };
        let mut request = Request::new(body.map_err(Into::into).boxed_unsync());
        *request.method_mut() = head.method.clone();
        *request.uri_mut() = head.uri.clone();
        *request.headers_mut() = head.headers.clone();
        self.forget_who(request.headers_mut());
        *request.extensions_mut() = std::mem::take(&mut passage.extensions);
        let forwarded = Forwarded {
            request,
            user,
            address: passage.address,
            audit_id: passage.audit_id.clone(),
            deadline,
        };
        backend.answer(forwarded).await
    }
}
