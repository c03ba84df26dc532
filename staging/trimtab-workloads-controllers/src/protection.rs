//! Volumes and claims outlast their use: one that is deleted stays until no pod uses it, or until nothing is bound to it.
//!
//! Their finalizers say so. New objects may get them from the server; those that have none get them here.

use std::fmt::Debug;
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, ListParams, Patch, PatchParams};
use kube::{Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::time::Instant;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Object;
use trimtab_client_workqueue::{Add, Exponential, WorkQueue};

use crate::context::{Context, InvalidController, without_bookkeeping};
use crate::live::{LiveError, patiently, post_params};
use crate::pool::{Outcome, Pool};

/// The name of the controller of claims.
pub(crate) const CLAIMS: &str = "persistentvolumeclaim-protection-controller";
/// The name of the controller of volumes.
pub(crate) const VOLUMES: &str = "persistentvolume-protection-controller";

/// When to look again at what is still used, for the first time; doubled from then on.
const SOONEST: Duration = Duration::from_millis(50);
/// The limit of the doubling.
const LATEST: Duration = Duration::from_secs(4);

/// What is protected, and how.
struct Protected<K> {
    controller: &'static str,
    finalizer: &'static str,
    api: fn(&Client, &ObjectKey) -> Api<K>,
    is_used: for<'a> fn(&'a Client, &'a K) -> BoxFuture<'a, Result<bool, LiveError>>,
}

// Fields are functions, which are copied whatever they are about.
impl<K> Clone for Protected<K> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K> Copy for Protected<K> {}

/// Protects claims until told to stop.
pub(crate) async fn claims(context: Context) -> Result<(), InvalidController> {
    let protected = Protected::<PersistentVolumeClaim> {
        controller: CLAIMS,
        finalizer: "kubernetes.io/pvc-protection",
        api: |client, key| Api::namespaced(client.clone(), &key.namespace),
        is_used: |client, claim| is_used_by_pods(client, claim).boxed(),
    };
    protect(context, protected).await
}

/// Protects volumes until told to stop.
pub(crate) async fn volumes(context: Context) -> Result<(), InvalidController> {
    let protected = Protected::<PersistentVolume> {
        controller: VOLUMES,
        finalizer: "kubernetes.io/pv-protection",
        api: |client, _| Api::all(client.clone()),
        is_used: |_, volume| {
            let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
            futures::future::ready(Ok(phase == Some("Bound"))).boxed()
        },
    };
    protect(context, protected).await
}

async fn protect<K>(context: Context, protected: Protected<K>) -> Result<(), InvalidController>
where
    K: Object + Resource<DynamicType = ()> + Clone + Debug + Serialize + DeserializeOwned,
{
    let Context {
        client,
        informers,
        options,
        stop,
        synced,
    } = context;
    let queue = WorkQueue::builder()
        .backoff(Exponential::new(SOONEST, LATEST)?)
        .build()?;
    let keys = queue.clone();
    let objects = informers.informer::<K>(without_bookkeeping());
    let registration = objects.add_handler(move |delta| {
        let Ok(object) = delta.object().decode() else {
            return;
        };
        if step(&*object, protected.finalizer) != Step::Nothing {
            let _refused_when_stopping = keys.add_with(delta.key().clone(), Add::now());
        }
    });
    if stop.run_until_cancelled(registration.synced()).await.is_some() {
        let _nobody_waits = synced.send(());
        let pool = Pool::start(protected.controller, queue, 1, move |key: ObjectKey| {
            let client = client.clone();
            async move { process(&client, &protected, &key).await }
        });
        stop.cancelled().await;
        registration.leave().await;
        pool.shut_down(Instant::now() + options.drain).await;
    }
    Ok(())
}

/// What is to be done about an object.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    /// It is not protected.
    Protect,
    /// It is being deleted, and only protected as long as it is used.
    LetGo,
}

fn step(object: &impl ResourceExt, finalizer: &str) -> Step {
    let deleting = object.meta().deletion_timestamp.is_some();
    let protected = object.finalizers().iter().any(|f| f == finalizer);
    match (deleting, protected) {
        (true, true) => Step::LetGo,
        (false, false) => Step::Protect,
        _ => Step::Nothing,
    }
}

async fn process<K>(client: &Client, protected: &Protected<K>, key: &ObjectKey) -> Outcome
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    match mend(client, protected, key).await {
        Ok(true) => Outcome::Done,
        // It is used; somebody may stop using it at any time.
        Ok(false) => Outcome::Retry,
        Err(error) if error.code() == 404 => Outcome::Done,
        Err(error) if error.is_conflict() => Outcome::Retry,
        Err(error) => {
            tracing::warn!(controller = protected.controller, %key, %error, "trying again");
            Outcome::Retry
        }
    }
}

/// Protects an object, or lets it go. False: it is still used.
async fn mend<K>(client: &Client, protected: &Protected<K>, key: &ObjectKey) -> Result<bool, LiveError>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    let api = (protected.api)(client, key);
    let Some(object) = patiently(api.get_opt(&key.name)).await? else {
        return Ok(true);
    };
    let mut finalizers = object.finalizers().to_vec();
    match step(&object, protected.finalizer) {
        Step::Nothing => return Ok(true),
        Step::Protect => finalizers.push(protected.finalizer.to_owned()),
        Step::LetGo if (protected.is_used)(client, &object).await? => return Ok(false),
        Step::LetGo => finalizers.retain(|f| f != protected.finalizer),
    }
    // Of this very object, and only if nobody has changed it meanwhile.
    let metadata = json!({
        "finalizers": finalizers,
        "resourceVersion": object.resource_version(),
        "uid": object.uid(),
    });
    let params = PatchParams {
        field_manager: post_params().field_manager,
        ..PatchParams::default()
    };
    let patch = Patch::Merge(json!({ "metadata": metadata }));
    patiently(api.patch_metadata(&key.name, &params, &patch)).await?;
    Ok(true)
}

/// Whether a pod that has its node uses the claim: the server is asked, since watches may be late.
async fn is_used_by_pods(client: &Client, claim: &PersistentVolumeClaim) -> Result<bool, LiveError> {
    let namespace = claim.namespace().unwrap_or_default();
    let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
    let pods = patiently(api.list(&ListParams::default())).await?;
    Ok(pods.iter().any(|pod| uses(pod, claim)))
}

fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = pod.spec.as_ref().filter(|spec| {
        let node = spec.node_name.as_deref().unwrap_or_default();
        !node.is_empty()
    }) else {
        return false;
    };
    let name = claim.name_any();
    let made_for = |owner: &OwnerReference| {
        owner.controller == Some(true) && Some(owner.uid.as_str()) == pod.meta().uid.as_deref()
    };
    let is_its_own = claim.owner_references().iter().any(made_for);
    let has_ended =
        pod.meta().deletion_timestamp.is_some() && pod.meta().deletion_grace_period_seconds == Some(0);
    spec.volumes.iter().flatten().any(|volume| {
        let named = volume.persistent_volume_claim.as_ref();
        let made = volume.ephemeral.is_some() && format!("{}-{}", pod.name_any(), volume.name) == name;
        named.is_some_and(|named| named.claim_name == name) || (made && is_its_own && !has_ended)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object<K: DeserializeOwned>(value: serde_json::Value) -> K {
        serde_json::from_value(value).expect("an object")
    }

    #[test]
    fn pods_on_nodes_use_the_claims_that_they_name_or_that_are_made_for_them() {
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": true}]);
        let own: PersistentVolumeClaim =
            object(json!({"metadata": {"name": "p-v", "ownerReferences": owner}}));
        let plain: PersistentVolumeClaim = object(json!({"metadata": {"name": "p-v"}}));
        let named = json!([{"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}}]);
        let made = json!([{"name": "v", "ephemeral": {}}]);
        let ended = json!({"deletionTimestamp": "2030-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0});
        for (volumes, node, more, claim, wanted) in [
            (&named, "n", json!({}), &plain, true),
            (&named, "", json!({}), &plain, false),
            (&named, "n", ended.clone(), &plain, true),
            (&made, "n", json!({}), &own, true),
            (&made, "n", json!({}), &plain, false),
            (&made, "n", ended, &own, false),
        ] {
            let mut pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"nodeName": node, "containers": [], "volumes": volumes}});
            for (field, value) in more.as_object().into_iter().flatten() {
                pod["metadata"][field] = value.clone();
            }
            assert_eq!(uses(&object(pod.clone()), claim), wanted, "{pod}");
        }
    }
}
