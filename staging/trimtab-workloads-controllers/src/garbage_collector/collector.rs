//! The collector's work on one object at a time: it asks the server, decides, and acts, only ever on what it was told.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::Client;
use kube::api::{DeleteParams, Preconditions, PropagationPolicy};
use parking_lot::{Mutex, RwLock};
use serde_json::json;
use trimtab_apimachinery_meta::finalizers;
use trimtab_client_coordination::events::{Note, Recorder};
use trimtab_client_workqueue::{Add, Refused, WorkQueue};

use super::decide::{Decision, FOREGROUND, ORPHAN, Owner, awaited, decide, deletion, living};
use super::graph::{Coordinates, Deletion, Dependent, Effect, Graph, Kind, Reference, Uid, View};
use crate::live::{Address, LiveError};
use crate::pool::Outcome;
use crate::resources::{Resource, Resources};

/// How many dependents of one object are released at a time.
const RELEASES: usize = 16;

/// One piece of work; see [`Effect`].
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Task {
    Attempt(Uid),
    Orphan(Uid),
    Check(Arc<Coordinates>),
}

/// Why a turn must be repeated.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error(transparent)]
    Live(#[from] LiveError),
    #[error("the server does not serve {} of {}", .0.kind, .0.api_version)]
    UnknownKind(Arc<Kind>),
    #[error("it exists, but no watch has told of it yet")]
    Unobserved,
}

/// What watches and workers share.
pub(super) struct Collector {
    pub(super) client: Client,
    pub(super) queue: WorkQueue<Task>,
    pub(super) recorder: Recorder,
    graph: Mutex<Graph>,
    resources: RwLock<Arc<Resources>>,
    /// What waits for a kind that the server does not serve. Each is in the queue too, with its backoff, and is in here
    /// no longer than until its next turn.
    puzzled: Mutex<HashMap<Task, Arc<Kind>>>,
}

impl Collector {
    pub(super) fn new(client: Client, queue: WorkQueue<Task>, recorder: Recorder) -> Self {
        Self {
            client,
            queue,
            recorder,
            graph: Mutex::default(),
            resources: RwLock::default(),
            puzzled: Mutex::default(),
        }
    }

    /// Changes the graph and queues what follows.
    pub(super) fn change(&self, change: impl FnOnce(&mut Graph) -> Vec<Effect>) {
        let effects = change(&mut self.graph.lock());
        for effect in effects {
            let task = match effect {
                Effect::Attempt(uid) => Task::Attempt(uid),
                Effect::Orphan(uid) => Task::Orphan(uid),
                Effect::Check(claim) => Task::Check(claim),
                Effect::Misplaced { dependent, owner } => {
                    self.report_misplaced(&dependent, &owner);
                    continue;
                }
            };
            if let Err(Refused) = self.queue.add_with(task, Add::now().end_backoff()) {
                return; // stopping; the next start sees everything anew
            }
        }
    }

    /// Takes note of what the server serves now.
    pub(super) fn set_resources(&self, resources: Arc<Resources>) {
        *self.resources.write() = resources.clone();
        let mut solved = Vec::new();
        self.puzzled.lock().retain(|task, kind| {
            let known = resource(&resources, kind).is_ok();
            solved.extend(known.then(|| task.clone()));
            !known
        });
        for task in solved {
            if let Err(Refused) = self.queue.add_with(task, Add::now().end_backoff()) {
                return;
            }
        }
    }

    /// One turn of a worker.
    pub(super) async fn process(&self, task: Task) -> Outcome {
        let was_puzzled = self.puzzled.lock().remove(&task).is_some();
        let turn = match &task {
            Task::Attempt(uid) => self.attempt(uid).await,
            Task::Orphan(uid) => self.orphan(uid).await,
            Task::Check(claim) => self.check(claim).await,
        };
        let Err(error) = turn else { return Outcome::Done };
        match &error {
            TurnError::UnknownKind(kind) => {
                self.puzzled.lock().insert(task.clone(), kind.clone());
                if !was_puzzled {
                    tracing::info!(?task, %error, "waiting for a kind");
                }
            }
            TurnError::Unobserved => tracing::debug!(?task, "waiting for a watch"),
            TurnError::Live(live) if live.is_conflict() => tracing::debug!(?task, %error, "trying again"),
            TurnError::Live(_) => tracing::warn!(?task, %error, "trying again"),
        }
        Outcome::Retry
    }

    // === turns ===

    /// Asks the server about an owner that no watch has told of.
    async fn check(&self, claim: &Arc<Coordinates>) -> Result<(), TurnError> {
        if self.graph.lock().is_settled(claim) {
            return Ok(());
        }
        if self.is_impossible(claim)? {
            tracing::warn!(owner = %claim, "a cluster-scoped object cannot have a namespaced owner");
        } else if self.get(claim).await?.is_none() {
            tracing::debug!(owner = %claim, "an owner does not exist");
            self.change(|graph| graph.absent(claim));
        } else if !self.graph.lock().is_watched(&claim.uid) {
            return Err(TurnError::Unobserved);
        }
        Ok(())
    }

    /// Deletes an object that has lost its owners, or lets one go whose dependents are gone.
    async fn attempt(&self, uid: &Uid) -> Result<(), TurnError> {
        let Some(view) = self.graph.lock().view(uid) else {
            return Ok(());
        };
        match view.deletion {
            Deletion::Plain | Deletion::Orphan => return Ok(()),
            Deletion::Foreground => match awaited(&view) {
                None => return self.remove_finalizer(&view.at, FOREGROUND).await,
                Some(idle) => {
                    self.change(|_| idle.into_iter().map(Effect::Attempt).collect());
                    return Ok(());
                }
            },
            Deletion::None => {}
        }
        let Some(latest) = self.get(&view.at).await? else {
            return Ok(());
        };
        if deletion(&latest) != Deletion::None {
            return Ok(()); // its watch will tell
        }
        let Some(owners) = self.owners(&view, &latest).await? else {
            return Ok(());
        };
        match decide(&latest, &owners, &view) {
            Decision::Keep => Ok(()),
            Decision::Release(solid) => {
                tracing::info!(object = %view.at, "removing references to owners that are gone");
                self.replace_owners(&view.at, &latest, &solid).await
            }
            Decision::Delete(policy) => self.delete(&view.at, &latest, policy).await,
            Decision::UnblockAndDelete(unblocked)
                if unblocked != latest.owner_references.clone().unwrap_or_default() =>
            {
                self.replace_owners(&view.at, &latest, &unblocked).await?;
                self.change(|_| vec![Effect::Attempt(uid.clone())]);
                Ok(())
            }
            Decision::UnblockAndDelete(_) => {
                self.delete(&view.at, &latest, PropagationPolicy::Foreground)
                    .await
            }
        }
    }

    /// Removes an object from the references of its dependents, then lets it go.
    async fn orphan(&self, uid: &Uid) -> Result<(), TurnError> {
        let mut released = HashSet::new();
        loop {
            let Some(view) = self.graph.lock().view(uid) else {
                return Ok(());
            };
            if view.deletion != Deletion::Orphan {
                return Ok(());
            }
            let unreleased = |dependent: &Dependent| released.insert(dependent.at.uid.clone());
            let dependents: Vec<_> = view.dependents.into_iter().filter(unreleased).collect();
            if dependents.is_empty() {
                return self.remove_finalizer(&view.at, ORPHAN).await;
            }
            let dependents = futures::stream::iter(dependents.into_iter().map(Ok));
            let release =
                dependents.try_for_each_concurrent(RELEASES, |dependent| self.release(dependent.at, uid));
            release.await?;
            // A watch may have told of more dependents by now.
        }
    }

    async fn release(&self, dependent: Arc<Coordinates>, owner: &Uid) -> Result<(), TurnError> {
        let Some(latest) = self.get(&dependent).await? else {
            return Ok(());
        };
        let mut owners = latest.owner_references.clone().unwrap_or_default();
        let before = owners.len();
        owners.retain(|reference| *reference.uid != **owner);
        if owners.len() == before {
            return Ok(());
        }
        self.replace_owners(&dependent, &latest, &owners).await
    }

    // === what the server says ===

    /// The metadata of the object that is really this one; `None` if it does not exist any more.
    async fn get(&self, at: &Coordinates) -> Result<Option<ObjectMeta>, TurnError> {
        let resources = self.resources.read().clone();
        let resource = resource(&resources, &at.kind)?;
        let found = address(resource, at).get(&self.client).await?;
        Ok(found.filter(|found| found.uid.as_deref() == Some(&*at.uid)))
    }

    /// Whether a cluster-scoped object claims an owner that has a namespace. There is no saying where that would be, so
    /// the object is left alone.
    fn is_impossible(&self, claim: &Coordinates) -> Result<bool, TurnError> {
        if !claim.namespace.is_empty() {
            return Ok(false);
        }
        let resources = self.resources.read().clone();
        Ok(resource(&resources, &claim.kind)?.namespaced)
    }

    /// What the object's owners are to it. `None`: a reference that can never be right holds it.
    async fn owners(
        &self,
        view: &View,
        latest: &ObjectMeta,
    ) -> Result<Option<Vec<(OwnerReference, Owner)>>, TurnError> {
        let references = latest.owner_references.clone().unwrap_or_default();
        let mut owners = Vec::with_capacity(references.len());
        for reference in references {
            let claim = claim(&reference, &view.at.namespace);
            if self.is_impossible(&claim)? {
                return Ok(None);
            }
            let known = self.graph.lock().is_absent(&claim);
            let state = match known {
                true => Owner::Dangling,
                false => match self.get(&claim).await? {
                    Some(owner) => living(&owner),
                    None => {
                        self.change(|graph| graph.absent(&claim));
                        Owner::Dangling
                    }
                },
            };
            owners.push((reference, state));
        }
        Ok(Some(owners))
    }

    // === what is written ===

    async fn delete(
        &self,
        at: &Coordinates,
        latest: &ObjectMeta,
        policy: PropagationPolicy,
    ) -> Result<(), TurnError> {
        tracing::info!(object = %at, ?policy, "deleting");
        let resources = self.resources.read().clone();
        let address = address(resource(&resources, &at.kind)?, at);
        let params = |seen: &ObjectMeta| DeleteParams {
            propagation_policy: Some(policy.clone()),
            preconditions: Some(Preconditions {
                uid: seen.uid.clone(),
                resource_version: seen.resource_version.clone(),
            }),
            ..DeleteParams::default()
        };
        match address.delete(&self.client, &params(latest)).await {
            Err(error) if error.is_conflict() => match self.get(at).await? {
                // Somebody changes the object all the time, but not its owners: be quicker than a whole turn.
                Some(now) if now.owner_references == latest.owner_references => {
                    Ok(address.delete(&self.client, &params(&now)).await?)
                }
                Some(_) => Err(error.into()),
                None => Ok(()),
            },
            deleted => Ok(deleted?),
        }
    }

    async fn replace_owners(
        &self,
        at: &Coordinates,
        latest: &ObjectMeta,
        owners: &[OwnerReference],
    ) -> Result<(), TurnError> {
        let change = json!({
            "uid": latest.uid,
            "resourceVersion": latest.resource_version,
            "ownerReferences": owners,
        });
        self.patch(at, change).await
    }

    async fn remove_finalizer(&self, at: &Coordinates, finalizer: &str) -> Result<(), TurnError> {
        let Some(mut latest) = self.get(at).await? else {
            return Ok(());
        };
        if !finalizers::remove(&mut latest, finalizer) {
            return Ok(());
        }
        tracing::info!(object = %at, finalizer, "removing a finalizer");
        let change = json!({
            "uid": latest.uid,
            "resourceVersion": latest.resource_version,
            "finalizers": latest.finalizers,
        });
        self.patch(at, change).await
    }

    async fn patch(&self, at: &Coordinates, change: serde_json::Value) -> Result<(), TurnError> {
        let resources = self.resources.read().clone();
        let address = address(resource(&resources, &at.kind)?, at);
        match address.patch(&self.client, change).await {
            Err(error) if error.code() == 404 && address.get(&self.client).await?.is_none() => Ok(()),
            written => Ok(written?),
        }
    }

    fn report_misplaced(&self, dependent: &Coordinates, owner: &Coordinates) {
        let namespace = &*dependent.namespace;
        tracing::warn!(%dependent, %owner, "an owner reference points into another namespace");
        let regarding = ObjectReference {
            api_version: Some(dependent.kind.api_version.clone()),
            kind: Some(dependent.kind.kind.clone()),
            namespace: Some(namespace.to_owned()).filter(|namespace| !namespace.is_empty()),
            name: Some(dependent.name.to_string()),
            uid: Some(dependent.uid.to_string()),
            ..ObjectReference::default()
        };
        let message = format!("ownerRef {owner} does not exist in namespace {namespace:?}");
        self.recorder.record_for(
            regarding,
            Note::warning("OwnerRefInvalidNamespace", "CheckOwner", message),
        );
    }
}

/// What a reference of an object in this namespace claims.
pub(super) fn claim(reference: &OwnerReference, namespace: &Arc<str>) -> Coordinates {
    Coordinates {
        kind: Arc::new(Kind {
            api_version: reference.api_version.clone(),
            kind: reference.kind.clone(),
        }),
        namespace: namespace.clone(),
        name: reference.name.as_str().into(),
        uid: reference.uid.as_str().into(),
    }
}

/// What the references of an object in this namespace claim, for the graph.
pub(super) fn references(metadata: &ObjectMeta, namespace: &Arc<str>) -> Vec<Reference> {
    let references = metadata.owner_references.iter().flatten();
    let reference = |reference: &OwnerReference| Reference {
        owner: Arc::new(claim(reference, namespace)),
        blocks: reference.block_owner_deletion == Some(true),
    };
    references.map(reference).collect()
}

fn resource<'a>(resources: &'a Resources, kind: &Arc<Kind>) -> Result<&'a Resource, TurnError> {
    let known = resources.of_kind(&kind.api_version, &kind.kind);
    known.ok_or_else(|| TurnError::UnknownKind(kind.clone()))
}

fn address<'a>(resource: &'a Resource, at: &'a Coordinates) -> Address<'a> {
    Address {
        resource,
        namespace: &at.namespace,
        name: &at.name,
    }
}
