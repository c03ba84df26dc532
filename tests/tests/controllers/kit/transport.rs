//! What is between a client and the server: a service, so that layers can be put there.

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use kube::Client;
use kube::client::Body;
use tower::BoxError;
use tower::util::BoxCloneService;

/// An answer of any origin.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// Takes requests to the server and brings its answers.
pub(crate) type Transport = BoxCloneService<Request<Body>, Answer, BoxError>;

/// The way that a client's requests take.
pub(crate) fn of(client: Client) -> Transport {
    BoxCloneService::new(tower::service_fn(move |request| {
        let client = client.clone();
        async move {
            let answer = client.send(request).await?;
            Ok::<_, BoxError>(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
        }
    }))
}

/// A client whose requests go that way.
pub(crate) fn client(transport: Transport) -> Client {
    Client::new(transport, "default")
}
