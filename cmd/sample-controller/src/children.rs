//! What a Website is made of: the desired state of each child, as a function of the Website alone.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec};
use k8s_openapi::api::core::v1::{
    ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, PodSpec, PodTemplateSpec, Service,
    ServicePort, ServiceSpec, Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

use crate::Website;

const IMAGE: &str = "nginx:1.29-alpine";
const PORT: i32 = 80;
/// Tells external-dns, where one runs, which name should lead to a Service.
const HOST_ANNOTATION: &str = "external-dns.alpha.kubernetes.io/hostname";

/// The page.
pub(crate) fn page(site: &Website) -> ConfigMap {
    ConfigMap {
        metadata: metadata(site),
        data: Some([("index.html".to_owned(), site.spec.html.clone())].into()),
        ..ConfigMap::default()
    }
}

/// The servers that show the page.
pub(crate) fn servers(site: &Website) -> Deployment {
    let volume = "page";
    let server = Container {
        name: "server".to_owned(),
        image: Some(IMAGE.to_owned()),
        ports: Some(vec![ContainerPort {
            container_port: PORT,
            ..ContainerPort::default()
        }]),
        volume_mounts: Some(vec![VolumeMount {
            name: volume.to_owned(),
            mount_path: "/usr/share/nginx/html".to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let page = ConfigMapVolumeSource {
        name: site.name_any(),
        ..ConfigMapVolumeSource::default()
    };
    let pods = PodSpec {
        containers: vec![server],
        volumes: Some(vec![Volume {
            name: volume.to_owned(),
            config_map: Some(page),
            ..Volume::default()
        }]),
        ..PodSpec::default()
    };
    Deployment {
        metadata: metadata(site),
        spec: Some(DeploymentSpec {
            replicas: Some(site.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(labels(site)),
                ..LabelSelector::default()
            },
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(labels(site)),
                    ..ObjectMeta::default()
                }),
                spec: Some(pods),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The address of the servers.
pub(crate) fn address(site: &Website) -> Service {
    let host = site.spec.host.as_ref();
    Service {
        metadata: ObjectMeta {
            annotations: host.map(|host| [(HOST_ANNOTATION.to_owned(), host.clone())].into()),
            ..metadata(site)
        },
        spec: Some(ServiceSpec {
            selector: Some(labels(site)),
            ports: Some(vec![ServicePort {
                name: Some("http".to_owned()),
                port: PORT,
                target_port: Some(IntOrString::Int(PORT)),
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Children have the Website's name and live beside it.
fn metadata(site: &Website) -> ObjectMeta {
    ObjectMeta {
        name: Some(site.name_any()),
        namespace: site.namespace(),
        labels: Some(labels(site)),
        ..ObjectMeta::default()
    }
}

fn labels(site: &Website) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name".to_owned(), "website".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), site.name_any()),
    ]
    .into()
}
