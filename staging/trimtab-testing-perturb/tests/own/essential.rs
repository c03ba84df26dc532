//! The controllers that are part of every cluster: garbage collection, namespaces and what every namespace has.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{Api, DeleteParams, PropagationPolicy};
use trimtab_testing_perturb::{Perturb, Scenario};

use crate::controllers;

fn alone(controller: &'static str, steps: fn(Scenario) -> Scenario) -> Perturb {
    controllers(vec![controller]).scenario(steps).plans(40)
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

fn map(name: &str) -> ConfigMap {
    ConfigMap {
        metadata: named(name),
        ..ConfigMap::default()
    }
}

fn namespace(name: &str) -> Namespace {
    Namespace {
        metadata: named(name),
        ..Namespace::default()
    }
}

/// Creates a Secret that the ConfigMap `owner` owns.
async fn owned(client: Client, name: &'static str) -> Result<(), String> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let owner = maps.get("owner").await.map_err(|error| error.to_string())?;
    let secret = Secret {
        metadata: ObjectMeta {
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                name: "owner".to_owned(),
                uid: owner.metadata.uid.unwrap_or_default(),
                block_owner_deletion: Some(true),
                ..OwnerReference::default()
            }]),
            ..named(name)
        },
        ..Secret::default()
    };
    let secrets: Api<Secret> = Api::default_namespaced(client);
    let made = secrets.create(&kube::api::PostParams::default(), &secret).await;
    made.map(drop).map_err(|error| error.to_string())
}

async fn delete_owner(client: Client, policy: PropagationPolicy) -> Result<(), String> {
    let params = DeleteParams {
        propagation_policy: Some(policy),
        ..DeleteParams::default()
    };
    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    let deleted = maps.delete("owner", &params).await;
    deleted.map(drop).map_err(|error| error.to_string())
}

/// An owner with two dependents, and a bystander.
fn a_family(steps: Scenario) -> Scenario {
    steps
        .create(map("owner"))
        .create(map("bystander"))
        .act("create a Secret that owner owns", |client| owned(client, "one"))
        .act("create a Secret that owner owns", |client| owned(client, "two"))
        .wait(Duration::from_secs(5))
}

#[test]
fn garbage_is_collected_in_the_background() {
    alone("garbage-collector-controller", |steps| {
        a_family(steps)
            .act("delete the owner", |client| {
                delete_owner(client, PropagationPolicy::Background)
            })
            .until("its dependents are gone", |world| world.count::<Secret>() == 0)
    })
    .always("bystanders stay", |world| {
        world.count::<Secret>() == 0 || world.get::<ConfigMap>("default", "bystander").is_some()
    })
    .check();
}

#[test]
fn garbage_is_collected_in_the_foreground() {
    alone("garbage-collector-controller", |steps| {
        a_family(steps)
            .act("delete the owner", |client| {
                delete_owner(client, PropagationPolicy::Foreground)
            })
            .until("all are gone", |world| {
                world.count::<Secret>() == 0 && world.get::<ConfigMap>("default", "owner").is_none()
            })
    })
    .always("the owner goes last", |world| {
        let owner = world.get::<ConfigMap>("default", "owner");
        let begun = world.get::<ConfigMap>("default", "bystander").is_some();
        !begun || owner.is_some() || world.count::<Secret>() == 0
    })
    .check();
}

/// As the collector's docs say, and as kube-controller-manager has it: a dependent that no watch has told of when its owner is
/// released is not released with it, but collected later. The kit finds that, and nothing else.
#[test]
fn dependents_are_released_that_watches_have_told_of() {
    let test = alone("garbage-collector-controller", |steps| {
        let is_gone =
            |world: &trimtab_testing_env::World| world.get::<ConfigMap>("default", "owner").is_none();
        a_family(steps)
            .act("delete the owner", |client| {
                delete_owner(client, PropagationPolicy::Orphan)
            })
            .until("the owner is gone", is_gone)
    });
    for failure in test.report().failures {
        let unseen = ["hold", "lag", "down", "skip", "expired", "cut", "error"];
        let trouble = failure.plan.split('@').next().unwrap_or_default();
        let collected = failure
            .wrong
            .iter()
            .all(|wrong| wrong.starts_with("Converges: Secret default/"));
        assert!(unseen.contains(&trouble) && collected, "{failure}");
    }
}

#[test]
fn namespaces_are_emptied() {
    alone("namespace-controller", |steps| {
        let content = ConfigMap {
            metadata: ObjectMeta {
                namespace: Some("team".to_owned()),
                ..named("content")
            },
            ..ConfigMap::default()
        };
        steps
            .create(namespace("team"))
            .create(content)
            .wait(Duration::from_secs(5))
            .delete::<Namespace>("team")
            .until("it is gone", |world| world.get::<Namespace>("", "team").is_none())
    })
    .always("it goes last", |world| {
        world.get::<Namespace>("", "team").is_some() || world.get::<ConfigMap>("team", "content").is_none()
    })
    .check();
}

#[test]
fn service_accounts_are_there_and_come_back() {
    alone("serviceaccount-controller", |steps| {
        let has =
            |world: &trimtab_testing_env::World| world.get::<ServiceAccount>("team", "default").is_some();
        steps
            .create(namespace("team"))
            .until("it has its account", has)
            .delete::<ServiceAccount>("team/default")
            .until("it has its account", has)
    })
    .check();
}

#[test]
fn certificates_are_published_and_mended() {
    alone("root-ca-certificate-publisher-controller", |steps| {
        let is_right = |world: &trimtab_testing_env::World| {
            let map = world.get::<ConfigMap>("team", "kube-root-ca.crt");
            let data = map.and_then(|map| map.data).unwrap_or_default();
            data.get("ca.crt").is_some_and(|text| text == "a certificate")
        };
        steps
            .create(namespace("team"))
            .until("it has them", is_right)
            .edit::<ConfigMap>("team/kube-root-ca.crt", |map| {
                map.data = Some([("ca.crt".to_owned(), "another".to_owned())].into());
            })
            .until("they are right", is_right)
    })
    .check();
}
