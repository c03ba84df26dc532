//! What is between one process and the server: it writes down what passes, and does what the plan says.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tower::BoxError;

use crate::journal::{Entry, What};
use crate::plan::{Fault, Plan, Trouble};
use crate::point::{Ask, Counter, Point, param};
use crate::watch;

/// For how long a process is down, hangs, or is told nothing, and an event is withheld: longer than a Lease lasts.
pub(crate) const WHILE: Duration = Duration::from_secs(30);
/// How long a slow answer takes.
const SLOW: Duration = Duration::from_secs(20);
/// How long two processes run beside each other.
const TWO: Duration = Duration::from_secs(120);

/// So much does not happen in a run.
const MOST_ENTRIES: usize = 5000;

/// An answer of any origin.
pub(crate) type Answer = Response<UnsyncBoxBody<Bytes, BoxError>>;

/// What the processes of a run have in common. Clones are the same.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Inner>);

struct Inner {
    server: Client,
    began: Instant,
    state: Mutex<State>,
    orders: mpsc::UnboundedSender<Order>,
}

struct State {
    journal: Vec<Entry>,
    counter: Counter,
    /// What has not gone wrong yet.
    due: Vec<Fault>,
    quiet_until: Option<Instant>,
    /// The store's revision at the beginning of the scenario's current step.
    step_began: u64,
    /// Whether a list was asked for that need not be the latest.
    any_version: bool,
}

/// What is to become of processes.
#[derive(Debug)]
pub(crate) enum Order {
    /// It dies, and another starts when it has been down for so long; its first lists are as of this revision.
    Replace {
        process: u32,
        down: Duration,
        view: Option<u64>,
    },
    /// It dies, and no other starts.
    Kill(u32),
    /// One more starts.
    Start { view: Option<u64> },
    /// The run has to end: somebody asks without a pause, and time stands still.
    Enough,
    /// It has ended by itself.
    Ended { process: u32, why: String },
}

/// One process's way to the server. Clones are the same.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) shared: Shared,
    pub(crate) process: u32,
    /// From here on it gets no answer.
    pub(crate) dead: CancellationToken,
    /// It hangs: nothing that it sends goes out before.
    hangs_until: Arc<Mutex<Option<Instant>>>,
    /// Lists that may be old are as of this revision, and nothing is told for a while.
    view: Option<u64>,
}

// === impl Shared ===

impl Shared {
    pub(crate) fn new(server: Client, plan: &Plan) -> (Self, mpsc::UnboundedReceiver<Order>) {
        let (orders, ordered) = mpsc::unbounded_channel();
        let state = State {
            journal: Vec::new(),
            counter: Counter::default(),
            due: plan.faults.clone(),
            quiet_until: None,
            step_began: 0,
            any_version: false,
        };
        let shared = Self(Arc::new(Inner {
            server,
            began: Instant::now(),
            state: Mutex::new(state),
            orders,
        }));
        (shared, ordered)
    }

    pub(crate) fn note(&self, process: u32, what: What) -> usize {
        let at = self.0.began.elapsed();
        let journal = &mut self.0.state.lock().journal;
        journal.push(Entry { at, process, what });
        if journal.len() == MOST_ENTRIES {
            self.order(Order::Enough);
        }
        journal.len() - 1
    }

    pub(crate) fn order(&self, order: Order) {
        // It fails when the run is over, and nothing is to become of anything.
        let _over = self.0.orders.send(order);
    }

    pub(crate) fn journal(&self) -> Vec<Entry> {
        self.0.state.lock().journal.clone()
    }

    /// The faults that have not come to pass.
    pub(crate) fn due(&self) -> Vec<Fault> {
        self.0.state.lock().due.clone()
    }

    pub(crate) fn any_version(&self) -> bool {
        self.0.state.lock().any_version
    }

    /// The scenario's next step begins, at this revision.
    pub(crate) fn step(&self, revision: u64) {
        self.0.state.lock().step_began = revision;
    }

    /// Numbers what happens, and takes from the plan what goes wrong there.
    pub(crate) fn fault(&self, process: u32, verb: &str, target: &str) -> (Point, Option<Trouble>) {
        let (point, fault) = {
            let state = &mut *self.0.state.lock();
            let point = state.counter.next(verb, target);
            let at = state.due.iter().position(|fault| fault.at == point);
            (point, at.map(|at| state.due.remove(at)))
        };
        let trouble = fault.as_ref().map(|fault| fault.trouble);
        if let Some(fault) = fault {
            self.note(process, What::Fault(fault));
        }
        (point, trouble)
    }

    /// Nothing is told to anybody for a while.
    pub(crate) fn lag(&self) {
        self.0.state.lock().quiet_until = Some(Instant::now() + WHILE);
    }

    fn quiet_until(&self) -> Option<Instant> {
        self.0
            .state
            .lock()
            .quiet_until
            .filter(|until| *until > Instant::now())
    }

    fn answered(&self, entry: usize, answer: Option<u16>) {
        if let What::Asked { code, .. } = &mut self.0.state.lock().journal[entry].what {
            *code = answer;
        }
    }
}

// === impl Wire ===

impl Wire {
    pub(crate) fn new(shared: Shared, process: u32, view: Option<u64>) -> Self {
        Self {
            shared,
            process,
            dead: CancellationToken::new(),
            hangs_until: Arc::default(),
            view,
        }
    }

    /// A client whose requests go this way.
    pub(crate) fn client(&self) -> Client {
        Client::new(self.clone(), "default")
    }

    /// Waits until it may be told something.
    pub(crate) async fn may_tell(&self, opened: Instant) {
        if self.view.is_some() {
            sleep_until(opened + WHILE).await;
        }
        while let Some(until) = self.shared.quiet_until() {
            sleep_until(until).await;
        }
    }

    /// This process dies, and another starts.
    pub(crate) fn replace(&self, down: Duration, view: Option<u64>) {
        let process = self.process;
        self.shared.order(Order::Replace { process, down, view });
    }

    async fn pass(self, request: Request<Body>) -> Result<Answer, BoxError> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let hangs = *self.hangs_until.lock();
        if let Some(until) = hangs {
            sleep_until(until).await;
        }
        let Some(ask) = Ask::of(&head, &body) else {
            return self.forward(Request::from_parts(head, Body::from(body))).await;
        };
        let aside = ask.is_aside();
        let (point, trouble) = if aside {
            let counted = Counter::default().next(ask.verb, &ask.target);
            (counted, None)
        } else {
            self.shared.fault(self.process, ask.verb, &ask.target)
        };
        let entry = self.shared.note(
            self.process,
            What::Asked {
                point,
                code: None,
                aside,
            },
        );
        let request = self.rewritten(Request::from_parts(head, Body::from(body)), &ask);
        let answer = self.suffer(trouble, request, &ask).await;
        let code = answer.as_ref().ok().map(|answer| answer.status().as_u16());
        self.shared.answered(entry, code);
        answer
    }

    /// Does what is asked, or what the plan says.
    async fn suffer(
        &self,
        trouble: Option<Trouble>,
        request: Request<Body>,
        ask: &Ask,
    ) -> Result<Answer, BoxError> {
        let wire = self.clone();
        match trouble {
            None | Some(Trouble::Skip | Trouble::Hold | Trouble::Down | Trouble::Lag | Trouble::Cut) => {
                let answer = self.forward(request).await?;
                let is_stream = ask.verb == "watch" && answer.status().is_success();
                Ok(if is_stream {
                    watch::disturbed(wire, &ask.resource, ask.lists, answer)
                } else {
                    answer
                })
            }
            Some(Trouble::CrashBefore) => {
                self.replace(Duration::from_secs(1), None);
                never().await
            }
            Some(Trouble::CrashAfter) => {
                self.forward(request).await?;
                self.replace(Duration::from_secs(1), None);
                never().await
            }
            Some(Trouble::Back) => {
                self.forward(request).await?;
                let view = self.shared.0.state.lock().step_began;
                self.replace(Duration::from_secs(1), Some(view));
                never().await
            }
            Some(Trouble::Conflict) => Ok(status(
                409,
                "Conflict",
                "the object has been modified; please apply your changes to the latest version and try again",
            )),
            Some(Trouble::Throttle) => Ok(status(
                429,
                "TooManyRequests",
                "too many requests, please try again later",
            )),
            Some(Trouble::Error) => Ok(status(
                500,
                "InternalError",
                "an error on the server has prevented the request from succeeding",
            )),
            Some(Trouble::Expired) => Ok(status(410, "Expired", "too old resource version")),
            Some(Trouble::Timeout) => {
                self.forward(request).await?;
                Ok(status(
                    504,
                    "Timeout",
                    "the request did not complete within the allotted time",
                ))
            }
            Some(Trouble::Lost) => {
                self.forward(request).await?;
                Err("the connection was reset by the peer".into())
            }
            Some(Trouble::Slow) => {
                let answer = self.forward(request).await?;
                sleep(SLOW).await;
                Ok(answer)
            }
            Some(Trouble::Zombie) => {
                *self.hangs_until.lock() = Some(Instant::now() + WHILE);
                self.shared.order(Order::Start { view: None });
                sleep(WHILE).await;
                self.forward(request).await?;
                self.shared.order(Order::Kill(self.process));
                never().await
            }
            Some(Trouble::Twin) => {
                self.shared.order(Order::Start { view: None });
                let (shared, process) = (self.shared.clone(), self.process);
                tokio::spawn(async move {
                    sleep(TWO).await;
                    shared.order(Order::Kill(process));
                });
                self.forward(request).await
            }
        }
    }

    /// A list that may be old, of a process that has an old view, as of then.
    fn rewritten(&self, request: Request<Body>, ask: &Ask) -> Request<Body> {
        let (mut head, body) = request.into_parts();
        if ask.verb == "list" && param(&head, "resourceVersion").as_deref() == Some("0") {
            self.shared.0.state.lock().any_version = true;
            if let Some(view) = self.view {
                let query = head.uri.query().unwrap_or_default();
                let others = form_urlencoded::parse(query.as_bytes())
                    .filter(|(key, _)| !matches!(&**key, "resourceVersion" | "resourceVersionMatch"));
                let query = form_urlencoded::Serializer::new(String::new())
                    .extend_pairs(others)
                    .append_pair("resourceVersion", &view.to_string())
                    .append_pair("resourceVersionMatch", "Exact")
                    .finish();
                // Made of parts of a URI.
                if let Ok(uri) = format!("{}?{query}", head.uri.path()).parse() {
                    head.uri = uri;
                }
            }
        }
        Request::from_parts(head, body)
    }

    async fn forward(&self, request: Request<Body>) -> Result<Answer, BoxError> {
        let answer = self.shared.0.server.send(request).await?;
        Ok(answer.map(|body| body.map_err(BoxError::from).boxed_unsync()))
    }
}

impl tower::Service<Request<Body>> for Wire {
    type Response = Answer;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Answer, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let wire = self.clone();
        async move {
            let dead = wire.dead.clone();
            match dead.run_until_cancelled_owned(wire.pass(request)).await {
                Some(answer) => answer,
                None => never().await,
            }
        }
        .boxed()
    }
}

async fn never<T>() -> T {
    std::future::pending().await
}

/// An answer by which the server says that it did not do it, or does not know.
fn status(code: u16, reason: &str, message: &str) -> Answer {
    let body = failure(code, reason, message).to_string();
    let body = Full::new(Bytes::from(body))
        .map_err(|never| match never {})
        .boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = http::StatusCode::from_u16(code).unwrap_or_default();
    let headers = answer.headers_mut();
    headers.insert(
        http::header::CONTENT_TYPE,
        http::HeaderValue::from_static("application/json"),
    );
    if code == 429 {
        headers.insert(http::header::RETRY_AFTER, http::HeaderValue::from_static("1"));
    }
    answer
}

/// A Status, as Kubernetes says it.
pub(crate) fn failure(code: u16, reason: &str, message: &str) -> serde_json::Value {
    let mut status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": code,
    });
    if code == 429 {
        status["details"] = json!({"retryAfterSeconds": 1});
    }
    status
}
