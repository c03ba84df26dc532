//! Discovery: what is served, told in the old way (one document a version) and in the new one (one for all).
//!
//! Everything is derived from the resource table; a document is made when it is first asked for after a change.

mod documents;

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::extensions::{Picture, Served};
use crate::registry::{ResourceTable, Resources};

pub(crate) use documents::hash;
pub use documents::priority;

/// The form of aggregated discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Aggregated {
    V2,
    V2Beta1,
}

impl Aggregated {
    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::V2 => "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            Self::V2Beta1 => "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
        }
    }

    fn api_version(self) -> &'static str {
        match self {
            Self::V2 => "apidiscovery.k8s.io/v2",
            Self::V2Beta1 => "apidiscovery.k8s.io/v2beta1",
        }
    }
}

/// An aggregated document, encoded.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    pub(crate) json: Bytes,
    /// Its hash, quoted, as the ETag header has it.
    pub(crate) etag: String,
}

/// What documents are made from.
#[derive(Clone, Debug)]
struct Known {
    table: Arc<Resources>,
    /// What others serve.
    picture: Option<Arc<Picture>>,
}

/// One kept document and what it was made from.
type Kept = (Known, bool, Aggregated, Document);

/// Tells what is served.
#[derive(Debug)]
pub(crate) struct Discovery {
    table: Arc<ResourceTable>,
    served: Option<Arc<Served>>,
    kept: Mutex<Vec<Kept>>,
}

impl Discovery {
    pub(crate) fn new(table: Arc<ResourceTable>, served: Option<Arc<Served>>) -> Self {
        Self {
            table,
            served,
            kept: Mutex::default(),
        }
    }

    fn known(&self) -> Known {
        Known {
            table: self.table.snapshot(),
            picture: self.served.as_ref().map(|served| served.picture()),
        }
    }

    /// Whether there is anything in the core group.
    pub(crate) fn has_core(&self) -> bool {
        self.table.snapshot().any_version("", "namespaces").is_some()
    }

    /// `/api`, to a client that knows the server by this host and port.
    pub(crate) fn core_versions(&self, server: &str) -> Option<Value> {
        let versions = || {
            json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server}],
            })
        };
        self.has_core().then(versions)
    }

    /// `/apis`.
    pub(crate) fn groups(&self) -> Value {
        let groups = self.known().groups();
        let groups: Vec<Value> = groups
            .iter()
            .filter(|g| !g.name.is_empty())
            .map(documents::group)
            .collect();
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
    }

    /// `/apis/GROUP`.
    pub(crate) fn group(&self, name: &str) -> Option<Value> {
        let groups = self.known().groups();
        let mut found = documents::group(groups.iter().find(|g| g.name == name && !name.is_empty())?);
        found["kind"] = "APIGroup".into();
        found["apiVersion"] = "v1".into();
        Some(found)
    }

    /// Whether the group is a built-in one that is served.
    pub(crate) fn has_group(&self, name: &str) -> bool {
        !name.is_empty() && self.table.snapshot().iter().any(|r| r.group == name && !r.custom)
    }

    /// `/api/VERSION` and `/apis/GROUP/VERSION`.
    pub(crate) fn resources(&self, group: &str, version: &str) -> Option<Value> {
        documents::resources(&self.table.snapshot(), group, version)
    }

    /// `/api` or `/apis` as one document with all resources.
    pub(crate) fn aggregated(&self, core: bool, form: Aggregated) -> Document {
        let known = self.known();
        let mut kept = self.kept.lock();
        kept.retain(|(of, ..)| of.is(&known));
        if let Some((.., document)) = kept.iter().find(|(_, c, f, _)| *c == core && *f == form) {
            return document.clone();
        }
        let items = documents::aggregated(&known.table, known.picture.as_deref(), core);
        let value = json!({
            "kind": "APIGroupDiscoveryList",
            "apiVersion": form.api_version(),
            "metadata": {},
            "items": items,
        });
        let json = Bytes::from(value.to_string() + "\n");
        let document = Document {
            etag: format!("\"{}\"", documents::hash(&json)),
            json,
        };
        kept.push((known, core, form, document.clone()));
        document
    }

    /// The paths of all groups and versions.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut paths = vec!["/apis".to_owned()];
        if self.has_core() {
            paths.extend(["/api".to_owned(), "/api/v1".to_owned()]);
        }
        for group in self.known().groups() {
            if group.name.is_empty() {
                continue;
            }
            paths.push(format!("/apis/{}", group.name));
            paths.extend(group.versions.iter().map(|v| format!("/apis/{}/{v}", group.name)));
        }
        paths
    }
}

// === impl Known ===

impl Known {
    fn groups(&self) -> Vec<documents::Group> {
        documents::groups(&self.table, self.picture.as_deref())
    }

    /// Whether this is the same as the other.
    fn is(&self, other: &Self) -> bool {
        let same = match (&self.picture, &other.picture) {
            (Some(one), Some(other)) => Arc::ptr_eq(one, other),
            (one, other) => one.is_none() && other.is_none(),
        };
        same && Arc::ptr_eq(&self.table, &other.table)
    }
}
