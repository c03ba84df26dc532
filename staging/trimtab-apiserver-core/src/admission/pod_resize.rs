//! Pods that are resized: they stay on their node, so it has to be large enough for them.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::quota::{self, Amounts, Counted};
use trimtab_apimachinery_meta::{ApiError, GroupResource};

use super::{Reader, forbidden};
use crate::registry::hooks::{Admission, Attributes, Operation};
use crate::registry::meta;

const OS: &str = "kubernetes.io/os";

/// Refuses sizes that no pod can have on the node where this one runs.
#[derive(Debug)]
pub struct PodResize {
    reader: Arc<dyn Reader>,
}

impl PodResize {
    /// The plugin, which finds nodes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for PodResize {
    fn concerns(&self, attributes: &Attributes) -> bool {
        attributes.operation == Operation::Update
            && attributes.subresource == "resize"
            && attributes.resource.group.is_empty()
            && attributes.resource.plural == "pods"
    }

    async fn validate(
        &self,
        attributes: &Attributes,
        pod: Option<&Value>,
        old: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let Some((pod, old)) = pod.zip(old) else {
            return Ok(());
        };
        let name = pod["spec"]["nodeName"].as_str().unwrap_or_default();
        if name.is_empty() || meta::generation(pod) == meta::generation(old) {
            return Ok(());
        }
        let refused = |why: String| forbidden(attributes, Some(pod), why);
        let Some(node) = self.reader.get("", "nodes", "", name).await? else {
            return Err(refused(format!("node {name:?} not found")));
        };
        let os = node["metadata"]["labels"][OS].as_str().unwrap_or("linux");
        if os != "linux" {
            let why = format!("pod resize is only supported on linux nodes, node {name:?} is {os:?}");
            return Err(refused(why).with_cause("UnsupportedPlatform", "", ""));
        }
        let too_small = too_small(pod, &quota::amounts(&node["status"]["allocatable"]));
        if too_small.is_empty() {
            return Ok(());
        }
        let why = format!(
            "node didn't have enough allocatable resources: {}",
            too_small.join("; ")
        );
        Err(refused(why).with_cause("NodeCapacity", "", ""))
    }
}

/// What the node does not have as much of as the pod asks for.
fn too_small(pod: &Value, allocatable: &Amounts) -> Vec<String> {
    // What it asks for, not what it has been given until now.
    let asked = json!({"spec": pod["spec"]});
    let pods = Counted::of(&GroupResource::new("", "pods"));
    let asked = pods.map(|pods| pods.usage(&asked, 0)).unwrap_or_default();
    let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
    let mut all = Vec::new();
    for name in ["cpu", "memory"] {
        let (asked, has) = (of(&asked, name), of(allocatable, name));
        if asked > has {
            let [asked, has] = [asked, has].map(|amount| match name {
                "cpu" => amount.milli_value(),
                _ => amount.value(),
            });
            all.push(format!("{name}, requested: {asked}, allocatable: {has}"));
        }
    }
    all
}
