//! Nodes: new ones get no pods before they are ready, and pods say in which zone and region they are.

use std::sync::Arc;

use async_trait::async_trait;
use serde_json::{Value, json};
use trimtab_apimachinery_meta::ApiError;

use super::{Reader, creates};
use crate::registry::hooks::{Admission, Attributes, Operation};

const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The labels of a node that its pods get.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// Taints new nodes as not ready, until whoever watches over nodes takes that away.
#[derive(Clone, Copy, Debug)]
pub struct TaintNodes;

#[async_trait]
impl Admission for TaintNodes {
    fn concerns(&self, attributes: &Attributes) -> bool {
        creates(attributes, "", "nodes")
    }

    async fn mutate(
        &self,
        _: &Attributes,
        node: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let taint = json!({"key": NOT_READY, "effect": "NoSchedule"});
        let same = |t: &Value| t["key"] == taint["key"] && t["effect"] == taint["effect"];
        if !node["spec"].is_object() {
            node["spec"] = json!({});
        }
        match &mut node["spec"]["taints"] {
            Value::Array(taints) if taints.iter().any(same) => {}
            Value::Array(taints) => taints.push(taint),
            none => *none = json!([taint]),
        }
        Ok(())
    }
}

/// Gives pods the topology labels of their node, when they are bound to it or made on it.
#[derive(Debug)]
pub struct PodTopologyLabels {
    reader: Arc<dyn Reader>,
}

impl PodTopologyLabels {
    /// The plugin, which finds nodes by `reader`.
    pub fn new(reader: Arc<dyn Reader>) -> Self {
        Self { reader }
    }
}

#[async_trait]
impl Admission for PodTopologyLabels {
    fn concerns(&self, attributes: &Attributes) -> bool {
        let resource = &attributes.resource;
        attributes.operation == Operation::Create
            && resource.group.is_empty()
            && resource.plural == "pods"
            && matches!(attributes.subresource.as_str(), "" | "binding")
    }

    async fn mutate(
        &self,
        attributes: &Attributes,
        object: &mut Value,
        _: Option<&Value>,
        _: &mut Vec<String>,
    ) -> Result<(), ApiError> {
        let node = if attributes.subresource.is_empty() {
            &object["spec"]["nodeName"]
        } else if object["target"]["kind"] == "Node" {
            &object["target"]["name"]
        } else {
            &Value::Null
        };
        let Some(name) = node.as_str().filter(|name| !name.is_empty()) else {
            return Ok(());
        };
        let Some(node) = self.reader.get("", "nodes", "", name).await? else {
            return Ok(());
        };
        for key in TOPOLOGY {
            if let Some(value) = node["metadata"]["labels"][key].as_str() {
                object["metadata"]["labels"][key] = json!(value);
            }
        }
        Ok(())
    }
}
