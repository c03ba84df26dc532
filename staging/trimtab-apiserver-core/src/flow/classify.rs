//! Which flow a request belongs to: flow schemas, read from their objects once and then compared with each request
//! without allocating anything.

use std::hash::{BuildHasher as _, Hasher as _};
use std::sync::Arc;

use foldhash::fast::RandomState;
use http::HeaderValue;
use serde_json::Value;
use trimtab_apiserver_auth::UserInfo;

use super::level::Level;
use super::metrics::SchemaFigures;

const EVERY: &str = "*";

/// What is known of a request when its flow is looked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Digest<'a> {
    pub(crate) user: &'a UserInfo,
    /// As authorizers see it: the method in lower case for what is no resource.
    pub(crate) verb: &'a str,
    pub(crate) is_resource: bool,
    pub(crate) group: &'a str,
    pub(crate) resource: &'a str,
    pub(crate) subresource: &'a str,
    pub(crate) namespace: &'a str,
    pub(crate) path: &'a str,
}

/// A flow schema, ready to be compared.
#[derive(Debug)]
pub(crate) struct Schema {
    pub(crate) name: String,
    pub(crate) precedence: i64,
    pub(crate) level: Arc<Level>,
    pub(crate) figures: Arc<SchemaFigures>,
    /// The UIDs of the schema and of the level, for the answer's headers.
    pub(crate) uids: (HeaderValue, HeaderValue),
    pub(crate) distinguisher: Distinguisher,
    pub(crate) rules: Vec<Rule>,
}

/// What makes flows of the requests of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Distinguisher {
    /// They are one flow.
    #[default]
    None,
    ByUser,
    ByNamespace,
}

/// A rule of a flow schema: one of the subjects, and one of the things that they do.
#[derive(Clone, Debug)]
pub(crate) struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Clone, Debug)]
enum Subject {
    Anyone,
    User(String),
    Group(String),
    /// The beginning of the names of all service accounts of a namespace.
    ServiceAccounts(String),
}

/// Some strings, or all.
#[derive(Clone, Debug)]
enum Some_ {
    All,
    These(Vec<String>),
}

#[derive(Clone, Debug)]
struct ResourceRule {
    verbs: Some_,
    groups: Some_,
    /// Resources, with their subresources after a slash.
    resources: Some_,
    cluster_scope: bool,
    namespaces: Some_,
}

#[derive(Clone, Debug)]
struct PathRule {
    verbs: Some_,
    /// `None` for all; otherwise each as it is written, and what is below it begins with.
    paths: Option<Vec<(String, String)>>,
}

impl Schema {
    pub(crate) fn matches(&self, digest: &Digest<'_>) -> bool {
        self.rules.iter().any(|rule| rule.matches(digest))
    }

    /// The hash of the request's flow.
    pub(crate) fn flow(&self, digest: &Digest<'_>, hashes: &RandomState) -> u64 {
        let by = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::ByUser => &digest.user.name,
            Distinguisher::ByNamespace => digest.namespace,
        };
        let mut hash = hashes.build_hasher();
        hash.write(self.name.as_bytes());
        hash.write_u8(0);
        hash.write(by.as_bytes());
        hash.finish()
    }
}

impl Distinguisher {
    pub(crate) fn read(spec: &Value) -> Self {
        match spec["distinguisherMethod"]["type"].as_str() {
            Some("ByUser") => Self::ByUser,
            Some("ByNamespace") => Self::ByNamespace,
            _ => Self::None,
        }
    }
}

impl Rule {
    pub(crate) fn read(rule: &Value) -> Self {
        let list = |name: &str| rule[name].as_array().into_iter().flatten();
        Self {
            subjects: list("subjects").filter_map(Subject::read).collect(),
            resources: list("resourceRules").map(ResourceRule::read).collect(),
            paths: list("nonResourceRules").map(PathRule::read).collect(),
        }
    }

    fn matches(&self, digest: &Digest<'_>) -> bool {
        self.subjects.iter().any(|subject| subject.is(digest.user))
            && if digest.is_resource {
                self.resources.iter().any(|rule| rule.matches(digest))
            } else {
                self.paths.iter().any(|rule| rule.matches(digest))
            }
    }
}

impl Subject {
    fn read(subject: &Value) -> Option<Self> {
        let text = |of: &str, name: &str| subject[of][name].as_str().map(str::to_owned);
        Some(match subject["kind"].as_str()? {
            "User" => match text("user", "name")? {
                name if name == EVERY => Self::Anyone,
                name => Self::User(name),
            },
            "Group" => match text("group", "name")? {
                name if name == EVERY => Self::Anyone,
                name => Self::Group(name),
            },
            "ServiceAccount" => {
                let all = format!("system:serviceaccount:{}:", text("serviceAccount", "namespace")?);
                match text("serviceAccount", "name")? {
                    name if name == EVERY => Self::ServiceAccounts(all),
                    name => Self::User(all + &name),
                }
            }
            _ => return None,
        })
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self {
            Self::Anyone => true,
            Self::User(name) => user.name == *name,
            Self::Group(name) => user.is_in(name),
            Self::ServiceAccounts(prefix) => user.name.starts_with(prefix.as_str()),
        }
    }
}

impl Some_ {
    fn read(list: &Value) -> Self {
        let these: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|text| text.as_str().map(str::to_owned))
            .collect();
        if these.len() == 1 && these[0] == EVERY {
            Self::All
        } else {
            Self::These(these)
        }
    }

    fn has(&self, text: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(these) => these.iter().any(|this| this == text),
        }
    }
}

impl ResourceRule {
    fn read(rule: &Value) -> Self {
        Self {
            verbs: Some_::read(&rule["verbs"]),
            groups: Some_::read(&rule["apiGroups"]),
            resources: Some_::read(&rule["resources"]),
            cluster_scope: rule["clusterScope"].as_bool().unwrap_or_default(),
            namespaces: Some_::read(&rule["namespaces"]),
        }
    }

    fn matches(&self, digest: &Digest<'_>) -> bool {
        self.verbs.has(digest.verb)
            && self.has_resource(digest)
            && self.groups.has(digest.group)
            && if digest.namespace.is_empty() {
                self.cluster_scope
            } else {
                self.namespaces.has(digest.namespace)
            }
    }

    fn has_resource(&self, digest: &Digest<'_>) -> bool {
        match &self.resources {
            Some_::All => true,
            Some_::These(these) if digest.subresource.is_empty() => {
                these.iter().any(|this| this == digest.resource)
            }
            Some_::These(these) => these.iter().any(|this| {
                let below = this.strip_prefix(digest.resource);
                below.and_then(|rest| rest.strip_prefix('/')) == Some(digest.subresource)
            }),
        }
    }
}

impl PathRule {
    fn read(rule: &Value) -> Self {
        let paths = match Some_::read(&rule["nonResourceURLs"]) {
            Some_::All => None,
            Some_::These(paths) if paths.iter().any(|path| path == EVERY) => None,
            Some_::These(paths) => Some(paths.into_iter().map(|path| {
                let below = path.strip_suffix('*').unwrap_or(&path);
                let below = format!("{}/", below.strip_suffix('/').unwrap_or(below));
                (path, below)
            })),
        };
        Self {
            verbs: Some_::read(&rule["verbs"]),
            paths: paths.map(Iterator::collect),
        }
    }

    fn matches(&self, digest: &Digest<'_>) -> bool {
        self.verbs.has(digest.verb)
            && self.paths.as_ref().is_none_or(|paths| {
                let path = digest.path;
                paths
                    .iter()
                    .any(|(this, below)| this == path || path.starts_with(below.as_str()))
            })
    }
}
