//! Authorities and certificates that become others while all servers run.

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use trimtab_apiserver_aggregation::kit::ExtensionServer;
use trimtab_apiserver_auth::certs::Authority;
use trimtab_apiserver_core::extensions::{ServerTrust, identity_from_pem, outward_config};

use crate::kit::{World, proxy_files};

const TRUST: &str = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication";
const WHO: &str = "/apis/samples.test/v1/whoasks";
const PROXIES: &str = "requestheader-client-ca-file";

/// A connection of a front proxy with a certificate of this authority.
async fn connect(server: &ExtensionServer, proxies: &Authority) -> Option<SendRequest<Full<Bytes>>> {
    let pair = proxies.client("front", "").expect("made");
    let identity = identity_from_pem(&pair.certificate, &pair.key).expect("usable");
    let trust = ServerTrust::Authorities(server.certificate_authority().as_bytes());
    let config = outward_config(trust, Some(identity), &[b"http/1.1"]).expect("usable");
    let stream = TcpStream::connect(server.address().expect("listens"))
        .await
        .expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .ok()?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.ok()?;
    tokio::spawn(connection);
    Some(sender)
}

/// As whom such a proxy, which says that root asks, is answered; `None` when it is not believed.
async fn who(sender: &mut SendRequest<Full<Bytes>>) -> Option<String> {
    let request = Request::get(WHO)
        .header("host", "localhost")
        .header("x-remote-user", "root");
    let request = request
        .header("x-remote-group", "system:masters")
        .body(Full::default())
        .expect("a request");
    let answer = sender.send_request(request).await.ok()?;
    let body = answer.into_body().collect().await.ok()?.to_bytes();
    let list: Value = serde_json::from_slice(&body).ok()?;
    list["items"][0]["user"].as_str().map(str::to_owned)
}

async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    crate::kit::until(|| {
        let holds = holds();
        async { holds.await.then_some(()).ok_or_else(|| format!("never {what}")) }
    })
    .await;
}

/// Has the API server say that it believes these proxies.
async fn say(world: &World, proxies: &[&Authority]) {
    let all: String = proxies.iter().map(|authority| authority.certificate()).collect();
    let patch = json!({"data": {PROXIES: all}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    let said = world.send(Method::PATCH, TRUST, &merge, patch.into()).await;
    assert_eq!(said.code, 200, "{}", said.text);
}

#[tokio::test]
async fn an_extension_server_believes_whom_the_api_server_says_by_now() {
    let world = World::new().await;
    let server = world.extension().start().await.expect("starts");
    let others = Authority::generate().expect("made");
    let is_believed = || async {
        match connect(&server, &others).await {
            Some(mut sender) => who(&mut sender).await.as_deref() == Some("root"),
            None => false,
        }
    };
    assert!(!is_believed().await, "nobody knows them yet");
    // What another API server says stays, beside what this one says itself.
    say(&world, &[&others]).await;
    until("believed", is_believed).await;
    let mut open = connect(&server, &others).await.expect("is believed");
    assert_eq!(who(&mut open).await.as_deref(), Some("root"));
    say(&world, &[]).await;
    until("forgotten", || async { !is_believed().await }).await;
    let closed = tokio::time::timeout(crate::kit::DEADLINE, async {
        while !open.is_closed() {
            tokio::task::yield_now().await
        }
    });
    closed
        .await
        .expect("connections of proxies that are not believed any more end");
    // What makes no sense is not believed, and nobody else forgotten.
    let senseless = json!({"data": {"requestheader-allowed-names": "["}}).to_string();
    let merge = [("content-type", "application/merge-patch+json")];
    world.send(Method::PATCH, TRUST, &merge, senseless.into()).await;
    world.registered(&server).await;
    server.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}

#[tokio::test]
async fn the_front_proxy_and_its_authority_are_read_again_when_their_files_change() {
    let world = World::from_files().await;
    let server = world.extension().start().await.expect("starts");
    world.registered(&server).await;
    let is_root = || async { world.get(WHO).await.json["items"][0]["user"] == "root" };
    assert!(is_root().await);

    // Both authorities are believed before the new certificate is shown, as whoever rotates them has it.
    let new = Authority::generate().expect("made");
    let [ca, certificate, key] = proxy_files(world.dir());
    let old = std::fs::read_to_string(&ca).expect("reads");
    let both = format!("{old}{}", new.certificate());
    std::fs::write(&ca, &both).expect("writes");
    let says_both = || async { world.get(TRUST).await.json["data"][PROXIES] == both };
    until("told of", says_both).await;
    let pair = new.client("front", "").expect("made");
    // The certificate alone does not fit the key, and is not shown.
    std::fs::write(&certificate, &pair.certificate).expect("writes");
    assert!(is_root().await);
    std::fs::write(&key, &pair.key).expect("writes");
    std::fs::write(&ca, new.certificate()).expect("writes");
    // What was believed stays told of until it has expired, for other API servers: so it is taken away by hand, which lasts once
    // the API server has read its file.
    let old = world.authority();
    until("forgotten", || async {
        say(&world, &[&new]).await;
        match connect(&server, old).await {
            Some(mut sender) => who(&mut sender).await.is_none(),
            None => true,
        }
    })
    .await;
    until("shown the new certificate", is_root).await;
    until("told of", || async {
        world.get(TRUST).await.json["data"][PROXIES] == new.certificate()
    })
    .await;
    assert!(is_root().await);
    server.shutdown().await.expect("stops");
    world.server.shutdown().await.expect("stops");
}
