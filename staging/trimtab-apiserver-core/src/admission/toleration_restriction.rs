//! Which taints the pods of a namespace tolerate by default, and which they may tolerate at all.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::quota::Counted;
use trimtab_apimachinery_meta::{ApiError, GroupResource};

use super::tolerations::{covers, merge};
use super::{Reader, forbidden, is};
use crate::registry::hooks::{Admission, Attributes, Operation};

const DEFAULTS: &str = "scheduler.alpha.kubernetes.io/defaultTolerations";
const ALLOWED: &str = "scheduler.alpha.kubernetes.io/tolerationsWhitelist";

/// Gives pods the tolerations of their namespace's annotation, and refuses those that another one does not allow.
#[derive(Debug)]
pub struct TolerationRestriction {
    reader: Arc<dyn Reader>,
    /// For namespaces that say nothing.
    defaults: Vec<Value>,
    allowed: Vec<Value>,
}

impl TolerationRestriction {
    /// The plugin, which finds namespaces by `reader`. `config` is null, or a `Configuration` of
    /// podtolerationrestriction.admission.k8s.io/v1alpha1, for namespaces that say nothing.
    ///
    /// # Errors
    ///
    /// What is wrong with the configuration.
    pub fn new(reader: Arc<dyn Reader>, config: &Value) -> Result<Self, String> {
        let list = |field: &str| match &config[field] {
            Value::Null => Ok(Vec::new()),
            Value::Array(list) => Ok(list.clone()),
            _ => Err(format!("{field}: want a list of tolerations")),
        };
        Ok(Self {
            defaults: list("default")?,
            allowed: list("whitelist")?,
            reader,
        })
    }

    /// The tolerations in an annotation of the request's namespace, if it has that.
    async fn annotated(&self, attributes: &Attributes, key: &str) -> Result<Option<Vec<Value>>, ApiError> {
        let name = &attributes.namespace;
        let Some(namespace) = self.reader.namespace(name).await? else {
            return Err(ApiError::not_found(&GroupResource::new("", "namespaces"), name));
        };
        match namespace["metadata"]["annotations"][key].as_str() {
            None => Ok(None),
            Some("") => Ok(Some(Vec::new())),
            Some(text) => serde_json::from_str(text).map(Some).map_err(|error| {
                ApiError::internal(format!("annotation {key} of namespace {name}: {error}"))
            }),
        }
    }
}

fn tolerations(pod: &Value) -> &[Value] {
    pod["spec"]["tolerations"].as_array().map_or(&[], Vec::as_slice)
}

#[async_trait]
impl Admission for TolerationRestriction {
    fn concerns(&self, attributes: &Attributes) -> bool {
        matches!(attributes.operation, Operation::Create | Operation::Update) && is(attributes, "", "pods")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        pod: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let mut more = Vec::new();
        if attributes.operation == Operation::Create {
            let annotated = self.annotated(attributes, DEFAULTS).await?;
            more = annotated.unwrap_or_else(|| self.defaults.clone());
        }
        let best_effort = json!({"scopeName": "BestEffort", "operator": "Exists"});
        let counted = Counted::of(&GroupResource::new("", "pods"));
        if !counted.is_some_and(|pods| pods.is_in_scope(&best_effort, pod)) {
            more.push(json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists", "effect": "NoSchedule"}));
        }
        if !more.is_empty() && pod["spec"].is_object() {
            pod["spec"]["tolerations"] = Value::Array(merge(&[tolerations(pod), &more].concat()));
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
        let Some(pod) = pod.filter(|pod| !tolerations(pod).is_empty()) else {
            return Ok(());
        };
        let annotated = self.annotated(attributes, ALLOWED).await?;
        let scope = if annotated.is_some() {
            "namespace"
        } else {
            "cluster"
        };
        let allowed = annotated.as_ref().unwrap_or(&self.allowed);
        let is_allowed = |toleration: &Value| allowed.iter().any(|wide| covers(wide, toleration));
        if allowed.is_empty() || tolerations(pod).iter().all(is_allowed) {
            return Ok(());
        }
        let why = format!(
            "pod tolerations (possibly merged with namespace default tolerations) conflict with its {scope} whitelist"
        );
        Err(forbidden(attributes, Some(pod), why))
    }
}
