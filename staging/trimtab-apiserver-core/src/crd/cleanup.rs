//! Deletes the objects of a definition that is being deleted, waits until they are gone, and lets the definition go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde_json::Value;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::{RangeRequest, WatchRequest};

use super::view::{is_true, set_condition};
use super::{FINALIZER, requests, resource};
use crate::registry::{Registry, keys, meta, storage};

/// How long to wait after a failure.
const PAUSE: Duration = Duration::from_secs(1);

/// Cleans up after the definition of that name; returns when it is gone, or not being deleted.
///
/// Dropping the future is safe at any time: what it does can be done again.
pub(super) async fn run(registry: Arc<Registry>, name: String) {
    loop {
        match attempt(&registry, &name).await {
            Ok(()) => return,
            Err(error) if error.is_not_found() => return,
            Err(error) if error.is_conflict() => {}
            Err(error) => {
                tracing::warn!(definition = name, %error, "cannot clean up after a definition; trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn attempt(registry: &Registry, name: &str) -> Result<(), ApiError> {
    let mut definition = requests::get(registry, name).await?;
    if !meta::is_deleting(&definition) || !meta::finalizers(&definition).contains(&FINALIZER) {
        return Ok(());
    }
    terminating(
        registry,
        &mut definition,
        "True",
        "InstanceDeletionInProgress",
        "CustomResource deletion is in progress",
    );
    let mut definition = requests::update_status(registry, &definition).await?;
    let (reason, message) = if is_true(&definition, "Established") {
        if let Some(resource) = resource::stored(&definition) {
            if let Err(error) = delete_objects(registry, &resource).await {
                let message = format!("could not issue all deletes: {error}");
                terminating(
                    registry,
                    &mut definition,
                    "True",
                    "InstanceDeletionFailed",
                    &message,
                );
                requests::update_status(registry, &definition).await?;
                return Err(error);
            }
            wait_until_gone(registry, &resource).await?;
        }
        ("InstanceDeletionCompleted", "removed all instances")
    } else {
        ("NeverEstablished", "resource was never established")
    };
    // Others may have written to it while we waited.
    let mut definition = requests::get(registry, name).await?;
    terminating(registry, &mut definition, "False", reason, message);
    let kept: Vec<Value> = meta::finalizers(&definition)
        .into_iter()
        .filter(|f| *f != FINALIZER)
        .map(Value::from)
        .collect();
    meta::set(&mut definition, "finalizers", kept);
    requests::update_status(registry, &definition).await?;
    Ok(())
}

fn terminating(registry: &Registry, definition: &mut Value, status: &str, reason: &str, message: &str) {
    set_condition(
        definition,
        "Terminating",
        status,
        reason,
        message,
        &registry.timestamp(),
    );
}

/// Deletes what is there, a namespace at a time.
async fn delete_objects(registry: &Registry, resource: &Arc<Resource>) -> Result<(), ApiError> {
    let prefix = keys::resource_prefix(resource);
    let range = registry.store().range(RangeRequest::prefix(prefix.clone())).await;
    let kvs = range.map_err(|e| storage::error(&e))?.kvs;
    let namespaces: BTreeSet<String> = kvs
        .iter()
        .map(|kv| {
            let key = String::from_utf8_lossy(&kv.key);
            let path = key.strip_prefix(prefix.as_str()).unwrap_or_default();
            path.split_once('/')
                .map_or("", |(namespace, _)| namespace)
                .to_owned()
        })
        .collect();
    for namespace in namespaces {
        let mut request = requests::own("deletecollection", "DELETE");
        let info = &mut request.info;
        (info.group, info.version) = (resource.group.clone(), resource.version.clone());
        (info.resource, info.namespace) = (resource.plural.clone(), namespace);
        registry.handle_as(request, resource.clone()).await?;
    }
    Ok(())
}

/// Returns when nothing is stored any more.
async fn wait_until_gone(registry: &Registry, resource: &Resource) -> Result<(), ApiError> {
    let prefix = keys::resource_prefix(resource);
    let store = registry.store();
    loop {
        let mut range = RangeRequest::prefix(prefix.clone());
        range.count_only = true;
        let range = store.range(range).await.map_err(|e| storage::error(&e))?;
        if range.count == 0 {
            return Ok(());
        }
        let watch = WatchRequest::prefix(prefix.clone()).from(range.revision + 1);
        let mut changes = store.watch(watch).await.map_err(|e| storage::error(&e))?;
        // Batches without events only tell how far the store is.
        while let Some(Ok(batch)) = changes.next().await {
            if !batch.events.is_empty() {
                break;
            }
        }
    }
}
