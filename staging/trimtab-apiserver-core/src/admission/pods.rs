//! Small rules for pods: what keeps them apart, where their namespace has them run, and what they tolerate.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::{ApiError, GroupResource};

use super::{Reader, creates, is};
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Where a namespace says on which nodes its pods run.
const NODE_SELECTOR: &str = "scheduler.alpha.kubernetes.io/node-selector";

fn writes_pods(attributes: &Attributes) -> bool {
    matches!(attributes.operation, Operation::Create | Operation::Update) && is(attributes, "", "pods")
}

fn pods_forbidden(pod: &Value, why: impl std::fmt::Display) -> ApiError {
    ApiError::forbidden(&GroupResource::new("", "pods"), meta::name(pod), why)
}

/// Lets pods keep others away from their node, and from nothing larger.
#[derive(Clone, Copy, Debug)]
pub struct LimitAntiAffinity;

#[async_trait]
impl Admission for LimitAntiAffinity {
    fn concerns(&self, attributes: &Attributes) -> bool {
        writes_pods(attributes)
    }

    async fn validate(
        &self,
        _: &Attributes,
        pod: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(pod) = pod else { return Ok(()) };
        let rules = &pod["spec"]["affinity"]["podAntiAffinity"];
        let terms = rules["requiredDuringSchedulingIgnoredDuringExecution"].as_array();
        let keys = terms
            .into_iter()
            .flatten()
            .map(|term| term["topologyKey"].as_str().unwrap_or_default());
        match keys.into_iter().find(|key| *key != HOSTNAME) {
            Some(key) => {
                let why = format!(
                    "affinity.PodAntiAffinity.RequiredDuringScheduling has TopologyKey {key} but only key {HOSTNAME} is \
                     allowed"
                );
                Err(pods_forbidden(pod, why))
            }
            None => Ok(()),
        }
    }
}

/// Has pods run on the nodes that their namespace's annotation selects.
#[derive(Debug)]
pub struct PodNodeSelector {
    reader: Arc<dyn Reader>,
    /// Selectors by namespace, of what its pods may select; and by `clusterDefaultNodeSelector`, of where pods run whose
    /// namespace says nothing.
    selectors: BTreeMap<String, Labels>,
}

type Labels = BTreeMap<String, String>;

impl PodNodeSelector {
    /// The plugin, which finds namespaces by `reader`. `config` is what kube-apiserver calls `podNodeSelectorPluginConfig`:
    /// selectors as `a=b,c=d` by namespace, and `clusterDefaultNodeSelector`.
    ///
    /// # Errors
    ///
    /// A text that says which selector makes no sense.
    pub fn new(reader: Arc<dyn Reader>, config: &Value) -> Result<Self, String> {
        let mut selectors = BTreeMap::new();
        for (namespace, selector) in config.as_object().into_iter().flatten() {
            let text = selector.as_str().ok_or_else(|| {
                format!("podNodeSelectorPluginConfig.{namespace}: want a text such as a=b,c=d")
            })?;
            let labels = read_selector(text)
                .map_err(|why| format!("podNodeSelectorPluginConfig.{namespace}: {why}"))?;
            selectors.insert(namespace.clone(), labels);
        }
        Ok(Self { reader, selectors })
    }

    async fn of_namespace(&self, name: &str) -> Result<Labels, ApiError> {
        let Some(namespace) = self.reader.namespace(name).await? else {
            return Err(ApiError::not_found(&GroupResource::new("", "namespaces"), name));
        };
        match namespace["metadata"]["annotations"][NODE_SELECTOR].as_str() {
            Some(text) => read_selector(text).map_err(ApiError::internal),
            None => {
                let default = self.selectors.get("clusterDefaultNodeSelector");
                Ok(default.cloned().unwrap_or_default())
            }
        }
    }

    async fn check(&self, attributes: &Attributes, pod: &Value) -> Result<Labels, ApiError> {
        let wanted = self.of_namespace(&attributes.namespace).await?;
        let selected = &pod["spec"]["nodeSelector"];
        let selects = |key: &str| selected[key].as_str();
        if wanted
            .iter()
            .any(|(key, value)| selects(key).is_some_and(|other| other != value))
        {
            let why = "pod node label selector conflicts with its namespace node label selector";
            return Err(pods_forbidden(pod, why));
        }
        Ok(wanted)
    }
}

/// Reads `a=b,c=d`.
fn read_selector(text: &str) -> Result<Labels, String> {
    if text.is_empty() {
        return Ok(Labels::new());
    }
    let one = |part: &str| {
        let mut sides = part.split('=').map(str::trim);
        match (sides.next(), sides.next(), sides.next()) {
            (Some(key), Some(value), None) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
            _ => Err(format!("invalid selector: [{}]", part.replace('=', " "))),
        }
    };
    text.split(',').map(one).collect()
}

#[async_trait]
impl Admission for PodNodeSelector {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, "", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        pod: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        for (key, value) in self.check(attributes, pod).await? {
            if !pod["spec"]["nodeSelector"].is_object() {
                pod["spec"]["nodeSelector"] = json!({});
            }
            pod["spec"]["nodeSelector"][key] = json!(value);
        }
        Ok(())
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        pod: Option<&Value>,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some(pod) = pod else { return Ok(()) };
        self.check(attributes, pod).await?;
        let allowed = self.selectors.get(&attributes.namespace);
        let Some(allowed) = allowed.filter(|labels| !labels.is_empty()) else {
            return Ok(());
        };
        let selected = pod["spec"]["nodeSelector"].as_object();
        let mut selected = selected.into_iter().flatten();
        if selected.all(|(key, value)| allowed.get(key).is_some_and(|allowed| value == allowed)) {
            return Ok(());
        }
        let why = "pod node label selector labels conflict with its namespace whitelist";
        Err(pods_forbidden(pod, why))
    }
}

/// Has pods that ask for extended resources tolerate taints by the names of those.
#[derive(Clone, Copy, Debug)]
pub struct ExtendedResourceToleration;

#[async_trait]
impl Admission for ExtendedResourceToleration {
    fn concerns(&self, attributes: &Attributes) -> bool {
        writes_pods(attributes)
    }

    async fn mutate(
        &self,
        _: &Attributes,
        pod: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let is_extended = |name: &&String| {
            name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
        };
        let mut names: Vec<String> = ["containers", "initContainers"]
            .into_iter()
            .filter_map(|list| pod["spec"][list].as_array())
            .flatten()
            .filter_map(|container| container["resources"]["requests"].as_object())
            .flat_map(|requests| requests.keys().filter(is_extended))
            .cloned()
            .collect();
        names.sort();
        names.dedup();
        for name in names {
            let toleration = json!({"key": name, "operator": "Exists", "effect": "NoSchedule"});
            match &mut pod["spec"]["tolerations"] {
                Value::Array(all) if all.contains(&toleration) => {}
                Value::Array(all) => {
                    // One that is alike but for its value or duration is replaced.
                    let alike = |t: &Value| {
                        t["key"] == toleration["key"]
                            && t["effect"] == toleration["effect"]
                            && t["operator"] == "Exists"
                    };
                    all.retain(|t| !alike(t));
                    all.push(toleration);
                }
                none => *none = json!([toleration]),
            }
        }
        Ok(())
    }
}
