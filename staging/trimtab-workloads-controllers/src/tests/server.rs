//! A server in memory: as much of the Kubernetes API as owners, namespaces and what is in them need.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

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

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;
type Refusal = (u16, &'static str, String);
/// Which object: plural, namespace, name.
type Id = (String, String, String);

/// The server; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<Id, Value>,
    watchers: Vec<(String, mpsc::UnboundedSender<Bytes>)>,
    /// All that ever changed: at which version, the kind, and what watches say of it.
    changes: Vec<(u64, String, Bytes)>,
    /// Writes other than the test's own and other than events, with the answer's code.
    log: Vec<String>,
    faults: Faults,
}

/// What goes wrong.
#[derive(Default)]
pub(super) struct Faults {
    /// So many writes are answered with 500.
    pub(super) failures: u32,
    /// Written by somebody else just before the next deletion.
    pub(super) before_delete: Option<(&'static str, Value)>,
    /// The kind Site is served.
    pub(super) sites: bool,
    /// The kind Site is not there, whatever discovery says.
    pub(super) lost: bool,
    /// Discovery is that of older servers.
    pub(super) old: bool,
    /// A group's own server does not answer.
    pub(super) stale: bool,
}

impl Server {
    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect_bytes().await.expect("a whole body");
                let body = serde_json::from_slice(&body).unwrap_or_default();
                Ok::<_, Infallible>(server.0.lock().answer(&head, body))
            }
        });
        Client::new(service, "default")
    }

    pub(super) fn faults(&self, order: impl FnOnce(&mut Faults)) {
        order(&mut self.0.lock().faults);
    }

    /// Makes or changes an object as a user does: `configmaps/a`, in the namespace `ns` unless that makes no sense.
    pub(super) fn put(&self, path: &str, metadata: Value) -> String {
        let mut state = self.0.lock();
        state
            .merge(&id(path), &json!({ "metadata": metadata }))
            .expect("users write without conditions")
    }

    /// Makes or changes an object in whole as a user does.
    pub(super) fn put_whole(&self, path: &str, object: &Value) {
        let mut state = self.0.lock();
        state
            .merge(&id(path), object)
            .expect("users write without conditions");
    }

    /// Deletes an object as a user does.
    pub(super) fn delete(&self, path: &str, policy: &str) {
        let options = json!({ "propagationPolicy": policy });
        self.0
            .lock()
            .delete(&id(path), &options)
            .expect("users delete what is there");
    }

    pub(super) fn get(&self, path: &str) -> Option<Value> {
        self.0.lock().objects.get(&id(path)).cloned()
    }

    pub(super) fn uid(&self, path: &str) -> String {
        let object = self.get(path).expect("it is there");
        object["metadata"]["uid"].as_str().expect("a UID").to_owned()
    }

    /// Gives a namespace the finalizer that every namespace is created with.
    pub(super) fn hold(&self, namespace: &str) {
        let spec = json!({"spec": {"finalizers": ["kubernetes"]}});
        let id = id(&format!("namespaces/{namespace}"));
        self.0
            .lock()
            .merge(&id, &spec)
            .expect("users write without conditions");
    }

    /// Whether the namespace has that finalizer.
    pub(super) fn is_held(&self, namespace: &str) -> bool {
        let namespace = self.get(&format!("namespaces/{namespace}")).expect("it is there");
        namespace["spec"]["finalizers"] == json!(["kubernetes"])
    }

    /// The names of all objects of a kind, by namespace.
    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let state = self.0.lock();
        state
            .objects
            .keys()
            .filter(|id| id.0 == plural)
            .map(|id| id.2.clone())
            .collect()
    }

    /// How many watches of a kind are open.
    pub(super) fn watches(&self, plural: &str) -> usize {
        let state = self.0.lock();
        let open =
            |(of, sender): &&(String, mpsc::UnboundedSender<Bytes>)| of == plural && !sender.is_closed();
        state.watchers.iter().filter(open).count()
    }

    pub(super) fn log(&self) -> Vec<String> {
        self.0.lock().log.clone()
    }
}

impl State {
    fn answer(&mut self, head: &http::request::Parts, body: Value) -> Answer {
        let (path, query) = (head.uri.path(), head.uri.query().unwrap_or_default());
        match path {
            "/version" => {
                return ok(
                    &json!({"major": "1", "minor": "36", "gitVersion": "v1.36.0", "gitCommit": "",
                "gitTreeState": "", "buildDate": "", "goVersion": "", "compiler": "", "platform": ""}),
                );
            }
            "/api" | "/apis" if self.faults.old => {
                return ok(&json!({"kind": "APIVersions", "versions": ["v1"]}));
            }
            "/api" => return ok(&self.core()),
            "/apis" => return ok(&self.groups()),
            _ => {}
        }
        let (id, part) = requested(path);
        if id.0 == "sites" && (self.faults.lost || !self.faults.sites) {
            return refused((404, "NotFound", String::new()));
        }
        let write = head.method != Method::GET && id.0 != "events";
        let answer = if write && self.faults.failures > 0 {
            self.faults.failures -= 1;
            Err((500, "InternalError", String::new()))
        } else {
            match head.method {
                Method::GET if query.contains("sendInitialEvents") => Err((400, "BadRequest", String::new())),
                Method::GET if query.contains("watch=true") => return self.watch(&id.0, query),
                Method::GET if id.2.is_empty() => Ok(self.list(&id)),
                Method::GET => self.objects.get(&id).cloned().ok_or_else(|| missing(&id)),
                Method::PATCH => self.change(&id, &body, |new| merge(new, &body)),
                Method::PUT if part == "status" => {
                    self.change(&id, &body, |new| new["status"] = body["status"].clone())
                }
                Method::PUT => self.change(&id, &body, |new| new["spec"] = body["spec"].clone()),
                Method::POST => {
                    let name = body["metadata"]["name"]
                        .as_str()
                        .unwrap_or("generated")
                        .to_owned();
                    self.change(&(id.0.clone(), id.1.clone(), name), &json!({}), |new| {
                        merge(new, &body)
                    })
                }
                Method::DELETE if id.2.is_empty() => self.delete_all(&id, &body),
                _ => {
                    if let Some((path, metadata)) = self.faults.before_delete.take() {
                        let _its_own_affair = self.merge(&self::id(path), &json!({ "metadata": metadata }));
                    }
                    self.delete(&id, &body)
                }
            }
        };
        if write {
            let code = answer.as_ref().map_or_else(|(code, ..)| *code, |_| 200);
            let part = if part.is_empty() {
                String::new()
            } else {
                format!("/{part}")
            };
            self.log
                .push(format!("{} {}/{}{part} {code}", head.method, id.0, id.2));
        }
        match answer {
            Ok(object) => ok(&object),
            Err(refusal) => refused(refusal),
        }
    }

    fn core(&self) -> Value {
        let resource = |plural: &str, kind: &str, scope: &str, more: &[&str]| {
            let verbs: Vec<_> = ["get", "list", "watch", "delete"].iter().chain(more).collect();
            json!({"resource": plural, "responseKind": {"group": "", "version": "", "kind": kind}, "scope": scope, "verbs": verbs})
        };
        json!({"items": [{"metadata": {}, "versions": [{"version": "v1", "freshness": "Current", "resources": [
            resource("configmaps", "ConfigMap", "Namespaced", &["deletecollection"]),
            resource("secrets", "Secret", "Namespaced", &[]),
            resource("serviceaccounts", "ServiceAccount", "Namespaced", &["deletecollection"]),
            resource("namespaces", "Namespace", "Cluster", &[]),
        ]}]}]})
    }

    fn groups(&self) -> Value {
        let sites = json!({"resource": "sites", "responseKind": {"group": "", "version": "", "kind": "Site"},
            "scope": "Namespaced", "verbs": ["get", "list", "watch", "delete"]});
        let served: Vec<_> = self.faults.sites.then_some(sites).into_iter().collect();
        let freshness = if self.faults.stale { "Stale" } else { "Current" };
        json!({"items": [
            {"metadata": {"name": "example.com"}, "versions": [{"version": "v1", "freshness": "Current", "resources": served}]},
            {"metadata": {"name": "remote.com"}, "versions": [{"version": "v1", "freshness": freshness, "resources": []}]},
        ]})
    }

    // === reading ===

    fn list(&self, of: &Id) -> Value {
        let within = |id: &Id| id.0 == of.0 && (of.1.is_empty() || id.1 == of.1);
        let items: Vec<_> = self
            .objects
            .iter()
            .filter(|(id, _)| within(id))
            .map(|(_, object)| object)
            .collect();
        let items = (!items.is_empty()).then_some(items); // `null` where there is none, as lists of metadata have it
        json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.version.to_string()}, "items": items})
    }

    fn watch(&mut self, plural: &str, query: &str) -> Answer {
        let mut parameters = query.split('&');
        let since = parameters.find_map(|one| one.strip_prefix("resourceVersion=")?.parse().ok());
        let since: u64 = since.unwrap_or_default();
        let (sender, receiver) = mpsc::unbounded_channel();
        for (_, _, line) in self
            .changes
            .iter()
            .filter(|(at, of, _)| *at > since && of == plural)
        {
            let _open = sender.send(line.clone());
        }
        self.watchers.push((plural.to_owned(), sender));
        let frames = futures::stream::unfold(receiver, |mut receiver| async move {
            let line = receiver.recv().await?;
            Some((Ok(http_body::Frame::data(line)), receiver))
        });
        Response::new(StreamBody::new(frames.boxed()).boxed_unsync())
    }

    // === writing ===

    fn merge(&mut self, id: &Id, patch: &Value) -> Result<String, Refusal> {
        let new = self.change(id, patch, |new| merge(new, patch))?;
        Ok(new["metadata"]["uid"].as_str().unwrap_or_default().to_owned())
    }

    /// Changes or makes an object. `given` may name the UID and version that it must have.
    fn change(&mut self, id: &Id, given: &Value, change: impl FnOnce(&mut Value)) -> Result<Value, Refusal> {
        let old = self.objects.get(id).cloned();
        self.version += 1;
        let mut new = old.clone().unwrap_or_else(|| {
            let uid = format!("{}-{}", id.2, self.version);
            json!({"metadata": {"name": id.2, "namespace": id.1, "uid": uid}})
        });
        for condition in ["uid", "resourceVersion"] {
            let wanted = &given["metadata"][condition];
            if !wanted.is_null()
                && old
                    .as_ref()
                    .is_none_or(|old| old["metadata"][condition] != *wanted)
            {
                return Err((409, "Conflict", id.2.clone()));
            }
        }
        change(&mut new);
        new["metadata"]["resourceVersion"] = json!(self.version.to_string());
        let held = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
        let held = held(&new["metadata"]["finalizers"]) || held(&new["spec"]["finalizers"]);
        let gone = !new["metadata"]["deletionTimestamp"].is_null() && !held;
        let verb = match (gone, &old) {
            (true, _) => "DELETED",
            (false, None) => "ADDED",
            (false, Some(_)) => "MODIFIED",
        };
        if gone {
            self.objects.remove(id);
        } else {
            self.objects.insert(id.clone(), new.clone());
        }
        let line = line(verb, &new);
        self.changes.push((self.version, id.0.clone(), line.clone()));
        self.watchers
            .retain(|(plural, watcher)| *plural != id.0 || watcher.send(line.clone()).is_ok());
        Ok(new)
    }

    fn delete(&mut self, id: &Id, options: &Value) -> Result<Value, Refusal> {
        if !self.objects.contains_key(id) {
            return Err(missing(id));
        }
        let finalizer = match options["propagationPolicy"].as_str() {
            Some("Foreground") => Some("foregroundDeletion"),
            Some("Orphan") => Some("orphan"),
            _ => None,
        };
        self.change(id, &json!({ "metadata": options["preconditions"] }), |new| {
            new["metadata"]["deletionTimestamp"] = json!("2020-01-01T00:00:00Z");
            let mut finalizers = new["metadata"]["finalizers"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            finalizers.extend(finalizer.map(Value::from));
            new["metadata"]["finalizers"] = json!(finalizers);
        })
    }

    fn delete_all(&mut self, of: &Id, options: &Value) -> Result<Value, Refusal> {
        if of.0 == "secrets" {
            return Err((405, "MethodNotAllowed", String::new()));
        }
        let ids: Vec<_> = self
            .objects
            .keys()
            .filter(|id| id.0 == of.0 && id.1 == of.1)
            .cloned()
            .collect();
        for id in ids {
            self.delete(&id, options)?;
        }
        Ok(json!({"kind": "Status", "apiVersion": "v1", "status": "Success"}))
    }
}

/// The object of a short path: `secrets/name` or `secrets/name/namespace`.
fn id(path: &str) -> Id {
    let mut parts = path.split('/');
    let (plural, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let namespace = if matches!(plural, "namespaces" | "persistentvolumes") {
        ""
    } else {
        parts.next().unwrap_or("ns")
    };
    (plural.to_owned(), namespace.to_owned(), name.to_owned())
}

/// The object and subresource of a request's path.
fn requested(path: &str) -> (Id, &str) {
    let skipped = if path.starts_with("/api/") { 2 } else { 3 };
    let parts: Vec<_> = path.trim_start_matches('/').split('/').skip(skipped).collect();
    let text = |at: usize| parts.get(at).copied().unwrap_or_default();
    match parts.as_slice() {
        ["namespaces", namespace, plural, ..] if !matches!(*plural, "status" | "finalize") => (
            (plural.to_string(), namespace.to_string(), text(3).to_owned()),
            text(4),
        ),
        _ => ((text(0).to_owned(), String::new(), text(1).to_owned()), text(2)),
    }
}

fn line(verb: &str, object: &Value) -> Bytes {
    Bytes::from(format!("{}\n", json!({"type": verb, "object": object})))
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
        merge(&mut target[key], value);
    }
}

fn missing(id: &Id) -> Refusal {
    (404, "NotFound", id.2.clone())
}

fn ok(body: &Value) -> Answer {
    Response::new(Full::from(body.to_string()).boxed_unsync())
}

fn refused((code, reason, name): Refusal) -> Answer {
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code,
        "reason": reason, "message": format!("refused: {reason}"), "details": {"name": name}});
    let body = Full::from(status.to_string()).boxed_unsync();
    Response::builder().status(code).body(body).expect("a response")
}
