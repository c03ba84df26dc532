//! NamespaceUsage: what the pods of a namespace ask for, added up when somebody wants to know. It is kept nowhere, so that it is
//! never out of date, and a thousand namespaces cost nothing while nobody looks.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use http::Method;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Serialize;
use serde_json::{Value, json};
use trimtab::apimachinery::quantity::Quantity;
use trimtab_apiserver::extension::{ApiError, Asked, Computed, Definition, DefinitionError, Delegation};

use crate::GROUP;

/// What is asked for in a namespace; its name is the namespace's.
#[derive(Debug, Serialize)]
pub(crate) struct NamespaceUsage {
    metadata: ObjectMeta,
    /// How many pods there are that have not ended.
    pods: usize,
    /// The CPU that their containers ask for.
    cpu: String,
    /// The memory that their containers ask for.
    memory: String,
}

/// Asks the API server for pods, and adds them up.
pub(crate) struct Usage(pub(crate) Delegation);

/// What is known of one namespace.
#[derive(Clone, Copy)]
struct Sum {
    pods: usize,
    cpu: Quantity,
    memory: Quantity,
}

/// The resource, with the columns that kubectl prints.
pub(crate) fn definition() -> Result<Definition, DefinitionError> {
    let quantity = |what: &str| json!({"type": "string", "description": what});
    let schema = json!({
        "type": "object",
        "description": "What the pods of a namespace ask for, at the moment of the question",
        "properties": {
            "pods": {"type": "integer", "description": "How many pods there are that have not ended"},
            "cpu": quantity("The CPU that their containers ask for"),
            "memory": quantity("The memory that their containers ask for"),
        },
    });
    let column = |name: &str, kind: &str, path: &str| json!({"name": name, "type": kind, "jsonPath": path});
    Definition::of(&json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("namespaceusages.{GROUP}")},
        "spec": {
            "group": GROUP,
            "scope": "Cluster",
            "names": {"kind": "NamespaceUsage", "plural": "namespaceusages", "shortNames": ["nsu"]},
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": {"openAPIV3Schema": schema},
                "additionalPrinterColumns": [
                    column("Pods", "integer", ".pods"),
                    column("CPU", "string", ".cpu"),
                    column("Memory", "string", ".memory"),
                ],
            }],
        },
    }))
}

/// Adds up the pods of each namespace.
fn sums(namespaces: &Value, pods: &Value) -> BTreeMap<String, Sum> {
    let items = |list: &Value| list["items"].as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let none = Sum {
        pods: 0,
        cpu: Quantity::milli(0),
        memory: Quantity::whole(0),
    };
    let names = items(namespaces);
    let mut all: BTreeMap<String, Sum> = names
        .iter()
        .map(|n| (text(&n["metadata"]["name"]), none))
        .collect();
    for pod in items(pods) {
        let Some(sum) = all.get_mut(&text(&pod["metadata"]["namespace"])) else {
            continue;
        };
        if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
            continue;
        }
        sum.pods += 1;
        for container in pod["spec"]["containers"].as_array().into_iter().flatten() {
            let asked = |what: &str| container["resources"]["requests"][what].as_str()?.parse().ok();
            sum.cpu = asked("cpu").map_or(sum.cpu, |cpu: Quantity| sum.cpu + cpu);
            sum.memory = asked("memory").map_or(sum.memory, |memory: Quantity| sum.memory + memory);
        }
    }
    all
}

impl fmt::Debug for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Usage")
    }
}

#[async_trait]
impl Computed for Usage {
    type Object = NamespaceUsage;

    async fn list(&self, _: &Asked) -> Result<Vec<NamespaceUsage>, ApiError> {
        let list = |path| self.0.call(Method::GET, path, &Value::Null);
        let sums = sums(&list("/api/v1/namespaces").await?, &list("/api/v1/pods").await?);
        let usage = |(name, sum): (String, Sum)| NamespaceUsage {
            metadata: ObjectMeta {
                name: Some(name),
                ..ObjectMeta::default()
            },
            pods: sum.pods,
            cpu: sum.cpu.to_string(),
            memory: sum.memory.to_string(),
        };
        Ok(sums.into_iter().map(usage).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_of_all_containers_count_while_their_pod_has_not_ended() {
        let pod = |namespace: &str, phase: &str, cpu: &str| {
            let container = json!({"resources": {"requests": {"cpu": cpu, "memory": "64Mi"}}});
            json!({"metadata": {"namespace": namespace}, "status": {"phase": phase},
                "spec": {"containers": [container, {}]}})
        };
        let pods = json!({"items": [pod("a", "Running", "250m"), pod("a", "Pending", "1"), pod("a", "Failed", "1"),
            pod("gone", "Running", "1")]});
        let namespaces = json!({"items": [{"metadata": {"name": "a"}}, {"metadata": {"name": "b"}}]});
        let sums = sums(&namespaces, &pods);
        let told: Vec<String> = sums
            .iter()
            .map(|(name, sum)| format!("{name} {} {} {}", sum.pods, sum.cpu, sum.memory))
            .collect();
        assert_eq!(told, ["a 2 1250m 128Mi", "b 0 0 0"]);
        assert!(definition().is_ok());
    }
}
