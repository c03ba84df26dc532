//! The graph of owners and dependents, as far as watches and checks have told: a state machine without I/O.
//!
//! It holds what was *observed* by watches, and what dependents *claim* of their owners: a reference's kind, name and UID,
//! and the dependent's own namespace, in which a namespaced owner must be. Claims of the same thing are one. A claim that
//! no observed object bears out is to be checked at the server; only what the server does not have is *absent*, and
//! since a UID never comes back, absence is remembered for as long as anything claims it. So memory is bounded by the
//! observed objects and their references.
//!
//! Each change says by [`Effect`]s what to look at. Looking at something once more than needed does no harm: what is done
//! then is decided from the server's state, not from the graph's.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

/// The identity that an object has for its whole life, and no other object ever.
pub(crate) type Uid = Arc<str>;

/// A kind as owner references write it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Kind {
    pub(crate) api_version: String,
    pub(crate) kind: String,
}

/// Where an object is, or is said to be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Coordinates {
    pub(crate) kind: Arc<Kind>,
    /// Empty if the object is cluster-scoped. In a claim: the namespace of the dependent.
    pub(crate) namespace: Arc<str>,
    pub(crate) name: Arc<str>,
    pub(crate) uid: Uid,
}

/// What a dependent says of an owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) owner: Arc<Coordinates>,
    /// Whether the owner's foreground deletion waits for the dependent.
    pub(crate) blocks: bool,
}

/// Whether an object is being deleted, and what its deletion waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deletion {
    /// It is not being deleted.
    None,
    /// For nothing that concerns the graph.
    Plain,
    /// For its dependents to be deleted.
    Foreground,
    /// For its dependents to be released.
    Orphan,
}

/// What a watch has told of one object.
#[derive(Clone, Debug)]
pub(crate) struct Observed {
    pub(crate) at: Coordinates,
    pub(crate) references: Vec<Reference>,
    pub(crate) deletion: Deletion,
}

/// What a change calls for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    /// Look whether this object is to be deleted, or can finish its foreground deletion.
    Attempt(Uid),
    /// Release the dependents of this object, then let it go.
    Orphan(Uid),
    /// Ask the server whether this owner exists.
    Check(Arc<Coordinates>),
    /// Tell people that this dependent refers to an owner in another namespace.
    Misplaced {
        dependent: Arc<Coordinates>,
        owner: Arc<Coordinates>,
    },
}

/// One observed object, as decisions need it.
#[derive(Clone, Debug)]
pub(crate) struct View {
    pub(crate) at: Arc<Coordinates>,
    pub(crate) deletion: Deletion,
    pub(crate) dependents: Vec<Dependent>,
}

/// A dependent of a viewed object.
#[derive(Clone, Debug)]
pub(crate) struct Dependent {
    pub(crate) at: Arc<Coordinates>,
    pub(crate) deletion: Deletion,
    /// Whether the viewed object's foreground deletion waits for this dependent. It does not if this dependent's waits
    /// for the viewed object's.
    pub(crate) blocks: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    objects: HashMap<Uid, Node>,
    /// No claim is without dependents, and each is in `claims_on` under its UID.
    claims: HashMap<Arc<Coordinates>, Claim>,
    claims_on: HashMap<Uid, Vec<Arc<Coordinates>>>,
}

#[derive(Debug)]
struct Node {
    at: Arc<Coordinates>,
    references: Vec<Reference>,
    deletion: Deletion,
}

#[derive(Debug, Default)]
struct Claim {
    /// Observed objects that have a reference which claims this.
    /// In an order that does not differ from run to run.
    dependents: BTreeSet<Uid>,
    /// The server does not have what is claimed, and never will again.
    absent: bool,
}

// === impl Coordinates ===

impl Kind {
    pub(crate) fn group(&self) -> &str {
        self.api_version.split_once('/').map_or("", |(group, _)| group)
    }
}

impl Coordinates {
    /// Whether a dependent in this claim's namespace may have the object as its owner.
    fn in_reach_of(&self, object: &Self) -> bool {
        object.namespace.is_empty() || object.namespace == self.namespace
    }

    /// Whether the object is what is claimed. Versions of a group name the same objects.
    fn is_borne_out_by(&self, object: &Self) -> bool {
        self.in_reach_of(object)
            && self.uid == object.uid
            && self.name == object.name
            && self.kind.kind == object.kind.kind
            && self.kind.group() == object.kind.group()
    }
}

/// As kube-controller-manager writes it in events.
impl fmt::Display for Coordinates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Kind { api_version, kind } = &*self.kind;
        let (namespace, name, uid) = (&self.namespace, &self.name, &self.uid);
        write!(
            f,
            "[{api_version}/{kind}, namespace: {namespace}, name: {name}, uid: {uid}]"
        )
    }
}

// === impl Graph ===

impl Graph {
    /// A watch says that this object exists and what it is like now.
    pub(crate) fn observe(&mut self, observed: Observed) -> Vec<Effect> {
        let mut effects = Vec::new();
        let uid = observed.at.uid.clone();
        let at = Arc::new(observed.at);
        let references = self.unified(observed.references);
        let node = Node {
            at: at.clone(),
            references: references.clone(),
            deletion: observed.deletion,
        };
        let old = self.objects.insert(uid.clone(), node);
        let (old_at, old_references, old_deletion) = match old {
            Some(old) => (Some(old.at), old.references, old.deletion),
            None => (None, Vec::new(), Deletion::None),
        };

        for reference in &references {
            self.link(reference, &at, &mut effects);
        }
        for old in &old_references {
            let kept = references.iter().find(|new| new.owner == old.owner);
            if kept.is_none() {
                self.unlink(&old.owner, &uid);
            }
            if old.blocks && !kept.is_some_and(|kept| kept.blocks) {
                self.look_at_waiting(&old.owner, &mut effects);
            }
        }
        if old_at.is_none_or(|old_at| old_at != at) {
            self.compare_claims(&at, &mut effects);
        }
        if observed.deletion != old_deletion {
            match observed.deletion {
                Deletion::Orphan => effects.push(Effect::Orphan(uid)),
                Deletion::Foreground => {
                    let dependents = self.dependents(&at).into_iter();
                    effects.extend(dependents.map(|dependent| Effect::Attempt(dependent.at.uid.clone())));
                    effects.push(Effect::Attempt(uid));
                }
                Deletion::None | Deletion::Plain => {}
            }
        }
        effects
    }

    /// A watch says that this object is gone.
    pub(crate) fn vanish(&mut self, uid: &str) -> Vec<Effect> {
        let mut effects = Vec::new();
        let Some(node) = self.remove(uid, &mut effects) else {
            return effects;
        };
        for claimed in self.claims_on.get(uid).cloned().unwrap_or_default() {
            if claimed.is_borne_out_by(&node.at) {
                effects.extend(self.absent(&claimed));
            } else {
                self.check_unless_absent(claimed, &mut effects);
            }
        }
        effects
    }

    /// Objects of this kind are not watched any more: nothing is known of them.
    pub(crate) fn forget_kind(&mut self, kind: &Kind) -> Vec<Effect> {
        let mut effects = Vec::new();
        let of_kind = self.objects.values().filter(|node| *node.at.kind == *kind);
        let mut uids: Vec<_> = of_kind.map(|node| node.at.uid.clone()).collect();
        uids.sort_unstable();
        for uid in uids {
            self.remove(&uid, &mut effects);
            for claimed in self.claims_on.get(&uid).cloned().unwrap_or_default() {
                self.check_unless_absent(claimed, &mut effects);
            }
        }
        effects
    }

    /// The server says that it does not have what is claimed.
    pub(crate) fn absent(&mut self, claimed: &Coordinates) -> Vec<Effect> {
        let Some(claim) = self.claims.get_mut(claimed) else {
            return Vec::new();
        };
        claim.absent = true;
        claim.dependents.iter().cloned().map(Effect::Attempt).collect()
    }

    /// Whether the server is known not to have what is claimed.
    pub(crate) fn is_absent(&self, claimed: &Coordinates) -> bool {
        self.claims.get(claimed).is_some_and(|claim| claim.absent)
    }

    /// Whether there is nothing to be asked about a claim: nobody makes it any more, it is known to be absent, or an
    /// observed object bears it out.
    pub(crate) fn is_settled(&self, claimed: &Coordinates) -> bool {
        let borne_out = || {
            let owner = self.objects.get(&claimed.uid);
            owner.is_some_and(|owner| claimed.is_borne_out_by(&owner.at))
        };
        let claim = self.claims.get(claimed);
        claim.is_none_or(|claim| claim.absent) || borne_out()
    }

    /// Whether a watch tells of this object, and will tell when it goes.
    pub(crate) fn is_watched(&self, uid: &str) -> bool {
        self.objects.contains_key(uid)
    }

    /// An observed object.
    pub(crate) fn view(&self, uid: &str) -> Option<View> {
        let node = self.objects.get(uid)?;
        let mut dependents = self.dependents(&node.at);
        for dependent in &mut dependents {
            dependent.blocks = dependent.blocks && !self.waits_for(&dependent.at, uid);
        }
        Some(View {
            at: node.at.clone(),
            deletion: node.deletion,
            dependents,
        })
    }

    /// How many objects are observed, and how many distinct claims they make.
    #[cfg(test)]
    pub(crate) fn size(&self) -> (usize, usize) {
        (self.objects.len(), self.claims.len())
    }

    /// Whether the foreground deletion of `waiting` waits for that of `awaited`, directly or not.
    fn waits_for(&self, waiting: &Arc<Coordinates>, awaited: &str) -> bool {
        let mut seen = HashSet::new();
        let mut next = vec![waiting.clone()];
        while let Some(at) = next.pop() {
            let waits = self
                .objects
                .get(&at.uid)
                .is_some_and(|node| node.deletion == Deletion::Foreground);
            if !waits || !seen.insert(at.uid.clone()) {
                continue;
            }
            if *at.uid == *awaited {
                return true;
            }
            let blocking = self
                .dependents(&at)
                .into_iter()
                .filter(|dependent| dependent.blocks);
            next.extend(blocking.map(|dependent| dependent.at));
        }
        false
    }

    /// The observed objects that have this one as their owner, each once for each of its references.
    fn dependents(&self, at: &Coordinates) -> Vec<Dependent> {
        let mut dependents = Vec::new();
        let claims = self.claims_on.get(&at.uid).into_iter().flatten();
        for claimed in claims.filter(|claimed| claimed.in_reach_of(at)) {
            let uids = self
                .claims
                .get(claimed)
                .into_iter()
                .flat_map(|claim| &claim.dependents);
            for node in uids.filter_map(|uid| self.objects.get(uid)) {
                let reference = node
                    .references
                    .iter()
                    .find(|reference| reference.owner == *claimed);
                let blocks = reference.is_some_and(|reference| reference.blocks);
                dependents.push(Dependent {
                    at: node.at.clone(),
                    deletion: node.deletion,
                    blocks,
                });
            }
        }
        dependents
    }

    /// The references with claims that are shared with those that exist, each claim once.
    fn unified(&self, references: Vec<Reference>) -> Vec<Reference> {
        let mut unified: Vec<Reference> = Vec::with_capacity(references.len());
        for Reference { owner, blocks } in references {
            match unified.iter_mut().find(|known| known.owner == owner) {
                Some(known) => known.blocks |= blocks,
                None => {
                    let shared = self
                        .claims
                        .get_key_value(&owner)
                        .map(|(shared, _)| shared.clone());
                    unified.push(Reference {
                        owner: shared.unwrap_or(owner),
                        blocks,
                    });
                }
            }
        }
        unified
    }

    fn link(&mut self, reference: &Reference, dependent: &Arc<Coordinates>, effects: &mut Vec<Effect>) {
        let claimed = &reference.owner;
        let known = self.claims.contains_key(claimed);
        if !known {
            let claims = self.claims_on.entry(claimed.uid.clone()).or_default();
            claims.push(claimed.clone());
        }
        let claim = self.claims.entry(claimed.clone()).or_default();
        if !claim.dependents.insert(dependent.uid.clone()) {
            return;
        }
        let absent = claim.absent;
        match self.objects.get(&claimed.uid) {
            _ if absent => effects.push(Effect::Attempt(dependent.uid.clone())),
            Some(owner) if claimed.is_borne_out_by(&owner.at) => {
                if owner.deletion == Deletion::Foreground {
                    effects.push(Effect::Attempt(dependent.uid.clone()));
                }
            }
            owner => {
                if owner.is_some_and(|owner| !claimed.in_reach_of(&owner.at)) {
                    let (dependent, owner) = (dependent.clone(), claimed.clone());
                    effects.push(Effect::Misplaced { dependent, owner });
                }
                if !known {
                    effects.push(Effect::Check(claimed.clone()));
                }
            }
        }
    }

    fn unlink(&mut self, claimed: &Arc<Coordinates>, dependent: &str) {
        let Some(claim) = self.claims.get_mut(claimed) else {
            return;
        };
        claim.dependents.remove(dependent);
        if !claim.dependents.is_empty() {
            return;
        }
        self.claims.remove(claimed);
        if let Some(claims) = self.claims_on.get_mut(&claimed.uid) {
            claims.retain(|other| other != claimed);
            if claims.is_empty() {
                self.claims_on.remove(&claimed.uid);
            }
        }
    }

    /// Removes a node with its references. Owners that wait for it are to be looked at.
    fn remove(&mut self, uid: &str, effects: &mut Vec<Effect>) -> Option<Node> {
        let node = self.objects.remove(uid)?;
        for reference in &node.references {
            self.unlink(&reference.owner, uid);
            self.look_at_waiting(&reference.owner, effects);
        }
        Some(node)
    }

    fn look_at_waiting(&self, owner: &Coordinates, effects: &mut Vec<Effect>) {
        let node = self.objects.get(&owner.uid);
        if node.is_some_and(|node| node.deletion == Deletion::Foreground) {
            effects.push(Effect::Attempt(owner.uid.clone()));
        }
    }

    /// An object was observed for the first time, or under another name of its kind: which claims on it are true? Those
    /// that are not have been checked, or will be.
    fn compare_claims(&mut self, at: &Arc<Coordinates>, effects: &mut Vec<Effect>) {
        for claimed in self.claims_on.get(&at.uid).into_iter().flatten() {
            let Some(claim) = self.claims.get_mut(claimed) else {
                continue;
            };
            if claimed.is_borne_out_by(at) {
                claim.absent = false;
            } else if !claimed.in_reach_of(at) {
                let dependents = claim.dependents.iter().filter_map(|uid| self.objects.get(uid));
                effects.extend(dependents.map(|dependent| Effect::Misplaced {
                    dependent: dependent.at.clone(),
                    owner: claimed.clone(),
                }));
            }
        }
    }

    fn check_unless_absent(&self, claimed: Arc<Coordinates>, effects: &mut Vec<Effect>) {
        if !self.is_absent(&claimed) {
            effects.push(Effect::Check(claimed));
        }
    }
}
