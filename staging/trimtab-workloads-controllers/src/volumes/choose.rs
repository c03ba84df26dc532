//! Which volume a claim is given.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{
    ObjectReference, PersistentVolume, PersistentVolumeClaim, PersistentVolumeClaimSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use trimtab_apimachinery_meta::Quantity;

use crate::workload::template;

/// The class by which claims and volumes were told before there was a field for it.
const CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a claim; empty if it has none.
pub(super) fn class_of(spec: &Option<PersistentVolumeClaimSpec>, meta: &ObjectMeta) -> String {
    let annotated = meta
        .annotations
        .as_ref()
        .and_then(|annotations| annotations.get(CLASS));
    let named = spec.as_ref().and_then(|spec| spec.storage_class_name.as_ref());
    annotated.or(named).cloned().unwrap_or_default()
}

/// Whether a volume is kept for a claim.
pub(super) fn is_for(reference: &ObjectReference, claim: &PersistentVolumeClaim) -> bool {
    reference.namespace == claim.metadata.namespace
        && reference.name == claim.metadata.name
        && reference
            .uid
            .as_ref()
            .is_none_or(|uid| uid.is_empty() || Some(uid) == claim.metadata.uid.as_ref())
}

/// The place of the volume that fits a claim best: the one that is kept for it, or else the smallest that is large enough.
pub(super) fn choose(claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]) -> Option<usize> {
    let spec = claim.spec.as_ref()?;
    let class = class_of(&claim.spec, &claim.metadata);
    let wanted = storage(
        spec.resources
            .as_ref()
            .and_then(|resources| resources.requests.as_ref()),
    );
    let selector = spec.selector.as_ref().map(template::selector);
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let mode = |mode: Option<&String>| mode.cloned().unwrap_or_else(|| "Filesystem".to_owned());
    let mut best: Option<(bool, Quantity, usize)> = None;
    for (at, volume) in volumes.iter().enumerate() {
        let Some(offered) = &volume.spec else { continue };
        let kept = offered.claim_ref.as_ref();
        let is_kept = kept.is_some_and(|kept| is_for(kept, claim));
        if volume.metadata.deletion_timestamp.is_some() || (kept.is_some() && !is_kept) {
            continue;
        }
        let size = storage(offered.capacity.as_ref());
        let labels = volume.metadata.labels.as_ref();
        let selected = match &selector {
            None => true,
            Some(Some(selector)) => selector.matches_with(|name| labels?.get(name)),
            Some(None) => false,
        };
        let offers = offered.access_modes.as_deref().unwrap_or_default();
        let fits = size >= wanted
            && mode(offered.volume_mode.as_ref()) == mode(spec.volume_mode.as_ref())
            && modes.iter().all(|mode| offers.contains(mode));
        let named = offered.storage_class_name.clone().unwrap_or_default() == class;
        if !fits || !(is_kept || (named && selected)) {
            continue;
        }
        let better = best.is_none_or(|(before_kept, before, _)| (!is_kept, size) < (!before_kept, before));
        if better {
            best = Some((is_kept, size, at));
        }
    }
    best.map(|(.., at)| at)
}

type Amounts = std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>;

fn storage(amounts: Option<&Amounts>) -> Quantity {
    let amount = amounts.and_then(|amounts| amounts.get("storage"));
    let parsed = amount.and_then(|amount| amount.0.parse().ok());
    parsed.unwrap_or_else(|| Quantity::whole(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn volume(size: &str, more: Value) -> Arc<PersistentVolume> {
        let mut object = json!({"metadata": {"labels": {"tier": "a"}}, "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "fast"}});
        for (field, value) in more.as_object().into_iter().flatten() {
            object["spec"][field] = value.clone();
        }
        Arc::new(serde_json::from_value(object).expect("a volume"))
    }

    #[test]
    fn claims_get_the_smallest_volume_that_fits() {
        let claim = |more: Value| -> PersistentVolumeClaim {
            let mut object = json!({"metadata": {"name": "c", "namespace": "ns", "uid": "u"}, "spec": {
                "accessModes": ["ReadWriteOnce"], "storageClassName": "fast", "resources": {"requests": {"storage": "5Gi"}}}});
            for (field, value) in more.as_object().into_iter().flatten() {
                object["spec"][field] = value.clone();
            }
            serde_json::from_value(object).expect("a claim")
        };
        let own = json!({"claimRef": {"name": "c", "namespace": "ns"}});
        let others = json!({"claimRef": {"name": "c", "namespace": "ns", "uid": "before"}});
        let cases = [
            (
                json!({}),
                vec![
                    volume("10Gi", json!({})),
                    volume("5Gi", json!({})),
                    volume("1Gi", json!({})),
                ],
                Some(1),
            ),
            (
                json!({}),
                vec![volume("5Gi", json!({})), volume("10Gi", own)],
                Some(1),
            ),
            (json!({}), vec![volume("5Gi", others)], None),
            (
                json!({}),
                vec![volume("5Gi", json!({"storageClassName": "slow"}))],
                None,
            ),
            (
                json!({"accessModes": ["ReadWriteMany"]}),
                vec![volume("5Gi", json!({}))],
                None,
            ),
            (
                json!({"volumeMode": "Block"}),
                vec![volume("5Gi", json!({}))],
                None,
            ),
            (
                json!({"selector": {"matchLabels": {"tier": "a"}}}),
                vec![volume("5Gi", json!({}))],
                Some(0),
            ),
            (
                json!({"selector": {"matchLabels": {"tier": "b"}}}),
                vec![volume("5Gi", json!({}))],
                None,
            ),
        ];
        for (more, volumes, expected) in cases {
            assert_eq!(choose(&claim(more.clone()), &volumes), expected, "{more}");
        }
    }
}
