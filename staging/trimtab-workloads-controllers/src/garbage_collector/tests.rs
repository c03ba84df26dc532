//! The graph against a model of the server: whatever the order of events and of work, the same objects are left, nothing
//! is deleted that has an owner, and nothing is left undone.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::PropagationPolicy;
use proptest::prelude::*;
use trimtab_apimachinery_meta::finalizers;

use super::decide::{Decision, FOREGROUND, ORPHAN, Owner, awaited, decide, deletion, living};
use super::graph::{Coordinates, Deletion, Effect, Graph, Kind, Observed, Reference};

/// Two kinds are namespaced, the last one is not. Each has a watch of its own.
const KINDS: [&str; 3] = ["A", "B", "Cluster"];
const STUCK: &str = "example.com/never-removed";

#[derive(Clone, Debug)]
struct Object {
    kind: usize,
    metadata: ObjectMeta,
}

/// What a test case begins with: for each object its kind, namespace and references as (owner's number, blocks,
/// whether the name is wrong).
type Sketch = Vec<(usize, usize, Vec<(usize, bool, bool)>)>;

#[derive(Clone, Debug)]
enum Act {
    Delete(usize, PropagationPolicy),
    Stick(usize),
}

struct Model {
    server: Vec<Object>,
    watches: [VecDeque<(Object, bool)>; 3],
    graph: Graph,
    pending: Vec<Effect>,
    random: u64,
}

impl Object {
    fn sketched(
        number: usize,
        kind: usize,
        namespace: usize,
        references: &[(usize, bool, bool)],
        sketch: &Sketch,
    ) -> Self {
        let reference = |(owner, blocks, wrong): &(usize, bool, bool)| OwnerReference {
            api_version: "v1".into(),
            // A number beyond the objects is an owner that never was.
            kind: KINDS[sketch.get(*owner).map_or(0, |(kind, ..)| *kind)].into(),
            name: if *wrong {
                "wrong".into()
            } else {
                format!("o{owner}")
            },
            uid: format!("u{owner}"),
            controller: None,
            block_owner_deletion: Some(*blocks),
        };
        Self {
            kind,
            metadata: ObjectMeta {
                namespace: (kind < 2).then(|| format!("ns{namespace}")),
                name: Some(format!("o{number}")),
                uid: Some(format!("u{number}")),
                owner_references: Some(references.iter().map(reference).collect()),
                ..ObjectMeta::default()
            },
        }
    }

    fn uid(&self) -> &str {
        self.metadata.uid.as_deref().unwrap_or_default()
    }

    fn owners(&self) -> Vec<OwnerReference> {
        self.metadata.owner_references.clone().unwrap_or_default()
    }

    /// Whether it claims what no cluster-scoped object can have. It is left alone then.
    fn is_beyond_help(&self) -> bool {
        self.owners()
            .iter()
            .any(|owner| is_impossible(&self.claim(owner)))
    }

    fn claim(&self, reference: &OwnerReference) -> Coordinates {
        Coordinates {
            kind: Arc::new(Kind {
                api_version: reference.api_version.clone(),
                kind: reference.kind.clone(),
            }),
            namespace: self.metadata.namespace.clone().unwrap_or_default().into(),
            name: reference.name.as_str().into(),
            uid: reference.uid.as_str().into(),
        }
    }

    fn observed(&self) -> Observed {
        let references = self.owners().into_iter().map(|reference| Reference {
            owner: Arc::new(self.claim(&reference)),
            blocks: reference.block_owner_deletion == Some(true),
        });
        Observed {
            at: Coordinates {
                kind: Arc::new(Kind {
                    api_version: "v1".into(),
                    kind: KINDS[self.kind].into(),
                }),
                namespace: self.metadata.namespace.clone().unwrap_or_default().into(),
                name: self.metadata.name.clone().unwrap_or_default().into(),
                uid: self.uid().into(),
            },
            references: references.collect(),
            deletion: deletion(&self.metadata),
        }
    }
}

fn is_impossible(claim: &Coordinates) -> bool {
    claim.namespace.is_empty() && claim.kind.kind != "Cluster"
}

impl Model {
    fn new(sketch: &Sketch, random: u64) -> Self {
        let objects = sketch.iter().enumerate();
        let server: Vec<_> = objects
            .map(|(n, (kind, ns, refs))| Object::sketched(n, *kind, *ns, refs, sketch))
            .collect();
        let mut watches: [VecDeque<_>; 3] = Default::default();
        for object in &server {
            watches[object.kind].push_back((object.clone(), true));
        }
        Self {
            server,
            watches,
            graph: Graph::default(),
            pending: Vec::new(),
            random: random | 1,
        }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.random = self
            .random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.random >> 33) as usize % bound.max(1)
    }

    // === the server ===

    fn get(&self, claim: &Coordinates) -> Option<&Object> {
        self.server.iter().find(|object| {
            KINDS[object.kind] == claim.kind.kind
                && object.metadata.name.as_deref() == Some(&*claim.name)
                && (object.kind == 2 || object.metadata.namespace.as_deref() == Some(&*claim.namespace))
        })
    }

    fn owner(&self, object: &Object, reference: &OwnerReference) -> Owner {
        match self.get(&object.claim(reference)) {
            Some(owner) if owner.uid() == reference.uid => living(&owner.metadata),
            _ => Owner::Dangling,
        }
    }

    fn write(&mut self, uid: &str, change: impl FnOnce(&mut ObjectMeta)) {
        let Some(at) = self.server.iter().position(|object| object.uid() == uid) else {
            return;
        };
        change(&mut self.server[at].metadata);
        let object = self.server[at].clone();
        let gone = object.metadata.deletion_timestamp.is_some() && object.metadata.finalizers.is_none();
        if gone {
            self.server.remove(at);
        }
        self.watches[object.kind].push_back((object, !gone));
    }

    fn delete(&mut self, uid: &str, policy: &PropagationPolicy) {
        self.write(uid, |metadata| {
            metadata.deletion_timestamp = Some(Time("2024-01-01T00:00:00Z".parse().expect("a time")));
            finalizers::remove(metadata, FOREGROUND);
            finalizers::remove(metadata, ORPHAN);
            match policy {
                PropagationPolicy::Foreground => finalizers::add(metadata, FOREGROUND),
                PropagationPolicy::Orphan => finalizers::add(metadata, ORPHAN),
                PropagationPolicy::Background => false,
            };
        });
    }

    // === the collector ===

    fn deliver(&mut self) -> bool {
        let waiting: Vec<_> = (0..3).filter(|kind| !self.watches[*kind].is_empty()).collect();
        let Some(kind) = waiting.get(self.below(waiting.len())) else {
            return false;
        };
        if let Some((object, exists)) = self.watches[*kind].pop_front() {
            let effects = if exists {
                self.graph.observe(object.observed())
            } else {
                self.graph.vanish(object.uid())
            };
            self.pending.extend(effects);
        }
        true
    }

    /// What a worker does. An error is a wrong deletion.
    fn work(&mut self) -> Result<bool, String> {
        if self.pending.is_empty() {
            return Ok(false);
        }
        let at = self.below(self.pending.len());
        let effect = self.pending.swap_remove(at);
        match &effect {
            Effect::Misplaced { .. } => {}
            Effect::Check(claim) => {
                if !self.graph.is_settled(claim) && !is_impossible(claim) {
                    let exists = self.get(claim).is_some_and(|found| found.uid() == &*claim.uid);
                    let effects = if exists {
                        let watched = self.graph.is_watched(&claim.uid);
                        Vec::from_iter((!watched).then(|| effect.clone()))
                    } else {
                        self.graph.absent(claim)
                    };
                    self.pending.extend(effects);
                }
            }
            Effect::Orphan(uid) => {
                let Some(view) = self
                    .graph
                    .view(uid)
                    .filter(|view| view.deletion == Deletion::Orphan)
                else {
                    return Ok(true);
                };
                for dependent in view.dependents {
                    self.write(&dependent.at.uid, |metadata| {
                        let owners = metadata.owner_references.get_or_insert_default();
                        owners.retain(|owner| owner.uid != **uid);
                    });
                }
                self.write(uid, |metadata| _ = finalizers::remove(metadata, ORPHAN));
            }
            Effect::Attempt(uid) => return self.attempt(uid).map(|()| true),
        }
        Ok(true)
    }

    fn attempt(&mut self, uid: &str) -> Result<(), String> {
        let Some(view) = self.graph.view(uid) else {
            return Ok(());
        };
        let Some(object) = self.server.iter().find(|object| object.uid() == uid).cloned() else {
            return Ok(());
        };
        match view.deletion {
            Deletion::Plain | Deletion::Orphan => return Ok(()),
            Deletion::Foreground => {
                match awaited(&view) {
                    Some(idle) => self.pending.extend(idle.into_iter().map(Effect::Attempt)),
                    None => self.write(uid, |metadata| _ = finalizers::remove(metadata, FOREGROUND)),
                }
                return Ok(());
            }
            Deletion::None => {}
        }
        if object.is_beyond_help() {
            return Ok(());
        }
        let owners = object.owners().into_iter().map(|reference| {
            let known = self.graph.is_absent(&object.claim(&reference));
            let state = if known {
                Owner::Dangling
            } else {
                self.owner(&object, &reference)
            };
            (reference, state)
        });
        let owners: Vec<_> = owners.collect();
        let policy = match decide(&object.metadata, &owners, &view) {
            Decision::Keep => return Ok(()),
            Decision::Release(solid) => {
                self.write(uid, |metadata| metadata.owner_references = Some(solid));
                return Ok(());
            }
            Decision::Delete(policy) => policy,
            Decision::UnblockAndDelete(unblocked) => {
                self.write(uid, |metadata| metadata.owner_references = Some(unblocked));
                PropagationPolicy::Foreground
            }
        };
        if object
            .owners()
            .iter()
            .any(|owner| self.owner(&object, owner) == Owner::Solid)
        {
            return Err(format!("{uid} was to be deleted while it had an owner"));
        }
        if object.metadata.deletion_timestamp.is_none() {
            self.delete(uid, &policy);
        }
        Ok(())
    }

    /// Works and delivers in random order until there is nothing more to do.
    fn settle(&mut self) -> Result<(), String> {
        for _ in 0..20_000 {
            let worked = self.below(2) == 0 && self.work()?;
            let progress = worked || self.deliver() || self.work()?;
            if !progress {
                return Ok(());
            }
        }
        Err(format!("it never ends: {:?}", self.pending))
    }

    fn act(&mut self, act: &Act) {
        match act {
            Act::Delete(number, policy) => self.delete(&format!("u{number}"), policy),
            Act::Stick(number) => self.write(&format!("u{number}"), |metadata| {
                if metadata.deletion_timestamp.is_none() {
                    finalizers::add(metadata, STUCK);
                }
            }),
        }
    }

    fn left(&self) -> BTreeSet<String> {
        self.server.iter().map(|object| object.uid().to_owned()).collect()
    }
}

/// What is left in the end, found without any graph: an object goes if a user deletes it, or if it has owners and each
/// of them is none, or goes.
fn expected(start: &Model, deleted: &[Act]) -> BTreeSet<String> {
    let deleted = |uid: &str| {
        deleted
            .iter()
            .any(|act| matches!(act, Act::Delete(n, _) if uid == format!("u{n}")))
    };
    let mut left: Vec<_> = start
        .server
        .iter()
        .filter(|object| !deleted(object.uid()))
        .collect();
    loop {
        let uids: HashSet<_> = left.iter().map(|object| object.uid().to_owned()).collect();
        let before = left.len();
        left.retain(|object| {
            let exists = |owner: &OwnerReference| {
                start.owner(object, owner) == Owner::Solid && uids.contains(&owner.uid)
            };
            object.owners().is_empty() || object.owners().iter().any(exists)
        });
        if left.len() == before {
            return uids.into_iter().collect();
        }
    }
}

fn sketches() -> impl Strategy<Value = Sketch> {
    let references = prop::collection::vec((0_usize..10, any::<bool>(), prop::bool::weighted(0.1)), 0..3);
    prop::collection::vec((0_usize..3, 0_usize..2, references), 1..9)
}

/// The same without cluster-scoped objects that refer to namespaced ones: those are left alone, and hold what waits for
/// them.
fn possible(mut sketch: Sketch) -> Sketch {
    let kinds: Vec<_> = sketch.iter().map(|(kind, ..)| *kind).collect();
    for (kind, _, references) in &mut sketch {
        references.retain(|(owner, ..)| *kind < 2 || kinds.get(*owner) == Some(&2));
    }
    sketch
}

fn policies() -> impl Strategy<Value = PropagationPolicy> {
    prop_oneof![
        Just(PropagationPolicy::Background),
        Just(PropagationPolicy::Foreground)
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_objects_are_left_in_every_order(
        sketch in sketches().prop_map(possible),
        deletions in prop::collection::vec((0_usize..9, policies()), 0..3),
        random: u64,
    ) {
        let mut model = Model::new(&sketch, random);
        let acts: Vec<_> = deletions.into_iter().map(|(n, policy)| Act::Delete(n, policy)).collect();
        let expected = expected(&model, &acts);
        for act in &acts {
            for _ in 0..model.below(12) {
                model.deliver();
                model.work().map_err(TestCaseError::fail)?;
            }
            model.act(act);
        }
        model.settle().map_err(TestCaseError::fail)?;
        prop_assert_eq!(model.left(), expected);
    }

    #[test]
    fn nothing_is_left_undone(
        sketch in sketches(),
        acts in prop::collection::vec(prop_oneof![
            (0_usize..9).prop_map(Act::Stick),
            (0_usize..9, policies()).prop_map(|(n, policy)| Act::Delete(n, policy)),
            (0_usize..9).prop_map(|n| Act::Delete(n, PropagationPolicy::Orphan)),
        ], 0..5),
        random: u64,
    ) {
        let mut model = Model::new(&sketch, random);
        for act in &acts {
            for _ in 0..model.below(12) {
                model.deliver();
                model.work().map_err(TestCaseError::fail)?;
            }
            model.act(act);
        }
        model.settle().map_err(TestCaseError::fail)?;
        let left = model.left();
        for uid in &left {
            model.attempt(uid).map_err(TestCaseError::fail)?;
            let waits = model.graph.view(uid).map(|view| view.deletion);
            prop_assert_ne!(waits, Some(Deletion::Orphan), "{} still waits for its dependents to be released", uid);
        }
        let changes: usize = model.watches.iter().map(VecDeque::len).sum();
        prop_assert_eq!(changes, 0, "looking again at what is left changed something");

        let references: usize = model.server.iter().map(|object| object.owners().len()).sum();
        let (objects, claims) = model.graph.size();
        prop_assert_eq!(objects, left.len());
        prop_assert!(claims <= references, "{} claims of {} references", claims, references);

        model.graph.forget_kind(&Kind { api_version: "v1".into(), kind: "Cluster".into() });
        for uid in &left {
            model.graph.vanish(uid);
        }
        prop_assert_eq!(model.graph.size(), (0, 0));
    }
}
