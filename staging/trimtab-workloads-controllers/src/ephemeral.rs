//! The controller of ephemeral volumes: claims that pods declare in place, and that go with them.

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;
use trimtab_apimachinery_meta::{ObjectKey, owner};
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::Watch;
use trimtab_controller_runtime::{Error, Manager, Next, Reconcile, Result, Turn};

use crate::workload::template;
use crate::workload::words::{is_ending, is_taken, words_of};

/// The controller's name.
pub(crate) const NAME: &str = "ephemeral-volume-controller";

/// How many pods are worked on at once.
const WORKERS: usize = 4;

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, _: &crate::Options) -> Result<()> {
    // A pod's volumes never change.
    let declares =
        Predicate::new(|delta: &Delta<Pod>| matches!(delta, Delta::Added { object, .. } if declares(object)));
    manager
        .controller::<Pod, _>(Ephemeral)
        .named(NAME)
        .reporting_as("ephemeral_volume")
        .watching(Watch::new().when(declares))
        .owns::<PersistentVolumeClaim>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// Whether a pod has such a volume.
fn declares(pod: &Cached<Pod>) -> bool {
    #[derive(Deserialize)]
    struct Sort {
        ephemeral: Option<IgnoredAny>,
    }
    let volumes: Option<Vec<Sort>> = pod.read(["spec", "volumes"]).ok().flatten();
    volumes
        .into_iter()
        .flatten()
        .any(|volume| volume.ephemeral.is_some())
}

struct Ephemeral;

impl Reconcile<Pod> for Ephemeral {
    async fn reconcile(&self, turn: &mut Turn<Pod>) -> Result<Next> {
        let Some(pod) = turn.latest().filter(|_| !turn.is_deleting()) else {
            return Ok(Next::Done);
        };
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        for volume in volumes {
            let Some(claim) = claim(&pod, volume) else {
                continue;
            };
            let made = make(turn, &pod, &claim).await;
            match made {
                Ok(()) => {}
                Err(error) if is_ending(&error) => return Ok(Next::Done),
                Err(error) => {
                    let message = format!("ephemeral volume {}: {}", volume.name, words_of(&error));
                    turn.event(Note::warning("FailedBinding", "Bind", message));
                    return Err(error);
                }
            }
        }
        Ok(Next::Done)
    }
}

/// Makes the claim, unless it is there.
async fn make(turn: &mut Turn<Pod>, pod: &Pod, claim: &PersistentVolumeClaim) -> Result<()> {
    let name = claim.metadata.name.clone().unwrap_or_default();
    let key = ObjectKey {
        namespace: turn.key().namespace.clone(),
        name,
    };
    let Some(there) = turn.store::<PersistentVolumeClaim>()?.get(&key) else {
        return match turn.create(claim).await {
            // The watch tells whose it is.
            Err(error) if is_taken(&error) => Ok(()),
            made => made.map(drop),
        };
    };
    let meta = there.meta()?;
    let is_ours = owner::controller_of(&meta).is_some_and(|by| Some(&by.uid) == pod.metadata.uid.as_ref());
    match is_ours {
        true => Ok(()),
        false => Err(Error::other(format!(
            "PVC {key} was not created for pod {} (pod is not owner)",
            turn.key()
        ))),
    }
}

/// The claim of a volume, if the pod declares it in place.
fn claim(pod: &Pod, volume: &Volume) -> Option<PersistentVolumeClaim> {
    let template = volume.ephemeral.as_ref()?.volume_claim_template.as_ref()?;
    let meta = template.metadata.clone().unwrap_or_default();
    Some(PersistentVolumeClaim {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", pod.metadata.name.as_deref()?, volume.name)),
            namespace: pod.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            owner_references: Some(vec![template::owner_of(pod)?]),
            ..ObjectMeta::default()
        },
        spec: Some(template.spec.clone()),
        status: None,
    })
}
