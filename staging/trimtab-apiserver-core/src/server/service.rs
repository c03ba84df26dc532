//! The server as a service within the process.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::user::MASTERS_GROUP;

use crate::http::{Api, Body, Sender};

/// Answers requests without a network: what a client is given as its transport. Cloning is cheap.
#[derive(Clone, Debug)]
pub struct ApiService {
    api: Arc<Api>,
    user: UserInfo,
}

impl ApiService {
    pub(crate) fn new(api: Arc<Api>) -> Self {
        let user = UserInfo {
            name: "kubernetes-admin".to_owned(),
            groups: vec![MASTERS_GROUP.to_owned()],
            ..UserInfo::default()
        };
        Self { api, user }
    }

    /// The same service, whose requests come from `user`, unless they carry a token.
    #[must_use]
    pub fn for_user(&self, user: UserInfo) -> Self {
        Self {
            api: self.api.clone(),
            user,
        }
    }
}

impl<B> tower::Service<Request<B>> for ApiService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let (api, user) = (self.api.clone(), self.user.clone());
        Box::pin(async move { Ok(api.answer(request, Sender::of(user)).await) })
    }
}
