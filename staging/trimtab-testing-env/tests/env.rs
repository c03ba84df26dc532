//! The environment from its user's side: real garbage collection, real namespaces, custom resources, no sharing.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, PolicyRule};
use kube::api::{Api, DeleteParams, ListParams, ObjectMeta, PostParams};
use kube::{Client, CustomResource, KubeSchema, Resource, ResourceExt};
use serde::{Deserialize, Serialize};
use trimtab_testing_env::{EnvError, TestEnv};

#[derive(CustomResource, Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(group = "example.com", version = "v1", kind = "Toy", namespaced)]
struct ToySpec {
    #[serde(default = "red")]
    colour: String,
}

fn red() -> String {
    "red".to_owned()
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn config_map(client: &Client, metadata: ObjectMeta) -> Result<ConfigMap, kube::Error> {
    let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
    api.create(
        &PostParams::default(),
        &ConfigMap {
            metadata,
            ..ConfigMap::default()
        },
    )
    .await
}

#[tokio::test]
async fn what_a_deleted_owner_owned_is_collected() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    let client = env.client();
    let owner = config_map(&client, named("owner")).await?;
    let owned = ObjectMeta {
        owner_references: owner.controller_owner_ref(&()).map(|r| vec![r]),
        ..named("owned")
    };
    let secrets: Api<Secret> = Api::default_namespaced(client.clone());
    secrets
        .create(
            &PostParams::default(),
            &Secret {
                metadata: owned,
                ..Secret::default()
            },
        )
        .await?;
    config_map(&client, named("bystander")).await?;

    let maps: Api<ConfigMap> = Api::default_namespaced(client);
    maps.delete("owner", &DeleteParams::default()).await?;
    env.eventually_gone(&secrets, "owned").await?;
    maps.get("bystander").await?;
    env.shutdown().await
}

#[tokio::test]
async fn a_deleted_namespace_takes_its_content_along() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    let namespaces: Api<Namespace> = Api::all(env.client());
    namespaces
        .create(
            &PostParams::default(),
            &Namespace {
                metadata: named("team"),
                ..Namespace::default()
            },
        )
        .await?;
    let secrets: Api<Secret> = Api::namespaced(env.client(), "team");
    secrets
        .create(
            &PostParams::default(),
            &Secret {
                metadata: named("key"),
                ..Secret::default()
            },
        )
        .await?;

    namespaces.delete("team", &DeleteParams::default()).await?;
    env.eventually_gone(&namespaces, "team").await?;
    assert!(secrets.get_opt("key").await?.is_none());
    env.shutdown().await
}

#[tokio::test]
async fn custom_resources_are_served_once_installed() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    env.install::<Toy>().await?;
    let toys: Api<Toy> = Api::default_namespaced(env.client());
    let bare: Toy = Toy::new(
        "bear",
        ToySpec {
            colour: "brown".to_owned(),
        },
    );
    let made = toys.create(&PostParams::default(), &bare).await?;
    assert_eq!((made.name_any().as_str(), made.spec), ("bear", bare.spec));
    env.shutdown().await
}

#[tokio::test]
async fn a_user_may_do_what_is_allowed_and_no_more() -> Result<(), EnvError> {
    let role = |name: &str, resource: &str| ClusterRole {
        metadata: named(name),
        rules: Some(vec![PolicyRule {
            api_groups: Some(vec![String::new()]),
            resources: Some(vec![resource.to_owned()]),
            verbs: vec!["list".to_owned()],
            ..PolicyRule::default()
        }]),
        ..ClusterRole::default()
    };
    let env = TestEnv::start().await?;
    for user in ["reader", "system:serviceaccount:default:reader"] {
        let maps: Api<ConfigMap> = Api::all(env.client_as(user));
        let secrets: Api<Secret> = Api::all(env.client_as(user));
        let may = async || {
            let all = ListParams::default();
            let refused = |error: kube::Error| assert!(matches!(error, kube::Error::Api(s) if s.code == 403));
            let maps = maps.list(&all).await.map_err(refused).is_ok();
            (maps, secrets.list(&all).await.map_err(refused).is_ok())
        };
        assert_eq!(may().await, (false, false), "{user} begins with nothing");
        env.allow(user, role("reading", "configmaps")).await?;
        assert_eq!(may().await, (true, false), "{user}");
        env.allow(user, role("more", "secrets")).await?;
        assert_eq!(may().await, (true, true), "{user}: a second role comes on top");
        env.allow(user, role("reading", "pods")).await?;
        assert_eq!(
            may().await,
            (false, true),
            "{user}: a role of the same name takes the place of the first"
        );
        env.allow("somebody else", role("more", "secrets")).await?;
        assert_eq!(may().await, (false, false), "{user}: so does its user");
    }
    env.shutdown().await
}

#[tokio::test]
async fn environments_share_nothing() -> Result<(), EnvError> {
    let (one, other) = (TestEnv::start().await?, TestEnv::start().await?);
    config_map(&one.client(), named("here")).await?;
    let elsewhere: Api<ConfigMap> = Api::default_namespaced(other.client());
    assert!(elsewhere.get_opt("here").await?.is_none());
    one.shutdown().await?;
    other.shutdown().await
}

#[tokio::test]
async fn who_waits_in_vain_is_told_what_was_seen() -> Result<(), EnvError> {
    let env = TestEnv::start().await?;
    let mut metadata = named("still");
    metadata.labels = Some(BTreeMap::from([("state".to_owned(), "unchanged".to_owned())]));
    config_map(&env.client(), metadata).await?;
    let maps: Api<ConfigMap> = Api::default_namespaced(env.client());
    let patience = Duration::from_millis(50);
    let gave_up = env
        .eventually_within(patience, &maps, "still", |map| map.data.is_some())
        .await;
    let text = gave_up.err().map(|e| e.to_string()).unwrap_or_default();
    assert!(text.contains("still") && text.contains("unchanged"), "{text}");
    env.shutdown().await
}
