//! How an operator that was built with another version of kube is put through the testing kit: its client's transport is ours.

use bytes::Bytes;
use http::request::Parts;
use http::{Request, Response};
use kube::client::Body;
use tower::BoxError;

/// What is done to a request on its way, so that what is behind a known bug can be looked at as well.
pub type Mend = fn(&Parts, Bytes) -> Bytes;

/// Does nothing to a request.
pub fn as_it_is(_: &Parts, body: Bytes) -> Bytes {
    body
}

/// Passes a request on, whatever the client that made it calls a body, once that is read.
///
/// # Errors
///
/// When it cannot be sent.
pub async fn pass_on(client: kube::Client, head: Parts, body: Bytes) -> Result<Response<Body>, BoxError> {
    let request = Request::from_parts(head, Body::from(body));
    Ok(client.send(request).await?)
}

/// A client of another version of kube, by the name that its crate has here, whose requests go through a client of ours, and so
/// through what the kit does to them.
#[macro_export]
macro_rules! client_of {
    ($kube:ident, $ours:expr) => {
        $crate::client_of!($kube, $ours, $crate::as_it_is)
    };
    ($kube:ident, $ours:expr, $mend:expr) => {{
        let ours: ::kube::Client = $ours;
        let mend: $crate::Mend = $mend;
        let service = ::tower::service_fn(move |request: ::http::Request<$kube::client::Body>| {
            let ours = ours.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = mend(&head, body.collect_bytes().await?);
                $crate::pass_on(ours, head, body).await
            }
        });
        $kube::Client::new(service, "default")
    }};
}
