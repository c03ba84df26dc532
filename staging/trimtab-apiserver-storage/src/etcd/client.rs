//! Calls of etcd: which member is asked, for how long, how often, and as whom.
//!
//! One member is asked until it fails; then the next one is. A read is repeated until it succeeds or its time
//! is up. A write is repeated only where it has surely not been carried out; where that is not known the caller
//! is told.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures::channel::mpsc;
use http::uri::PathAndQuery;
use parking_lot::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tonic::client::Grpc;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::config::{EtcdConfig, EtcdCredentials, EtcdTls};
use super::status::{Failure, Verdict, is_untrusted, verdict};
use super::wire;
use crate::contract::Error;

/// How long one member may take over a read before another is asked.
const READ_ATTEMPT: Duration = Duration::from_secs(5);
/// How long a write is waited for: longer than etcd itself waits (7 seconds: 5, and twice an election), so
/// that its own word comes first.
const WRITE_ATTEMPT: Duration = Duration::from_secs(10);
/// How long calls are repeated.
const DEADLINE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(3);
/// The pauses between repetitions, once each member has failed.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// A connection is asked for a sign of life when it has been quiet for so long; etcd refuses to be asked more often
/// than each 5 seconds.
const KEEP_ALIVE: Duration = Duration::from_secs(10);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// How much of an answer is on its way at most. A watch that is not read holds up to so much of its connection's
/// window, which is therefore the largest there is.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = (1 << 31) - 1;
/// The largest answer that is taken.
const LARGEST_ANSWER: usize = 256 << 20;

/// What etcd gave us for our password.
type Token = MetadataValue<Ascii>;

/// Whether a call may be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Read,
    Write,
}

#[derive(Debug)]
struct Member {
    url: String,
    channel: Channel,
}

/// The members of one etcd cluster.
#[derive(Debug)]
pub(crate) struct Client {
    members: Vec<Member>,
    /// Which one is asked.
    current: AtomicUsize,
    credentials: Option<EtcdCredentials>,
    token: Mutex<Option<Token>>,
    /// Held while a token is fetched, so that one is.
    login: tokio::sync::Mutex<()>,
    /// Whether it has been said that a member is too old to be asked for progress.
    warned: AtomicBool,
}

/// A watch of etcd under way, on a stream of its own.
#[derive(Debug)]
pub(crate) struct WatchCall {
    pub(crate) member: usize,
    /// Whether progress can be asked for.
    pub(crate) asks: bool,
    pub(crate) requests: mpsc::Sender<wire::WatchRequest>,
    pub(crate) responses: Streaming<wire::WatchResponse>,
}

impl Client {
    /// Connects to nobody yet; needs a tokio runtime.
    pub(crate) fn new(config: &EtcdConfig) -> Result<Self, Error> {
        if config.servers.is_empty() {
            return Err(Error::Io("no etcd servers are given".to_owned()));
        }
        let members = config.servers.iter().map(|url| {
            let channel = endpoint(url, &config.tls)
                .map_err(|why| Error::Io(format!("etcd at {url}: {why}")))?
                .connect_lazy();
            Ok(Member {
                url: url.clone(),
                channel,
            })
        });
        let members = members.collect::<Result<Vec<_>, Error>>()?;
        // Not every API server should lean on the first one.
        let first = fastrand::usize(..members.len());
        Ok(Self {
            members,
            current: AtomicUsize::new(first),
            credentials: config.credentials.clone(),
            token: Mutex::new(None),
            login: tokio::sync::Mutex::new(()),
            warned: AtomicBool::new(false),
        })
    }

    /// The member that is asked at the moment.
    fn current(&self) -> usize {
        self.current.load(Ordering::Relaxed)
    }

    /// Asks the next one from now on, unless somebody has changed that already.
    pub(crate) fn leave(&self, member: usize) {
        let next = (member + 1) % self.members.len();
        let left = self
            .current
            .compare_exchange(member, next, Ordering::Relaxed, Ordering::Relaxed);
        if left.is_ok() && next != member {
            tracing::info!(
                from = self.members[member].url,
                to = self.members[next].url,
                "asking another member of etcd"
            );
        }
    }

    /// Makes a call.
    pub(crate) async fn call<Q, R>(&self, path: &'static str, kind: Kind, request: &Q) -> Result<R, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let until = Instant::now() + DEADLINE;
        let mut pause = FIRST_PAUSE;
        let (mut failed, mut untrusted) = (0, 0);
        let mut logged_in = false;
        loop {
            let index = self.current();
            let token = self.token().await?;
            let limit = match kind {
                Kind::Read => READ_ATTEMPT.min(until.saturating_duration_since(Instant::now())),
                Kind::Write => WRITE_ATTEMPT,
            };
            let status = match self.attempt(index, path, request, token.as_ref(), limit).await {
                Ok(answer) => return Ok(answer),
                Err(status) => status,
            };
            let mut verdict = verdict(&status);
            if verdict == Verdict::Unclear && kind == Kind::Read {
                verdict = Verdict::Elsewhere;
            }
            let failure = |status| Failure {
                member: self.members[index].url.clone(),
                status,
                unclear: verdict == Verdict::Unclear,
            };
            match verdict {
                Verdict::Login if self.credentials.is_some() && !logged_in => {
                    logged_in = true;
                    self.log_in(token.as_ref()).await?;
                    continue;
                }
                Verdict::Login | Verdict::Refused => return Err(failure(status)),
                Verdict::Unclear => {
                    self.leave(index);
                    return Err(failure(status));
                }
                Verdict::Elsewhere => self.leave(index),
                Verdict::Later => {}
            }
            tracing::debug!(member = self.members[index].url, path, %status, "asking etcd again");
            failed += 1;
            untrusted += usize::from(is_untrusted(&status));
            if failed >= self.members.len() {
                if Instant::now() + pause >= until || untrusted >= failed {
                    return Err(failure(status));
                }
                sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }

    /// Makes a call of the only member once, logging in if need be.
    pub(crate) async fn once<Q, R>(
        &self,
        path: &'static str,
        request: &Q,
        limit: Duration,
    ) -> Result<R, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let token = self.token().await?;
        let mut answer = self.attempt(0, path, request, token.as_ref(), limit).await;
        if let Err(status) = &answer
            && self.can_log_in()
            && verdict(status) == Verdict::Login
        {
            let token = self.log_in(token.as_ref()).await?;
            answer = self.attempt(0, path, request, token.as_ref(), limit).await;
        }
        answer.map_err(|status| Failure {
            member: self.members[0].url.clone(),
            unclear: verdict(&status) == Verdict::Unclear,
            status,
        })
    }

    /// Begins a call of the only member that is answered with a stream.
    pub(crate) async fn stream<Q, R>(
        &self,
        path: &'static str,
        request: Q,
        limit: Duration,
    ) -> Result<Streaming<R>, Failure>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let token = self.token().await?;
        let mut grpc = self.grpc(0);
        let call = async {
            grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
            let request = self.request(request, token.as_ref());
            let codec = ProstCodec::<Q, R>::default();
            grpc.server_streaming(request, PathAndQuery::from_static(path), codec)
                .await
        };
        let begun = timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer to a snapshot")));
        begun
            .map(tonic::Response::into_inner)
            .map_err(|status| self.failed(status))
    }

    /// The failure of a call of the only member that changes nothing.
    pub(crate) fn failed(&self, status: Status) -> Failure {
        Failure {
            member: self.members[0].url.clone(),
            status,
            unclear: false,
        }
    }

    /// Makes a call once.
    async fn attempt<Q, R>(
        &self,
        member: usize,
        path: &'static str,
        request: &Q,
        token: Option<&Token>,
        limit: Duration,
    ) -> Result<R, Status>
    where
        Q: prost::Message + Clone + 'static,
        R: prost::Message + Default + 'static,
    {
        let mut grpc = self.grpc(member);
        let request = self.request(request.clone(), token);
        let call = async {
            grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
            grpc.unary(
                request,
                PathAndQuery::from_static(path),
                ProstCodec::<Q, R>::default(),
            )
            .await
        };
        match timeout(limit, call).await {
            Ok(answer) => answer.map(tonic::Response::into_inner),
            Err(_) => Err(Status::new(
                Code::DeadlineExceeded,
                format!("no answer within {} s", limit.as_secs_f32().round()),
            )),
        }
    }

    fn grpc(&self, member: usize) -> Grpc<Channel> {
        Grpc::new(self.members[member].channel.clone()).max_decoding_message_size(LARGEST_ANSWER)
    }

    fn request<T>(&self, message: T, token: Option<&Token>) -> Request<T> {
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        // A member that has lost its cluster says so at once, rather than to wait for it.
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = token {
            metadata.insert("token", token.clone());
        }
        request
    }

    /// Starts a watch, once; the caller repeats.
    pub(crate) async fn watch(&self, create: wire::WatchCreate) -> Result<WatchCall, Failure> {
        let member = self.current();
        let token = self.token().await?;
        let started = timeout(READ_ATTEMPT, self.start_watch(member, create, token.as_ref())).await;
        let status = match started {
            Ok(Ok(call)) => return Ok(call),
            Ok(Err(status)) => status,
            Err(_) => Status::deadline_exceeded("no answer to a watch"),
        };
        match verdict(&status) {
            Verdict::Elsewhere | Verdict::Unclear => self.leave(member),
            Verdict::Login => drop(self.log_in(token.as_ref()).await?),
            Verdict::Refused | Verdict::Later => {}
        }
        Err(Failure {
            member: self.members[member].url.clone(),
            status,
            unclear: false,
        })
    }

    async fn start_watch(
        &self,
        member: usize,
        create: wire::WatchCreate,
        token: Option<&Token>,
    ) -> Result<WatchCall, Status> {
        let mut grpc = self.grpc(member);
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let codec = ProstCodec::<wire::Empty, wire::StatusAnswer>::default();
        let status = self.request(wire::Empty {}, token);
        let status = grpc
            .unary(status, PathAndQuery::from_static(wire::path::STATUS), codec)
            .await;
        let version = status.map(|s| s.into_inner().version).unwrap_or_default();
        let asks = answers_progress(&version);
        if !asks && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                member = self.members[member].url,
                version,
                "this etcd cannot be asked how far its watches are, so bookmarks come when it says so by itself: upgrade to \
                 3.4.25, 3.5.8 or later, or run it with --experimental-watch-progress-notify-interval=5s"
            );
        }
        let (mut requests, outgoing) = mpsc::channel(4);
        let create = wire::WatchRequest {
            kind: Some(wire::watch_request::Kind::Create(create)),
        };
        requests
            .try_send(create)
            .map_err(|e| Status::internal(e.to_string()))?;
        grpc.ready().await.map_err(|e| Status::from_error(e.into()))?;
        let request = self.request(outgoing, token);
        let path = PathAndQuery::from_static(wire::path::WATCH);
        let responses = grpc.streaming(request, path, ProstCodec::default()).await?;
        Ok(WatchCall {
            member,
            asks,
            requests,
            responses: responses.into_inner(),
        })
    }

    /// Whether a refusal for want of a token is not the last word.
    pub(crate) fn can_log_in(&self) -> bool {
        self.credentials.is_some()
    }

    /// Forgets our token, because a watch was ended for it, and fetches another.
    pub(crate) async fn renew_token(&self) -> Result<(), Failure> {
        let stale = self.token.lock().clone();
        self.log_in(stale.as_ref()).await.map(drop)
    }

    async fn token(&self) -> Result<Option<Token>, Failure> {
        if self.credentials.is_none() {
            return Ok(None);
        }
        let token = self.token.lock().clone();
        match token {
            Some(token) => Ok(Some(token)),
            None => self.log_in(None).await,
        }
    }

    /// Fetches a token, unless somebody has replaced the stale one meanwhile. `None` when etcd's authentication is off.
    async fn log_in(&self, stale: Option<&Token>) -> Result<Option<Token>, Failure> {
        let Some(credentials) = &self.credentials else {
            return Ok(None);
        };
        let _one_at_a_time = self.login.lock().await;
        if let Some(token) = self.token.lock().as_ref()
            && Some(token) != stale
        {
            return Ok(Some(token.clone()));
        }
        let request = wire::Authenticate {
            name: credentials.user.clone(),
            password: credentials.password.clone(),
        };
        let until = Instant::now() + DEADLINE;
        let mut pause = FIRST_PAUSE;
        loop {
            let index = self.current();
            let attempt = self.attempt(index, wire::path::AUTHENTICATE, &request, None, READ_ATTEMPT);
            let status = match attempt.await {
                Ok(wire::AuthenticateAnswer { token }) => {
                    let mut token: Option<Token> = token.parse().ok();
                    // So that it is neither printed nor indexed by HTTP/2.
                    if let Some(token) = &mut token {
                        token.set_sensitive(true);
                    }
                    self.token.lock().clone_from(&token);
                    return Ok(token);
                }
                Err(status) => status,
            };
            if status.message() == "etcdserver: authentication is not enabled" {
                tracing::debug!("etcd's authentication is off: user and password are not needed");
                *self.token.lock() = None;
                return Ok(None);
            }
            let verdict = verdict(&status);
            let over = Instant::now() + pause >= until;
            // A token too many is no harm, so whatever can be repeated is.
            if over || verdict == Verdict::Refused {
                return Err(Failure {
                    member: self.members[index].url.clone(),
                    status,
                    unclear: false,
                });
            }
            if matches!(verdict, Verdict::Elsewhere | Verdict::Unclear) {
                self.leave(index);
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Whether progress that was asked for can be believed: before 3.4.25 and 3.5.8 the answer could overtake changes
/// (etcd's issue 15220).
fn answers_progress(version: &str) -> bool {
    let mut parts = version
        .split(['.', '-', '+'])
        .map(|p| p.parse::<u32>().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    match (next(), next(), next()) {
        (3, 4, patch) => patch >= 25,
        (3, 5, patch) => patch >= 8,
        (3, minor, _) => minor > 5,
        (major, ..) => major > 3,
    }
}

fn endpoint(url: &str, tls: &EtcdTls) -> Result<Endpoint, String> {
    let secure = url.starts_with("https://");
    if !secure && !url.starts_with("http://") {
        return Err("a URL must begin with http:// or https://".to_owned());
    }
    let endpoint = Endpoint::from_shared(url.to_owned()).map_err(|e| format!("not a URL: {e}"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW);
    if !secure {
        return Ok(endpoint);
    }
    let mut config = ClientTlsConfig::new().timeout(CONNECT);
    config = match &tls.ca {
        Some(ca) if !ca.contains("-----BEGIN CERTIFICATE-----") => {
            return Err("the file of its authority has no certificate (PEM) in it".to_owned());
        }
        Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
        None => config.with_native_roots(),
    };
    if let Some((certificate, key)) = &tls.identity {
        config = config.identity(Identity::from_pem(certificate, key));
    }
    endpoint
        .tls_config(config)
        .map_err(|e| match std::error::Error::source(&e) {
            Some(cause) => format!("its TLS settings cannot be used: {cause}"),
            None => format!("its TLS settings cannot be used: {e}"),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_asked_for_where_it_can_be_believed() {
        for (version, wanted) in [
            ("3.4.23", false),
            ("3.4.25", true),
            ("3.5.0", false),
            ("3.5.7", false),
            ("3.5.8", true),
            ("3.5.16", true),
            ("3.6.0-rc.1", true),
            ("3.10.0", true),
            ("4.0.0", true),
            ("", false),
        ] {
            assert_eq!(answers_progress(version), wanted, "{version}");
        }
    }

    #[test]
    fn what_is_no_url_of_etcd_is_refused() {
        for (url, why) in [
            ("127.0.0.1:2379", "must begin with http:// or https://"),
            ("unix:///run/etcd", "must begin with http:// or https://"),
            ("http://a b", "not a URL"),
        ] {
            let refused = endpoint(url, &EtcdTls::default()).expect_err(url);
            assert!(refused.contains(why), "{url}: {refused}");
        }
    }
}
