//! The decision: which ReplicaSets there are to be, how large each is, and what the Deployment says of it.
//!
//! What holds, as long as nobody else scales the sets: the sizes of all sets never exceed what is wanted and the surge, and
//! what is scaled down never takes the available pods below what is wanted less the unavailable.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStatus};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::rollback::{self, ROLLBACK_TO, Rollback};
use super::sets::{DESIRED, HISTORY, MOST, REVISION, Set};
use super::status::{self, PAUSED, PROGRESSING, TIMED_OUT, condition};
use crate::workload::{amount, template};

/// How long the list of a set's former revisions may be. kube-controller-manager's figure.
const HISTORY_LENGTH: usize = 2000;
/// What a set does not take over of the Deployment's annotations, nor a Deployment of a set's.
pub(super) const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    ROLLBACK_TO,
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
];

/// What a Deployment wants.
#[derive(Clone, Debug)]
pub(super) struct Wish<'a> {
    pub(super) name: &'a str,
    pub(super) meta: &'a ObjectMeta,
    pub(super) generation: Option<i64>,
    pub(super) replicas: i32,
    pub(super) min_ready_seconds: i32,
    pub(super) paused: bool,
    pub(super) deleting: bool,
    /// How many pods may be too many and too few, where pods are replaced one by one.
    pub(super) rolling: Option<(i32, i32)>,
    pub(super) progress_deadline: Option<i32>,
    pub(super) history: Option<usize>,
    /// The revision to roll back to.
    pub(super) rollback_to: Option<i64>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) template: &'a PodTemplateSpec,
    pub(super) fingerprint: Arc<str>,
    pub(super) status: DeploymentStatus,
}

/// What is to be done.
#[derive(Clone, Debug, Default)]
pub(super) struct Plan {
    /// All sets, as they are to be.
    pub(super) sets: Vec<Set>,
    /// The places of those that history does not need.
    pub(super) surplus: Vec<usize>,
    /// The number of the newest revision.
    pub(super) revision: Option<String>,
    /// What becomes of the wish to roll back, if there is one.
    pub(super) rollback: Option<Rollback>,
    pub(super) status: DeploymentStatus,
    /// When to look again, if nothing happens before.
    pub(super) look_again: Option<Timestamp>,
    /// Whether anybody cares how the rollout gets on.
    progress_matters: bool,
}

impl<'a> Wish<'a> {
    pub(super) fn of(deployment: &'a Deployment, spec: &'a DeploymentSpec) -> Self {
        let meta = &deployment.metadata;
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        let recreate = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        let limits = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let fence = amount::fence(
            limits.and_then(|limits| limits.max_surge.as_ref()),
            limits.and_then(|limits| limits.max_unavailable.as_ref()),
            replicas,
        );
        let history = spec.revision_history_limit.filter(|limit| *limit != i32::MAX);
        Self {
            name: meta.name.as_deref().unwrap_or_default(),
            meta,
            generation: meta.generation,
            replicas,
            min_ready_seconds: spec.min_ready_seconds.unwrap_or_default(),
            paused: spec.paused == Some(true),
            deleting: meta.deletion_timestamp.is_some(),
            rolling: (!recreate).then_some(fence),
            progress_deadline: spec
                .progress_deadline_seconds
                .filter(|seconds| *seconds != i32::MAX),
            history: history.map(|limit| usize::try_from(limit).unwrap_or_default()),
            rollback_to: rollback::wanted(deployment),
            annotations: meta.annotations.clone().unwrap_or_default(),
            template: &spec.template,
            fingerprint: template::fingerprint(&spec.template).into(),
            status: deployment.status.clone().unwrap_or_default(),
        }
    }

    /// How many pods there may be beyond those that are wanted.
    pub(super) fn max_surge(&self) -> i32 {
        self.rolling.map_or(0, |(surge, _)| surge)
    }

    /// How many of the wanted pods may be missing.
    pub(super) fn max_unavailable(&self) -> i32 {
        self.rolling
            .map_or(0, |(_, unavailable)| unavailable.min(self.replicas))
    }

    /// Whether all pods are of the newest template and available.
    pub(super) fn is_complete(&self, status: &DeploymentStatus) -> bool {
        let all = |count: Option<i32>| count.unwrap_or_default() == self.replicas;
        all(status.updated_replicas)
            && all(status.replicas)
            && all(status.available_replicas)
            && status.observed_generation >= self.generation
    }
}

impl Plan {
    /// Notes in a status that the new set could not be made.
    pub(super) fn tell_failure(&self, status: &mut DeploymentStatus, message: String, now: Timestamp) {
        if self.progress_matters {
            status::set(
                status,
                condition(PROGRESSING, "False", "ReplicaSetCreateError", message, now),
            );
        }
    }
}

/// Decides. `running` says whether the set with a UID has pods that have not ended; it is asked only where nothing new may
/// begin before the old has ended.
pub(super) fn decide(
    wish: &Wish<'_>,
    sets: Vec<Set>,
    running: impl Fn(&str) -> bool,
    now: Timestamp,
) -> Plan {
    let mut work = Work::new(wish, sets, now);
    if wish.deleting {
        return work.settle();
    }
    work.note_pause();
    if let Some(to) = wish.rollback_to.filter(|_| !wish.paused) {
        return work.roll_back(to);
    }
    if wish.paused || work.is_resized() {
        work.resize();
        if wish.paused {
            work.clean_up();
        }
        return work.settle();
    }
    match wish.rolling {
        Some(_) => work.roll(),
        None => work.recreate(running),
    }
    work.settle_rollout()
}

/// A decision in the making.
struct Work<'a> {
    wish: &'a Wish<'a>,
    now: Timestamp,
    /// The oldest first.
    sets: Vec<Set>,
    /// The place of the newest template's among them.
    new: Option<usize>,
    /// What was noted in this turn.
    noted: DeploymentStatus,
    plan: Plan,
}

impl<'a> Work<'a> {
    fn new(wish: &'a Wish<'a>, mut sets: Vec<Set>, now: Timestamp) -> Self {
        for (place, set) in sets.iter_mut().enumerate() {
            set.place = Some(place);
        }
        sets.sort_by(|a, b| (a.created, &a.name).cmp(&(b.created, &b.name)));
        // Of several, the oldest.
        let new = sets.iter().position(|set| set.fingerprint == wish.fingerprint);
        let mut work = Self {
            wish,
            now,
            sets,
            new,
            noted: wish.status.clone(),
            plan: Plan {
                progress_matters: wish.progress_deadline.is_some(),
                ..Plan::default()
            },
        };
        work.mark_newest();
        work
    }

    // === revisions ===

    fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let new = self.new;
        (0..self.sets.len()).filter(move |at| Some(*at) != new)
    }

    /// Which revision the newest is, if it was not the newest before.
    fn next_revision(&self) -> i64 {
        self.old()
            .map(|at| self.sets[at].revision())
            .max()
            .unwrap_or_default()
            + 1
    }

    /// Brings the newest set's annotations up to date.
    fn mark_newest(&mut self) {
        let Some(new) = self.new else { return };
        let revision = self.next_revision();
        let wish = self.wish;
        let set = &mut self.sets[new];
        set.min_ready_seconds = wish.min_ready_seconds;
        mark(set, wish, revision);
        self.plan.revision = set.annotations.get(REVISION).cloned();
        if wish.progress_deadline.is_some() && status::find(&self.noted, PROGRESSING).is_none() {
            let message = format!("Found new replica set \"{}\"", set.name);
            status::set(
                &mut self.noted,
                condition(PROGRESSING, "True", "FoundNewReplicaSet", message, self.now),
            );
        }
    }

    /// Plans the set of a new template, if there is none.
    fn make_newest(&mut self) {
        if self.new.is_some() {
            return;
        }
        let (wish, revision) = (self.wish, self.next_revision());
        let hash = template::hash(wish.template, wish.status.collision_count);
        let mut set = Set {
            name: super::set_name(wish.meta, &hash).into(),
            created: Timestamp::MAX,
            min_ready_seconds: wish.min_ready_seconds,
            fingerprint: wish.fingerprint.clone(),
            hash: hash.into(),
            ..Set::default()
        };
        mark(&mut set, wish, revision);
        note_size(&mut set, wish);
        self.sets.push(set);
        self.new = Some(self.sets.len() - 1);
        let size = self.size_of_newest();
        let set = &mut self.sets[self.new.unwrap_or_default()];
        set.replicas = size;
        self.plan.revision = Some(revision.to_string());
        if wish.progress_deadline.is_some() {
            let message = format!("Created new replica set \"{}\"", set.name);
            status::set(
                &mut self.noted,
                condition(PROGRESSING, "True", "NewReplicaSetCreated", message, self.now),
            );
        }
    }

    /// Forgets old revisions beyond the limit, the oldest first; none that has pods.
    fn clean_up(&mut self) {
        let Some(limit) = self.wish.history else { return };
        let mut old: Vec<usize> = self.old().filter(|at| !self.sets[*at].deleting).collect();
        let surplus = old.len().saturating_sub(limit);
        old.sort_by_key(|at| (self.sets[*at].revision(), *at));
        for at in old.into_iter().take(surplus) {
            let set = &self.sets[at];
            if set.actual == 0 && set.replicas == 0 && set.observed {
                self.plan.surplus.extend(set.place);
            }
        }
    }

    // === pausing ===

    fn note_pause(&mut self) {
        if self.wish.progress_deadline.is_none() {
            return;
        }
        let reason = status::find(&self.noted, PROGRESSING).and_then(|current| current.reason.as_deref());
        let is_noted = reason == Some(PAUSED);
        let note = match self.wish.paused {
            _ if reason == Some(TIMED_OUT) => return,
            true if !is_noted => ("DeploymentPaused", "Deployment is paused"),
            false if is_noted => ("DeploymentResumed", "Deployment is resumed"),
            _ => return,
        };
        status::set(
            &mut self.noted,
            condition(PROGRESSING, "Unknown", note.0, note.1.to_owned(), self.now),
        );
    }

    // === sizes ===

    fn scale(&mut self, at: usize, size: i32) -> bool {
        let changed = self.sets[at].replicas != size;
        if changed {
            self.sets[at].replicas = size;
            note_size(&mut self.sets[at], self.wish);
        }
        changed
    }

    fn total(&self) -> i32 {
        self.sets.iter().map(|set| set.replicas).sum()
    }

    /// Whether the Deployment was given another size since its sets were scaled.
    fn is_resized(&self) -> bool {
        let active = self.sets.iter().filter(|set| set.replicas > 0);
        let mut desired = active.filter_map(|set| set.count(DESIRED));
        desired.any(|desired| desired != self.wish.replicas)
    }

    /// Gives the sets their shares of the Deployment's size.
    fn resize(&mut self) {
        let active: Vec<usize> = (0..self.sets.len())
            .filter(|at| self.sets[*at].replicas > 0)
            .collect();
        match active[..] {
            [] => {
                // The newest: the newest template's, or that which was made last.
                if let Some(at) = self.new.or_else(|| self.sets.len().checked_sub(1)) {
                    self.scale(at, self.wish.replicas);
                }
            }
            [only] => {
                self.scale(only, self.wish.replicas);
                note_size(&mut self.sets[only], self.wish);
            }
            _ if self.is_saturated() => {
                let new = self.new;
                for at in active.into_iter().filter(|at| Some(*at) != new) {
                    self.scale(at, 0);
                }
            }
            _ if self.wish.rolling.is_some() => self.share(active),
            _ => {}
        }
    }

    fn is_saturated(&self) -> bool {
        self.new.is_some_and(|new| {
            let (set, wanted) = (&self.sets[new], self.wish.replicas);
            set.replicas == wanted && set.count(DESIRED) == Some(wanted) && set.available == wanted
        })
    }

    /// Grows or shrinks sets in proportion to their sizes; the largest takes what is left by rounding.
    fn share(&mut self, mut active: Vec<usize>) {
        let wanted = self.wish.replicas;
        let allowed = if wanted > 0 {
            wanted + self.wish.max_surge()
        } else {
            0
        };
        let missing = allowed - self.total();
        let sets = &self.sets;
        match missing.signum() {
            1 => active.sort_by_key(|at| (-sets[*at].replicas, std::cmp::Reverse(*at))),
            -1 => active.sort_by_key(|at| (-sets[*at].replicas, *at)),
            _ => {}
        }
        let mut given = 0;
        let mut sizes = Vec::new();
        for at in &active {
            let set = &self.sets[*at];
            let share = match missing - given {
                0 => 0,
                left if missing > 0 => self.fraction(set).min(left),
                left => self.fraction(set).max(left),
            };
            given += share;
            sizes.push(set.replicas + share);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + missing - given).max(0);
        }
        for (at, size) in active.into_iter().zip(sizes) {
            self.scale(at, size);
            note_size(&mut self.sets[at], self.wish);
        }
    }

    /// What a set is to gain or lose, by what the Deployment gains or loses.
    fn fraction(&self, set: &Set) -> i32 {
        let wish = self.wish;
        if wish.replicas == 0 {
            return -set.replicas;
        }
        let before = set.count(MOST).filter(|most| *most > 0);
        let before = before.or(wish.status.replicas.filter(|most| *most > 0));
        let Some(before) = before else { return 0 };
        let most = i64::from(wish.replicas + wish.max_surge());
        let size = (i64::from(set.replicas) * most) as f64 / f64::from(before);
        size.round() as i32 - set.replicas
    }

    // === rolling ===

    fn roll(&mut self) {
        self.make_newest();
        if self.grow() || self.shrink() {
            return;
        }
        if self.wish.is_complete(&self.wish.status) {
            self.clean_up();
        }
    }

    /// How large the newest set may be now.
    fn size_of_newest(&self) -> i32 {
        let new = self.new.map_or(0, |new| self.sets[new].replicas);
        let most = self.wish.replicas
            + self
                .wish
                .rolling
                .map_or(i32::MAX - self.wish.replicas, |(surge, _)| surge);
        let room = most - self.total();
        if room <= 0 {
            return new;
        }
        new + room.min(self.wish.replicas - new)
    }

    fn grow(&mut self) -> bool {
        let Some(new) = self.new else { return false };
        let (now, wanted) = (self.sets[new].replicas, self.wish.replicas);
        let size = if now > wanted {
            wanted
        } else {
            self.size_of_newest()
        };
        now != wanted && self.scale(new, size)
    }

    fn shrink(&mut self) -> bool {
        let active: Vec<usize> = self.old().filter(|at| self.sets[*at].replicas > 0).collect();
        let Some(new) = self.new.filter(|_| !active.is_empty()) else {
            return false;
        };
        let least = self.wish.replicas - self.wish.max_unavailable();
        let awaited = self.sets[new].replicas - self.sets[new].lasting();
        let mut spare = self.total() - least - awaited;
        if spare <= 0 {
            return false;
        }
        let mut scaled = false;
        // What is not available helps nobody, and goes first.
        for at in &active {
            let set = &self.sets[*at];
            let take = spare.min(set.replicas - set.lasting());
            if take > 0 {
                spare -= take;
                scaled |= self.scale(*at, self.sets[*at].replicas - take);
            }
        }
        let mut spare = self.sets.iter().map(Set::lasting).sum::<i32>() - least;
        for at in active {
            let take = spare.min(self.sets[at].replicas);
            if take > 0 {
                spare -= take;
                scaled |= self.scale(at, self.sets[at].replicas - take);
            }
        }
        scaled
    }

    // === recreating ===

    fn recreate(&mut self, running: impl Fn(&str) -> bool) {
        let mut scaled = false;
        for at in self.old() {
            scaled |= self.scale(at, 0);
        }
        let still = |at: usize| self.sets[at].actual > 0 || running(&self.sets[at].uid);
        if scaled || self.old().any(still) {
            return;
        }
        self.make_newest();
        if let Some(new) = self.new {
            self.scale(new, self.wish.replicas);
        }
        if self.wish.is_complete(&self.wish.status) {
            self.clean_up();
        }
    }

    // === rolling back ===

    /// Nothing else is done before the Deployment has its template: revisions would be counted on meanwhile.
    fn roll_back(mut self, to: i64) -> Plan {
        self.make_newest(); // it is a revision, too
        self.plan.rollback = Some(rollback::choose(self.wish, &self.sets, to));
        self.plan.status = self.noted.clone();
        self.finish()
    }

    // === the end ===

    fn settle(mut self) -> Plan {
        self.plan.status = self.counted();
        self.finish()
    }

    fn settle_rollout(mut self) -> Plan {
        let mut status = self.counted();
        status::rollout(
            self.wish,
            &self.wish.status,
            &mut status,
            &self.sets,
            self.new,
            self.now,
        );
        self.plan.look_again = status::deadline(self.wish, &status);
        self.plan.status = status;
        self.finish()
    }

    fn counted(&self) -> DeploymentStatus {
        status::counted(self.wish, &self.noted, &self.sets, self.new, self.now)
    }

    fn finish(mut self) -> Plan {
        self.plan.sets = self.sets;
        self.plan
    }
}

/// Has a set's annotations say what the Deployment's do, and that it is this revision, unless it is a later one.
fn mark(set: &mut Set, wish: &Wish<'_>, revision: i64) {
    for (key, value) in &wish.annotations {
        if !NOT_COPIED.contains(&key.as_str()) {
            set.annotations.insert(key.clone(), value.clone());
        }
    }
    let before = set.annotations.get(REVISION).cloned();
    let number = match before.as_deref() {
        None | Some("") => Ok(0),
        Some(before) => before.parse::<i64>(),
    };
    if !number.is_ok_and(|number| number < revision) {
        return;
    }
    set.annotations.insert(REVISION.to_owned(), revision.to_string());
    // It is rolled back to: what it was before is kept.
    if let Some(before) = before {
        let history = set.annotations.get(HISTORY).cloned().unwrap_or_default();
        let mut revisions: Vec<&str> = history.split(',').filter(|text| !text.is_empty()).collect();
        revisions.push(&before);
        while revisions.len() > 1 && revisions.join(",").len() > HISTORY_LENGTH {
            revisions.remove(0);
        }
        set.annotations.insert(HISTORY.to_owned(), revisions.join(","));
    }
}

/// Notes in a set's annotations how large the Deployment is, and may be.
fn note_size(set: &mut Set, wish: &Wish<'_>) {
    set.annotations
        .insert(DESIRED.to_owned(), wish.replicas.to_string());
    let most = wish.replicas + wish.max_surge();
    set.annotations.insert(MOST.to_owned(), most.to_string());
}
