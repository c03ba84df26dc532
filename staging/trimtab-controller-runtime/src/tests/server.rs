//! A server in memory: enough of the Kubernetes API for controllers to live on, with faults to order.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use http::{Method, Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use kube::Client;
use kube::client::Body;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// For how long a busy server wants to be left alone.
pub(super) const RETRY_AFTER: Duration = Duration::from_secs(7);

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
/// Which object: plural, namespace, name.
pub(super) type Id = (String, String, String);

/// The server; clones are the same.
#[derive(Clone)]
pub(super) struct Server(pub(super) Arc<Mutex<State>>);

#[derive(Default)]
pub(super) struct State {
    version: u64,
    pub(super) objects: BTreeMap<Id, Value>,
    pub(super) history: Vec<(u64, Id, Value)>,
    /// What clients wrote, with the version that it led to.
    pub(super) writes: Vec<(Id, u64)>,
    watchers: Vec<(String, mpsc::UnboundedSender<(Instant, Value)>)>,
    /// What was asked and answered, reads left out: `PATCH configmaps/a 200`.
    pub(super) log: Vec<String>,
    /// How long watchers wait for each event.
    pub(super) lag: Duration,
    /// How many writes are refused with 500, from now on.
    pub(super) failures: u32,
    /// How many writes are refused with 429, from now on, with the wish to be left alone for [`RETRY_AFTER`].
    pub(super) busy: u32,
    /// How many writes are done and answered with 500 all the same, from now on.
    pub(super) lost_answers: u32,
    /// Leases can be read and not written.
    pub(super) unreachable_leases: bool,
    /// Kinds that are not there.
    pub(super) missing: Vec<String>,
}

impl Default for Server {
    fn default() -> Self {
        let state = State {
            version: 1,
            ..State::default()
        };
        Self(Arc::new(Mutex::new(state)))
    }
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move { Ok::<_, Infallible>(server.answer(request).await) }
        });
        Client::new(service, "default")
    }

    /// Writes an object as a user does: creates it or merges into it.
    pub(super) fn put(&self, plural: &str, name: &str, change: Value) -> Value {
        let id = (plural.to_owned(), "default".to_owned(), name.to_owned());
        self.0
            .lock()
            .merge(id, change, None)
            .expect("users' writes have no precondition")
    }

    pub(super) fn delete(&self, plural: &str, name: &str) {
        self.0
            .lock()
            .delete(&(plural.to_owned(), "default".to_owned(), name.to_owned()));
    }

    pub(super) fn get(&self, plural: &str, name: &str) -> Option<Value> {
        let id = (plural.to_owned(), "default".to_owned(), name.to_owned());
        self.0.lock().objects.get(&id).cloned()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.0.lock().log.clone()
    }

    /// Ends all watches, as a server that restarts does.
    pub(super) fn cut_watches(&self) {
        self.0.lock().watchers.clear();
    }

    async fn answer(&self, request: Request<Body>) -> Answer {
        let (parts, body) = request.into_parts();
        let body = body.collect_bytes().await.expect("a whole body");
        let patch: Value = serde_json::from_slice(&body).unwrap_or_default();
        let (resource, name, part) = resource_of(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default();
        let mut state = self.0.lock();
        if state.missing.contains(&resource.0) {
            return failure(
                404,
                "NotFound",
                "the server could not find the requested resource",
                "",
            );
        }
        if parts.method == Method::GET {
            if query.contains("watch=true") {
                let version = query
                    .split('&')
                    .find_map(|pair| pair.strip_prefix("resourceVersion="));
                return state.watch(&resource.0, version.and_then(|v| v.parse().ok()).unwrap_or(0));
            }
            if name.is_empty() {
                return state.list(&resource.0);
            }
            return match state.objects.get(&(resource.0, resource.1, name.clone())) {
                Some(object) => ok(object),
                None => failure(404, "NotFound", "there is none", &name),
            };
        }
        if resource.0 == "leases" && parts.method != Method::DELETE {
            return state.lease(&parts.method, resource.1, patch);
        }
        if resource.0 == "events" {
            return ok(&json!({}));
        }
        let creates = parts.method == Method::POST;
        let name = match patch["metadata"]["name"].as_str() {
            Some(given) if creates => given.to_owned(),
            _ => name,
        };
        let id = (resource.0.clone(), resource.1, name.clone());
        let written = id.clone();
        let form = parts
            .headers
            .get("content-type")
            .and_then(|form| form.to_str().ok())
            .unwrap_or_default();
        let answer = if state.failures > 0 {
            state.failures -= 1;
            Err((500, "InternalError"))
        } else if state.busy > 0 {
            state.busy -= 1;
            Err((429, "TooManyRequests"))
        } else if parts.method == Method::DELETE {
            let uid = &patch["preconditions"]["uid"];
            match state.objects.get(&id) {
                None => Err((404, "NotFound")),
                Some(object) if !uid.is_null() && object["metadata"]["uid"] != *uid => Err((409, "Conflict")),
                Some(_) => {
                    state.delete(&id);
                    Ok(json!({}))
                }
            }
        } else if creates || form.starts_with("application/apply-patch") {
            state.merge(id, patch, None)
        } else if state.objects.contains_key(&id) {
            state.merge(id, patch, part)
        } else {
            Err((404, "NotFound"))
        };
        let answer = match answer {
            Ok(_) if state.lost_answers > 0 => {
                state.lost_answers -= 1;
                Err((500, "InternalError"))
            }
            answer => answer,
        };
        if answer.is_ok() {
            let last = state.history.iter().rev().find(|(_, id, _)| *id == written);
            let version = last.expect("what was written has a history").0;
            state.writes.push((written, version));
        }
        let code = answer.as_ref().map_or_else(|(code, _)| *code, |_| 200);
        let path = if part.is_some() {
            format!("{name}/status")
        } else {
            name.clone()
        };
        state
            .log
            .push(format!("{} {}/{path} {code}", parts.method, resource.0));
        match answer {
            Ok(object) => ok(&object),
            Err((code, reason)) => failure(code, reason, "refused by the test", &name),
        }
    }
}

impl State {
    /// Merges a patch into an object or makes it. `part` is the subresource.
    fn merge(&mut self, id: Id, patch: Value, part: Option<&str>) -> Result<Value, (u16, &'static str)> {
        let existing = self.objects.get(&id).cloned();
        let mut new = existing.clone().unwrap_or_else(|| {
            let uid = format!("{}-{}", id.2, self.version + 1);
            json!({"metadata": {"name": id.2, "namespace": id.1, "uid": uid, "generation": 1}})
        });
        let seen = &patch["metadata"]["resourceVersion"];
        if !seen.is_null() && new["metadata"]["resourceVersion"] != *seen {
            return Err((409, "Conflict"));
        }
        let others = existing
            .iter()
            .flat_map(|object| object["metadata"]["ownerReferences"].as_array())
            .flatten();
        for other in others {
            let wished = &patch["metadata"]["ownerReferences"][0]["uid"];
            if !wished.is_null() && other["uid"] != *wished {
                return Err((422, "Invalid"));
            }
        }
        let spec = new["spec"].clone();
        match part {
            Some(part) => {
                merge(&mut new[part], &patch[part]);
                let is_built_in = id.0 != "widgets";
                if is_built_in && let Some(annotations) = patch["metadata"].get("annotations") {
                    merge(&mut new["metadata"]["annotations"], annotations);
                }
            }
            None => merge(&mut new, &patch),
        }
        if existing.is_some() && new["spec"] != spec {
            new["metadata"]["generation"] = json!(new["metadata"]["generation"].as_u64().unwrap_or(0) + 1);
        }
        if existing.as_ref() == Some(&new) {
            return Ok(new);
        }
        let finalizers = new["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty());
        if !new["metadata"]["deletionTimestamp"].is_null() && !finalizers {
            self.remove(&id);
            return Ok(new);
        }
        let verb = if existing.is_some() { "MODIFIED" } else { "ADDED" };
        Ok(self.store(id, new, verb))
    }

    /// Creates or replaces a Lease.
    fn lease(&mut self, method: &Method, namespace: String, mut lease: Value) -> Answer {
        if self.unreachable_leases {
            return failure(503, "ServiceUnavailable", "refused by the test", "");
        }
        let name = lease["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        lease["metadata"]["namespace"] = json!(namespace);
        let id = ("leases".to_owned(), namespace, name);
        let existing = self.objects.get(&id);
        let version = existing.map(|lease| lease["metadata"]["resourceVersion"].clone());
        match (method, version) {
            (&Method::POST, None) => {
                lease["metadata"]["uid"] = json!(format!("lease-{}", self.version + 1));
                ok(&self.store(id, lease, "ADDED"))
            }
            (&Method::PUT, Some(version)) if version == lease["metadata"]["resourceVersion"] => {
                ok(&self.store(id, lease, "MODIFIED"))
            }
            (_, existing) => {
                let reason = if existing.is_some() {
                    "Conflict"
                } else {
                    "NotFound"
                };
                failure(
                    if existing.is_some() { 409 } else { 404 },
                    reason,
                    "another one was faster",
                    &id.2,
                )
            }
        }
    }

    fn store(&mut self, id: Id, mut object: Value, verb: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let event = json!({"type": verb, "object": object});
        if verb == "DELETED" {
            self.objects.remove(&id);
        } else {
            self.objects.insert(id.clone(), object.clone());
        }
        self.history.push((self.version, id.clone(), event.clone()));
        let at = Instant::now() + self.lag;
        self.watchers
            .retain(|(plural, watcher)| *plural != id.0 || watcher.send((at, event.clone())).is_ok());
        object
    }

    fn delete(&mut self, id: &Id) {
        let Some(mut object) = self.objects.get(id).cloned() else {
            return;
        };
        if object["metadata"]["finalizers"]
            .as_array()
            .is_some_and(|list| !list.is_empty())
        {
            object["metadata"]["deletionTimestamp"] = json!("2030-01-01T00:00:00Z");
            self.store(id.clone(), object, "MODIFIED");
        } else {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: &Id) {
        let object = self.objects.get(id).cloned().expect("it is there");
        let owner = object["metadata"]["uid"].clone();
        self.store(id.clone(), object, "DELETED");
        let owned = |object: &Value| object["metadata"]["ownerReferences"][0]["uid"] == owner;
        let children: Vec<Id> = self
            .objects
            .iter()
            .filter(|(_, o)| owned(o))
            .map(|(id, _)| id.clone())
            .collect();
        for child in &children {
            self.delete(child);
        }
    }

    fn list(&self, plural: &str) -> Answer {
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(id, _)| id.0 == plural)
            .map(|(_, object)| object)
            .collect();
        let version = self.version.to_string();
        ok(
            &json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": version}, "items": items}),
        )
    }

    fn watch(&mut self, plural: &str, after: u64) -> Answer {
        let (sender, receiver) = mpsc::unbounded_channel();
        let at = Instant::now() + self.lag;
        let missed = self
            .history
            .iter()
            .filter(|(version, id, _)| *version > after && id.0 == plural);
        for (_, _, event) in missed {
            let _open = sender.send((at, event.clone()));
        }
        self.watchers.push((plural.to_owned(), sender));
        let events = futures::stream::unfold(receiver, |mut receiver| async move {
            let (at, event) = receiver.recv().await?;
            sleep_until(at).await;
            let line = Bytes::from(format!("{event}\n"));
            Some((Ok(http_body::Frame::data(line)), receiver))
        });
        Response::new(StreamBody::new(events.boxed()).boxed_unsync())
    }
}

/// The plural and namespace, the name and the subresource of a path.
fn resource_of(path: &str) -> ((String, String), String, Option<&str>) {
    let skipped = if path.starts_with("/api/") { 2 } else { 3 };
    let mut parts = path.trim_start_matches('/').split('/').skip(skipped).peekable();
    let mut namespace = "";
    if parts.peek() == Some(&"namespaces") {
        parts.next();
        namespace = parts.next().unwrap_or_default();
    }
    let plural = parts.next().unwrap_or_default().to_owned();
    let name = parts.next().unwrap_or_default().to_owned();
    ((plural, namespace.to_owned()), name, parts.next())
}

fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().expect("made above").remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

fn ok(body: &Value) -> Answer {
    Response::new(Full::from(body.to_string()).boxed_unsync())
}

fn failure(code: u16, reason: &str, message: &str, name: &str) -> Answer {
    let mut status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": message, "details": {"name": name}});
    if code == 429 {
        status["details"]["retryAfterSeconds"] = json!(RETRY_AFTER.as_secs());
    }
    let body = Full::from(status.to_string()).boxed_unsync();
    Response::builder().status(code).body(body).expect("a response")
}
