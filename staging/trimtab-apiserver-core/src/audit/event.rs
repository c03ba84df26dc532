//! An audit event as it is written: `Event` of audit.k8s.io/v1, one line of JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use trimtab_apiserver_auth::{Attributes, UserInfo};

use super::policy::{Level, Stage};

/// Longer user agents are cut; kube-apiserver's `maxUserAgentLength`.
const LONGEST_AGENT: usize = 1024;

/// The annotation of events that something has been left out of.
const TRUNCATED: &str = "audit.k8s.io/truncated";

/// How long events may be, and what is written or sent at once, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// What was sent and answered is left out of longer events; what is longer even so is lost.
    pub max_event: usize,
    /// Events that would make a batch longer go into the next.
    pub max_batch: usize,
}

impl Default for Truncation {
    /// kube-apiserver's: 100 KiB and 10 MiB.
    fn default() -> Self {
        Self {
            max_event: 100 << 10,
            max_batch: 10 << 20,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Event {
    kind: &'static str,
    api_version: &'static str,
    pub(super) level: &'static str,
    #[serde(rename = "auditID")]
    pub(super) audit_id: String,
    pub(super) stage: &'static str,
    #[serde(rename = "requestURI")]
    pub(super) request_uri: String,
    pub(super) verb: String,
    pub(super) user: User,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) impersonated_user: Option<User>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) authentication_metadata: Option<Value>,
    #[serde(rename = "sourceIPs", skip_serializing_if = "Vec::is_empty")]
    pub(super) source_ips: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) user_agent: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) object_ref: Option<ObjectRef>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_status: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_object: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) response_object: Option<Value>,
    pub(super) request_received_timestamp: String,
    pub(super) stage_timestamp: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) annotations: BTreeMap<String, String>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct User {
    #[serde(skip_serializing_if = "String::is_empty")]
    username: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    uid: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    groups: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ObjectRef {
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    api_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) resource_version: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
}

impl Event {
    /// The event of a request that has just come.
    pub(super) fn new(level: Level, audit_id: &str, user: &UserInfo, request: &Attributes) -> Self {
        let object_ref = request.is_resource.then(|| ObjectRef {
            resource: request.resource.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            api_group: request.group.clone(),
            api_version: request.version.clone(),
            subresource: request.subresource.clone(),
            ..ObjectRef::default()
        });
        Self {
            kind: "Event",
            api_version: "audit.k8s.io/v1",
            level: level.as_str(),
            audit_id: audit_id.to_owned(),
            stage: Stage::RequestReceived.as_str(),
            request_uri: String::new(),
            verb: request.verb.clone(),
            user: user.into(),
            impersonated_user: None,
            authentication_metadata: None,
            source_ips: Vec::new(),
            user_agent: String::new(),
            object_ref,
            response_status: None,
            request_object: None,
            response_object: None,
            request_received_timestamp: String::new(),
            stage_timestamp: String::new(),
            annotations: BTreeMap::new(),
        }
    }

    pub(super) fn set_agent(&mut self, agent: &str) {
        let mut end = agent.len().min(LONGEST_AGENT);
        while !agent.is_char_boundary(end) {
            end -= 1;
        }
        agent[..end].clone_into(&mut self.user_agent);
        if end < agent.len() {
            self.user_agent.push_str("...TRUNCATED");
        }
    }

    /// One line that is no longer than this, in bytes; `None` if that cannot be had. What was sent and answered is left out of
    /// one that is, and that is said in it.
    pub(super) fn line_within(&self, most: usize) -> Option<Vec<u8>> {
        let line = self.line();
        if line.len() <= most {
            return Some(line);
        }
        if ![Level::Request, Level::RequestResponse]
            .map(Level::as_str)
            .contains(&self.level)
        {
            return None;
        }
        let mut short = Self {
            request_object: None,
            response_object: None,
            ..self.clone()
        };
        short.annotations.insert(TRUNCATED.to_owned(), "true".to_owned());
        Some(short.line()).filter(|line| line.len() <= most)
    }

    /// One line.
    pub(super) fn line(&self) -> Vec<u8> {
        // Writing what has text for keys to memory does not fail.
        let mut line = serde_json::to_vec(self).unwrap_or_default();
        line.push(b'\n');
        line
    }
}

impl From<&UserInfo> for User {
    fn from(user: &UserInfo) -> Self {
        Self {
            username: user.name.clone(),
            uid: user.uid.clone(),
            groups: user.groups.clone(),
            extra: user.extra.clone(),
        }
    }
}

impl Level {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

impl Stage {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}
