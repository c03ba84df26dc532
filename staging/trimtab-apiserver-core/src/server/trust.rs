//! The ConfigMap `kube-system/extension-apiserver-authentication`: whom this server believes, for servers behind it that
//! want to believe the same. The Role `extension-apiserver-authentication-reader` lets them read it.
//!
//! What others have written there stays, as other servers on the same store may believe others; what has expired goes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::StreamExt as _;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_storage::WatchRequest;
use x509_parser::parse_x509_certificate;

use crate::api::{ApiRequest, ApiResponse};
use crate::auth::Trusted;
use crate::files::Files;
use crate::registry::{Registry, keys};
use crate::serving::Believed;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "extension-apiserver-authentication";

/// How often it is looked at though nobody has changed it, as kube-apiserver does.
const AGAIN: Duration = Duration::from_secs(60);
/// A certificate counts for so long after it has expired, since clocks differ; kube-apiserver's.
const SLACK: i64 = 300;
/// How often it is tried when others write at the same time.
const MOST_ATTEMPTS: usize = 5;

/// Whom a server believes, for others to read.
#[derive(Clone, Debug)]
pub(super) struct Trust(pub(super) Arc<Believed>);

/// The files that authorities were read from.
#[derive(Debug, Default)]
pub(super) struct AuthorityFiles {
    pub(super) clients: Option<PathBuf>,
    pub(super) proxies: Option<PathBuf>,
}

impl AuthorityFiles {
    /// Has whom a server believes follow its files, beside its `own` authority and `client_ca`, which the first of
    /// them had. It never ends.
    pub(super) async fn follow(self, own: String, client_ca: Option<String>, believed: Arc<Believed>) {
        let Self { clients, proxies } = self;
        let has_clients = clients.is_some();
        let proxy = believed.now().trusted.proxy.clone().unwrap_or_default();
        let clients = clients.map(|file| (file, client_ca.unwrap_or_default()));
        let proxies = proxies.map(|file| (file, proxy.authorities));
        let mut files = Files::new(clients.into_iter().chain(proxies));
        loop {
            let texts = files.changed().await;
            if texts.iter().any(|text| text.trim().is_empty()) {
                // Somebody is writing it, most likely. That nobody is believed any more is not said so.
                tracing::warn!("a file of authorities is empty, those before it are believed");
                continue;
            }
            let mut texts = texts.into_iter();
            let mut trusted = believed.now().trusted.clone();
            if let Some(clients) = has_clients.then(|| texts.next()).flatten() {
                trusted.clients = [own.as_str(), &clients].join("\n");
            }
            if let (Some(proxy), Some(authorities)) = (&mut trusted.proxy, texts.next()) {
                proxy.authorities = authorities;
            }
            match believed.set(trusted) {
                Ok(()) => tracing::info!("the authorities of clients and proxies have been read again"),
                Err(error) => {
                    tracing::error!(
                        error,
                        "new authorities cannot be used, those before them are believed"
                    );
                }
            }
        }
    }
}

impl Trust {
    /// Writes the ConfigMap if something is missing in it. That it cannot be written now is no reason not to serve.
    pub(super) async fn write(&self, registry: &Registry) {
        for _ in 0..MOST_ATTEMPTS {
            match self.attempt(registry).await {
                Ok(()) => return,
                // Somebody else has been there: what is missing now?
                Err(error) if error.is_conflict() || error.is_already_exists() => {}
                Err(error) => {
                    tracing::warn!(%error, "cannot write whom this server believes, trying again later");
                    return;
                }
            }
        }
    }

    async fn attempt(&self, registry: &Registry) -> Result<(), ApiError> {
        let now = jiff::Timestamp::now().as_second();
        let (verb, method, object) = match ask(registry, "get", "GET", None).await {
            Ok(mut stored) => {
                let existing = stored.get("data").and_then(Value::as_object).cloned();
                let data = data(&self.0.now().trusted, &existing.clone().unwrap_or_default(), now)?;
                if data == existing.unwrap_or_default() {
                    return Ok(());
                }
                stored["data"] = data.into();
                ("update", "PUT", stored)
            }
            Err(error) if error.is_not_found() => {
                let object = json!({
                    "apiVersion": "v1",
                    "kind": "ConfigMap",
                    "metadata": {"name": NAME, "namespace": NAMESPACE},
                    "data": data(&self.0.now().trusted, &Map::new(), now)?,
                });
                ("create", "POST", object)
            }
            Err(error) => return Err(error),
        };
        ask(registry, verb, method, Some(&object)).await.map(drop)
    }

    /// Keeps the ConfigMap as it is to be. It never ends.
    pub(super) async fn keep(self, registry: Arc<Registry>) {
        let mut believed = self.0.changes();
        let key = format!("{}configmaps/{NAMESPACE}/{NAME}", keys::ROOT);
        loop {
            let watch = registry.store().watch(WatchRequest::prefix(key.clone())).await;
            self.write(&registry).await;
            match watch {
                Ok(mut changes) => {
                    // A change here or there, the end of the watch, or long enough without any.
                    tokio::select! {
                        biased;
                        () = believed.changed() => {}
                        _ = changes.next() => {}
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
                Err(_) => tokio::time::sleep(AGAIN).await,
            }
        }
    }
}

/// What is to be in the ConfigMap in which that is now.
fn data(trusted: &Trusted, existing: &Map<String, Value>, now: i64) -> Result<Map<String, Value>, ApiError> {
    let there = |name: &str| existing.get(name).and_then(Value::as_str).unwrap_or_default();
    let mut data = Map::new();
    let clients = together(&[there("client-ca-file"), &trusted.clients], now)?;
    if !clients.is_empty() {
        data.insert("client-ca-file".to_owned(), clients.into());
    }
    let own = trusted.proxy.clone().unwrap_or_default();
    let proxies = together(&[there("requestheader-client-ca-file"), &own.authorities], now)?;
    if proxies.is_empty() {
        return Ok(data);
    }
    data.insert("requestheader-client-ca-file".to_owned(), proxies.into());
    for (name, values) in [
        ("requestheader-username-headers", own.username_headers),
        ("requestheader-uid-headers", own.uid_headers),
        ("requestheader-group-headers", own.group_headers),
        ("requestheader-extra-headers-prefix", own.extra_prefixes),
        ("requestheader-allowed-names", own.allowed_names),
    ] {
        let mut all: Vec<String> = match there(name) {
            "" => Vec::new(),
            text => serde_json::from_str(text).map_err(|error| unreadable(name, &error))?,
        };
        for value in values {
            if !all.contains(&value) {
                all.push(value);
            }
        }
        if !(all.is_empty() && name == "requestheader-uid-headers") {
            data.insert(name.to_owned(), json!(all).to_string().into());
        }
    }
    Ok(data)
}

/// Sends a request about the ConfigMap.
async fn ask(registry: &Registry, verb: &str, method: &str, body: Option<&Value>) -> Result<Value, ApiError> {
    let mut request = ApiRequest::own(verb, method, "trimtab-apiserver");
    request.info.version = "v1".to_owned();
    request.info.resource = "configmaps".to_owned();
    request.info.namespace = NAMESPACE.to_owned();
    if verb != "create" {
        request.info.name = NAME.to_owned();
    }
    request.body = body.map_or_else(Bytes::new, |body| body.to_string().into());
    match registry.handle(request).await?.decoded()? {
        ApiResponse::Value { value, .. } => Ok(value),
        _ => Ok(Value::Null),
    }
}

/// The certificates of several bundles (PEM), each once, without those that have expired.
fn together(bundles: &[&str], now: i64) -> Result<String, ApiError> {
    let mut all: Vec<CertificateDer<'static>> = Vec::new();
    for bundle in bundles {
        for certificate in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            let certificate = certificate.map_err(|error| unreadable("a bundle of certificates", &error))?;
            let (_, read) = parse_x509_certificate(&certificate)
                .map_err(|error| unreadable("a bundle of certificates", &error))?;
            let is_valid = read.validity().not_after.timestamp() > now - SLACK;
            if is_valid && !all.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    Ok(all.iter().map(|certificate| pem(certificate)).collect())
}

fn pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.extend(line.iter().map(|byte| char::from(*byte)));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

fn unreadable(what: &str, error: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!(
        "{what} in configmap {NAMESPACE}/{NAME} cannot be read: {error}"
    ))
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;
    use crate::auth::FrontProxy;

    fn certificate(until: i32) -> String {
        let mut params = CertificateParams::default();
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        together(&[&pem], i64::MIN / 2).expect("is read")
    }

    #[test]
    fn what_others_believe_stays_and_what_has_expired_goes() {
        let strings = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let (ours, theirs, old) = (certificate(3000), certificate(3000), certificate(2000));
        let own = Trusted {
            clients: ours.clone(),
            proxy: Some(FrontProxy {
                authorities: ours.clone(),
                allowed_names: strings(&["front"]),
                username_headers: strings(&["X-Remote-User"]),
                group_headers: strings(&["X-Remote-Group"]),
                ..FrontProxy::default()
            }),
        };
        let now = jiff::Timestamp::now().as_second();
        let object = |value: Value| value.as_object().cloned().unwrap_or_default();
        let alone = data(&own, &Map::new(), now).expect("is made");
        let expected = json!({
            "client-ca-file": ours,
            "requestheader-client-ca-file": ours,
            "requestheader-username-headers": "[\"X-Remote-User\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-extra-headers-prefix": "[]",
            "requestheader-allowed-names": "[\"front\"]",
        });
        assert_eq!(Value::from(alone.clone()), expected);
        assert_eq!(data(&own, &alone, now).expect("is made"), alone, "twice is once");
        let there = object(json!({
            "client-ca-file": format!("{theirs}{old}"),
            "requestheader-uid-headers": "[\"X-Remote-Uid\"]",
            "requestheader-allowed-names": "[\"other\",\"front\"]",
            "unknown": "goes",
        }));
        let both = Value::from(data(&own, &there, now).expect("is made"));
        assert_eq!(both["client-ca-file"], format!("{theirs}{ours}"));
        assert_eq!(both["requestheader-uid-headers"], "[\"X-Remote-Uid\"]");
        assert_eq!(both["requestheader-allowed-names"], "[\"other\",\"front\"]");
        assert_eq!(both.get("unknown"), None);
        assert!(
            data(
                &own,
                &object(json!({"requestheader-client-ca-file": ours,
            "requestheader-group-headers": "["})),
                now
            )
            .is_err()
        );
        let nobody = data(&Trusted::default(), &Map::new(), now).expect("is made");
        assert!(nobody.is_empty(), "{nobody:?}");
    }
}
