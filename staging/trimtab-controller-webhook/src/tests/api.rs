//! An API server in memory: objects by their paths, versions that are insisted on, and failures to order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};

/// The server; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Api(pub(crate) Arc<Mutex<State>>);

#[derive(Default)]
pub(crate) struct State {
    version: u64,
    pub(crate) objects: BTreeMap<String, Value>,
    /// What was asked and answered: `GET /api/… 200`.
    pub(crate) log: Vec<String>,
    /// What was asked, as rules of access have it: the verb, and the path.
    pub(crate) asked: Vec<(&'static str, String)>,
    /// The bodies of patches, with their queries.
    pub(crate) patches: Vec<(String, Value)>,
    /// Writes that are refused, by the parts of their paths.
    pub(crate) refused: Vec<(&'static str, u16)>,
    /// Whether nothing is answered any more.
    pub(crate) silent: bool,
    /// How many writes find the object changed by others, from now on.
    pub(crate) others: usize,
}

type Answer = Result<Value, u16>;

impl Api {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole body");
                tokio::task::yield_now().await; // so that callers come in between
                let silent = api.0.lock().silent;
                if silent {
                    std::future::pending::<()>().await;
                }
                Ok::<_, Infallible>(api.answer(&head.method, &head.uri, &body))
            }
        });
        Client::new(service, "default")
    }

    pub(crate) fn put(&self, path: &str, object: Value) {
        self.0.lock().store(path, object);
    }

    pub(crate) fn get(&self, path: &str) -> Value {
        self.0.lock().objects.get(path).cloned().unwrap_or_default()
    }

    /// What was written since this was asked last: `PUT name 200`.
    pub(crate) fn writes(&self) -> Vec<String> {
        let log = std::mem::take(&mut self.0.lock().log);
        log.into_iter().filter(|line| !line.starts_with("GET")).collect()
    }

    fn answer(&self, method: &Method, uri: &http::Uri, body: &[u8]) -> Response<Full<Bytes>> {
        let body: Value = serde_json::from_slice(body).unwrap_or_default();
        let mut state = self.0.lock();
        let verb = match *method {
            Method::GET => "get",
            Method::POST => "create",
            Method::PUT => "update",
            _ => "patch",
        };
        state.asked.push((verb, uri.path().to_owned()));
        let answer = state.act(method, uri, body);
        let code = answer.as_ref().map_or_else(|code| *code, |_| 200);
        let name = uri.path().rsplit('/').next().unwrap_or_default();
        state.log.push(format!("{method} {name} {code}"));
        let answer = answer.unwrap_or_else(|code| {
            let reason = match code {
                404 => "NotFound",
                409 => "Conflict",
                _ => "Forbidden",
            };
            json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "metadata": {},
                "reason": reason, "message": "refused by the test"})
        });
        let response = Response::builder().status(code);
        response.body(answer.to_string().into()).expect("a response")
    }
}

impl State {
    fn act(&mut self, method: &Method, uri: &http::Uri, body: Value) -> Answer {
        let path = uri.path();
        if method == Method::GET {
            return self.objects.get(path).cloned().ok_or(404);
        }
        if let Some((_, code)) = self.refused.iter().find(|(part, _)| path.contains(part)) {
            return Err(*code);
        }
        if self.others > 0 && method != Method::POST {
            self.others -= 1;
            let object = self.objects.get(path).cloned().ok_or(404_u16)?;
            self.store(path, object);
        }
        match *method {
            Method::POST => {
                let name = body["metadata"]["name"].as_str().expect("a name");
                let path = format!("{path}/{name}");
                if self.objects.contains_key(&path) {
                    return Err(409);
                }
                Ok(self.store(&path, body))
            }
            Method::PUT => {
                let current = self.objects.get(path).ok_or(404_u16)?;
                if current["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"] {
                    return Err(409);
                }
                Ok(self.store(path, body))
            }
            Method::PATCH => {
                let query = uri.query().unwrap_or_default().to_owned();
                self.patches.push((query, body.clone()));
                if body.is_object() {
                    return Ok(self.store(path, body)); // applied
                }
                let current = self.objects.get(path).cloned().ok_or(404_u16)?;
                let mut patched = current.clone();
                let patch: json_patch::Patch = serde_json::from_value(body).expect("a JSON patch");
                json_patch::patch(&mut patched, &patch).expect("it can be applied");
                if patched["metadata"]["resourceVersion"] != current["metadata"]["resourceVersion"] {
                    return Err(409);
                }
                Ok(self.store(path, patched))
            }
            _ => Err(405),
        }
    }

    fn store(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}
