//! What was found while a namespace was emptied, and how its conditions tell it.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use trimtab_apimachinery_meta::conditions::{FALSE, TRUE};

/// What one turn found. Texts are kube-controller-manager's.
#[derive(Debug, Default)]
pub(super) struct Findings {
    /// Why not everything that may be in the namespace is known.
    pub(super) discovery_failure: Option<String>,
    /// What could not be deleted, and why.
    pub(super) failures: Vec<String>,
    /// How many objects are left, by resource and group, as in `pods.` and `leases.coordination.k8s.io`.
    pub(super) remaining: BTreeMap<String, usize>,
    /// How many of these each finalizer holds.
    pub(super) finalizers: BTreeMap<String, usize>,
}

/// A condition's type, and its reason and message when all is well.
struct Kind {
    type_: &'static str,
    reason: &'static str,
    message: &'static str,
}

/// In the order in which they are written. Group versions come from discovery in parts, so that none can be misread.
const KINDS: [Kind; 5] = [
    Kind {
        type_: "NamespaceDeletionDiscoveryFailure",
        reason: "ResourcesDiscovered",
        message: "All resources successfully discovered",
    },
    Kind {
        type_: "NamespaceDeletionGroupVersionParsingFailure",
        reason: "ParsedGroupVersions",
        message: "All legacy kube types successfully parsed",
    },
    Kind {
        type_: "NamespaceDeletionContentFailure",
        reason: "ContentDeleted",
        message: "All content successfully deleted, may be waiting on finalization",
    },
    Kind {
        type_: "NamespaceContentRemaining",
        reason: "ContentRemoved",
        message: "All content successfully removed",
    },
    Kind {
        type_: "NamespaceFinalizersRemaining",
        reason: "ContentHasNoFinalizers",
        message: "All content-preserving finalizers finished",
    },
];

impl Findings {
    /// How many objects are left.
    pub(super) fn count(&self) -> usize {
        self.remaining.values().sum()
    }

    /// Whether nothing is left and nothing went wrong.
    pub(super) fn is_empty(&self) -> bool {
        self.discovery_failure.is_none() && self.failures.is_empty() && self.remaining.is_empty()
    }

    /// Adds what was found of another part of the content.
    pub(super) fn add(&mut self, other: Self) {
        self.discovery_failure = self.discovery_failure.take().or(other.discovery_failure);
        self.failures.extend(other.failures);
        for (counts, others) in [
            (&mut self.remaining, other.remaining),
            (&mut self.finalizers, other.finalizers),
        ] {
            for (name, count) in others {
                *counts.entry(name).or_default() += count;
            }
        }
    }

    /// Sets the conditions and says whether any changed. Only a new status has a new time.
    pub(super) fn tell(&self, status: &mut NamespaceStatus, now: &Time) -> bool {
        let conditions = status.conditions.get_or_insert_default();
        let mut changed = false;
        for kind in &KINDS {
            let (status, reason, message) = match self.trouble(kind.type_) {
                Some((reason, message)) => (TRUE, reason, message),
                None => (FALSE, kind.reason, kind.message.to_owned()),
            };
            let mut new = NamespaceCondition {
                type_: kind.type_.to_owned(),
                status: status.to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message),
                last_transition_time: Some(now.clone()),
            };
            let Some(old) = conditions.iter_mut().find(|old| old.type_ == new.type_) else {
                conditions.push(new);
                changed = true;
                continue;
            };
            if old.status == new.status {
                new.last_transition_time.clone_from(&old.last_transition_time);
            }
            changed |= *old != new;
            *old = new;
        }
        changed
    }

    /// The reason and message of a condition that is not well.
    fn trouble(&self, type_: &str) -> Option<(&'static str, String)> {
        match type_ {
            "NamespaceDeletionDiscoveryFailure" => Some(("DiscoveryFailed", self.discovery_failure.clone()?)),
            "NamespaceDeletionContentFailure" if !self.failures.is_empty() => {
                let mut failures = self.failures.clone();
                failures.sort();
                let (count, all) = (failures.len(), failures.join(", "));
                let message = format!("Failed to delete all resource types, {count} remaining: {all}");
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.remaining.is_empty() => {
                let each = self
                    .remaining
                    .iter()
                    .map(|(name, count)| format!("{name} has {count} resource instances"));
                let all: Vec<_> = each.collect();
                Some((
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", all.join(", ")),
                ))
            }
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => {
                let each = self
                    .finalizers
                    .iter()
                    .map(|(name, count)| format!("{name} in {count} resource instances"));
                let all: Vec<_> = each.collect();
                Some((
                    "SomeFinalizersRemain",
                    format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        all.join(", ")
                    ),
                ))
            }
            _ => None,
        }
    }
}
