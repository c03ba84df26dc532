//! What the server serves: resources by kind, as discovery tells.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kube::Client;
use kube::core::ApiResource;
use kube::core::discovery::v2::{APIGroupDiscovery, APIResourceDiscovery};
use tokio::sync::Mutex;
use tokio::time::Instant;

/// How long discovery may take. client-go's figure.
const PATIENCE: Duration = Duration::from_secs(32);
/// How old what was found may be, where it need not be new. kube-controller-manager asks as often.
const FRESH: Duration = Duration::from_secs(30);

/// One resource of one version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) api: ApiResource,
    pub(crate) namespaced: bool,
    /// Whether this is the version by which the group's objects of this kind are to be read: the most preferred one
    /// that has it.
    preferred: bool,
    /// Whether it has the subresource `scale`.
    pub(crate) scales: bool,
    verbs: Vec<String>,
}

/// All that is served.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Resources {
    all: Vec<Resource>,
    /// Versions of groups whose own server does not answer, and what it said.
    failed: BTreeMap<String, String>,
}

/// All that is served, as it was half a minute ago at most.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Option<(Instant, Arc<Resources>)>>);

/// Discovery failed as a whole.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiscoveryError {
    #[error("the server did not say what it serves: {0}")]
    Refused(#[source] Box<kube::Error>),
    #[error("the server did not say within {0:?} what it serves")]
    Late(Duration),
    /// Older servers answer in another form, which reads like this. Taken at its word, everything would be gone.
    #[error(
        "the server says that it serves nothing: it may not know aggregated discovery (Kubernetes 1.26 and later do)"
    )]
    Nothing,
}

// === impl Resource ===

impl Resource {
    fn new(group: &str, version: &str, preferred: bool, found: &APIResourceDiscovery) -> Option<Self> {
        let kind = found.response_kind.as_ref()?;
        // An empty group or version means that of the list.
        let or = |own: &Option<String>, default: &str| match own.as_deref() {
            Some(own) if !own.is_empty() => own.to_owned(),
            _ => default.to_owned(),
        };
        let api_version = if group.is_empty() {
            version.to_owned()
        } else {
            format!("{group}/{version}")
        };
        Some(Self {
            api: ApiResource {
                group: group.to_owned(),
                version: version.to_owned(),
                api_version,
                kind: or(&kind.kind, ""),
                plural: found.resource.clone()?,
            },
            namespaced: found.scope.as_deref() == Some("Namespaced"),
            preferred,
            scales: found
                .subresources
                .iter()
                .any(|subresource| subresource.subresource.as_deref() == Some("scale")),
            verbs: found.verbs.clone(),
        })
    }

    /// Whether the resource can be used like this: `list`, `deletecollection`, ….
    pub(crate) fn can(&self, verb: &str) -> bool {
        self.verbs.iter().any(|own| own == verb)
    }
}

/// As Go prints a `schema.GroupVersionResource`.
impl std::fmt::Display for Resource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let ApiResource {
            group,
            version,
            plural,
            ..
        } = &self.api;
        write!(f, "{group}/{version}, Resource={plural}")
    }
}

// === impl Recent ===

impl Recent {
    /// What is served. Asks the server if that was too long ago, or lacks what is looked for. Cancel safe.
    pub(crate) async fn get(
        &self,
        client: &Client,
        has: impl FnOnce(&Resources) -> bool,
    ) -> Result<Arc<Resources>, DiscoveryError> {
        let mut known = self.0.lock().await;
        if let Some((since, resources)) = &*known
            && since.elapsed() < FRESH
            && has(resources)
        {
            return Ok(resources.clone());
        }
        let found = Arc::new(Resources::discover(client).await?);
        *known = Some((Instant::now(), found.clone()));
        Ok(found)
    }
}

// === impl Resources ===

impl Resources {
    /// Asks the server, by aggregated discovery: two requests.
    pub(crate) async fn discover(client: &Client) -> Result<Self, DiscoveryError> {
        let asked = async {
            let core = client.list_core_api_versions_aggregated().await?;
            let groups = client.list_api_groups_aggregated().await?;
            Ok((core.items, groups.items))
        };
        let answered = tokio::time::timeout(PATIENCE, asked).await;
        let answered = answered.map_err(|_| DiscoveryError::Late(PATIENCE))?;
        let (core, groups) = answered.map_err(|error| DiscoveryError::Refused(Box::new(error)))?;
        if core.is_empty() || groups.is_empty() {
            return Err(DiscoveryError::Nothing);
        }
        Ok(Self::new(core.iter().chain(&groups)))
    }

    fn new<'a>(groups: impl Iterator<Item = &'a APIGroupDiscovery>) -> Self {
        let mut resources = Self::default();
        for group in groups {
            let name = group
                .metadata
                .as_ref()
                .and_then(|metadata| metadata.name.as_deref())
                .unwrap_or_default();
            let mut seen = HashSet::new();
            for version in &group.versions {
                let version_name = version.version.as_deref().unwrap_or_default();
                if version.freshness.as_deref() == Some("Stale") {
                    let group_version = if name.is_empty() {
                        version_name.to_owned()
                    } else {
                        format!("{name}/{version_name}")
                    };
                    let why = format!("stale GroupVersion discovery: {group_version}");
                    resources.failed.insert(group_version, why);
                    continue;
                }
                for found in &version.resources {
                    let preferred = seen.insert(found.resource.as_deref());
                    resources
                        .all
                        .extend(Resource::new(name, version_name, preferred, found));
                }
            }
        }
        resources
    }

    /// Those that can be used in all of these ways, each in one version.
    pub(crate) fn preferred(&self, verbs: &[&str]) -> impl Iterator<Item = &Resource> {
        let usable = |resource: &&Resource| verbs.iter().all(|verb| resource.can(verb));
        self.all
            .iter()
            .filter(|resource| resource.preferred)
            .filter(usable)
    }

    /// The resource of this plural, if it can be listed.
    pub(crate) fn listed(&self, group: &str, plural: &str) -> Option<&Resource> {
        let mut found = self.preferred(&["list"]);
        found.find(|resource| resource.api.group == group && resource.api.plural == plural)
    }

    /// The resource of a kind. A version that is not served is taken for one that is: all versions of a group have the
    /// same objects.
    pub(crate) fn of_kind(&self, api_version: &str, kind: &str) -> Option<&Resource> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let mut of_kind = self
            .all
            .iter()
            .filter(|resource| resource.api.kind == kind && resource.can("get"));
        let exact = of_kind
            .clone()
            .find(|resource| resource.api.api_version == api_version);
        exact.or_else(|| of_kind.find(|resource| resource.api.group == group && resource.preferred))
    }

    /// Whether the servers of all groups have answered.
    pub(crate) fn is_all(&self) -> bool {
        self.failed.is_empty()
    }

    /// Whether this version of a group could not be asked for what it has.
    pub(crate) fn has_failed(&self, api_version: &str) -> bool {
        self.failed.contains_key(api_version)
    }

    /// What is missing, in client-go's words; `None` if nothing is.
    pub(crate) fn failure(&self) -> Option<String> {
        if self.failed.is_empty() {
            return None;
        }
        let each: Vec<_> = self
            .failed
            .iter()
            .map(|(version, why)| format!("{version}: {why}"))
            .collect();
        let all = each.join(", ");
        Some(format!(
            "Discovery failed for some groups, {} failing: unable to retrieve the complete list of server APIs: {all}",
            self.failed.len()
        ))
    }
}
