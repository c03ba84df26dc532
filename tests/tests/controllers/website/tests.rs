//! What users expect of websites, beyond what the sample's own tests say.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use sample_controller::Website;
use serde_json::json;
use trimtab::apimachinery::owner;
use trimtab::testing::{EnvError, TestEnv};

use super::scenario::website;
use crate::kit::scenario::Scenario;
use crate::kit::{condition, config_map};

/// A cluster with the controller, and the websites there.
async fn started() -> Result<(TestEnv, Api<Website>), EnvError> {
    let mut env = TestEnv::start().await?;
    super::Scenario.prepare(&mut env).await?;
    env.run(sample_controller::run);
    let sites = Api::default_namespaced(env.client());
    Ok((env, sites))
}

/// Whether a condition of the current spec says so.
fn says(site: &Website, type_: &str, expected: (&str, &str)) -> bool {
    let status = site.status.clone().unwrap_or_default();
    status.observed_generation == site.metadata.generation
        && condition(&status.conditions, type_) == Some(expected)
}

#[tokio::test(start_paused = true)]
async fn a_change_reaches_the_page_its_servers_and_their_address() -> Result<(), EnvError> {
    let (env, sites) = started().await?;
    sites.create(&PostParams::default(), &website("hello", 2)).await?;
    env.eventually(&sites, "hello", |site| {
        says(site, "Available", ("True", "ServersReady"))
    })
    .await?;
    let change = json!({"spec": {"html": "<h1>Hi</h1>", "replicas": 3, "host": "hello.example.com"}});
    sites
        .patch("hello", &PatchParams::default(), &Patch::Merge(change))
        .await?;
    let three = |site: &Website| {
        says(site, "Available", ("True", "ServersReady"))
            && site
                .status
                .as_ref()
                .is_some_and(|status| status.ready_replicas == 3)
    };
    env.eventually(&sites, "hello", three).await?;

    let pages = Api::<ConfigMap>::default_namespaced(env.client());
    let page = pages.get("hello").await?.data.unwrap_or_default();
    assert_eq!(page.get("index.html").map(String::as_str), Some("<h1>Hi</h1>"));
    let addresses = Api::<Service>::default_namespaced(env.client());
    let host = addresses
        .get("hello")
        .await?
        .annotations()
        .values()
        .cloned()
        .collect::<Vec<_>>();
    assert_eq!(host, ["hello.example.com"]);
    env.shutdown().await
}

#[tokio::test(start_paused = true)]
async fn what_another_controller_has_made_stays_as_it_is() -> Result<(), EnvError> {
    let (env, sites) = started().await?;
    let maps = Api::<ConfigMap>::default_namespaced(env.client());
    let somebody = maps
        .create(&PostParams::default(), &config_map("somebody"))
        .await?;
    let mut theirs = ObjectMeta {
        name: Some("hello".to_owned()),
        namespace: Some("default".to_owned()),
        ..ObjectMeta::default()
    };
    owner::set_controller_reference(&somebody, &mut theirs).expect("it is nobody's yet");
    let theirs = ConfigMap {
        metadata: theirs,
        ..ConfigMap::default()
    };
    let theirs = maps.create(&PostParams::default(), &theirs).await?;

    sites.create(&PostParams::default(), &website("hello", 2)).await?;
    let site = env
        .eventually(&sites, "hello", |site| says(site, "Synced", ("False", "Failed")))
        .await?;
    let conditions = site.status.unwrap_or_default().conditions;
    assert!(
        conditions[0]
            .message
            .contains("already owned by another ConfigMap"),
        "{conditions:?}"
    );
    assert_eq!(
        maps.get("hello").await?.resource_version(),
        theirs.resource_version()
    );
    let servers = Api::<Deployment>::default_namespaced(env.client());
    assert!(
        servers.get_opt("hello").await?.is_none(),
        "a site without its page has no servers"
    );

    // What nobody controls is taken over.
    maps.patch(
        "hello",
        &PatchParams::default(),
        &Patch::Merge(json!({"metadata": {"ownerReferences": null}})),
    )
    .await?;
    env.eventually(&sites, "hello", |site| {
        says(site, "Available", ("True", "ServersReady"))
    })
    .await?;
    env.shutdown().await
}
