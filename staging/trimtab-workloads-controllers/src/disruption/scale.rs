//! How many pods the controllers of a budget's pods want.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::Error as Refused;
use trimtab_apimachinery_meta::{ObjectKey, owner};
use trimtab_client_cache::Cached;
use trimtab_controller_runtime::{Error, Reconciled, Result, Turn};

use super::decide::Scale;
use crate::live::{self, LiveError, patiently};
use crate::resources::{Recent, Resources};

/// How many pods their controllers want, all together.
pub(super) async fn scale(
    turn: &Turn<PodDisruptionBudget>,
    served: &Recent,
    pods: &[Cached<Pod>],
) -> Result<Scale> {
    let mut found: HashMap<String, Wanted> = HashMap::new();
    let mut wanted_by: HashMap<String, i32> = HashMap::new();
    let mut scale = Scale::default();
    for pod in pods {
        let meta = pod.meta()?;
        let Some(controller) = owner::controller_of(&meta) else {
            scale.unmanaged = true;
            continue;
        };
        let wanted = match found.entry(controller.uid.clone()) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(match wanted(turn, pod.namespace(), controller)? {
                Wanted::Unknown => asked(turn, served, pod.namespace(), controller).await?,
                wanted => wanted,
            }),
        };
        match wanted {
            Wanted::Pods { by, count } => drop(wanted_by.insert(by.clone(), *count)),
            Wanted::Unknown => {
                scale.failure = Some(format!("found no controllers for pod {:?}", pod.name()));
            }
            Wanted::Without(resource) => {
                scale.failure = Some(format!("{resource} does not implement the scale subresource"));
            }
        }
    }
    scale.wanted = wanted_by.into_values().sum();
    Ok(scale)
}

/// What is known of who wants a pod.
enum Wanted {
    /// Whoever has this UID wants so many.
    Pods { by: String, count: i32 },
    /// There is none, or it is of a kind that is not watched.
    Unknown,
    /// Objects of this resource do not say how many they want.
    Without(String),
}

/// Asks the server how many pods an object of some kind wants.
async fn asked(
    turn: &Turn<PodDisruptionBudget>,
    served: &Recent,
    namespace: &str,
    by: &OwnerReference,
) -> Result<Wanted> {
    let has = |served: &Resources| served.of_kind(&by.api_version, &by.kind).is_some();
    let served = served.get(turn.client(), has).await.map_err(Error::other)?;
    let Some(resource) = served.of_kind(&by.api_version, &by.kind) else {
        return Ok(Wanted::Unknown);
    };
    if !resource.scales {
        let name = format!("{}.{}", resource.api.plural, resource.api.group);
        return Ok(Wanted::Without(name.trim_end_matches('.').to_owned()));
    }
    let api = live::api(turn.client(), resource, namespace);
    let found = match patiently(api.get_scale(&by.name)).await {
        Ok(found) => found,
        Err(LiveError::Server(Refused::Api(status))) if status.code == 404 => return Ok(Wanted::Unknown),
        Err(error) => return Err(Error::other(error)),
    };
    if found.metadata.uid.as_deref() != Some(&*by.uid) {
        return Ok(Wanted::Unknown);
    }
    Ok(Wanted::Pods {
        by: by.uid.clone(),
        count: found.spec.and_then(|spec| spec.replicas).unwrap_or_default(),
    })
}

/// Who wants a pod in the end, and how many of its sort: a Deployment for its ReplicaSets.
fn wanted(turn: &Turn<PodDisruptionBudget>, namespace: &str, by: &OwnerReference) -> Result<Wanted> {
    let key = ObjectKey {
        namespace: namespace.to_owned(),
        name: by.name.clone(),
    };
    let group = by.api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, &*by.kind) {
        ("apps", "ReplicaSet") => {
            let Some(set) = turn
                .store::<ReplicaSet>()?
                .get(&key)
                .filter(|set| set.uid() == *by.uid)
            else {
                return Ok(Wanted::Unknown);
            };
            let meta = set.meta()?;
            match owner::controller_of(&meta).filter(|above| above.kind == "Deployment") {
                Some(above) => of::<Deployment>(turn, namespace, above),
                None => of::<ReplicaSet>(turn, namespace, by),
            }
        }
        ("apps", "StatefulSet") => of::<StatefulSet>(turn, namespace, by),
        ("apps", "Deployment") => of::<Deployment>(turn, namespace, by),
        ("", "ReplicationController") => of::<ReplicationController>(turn, namespace, by),
        _ => Ok(Wanted::Unknown),
    }
}

fn of<T: Reconciled>(
    turn: &Turn<PodDisruptionBudget>,
    namespace: &str,
    by: &OwnerReference,
) -> Result<Wanted> {
    let key = ObjectKey {
        namespace: namespace.to_owned(),
        name: by.name.clone(),
    };
    let object = turn
        .store::<T>()?
        .get(&key)
        .filter(|object| object.uid() == *by.uid);
    let Some(object) = object else {
        return Ok(Wanted::Unknown);
    };
    let replicas = object.read(["spec", "replicas"])?.unwrap_or(1);
    Ok(Wanted::Pods {
        by: by.uid.clone(),
        count: replicas,
    })
}
