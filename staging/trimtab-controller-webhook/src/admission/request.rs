//! What the API server asks about: an operation on an object by somebody.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::authentication::v1::UserInfo;
use kube::core::{GroupVersionKind, GroupVersionResource};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::typed::Reviewed;

/// A question of the API server's: may this be, and as it is?
///
/// Answers must not depend on what was asked before, and must have no effects when [`Request::dry_run`] is set; the
/// manifests say so for all of them.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Request {
    /// Names this question, not the object.
    pub uid: String,
    /// The kind of [`Request::object`].
    pub kind: GroupVersionKind,
    /// The resource that was asked for, in the version of the webhook's rule.
    pub resource: GroupVersionResource,
    /// The subresource, as `status` or `scale`; empty for the object itself.
    #[serde(default, deserialize_with = "or_default")]
    pub sub_resource: String,
    /// The kind that the client had sent, before it was converted to what the webhook wants.
    #[serde(default)]
    pub request_kind: Option<GroupVersionKind>,
    /// The resource that the client had asked for.
    #[serde(default)]
    pub request_resource: Option<GroupVersionResource>,
    /// The subresource that the client had asked for.
    #[serde(default, deserialize_with = "or_default")]
    pub request_sub_resource: String,
    /// The object's name; empty when the server will make one up.
    #[serde(default, deserialize_with = "or_default")]
    pub name: String,
    /// The object's namespace; empty if it has none.
    #[serde(default, deserialize_with = "or_default")]
    pub namespace: String,
    /// What is to be done.
    pub operation: Operation,
    /// Who wants it.
    #[serde(default)]
    pub user_info: UserInfo,
    /// The object as it is to be, exactly as it was sent; null when it is to be deleted.
    #[serde(default)]
    pub object: Value,
    /// The object as it is; null when it is to be created.
    #[serde(default)]
    pub old_object: Value,
    /// Whether nothing will be written, whatever is answered.
    #[serde(default, deserialize_with = "or_default")]
    pub dry_run: bool,
    /// The options of the operation, as `CreateOptions`; null if there are none.
    #[serde(default)]
    pub options: Value,
    #[serde(skip)]
    said: Mutex<Said>,
}

/// What an answer says besides yes or no.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) warnings: Vec<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What is done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operation {
    /// It is created.
    Create,
    /// It is replaced or patched.
    Update,
    /// It is deleted.
    Delete,
    /// It is connected to, as by `kubectl exec`.
    Connect,
}

// === impl Request ===

impl Request {
    /// A question about a `K`, for tests; its fields can be set.
    pub fn new<K: Reviewed>(operation: Operation) -> Self {
        let kind = K::DynamicType::default();
        let (group, version) = (K::group(&kind), K::version(&kind));
        Self {
            uid: String::new(),
            kind: GroupVersionKind::gvk(&group, &version, &K::kind(&kind)),
            resource: GroupVersionResource::gvr(&group, &version, &K::plural(&kind)),
            sub_resource: String::new(),
            request_kind: None,
            request_resource: None,
            request_sub_resource: String::new(),
            name: String::new(),
            namespace: String::new(),
            operation,
            user_info: UserInfo::default(),
            object: Value::Null,
            old_object: Value::Null,
            dry_run: false,
            options: Value::Null,
            said: Mutex::default(),
        }
    }

    /// Has the client shown a warning, whatever the answer is. Kubernetes asks for 120 characters at most, and may cut
    /// what is beyond 256.
    pub fn warn(&self, warning: impl Into<String>) {
        self.said.lock().warnings.push(warning.into());
    }

    /// The warnings so far.
    pub fn warnings(&self) -> Vec<String> {
        self.said.lock().warnings.clone()
    }

    /// Adds an annotation to the server's audit log, where the webhook's name is put before `key`.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.said.lock().annotations.insert(key.into(), value.into());
    }

    /// Whether the object is being deleted already, and waits for its finalizers. To refuse their removal because of
    /// something else in the object keeps it for ever.
    pub fn is_deleting(&self) -> bool {
        !self.old_object["metadata"]["deletionTimestamp"].is_null()
    }

    pub(crate) fn said(&self) -> Said {
        std::mem::take(&mut self.said.lock())
    }
}

// === impl Operation ===

impl Operation {
    /// As rules and requests have it: `CREATE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What is null is as what is not there.
pub(crate) fn or_default<'de, D: Deserializer<'de>, T: DeserializeOwned + Default>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
