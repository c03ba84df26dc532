//! Claims and volumes as far as they bind pods to nodes.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt;
use trimtab_apimachinery_meta::{ObjectKey, Quantity};
use trimtab_client_cache::key_of;

use super::snapshot::Node;
use super::terms::{NodeTerm, Selector};
use super::wants::Wants;

const BOUND: &str = "pv.kubernetes.io/bind-completed";
/// Tells provisioners where a claim's pod is going to be.
pub(crate) const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// A class of volumes that somebody makes by hand.
const BY_HAND: &str = "kubernetes.io/no-provisioner";

pub(crate) const OTHER_NODES: &str = "node(s) didn't match PersistentVolume's node affinity";
pub(crate) const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
pub(crate) const NO_VOLUME: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";

/// All claims, volumes and classes.
#[derive(Debug, Default)]
pub(crate) struct Volumes {
    claims: HashMap<ObjectKey, Claim>,
    volumes: HashMap<String, Volume>,
    classes: HashMap<String, Class>,
}

#[derive(Debug)]
struct Claim {
    volume: String,
    bound: bool,
    lost: bool,
    deleting: bool,
    class: String,
    asks: i64,
    modes: Vec<String>,
    selector: Option<Selector>,
}

#[derive(Debug)]
struct Volume {
    /// Where it can be reached, if not everywhere.
    terms: Option<Vec<NodeTerm>>,
    free: bool,
    class: String,
    has: i64,
    modes: Vec<String>,
    labels: super::terms::Labels,
}

#[derive(Debug)]
struct Class {
    /// Volumes are bound when a pod that uses them has its node.
    late: bool,
    provisions: bool,
    /// Where it can provide volumes, if not everywhere: the values of labels, by alternatives.
    topologies: Vec<Vec<(String, Vec<String>)>>,
}

/// What has to be done about a claim before its pod is bound to a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// The claim's volume is to be made for the node.
    Provision(ObjectKey),
    /// The volume of this name is to be the claim's.
    Bind(ObjectKey, String),
}

/// What a pod's claims demand of its node.
#[derive(Debug, Default)]
pub(crate) struct Needs<'a> {
    bound: Vec<Option<&'a Volume>>,
    late: Vec<(ObjectKey, &'a Claim)>,
}

impl Volumes {
    pub(crate) fn set_claim(&mut self, claim: &PersistentVolumeClaim) {
        let (spec, status) = (
            claim.spec.clone().unwrap_or_default(),
            claim.status.clone().unwrap_or_default(),
        );
        let phase = status.phase.unwrap_or_default();
        let requests = spec.resources.and_then(|resources| resources.requests);
        let asks = requests.and_then(|requests| requests.get("storage").cloned());
        let volume = spec.volume_name.unwrap_or_default();
        let state = Claim {
            bound: is_bound(claim),
            volume,
            lost: phase == "Lost",
            deleting: claim.metadata.deletion_timestamp.is_some(),
            class: spec.storage_class_name.unwrap_or_default(),
            asks: amount(asks.as_ref().map(|asks| asks.0.as_str())),
            modes: spec.access_modes.unwrap_or_default(),
            selector: Selector::of(spec.selector.as_ref()),
        };
        self.claims.insert(key_of(claim), state);
    }

    pub(crate) fn remove_claim(&mut self, key: &ObjectKey) {
        self.claims.remove(key);
    }

    pub(crate) fn set_volume(&mut self, volume: &PersistentVolume) {
        let spec = volume.spec.clone().unwrap_or_default();
        let required = spec.node_affinity.and_then(|affinity| affinity.required);
        let has = spec
            .capacity
            .and_then(|capacity| capacity.get("storage").cloned());
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        let state = Volume {
            terms: required.map(|required| {
                required
                    .node_selector_terms
                    .iter()
                    .filter_map(NodeTerm::of)
                    .collect()
            }),
            free: spec.claim_ref.is_none() && matches!(phase, None | Some("" | "Available" | "Pending")),
            class: spec.storage_class_name.unwrap_or_default(),
            has: amount(has.as_ref().map(|has| has.0.as_str())),
            modes: spec.access_modes.unwrap_or_default(),
            labels: volume.labels().clone(),
        };
        self.volumes.insert(volume.name_any(), state);
    }

    pub(crate) fn remove_volume(&mut self, name: &str) {
        self.volumes.remove(name);
    }

    pub(crate) fn set_class(&mut self, class: &StorageClass) {
        let topologies = class.allowed_topologies.iter().flatten().map(|term| {
            let expressions = term.match_label_expressions.iter().flatten();
            expressions
                .map(|one| (one.key.clone(), one.values.clone()))
                .collect()
        });
        let state = Class {
            late: class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer"),
            provisions: !matches!(class.provisioner.as_str(), "" | BY_HAND),
            topologies: topologies.collect(),
        };
        self.classes.insert(class.name_any(), state);
    }

    pub(crate) fn remove_class(&mut self, name: &str) {
        self.classes.remove(name);
    }

    /// What the pod's claims demand, or why it cannot be on any node.
    pub(crate) fn needs(&self, wants: &Wants) -> Result<Needs<'_>, String> {
        let mut needs = Needs::default();
        let mut unbound = false;
        for used in &wants.claims {
            let (name, key) = (&used.name, ObjectKey::namespaced(&wants.namespace, &used.name));
            let Some(claim) = self.claims.get(&key) else {
                return Err(match used.ephemeral {
                    true => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    ),
                    false => format!("persistentvolumeclaim \"{name}\" not found"),
                });
            };
            if claim.lost {
                let volume = &claim.volume;
                return Err(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            if claim.deleting {
                return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            let late = self.classes.get(&claim.class).is_some_and(|class| class.late);
            if claim.bound {
                needs.bound.push(self.volumes.get(&claim.volume));
            } else if late {
                needs.late.push((key, claim));
            } else {
                unbound = true;
            }
        }
        if unbound {
            return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
        }
        Ok(needs)
    }

    /// Why the node is not where the claims' volumes are, or could be.
    pub(crate) fn refuses(&self, needs: &Needs<'_>, node: &Node) -> Option<&'static str> {
        for volume in &needs.bound {
            match volume {
                None => return Some(NO_VOLUME),
                Some(volume) if !volume.is_reached_from(node) => return Some(OTHER_NODES),
                Some(_) => {}
            }
        }
        let all = self.bindings(needs, node);
        all.is_none().then_some(NONE_TO_BIND)
    }

    /// What is to be done about the claims for the pod to be on this node; `None` if it cannot be.
    pub(crate) fn bindings(&self, needs: &Needs<'_>, node: &Node) -> Option<Vec<Binding>> {
        let mut taken: Vec<&str> = Vec::new();
        let mut bindings = Vec::new();
        for (key, claim) in &needs.late {
            let free = self.volumes.iter().filter(|(name, volume)| {
                volume.suits(claim) && volume.is_reached_from(node) && !taken.contains(&name.as_str())
            });
            // The smallest that is large enough; of equal ones that with the first name.
            let best = free.min_by_key(|(name, volume)| (volume.has, name.as_str()));
            if let Some((name, _)) = best {
                taken.push(name);
                bindings.push(Binding::Bind(key.clone(), name.clone()));
                continue;
            }
            let class = self.classes.get(&claim.class)?;
            let reached = class.topologies.is_empty()
                || class.topologies.iter().any(|term| {
                    term.iter()
                        .all(|(key, values)| node.labels.get(key).is_some_and(|value| values.contains(value)))
                });
            if !class.provisions || !reached {
                return None;
            }
            bindings.push(Binding::Provision(key.clone()));
        }
        Some(bindings)
    }
}

impl Volume {
    fn is_reached_from(&self, node: &Node) -> bool {
        let terms = self.terms.as_ref();
        terms.is_none_or(|terms| terms.iter().any(|term| term.matches(&node.name, &node.labels)))
    }

    fn suits(&self, claim: &Claim) -> bool {
        self.free
            && self.class == claim.class
            && self.has >= claim.asks
            && claim.modes.iter().all(|mode| self.modes.contains(mode))
            && claim
                .selector
                .as_ref()
                .is_none_or(|selector| selector.matches(&self.labels))
    }
}

/// Whether the claim has its volume.
pub(crate) fn is_bound(claim: &PersistentVolumeClaim) -> bool {
    let (spec, status) = (claim.spec.as_ref(), claim.status.as_ref());
    let named = spec.is_some_and(|spec| spec.volume_name.as_ref().is_some_and(|name| !name.is_empty()));
    let phase = status.and_then(|status| status.phase.as_deref());
    named && (claim.annotations().contains_key(BOUND) || phase == Some("Bound"))
}

fn amount(text: Option<&str>) -> i64 {
    let quantity = text.and_then(|text| text.parse().ok());
    quantity.map_or(0, Quantity::value)
}
