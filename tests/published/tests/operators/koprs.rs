//! koprs 0.10.4, on kube 4, as its documentation says to use it: a Secret for each ConfigMap, with its finalizers.
//!
//! `add_finalizer` writes the whole list of finalizers as the cache has it, without a version, and `remove_finalizers` all of them away
//! (src/finalizers.rs).

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1 as ours;
use k8s_openapi_of_koprs::api::core::v1::{ConfigMap, Secret};
use koprs::controller::{Action, Context, ControllerBuilder, Reconciler};
use koprs::error::KubeGenericError;
use koprs::finalizers::{add_finalizer_namespaced, remove_finalizers};
use koprs::is_being_deleted;
use koprs::owners::{controller_ref, set_owner_refs};
use koprs::resources::{apply_resource, delete_resource};
use koprs::scope::Namespaced;
use kube::ResourceExt as _;
use kube_of_koprs::{Api, Client};
use published_operators::client_of;
use trimtab_testing::World;
use trimtab_testing::perturb::Perturb;

use crate::{fails_by_itself, told};

const NAMESPACE: Namespaced<'static> = Namespaced("default");
const MANAGER: &str = "example.com/koprs";
const OTHER: &str = "example.com/other";

struct Keeper;

impl Reconciler<ConfigMap> for Keeper {
    type Error = KubeGenericError;

    async fn reconcile(
        &self,
        map: Arc<ConfigMap>,
        context: Arc<Context>,
    ) -> Result<Action, KubeGenericError> {
        let client = || context.client.clone();
        let name = map.metadata.name.clone().unwrap_or_default();
        if is_being_deleted(&*map) {
            delete_resource::<Secret, _>(client(), NAMESPACE, &name).await?;
            remove_finalizers::<ConfigMap, _>(client(), NAMESPACE, &name).await?;
            return Ok(Action::await_change());
        }
        add_finalizer_namespaced(client(), &*map, MANAGER).await?;
        let mut secret = Secret::default();
        secret.metadata.name = Some(name);
        set_owner_refs(&mut secret, vec![controller_ref(&*map)?]);
        apply_resource(client(), NAMESPACE, &secret, "koprs").await?;
        Ok(Action::await_change())
    }
}

async fn keep(client: Client) -> Result<(), KubeGenericError> {
    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    ControllerBuilder::new(maps)
        .run(Keeper, Context::new(client))
        .await
}

fn keeper() -> Perturb {
    Perturb::new(|client, _| keep(client_of!(kube_of_koprs, client)))
}

fn map() -> ours::ConfigMap {
    let mut map = ours::ConfigMap::default();
    map.metadata.name = Some("a".to_owned());
    map
}

/// Whether the ConfigMap is there, with the finalizer that another asked for.
fn is_held(world: &World) -> bool {
    let map = world.get::<ours::ConfigMap>("default", "a");
    map.is_some_and(|map| map.finalizers().iter().any(|finalizer| finalizer == OTHER))
}

fn has_secret(world: &World) -> bool {
    world.get::<ours::Secret>("default", "a").is_some()
}

#[test]
fn finalizers_of_others_are_removed() {
    let perturb = keeper().scenario(|users| {
        users
            .create(map())
            .until("it has a Secret", has_secret)
            .edit("a", |map: &mut ours::ConfigMap| {
                map.finalizers_mut().push(OTHER.to_owned())
            })
            .delete::<ours::ConfigMap>("a")
            .until("the Secret is gone", |world| !has_secret(world))
            .wait(Duration::from_secs(10))
            .until("it is held by another's finalizer", is_held)
    });
    let wrong = fails_by_itself(perturb);
    assert!(
        wrong.contains("Progress: users cannot wait until it is held by another's finalizer"),
        "{wrong}"
    );
}

/// By a process that hung while another finished, and whose write arrives late.
#[test]
fn finalizers_of_others_are_overwritten() {
    let report = keeper()
        .scenario(|users| {
            users
                .create(map())
                .wait(Duration::from_secs(10))
                .edit("a", |map: &mut ours::ConfigMap| {
                    map.finalizers_mut().push(OTHER.to_owned())
                })
                .until("it has a Secret", has_secret)
                .wait(Duration::from_secs(60))
                .until("it is held by another's finalizer", is_held)
        })
        .may_differ("ConfigMap", "/metadata/finalizers") // their order
        .plans(usize::MAX)
        .report();
    let told = told(&report);
    assert_eq!(
        told.keys().collect::<Vec<_>>(),
        [&"zombie@patch:configmaps/default/a#1"],
        "{told:#?}"
    );
    assert!(
        told.values()
            .flatten()
            .all(|wrong| wrong.starts_with("Progress: users cannot wait until it is held")),
        "{told:#?}"
    );
}

#[test]
fn the_keeper_passes_where_nobody_else_has_finalizers() {
    keeper()
        .scenario(|users| {
            users
                .create(map())
                .until("it has a Secret", has_secret)
                .delete::<ours::ConfigMap>("a")
                .until("both are gone", |world| {
                    world.get::<ours::ConfigMap>("default", "a").is_none() && !has_secret(world)
                })
        })
        .plans(usize::MAX)
        .check();
}
