//! What happens to databases, and what must hold meanwhile.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service, ServicePort, ServiceSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Client;
use kube::core::{ApiResource, ObjectMeta};
use serde_json::{Value, json};
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use super::{Database, DatabasePhase, DatabaseSpec, DatabaseStatus, FINALIZER};
use crate::kit::acts::{Act, create, delete, patch};
use crate::kit::history::Moment;
use crate::kit::scenario::Scenario;
use crate::kit::{named, secret, workloads};

/// Databases, and their users.
#[derive(Default)]
pub(crate) struct Databases;

/// A Database with this Secret.
pub(super) fn database(name: &str, replicas: i32, secret: &str) -> Database {
    let spec = DatabaseSpec {
        replicas,
        storage: "1Gi".to_owned(),
        secret: secret.to_owned(),
    };
    Database::new(name, spec)
}

/// A Service that is managed by somebody else's controller, who is a ConfigMap.
pub(super) fn foreign_service(name: &str, owner: &ConfigMap) -> Service {
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        name: owner.metadata.name.clone().unwrap_or_default(),
        uid: owner.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        ..OwnerReference::default()
    };
    Service {
        metadata: ObjectMeta {
            owner_references: Some(vec![owner]),
            ..named(name)
        },
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort {
                port: 1,
                ..ServicePort::default()
            }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

impl Scenario for Databases {
    async fn prepare(&self, env: &mut TestEnv) -> Result<(), EnvError> {
        env.install::<Database>().await?;
        env.run(workloads::play);
        Ok(())
    }

    fn manager(&self, client: Client) -> Result<Manager> {
        super::manager(client)
    }

    fn kinds(&self) -> Vec<ApiResource> {
        vec![
            ApiResource::erase::<Database>(&()),
            ApiResource::erase::<StatefulSet>(&()),
            ApiResource::erase::<Service>(&()),
            ApiResource::erase::<Secret>(&()),
        ]
    }

    fn script(&self) -> Vec<Act> {
        vec![
            create(&secret("first", "one")),
            create(&database("main", 2, "first")),
            create(&database("early", 1, "late")),
            patch::<Database>("main", json!({"spec": {"replicas": 3}})),
            patch::<StatefulSet>("main", json!({"spec": {"replicas": 7}})),
            create(&secret("late", "two")),
            delete::<Service>("early"),
            patch::<Secret>("first", json!({"stringData": {"password": "three"}})),
            create(&database("brief", 1, "first")),
            patch::<StatefulSet>("main", json!({"metadata": {"ownerReferences": null}})),
            delete::<StatefulSet>("early"),
            delete::<Database>("brief"),
            delete::<Secret>("late"),
            create(&secret("late", "four")),
            create(&database("brief", 2, "late")),
            patch::<Service>(
                "main",
                json!({"spec": {"selector": {"app.kubernetes.io/name": "other"}}}),
            ),
            patch::<Database>("main", json!({"spec": {"replicas": 1, "secret": "late"}})),
            create(&database("never", 1, "nothing")),
            delete::<Secret>("first"),
            create(&database("gone", 1, "late")),
            delete::<Database>("gone"),
        ]
    }

    /// *One* and *Held*; *Declared*: the phase goes the declared ways; *Forward*: the status never goes back to an older spec.
    fn always(&self, moment: &Moment<'_>) -> Result<(), String> {
        moment.one_and_held("Database", &["StatefulSet", "Service"], FINALIZER)?;
        let (Some(after), Some(before)) = (moment.changed("Database"), moment.before) else {
            return Ok(());
        };
        if after["metadata"]["uid"] != before["metadata"]["uid"] {
            return Ok(());
        }
        let status = |object: &Value| {
            let status = serde_json::from_value::<Option<DatabaseStatus>>(object["status"].clone());
            status
                .map(Option::unwrap_or_default)
                .map_err(|error| error.to_string())
        };
        let (before, after) = (status(before)?, status(after)?);
        if let Some(to) = &after.phase {
            let legal = DatabasePhase::legal(before.phase.as_ref(), to);
            legal.map_err(|error| format!("Declared: {error}"))?;
        }
        if after.observed_generation < before.observed_generation {
            return Err("Forward: it is about an older spec".to_owned());
        }
        Ok(())
    }
}
