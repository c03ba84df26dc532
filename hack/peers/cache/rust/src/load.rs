//! Makes the objects, and changes them.

use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::Client;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::{Result, pods};

/// How many requests are under way at once.
const CREATES: usize = 32;
const PATCHES: usize = 16;

/// Creates the Pods, each with its status, and prints how large one is.
pub async fn load(client: Client, count: usize, data: pods::Data) -> Result<()> {
    for number in 0..pods::NAMESPACES {
        let namespace = pods::namespace(number);
        let object = serde_json::from_value(json!({"metadata": {"name": namespace}}))?;
        let namespaces = Api::<Namespace>::all(client.clone());
        there_now(namespaces.create(&PostParams::default(), &object).await)?;
        // Where no controller makes it, Pods could not be created.
        let account = serde_json::from_value(json!({"metadata": {"name": "default"}}))?;
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), &namespace);
        there_now(accounts.create(&PostParams::default(), &account).await)?;
    }
    let by = |manager: &str| PostParams {
        field_manager: Some(manager.to_owned()),
        ..PostParams::default()
    };
    let one = |number| {
        let api = Api::<Pod>::namespaced(client.clone(), &pods::namespace(number));
        let (create, update) = (by("kube-controller-manager"), by("kubelet"));
        async move {
            let pod = serde_json::from_value(pods::pod(number, data))?;
            let mut made = api.create(&create, &pod).await?;
            made.status = Some(serde_json::from_value(pods::status(number, data))?);
            let whole: Result<Pod> = Ok(api.replace_status(&pods::name(number), &update, &made).await?);
            whole
        }
    };
    let mut made = stream::iter((0..count).map(one)).buffer_unordered(CREATES);
    let mut last = None;
    while let Some(pod) = made.try_next().await? {
        last = Some(pod);
    }
    let pod = serde_json::to_value(last)?;
    let managed_fields = pod["metadata"]["managedFields"].to_string().len();
    println!(
        "{}",
        json!({"pods": count, "bytes": pod.to_string().len(), "managed_fields": managed_fields})
    );
    Ok(())
}

fn there_now<K>(created: kube::Result<K>) -> Result<()> {
    match created {
        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(()),
        created => Ok(created.map(drop)?),
    }
}

/// Changes an annotation of so many Pods, one after the other of those that there are.
pub async fn patch(client: Client, pods: usize, count: usize) -> Result<()> {
    let one = |at| {
        let (api, name) = pod(&client, pods, at);
        async move {
            let patch = Patch::Merge(annotation(at));
            api.patch(&name, &PatchParams::default(), &patch).await.map(drop)
        }
    };
    let patches = stream::iter((0..count).map(one)).buffer_unordered(PATCHES);
    Ok(patches.try_collect::<()>().await?)
}

/// The Pod of the `at`-th write. A prime number of steps lie between two, so that all have their turn before one has another.
pub fn pod(client: &Client, pods: usize, at: usize) -> (Api<Pod>, String) {
    let number = at.wrapping_mul(7919) % pods;
    let api = Api::namespaced(client.clone(), &pods::namespace(number));
    (api, pods::name(number))
}

/// The change of the `at`-th write. It differs from run to run, since a patch that changes nothing is no event.
pub fn annotation(at: usize) -> Value {
    static RUN: std::sync::LazyLock<u128> = std::sync::LazyLock::new(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        now.map(|now| now.as_millis()).unwrap_or_default()
    });
    json!({"metadata": {"annotations": {"bench": format!("{}-{at}", *RUN)}}})
}
