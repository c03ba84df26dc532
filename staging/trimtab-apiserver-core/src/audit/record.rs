//! The record of one request: from its coming to the end of its answer, whatever ends it.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::{Attributes, UserInfo};

use super::event::Event;
use super::policy::{Level, Stage, Verdict};
use super::{Annotations, Audit, Origin, Sent};
use crate::http::Body;
use crate::http::carrying::Carrying;
use crate::http::respond::status_value;

/// What is written of what is sent and answered, in bytes, at most: more is left out, and that is said.
const LONGEST_OBJECT: usize = 10 << 20;

/// What is known of a request that is written down. Dropping it writes its end.
#[derive(Debug)]
pub(crate) struct Record {
    audit: Arc<Audit>,
    verdict: Verdict,
    event: Box<Event>,
    annotations: Annotations,
    /// Its last event has been written, or is not wanted.
    ended: bool,
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

impl Record {
    pub(super) fn new(
        audit: Arc<Audit>,
        verdict: Verdict,
        audit_id: &str,
        user: &UserInfo,
        request: &Attributes,
        origin: Origin<'_>,
    ) -> Self {
        let mut event = Box::new(Event::new(verdict.level, audit_id, user, request));
        origin.uri.clone_into(&mut event.request_uri);
        event.source_ips = source_ips(origin);
        let agent = origin.headers.get(http::header::USER_AGENT);
        event.set_agent(agent.and_then(|agent| agent.to_str().ok()).unwrap_or_default());
        event.request_received_timestamp = now();
        Self {
            audit,
            verdict,
            event,
            annotations: Annotations::default(),
            ended: false,
        }
    }

    pub(crate) fn annotations(&self) -> &Annotations {
        &self.annotations
    }

    pub(super) fn received(&self) -> io::Result<Option<Sent>> {
        self.write(Stage::RequestReceived)
    }

    /// Nothing more is written.
    pub(super) fn forget(mut self) {
        self.ended = true;
    }

    /// The user as whom the request is made, and the verb by which it may be if that is about some requests alone.
    pub(crate) fn impersonates(&mut self, user: &UserInfo, constraint: Option<&str>) {
        self.event.impersonated_user = Some(user.into());
        let metadata = constraint.map(|verb| json!({"impersonationConstraint": verb}));
        self.event.authentication_metadata = metadata;
    }

    /// What the authorizer said.
    pub(crate) fn decided(&self, allowed: bool, reason: &str) {
        let decision = if allowed { "allow" } else { "forbid" };
        let add = |key, value: &str| self.annotations.add(key, || value.to_owned());
        add("authorization.k8s.io/decision", decision);
        add("authorization.k8s.io/reason", reason);
    }

    /// Whether what is sent is written.
    pub(crate) fn wants_request(&self) -> bool {
        self.verdict.level >= Level::Request
    }

    /// Whether what is answered is written.
    pub(crate) fn wants_response(&self) -> bool {
        self.verdict.level >= Level::RequestResponse
    }

    /// What was sent, as JSON or YAML.
    pub(crate) fn sent(&mut self, body: &[u8]) {
        if body.is_empty() || !self.wants_request() {
            return;
        }
        if body.len() > LONGEST_OBJECT {
            return self.too_long("request");
        }
        let value = serde_json::from_slice(body).ok();
        let value = value.or_else(|| serde_saphyr::from_slice(body).ok());
        let Some(mut value) = value else { return };
        self.name(&value);
        self.strip(&mut value);
        self.event.request_object = Some(value);
    }

    /// What is answered.
    pub(crate) fn answered(&mut self, value: &Value) {
        if !self.wants_response() {
            return;
        }
        let mut value = value.clone();
        self.name(&value);
        self.strip(&mut value);
        self.event.response_object = Some(value);
    }

    /// What is answered, as JSON in pieces.
    pub(crate) fn answered_pieces(&mut self, pieces: &[Bytes]) {
        if pieces.iter().map(Bytes::len).sum::<usize>() > LONGEST_OBJECT {
            return self.too_long("response");
        }
        if let Ok(value) = serde_json::from_slice::<Value>(&pieces.concat()) {
            self.answered(&value);
        }
    }

    fn too_long(&self, what: &str) {
        let key = format!("audit.trimtab.dev/{what}-left-out");
        let value = format!("it is longer than {LONGEST_OBJECT} bytes");
        self.annotations.add(&key, || value);
    }

    /// What is refused.
    pub(crate) fn refused(&mut self, error: &ApiError) {
        let status = status_value(error);
        let mut short = status.clone();
        if let Some(short) = short.as_object_mut() {
            short.remove("kind");
            short.remove("apiVersion");
        }
        self.event.response_status = Some(short);
        if self.wants_response() {
            self.event.response_object = Some(status);
        }
    }

    /// The answer has begun, with this code; `lasts` if it goes on.
    pub(crate) fn begun(&mut self, code: u16, lasts: bool) {
        let status = &mut self.event.response_status;
        status.get_or_insert_with(|| json!({"metadata": {}, "code": code}));
        if lasts {
            let _ = self.write(Stage::ResponseStarted); // said where it is written
        }
    }

    /// The same body, whose end is the end of this.
    pub(crate) fn with(self, body: Body) -> Body {
        Carrying::new(body, self).boxed_unsync()
    }

    /// Adds of the object what the request did not name.
    fn name(&mut self, object: &Value) {
        let Some(of) = &mut self.event.object_ref else {
            return;
        };
        let metadata = &object["metadata"];
        let fill = |field: &mut String, name: &str| {
            if field.is_empty() {
                metadata[name].as_str().unwrap_or_default().clone_into(field);
            }
        };
        fill(&mut of.name, "name");
        fill(&mut of.uid, "uid");
        fill(&mut of.resource_version, "resourceVersion");
    }

    /// Takes managed fields away, if they are not wanted: of an object, of a list's items, of a table's rows.
    fn strip(&self, value: &mut Value) {
        if !self.verdict.omit_managed_fields {
            return;
        }
        let strip = |value: &mut Value| {
            let metadata = value.get_mut("metadata").and_then(Value::as_object_mut);
            metadata.map(|metadata| metadata.remove("managedFields"));
        };
        strip(value);
        let list = |value: &mut Value, name: &str| value.get_mut(name).map(Value::take);
        for name in ["items", "rows"] {
            let Some(Value::Array(mut items)) = list(value, name) else {
                continue;
            };
            for item in &mut items {
                strip(item);
                item.get_mut("object").map(strip);
            }
            value[name] = items.into();
        }
    }

    fn write(&self, stage: Stage) -> io::Result<Option<Sent>> {
        if self.verdict.omits(stage) {
            return Ok(None);
        }
        let mut event = Event::clone(&self.event);
        event.stage = stage.as_str();
        event.annotations = self.annotations.all();
        event.stage_timestamp = if stage == Stage::RequestReceived {
            event.request_received_timestamp.clone()
        } else {
            now()
        };
        self.audit.write(&event, stage == Stage::RequestReceived)
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        let stage = if std::thread::panicking() {
            self.event.response_status = Some(json!({
                "metadata": {},
                "status": "Failure",
                "message": "APIServer panic'd",
                "reason": "InternalError",
                "code": 500,
            }));
            Stage::Panic
        } else {
            let early = json!({"metadata": {}, "status": "Success", "message": "Connection closed early", "code": 200});
            self.event.response_status.get_or_insert(early);
            Stage::ResponseComplete
        };
        let _ = self.write(stage); // said where it is written
    }
}

/// Where a request comes from: as proxies say, and from where they do.
fn source_ips(origin: Origin<'_>) -> Vec<String> {
    let header = |name: &str| {
        let value = origin.headers.get(name).and_then(|value| value.to_str().ok());
        let parts = value.unwrap_or_default().split(',');
        parts
            .filter_map(|part| part.trim().parse::<IpAddr>().ok())
            .collect::<Vec<_>>()
    };
    let mut all = header("x-forwarded-for");
    if all.is_empty() {
        all = header("x-real-ip");
    }
    if let Some(address) = origin.address
        && all.last() != Some(&address)
    {
        all.push(address);
    }
    all.iter().map(IpAddr::to_string).collect()
}
