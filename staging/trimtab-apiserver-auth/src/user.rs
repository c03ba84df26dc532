//! Users, and what they ask to do.

use std::collections::BTreeMap;

/// Who a request comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserInfo {
    /// The name, as `system:serviceaccount:default:builder`.
    pub name: String,
    /// An identifier that outlives the name; may be empty.
    pub uid: String,
    /// The groups, as `system:masters`.
    pub groups: Vec<String>,
    /// What else the authenticator knows.
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What a request asks to do, as authorizers see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or for other paths the
    /// HTTP method in lower case.
    pub verb: String,
    /// The API group; empty for core.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource; empty for other paths.
    pub resource: String,
    /// The subresource, if any.
    pub subresource: String,
    /// The namespace, if any.
    pub namespace: String,
    /// The object's name, if one is named.
    pub name: String,
    /// Whether this is about a resource, or a path like `/metrics`.
    pub is_resource: bool,
    /// The path.
    pub path: String,
}

/// What an authorizer says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Yes, or not that we know.
    pub allowed: bool,
    /// Why, for people; may be empty.
    pub reason: String,
}
