//! The claims of a StatefulSet's pods: made after templates, and owned by those with whom they are to go.

use k8s_openapi::api::apps::v1::StatefulSet;
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PodTemplateSpec, Volume};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};

use crate::workload::template;

/// Who a pod is, to its claims.
#[derive(Clone, Debug)]
pub(super) struct Holder<'a> {
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    /// Whether the set wants a pod of its ordinal.
    pub(super) wanted: bool,
}

/// The claims of the pod with this ordinal.
pub(super) fn claims(set: &StatefulSet, ordinal: i32) -> Vec<PersistentVolumeClaim> {
    let Some(spec) = &set.spec else { return Vec::new() };
    let templates = spec.volume_claim_templates.iter().flatten();
    let made = templates.map(|template| {
        let mut claim = template.clone();
        let mut labels = claim.metadata.labels.take().unwrap_or_default();
        labels.extend(spec.selector.match_labels.clone().into_iter().flatten());
        claim.metadata = ObjectMeta {
            name: Some(claim_name(set, template, ordinal)),
            namespace: set.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: claim.metadata.annotations.take(),
            finalizers: claim.metadata.finalizers.take(),
            ..ObjectMeta::default()
        };
        claim.status = None;
        claim
    });
    made.collect()
}

fn claim_name(set: &StatefulSet, template: &PersistentVolumeClaim, ordinal: i32) -> String {
    let name = |meta: &ObjectMeta| meta.name.clone().unwrap_or_default();
    format!("{}-{}-{ordinal}", name(&template.metadata), name(&set.metadata))
}

/// Has a pod's template use the claims instead of volumes of the same names.
pub(super) fn mount(set: &StatefulSet, template: &mut PodTemplateSpec, ordinal: i32) {
    let templates = set
        .spec
        .iter()
        .flat_map(|spec| spec.volume_claim_templates.iter().flatten());
    let claimed: Vec<Volume> = templates
        .map(|template| {
            let mut volume = Volume::default();
            volume.name = template.metadata.name.clone().unwrap_or_default();
            let claim = volume.persistent_volume_claim.get_or_insert_default();
            claim.claim_name = claim_name(set, template, ordinal);
            volume
        })
        .collect();
    if claimed.is_empty() {
        return;
    }
    let volumes = template
        .spec
        .get_or_insert_default()
        .volumes
        .get_or_insert_default();
    volumes.retain(|volume| claimed.iter().all(|claimed| claimed.name != volume.name));
    volumes.splice(0..0, claimed);
}

/// What becomes of claims: when the set is deleted, and when it gets smaller.
pub(super) fn retained(set: &StatefulSet) -> (bool, bool) {
    let spec = set.spec.as_ref();
    let policy = spec.and_then(|spec| spec.persistent_volume_claim_retention_policy.as_ref());
    let kept = |policy: Option<&String>| policy.is_none_or(|policy| policy != "Delete");
    (
        kept(policy.and_then(|policy| policy.when_deleted.as_ref())),
        kept(policy.and_then(|policy| policy.when_scaled.as_ref())),
    )
}

/// Whether the claim goes with a pod that had the holder's name before.
pub(super) fn is_stale(claim: &ObjectMeta, pod: &str) -> bool {
    let mut owners = claim.owner_references.iter().flatten();
    owners.any(|owner| owner.kind == "Pod" && owner.api_version == "v1" && owner.name == pod)
}

/// Whose a claim is to be; `None` if it is right as it is, or if it is not for this set to say.
pub(super) fn owners(
    claim: &ObjectMeta,
    set: &StatefulSet,
    holder: &Holder<'_>,
) -> Option<Vec<OwnerReference>> {
    let there = claim.owner_references.clone().unwrap_or_default();
    let own = template::owner_of(set)?;
    let pod = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: holder.name.to_owned(),
        uid: holder.uid.to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    let is = |reference: &OwnerReference, of: &OwnerReference| {
        reference.api_version == of.api_version && reference.kind == of.kind && reference.name == of.name
    };
    let is_ours = |reference: &OwnerReference| is(reference, &own) || is(reference, &pod);
    // Those of the same names that are gone: the garbage collector sees to that.
    let stale = |reference: &&OwnerReference| {
        (is(reference, &own) && reference.uid != own.uid) || (is(reference, &pod) && reference.uid != pod.uid)
    };
    if there.iter().any(|reference| stale(&reference)) {
        return None;
    }
    let (when_deleted, when_scaled) = retained(set);
    let mut wanted: Vec<_> = there
        .iter()
        .filter(|reference| !is_ours(reference))
        .cloned()
        .collect();
    let foreign = wanted.iter().any(|reference| reference.controller == Some(true));
    if !foreign || (when_deleted && when_scaled) {
        match (when_deleted, when_scaled) {
            (_, false) if !holder.wanted => wanted.push(pod),
            (false, _) => wanted.push(own),
            _ => {}
        }
    }
    let same = wanted.len() == there.len() && wanted.iter().all(|reference| there.contains(reference));
    (!same).then_some(wanted)
}
