//! What other servers serve through this one: which groups and versions are passed on to whom, and what those say of
//! themselves. Who follows that is no part of this crate; a server that nobody tells of others has none of it.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_auth::UserInfo;

use crate::registry::Registry;

pub use crate::crd::{Convert, define};
pub use crate::discovery::priority as version_rank;
pub use crate::files::Files;
pub use crate::http::respond::{Body, text as plain_text};
pub use crate::webhook::{
    CallError, Dialer, Endpoint, Identity, Resolver, ServerTrust, explain_error, identity_from_pem,
    outward_config,
};

/// The body of a request on its way to another server.
pub type RequestBody = UnsyncBoxBody<Bytes, Box<dyn std::error::Error + Send + Sync>>;

/// Follows which other servers serve what.
#[async_trait]
pub trait Extensions: fmt::Debug + Send + Sync {
    /// Says in [`Within::served`] what is served by now, and answers with what keeps that up to date. It ends when
    /// [`Within::stop`] is cancelled.
    ///
    /// # Errors
    ///
    /// A text that says why it cannot be followed; the server does not start then.
    async fn start(self: Arc<Self>, within: Within) -> Result<BoxFuture<'static, ()>, String>;
}

/// The server in which others are followed.
#[derive(Clone, Debug)]
pub struct Within {
    /// What it serves itself, and where APIServices are.
    pub registry: Arc<Registry>,
    /// Finds the addresses of Services.
    pub resolver: Arc<dyn Resolver>,
    /// What others serve.
    pub served: Arc<Served>,
    /// Cancelled when the server stops.
    pub stop: CancellationToken,
}

/// Answers requests in this server's place.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Answers a request.
    ///
    /// # Errors
    ///
    /// The error that is the answer.
    async fn answer(&self, forwarded: Forwarded) -> Result<Response<Body>, ApiError>;
}

/// A request that is passed on: authenticated and authorized, and without what said who asks, otherwise as it came.
#[derive(Debug)]
pub struct Forwarded {
    /// The request. If it can be upgraded, its extensions say so.
    pub request: Request<RequestBody>,
    /// Who asks.
    pub user: UserInfo,
    /// Where from; `None` for users in this process.
    pub address: Option<IpAddr>,
    /// By which all servers call the request.
    pub audit_id: String,
    /// When it has to be answered in full; `None` when it may last.
    pub deadline: Option<Instant>,
}

/// What others serve, as of now. It is replaced as a whole.
#[derive(Debug, Default)]
pub struct Served {
    picture: ArcSwap<Picture>,
    losses: Mutex<BTreeMap<(String, &'static str), u64>>,
}

/// Who answers for which version of a group.
type ByVersion = Vec<(String, Arc<dyn Backend>)>;

/// What others serve, at one moment.
#[derive(Debug, Default)]
pub struct Picture {
    groups: Vec<Group>,
    /// By group, and version.
    backends: HashMap<String, ByVersion>,
    /// By what follows `/openapi/v3/`: the entry of the index, and whose it is.
    pub(crate) openapi: BTreeMap<String, (Value, Arc<dyn Backend>)>,
    /// To be merged into the old document, the first most important.
    pub(crate) openapi_v2: Vec<Arc<OldDocument>>,
}

/// An OpenAPI document in the old format, of which the paths of one group and version count.
#[derive(Debug)]
pub struct OldDocument {
    /// What the paths that count begin with, as `/apis/GROUP/VERSION/`.
    pub below: String,
    /// The document.
    pub document: Value,
}

/// A group, whoever serves it, in the order in which discovery has them.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its versions, the preferred one first.
    pub versions: Vec<Version>,
}

/// A version of a group.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name.
    pub name: String,
    /// Who else serves it; `None` when this server does.
    pub elsewhere: Option<Elsewhere>,
}

/// A version that another server serves.
#[derive(Clone, Debug)]
pub struct Elsewhere {
    /// Who answers for it.
    pub backend: Arc<dyn Backend>,
    /// Its resources as aggregated discovery has them, as far as they are known.
    pub resources: Vec<Value>,
    /// Whether that is what they are now.
    pub is_current: bool,
    /// Whether it is there.
    pub is_available: bool,
}

// === impl Served ===

impl Served {
    /// The picture as it is now.
    pub fn picture(&self) -> Arc<Picture> {
        self.picture.load_full()
    }

    /// From now on it is this. What is made of it is made anew only if it is another.
    pub fn set(&self, picture: Picture) {
        if !self.load().is_same(&picture) {
            self.picture.store(Arc::new(picture));
        }
    }

    /// An APIService has become unavailable, for this reason.
    pub fn lost(&self, name: &str, reason: &'static str) {
        *self.losses.lock().entry((name.to_owned(), reason)).or_default() += 1;
    }

    /// How often APIServices have become unavailable, by name and reason.
    pub(crate) fn losses(&self) -> BTreeMap<(String, &'static str), u64> {
        self.losses.lock().clone()
    }

    pub(crate) fn load(&self) -> Guard<Arc<Picture>> {
        self.picture.load()
    }
}

// === impl Picture ===

impl Picture {
    /// A picture of these groups. `openapi` says by what follows `/openapi/v3/` where documents are that others have, and
    /// `openapi_v2` is merged into the old document.
    pub fn new(
        groups: Vec<Group>,
        openapi: BTreeMap<String, (Value, Arc<dyn Backend>)>,
        openapi_v2: Vec<Arc<OldDocument>>,
    ) -> Self {
        let mut backends: HashMap<String, ByVersion> = HashMap::new();
        for group in &groups {
            for version in &group.versions {
                if let Some(elsewhere) = &version.elsewhere {
                    let of_group = backends.entry(group.name.clone()).or_default();
                    of_group.push((version.name.clone(), elsewhere.backend.clone()));
                }
            }
        }
        Self {
            groups,
            backends,
            openapi,
            openapi_v2,
        }
    }

    /// Who else answers for a group and version, if anybody does.
    pub fn backend(&self, group: &str, version: &str) -> Option<&Arc<dyn Backend>> {
        if self.backends.is_empty() {
            return None;
        }
        let versions = self.backends.get(group)?;
        let found = versions.iter().find(|(name, _)| name == version);
        found.map(|(_, backend)| backend)
    }

    /// Whether nothing that is made of the one differs from what is made of the other.
    fn is_same(&self, other: &Self) -> bool {
        let version = |one: &Version, other: &Version| {
            one.name == other.name
                && match (&one.elsewhere, &other.elsewhere) {
                    (Some(one), Some(other)) => {
                        Arc::ptr_eq(&one.backend, &other.backend)
                            && one.is_current == other.is_current
                            && one.is_available == other.is_available
                            && one.resources == other.resources
                    }
                    (one, other) => one.is_none() && other.is_none(),
                }
        };
        let group = |one: &Group, other: &Group| {
            one.name == other.name
                && one.versions.len() == other.versions.len()
                && one
                    .versions
                    .iter()
                    .zip(&other.versions)
                    .all(|(one, other)| version(one, other))
        };
        type Entry<'e> = (&'e String, &'e (Value, Arc<dyn Backend>));
        let entry = |(one, other): (Entry<'_>, Entry<'_>)| one.0 == other.0 && one.1.0 == other.1.0;
        self.groups.len() == other.groups.len()
            && self
                .groups
                .iter()
                .zip(&other.groups)
                .all(|(one, other)| group(one, other))
            && self.openapi.len() == other.openapi.len()
            && self.openapi.iter().zip(&other.openapi).all(entry)
            && self.openapi_v2.len() == other.openapi_v2.len()
            && self
                .openapi_v2
                .iter()
                .zip(&other.openapi_v2)
                .all(|(one, other)| Arc::ptr_eq(one, other))
    }

    /// The groups in their order.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// A version that another server serves.
    pub(crate) fn elsewhere(&self, group: &str, version: &str) -> Option<&Elsewhere> {
        let group = self.groups.iter().find(|g| g.name == group)?;
        let version = group.versions.iter().find(|v| v.name == version)?;
        version.elsewhere.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug)]
    struct Nobody;

    #[async_trait]
    impl Backend for Nobody {
        async fn answer(&self, _: Forwarded) -> Result<Response<Body>, ApiError> {
            Err(ApiError::unknown_resource())
        }
    }

    #[test]
    fn a_picture_that_is_the_same_is_not_a_new_one() {
        let backend: Arc<dyn Backend> = Arc::new(Nobody);
        let old = Arc::new(OldDocument {
            below: "/apis/g/v1/".to_owned(),
            document: json!({}),
        });
        let make = |resource: &str, is_current, url: &str, old: &Arc<OldDocument>| {
            let elsewhere = Elsewhere {
                backend: backend.clone(),
                resources: vec![json!({"resource": resource})],
                is_current,
                is_available: true,
            };
            let version = |name: &str, elsewhere| Version {
                name: name.to_owned(),
                elsewhere,
            };
            let group = Group {
                name: "g".to_owned(),
                versions: vec![version("v1", Some(elsewhere)), version("v2", None)],
            };
            let entry = (json!({"serverRelativeURL": url}), backend.clone());
            let openapi = BTreeMap::from([("apis/g/v1".to_owned(), entry)]);
            Picture::new(vec![group], openapi, vec![old.clone()])
        };
        let served = Served::default();
        served.set(make("a", true, "/1", &old));
        let first = served.picture();
        served.set(make("a", true, "/1", &old));
        assert!(Arc::ptr_eq(&first, &served.picture()));
        assert!(first.backend("g", "v1").is_some());
        assert!(first.backend("g", "v2").is_none() && first.backend("h", "v1").is_none());
        let new = Arc::new(OldDocument {
            below: old.below.clone(),
            document: json!({}),
        });
        for other in [
            make("b", true, "/1", &old),
            make("a", false, "/1", &old),
            make("a", true, "/2", &old),
            make("a", true, "/1", &new),
            Picture::default(),
        ] {
            let before = served.picture();
            served.set(other);
            assert!(!Arc::ptr_eq(&before, &served.picture()));
            served.set(make("a", true, "/1", &old));
        }
    }
}
