//! rivven-operator 0.0.22, on kube 0.98: brokers, connectors, schema registries and topics.

use std::panic::catch_unwind;

use bytes::Bytes;
use http::request::Parts;
use kube_of_rivven::CustomResourceExt;
use published_operators::{Mend, as_it_is, client_of};
use rivven_operator::crd::{RivvenCluster, RivvenConnect, RivvenSchemaRegistry, RivvenTopic};
use rivven_operator::prelude::{run_connect_controller, run_controller, run_schema_registry_controller};
use serde_json::{Value, json};
use trimtab_testing::perturb::Perturb;
use trimtab_testing::{TestEnv, World};

use crate::{count, create, delete, fails_by_itself, status};

/// Of those that begin with one of each kind; a run has seconds of its own, since pods run.
const PLANS: usize = 17;

// === what is done about what is found first, to find more ===

/// A definition, as the operator prints it.
fn printed<K: CustomResourceExt>() -> Value {
    serde_json::to_value(K::crd()).expect("a definition")
}

/// A definition that a server takes: what has no type may be anything, and nothing has a default that is not allowed.
fn mended<K: CustomResourceExt>() -> String {
    fn mend(schema: &mut Value) {
        let Value::Object(fields) = schema else { return };
        if fields.get("default").is_some_and(Value::is_object) {
            fields.remove("default");
        }
        let typed = ["type", "x-kubernetes-int-or-string", "anyOf", "oneOf", "allOf"];
        if !typed.iter().any(|field| fields.contains_key(*field)) {
            fields.insert("x-kubernetes-preserve-unknown-fields".to_owned(), true.into());
        }
        for field in ["items", "additionalProperties"] {
            fields.get_mut(field).into_iter().for_each(mend);
        }
        if let Some(Value::Object(properties)) = fields.get_mut("properties") {
            properties.values_mut().for_each(mend);
        }
    }
    let mut definition = printed::<K>();
    mend(&mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]);
    definition.to_string()
}

/// A status without the times that are new each time.
fn without_times(head: &Parts, body: Bytes) -> Bytes {
    fn mend(value: &mut Value) {
        match value {
            Value::Object(fields) => {
                fields.retain(|name, _| {
                    !["lastUpdated", "lastTransitionTime", "lastSyncTime"].contains(&name.as_str())
                });
                fields.values_mut().for_each(mend);
            }
            Value::Array(items) => items.iter_mut().for_each(mend),
            _ => {}
        }
    }
    if !head.uri.path().ends_with("/status") {
        return body;
    }
    let mut value: Value = serde_json::from_slice(&body).expect("a status is JSON");
    mend(&mut value);
    value.to_string().into()
}

fn in_a_cluster(perturb: Perturb) -> Perturb {
    perturb
        .environment(|env| env.workload_controllers().nodes(1))
        .manifests(&mended::<RivvenCluster>())
        .manifests(&mended::<RivvenConnect>())
        .manifests(&mended::<RivvenSchemaRegistry>())
}

fn object(kind: &str, spec: Value) -> Value {
    json!({"apiVersion": "rivven.hupe1980.github.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec})
}

fn without(mut object: Value, field: &str) -> Value {
    object["spec"].as_object_mut().expect("a spec").remove(field);
    object
}

/// One broker. What is said of metrics would be refused if it were left out.
fn cluster() -> Value {
    let spec = json!({
        "replicas": 1, "config": {"defaultReplicationFactor": 1}, "metrics": {"serviceMonitor": {"interval": "30s"}},
        "podDisruptionBudget": {"enabled": false},
    });
    object("RivvenCluster", spec)
}

/// One connector of the broker, which the same goes for.
fn connect() -> Value {
    let spec = json!({"clusterRef": {"name": "a"}, "replicas": 1, "config": {"logLevel": "info"}});
    object("RivvenConnect", spec)
}

/// One registry of the broker, which the same goes for.
fn registry() -> Value {
    let spec = json!({"clusterRef": {"name": "a"}, "replicas": 1, "external": {"syncIntervalSeconds": 300}});
    object("RivvenSchemaRegistry", spec)
}

// === definitions ===

/// `serde_json::Value` has a schema without a type (src/crd.rs), which the API server refuses.
#[tokio::test(start_paused = true)]
async fn definitions_are_refused() {
    let env = TestEnv::start().await.expect("it starts");
    let table = [
        (printed::<RivvenCluster>(), None),
        (
            printed::<RivvenTopic>(),
            Some("properties[config].default.minInsyncReplicas: Invalid value: 0"),
        ),
        (
            printed::<RivvenConnect>(),
            Some("properties[affinity].type: Required value"),
        ),
        (
            printed::<RivvenSchemaRegistry>(),
            Some("properties[affinity].type: Required value"),
        ),
    ];
    for (definition, refused) in table {
        let applied = env
            .apply(&definition.to_string())
            .await
            .map_err(|error| error.to_string());
        match refused {
            None => assert!(applied.is_ok(), "{applied:?}"),
            Some(field) => assert!(
                applied.as_ref().is_err_and(|why| why.contains(field)),
                "{applied:?}"
            ),
        }
    }
    env.shutdown().await.expect("a clean end");
}

// === as it is ===

fn clusters(cluster: fn() -> Value, mend: Mend) -> Perturb {
    let perturb =
        Perturb::new(move |client, _| run_controller(client_of!(kube_of_rivven, client, mend), None));
    in_a_cluster(perturb).scenario(|users| {
        users
            .act("create a RivvenCluster", move |client| create(client, cluster()))
            .until("it runs", |world| is_running(world, "RivvenCluster"))
            .act("delete it", move |client| delete(client, cluster()))
            .until("it is gone", |world| count(world, "RivvenCluster") == 0)
    })
}

fn connects(mend: Mend) -> Perturb {
    let perturb =
        Perturb::new(move |client, _| run_connect_controller(client_of!(kube_of_rivven, client, mend), None));
    in_a_cluster(perturb).scenario(|users| {
        users
            .act("create a RivvenCluster", |client| create(client, cluster()))
            .act("create a RivvenConnect", |client| create(client, connect()))
            .until("it runs", |world| is_running(world, "RivvenConnect"))
            .act("delete it", |client| delete(client, connect()))
            .until("it is gone", |world| count(world, "RivvenConnect") == 0)
    })
}

fn is_running(world: &World, kind: &str) -> bool {
    status(world, kind, "phase").is_some_and(|phase| phase == "Running")
}

/// What a user leaves out has the value that Rust gives a text, none, which the operator's own validation refuses, in its log.
#[test]
fn what_may_be_left_out_may_not() {
    fn without_metrics() -> Value {
        without(cluster(), "metrics")
    }
    let wrong = fails_by_itself(clusters(without_metrics, as_it_is));
    assert!(
        wrong.contains("Progress: users cannot wait until it runs"),
        "{wrong}"
    );
    assert!(!wrong.contains("asked  apply:"), "{wrong}");
}

/// The budget that every cluster has unless told otherwise says `maxUnavailable: "1"`, where a text has to be a percentage
/// (`PdbSpec`'s default, src/crd.rs, and `build_pdb`, src/resources.rs). Nothing that comes after it is done: the status.
#[test]
fn budgets_are_refused() {
    fn with_budget() -> Value {
        without(cluster(), "podDisruptionBudget")
    }
    let wrong = fails_by_itself(clusters(with_budget, as_it_is));
    assert!(
        wrong.contains("Progress: users cannot wait until it runs"),
        "{wrong}"
    );
    assert!(
        wrong.contains("apply:poddisruptionbudgets.policy/default/rivven-a-pdb#1 -> 422"),
        "{wrong}"
    );
    assert!(!wrong.contains("/status#1"), "{wrong}");
}

/// The registry's container mounts a volume `config` that its pod has not (`build_registry_deployment`).
#[test]
fn deployments_of_registries_are_refused() {
    let perturb =
        Perturb::new(|client, _| run_schema_registry_controller(client_of!(kube_of_rivven, client), None))
            .scenario(|users| {
                users
                    .act("create a RivvenCluster", |client| create(client, cluster()))
                    .act("create a RivvenSchemaRegistry", |client| {
                        create(client, registry())
                    })
                    .until("it runs", |world| is_running(world, "RivvenSchemaRegistry"))
            });
    let wrong = fails_by_itself(in_a_cluster(perturb));
    assert!(
        wrong.contains("Progress: users cannot wait until it runs"),
        "{wrong}"
    );
    assert!(
        wrong.contains("apply:deployments.apps/default/rivven-schema-registry-a#1 -> 422"),
        "{wrong}"
    );
}

/// Each reconcile writes the time into the status (`build_status`, src/controller.rs, and `build_connect_status`), which is a change,
/// which is reconciled.
#[test]
fn what_was_reconciled_is_reconciled_again_at_once() {
    for perturb in [clusters(cluster, as_it_is), connects(as_it_is)] {
        let wrong = fails_by_itself(perturb);
        assert!(
            wrong.contains("Quiet: it asks and asks without a pause"),
            "{wrong}"
        );
    }
}

// === without the times ===

/// Where claims cannot be listed that is logged, and the finalizer removed all the same (`cleanup_cluster`).
#[test]
fn claims_are_left_behind() {
    let plan = "error@list:persistentvolumeclaims/default#1";
    let replayed = catch_unwind(|| clusters(cluster, without_times).replay(plan));
    let story = replayed.expect_err("it fails");
    let story = story.downcast_ref::<String>().expect("a story");
    let left = "PersistentVolumeClaim default/data-rivven-a-0 should not be there, and is";
    assert!(story.contains("Converges: ") && story.contains(left), "{story}");
}

#[test]
fn the_rest_of_clusters_passes() {
    clusters(cluster, without_times).plans(PLANS).check();
}

#[test]
fn the_rest_of_connects_passes() {
    connects(without_times).plans(PLANS).check();
}
