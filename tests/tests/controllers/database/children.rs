//! What a Database is made of, as a function of the Database and of the version of its Secret, and what is to be seen of it.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, EnvVar, EnvVarSource, PersistentVolumeClaim, PersistentVolumeClaimSpec,
    PodSpec, PodTemplateSpec, SecretKeySelector, Service, ServicePort, ServiceSpec, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use kube::ResourceExt;

use super::Database;

const IMAGE: &str = "postgres:18-alpine";
const PORT: i32 = 5432;
/// Changes with the Secret, so that servers start again with the new password.
pub(super) const SECRET_VERSION: &str = "data.example.com/secret-version";

/// The servers, which keep their data in volumes of their own.
pub(super) fn servers(database: &Database, secret_version: &str) -> StatefulSet {
    let password = SecretKeySelector {
        name: database.spec.secret.clone(),
        key: "password".to_owned(),
        ..SecretKeySelector::default()
    };
    let server = Container {
        name: "server".to_owned(),
        image: Some(IMAGE.to_owned()),
        ports: Some(vec![ContainerPort {
            container_port: PORT,
            ..ContainerPort::default()
        }]),
        env: Some(vec![EnvVar {
            name: "POSTGRES_PASSWORD".to_owned(),
            value_from: Some(EnvVarSource {
                secret_key_ref: Some(password),
                ..EnvVarSource::default()
            }),
            ..EnvVar::default()
        }]),
        volume_mounts: Some(vec![VolumeMount {
            name: "data".to_owned(),
            mount_path: "/var/lib/postgresql".to_owned(),
            ..VolumeMount::default()
        }]),
        ..Container::default()
    };
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels(database)),
            annotations: Some([(SECRET_VERSION.to_owned(), secret_version.to_owned())].into()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            containers: vec![server],
            ..PodSpec::default()
        }),
    };
    StatefulSet {
        metadata: metadata(database),
        spec: Some(StatefulSetSpec {
            service_name: Some(database.name_any()),
            replicas: Some(database.spec.replicas),
            selector: LabelSelector {
                match_labels: Some(labels(database)),
                ..LabelSelector::default()
            },
            template,
            volume_claim_templates: Some(vec![volume(&database.spec.storage)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn volume(size: &str) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some("data".to_owned()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.to_owned()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// The address at which clients find the servers.
pub(super) fn address(database: &Database) -> Service {
    Service {
        metadata: metadata(database),
        spec: Some(ServiceSpec {
            selector: Some(labels(database)),
            ports: Some(vec![ServicePort {
                port: PORT,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// How many servers are ready, and whether that is all of them as they are wished now.
pub(super) fn readiness(servers: &StatefulSet) -> (i32, bool) {
    let status = servers.status.clone().unwrap_or_default();
    let ready = status.ready_replicas.unwrap_or(0);
    let current = status.observed_generation == servers.metadata.generation;
    (ready, current && ready == replicas(servers))
}

/// Whether the servers were told to end and have done so.
pub(super) fn have_ended(servers: &StatefulSet) -> bool {
    let status = servers.status.clone().unwrap_or_default();
    let current = status.observed_generation == servers.metadata.generation;
    current && replicas(servers) == 0 && status.replicas == 0
}

/// How many servers there should be.
pub(super) fn replicas(servers: &StatefulSet) -> i32 {
    let spec = servers.spec.as_ref();
    spec.and_then(|spec| spec.replicas).unwrap_or(1)
}

/// Children have the Database's name and live beside it.
fn metadata(database: &Database) -> ObjectMeta {
    ObjectMeta {
        name: Some(database.name_any()),
        namespace: database.namespace(),
        labels: Some(labels(database)),
        ..ObjectMeta::default()
    }
}

fn labels(database: &Database) -> BTreeMap<String, String> {
    [
        ("app.kubernetes.io/name".to_owned(), "database".to_owned()),
        ("app.kubernetes.io/instance".to_owned(), database.name_any()),
    ]
    .into()
}
