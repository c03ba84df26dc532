//! The controller of StatefulSets: pods that are somebody, with names, claims and an order.

mod claims;
mod decide;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetSpec};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kube::ResourceExt;
use serde_json::json;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::{Cached, Delta};
use trimtab_client_coordination::events::Note;
use trimtab_controller_runtime::predicate::Predicate;
use trimtab_controller_runtime::source::{Caches, Source, Watch};
use trimtab_controller_runtime::{Error, Manager, Next, Reconcile, Result, Turn};

use crate::workload::clock::{Clock, until};
use crate::workload::history::{self, Revision, Settled, revision_of};
use crate::workload::pods::{Facts, REVISION, facts, next_available};
use crate::workload::template;
use crate::workload::words::{is_ending, is_taken, name, words_of};
use claims::Holder;
use decide::{Plan, Which, Wish, decide, ordinal, status};

/// The controller's name.
pub(crate) const NAME: &str = "statefulset-controller";

/// How many are worked on at once.
const WORKERS: usize = 16;
/// The label with a pod's name.
const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label with a pod's ordinal.
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// The label of a revision with its hash.
const HASH: &str = "controller.kubernetes.io/hash";

/// Describes the controller.
pub(crate) fn describe(manager: &Manager, options: &crate::Options) -> Result<()> {
    let selector = |set: &StatefulSet| template::selector(&set.spec.as_ref()?.selector);
    let gone = Predicate::new(|delta: &Delta<PersistentVolumeClaim>| matches!(delta, Delta::Deleted { .. }));
    manager
        .controller::<StatefulSet, _>(StatefulSets { clock: options.clock })
        .named(NAME)
        .reporting_as(NAME)
        .claims::<Pod>(selector)
        .claims::<ControllerRevision>(selector)
        .source(Source::watch_related(Watch::new().when(gone), of_claim))
        .writes::<PersistentVolumeClaim>()
        .workers(WORKERS)
        .start()
        .map(drop)
}

/// The sets that may wait for a claim to be gone, by its name.
fn of_claim(claim: &Cached<PersistentVolumeClaim>, caches: &Caches) -> Vec<ObjectKey> {
    let sets = caches
        .store::<StatefulSet>()
        .map(|sets| sets.list_in(claim.namespace()));
    let Some((owner, _)) = claim.name().rsplit_once('-') else {
        return Vec::new();
    };
    let named = |set: &Cached<StatefulSet>| {
        owner
            .strip_suffix(set.name())
            .is_some_and(|template| template.ends_with('-'))
    };
    let found = sets.into_iter().flatten().filter(named);
    found.map(|set| set.key().clone()).collect()
}

struct StatefulSets {
    clock: Clock,
}

/// What a set's history says.
struct History {
    current: Arc<Revision>,
    update: Arc<Revision>,
    all: Vec<Cached<ControllerRevision>>,
}

impl Reconcile<StatefulSet> for StatefulSets {
    async fn reconcile(&self, turn: &mut Turn<StatefulSet>) -> Result<Next> {
        let Some(set) = turn.latest() else {
            return Ok(Next::Done);
        };
        let Some(spec) = &set.spec else {
            return Ok(Next::Done);
        };
        let selector = template::selector(&spec.selector).unwrap_or_default();
        if selector.is_empty() {
            return Ok(Next::Done); // the server lets none in
        }
        let set_name = set.name_any();
        let is_member = |pod: &Cached<Pod>| ordinal(&set_name, pod.name()).is_some();
        let pods = turn.claim_cached_where::<Pod>(&selector, is_member).await?;
        let Some(history) = self.history(turn, &set, spec, &selector).await? else {
            return Ok(Next::Again);
        };
        let seen: Vec<_> = pods
            .iter()
            .map(|pod| (ordinal(&set_name, pod.name()).unwrap_or_default(), facts(pod)))
            .collect();
        let seen: Vec<(i32, &Facts)> = seen.iter().map(|(ordinal, facts)| (*ordinal, &**facts)).collect();
        let now = self.clock.now();
        let wish = Wish::of(
            spec,
            turn.is_deleting(),
            &history.current.name,
            &history.update.name,
        );
        let plan = decide(&wish, &seen, now);
        let before = set.status.clone().unwrap_or_default();
        turn.put_status(
            set.status.as_ref(),
            &status(&wish, &before, &seen, set.metadata.generation, now),
        )?;
        let work = Work {
            set: &set,
            wish: &wish,
            history: &history,
            pods: &pods,
        };
        work.carry_out(turn, &plan).await?;

        let is_live = |revision: &Revision| {
            let is_used = seen.iter().any(|(_, pod)| *pod.revision == *revision.name);
            is_used || revision.name == history.current.name || revision.name == history.update.name
        };
        let read: Vec<_> = history.all.iter().map(revision_of).collect();
        let surplus = history::surplus(&read, is_live, spec.revision_history_limit.unwrap_or(10));
        let surplus: Vec<_> = surplus.into_iter().map(|at| history.all[at].clone()).collect();
        turn.delete_all(&surplus).await.failure?;
        let next = next_available(seen.iter().map(|(_, pod)| *pod), wish.min_ready_seconds, now);
        Ok(match next.filter(|_| wish.min_ready_seconds > 0) {
            Some(next) => Next::After(until(next, now)),
            None => Next::Done,
        })
    }
}

impl StatefulSets {
    /// Finds the current and the newest revision, which is made if it is new. `None`: its name was taken; another is tried.
    async fn history(
        &self,
        turn: &mut Turn<StatefulSet>,
        set: &StatefulSet,
        spec: &StatefulSetSpec,
        selector: &trimtab_apimachinery_meta::LabelSelector,
    ) -> Result<Option<History>> {
        let before = set.status.as_ref();
        let collisions = before
            .and_then(|status| status.collision_count)
            .unwrap_or_default();
        let make = |number| revision(set, spec, number, collisions);
        let Settled::Known { all, newest: update } =
            history::settle(turn, selector, &spec.template, make).await?
        else {
            let mut status = before.cloned().unwrap_or_default();
            status.collision_count = Some(collisions + 1);
            turn.put_status(before, &status)?;
            return Ok(None);
        };
        let read: Vec<_> = all.iter().map(revision_of).collect();
        let current = before.and_then(|status| status.current_revision.as_deref());
        let current = read.iter().find(|revision| Some(&*revision.name) == current);
        Ok(Some(History {
            current: current.unwrap_or(&update).clone(),
            update,
            all,
        }))
    }
}

/// The revision of the set's template.
fn revision(
    set: &StatefulSet,
    spec: &StatefulSetSpec,
    number: i64,
    collisions: i32,
) -> Option<ControllerRevision> {
    const NAME: usize = 223; // kube-controller-manager's figure
    let data = history::data(&spec.template);
    let hash = history::hash(&data, collisions);
    let name = template::named(name(&set.metadata), NAME, &hash);
    history::revision(set, &spec.template, number, name, (HASH, hash), data)
}

/// A decision that is being carried out.
struct Work<'a> {
    set: &'a StatefulSet,
    wish: &'a Wish,
    history: &'a History,
    pods: &'a [Cached<Pod>],
}

impl Work<'_> {
    async fn carry_out(&self, turn: &mut Turn<StatefulSet>, plan: &Plan) -> Result<()> {
        for at in &plan.waiting {
            let pod = &self.pods[*at];
            if let Some(ordinal) = ordinal(name(&self.set.metadata), pod.name()) {
                self.make_claims(turn, ordinal, pod.name()).await?;
            }
        }
        let mut made = Vec::new();
        for (ordinal, which) in &plan.create {
            let pod = format!("{}-{ordinal}", name(&self.set.metadata));
            if self.has_stale_claim(turn, *ordinal, &pod)? {
                continue; // it is gone soon, and then this is looked at again
            }
            if let Err(error) = self.make_claims(turn, *ordinal, &pod).await {
                self.tell(turn, "Create", &pod, Some(&error));
                return Err(error);
            }
            made.extend(self.pod(*ordinal, *which, &pod));
        }
        let tried: Vec<_> = made.iter().map(ResourceExt::name_any).collect();
        let written = turn.create_all(made).await;
        for pod in &written.done {
            self.tell(turn, "Create", &pod.name_any(), None);
        }
        match written.failure {
            Err(error) if is_taken(&error) => return Err(error),
            Err(error) if is_ending(&error) => return Err(Error::terminal(error)),
            Err(error) => {
                let failed = tried.get(written.done.len()).cloned().unwrap_or_default();
                self.tell(turn, "Create", &failed, Some(&error));
                return Err(error);
            }
            Ok(()) => {}
        }
        self.look_after(turn, plan).await?;
        let doomed: Vec<_> = plan.delete.iter().map(|at| self.pods[*at].clone()).collect();
        let deleted = turn.delete_all(&doomed).await;
        for key in &deleted.done {
            self.tell(turn, "Delete", &key.name, None);
        }
        if let (Err(error), Some(first)) = (&deleted.failure, doomed.first()) {
            self.tell(turn, "Delete", first.name(), Some(error));
        }
        deleted.failure
    }

    /// Says on the set what became of a pod.
    fn tell(&self, turn: &Turn<StatefulSet>, verb: &str, pod: &str, error: Option<&Error>) {
        let set = name(&self.set.metadata);
        turn.event(match error {
            None => {
                let message = format!("{verb} Pod {pod} in StatefulSet {set} successful");
                Note::normal(format!("Successful{verb}"), verb, message)
            }
            Some(error) => {
                let message = format!(
                    "{verb} Pod {pod} in StatefulSet {set} failed error: {}",
                    words_of(error)
                );
                Note::warning(format!("Failed{verb}"), verb, message)
            }
        });
    }

    fn key(&self, claim: &PersistentVolumeClaim) -> ObjectKey {
        ObjectKey {
            namespace: self.set.namespace().unwrap_or_default(),
            name: claim.name_any(),
        }
    }

    fn has_stale_claim(&self, turn: &Turn<StatefulSet>, ordinal: i32, pod: &str) -> Result<bool> {
        let (_, kept_when_scaled) = claims::retained(self.set);
        if kept_when_scaled {
            return Ok(false);
        }
        let store = turn.store::<PersistentVolumeClaim>()?;
        let there = claims::claims(self.set, ordinal)
            .into_iter()
            .filter_map(|claim| store.get(&self.key(&claim)));
        let stale = there.filter(|claim| claim.meta().is_ok_and(|meta| claims::is_stale(&meta, pod)));
        Ok(stale.count() > 0)
    }

    /// Makes the claims of a pod that are not there.
    async fn make_claims(&self, turn: &mut Turn<StatefulSet>, ordinal: i32, pod: &str) -> Result<()> {
        let store = turn.store::<PersistentVolumeClaim>()?;
        let (when_deleted, _) = claims::retained(self.set);
        for mut claim in claims::claims(self.set, ordinal) {
            if let Some(there) = store.get(&self.key(&claim)) {
                if there.is_deleting() {
                    return Err(Error::other(format!("pvc {} is being deleted", there.name())));
                }
                continue;
            }
            if !when_deleted {
                claim.metadata.owner_references = template::owner_of(self.set).map(|owner| vec![owner]);
            }
            let set = name(&self.set.metadata);
            let claim_name = claim.name_any();
            match turn.create(&claim).await {
                Ok(_) => {
                    let message = format!("Create Claim {claim_name} Pod {pod} in StatefulSet {set} success");
                    turn.event(Note::normal("SuccessfulCreate", "Create", message));
                }
                Err(error) if is_taken(&error) => {}
                Err(error) => {
                    let words = words_of(&error);
                    let message = format!(
                        "Create Claim {claim_name} for Pod {pod} in StatefulSet {set} failed error: {words}"
                    );
                    turn.event(Note::warning("FailedCreate", "Create", message));
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// The pod of an ordinal.
    fn pod(&self, ordinal: i32, which: Which, pod_name: &str) -> Option<Pod> {
        let revision = match which {
            Which::Current => &self.history.current,
            Which::Update => &self.history.update,
        };
        let mut template: PodTemplateSpec = revision.template.clone();
        claims::mount(self.set, &mut template, ordinal);
        let meta = &self.set.metadata;
        let owner = template::owner_of(self.set)?;
        let mut pod = template::pod(name(meta), meta.namespace.as_deref(), &template, owner);
        pod.metadata.name = Some(pod_name.to_owned());
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(POD_NAME.to_owned(), pod_name.to_owned());
        labels.insert(POD_INDEX.to_owned(), ordinal.to_string());
        labels.insert(REVISION.to_owned(), revision.name.clone());
        let spec = pod.spec.get_or_insert_default();
        spec.hostname = Some(pod_name.to_owned());
        let service = self.set.spec.as_ref().and_then(|spec| spec.service_name.clone());
        spec.subdomain = service.filter(|service| !service.is_empty());
        Some(pod)
    }

    /// Has pods say who they are, and claims whose they are.
    async fn look_after(&self, turn: &mut Turn<StatefulSet>, plan: &Plan) -> Result<()> {
        let mut labels = Vec::new();
        let mut owners = Vec::new();
        let mut changed = BTreeSet::new();
        let store = turn.store::<PersistentVolumeClaim>()?;
        for at in plan.kept.iter().chain(&plan.condemned) {
            let pod = &self.pods[*at];
            let Some(number) = ordinal(name(&self.set.metadata), pod.name()) else {
                continue;
            };
            if pod.label(POD_NAME).as_deref() != Some(pod.name()) {
                let wanted = json!({POD_NAME: pod.name(), POD_INDEX: number.to_string()});
                labels.push((pod.clone(), json!({"metadata": {"labels": wanted}})));
                changed.insert(pod.name());
            }
            let uid = pod.uid();
            let holder = Holder {
                name: pod.name(),
                uid: &uid,
                wanted: self.wish.has(number),
            };
            for claim in claims::claims(self.set, number) {
                let Some(there) = store.get(&self.key(&claim)) else {
                    continue;
                };
                if let Some(references) = claims::owners(&there.meta()?, self.set, &holder) {
                    let version = there.resource_version().into_owned();
                    let patch =
                        json!({"metadata": {"ownerReferences": references, "resourceVersion": version}});
                    owners.push((there, patch));
                    changed.extend(plan.kept.contains(at).then(|| pod.name()));
                }
            }
        }
        turn.merge_all(labels).await.failure?;
        turn.merge_all(owners).await.failure?;
        for pod in changed {
            self.tell(turn, "Update", pod, None);
        }
        Ok(())
    }
}
