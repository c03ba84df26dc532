//! What users expect of databases.

use std::time::Duration;

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use trimtab::testing::{EnvError, TestEnv};

use super::children::SECRET_VERSION;
use super::scenario::{database, foreign_service};
use super::{Database, DatabasePhase, DatabaseStatus};
use crate::kit::scenario::Scenario;
use crate::kit::{condition, config_map, secret};

/// A cluster with the controller.
struct Cluster {
    env: TestEnv,
    databases: Api<Database>,
    sets: Api<StatefulSet>,
    services: Api<Service>,
    secrets: Api<Secret>,
}

impl Cluster {
    async fn start() -> Result<Self, EnvError> {
        let mut env = TestEnv::start().await?;
        super::Scenario.prepare(&mut env).await?;
        env.run(|client, stop| async move { super::manager(client)?.run(stop).await });
        Ok(Self {
            databases: Api::default_namespaced(env.client()),
            sets: Api::default_namespaced(env.client()),
            services: Api::default_namespaced(env.client()),
            secrets: Api::default_namespaced(env.client()),
            env,
        })
    }

    /// A cluster in which a database of this name runs on two servers.
    async fn with_database(name: &str) -> Result<Self, EnvError> {
        let cluster = Self::start().await?;
        cluster
            .secrets
            .create(&PostParams::default(), &secret("admin", "one"))
            .await?;
        cluster
            .databases
            .create(&PostParams::default(), &database(name, 2, "admin"))
            .await?;
        cluster.until(name, DatabasePhase::Running).await?;
        Ok(cluster)
    }

    async fn until(&self, name: &str, phase: DatabasePhase) -> Result<DatabaseStatus, EnvError> {
        let is = |database: &Database| {
            let status = database.status.as_ref();
            status.is_some_and(|status| {
                status.phase.as_ref() == Some(&phase)
                    && status.observed_generation == database.metadata.generation
            })
        };
        let database = self.env.eventually(&self.databases, name, is).await?;
        Ok(database.status.unwrap_or_default())
    }

    async fn change(&self, name: &str, patch: Value) -> Result<(), kube::Error> {
        let patch = Patch::Merge(patch);
        self.databases
            .patch(name, &PatchParams::default(), &patch)
            .await
            .map(drop)
    }
}

fn replicas(set: &StatefulSet) -> Option<i32> {
    set.spec.as_ref().and_then(|spec| spec.replicas)
}

fn secret_version(set: &StatefulSet) -> Option<&String> {
    let template = set.spec.as_ref()?.template.metadata.as_ref()?;
    template.annotations.as_ref()?.get(SECRET_VERSION)
}

#[tokio::test(start_paused = true)]
async fn a_database_gets_its_servers_and_says_when_they_are_ready() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    let database = cluster.databases.get("main").await?;
    let owner = database.uid();
    let set = cluster.sets.get("main").await?;
    let service = cluster.services.get("main").await?;
    assert_eq!(replicas(&set), Some(2));
    for owners in [set.owner_references(), service.owner_references()] {
        assert_eq!(
            owners
                .iter()
                .map(|owner| Some(owner.uid.clone()))
                .collect::<Vec<_>>(),
            std::slice::from_ref(&owner)
        );
    }
    let status = database.status.unwrap_or_default();
    assert_eq!(status.ready_replicas, 2);
    assert_eq!(condition(&status.conditions, "Synced"), Some(("True", "Applied")));
    assert_eq!(
        condition(&status.conditions, "Available"),
        Some(("True", "ServersReady"))
    );
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_servers_and_one_that_cannot_be_is_refused() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    cluster.change("main", json!({"spec": {"replicas": 5}})).await?;
    cluster
        .env
        .eventually(&cluster.sets, "main", |set| replicas(set) == Some(5))
        .await?;
    let status = cluster.until("main", DatabasePhase::Running).await?;
    assert_eq!(status.ready_replicas, 5);

    let refused = cluster.change("main", json!({"spec": {"storage": "2Gi"}})).await;
    let words = refused.expect_err("it cannot be changed").to_string();
    assert!(
        words.contains("the size of a database cannot be changed"),
        "{words}"
    );
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_database_waits_for_its_secret_and_follows_it() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    cluster
        .databases
        .create(&PostParams::default(), &database("other", 1, "late"))
        .await?;
    let status = cluster.until("other", DatabasePhase::Pending).await?;
    assert_eq!(
        condition(&status.conditions, "Synced"),
        Some(("False", "NoSecret"))
    );
    assert!(cluster.sets.get_opt("other").await?.is_none());

    cluster
        .secrets
        .create(&PostParams::default(), &secret("late", "two"))
        .await?;
    cluster.until("other", DatabasePhase::Running).await?;
    let (main, other) = (cluster.sets.get("main").await?, cluster.sets.get("other").await?);

    let password = Patch::Merge(json!({"stringData": {"password": "three"}}));
    let changed = cluster
        .secrets
        .patch("late", &PatchParams::default(), &password)
        .await?;
    let version = changed.resource_version();
    assert_ne!(secret_version(&other), version.as_ref());
    cluster
        .env
        .eventually(&cluster.sets, "other", |set| {
            secret_version(set) == version.as_ref()
        })
        .await?;
    let untouched = cluster.sets.get("main").await?;
    assert_eq!(
        untouched.resource_version(),
        main.resource_version(),
        "it uses another Secret"
    );
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_others_change_or_delete_is_repaired() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    let owner = cluster.databases.get("main").await?.uid();
    let whole = |set: &StatefulSet| {
        let owners: Vec<_> = set
            .owner_references()
            .iter()
            .map(|owner| Some(owner.uid.clone()))
            .collect();
        replicas(set) == Some(2) && owners == std::slice::from_ref(&owner)
    };
    for damage in [
        json!({"spec": {"replicas": 9}}),
        json!({"metadata": {"ownerReferences": null}}),
    ] {
        let damaged = cluster
            .sets
            .patch("main", &PatchParams::default(), &Patch::Merge(damage))
            .await?;
        assert!(!whole(&damaged));
        cluster.env.eventually(&cluster.sets, "main", whole).await?;
    }
    let service = cluster.services.get("main").await?;
    cluster.services.delete("main", &DeleteParams::default()).await?;
    cluster
        .env
        .eventually(&cluster.services, "main", |now| now.uid() != service.uid())
        .await?;
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_another_controller_has_made_stays_as_it_is() -> Result<(), EnvError> {
    let cluster = Cluster::start().await?;
    cluster
        .secrets
        .create(&PostParams::default(), &secret("admin", "one"))
        .await?;
    let maps = Api::<ConfigMap>::default_namespaced(cluster.env.client());
    let somebody = maps
        .create(&PostParams::default(), &config_map("somebody"))
        .await?;
    let theirs = foreign_service("main", &somebody);
    let theirs = cluster.services.create(&PostParams::default(), &theirs).await?;

    cluster
        .databases
        .create(&PostParams::default(), &database("main", 1, "admin"))
        .await?;
    let refused = |database: &Database| {
        let status = database.status.as_ref();
        let synced = status.and_then(|status| condition(&status.conditions, "Synced"));
        synced == Some(("False", "Failed"))
    };
    let told = cluster
        .env
        .eventually(&cluster.databases, "main", refused)
        .await?;
    let conditions = told.status.unwrap_or_default().conditions;
    let why = &conditions
        .iter()
        .find(|condition| condition.type_ == "Synced")
        .expect("found above")
        .message;
    assert!(
        why.contains("already owned by another ConfigMap controller somebody"),
        "{why}"
    );
    assert_eq!(
        cluster.services.get("main").await?.resource_version(),
        theirs.resource_version()
    );
    assert!(
        cluster.sets.get_opt("main").await?.is_none(),
        "nothing is made by halves"
    );

    // Nobody tells the controller when it is free: it tries again.
    cluster.services.delete("main", &DeleteParams::default()).await?;
    let patience = Duration::from_secs(1100);
    let runs = |database: &Database| {
        database
            .status
            .as_ref()
            .is_some_and(|status| status.phase == Some(DatabasePhase::Running))
    };
    cluster
        .env
        .eventually_within(patience, &cluster.databases, "main", runs)
        .await?;
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn a_deleted_database_turns_clients_away_and_then_stops() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    // Somebody holds it too, so that its end can be seen.
    let held = json!({"metadata": {"finalizers": [super::FINALIZER, "example.com/look"]}});
    cluster.change("main", held).await?;
    cluster.databases.delete("main", &DeleteParams::default()).await?;
    cluster.until("main", DatabasePhase::Stopping).await?;
    cluster.env.eventually_gone(&cluster.services, "main").await?;
    let released = |database: &Database| database.finalizers() == ["example.com/look"];
    cluster
        .env
        .eventually(&cluster.databases, "main", released)
        .await?;
    let set = cluster.sets.get("main").await?;
    assert!(super::children::have_ended(&set), "{set:?}");

    cluster
        .change("main", json!({"metadata": {"finalizers": null}}))
        .await?;
    cluster.env.eventually_gone(&cluster.databases, "main").await?;
    cluster.env.eventually_gone(&cluster.sets, "main").await?;
    cluster.env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn nobody_takes_a_phase_back() -> Result<(), EnvError> {
    let cluster = Cluster::with_database("main").await?;
    let back = Patch::Merge(json!({"status": {"phase": "Pending"}}));
    let refused = cluster
        .databases
        .patch_status("main", &PatchParams::default(), &back)
        .await;
    let words = refused.expect_err("the schema says so").to_string();
    assert!(words.contains("phase"), "{words}");
    assert!(matches!("Paused".parse(), Ok(DatabasePhase::Other(newer)) if newer == "Paused"));
    cluster.env.shutdown().await
}
