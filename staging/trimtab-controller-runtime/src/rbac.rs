//! What a manager's controllers need to be allowed, as they declare it by what they watch, own and write.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule, Role};
use kube::core::ObjectMeta;

use crate::subject::Reconciled;
use crate::turn::is_namespaced;

const READ: [&str; 3] = ["get", "list", "watch"];

/// Verbs on one resource of one API group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Rule {
    /// The API group; empty for the core group.
    pub group: String,
    /// The resource in the plural, with its subresource if it is one: `deployments`, `websites/status`.
    pub resource: String,
    /// What is done to it.
    pub verbs: BTreeSet<String>,
    /// Whether its objects have namespaces, as far as the type tells.
    pub namespaced: bool,
    /// The only objects that it is about, by their names; all if there are none.
    pub names: BTreeSet<String>,
}

/// All that a manager declares. Equal rules are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    rules: BTreeMap<Place, Rule>,
}

/// What a rule is about: group, resource, names.
type Place = (String, String, BTreeSet<String>);

impl Rule {
    /// Verbs on a resource that is known by its name.
    pub fn new<'a>(
        group: impl Into<String>,
        resource: impl Into<String>,
        verbs: impl IntoIterator<Item = &'a str>,
        namespaced: bool,
    ) -> Self {
        Self {
            group: group.into(),
            resource: resource.into(),
            verbs: verbs.into_iter().map(str::to_owned).collect(),
            namespaced,
            names: BTreeSet::new(),
        }
    }

    /// The same for an object of this name only, and for those that were named before. `create`, `list` and `watch` tell no
    /// name to the server, so to allow them for named objects allows nothing.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.names.insert(name.into());
        self
    }

    /// Verbs on a kind, or on one of its subresources if that is not empty.
    pub fn of<'a, T: Reconciled>(subresource: &str, verbs: impl IntoIterator<Item = &'a str>) -> Self {
        let kind = T::DynamicType::default();
        let mut resource = T::plural(&kind).into_owned();
        if !subresource.is_empty() {
            resource = format!("{resource}/{subresource}");
        }
        Self::new(T::group(&kind), resource, verbs, is_namespaced::<T>())
    }

    pub(crate) fn watched<T: Reconciled>() -> Vec<Self> {
        vec![Self::of::<T>("", READ)]
    }

    /// The controller's own kind: its finalizers and its status are written.
    pub(crate) fn main<K: Reconciled>() -> Vec<Self> {
        vec![
            Self::of::<K>("", READ.into_iter().chain(["patch"])),
            Self::of::<K>("status", ["patch"]),
        ]
    }

    /// A kind whose objects are made by the controller. Where owners may hold up the deletion of what blocks it, that takes
    /// `update` of the owner's finalizers.
    pub(crate) fn owned<K: Reconciled, T: Reconciled>() -> Vec<Self> {
        vec![
            Self::of::<T>("", READ.into_iter().chain(["create", "patch", "delete"])),
            Self::of::<K>("finalizers", ["update"]),
        ]
    }

    /// A kind that is written without being owned.
    pub(crate) fn written<T: Reconciled>() -> Vec<Self> {
        vec![Self::of::<T>("", ["create", "patch", "delete"])]
    }

    /// What elections need.
    pub(crate) fn leases() -> Self {
        Self::new("coordination.k8s.io", "leases", ["get", "create", "update"], true)
    }

    /// What members of a group need, that share keys.
    pub(crate) fn leases_of_members() -> Self {
        let verbs = ["get", "list", "create", "update", "delete"];
        Self::new("coordination.k8s.io", "leases", verbs, true)
    }

    /// What asking the cluster about others needs.
    pub(crate) fn reviews() -> [Self; 2] {
        [
            Self::new("authentication.k8s.io", "tokenreviews", ["create"], false),
            Self::new("authorization.k8s.io", "subjectaccessreviews", ["create"], false),
        ]
    }

    /// What every manager does: it records events.
    pub(crate) fn events() -> Self {
        Self::new("events.k8s.io", "events", ["create", "patch"], true)
    }
}

impl Rules {
    /// Adds a rule.
    pub fn add(&mut self, rule: Rule) {
        let place = (rule.group.clone(), rule.resource.clone(), rule.names.clone());
        match self.rules.get_mut(&place) {
            Some(known) => known.verbs.extend(rule.verbs),
            None => {
                self.rules.insert(place, rule);
            }
        }
    }

    /// The rules, ordered by group and resource.
    pub fn iter(&self) -> impl Iterator<Item = &Rule> {
        self.rules.values()
    }

    /// Whether a request is covered, whichever object it is about. `resource` has its subresource after a slash.
    pub fn allow(&self, verb: &str, group: &str, resource: &str) -> bool {
        let any = |rule: &Rule| rule.names.is_empty();
        self.rules_on(group, resource)
            .any(|rule| any(rule) && rule.verbs.contains(verb))
    }

    /// Whether a request about the object of that name is covered. As [`Rules::allow`] otherwise.
    pub fn allow_named(&self, verb: &str, group: &str, resource: &str, name: &str) -> bool {
        let meant = |rule: &Rule| rule.names.is_empty() || rule.names.contains(name);
        self.rules_on(group, resource)
            .any(|rule| meant(rule) && rule.verbs.contains(verb))
    }

    fn rules_on(&self, group: &str, resource: &str) -> impl Iterator<Item = &Rule> {
        let about = move |rule: &&Rule| rule.group == group && rule.resource == resource;
        self.rules.values().filter(about)
    }

    /// A ClusterRole with all rules, for a manager that watches all namespaces.
    pub fn cluster_role(&self, name: impl Into<String>) -> ClusterRole {
        ClusterRole {
            metadata: named(name.into(), None),
            rules: Some(self.policy(|_| true)),
            ..ClusterRole::default()
        }
    }

    /// For a manager that watches one namespace: a Role there, and a ClusterRole with what has no namespaces, if there is
    /// anything.
    pub fn role(&self, name: impl Into<String>, namespace: impl Into<String>) -> (Role, Option<ClusterRole>) {
        let name = name.into();
        let role = Role {
            metadata: named(name.clone(), Some(namespace.into())),
            rules: Some(self.policy(|rule| rule.namespaced)),
        };
        let rest = self.policy(|rule| !rule.namespaced);
        let cluster_role = (!rest.is_empty()).then(|| ClusterRole {
            metadata: named(name, None),
            rules: Some(rest),
            ..ClusterRole::default()
        });
        (role, cluster_role)
    }

    /// Rules as manifests have them: resources of one group with the same verbs and names are one.
    fn policy(&self, which: impl Fn(&Rule) -> bool) -> Vec<PolicyRule> {
        let mut merged = BTreeMap::<(&str, &BTreeSet<String>, &BTreeSet<String>), Vec<String>>::new();
        for rule in self.rules.values().filter(|rule| which(rule)) {
            merged
                .entry((&rule.group, &rule.verbs, &rule.names))
                .or_default()
                .push(rule.resource.clone());
        }
        let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
        let policy = merged
            .into_iter()
            .map(|((group, verbs, names), resources)| PolicyRule {
                api_groups: Some(vec![group.to_owned()]),
                resources: Some(resources),
                resource_names: (!names.is_empty()).then(|| list(names)),
                verbs: list(verbs),
                ..PolicyRule::default()
            });
        policy.collect()
    }
}

impl Extend<Rule> for Rules {
    fn extend<I: IntoIterator<Item = Rule>>(&mut self, rules: I) {
        rules.into_iter().for_each(|rule| self.add(rule));
    }
}

fn named(name: String, namespace: Option<String>) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace,
        ..ObjectMeta::default()
    }
}
