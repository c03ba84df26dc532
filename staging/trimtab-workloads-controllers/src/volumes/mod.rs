//! The binder of volumes: claims are given volumes that fit, or such as the simulated provisioner makes for them, and volumes are
//! let go with their claims.

mod choose;
mod class;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    HostPathVolumeSource, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimStatus,
    PersistentVolumeSpec, PersistentVolumeStatus,
};
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::ResourceExt;
use serde_json::json;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::Cached;
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::Clock;
use crate::workload::words::{is_taken, reference_to, words_of};
use choose::{choose, class_of, is_for};

pub use class::install_storage_class;

/// The name of the controller of claims.
pub(crate) const CLAIMS: &str = "persistentvolume-binder-controller";
/// The name of the controller of volumes, which goes with it.
const VOLUMES: &str = "persistentvolume-reclaimer";

/// The provisioner whose volumes are made here. They are places that nobody looks at: what uses them is simulated as well.
const SIMULATED: &str = "simulated.trimtab.dev";
/// Of a volume: who made it.
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Of both: the binder chose the other.
const BOUND_BY: &str = "pv.kubernetes.io/bound-by-controller";
/// Of a claim: all is done.
const COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Of a claim: who is to make its volume.
const PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The same by its older name, which provisioners may still go by.
const OLD_PROVISIONER: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// What the names of provisioners begin with that are a part of Kubernetes. There are none here; `no-provisioner` never was one.
const BUILT_IN: &str = "kubernetes.io/";
/// Of a claim: where its first pod is to run.
const NODE: &str = "volume.kubernetes.io/selected-node";

/// Describes both.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    manager
        .controller::<PersistentVolumeClaim, _>(Claims)
        .named(CLAIMS)
        .reporting_as("persistentvolume-controller")
        .source(Source::watch_related(Watch::new(), waiting_for))
        .source(Source::watch_related(
            Watch::<StorageClass>::new(),
            |_, caches| unbound(caches),
        ))
        .writes::<PersistentVolume>()
        .workers(4)
        .start()?;
    let clock = options.clock;
    manager
        .controller::<PersistentVolume, _>(Volumes { clock })
        .named(VOLUMES)
        .reporting_as("persistentvolume-controller")
        .source(Source::watch_cached(
            Watch::<PersistentVolumeClaim>::new(),
            |claim| {
                let volume = claim.text(["spec", "volumeName"]);
                volume
                    .map(|name| ObjectKey::cluster(&*name))
                    .into_iter()
                    .collect()
            },
        ))
        .workers(4)
        .start()
        .map(drop)
}

/// The claims that have no volume.
fn unbound(caches: &Caches) -> Vec<ObjectKey> {
    let claims = caches
        .store::<PersistentVolumeClaim>()
        .map(|claims| claims.list());
    let free = |claim: &Cached<PersistentVolumeClaim>| {
        claim
            .text(["spec", "volumeName"])
            .is_none_or(|name| name.is_empty())
    };
    claims
        .into_iter()
        .flatten()
        .filter(free)
        .map(|claim| claim.key().clone())
        .collect()
}

/// The claims that a volume may be for: its own, or all that wait.
fn waiting_for(volume: &Cached<PersistentVolume>, caches: &Caches) -> Vec<ObjectKey> {
    let part = |field| {
        volume
            .text(["spec", "claimRef", field])
            .map(std::borrow::Cow::into_owned)
    };
    match (part("namespace"), part("name")) {
        (Some(namespace), Some(name)) => vec![ObjectKey { namespace, name }],
        _ => unbound(caches),
    }
}

struct Claims;

impl Reconcile<PersistentVolumeClaim> for Claims {
    async fn reconcile(&self, turn: &mut Turn<PersistentVolumeClaim>) -> Result<Next> {
        let Some(claim) = turn.latest().filter(|_| !turn.is_deleting()) else {
            return Ok(Next::Done);
        };
        let volumes = turn.store::<PersistentVolume>()?;
        let named = claim
            .spec
            .as_ref()
            .and_then(|spec| spec.volume_name.clone())
            .filter(|name| !name.is_empty());
        if let Some(name) = named {
            return match volumes.get(&ObjectKey::cluster(&*name)) {
                Some(volume) => bind(turn, &claim, &volume).await,
                None if claim.annotations().contains_key(COMPLETED) => {
                    let message = "Bound claim has lost its PersistentVolume. Data on the volume is lost!";
                    turn.event(Note::warning("ClaimLost", "Bind", message));
                    say(turn, &claim, "Lost", None)
                }
                None => say(turn, &claim, "Pending", None),
            };
        }
        let all = volumes.list();
        let decoded = all.iter().map(Cached::decode).collect::<Result<Vec<_>, _>>()?;
        if let Some(at) = choose(&claim, &decoded) {
            return bind(turn, &claim, &all[at]).await;
        }
        let name = class_of(&claim.spec, &claim.metadata);
        let class = turn.store::<StorageClass>()?.get(&ObjectKey::cluster(&*name));
        let Some(class) = class else {
            turn.event(match name.is_empty() {
                true => {
                    let message =
                        "no persistent volumes available for this claim and no storage class is set";
                    Note::normal("FailedBinding", "Bind", message)
                }
                false => {
                    let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
                    Note::warning("ProvisioningFailed", "Provision", message)
                }
            });
            return say(turn, &claim, "Pending", None);
        };
        let class = class.decode()?;
        let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
        if waits && !claim.annotations().contains_key(NODE) {
            let message = "waiting for first consumer to be created before binding";
            turn.event(Note::normal("WaitForFirstConsumer", "Bind", message));
            return say(turn, &claim, "Pending", None);
        }
        let by = &class.provisioner;
        if by.starts_with(BUILT_IN) {
            let message = format!("no volume plugin matched name: {by}");
            turn.event(Note::warning("ProvisioningFailed", "Provision", message));
            return say(turn, &claim, "Pending", None);
        }
        if claim.annotations().get(PROVISIONER) != Some(by) {
            let patch = json!({"metadata": {"annotations": {PROVISIONER: by, OLD_PROVISIONER: by}}});
            turn.merge_latest(patch).await?;
        }
        if class.provisioner == SIMULATED {
            provision(turn, &claim, &class).await?;
        } else {
            let message = format!(
                "Waiting for a volume to be created either by the external provisioner '{by}' or manually by the system \
                 administrator. If volume creation is delayed, please verify that the provisioner is running and correctly registered."
            );
            turn.event(Note::normal("ExternalProvisioning", "Provision", message));
        }
        say(turn, &claim, "Pending", None)
    }
}

/// Makes the volume of a claim. Its name follows from the claim's, so that there is never a second one.
async fn provision(
    turn: &mut Turn<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    class: &StorageClass,
) -> Result<()> {
    let name = format!("pvc-{}", claim.uid().unwrap_or_default());
    let spec = claim.spec.clone().unwrap_or_default();
    let volume = PersistentVolume {
        metadata: ObjectMeta {
            name: Some(name.clone()),
            annotations: Some([(PROVISIONED_BY.to_owned(), SIMULATED.to_owned())].into()),
            ..ObjectMeta::default()
        },
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            capacity: spec.resources.and_then(|resources| resources.requests),
            claim_ref: Some(reference_to(claim)),
            host_path: Some(HostPathVolumeSource {
                path: format!("/simulated/{name}"),
                type_: None,
            }),
            persistent_volume_reclaim_policy: Some(
                class
                    .reclaim_policy
                    .clone()
                    .unwrap_or_else(|| "Delete".to_owned()),
            ),
            storage_class_name: class.metadata.name.clone(),
            volume_mode: spec.volume_mode,
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    };
    match turn.create(&volume).await {
        Ok(_) => {
            let message = format!("Successfully provisioned volume {name}");
            turn.event(Note::normal("ProvisioningSucceeded", "Provision", message));
            Ok(())
        }
        Err(error) if is_taken(&error) => Ok(()),
        Err(error) => {
            let message = format!("failed to provision volume: {}", words_of(&error));
            turn.event(Note::warning("ProvisioningFailed", "Provision", message));
            Err(error)
        }
    }
}

/// Has a claim and a volume name each other.
async fn bind(
    turn: &mut Turn<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    cached: &Cached<PersistentVolume>,
) -> Result<Next> {
    let volume = cached.decode()?;
    let spec = volume.spec.clone().unwrap_or_default();
    let owner = spec.claim_ref.as_ref();
    if owner.is_some_and(|owner| !is_for(owner, claim)) {
        return say(turn, claim, "Pending", None); // it is another one's
    }
    if owner.is_none_or(|owner| owner.uid != claim.metadata.uid) {
        let mut patch = json!({"metadata": {"resourceVersion": cached.resource_version()}, "spec": {"claimRef": reference_to(claim)}});
        if owner.is_none() {
            patch["metadata"]["annotations"][BOUND_BY] = "yes".into();
        }
        turn.merge_all(vec![(cached.clone(), patch)]).await.failure?;
    }
    let named = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.as_deref())
        .unwrap_or_default();
    if named != cached.name() || !claim.annotations().contains_key(COMPLETED) {
        let mut patch =
            json!({"metadata": {"annotations": {COMPLETED: "yes"}}, "spec": {"volumeName": cached.name()}});
        if named.is_empty() {
            patch["metadata"]["annotations"][BOUND_BY] = "yes".into();
        }
        turn.merge_latest(patch).await?;
    }
    say(turn, claim, "Bound", Some(&spec))
}

/// Says how a claim is.
fn say(
    turn: &mut Turn<PersistentVolumeClaim>,
    claim: &PersistentVolumeClaim,
    phase: &str,
    volume: Option<&PersistentVolumeSpec>,
) -> Result<Next> {
    let before = claim.status.clone().unwrap_or_default();
    let after = PersistentVolumeClaimStatus {
        phase: Some(phase.to_owned()),
        access_modes: volume.and_then(|volume| volume.access_modes.clone()),
        capacity: volume.and_then(|volume| volume.capacity.clone()),
        ..before
    };
    turn.put_status(claim.status.as_ref(), &after)?;
    Ok(Next::Done)
}

struct Volumes {
    clock: Clock,
}

impl Reconcile<PersistentVolume> for Volumes {
    async fn reconcile(&self, turn: &mut Turn<PersistentVolume>) -> Result<Next> {
        let Some(volume) = turn.latest().filter(|_| !turn.is_deleting()) else {
            return Ok(Next::Done);
        };
        let spec = volume.spec.clone().unwrap_or_default();
        let Some(owner) = spec.claim_ref.clone().filter(|owner| owner.uid.is_some()) else {
            return self.say(turn, &volume, "Available", None);
        };
        let key = ObjectKey {
            namespace: owner.namespace.clone().unwrap_or_default(),
            name: owner.name.clone().unwrap_or_default(),
        };
        let claim = turn.store::<PersistentVolumeClaim>()?.get(&key);
        let is_there = claim.is_some_and(|claim| Some(&*claim.uid()) == owner.uid.as_deref());
        if is_there {
            return self.say(turn, &volume, "Bound", None);
        }
        // The claim may be newer than its watch tells: the server has the last word.
        let claims: kube::Api<PersistentVolumeClaim> =
            kube::Api::namespaced(turn.client().clone(), &key.namespace);
        let there = claims.get_metadata_opt(&key.name).await?;
        if there.is_some_and(|claim| claim.metadata.uid == owner.uid) {
            return Ok(Next::Again);
        }
        match spec.persistent_volume_reclaim_policy.as_deref() {
            Some("Delete")
                if volume
                    .annotations()
                    .get(PROVISIONED_BY)
                    .is_some_and(|by| by == SIMULATED) =>
            {
                let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
                if phase == Some("Bound") {
                    // One that is bound is protected: it comes again when that is told.
                    return self.say(turn, &volume, "Released", None);
                }
                turn.delete(&*volume).await.map(|()| Next::Done)
            }
            Some("Recycle") => {
                let message = "No recycler plugin found for the volume!";
                turn.event(Note::warning("VolumeFailedRecycle", "Reclaim", message));
                self.say(turn, &volume, "Failed", Some(message))
            }
            // Others see to what they have made.
            _ => self.say(turn, &volume, "Released", None),
        }
    }
}

impl Volumes {
    fn say(
        &self,
        turn: &mut Turn<PersistentVolume>,
        volume: &PersistentVolume,
        phase: &str,
        message: Option<&str>,
    ) -> Result<Next> {
        let before = volume.status.clone().unwrap_or_default();
        if before.phase.as_deref() == Some(phase) {
            return Ok(Next::Done);
        }
        let now: Timestamp = self.clock.now();
        let after = PersistentVolumeStatus {
            phase: Some(phase.to_owned()),
            message: message.map(str::to_owned),
            last_phase_transition_time: Some(Time(now)),
            ..before
        };
        turn.put_status(volume.status.as_ref(), &after)?;
        Ok(Next::Done)
    }
}
