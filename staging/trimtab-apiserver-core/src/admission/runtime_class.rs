//! Runtime classes: what a pod's runtime needs for itself, and where there is such a runtime.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Map, Value, json};
use trimtab_apimachinery_meta::{ApiError, quota};

use super::tolerations::merge;
use super::{Reader, creates, forbidden};
use crate::registry::hooks::{Admission, Attributes};

/// Gives new pods the overhead, the node selector and the tolerations of their runtime class.
#[derive(Debug)]
pub struct RuntimeClass {
    reader: Arc<dyn Reader>,
}

impl RuntimeClass {
    /// The plugin, which finds runtime classes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }

    /// The class of a pod, which must exist; null for pods without one.
    async fn class(&self, attributes: &Attributes, pod: &Value) -> Result<Value, ApiError> {
        let Some(name) = pod["spec"]["runtimeClassName"].as_str() else {
            return Ok(Value::Null);
        };
        let class = self.reader.get("node.k8s.io", "runtimeclasses", "", name).await?;
        class.ok_or_else(|| {
            let why = format!("pod rejected: RuntimeClass {name:?} not found");
            forbidden(attributes, Some(pod), why)
        })
    }
}

#[async_trait]
impl Admission for RuntimeClass {
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
        let class = self.class(attributes, pod).await?;
        if class["overhead"].is_object() {
            let fixed = &class["overhead"]["podFixed"];
            if !is_empty(&pod["spec"]["overhead"]) && !same(fixed, &pod["spec"]["overhead"]) {
                return Err(mismatch(attributes, pod));
            }
            pod["spec"]["overhead"] = fixed.clone();
        }
        if class["scheduling"].is_object() {
            schedule(attributes, pod, &class["scheduling"])?;
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
        let class = self.class(attributes, pod).await?;
        let overhead = &pod["spec"]["overhead"];
        if class["overhead"].is_object() {
            if !same(&class["overhead"]["podFixed"], overhead) {
                return Err(mismatch(attributes, pod));
            }
        } else if !overhead.is_null() {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(forbidden(attributes, Some(pod), why));
        }
        Ok(())
    }
}

fn mismatch(attributes: &Attributes, pod: &Value) -> ApiError {
    let why = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
    forbidden(attributes, Some(pod), why)
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_none_or(Map::is_empty)
}

fn same(a: &Value, b: &Value) -> bool {
    quota::amounts(a) == quota::amounts(b)
}

fn schedule(attributes: &Attributes, pod: &mut Value, scheduling: &Value) -> Result<(), ApiError> {
    for (key, wanted) in scheduling["nodeSelector"].as_object().into_iter().flatten() {
        let selected = &pod["spec"]["nodeSelector"][key];
        if !selected.is_null() && selected != wanted {
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let why = format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                text(wanted),
                text(selected)
            );
            return Err(forbidden(attributes, Some(pod), why));
        }
        if !pod["spec"]["nodeSelector"].is_object() {
            pod["spec"]["nodeSelector"] = json!({});
        }
        pod["spec"]["nodeSelector"][key] = wanted.clone();
    }
    let of = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let (own, more) = (of(&pod["spec"]["tolerations"]), of(&scheduling["tolerations"]));
    if !more.is_empty() {
        pod["spec"]["tolerations"] = Value::Array(merge(&[own, more].concat()));
    }
    Ok(())
}
