//! What happens to websites, and what must hold meanwhile.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Client;
use kube::core::ApiResource;
use sample_controller::{Website, WebsiteSpec};
use serde_json::json;
use trimtab::prelude::*;
use trimtab::testing::{EnvError, TestEnv};

use crate::kit::acts::{Act, create, delete, patch};
use crate::kit::history::Moment;
use crate::kit::scenario::Scenario;
use crate::kit::workloads;

/// The sample's own finalizer, which it does not tell others.
const FINALIZER: &str = "samples.example.com/unpublish";

/// Websites, and their authors.
#[derive(Default)]
pub(crate) struct Websites;

pub(super) fn website(name: &str, replicas: i32) -> Website {
    let spec = WebsiteSpec {
        html: format!("<h1>{name}</h1>"),
        replicas,
        host: None,
    };
    Website::new(name, spec)
}

impl Scenario for Websites {
    async fn prepare(&self, env: &mut TestEnv) -> Result<(), EnvError> {
        env.install::<Website>().await?;
        env.run(workloads::play);
        Ok(())
    }

    fn manager(&self, client: Client) -> Result<Manager> {
        let manager = Manager::new(client).name(sample_controller::NAME);
        sample_controller::add_to(&manager)?;
        Ok(manager)
    }

    fn kinds(&self) -> Vec<ApiResource> {
        vec![
            ApiResource::erase::<Website>(&()),
            ApiResource::erase::<ConfigMap>(&()),
            ApiResource::erase::<Deployment>(&()),
            ApiResource::erase::<Service>(&()),
        ]
    }

    fn script(&self) -> Vec<Act> {
        vec![
            create(&website("hello", 2)),
            create(&website("world", 1)),
            patch::<Website>("hello", json!({"spec": {"html": "<h1>Hi</h1>"}})),
            patch::<Deployment>("hello", json!({"spec": {"replicas": 9}})),
            delete::<ConfigMap>("world"),
            patch::<Website>(
                "hello",
                json!({"spec": {"replicas": 3, "host": "hello.example.com"}}),
            ),
            patch::<ConfigMap>("hello", json!({"data": {"index.html": "<h1>Gotcha</h1>"}})),
            delete::<Website>("world"),
            patch::<Service>("hello", json!({"metadata": {"ownerReferences": null}})),
            create(&website("world", 4)),
            delete::<Deployment>("hello"),
            patch::<Website>("world", json!({"spec": {"replicas": 0}})),
            patch::<Website>("hello", json!({"spec": {"host": null}})),
            create(&website("brief", 1)),
            delete::<Website>("brief"),
        ]
    }

    /// *One* and *Held*.
    fn always(&self, moment: &Moment<'_>) -> Result<(), String> {
        moment.one_and_held("Website", &["ConfigMap", "Deployment", "Service"], FINALIZER)
    }
}
