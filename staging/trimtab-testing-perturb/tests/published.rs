//! Controllers on another framework, kube-runtime as crates.io has it (kube-rs, Apache-2.0), that do what kube-rs' examples do:
//! `configmapgen_controller`, `secret_syncer` and `shared_stream_controllers`. They are written anew here; what is
//! borrowed is what they do, in which order, and when they try again.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Client, CustomResource, KubeSchema, Resource as _, ResourceExt as _};
use kube_runtime::controller::{Action, Controller};
use kube_runtime::finalizer::{self, Event, finalizer};
use kube_runtime::watcher;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use trimtab_testing_perturb::{Perturb, Report};

const PLANS: usize = 48;

#[derive(CustomResource, Clone, Debug, Deserialize, KubeSchema, PartialEq, Serialize)]
#[kube(group = "example.com", version = "v1", kind = "Generator", namespaced)]
struct GeneratorSpec {
    content: String,
}

fn named(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        ..ObjectMeta::default()
    }
}

async fn apply<K>(api: &Api<K>, name: &str, object: Value) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    api.patch(name, &PatchParams::apply("example"), &Patch::Apply(object))
        .await
        .map(drop)
}

/// All plans that fail, with what they are found by and what is wrong.
fn told(report: &Report) -> BTreeMap<String, Vec<String>> {
    let mut told = BTreeMap::<String, Vec<String>>::new();
    for failure in &report.failures {
        let trouble = failure.plan.split('@').next().unwrap_or_default().to_owned();
        told.entry(trouble)
            .or_default()
            .extend(failure.wrong.iter().cloned());
    }
    told
}

// === configmapgen_controller: a ConfigMap for each generator, applied and owned ===

async fn generate(client: Client) -> Result<(), Infallible> {
    async fn reconcile(generator: Arc<Generator>, client: Arc<Client>) -> Result<Action, kube::Error> {
        let api: Api<ConfigMap> = Api::default_namespaced(Client::clone(&client));
        let name = generator.name_any();
        let object = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "ownerReferences": [generator.controller_owner_ref(&())]},
            "data": {"content": generator.spec.content},
        });
        apply(&api, &name, object).await?;
        Ok(Action::requeue(Duration::from_secs(300)))
    }
    let (generators, maps) = (
        Api::<Generator>::all(client.clone()),
        Api::<ConfigMap>::all(client.clone()),
    );
    Controller::new(generators, watcher::Config::default())
        .owns(maps, watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|_| std::future::ready(()))
        .await;
    Ok(())
}

#[test]
fn the_generator_of_config_maps_passes() {
    let content = |content: &'static str| {
        move |world: &trimtab_testing_env::World| {
            let map = world.get::<ConfigMap>("default", "a");
            map.and_then(|map| map.data)
                .is_some_and(|data| data["content"] == content)
        }
    };
    Perturb::new(|client, _| generate(client))
        .crd::<Generator>()
        .scenario(|users| {
            let generator = Generator::new(
                "a",
                GeneratorSpec {
                    content: "one".to_owned(),
                },
            );
            users
                .create(generator)
                .until("it is generated", content("one"))
                .edit::<Generator>("a", |generator| generator.spec.content = "two".to_owned())
                .until("it is generated anew", content("two"))
                .delete::<ConfigMap>("a")
                .until("it is back", content("two"))
                .delete::<Generator>("a")
                .until("it is gone", |world| world.count::<ConfigMap>() == 0)
        })
        .plans(PLANS)
        .check();
}

// === secret_syncer: a Secret for each ConfigMap, cleaned up by a finalizer ===

async fn sync(client: Client, owned: bool) -> Result<(), Infallible> {
    let reconcile = move |map: Arc<ConfigMap>, client: Arc<Client>| async move {
        let (maps, secrets) = (
            Api::<ConfigMap>::default_namespaced(Client::clone(&client)),
            Api::<Secret>::default_namespaced(Client::clone(&client)),
        );
        finalizer(
            &maps,
            "example.com/cleanup",
            map,
            async |event| -> Result<Action, kube::Error> {
                match event {
                    Event::Apply(map) => {
                        let name = format!("cm---{}", map.name_any());
                        let owners: Vec<_> = map.owner_ref(&()).into_iter().filter(|_| owned).collect();
                        let object = json!({
                            "apiVersion": "v1", "kind": "Secret",
                            "metadata": {"name": name, "ownerReferences": owners},
                            "stringData": map.data,
                        });
                        apply(&secrets, &name, object).await?;
                    }
                    Event::Cleanup(map) => {
                        let name = format!("cm---{}", map.name_any());
                        match secrets.delete(&name, &DeleteParams::default()).await {
                            Err(kube::Error::Api(status)) if status.code == 404 => {}
                            deleted => drop(deleted?),
                        }
                    }
                }
                Ok(Action::await_change())
            },
        )
        .await
    };
    let again = |_: Arc<ConfigMap>, _: &finalizer::Error<kube::Error>, _: Arc<Client>| {
        Action::requeue(Duration::from_secs(2))
    };
    Controller::new(
        Api::<ConfigMap>::all(client.clone()),
        watcher::Config::default().labels("sync=true"),
    )
    .run(reconcile, again, Arc::new(client))
    .for_each(|_| std::future::ready(()))
    .await;
    Ok(())
}

fn syncer(owned: bool) -> Perturb {
    Perturb::new(move |client, _| sync(client, owned)).scenario(|users| {
        let map = ConfigMap {
            metadata: ObjectMeta {
                labels: Some([("sync".to_owned(), "true".to_owned())].into()),
                ..named("a")
            },
            data: Some([("key".to_owned(), "value".to_owned())].into()),
            ..ConfigMap::default()
        };
        users
            .create(map)
            .until("it has its Secret", |world| {
                world.get::<Secret>("default", "cm---a").is_some()
            })
            .delete::<ConfigMap>("a")
            .until("it is gone", |world| {
                world.get::<ConfigMap>("default", "a").is_none()
            })
    })
}

/// A process that hangs while another takes over and cleans up makes the Secret again afterwards. The example itself says that owner
/// references are the better way.
#[test]
fn the_syncer_of_secrets_leaves_one_where_a_process_hung() {
    let told = told(&syncer(false).plans(usize::MAX).report());
    assert_eq!(told.keys().collect::<Vec<_>>(), ["zombie"], "{told:#?}");
    assert!(
        told["zombie"]
            .iter()
            .all(|wrong| wrong == "Converges: Secret default/cm---a should not be there, and is"),
        "{told:#?}"
    );
}

/// Nodes say now and then that they live. That is no reason to say that things are changed still, and not what is wrong.
#[test]
fn what_is_wrong_is_told_beside_nodes_that_live() {
    let syncer = syncer(false).environment(|env| env.nodes(1).node_heartbeats(Duration::from_secs(70)));
    let replay = AssertUnwindSafe(|| syncer.replay("zombie@apply:secrets/default/cm---a#1"));
    let story = std::panic::catch_unwind(replay).expect_err("it fails");
    let story = story.downcast_ref::<String>().expect("a story");
    let wrong = "Converges: Secret default/cm---a should not be there, and is";
    assert!(story.contains(wrong), "{story}");
}

#[test]
fn the_syncer_of_secrets_passes_with_owner_references() {
    syncer(true).plans(usize::MAX).check();
}

// === shared_stream_controllers: a Pod's labels are its annotations, applied beside other writers ===

async fn annotate(client: Client) -> Result<(), Infallible> {
    async fn reconcile(pod: Arc<Pod>, client: Arc<Client>) -> Result<Action, kube::Error> {
        if pod.labels().is_empty() {
            return Ok(Action::requeue(Duration::from_secs(180)));
        }
        let api: Api<Pod> = Api::default_namespaced(Client::clone(&client));
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name_any(), "labels": pod.labels(), "annotations": pod.labels()},
        });
        apply(&api, &pod.name_any(), object).await?;
        Ok(Action::requeue(Duration::from_secs(300)))
    }
    Controller::new(Api::<Pod>::all(client.clone()), watcher::Config::default())
        .run(
            reconcile,
            |_, _, _| Action::requeue(Duration::from_secs(1)),
            Arc::new(client),
        )
        .for_each(|_| std::future::ready(()))
        .await;
    Ok(())
}

#[test]
fn the_annotator_of_pods_passes() {
    let annotated = |value: &'static str| {
        move |world: &trimtab_testing_env::World| {
            let pod = world.get::<Pod>("default", "a");
            pod.is_some_and(|pod| pod.annotations().get("colour").is_some_and(|is| is == value))
        }
    };
    Perturb::new(|client, _| annotate(client))
        .scenario(|users| {
            let pod = json!({
                "metadata": {"name": "a", "labels": {"colour": "red"}},
                "spec": {"containers": [{"name": "a", "image": "none"}]},
            });
            let pod: Pod = serde_json::from_value(pod).expect("a Pod");
            users
                .wait(Duration::from_secs(1))
                .create(pod)
                .until("it is annotated", annotated("red"))
                .edit::<Pod>("a", |pod| {
                    pod.labels_mut().insert("colour".to_owned(), "blue".to_owned());
                })
                .until("it is annotated anew", annotated("blue"))
        })
        .plans(PLANS)
        .check();
}
