//! The kind whose controllers are measured, and what its objects are made of; the Go program has the same.
#![allow(unreachable_pub)] // of copies that the derive makes

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, PodSpec, PodTemplateSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::{CustomResource, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

#[derive(CustomResource, Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[kube(
    group = "bench.example.com",
    version = "v1",
    kind = "Site",
    namespaced,
    schema = "disabled",
    status = "SiteStatus"
)]
pub struct SiteSpec {
    pub html: String,
    pub replicas: i32,
}

#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteStatus {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    #[serde(default)]
    pub ready_replicas: i32,
}

/// The label of all that is made for Sites.
pub const LABEL: &str = "app.kubernetes.io/name";
pub const NAME: &str = "site";

/// What the cluster is told of the kind.
pub fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "sites.bench.example.com"},
        "spec": {
            "group": "bench.example.com", "scope": "Namespaced",
            "names": {"kind": "Site", "listKind": "SiteList", "plural": "sites", "singular": "site"},
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": {"status": {}},
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["html", "replicas"], "properties": {
                        "html": {"type": "string"}, "replicas": {"type": "integer", "format": "int32"},
                    }},
                    "status": {"type": "object", "properties": {
                        "observedGeneration": {"type": "integer", "format": "int64"},
                        "readyReplicas": {"type": "integer", "format": "int32"},
                    }},
                }}},
            }],
        },
    })
}

pub fn page(site: &Site) -> ConfigMap {
    ConfigMap {
        metadata: metadata(site),
        data: Some([("index.html".to_owned(), site.spec.html.clone())].into()),
        ..ConfigMap::default()
    }
}

pub fn servers(site: &Site) -> Deployment {
    let server = Container {
        name: "server".to_owned(),
        image: Some("nginx:1.29-alpine".to_owned()),
        ports: Some(vec![ContainerPort {
            container_port: 80,
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(vec![VolumeMount {
            name: "page".to_owned(),
            mount_path: "/usr/share/nginx/html".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let page = Volume {
        name: "page".to_owned(),
        config_map: Some(ConfigMapVolumeSource {
            name: site.name_any(),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    };
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(site)),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![server],
            volumes: Some(vec![page]),
            ..PodSpec::default()
        }),
    };
    Deployment {
        metadata: metadata(site),
        spec: Some(DeploymentSpec {
            replicas: Some(site.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(labels(site)),
                ..LabelSelector::default()
            },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// What is seen of a Site.
pub fn status(site: &Site, servers: &Deployment) -> SiteStatus {
    let status = servers.status.as_ref();
    SiteStatus {
        observed_generation: site.metadata.generation,
        ready_replicas: status.and_then(|status| status.ready_replicas).unwrap_or(0),
    }
}

/// Children have the Site's name and live beside it.
fn metadata(site: &Site) -> ObjectMeta {
    ObjectMeta {
        name: Some(site.name_any()),
        namespace: site.namespace(),
        labels: Some(labels(site)),
        ..ObjectMeta::default()
    }
}

fn labels(site: &Site) -> BTreeMap<String, String> {
    [
        (LABEL.to_owned(), NAME.to_owned()),
        ("app.kubernetes.io/instance".to_owned(), site.name_any()),
    ]
    .into()
}
