//! One checker per clause of the crate, shared by all tests: each says which clause is broken, and by what.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::ConfigMap;
use trimtab_apimachinery_meta::{ObjectKey, resource_version};

use super::world::Objects;
use crate::store::Store;
use crate::{Cached, Delta};

/// What identifies a state of an object: the object's UID and its version.
pub(crate) type Mark = (String, u64);

/// By key, the states that a store or a handler has.
pub(crate) type View = BTreeMap<ObjectKey, Mark>;

pub(crate) type Verdict = Result<(), String>;

pub(super) fn mark(object: &Cached<ConfigMap>) -> Mark {
    let version = resource_version::parse(&object.resource_version()).expect("objects have versions");
    (object.uid().into_owned(), version)
}

pub(crate) fn view(store: &Store<ConfigMap>) -> View {
    store
        .list()
        .iter()
        .map(|object| (object.key().clone(), mark(object)))
        .collect()
}

pub(super) fn view_of(objects: &Objects) -> View {
    let text =
        |object: &serde_json::Value, field: &str| object["metadata"][field].as_str().unwrap().to_owned();
    let mark = |object| {
        (
            text(object, "uid"),
            text(object, "resourceVersion").parse().unwrap(),
        )
    };
    objects
        .iter()
        .map(|(key, object)| (key.clone(), mark(object)))
        .collect()
}

fn broken<T>(clause: &str, why: impl std::fmt::Display) -> Result<T, String> {
    Err(format!("{clause}: {why}"))
}

/// *Ordered*: of one object, the states that a handler is told of follow each other, and a deltas' kind fits what the
/// handler knows. Replays the deltas meanwhile.
#[derive(Default)]
pub(crate) struct Ordered {
    pub(crate) known: View,
    /// The newest version told of each key, gone or not.
    newest: BTreeMap<ObjectKey, u64>,
}

impl Ordered {
    pub(crate) fn told(&mut self, delta: &Delta<ConfigMap>) -> Verdict {
        let key = delta.key().clone();
        let (uid, version) = mark(delta.object());
        let known = self.known.get(&key).cloned();
        let newest = self.newest.entry(key.clone()).or_default();
        let before = *newest;
        *newest = version.max(before);
        let going = matches!(delta, Delta::Deleted { .. });
        if version < before || (version == before && !going) {
            return broken("Ordered", format!("{delta:?}: version {version} after {before}"));
        }
        match delta {
            Delta::Added { .. } if known.is_some() => {
                return broken("Ordered", format!("{delta:?} is known already: {known:?}"));
            }
            Delta::Updated { old, .. } if known != Some(mark(old)) => {
                return broken(
                    "Ordered",
                    format!("{delta:?} from {:?}, known {known:?}", mark(old)),
                );
            }
            Delta::Updated { old, .. } if mark(old).0 != uid => {
                return broken("Ordered", format!("{delta:?} makes another object of it"));
            }
            Delta::Deleted { .. } if known.as_ref().is_some_and(|known| known.0 != uid) => {
                return broken("Ordered", format!("{delta:?}: uid {uid}, known {known:?}"));
            }
            Delta::Deleted { .. } => self.known.remove(&key),
            _ => self.known.insert(key, (uid, version)),
        };
        Ok(())
    }
}

/// *Monotonic*: seen again, a store is not older, in whole and in each object; and what has gone does not come back.
#[derive(Default)]
pub(super) struct Monotonic {
    version: u64,
    newest: BTreeMap<ObjectKey, u64>,
    before: View,
}

impl Monotonic {
    pub(super) fn sees(&mut self, store: &Store<ConfigMap>) -> Verdict {
        let version = resource_version::parse(&store.resource_version()).unwrap_or(0);
        if version < self.version {
            return broken("Monotonic", format!("store at {version} after {}", self.version));
        }
        let is = view(store);
        for (key, mark) in &is {
            let newest = self.newest.entry(key.clone()).or_default();
            if mark.1 < *newest {
                return broken("Monotonic", format!("{key} at {} after {newest}", mark.1));
            }
            *newest = mark.1;
            let had = self.before.get(key);
            if mark.1 <= self.version && had != Some(mark) {
                return broken(
                    "Monotonic",
                    format!("{key} is {mark:?} again, after {had:?} at {}", self.version),
                );
            }
        }
        (self.version, self.before) = (version, is);
        Ok(())
    }
}

/// *Complete*: who has been told everything knows just what there is.
pub(crate) fn complete(told: &View, is: &View) -> Verdict {
    if let Some((key, known)) = told.iter().find(|(key, _)| !is.contains_key(*key)) {
        return broken(
            "Complete",
            format!("{key} is gone, but nobody said so: {known:?}"),
        );
    }
    match is.iter().find(|(key, mark)| told.get(*key) != Some(*mark)) {
        Some((key, mark)) => broken("Complete", format!("{key} is {mark:?}, told {:?}", told.get(key))),
        None => Ok(()),
    }
}

/// *Atomic*: what one reads is a state that the server had, at the store's version.
pub(super) fn atomic(read: &View, version: &str, had: &Objects) -> Verdict {
    let had = view_of(had);
    if *read == had {
        return Ok(());
    }
    broken(
        "Atomic",
        format!("at version {version} the store has {read:?}, the server had {had:?}"),
    )
}

/// *Bounded*: no more is pending than there were objects.
pub(super) fn bounded(backlog: usize, objects: usize) -> Verdict {
    if backlog <= objects {
        return Ok(());
    }
    broken(
        "Bounded",
        format!("{backlog} pending entries of {objects} objects"),
    )
}

/// *Bounded*: taken at once, a backlog has of each object at most a deletion and what came after.
pub(super) fn bounded_takings(taken: &[Delta<ConfigMap>]) -> Verdict {
    let mut seen = BTreeMap::<ObjectKey, Vec<bool>>::new();
    for delta in taken {
        seen.entry(delta.key().clone())
            .or_default()
            .push(matches!(delta, Delta::Deleted { .. }));
    }
    match seen
        .iter()
        .find(|(_, kinds)| !matches!(kinds[..], [_] | [true, false]))
    {
        Some((key, kinds)) => broken("Bounded", format!("{key} was told {} times", kinds.len())),
        None => Ok(()),
    }
}

/// *Synced*: `synced` becomes true when the handler has handled all of the initial list, not before and not later.
#[derive(Default)]
pub(super) struct Synced {
    /// What the handler has not been told of, once the list is known.
    left: Option<BTreeSet<ObjectKey>>,
    handled: BTreeSet<ObjectKey>,
}

impl Synced {
    /// What was in the store when it had its first list, or when the handler joined later than that.
    pub(super) fn listed(&mut self, list: &View) {
        if self.left.is_none() {
            let left = list.keys().filter(|key| !self.handled.contains(*key)).cloned();
            self.left = Some(left.collect());
        }
    }

    /// A delta has been handled.
    pub(super) fn handled(&mut self, key: ObjectKey) {
        if let Some(left) = &mut self.left {
            left.remove(&key);
        }
        self.handled.insert(key);
    }

    pub(super) fn says(&self, synced: bool) -> Verdict {
        match &self.left {
            None if synced => broken("Synced", "before there is a list"),
            Some(left) if synced && !left.is_empty() => {
                broken("Synced", format!("without having seen {left:?}"))
            }
            Some(left) if !synced && left.is_empty() => broken("Synced", "not, after all has been seen"),
            _ => Ok(()),
        }
    }
}
