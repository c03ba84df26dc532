//! Servers that are named by a kubeconfig, as those that audit events are sent to.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures::{Stream, TryFutureExt as _, stream};
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::client::{Https, IDLE, IDLE_MOST, TOLD_MOST};
use super::dial::Dialer;
use super::errors::{CallError, explain};
use super::target::Place;
use super::{Resolver, tls};

/// Who calls.
const AGENT: &str = concat!("trimtab-apiserver/", env!("CARGO_PKG_VERSION"));

/// The longest document that is read of what is called, in bytes: a list may be long.
const MOST_ANSWER: usize = 64 * 1024 * 1024;
/// Where a pod's service account is.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A server that is named by a kubeconfig, or that of the cluster around, and how to show it who we are.
#[derive(Clone, Debug)]
pub struct Endpoint {
    url: String,
    client: Https,
    token: Token,
}

/// The bearer token by which we are known.
#[derive(Clone, Debug)]
enum Token {
    None,
    Fixed(HeaderValue),
    /// Others write it anew before it expires.
    File(PathBuf),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Kubeconfig {
    #[serde(default)]
    clusters: Vec<Named>,
    #[serde(default)]
    users: Vec<Named>,
    #[serde(default)]
    contexts: Vec<Named>,
    #[serde(default)]
    current_context: String,
}

#[derive(Debug, Deserialize)]
struct Named {
    name: String,
    cluster: Option<Cluster>,
    user: Option<User>,
    context: Option<Context>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Context {
    #[serde(default)]
    cluster: String,
    #[serde(default)]
    user: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    #[serde(default)]
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    #[serde(default)]
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    exec: Option<Value>,
    auth_provider: Option<Value>,
}

/// Nobody: a kubeconfig names hosts.
#[derive(Debug)]
struct NoServices;

#[async_trait]
impl Resolver for NoServices {
    async fn resolve(&self, _: &str, _: &str, _: u16) -> Result<Vec<(String, u16)>, String> {
        Err("a kubeconfig names no Service".to_owned())
    }
}

// === impl Endpoint ===

impl Endpoint {
    /// Reads a kubeconfig's current context. Files that it names are found beside it.
    ///
    /// # Errors
    ///
    /// A text that says what cannot be read, or is not supported.
    pub fn read(file: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| error.to_string())?;
        let config: Kubeconfig =
            serde_saphyr::from_str(&text).map_err(|error| error.without_snippet().to_string())?;
        let found = |all: &[Named], name: &str| all.iter().position(|named| named.name == name);
        let context = found(&config.contexts, &config.current_context)
            .and_then(|place| config.contexts[place].context.clone())
            .ok_or_else(|| format!("there is no context {:?}", config.current_context))?;
        let cluster = found(&config.clusters, &context.cluster)
            .and_then(|place| config.clusters[place].cluster.clone())
            .ok_or_else(|| format!("there is no cluster {:?}", context.cluster))?;
        let user = match context.user.as_str() {
            "" => User::default(),
            name => found(&config.users, name)
                .map(|place| config.users[place].user.clone().unwrap_or_default())
                .ok_or_else(|| format!("there is no user {name:?}"))?,
        };
        let unsupported = [
            ("insecure-skip-tls-verify", cluster.insecure_skip_tls_verify),
            ("tls-server-name", cluster.tls_server_name.is_some()),
            ("proxy-url", cluster.proxy_url.is_some()),
            ("username", user.username.is_some()),
            ("exec", user.exec.is_some()),
            ("auth-provider", user.auth_provider.is_some()),
        ];
        if let Some((field, _)) = unsupported.iter().find(|(_, is_set)| *is_set) {
            return Err(format!("{field} is not supported"));
        }
        let folder = file.parent().unwrap_or(Path::new(""));
        let authorities = pem(
            folder,
            cluster.certificate_authority_data,
            cluster.certificate_authority,
        )?;
        let certificate = pem(folder, user.client_certificate_data, user.client_certificate)?;
        let key = pem(folder, user.client_key_data, user.client_key)?;
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(tls::identity_from_pem(&certificate, &key)?),
            (None, None) => None,
            _ => return Err("a client's certificate and its key are needed together".to_owned()),
        };
        let token = match (user.token, user.token_file) {
            (Some(token), _) => Token::Fixed(bearer(&token)?),
            (None, Some(file)) => {
                let file = folder.join(file);
                bearer(&read(Path::new(""), &file)?)?;
                Token::File(file)
            }
            (None, None) => Token::None,
        };
        Self::new(
            cluster.server,
            authorities.as_deref().unwrap_or_default(),
            identity,
            token,
        )
    }

    /// The API server of the cluster in which this runs as a pod, by the pod's service account.
    ///
    /// # Errors
    ///
    /// A text that says what is missing.
    pub fn in_cluster() -> Result<Self, String> {
        let variable = |name: &str| {
            std::env::var(name).map_err(|_| format!("{name} is not set: this is no pod; give a kubeconfig"))
        };
        let (host, port) = (
            variable("KUBERNETES_SERVICE_HOST")?,
            variable("KUBERNETES_SERVICE_PORT")?,
        );
        let folder = Path::new(SERVICE_ACCOUNT);
        let authorities = read(folder, Path::new("ca.crt"))?;
        bearer(&read(folder, Path::new("token"))?)?;
        let server = match host.contains(':') {
            true => format!("https://[{host}]:{port}"),
            false => format!("https://{host}:{port}"),
        };
        Self::new(server, &authorities, None, Token::File(folder.join("token")))
    }

    fn new(
        url: String,
        authorities: &str,
        identity: Option<tls::Identity>,
        token: Token,
    ) -> Result<Self, String> {
        let config = tls::client_config(authorities.as_bytes(), identity)?;
        let dialer = Dialer::new(place(&url)?, Arc::new(NoServices));
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(IDLE_MOST)
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(HttpsConnector::from((dialer, config)));
        Ok(Self { url, client, token })
    }

    /// Posts a JSON document, before `end`.
    ///
    /// Dropping the future ends the call.
    ///
    /// # Errors
    ///
    /// [`CallError`], unless the server says that it is well.
    pub(crate) async fn post(&self, json: Bytes, end: Instant) -> Result<(), CallError> {
        self.send(Method::POST, &self.url, json, TOLD_MOST, end)
            .await
            .map(drop)
    }

    /// Sends a request about something below the server's address, with a JSON document (null for none), and answers with the
    /// document that comes back before `end`.
    ///
    /// Dropping the future ends the call.
    ///
    /// # Errors
    ///
    /// [`CallError`], whatever goes wrong.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        json: &Value,
        end: Instant,
    ) -> Result<Value, CallError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let body = match json {
            Value::Null => Bytes::new(),
            json => json.to_string().into(),
        };
        let name = go_name(&method);
        let answer = self.send(method, &url, body, MOST_ANSWER, end).await?;
        serde_json::from_slice(&answer).map_err(|error| CallError::of(&name, &url, error))
    }

    /// Begins a watch of something below the server's address: what happens, a document each, until the server has had enough, or
    /// until `end`.
    ///
    /// Dropping the future, or the stream, ends the call.
    ///
    /// # Errors
    ///
    /// [`CallError`], whatever goes wrong, also in the stream.
    pub async fn watch(
        &self,
        path: &str,
        end: Instant,
    ) -> Result<impl Stream<Item = Result<Value, CallError>> + Send + use<>, CallError> {
        let url = format!("{}{path}", self.url.trim_end_matches('/'));
        let began = timeout_at(end, self.begin(Method::GET, &url, Bytes::new())).await;
        let began = began.unwrap_or_else(|_| Err(CallError::of("Get", &url, "context deadline exceeded")));
        let body = began?.into_body();
        Ok(stream::try_unfold(
            (body, Vec::new()),
            move |(mut body, mut read)| {
                let url = url.clone();
                let next = async move {
                    loop {
                        if let Some(last) = read.iter().position(|byte| *byte == b'\n') {
                            let line: Vec<u8> = read.drain(..=last).collect();
                            let event = serde_json::from_slice(&line).map_err(|error| error.to_string())?;
                            return Ok(Some((event, (body, read))));
                        }
                        let frame = match timeout_at(end, body.frame()).await {
                            Ok(Some(frame)) => frame.map_err(|error| explain(&error))?,
                            Ok(None) | Err(_) => return Ok(None),
                        };
                        read.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
                        if read.len() > MOST_ANSWER {
                            return Err(format!("an event is larger than {MOST_ANSWER} bytes"));
                        }
                    }
                };
                next.map_err(move |why: String| CallError::of("Get", &url, why))
            },
        ))
    }

    async fn send(
        &self,
        method: Method,
        url: &str,
        json: Bytes,
        most: usize,
        end: Instant,
    ) -> Result<Bytes, CallError> {
        let name = go_name(&method);
        let failed = |why: String| CallError::of(&name, url, why);
        let called = async {
            let body = self.begin(method, url, json).await?.into_body();
            // A connection whose answer has been read to its end can be used again.
            match Limited::new(body, most).collect().await {
                Ok(body) => Ok(body.to_bytes()),
                // Nobody looks at what comes back of what is posted.
                Err(_) if most == TOLD_MOST => Ok(Bytes::new()),
                Err(error) => Err(failed(explain(&*error))),
            }
        };
        timeout_at(end, called)
            .await
            .unwrap_or_else(|_| Err(failed("context deadline exceeded".to_owned())))
    }

    /// Sends a request, and answers with what comes back if that says that all is well.
    async fn begin(&self, method: Method, url: &str, json: Bytes) -> Result<Response<Incoming>, CallError> {
        let name = go_name(&method);
        let failed = |why: String| CallError::of(&name, url, why);
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header(CONTENT_TYPE, "application/json")
            .header(ACCEPT, "application/json, */*")
            .header(USER_AGENT, AGENT)
            .body(Full::from(json))
            .map_err(|error| failed(error.to_string()))?;
        if let Some(token) = self.token.header().map_err(failed)? {
            request.headers_mut().insert(AUTHORIZATION, token);
        }
        let response = self.client.request(request).await;
        let response = response.map_err(|error| failed(explain(&error)))?;
        let code = response.status().as_u16();
        if (200..=206).contains(&code) {
            return Ok(response);
        }
        let body = Limited::new(response.into_body(), MOST_ANSWER).collect().await;
        let body = body.map(|body| body.to_bytes()).unwrap_or_default();
        Err(CallError::status(
            code,
            &body,
            String::from_utf8_lossy(&body).trim(),
        ))
    }
}

impl Token {
    fn header(&self) -> Result<Option<HeaderValue>, String> {
        match self {
            Self::None => Ok(None),
            Self::Fixed(header) => Ok(Some(header.clone())),
            Self::File(file) => bearer(&read(Path::new(""), file)?).map(Some),
        }
    }
}

fn bearer(token: &str) -> Result<HeaderValue, String> {
    let header = HeaderValue::from_str(&format!("Bearer {}", token.trim()));
    let mut header = header.map_err(|error| format!("the token: {error}"))?;
    header.set_sensitive(true);
    Ok(header)
}

/// As Go's errors name a method.
fn go_name(method: &Method) -> String {
    let (first, rest) = method.as_str().split_at(1);
    format!("{first}{}", rest.to_lowercase())
}

fn read(folder: &Path, file: &Path) -> Result<String, String> {
    let path = folder.join(file);
    std::fs::read_to_string(&path).map_err(|error| format!("{}: {error}", path.display()))
}

/// What is there itself, in base64, or else in a file.
fn pem(folder: &Path, data: Option<String>, file: Option<PathBuf>) -> Result<Option<String>, String> {
    match (data.filter(|data| !data.is_empty()), file) {
        (Some(data), _) => {
            let text = STANDARD
                .decode(data)
                .map_err(|error| format!("no base64: {error}"))?;
            String::from_utf8(text).map(Some).map_err(|_| "no PEM".to_owned())
        }
        (None, Some(file)) => read(folder, &file).map(Some),
        (None, None) => Ok(None),
    }
}

fn place(url: &str) -> Result<Place, String> {
    let parsed: Uri = url
        .parse()
        .map_err(|error| format!("the server {url:?}: {error}"))?;
    let (Some(host), Some(authority)) = (parsed.host(), parsed.authority()) else {
        return Err(format!("the server {url:?} has no host"));
    };
    let port = match parsed.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => return Err(format!("the server {url:?} is neither https nor http")),
    };
    Ok(Place::Host {
        host: host.trim_matches(['[', ']']).to_owned(),
        port: parsed.port_u16().unwrap_or(port),
        authority: authority.as_str().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        let file = std::env::temp_dir().join(format!("trimtab-kubeconfig-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, text).expect("writes");
        let read = Endpoint::read(&file);
        std::fs::remove_file(&file).expect("removes");
        read.err().unwrap_or_default()
    }

    #[test]
    fn what_cannot_be_followed_is_told() {
        let config = |cluster: &str, user: &str| {
            format!(
                "current-context: c\ncontexts: [{{name: c, context: {{cluster: k, user: u}}}}]\n\
                 clusters: [{{name: k, cluster: {{{cluster}}}}}]\nusers: [{{name: u, user: {{{user}}}}}]"
            )
        };
        let server = "server: 'http://127.0.0.1:1/audit'";
        for (text, expected) in [
            (config(server, "token: t"), ""),
            ("current-context: x".to_owned(), "there is no context \"x\""),
            (
                "current-context: c\ncontexts: [{name: c, context: {cluster: k}}]".to_owned(),
                "there is no cluster \"k\"",
            ),
            (
                config("server: 'ftp://h'", ""),
                "the server \"ftp://h\" is neither https nor http",
            ),
            (config(server, "username: x"), "username is not supported"),
            (
                config(&format!("{server}, insecure-skip-tls-verify: true"), ""),
                "insecure-skip-tls-verify is not supported",
            ),
            (
                config(server, "client-key-data: eA=="),
                "a client's certificate and its key are needed together",
            ),
            (
                config(&format!("{server}, certificate-authority-data: '%'"), ""),
                "no base64: Invalid symbol 37, offset 0.",
            ),
        ] {
            assert_eq!(fault(&text), expected, "{text}");
        }
    }
}
