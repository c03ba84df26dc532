//! The controller against a control plane inside the test: how a controller is tested.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use sample_controller::{Website, WebsiteSpec};
use serde_json::json;
use trimtab_testing::{EnvError, TestEnv};

async fn started() -> Result<(TestEnv, Api<Website>, Api<Deployment>), EnvError> {
    let mut env = TestEnv::start().await?;
    env.install::<Website>().await?;
    env.run(sample_controller::run);
    let sites: Api<Website> = Api::default_namespaced(env.client());
    let spec = WebsiteSpec {
        html: "<h1>Hello</h1>".to_owned(),
        replicas: 2,
        host: None,
    };
    sites
        .create(&PostParams::default(), &Website::new("hello", spec))
        .await?;
    let servers = Api::default_namespaced(env.client());
    Ok((env, sites, servers))
}

fn replicas(servers: &Deployment) -> Option<i32> {
    servers.spec.as_ref().and_then(|spec| spec.replicas)
}

fn holds(site: &Website, condition: &str) -> bool {
    let mut conditions = site.status.iter().flat_map(|status| &status.conditions);
    conditions.any(|c| {
        c.type_ == condition && c.status == "True" && c.observed_generation == site.metadata.generation
    })
}

#[tokio::test]
async fn a_website_gets_what_it_is_made_of_and_takes_it_along() -> Result<(), EnvError> {
    let (env, sites, servers) = started().await?;
    env.eventually(&sites, "hello", |site| holds(site, "Synced"))
        .await?;
    let pages: Api<ConfigMap> = Api::default_namespaced(env.client());
    let page = env
        .eventually(&pages, "hello", |page| page.data.is_some())
        .await?;
    assert_eq!(
        page.data
            .and_then(|mut data| data.remove("index.html"))
            .as_deref(),
        Some("<h1>Hello</h1>")
    );
    assert_eq!(replicas(&servers.get("hello").await?), Some(2));

    sites.delete("hello", &DeleteParams::default()).await?;
    env.eventually_gone(&sites, "hello").await?;
    let addresses: Api<Service> = Api::default_namespaced(env.client());
    assert!(
        addresses.get_opt("hello").await?.is_none(),
        "the address goes before the website"
    );
    env.eventually_gone(&pages, "hello").await?;
    env.eventually_gone(&servers, "hello").await?;
    env.shutdown().await
}

#[tokio::test]
async fn what_others_change_or_delete_is_repaired() -> Result<(), EnvError> {
    let (env, _, servers) = started().await?;
    let first = env
        .eventually(&servers, "hello", |servers| replicas(servers) == Some(2))
        .await?;

    let scaled = Patch::Merge(json!({"spec": {"replicas": 9}}));
    servers.patch("hello", &PatchParams::default(), &scaled).await?;
    env.eventually(&servers, "hello", |servers| replicas(servers) == Some(2))
        .await?;

    servers.delete("hello", &DeleteParams::default()).await?;
    env.eventually(&servers, "hello", |servers| servers.uid() != first.uid())
        .await?;
    env.shutdown().await
}

#[tokio::test]
async fn a_website_is_available_when_its_servers_are() -> Result<(), EnvError> {
    let (env, sites, servers) = started().await?;
    env.eventually(&servers, "hello", |_| true).await?;
    let condition =
        json!({"type": "Available", "status": "True", "reason": "Test", "message": "Told by the test."});
    let status =
        Patch::Merge(json!({"status": {"readyReplicas": 2, "replicas": 2, "conditions": [condition]}}));
    servers
        .patch_status("hello", &PatchParams::default(), &status)
        .await?;
    let site = env
        .eventually(&sites, "hello", |site| holds(site, "Available"))
        .await?;
    assert_eq!(site.status.map(|status| status.ready_replicas), Some(2));
    env.shutdown().await
}
