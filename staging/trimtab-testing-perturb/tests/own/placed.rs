//! The controllers that say where pods and volumes are, and how many pods may go.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use trimtab_testing_env::World;

use crate::typed;
use crate::workloads::{is_ready, of_pods};

fn pod(name: &str, annotations: serde_json::Value) -> Pod {
    typed(json!({
        "metadata": {"name": name, "labels": {"app": "web"}, "annotations": annotations},
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [{"name": "web", "image": "none"}]},
    }))
}

// === endpoints ===

/// Names of pods by whether slices say that they are ready.
fn endpoints(world: &World) -> BTreeMap<String, bool> {
    let slices: Vec<EndpointSlice> = world.list();
    let of_web = slices.into_iter().filter(|slice| {
        slice
            .metadata
            .name
            .as_deref()
            .is_some_and(|name| name.starts_with("web-"))
    });
    of_web
        .flat_map(|slice| slice.endpoints.into_iter().flatten())
        .filter_map(|endpoint| {
            let ready = endpoint
                .conditions
                .and_then(|conditions| conditions.ready)
                .unwrap_or_default();
            Some((endpoint.target_ref?.name?, ready))
        })
        .collect()
}

#[test]
fn endpoints_are_of_ready_pods() {
    let service: Service = typed(json!({
        "metadata": {"name": "web"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    }));
    let are = |expected: &'static [(&'static str, bool)]| {
        move |world: &World| {
            endpoints(world)
                .iter()
                .map(|(name, ready)| (name.as_str(), *ready))
                .eq(expected.iter().copied())
        }
    };
    of_pods("endpointslice-controller")
        .may_differ("Endpoints", "")
        .may_differ("EndpointSlice", "/endpoints/0/nodeName")
        .may_differ("EndpointSlice", "/endpoints/0/zone")
        .may_differ("EndpointSlice", "/endpoints/0/addresses")
        .may_differ("EndpointSlice", "/endpoints/1/nodeName")
        .may_differ("EndpointSlice", "/endpoints/1/zone")
        .may_differ("EndpointSlice", "/endpoints/1/addresses")
        .scenario(|users| {
            users
                .create(service.clone())
                .create(pod("a", json!({})))
                .create(pod("never", json!({"trimtab.dev/ready": "false"})))
                .until("one is ready", are(&[("a", true), ("never", false)]))
                .create(pod("b", json!({})))
                .until(
                    "two are ready",
                    are(&[("a", true), ("b", true), ("never", false)]),
                )
                .delete::<Pod>("a")
                .until("one is ready", are(&[("b", true), ("never", false)]))
        })
        .always("only ready ones are ready", |world| {
            endpoints(world).get("never") != Some(&true)
        })
        .always("no address twice", |world| {
            let slices: Vec<EndpointSlice> = world.list();
            let addresses: Vec<String> = slices
                .into_iter()
                .flat_map(|slice| slice.endpoints.into_iter().flatten())
                .flat_map(|endpoint| endpoint.addresses)
                .collect();
            addresses.iter().collect::<BTreeSet<_>>().len() == addresses.len()
        })
        .check();
}

// === volumes ===

fn volume(name: &str) -> PersistentVolume {
    typed(json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "by-hand", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/data"},
        },
    }))
}

fn claim(name: &str) -> PersistentVolumeClaim {
    typed(json!({
        "metadata": {"name": name},
        "spec": {
            "storageClassName": "by-hand", "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
        },
    }))
}

fn phase_of_claim(world: &World, name: &str) -> String {
    let claim = world.get::<PersistentVolumeClaim>("default", name);
    claim.and_then(|claim| claim.status?.phase).unwrap_or_default()
}

#[test]
fn claims_are_bound_to_volumes_of_their_own() {
    of_pods("persistentvolume-binder-controller")
        .scenario(|users| {
            let bound = |name: &'static str| move |world: &World| phase_of_claim(world, name) == "Bound";
            users
                .create(volume("one"))
                .create(claim("a"))
                .until("a is bound", bound("a"))
                .create(claim("b"))
                .until("b waits", |world| phase_of_claim(world, "b") == "Pending")
                .create(volume("two"))
                .until("b is bound", bound("b"))
                .delete::<PersistentVolumeClaim>("a")
                .until("its volume is released", |world| {
                    let one = world.get::<PersistentVolume>("", "one");
                    one.and_then(|one| one.status?.phase).as_deref() == Some("Released")
                })
        })
        .always("one claim for each volume", |world| {
            let claims: Vec<PersistentVolumeClaim> = world.list();
            let volumes: Vec<String> = claims
                .into_iter()
                .filter_map(|claim| claim.spec?.volume_name)
                .collect();
            volumes.iter().collect::<BTreeSet<_>>().len() == volumes.len()
        })
        .always("one volume for each claim", |world| {
            let volumes: Vec<PersistentVolume> = world.list();
            let claims: Vec<String> = volumes
                .into_iter()
                .filter_map(|volume| volume.spec?.claim_ref?.uid)
                .collect();
            claims.iter().collect::<BTreeSet<_>>().len() == claims.len()
        })
        .check();
}

// === budgets ===

#[test]
fn budgets_say_what_may_go() {
    let budget: PodDisruptionBudget = typed(json!({
        "metadata": {"name": "web"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}},
    }));
    let allows = |allowed: i32| {
        move |world: &World| {
            let budget = world.get::<PodDisruptionBudget>("default", "web");
            budget
                .and_then(|budget| budget.status)
                .is_some_and(|status| status.disruptions_allowed == Some(allowed))
        }
    };
    of_pods("disruption-controller")
        .scenario(|users| {
            users
                .create(budget.clone())
                .create(pod("a", json!({})))
                .create(pod("b", json!({})))
                .create(pod("never", json!({"trimtab.dev/ready": "false"})))
                .until("one may go", allows(1))
                .delete::<Pod>("a")
                .until("none may go", allows(0))
                .create(pod("c", json!({})))
                .until("one may go", allows(1))
        })
        .always_or("its figures agree", |world| {
            let budget = world.get::<PodDisruptionBudget>("default", "web");
            let Some(status) = budget.and_then(|budget| budget.status) else {
                return Ok(());
            };
            let may_go = (status.current_healthy.unwrap_or_default()
                - status.desired_healthy.unwrap_or_default())
            .max(0);
            let ready = world.list::<Pod>().iter().filter(|pod| is_ready(pod)).count();
            if status.disruptions_allowed.unwrap_or_default() > may_go {
                return Err(format!("{ready} are ready, and it says {status:?}"));
            }
            Ok(())
        })
        .check();
}
