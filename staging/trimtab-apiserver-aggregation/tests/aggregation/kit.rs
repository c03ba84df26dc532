//! What the tests share: an API server with an aggregator, a server behind it, and requests to either.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tokio_rustls::TlsConnector;
use tower::ServiceExt as _;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_aggregation::kit::{Asked, Builder, Computed, Definition, Delegation, ExtensionServer};
use trimtab_apiserver_aggregation::{Aggregator, Config};
use trimtab_apiserver_auth::UserInfo;
use trimtab_apiserver_auth::certs::Authority;
use trimtab_apiserver_auth::tokens::StaticTokens;
use trimtab_apiserver_core::auth::FrontProxy;
use trimtab_apiserver_core::extensions::{Body, ServerTrust, outward_config};
use trimtab_apiserver_core::server as core;
use trimtab_apiserver_core::{ApiServer, ApiService};
use trimtab_apiserver_storage::{Config as StoreConfig, MemoryStore, Store};

pub(crate) const GROUP: &str = "samples.test";
pub(crate) const APISERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
pub(crate) const DEADLINE: Duration = Duration::from_secs(60);

/// An API server with an aggregator, for which alice is no one in particular.
pub(crate) struct World {
    pub(crate) server: ApiServer,
    /// That of its front proxy, as it was at first.
    authority: Authority,
    dir: TempDir,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: StatusCode,
    pub(crate) text: String,
    /// Null when it is no JSON.
    pub(crate) json: Value,
}

/// Says who asks, as whoever computes objects is told.
#[derive(Debug)]
pub(crate) struct WhoAsks;

#[async_trait]
impl Computed for WhoAsks {
    type Object = Value;

    async fn list(&self, asked: &Asked) -> Result<Vec<Value>, ApiError> {
        let object = |name: &str, label: &str| {
            json!({"metadata": {"name": name, "labels": {"l": label}}, "user": asked.user.name,
                "uid": asked.user.uid, "groups": asked.user.groups})
        };
        Ok(vec![object("b", "x"), object("a", "y")])
    }
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::over(Arc::new(MemoryStore::new(StoreConfig::default()))).await
    }

    /// One that keeps its objects here.
    pub(crate) async fn over(store: Arc<dyn Store>) -> Self {
        Self::with(store, |_, builder, config| (builder, config)).await
    }

    /// One whose front proxy's authority, certificate and key are in files.
    pub(crate) async fn from_files() -> Self {
        let store = Arc::new(MemoryStore::new(StoreConfig::default()));
        Self::with(store, |dir, builder, mut config| {
            let [ca, certificate, key] = proxy_files(dir);
            config.proxy_client_files = Some((certificate, key));
            (builder.authority_files(None, Some(ca)), config)
        })
        .await
    }

    /// One that passes redirects on.
    pub(crate) async fn redirecting() -> Self {
        let store = Arc::new(MemoryStore::new(StoreConfig::default()));
        Self::with(store, |_, builder, mut config| {
            config.rejects_redirects = false;
            (builder, config)
        })
        .await
    }

    async fn with(
        store: Arc<dyn Store>,
        change: impl FnOnce(&Path, core::Builder, Config) -> (core::Builder, Config),
    ) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = Authority::generate().expect("made");
        let client = authority.client("front", "").expect("made");
        let mut config = Config::default();
        for (file, text) in
            proxy_files(dir.path())
                .iter()
                .zip([authority.certificate(), &client.certificate, &client.key])
        {
            std::fs::write(file, text).expect("written");
        }
        config.proxy_client = Some((client.certificate, client.key));
        let one = |text: &str| vec![text.to_owned()];
        let proxy = FrontProxy {
            authorities: authority.certificate().to_owned(),
            allowed_names: one("front"),
            username_headers: one("X-Remote-User"),
            uid_headers: one("X-Remote-Uid"),
            group_headers: one("X-Remote-Group"),
            extra_prefixes: one("X-Remote-Extra-"),
        };
        let tokens = "alice-token,alice,alice-uid\nroot-token,root,root-uid,\"system:masters\"\n";
        let file = dir.path().join("tokens");
        std::fs::write(&file, tokens).expect("written");
        let builder = ApiServer::builder(store);
        let (builder, config) = change(dir.path(), builder, config);
        let server = builder
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
            .front_proxy(proxy)
            .tokens(StaticTokens::from_file(&file).expect("tokens"))
            .extensions(Arc::new(Aggregator::new(config).expect("usable")))
            .start()
            .await
            .expect("starts");
        std::fs::write(dir.path().join("kubeconfig"), server.kubeconfig()).expect("written");
        Self {
            server,
            authority,
            dir,
        }
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.authority
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn delegation(&self) -> Delegation {
        Delegation::kubeconfig(&self.dir.path().join("kubeconfig")).expect("is read")
    }

    /// A server behind this one, with the resources that all tests have, and the authority that it keeps.
    pub(crate) fn extension(&self) -> Builder {
        ExtensionServer::builder(self.delegation())
            .computed(definition("WhoAsks", "whoasks", "Cluster"), WhoAsks)
            .stored(
                definition("Note", "notes", "Namespaced"),
                Arc::new(MemoryStore::new(StoreConfig::default())),
            )
            .service("default", "sample")
            .cert_dir(self.dir.path().join("extension"))
            .bind(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// Writes the Service and the APIService of a server that listens here.
    pub(crate) async fn register(&self, port: u16, authority: &str) {
        let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "sample"},
            "spec": {"type": "ExternalName", "externalName": "localhost"}});
        let made = self.post("/api/v1/namespaces/default/services", &service).await;
        assert_eq!(made.code, 201, "{}", made.text);
        let registered = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
            "metadata": {"name": format!("v1.{GROUP}")},
            "spec": {"group": GROUP, "version": "v1", "groupPriorityMinimum": 2000, "versionPriority": 10,
                "caBundle": STANDARD.encode(authority),
                "service": {"namespace": "default", "name": "sample", "port": port}}});
        let made = self.post(APISERVICES, &registered).await;
        assert_eq!(made.code, 201, "{}", made.text);
    }

    /// Registers a server, and waits until it is available.
    pub(crate) async fn registered(&self, server: &ExtensionServer) {
        let port = server.address().expect("listens").port();
        self.register(port, server.certificate_authority()).await;
        self.reason(&format!("v1.{GROUP}"), "Passed").await;
    }

    /// Waits until the condition of the APIService has this reason; answers its message.
    pub(crate) async fn reason(&self, name: &str, reason: &str) -> String {
        let path = format!("{APISERVICES}/{name}");
        let condition = self
            .eventually(&path, |answer| {
                let condition = &answer.json["status"]["conditions"][0];
                (condition["reason"] == reason).then(|| condition.clone())
            })
            .await;
        condition["message"].as_str().unwrap_or_default().to_owned()
    }

    /// Asks until the answer is what is looked for.
    pub(crate) async fn eventually<T>(&self, path: &str, look: impl Fn(&Answer) -> Option<T>) -> T {
        until(|| async {
            let answer = self.get(path).await;
            look(&answer).ok_or_else(|| format!("{path}: {} {}", answer.code, answer.text))
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.send(Method::POST, path, &[], body.to_string().into()).await
    }

    /// Sends a request as root, unless its headers say otherwise.
    pub(crate) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Answer {
        let root = UserInfo {
            name: "root".to_owned(),
            uid: "root-uid".to_owned(),
            groups: vec!["system:masters".to_owned()],
            ..UserInfo::default()
        };
        send(self.server.service().for_user(root), method, path, headers, body).await
    }
}

/// Looks again and again until there is what is looked for, rather than a reason why not. What goes by the network, or by files, is
/// in nobody's hand.
pub(crate) async fn until<T, F>(mut look: impl FnMut() -> F) -> T
where
    F: Future<Output = Result<T, String>>,
{
    let end = Instant::now() + DEADLINE;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(Instant::now() < end, "gave up: {why}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Where the front proxy's authority, its certificate and its key are.
pub(crate) fn proxy_files(dir: &Path) -> [PathBuf; 3] {
    ["front-ca", "front-certificate", "front-key"].map(|name| dir.join(name))
}

/// A resource of [`GROUP`] whose objects have a text and what they want.
pub(crate) fn definition(kind: &str, plural: &str, scope: &str) -> Definition {
    let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true, "properties": {
        "spec": {"type": "object", "properties": {
            "text": {"type": "string", "maxLength": 20, "description": "What it says."},
            "times": {"type": "integer", "default": 1},
        }},
        "status": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
    }});
    let columns = json!([{"name": "Text", "type": "string", "jsonPath": ".spec.text"}]);
    Definition::of(
        &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.{GROUP}")},
        "spec": {"group": GROUP, "scope": scope, "names": {"kind": kind, "plural": plural},
            "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "additionalPrinterColumns": columns, "schema": {"openAPIV3Schema": any}}]}}),
    )
    .expect("makes sense")
}

/// Sends a request to a server in this process.
pub(crate) async fn send(
    service: ApiService,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> Answer {
    let response = begin(service, method, path, headers, body).await;
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer {
        code: head.status,
        json: serde_json::from_slice(&body).unwrap_or_default(),
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}

/// Sends a request to a server in this process; its answer is not read yet.
pub(crate) async fn begin(
    service: ApiService,
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Bytes,
) -> http::Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in [
        (CONTENT_TYPE.as_str(), "application/json"),
        (ACCEPT.as_str(), "application/json"),
    ] {
        if !headers.iter().any(|(given, _)| *given == name) {
            request = request.header(name, value);
        }
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(body)).expect("a request");
    let answered = service.oneshot(request);
    tokio::time::timeout(DEADLINE, answered)
        .await
        .expect("answers in time")
        .expect("answers")
}

/// The next so many events of a watch.
pub(crate) async fn watched(body: &mut Body, wanted: usize) -> Vec<Value> {
    let mut text = String::new();
    while text.lines().filter(|line| line.ends_with('}')).count() < wanted {
        let frame = tokio::time::timeout(DEADLINE, body.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("no more than {text}"));
        let frame = frame.expect("goes on").expect("is whole");
        text.push_str(&String::from_utf8_lossy(frame.data_ref().expect("data")));
    }
    let events = text.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    events.collect()
}

/// A connection to a server that is known by this authority, with no certificate of one's own.
pub(crate) async fn connect<B>(
    address: SocketAddr,
    authority: &str,
) -> (SendRequest<B>, JoinHandle<Result<(), hyper::Error>>)
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let trust = ServerTrust::Authorities(authority.as_bytes());
    let config = outward_config(trust, None, &[b"http/1.1"]).expect("usable");
    let stream = TcpStream::connect(address).await.expect("connects");
    let name = ServerName::try_from("localhost").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, stream).await.expect("handshake");
    let (sender, connection) = handshake(TokioIo::new(stream)).await.expect("speaks");
    (sender, tokio::spawn(connection.with_upgrades()))
}

/// Sends a request to a server by the network.
pub(crate) async fn ask(
    address: SocketAddr,
    authority: &str,
    path: &str,
    headers: &[(&str, &str)],
) -> Answer {
    let (mut sender, _connection) = connect(address, authority).await;
    let mut request = Request::get(path).header("host", "localhost");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::<Bytes>::default()).expect("a request");
    let (head, body) = sender.send_request(request).await.expect("answers").into_parts();
    let body = body.collect().await.expect("a whole body").to_bytes();
    Answer {
        code: head.status,
        json: serde_json::from_slice(&body).unwrap_or_default(),
        text: String::from_utf8_lossy(&body).into_owned(),
    }
}
