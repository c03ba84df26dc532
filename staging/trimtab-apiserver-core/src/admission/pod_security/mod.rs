//! Pod security: pods keep to the standard that their namespace's labels demand.
//!
//! Pods that violate what is enforced are refused. Violations of what is warned of are warnings, also for what pods are
//! made from: Deployments and the like are never refused, their pods are. Violations of what is audited are logged.

mod baseline;
mod config;
mod policy;
mod restricted;
mod standards;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use trimtab_apimachinery_meta::{ApiError, FieldError};

pub use config::PodSecurityConfig;
pub use policy::{Level, Policy, Standard, Version};
pub use standards::{Template, Violation, violations};

use self::standards::{details, reasons};
use super::Reader;
use crate::audit;
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

/// Of a namespace whose labels change, at most this many pods are looked at, for at most so long; as kube-apiserver.
const MOST_PODS: usize = 3000;
const MOST_TIME: Duration = Duration::from_secs(1);

/// Subresources of pods that have nothing to do with what the pod may do.
const IGNORED: [&str; 8] = [
    "exec",
    "attach",
    "binding",
    "eviction",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// Refuses pods that violate what their namespace enforces, and warns of what violates it otherwise.
#[derive(Debug)]
pub struct PodSecurity {
    reader: Arc<dyn Reader>,
    config: PodSecurityConfig,
}

impl PodSecurity {
    /// The plugin, which finds namespaces and pods by `reader`.
    pub fn new(reader: Arc<dyn Reader>, config: PodSecurityConfig) -> Self {
        Self { reader, config }
    }

    fn is_exempt(&self, attributes: &Attributes) -> bool {
        let exemptions = &self.config.exemptions;
        exemptions.namespaces.contains(&attributes.namespace)
            || exemptions.usernames.contains(&attributes.user.name)
    }

    fn is_exempt_pod(&self, spec: &Value) -> bool {
        let class = spec["runtimeClassName"].as_str().unwrap_or_default();
        let exempt = &self.config.exemptions.runtime_classes;
        !class.is_empty() && exempt.iter().any(|name| name == class)
    }

    /// What the namespace of the request demands, with what is wrong with its labels.
    async fn policy(&self, attributes: &Attributes) -> Result<Option<(Policy, Vec<FieldError>)>, ApiError> {
        let namespace = self.reader.namespace(&attributes.namespace).await?;
        Ok(namespace.map(|namespace| Policy::of(&namespace, &self.config.defaults)))
    }

    async fn pod(
        &self,
        attributes: &Attributes,
        pod: &Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if IGNORED.contains(&attributes.subresource.as_str()) || self.is_exempt(attributes) {
            return Ok(());
        }
        let Some((policy, errors)) = self.policy(attributes).await? else {
            let why = format!("failed to lookup namespace {:?}", attributes.namespace);
            return Err(ApiError::internal(why));
        };
        if errors.is_empty() && policy.is_privileged() {
            return Ok(());
        }
        let changes_nothing = |old: &Value| !is_significant(pod, old);
        if attributes.operation == Operation::Update && old.is_some_and(changes_nothing) {
            return Ok(());
        }
        let template = Template {
            metadata: &pod["metadata"],
            spec: &pod["spec"],
        };
        self.evaluate(attributes, &policy, template, true, warnings)
    }

    async fn controller(
        &self,
        attributes: &Attributes,
        object: &Value,
        at: &str,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if !attributes.subresource.is_empty() || self.is_exempt(attributes) {
            return Ok(());
        }
        // What cannot be looked at is not refused: its pods will be looked at.
        let Ok(Some((policy, errors))) = self.policy(attributes).await else {
            return Ok(());
        };
        let nothing_to_say = [policy.warn, policy.audit]
            .iter()
            .all(|standard| standard.level == Level::Privileged);
        let Some(template) = object.pointer(at).filter(|template| template.is_object()) else {
            return Ok(());
        };
        if errors.is_empty() && nothing_to_say {
            return Ok(());
        }
        let template = Template {
            metadata: &template["metadata"],
            spec: &template["spec"],
        };
        self.evaluate(attributes, &policy, template, false, warnings)
    }

    fn evaluate(
        &self,
        attributes: &Attributes,
        policy: &Policy,
        template: Template<'_>,
        enforce: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if self.is_exempt_pod(template.spec) {
            return Ok(());
        }
        // Often all three modes demand the same.
        let mut known: Vec<(Standard, Vec<Violation>)> = Vec::new();
        let mut found = |standard: Standard| {
            if let Some((_, violations)) = known.iter().find(|(of, _)| *of == standard) {
                return violations.clone();
            }
            let violations = violations(standard, &template);
            known.push((standard, violations.clone()));
            violations
        };
        let enforced = if enforce {
            audit::annotate("pod-security.kubernetes.io/enforce-policy", || {
                policy.enforce.to_string()
            });
            found(policy.enforce)
        } else {
            Vec::new()
        };
        let audited = found(policy.audit);
        if !audited.is_empty() {
            audit::annotate("pod-security.kubernetes.io/audit-violations", || {
                format!(
                    "would violate PodSecurity \"{}\": {}",
                    policy.audit,
                    details(&audited)
                )
            });
        }
        if !enforced.is_empty() {
            let why = format!(
                "violates PodSecurity \"{}\": {}",
                policy.enforce,
                details(&enforced)
            );
            let resource = attributes.resource.group_resource();
            return Err(ApiError::forbidden(&resource, &attributes.name, why));
        }
        let warned = found(policy.warn);
        if !warned.is_empty() {
            warnings.push(format!(
                "would violate PodSecurity \"{}\": {}",
                policy.warn,
                details(&warned)
            ));
        }
        Ok(())
    }

    async fn namespace(
        &self,
        attributes: &Attributes,
        namespace: &Value,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        if !attributes.subresource.is_empty() {
            return Ok(());
        }
        let defaults = &self.config.defaults;
        let (policy, errors) = Policy::of(namespace, defaults);
        let (before, errors_before) = old.map(|old| Policy::of(old, defaults)).unwrap_or_default();
        let name = attributes.name.as_str();
        if !errors.is_empty() && errors != errors_before {
            let kind = attributes.resource.group_kind();
            return Err(ApiError::invalid(&kind, name, &errors));
        }
        let exempt = self.config.exemptions.namespaces.iter().any(|n| n == name);
        if attributes.operation == Operation::Create {
            warnings.extend(
                exempt
                    .then(|| policy.ignored(name, namespace, defaults))
                    .flatten(),
            );
            return Ok(());
        }
        let (new, was) = (policy.enforce, before.enforce);
        let relaxed = new.version == was.version && new.level <= was.level;
        if new == was || new.level == Level::Privileged || relaxed {
            return Ok(());
        }
        if exempt {
            warnings.extend(policy.ignored(name, namespace, defaults));
            return Ok(());
        }
        warnings.extend(self.existing(attributes, new).await);
        Ok(())
    }

    /// What to say of the pods that are in a namespace already.
    async fn existing(&self, attributes: &Attributes, standard: Standard) -> Vec<String> {
        let now = Instant::now();
        let half = |deadline: Instant| now + deadline.saturating_duration_since(now) / 2;
        let until = attributes
            .deadline
            .map_or(now + MOST_TIME, |deadline| half(deadline).min(now + MOST_TIME));
        let name = attributes.name.as_str();
        let listed = timeout_at(until, self.reader.list("", "pods", name)).await;
        let Ok(Ok(pods)) = listed else {
            return vec!["failed to list pods while checking new PodSecurity enforce level".to_owned()];
        };
        let pods = self.most_telling(&pods);
        let total = pods.len();
        // For each violation the first pod that has it, and how many have it.
        let mut found: BTreeMap<String, (&str, usize)> = BTreeMap::new();
        let mut checked = 0;
        for pod in pods.into_iter().take(MOST_PODS) {
            checked += 1;
            let template = Template {
                metadata: &pod["metadata"],
                spec: &pod["spec"],
            };
            let violations = violations(standard, &template);
            if !violations.is_empty() {
                let (first, count) = found.entry(reasons(&violations)).or_insert((meta::name(pod), 0));
                *first = meta::name(pod).min(first);
                *count += 1;
            }
            if Instant::now() >= until {
                break;
            }
        }
        let mut warnings = Vec::new();
        if checked < total {
            warnings.push(format!(
                "new PodSecurity enforce level only checked against the first {checked} of {total} existing pods"
            ));
        }
        if !found.is_empty() {
            warnings.push(format!(
                "existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{standard}\""
            ));
        }
        let mut each: Vec<String> = found
            .into_iter()
            .map(|(reasons, (first, count))| match count {
                1 => format!("{first}: {reasons}"),
                2 => format!("{first} (and 1 other pod): {reasons}"),
                _ => format!("{first} (and {} other pods): {reasons}", count - 1),
            })
            .collect();
        each.sort();
        warnings.extend(each);
        warnings
    }

    /// The pods to look at, those that are the only ones or the first of their controller before the others.
    fn most_telling<'a>(&self, pods: &'a [Value]) -> Vec<&'a Value> {
        let mut controllers = HashSet::new();
        let (mut telling, others): (Vec<_>, Vec<_>) = pods
            .iter()
            .filter(|pod| !self.is_exempt_pod(&pod["spec"]))
            .partition(|pod| {
                let owners = pod["metadata"]["ownerReferences"].as_array();
                let controller = owners
                    .into_iter()
                    .flatten()
                    .find(|owner| owner["controller"] == true);
                controller.is_none_or(|owner| controllers.insert(owner["uid"].as_str().unwrap_or_default()))
            });
        telling.extend(others);
        telling
    }
}

#[async_trait]
impl Admission for PodSecurity {
    fn concerns(&self, attributes: &Attributes) -> bool {
        let resource = &attributes.resource;
        let (group, plural) = (resource.group.as_str(), resource.plural.as_str());
        let known =
            matches!((group, plural), ("", "pods" | "namespaces")) || template_at(group, plural).is_some();
        known && matches!(attributes.operation, Operation::Create | Operation::Update)
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        object: Option<&Value>,
        old: Option<&Value>,
        warnings: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(object) = object else { return Ok(()) };
        let resource = &attributes.resource;
        match (resource.group.as_str(), resource.plural.as_str()) {
            ("", "pods") => self.pod(attributes, object, old, warnings).await,
            ("", "namespaces") => self.namespace(attributes, object, old, warnings).await,
            (group, plural) => match template_at(group, plural) {
                Some(at) => self.controller(attributes, object, at, warnings).await,
                None => Ok(()),
            },
        }
    }
}

/// Where objects of a resource have the template of their pods.
fn template_at(group: &str, plural: &str) -> Option<&'static str> {
    match (group, plural) {
        ("", "podtemplates") => Some("/template"),
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => Some("/spec/template"),
        ("batch", "cronjobs") => Some("/spec/jobTemplate/spec/template"),
        _ => None,
    }
}

/// Whether an update changes anything that matters here: of a pod that is there only images and ephemeral containers.
fn is_significant(pod: &Value, old: &Value) -> bool {
    fn list<'a>(pod: &'a Value, name: &str) -> &'a [Value] {
        pod["spec"][name].as_array().map_or(&[], Vec::as_slice)
    }
    let fixed = ["containers", "initContainers"].iter().any(|name| {
        let (new, old) = (list(pod, name), list(old, name));
        new.len() != old.len() || new.iter().zip(old).any(|(new, old)| new["image"] != old["image"])
    });
    let name = "ephemeralContainers";
    fixed
        || list(pod, name).iter().any(|new| {
            let same = list(old, name).iter().find(|old| old["name"] == new["name"]);
            same.is_none_or(|old| old["image"] != new["image"])
        })
}
