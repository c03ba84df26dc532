//! What the kit finds in what others have published. A finding is a test that fails when it is no longer found, as after an update.
//! Each was looked up in the source of the published version; `designs/0016` tells of all.

mod k8s_controller;
mod koprs;
mod rivven;
mod sz;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kube::Client;
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, PostParams};
use kube::core::GroupVersionKind;
use serde_json::Value;
use trimtab_testing::World;
use trimtab_testing::perturb::{Perturb, Report};

/// Creates an object of any kind in the default namespace.
async fn create(client: Client, object: Value) -> Result<(), String> {
    let made = api_of(client, &object)
        .create(&PostParams::default(), &typed(object))
        .await;
    made.map(drop).map_err(|error| error.to_string())
}

/// Deletes it.
async fn delete(client: Client, object: Value) -> Result<(), String> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    let gone = api_of(client, &object)
        .delete(name, &DeleteParams::background())
        .await;
    gone.map(drop).map_err(|error| error.to_string())
}

fn api_of(client: Client, object: &Value) -> Api<DynamicObject> {
    let text = |field: &str| object[field].as_str().unwrap_or_default();
    let (group, version) = text("apiVersion")
        .split_once('/')
        .unwrap_or(("", text("apiVersion")));
    let kind = GroupVersionKind::gvk(group, version, text("kind"));
    Api::default_namespaced_with(client, &ApiResource::from_gvk(&kind))
}

fn typed(object: Value) -> DynamicObject {
    serde_json::from_value(object).expect("an object")
}

/// A field of the status of the only object of a kind.
fn status<'a>(world: &'a World, kind: &str, field: &str) -> Option<&'a Value> {
    let found = world.objects().values().find(|object| object["kind"] == kind)?;
    found["status"].get(field)
}

fn count(world: &World, kind: &str) -> usize {
    let of_kind = |object: &&Value| object["kind"] == kind;
    world.objects().values().filter(of_kind).count()
}

/// What is wrong where nothing goes wrong.
fn fails_by_itself(perturb: Perturb) -> String {
    let failed = catch_unwind(AssertUnwindSafe(|| perturb.check())).expect_err("it fails");
    let text = failed.downcast_ref::<String>().cloned().unwrap_or_default();
    let by_itself = "nothing goes wrong, and it fails all the same\n";
    text.strip_prefix(by_itself)
        .unwrap_or_else(|| panic!("{text}"))
        .to_owned()
}

/// All plans that fail, with what is wrong.
fn told(report: &Report) -> BTreeMap<&str, Vec<&str>> {
    report
        .failures
        .iter()
        .map(|failure| {
            (
                failure.plan.as_str(),
                failure.wrong.iter().map(String::as_str).collect(),
            )
        })
        .collect()
}
