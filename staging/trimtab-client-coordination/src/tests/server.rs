//! An API server of Leases that delays, loses and refuses on demand, and remembers what was written.
//!
//! What a client has sent is on its way whether or not the client still waits, as on a network.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use k8s_openapi::api::coordination::v1::Lease;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;
use tokio::time::sleep;

/// What happens to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Fault {
    /// For how long the request is on its way, and the answer.
    pub(crate) there: Duration,
    pub(crate) back: Duration,
    pub(crate) fate: Fate,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Answered,
    /// It does not arrive, and the client is told so.
    Refused,
    /// It does not arrive, and nobody says so.
    Lost,
    /// It is done, and the connection breaks before the answer.
    Broken,
    /// It is done, and no answer ever comes.
    Mute,
    /// The server refuses with this code.
    Code(u16),
}

/// A write that the server has made.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) by: usize,
    /// None: deleted.
    pub(crate) lease: Option<Lease>,
}

/// Clones are the same server.
#[derive(Clone)]
pub(crate) struct LeaseServer(Arc<Mutex<State>>);

struct State {
    leases: BTreeMap<String, Value>,
    version: u64,
    /// For each client, what happens to its next requests; then what happens to all after them.
    faults: HashMap<usize, VecDeque<Fault>>,
    usual: HashMap<usize, Fault>,
    /// By client and verb.
    requests: Vec<(usize, Method)>,
    listener: Box<dyn FnMut(Written) + Send>,
}

impl LeaseServer {
    pub(crate) fn new() -> Self {
        Self::listened_by(|_| {})
    }

    /// Tells each write to `listener`, at the moment at which it is made.
    pub(crate) fn listened_by(listener: impl FnMut(Written) + Send + 'static) -> Self {
        Self(Arc::new(Mutex::new(State {
            leases: BTreeMap::new(),
            version: 0,
            faults: HashMap::new(),
            usual: HashMap::new(),
            requests: Vec::new(),
            listener: Box::new(listener),
        })))
    }

    /// A client with a number, by which faults are meant.
    pub(crate) fn client(&self, who: usize) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| server.clone().receive(who, request));
        Client::new(service, "default")
    }

    /// What happens to the next requests of a client.
    pub(crate) fn fail(&self, who: usize, faults: impl IntoIterator<Item = Fault>) {
        self.0.lock().faults.entry(who).or_default().extend(faults);
    }

    /// What happens to all requests of a client for which nothing else is said.
    pub(crate) fn usually(&self, who: usize, fault: Fault) {
        self.0.lock().usual.insert(who, fault);
    }

    /// Nothing goes wrong any more with what is sent from now on.
    pub(crate) fn heal(&self) {
        let mut state = self.0.lock();
        state.faults.clear();
        state.usual.clear();
    }

    pub(crate) fn lease(&self, name: &str) -> Option<Lease> {
        let lease = self.0.lock().leases.get(name).cloned()?;
        Some(serde_json::from_value(lease).expect("a Lease"))
    }

    /// What Leases there are, in order.
    pub(crate) fn names(&self) -> Vec<String> {
        self.0.lock().leases.keys().cloned().collect()
    }

    pub(crate) fn requests(&self) -> Vec<(usize, Method)> {
        self.0.lock().requests.clone()
    }

    /// Somebody edits a Lease by hand.
    pub(crate) fn edit(&self, name: &str, change: impl FnOnce(&mut Value)) {
        let mut state = self.0.lock();
        let mut lease = state.leases.get(name).cloned().expect("a Lease of this name");
        change(&mut lease);
        state.store(usize::MAX, name, lease);
    }

    /// Somebody deletes a Lease by hand.
    pub(crate) fn delete(&self, name: &str) {
        self.0.lock().remove(usize::MAX, name);
    }

    async fn receive(self, who: usize, request: Request<Body>) -> Result<Response<Body>, &'static str> {
        let (head, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a whole body");
        let body: Value = serde_json::from_slice(&body).unwrap_or_default();
        let fault = {
            let mut state = self.0.lock();
            state.requests.push((who, head.method.clone()));
            let next = state.faults.get_mut(&who).and_then(VecDeque::pop_front);
            next.or_else(|| state.usual.get(&who).copied())
                .unwrap_or_default()
        };
        let (answer, answered) = oneshot::channel();
        tokio::spawn(async move {
            sleep(fault.there).await;
            let told = match fault.fate {
                Fate::Refused => Err("connection refused"),
                Fate::Lost => return std::future::pending().await,
                Fate::Code(code) => Ok(status(code, "Faulty", "on demand")),
                Fate::Answered => Ok(self.answer(who, &head, body)),
                Fate::Broken => {
                    self.answer(who, &head, body);
                    Err("connection reset")
                }
                Fate::Mute => {
                    self.answer(who, &head, body);
                    return std::future::pending().await;
                }
            };
            sleep(fault.back).await;
            let _ = answer.send(told);
        });
        let told = answered.await.unwrap_or(Err("the server is gone"));
        told.map(|(code, body)| {
            let body = Body::from(serde_json::to_vec(&body).expect("JSON"));
            Response::builder().status(code).body(body).expect("a response")
        })
    }

    fn answer(&self, who: usize, head: &http::request::Parts, body: Value) -> (u16, Value) {
        let mut state = self.0.lock();
        let path = head.uri.path();
        let Some(at) = path.strip_prefix("/apis/coordination.k8s.io/v1/namespaces/default/leases") else {
            return status(404, "NotFound", path);
        };
        let name = at.trim_start_matches('/');
        let stored = state.leases.get(name).cloned();
        let version = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
        match (&head.method, stored) {
            (&Method::GET, _) if name.is_empty() => (200, state.list(head.uri.query().unwrap_or_default())),
            (&Method::POST, _) => {
                let name = body["metadata"]["name"].as_str().expect("a name").to_owned();
                if state.leases.contains_key(&name) {
                    return status(409, "AlreadyExists", &name);
                }
                (201, state.store(who, &name, body))
            }
            (_, None) => status(404, "NotFound", name),
            (&Method::GET, Some(stored)) => (200, stored),
            (&Method::PUT, Some(stored)) if version(&body).is_null() => {
                status(422, "Invalid", &stored.to_string())
            }
            (&Method::PUT, Some(stored)) if version(&body) != version(&stored) => {
                status(409, "Conflict", name)
            }
            (&Method::PUT, Some(_)) => (200, state.store(who, name, body)),
            (&Method::DELETE, Some(stored)) => {
                let wanted = body["preconditions"]["resourceVersion"].clone();
                if !wanted.is_null() && wanted != version(&stored) {
                    return status(409, "Conflict", name);
                }
                state.remove(who, name);
                (
                    200,
                    json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}),
                )
            }
            (method, _) => status(405, "MethodNotAllowed", method.as_str()),
        }
    }
}

impl State {
    /// Stores a Lease at a new resource version, if anything of it is new.
    fn store(&mut self, who: usize, name: &str, mut lease: Value) -> Value {
        if let Some(stored) = self.leases.get(name) {
            lease["metadata"]["resourceVersion"] = stored["metadata"]["resourceVersion"].clone();
            if *stored == lease {
                return lease;
            }
        }
        self.version += 1;
        lease["metadata"]["resourceVersion"] = json!(self.version.to_string());
        lease["metadata"]["namespace"] = json!("default");
        self.leases.insert(name.to_owned(), lease.clone());
        (self.listener)(Written {
            by: who,
            lease: Some(serde_json::from_value(lease.clone()).expect("a Lease")),
        });
        lease
    }

    fn remove(&mut self, who: usize, name: &str) {
        self.version += 1;
        self.leases.remove(name);
        (self.listener)(Written { by: who, lease: None });
    }

    fn list(&self, query: &str) -> Value {
        let selector = query
            .split('&')
            .find_map(|pair| pair.strip_prefix("labelSelector="))
            .map(|selector| selector.replace("%3D", "=").replace("%2F", "/"));
        let wanted = selector.as_deref().and_then(|selector| selector.split_once('='));
        let items: Vec<&Value> = self
            .leases
            .values()
            .filter(|lease| wanted.is_none_or(|(key, value)| lease["metadata"]["labels"][key] == value))
            .collect();
        let metadata = json!({"resourceVersion": self.version.to_string()});
        json!({"kind": "LeaseList", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "items": items})
    }
}

fn status(code: u16, reason: &str, message: &str) -> (u16, Value) {
    let code = StatusCode::from_u16(code).expect("a code").as_u16();
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code, "reason": reason, "message": message,
    });
    (code, body)
}
