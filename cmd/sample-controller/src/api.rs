//! The API: what a Website is. `crd()` of the derive is what the cluster is told.
#![allow(unreachable_pub, clippy::duplicated_attributes)] // of copies that the derives make, of columns

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};
use trimtab::prelude::*;

/// What a site should be
#[derive(CustomResource, Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(
    group = "samples.example.com",
    version = "v1",
    kind = "Website",
    namespaced,
    shortname = "ws",
    status = "WebsiteStatus",
    derive = "PartialEq",
    doc = "A page on the web, and the servers that show it",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.readyReplicas"
    ),
    printcolumn(name = "Replicas", type_ = "integer", json_path = ".spec.replicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Available")].status"#
    ),
    printcolumn(name = "Host", type_ = "string", json_path = ".spec.host"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct WebsiteSpec {
    /// The page, as HTML.
    #[schemars(length(min = 1))]
    pub html: String,
    /// How many servers show it.
    #[serde(default = "one")]
    #[schemars(range(min = 0))]
    pub replicas: i32,
    /// The DNS name under which it is found; without one it is found inside the cluster only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$"))]
    pub host: Option<String>,
}

/// What was last seen of a site
#[derive(Clone, Debug, Default, Deserialize, KubeSchema, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WebsiteStatus {
    /// The generation of the spec that this status is about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// How many servers are ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// `Synced`: the cluster has been told what is wished. `Available`: enough servers are ready.
    #[serde(default)]
    #[x_kube(merge_strategy = kube::core::ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

fn one() -> i32 {
    1
}

impl Conditions for WebsiteStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }

    fn observed(&mut self, generation: Option<i64>) {
        self.observed_generation = generation;
    }
}
