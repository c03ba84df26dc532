//! The clauses about what handlers are told.

use std::collections::{BTreeMap, BTreeSet};

use trimtab::apimachinery::ObjectKey;

use super::{Present, Verdict, Violation, follow};
use crate::history::{HandlerId, Kind, Report, Told, What};
use crate::model::View;
use crate::validate::stores::view_of;

/// *Ordered*: of one object a handler sees states that the server had, each newer than the one before, and the kind of a
/// delta fits what the handler knows. The store has each state when a handler is told of it.
pub(crate) fn ordered(report: &Report) -> Verdict {
    let mut known = BTreeMap::<HandlerId, View>::new();
    let mut newest = BTreeMap::<(HandlerId, ObjectKey), u64>::new();
    for (at, entry) in report.entries.iter().enumerate() {
        let What::Told(told) = &entry.what else { continue };
        let known = known.entry(told.handler).or_default();
        let newest = newest.entry((told.handler, told.key.clone())).or_default();
        let verdict = follows(told, known, *newest).and_then(|()| was_so(report, entry.informer, told));
        verdict.map_err(|why| Violation {
            clause: "Ordered",
            entry: Some(at),
            key: Some(told.key.clone()),
            why: format!(
                "handler {} was told {:?} of {}: {why}",
                told.handler, told.kind, told.mark
            ),
        })?;
        *newest = told.mark.version.max(*newest);
        follow(known, told);
    }
    Ok(())
}

/// Whether a delta fits what its handler knows.
fn follows(told: &Told, known: &View, newest: u64) -> Result<(), String> {
    let (version, knows) = (told.mark.version, known.get(&told.key));
    match &told.kind {
        Kind::Resync if knows != Some(&told.mark) => return Err(format!("it knows {knows:?}")),
        Kind::Resync => return Ok(()),
        Kind::Deleted { .. } if version < newest => return Err(format!("it was told of {newest}")),
        Kind::Added { .. } | Kind::Updated { .. } if version <= newest => {
            return Err(format!("it was told of {newest}"));
        }
        Kind::Added { .. } if knows.is_some() => return Err(format!("it knows {knows:?}")),
        Kind::Updated { old } if knows != Some(old) => return Err(format!("it knows {knows:?}")),
        Kind::Updated { old } if old.uid != told.mark.uid => return Err("that is another object".to_owned()),
        Kind::Deleted { .. } if knows.is_some_and(|knows| knows.uid != told.mark.uid) => {
            return Err(format!("it knows {knows:?}"));
        }
        _ => {}
    }
    let stored = told
        .stored
        .as_ref()
        .filter(|_| !matches!(told.kind, Kind::Deleted { .. }));
    match stored {
        Some(stored) if stored.version < version => Err(format!("the store is at {stored}")),
        _ => Ok(()),
    }
}

/// Whether the server had such a state, and the informer was to see it.
fn was_so(report: &Report, informer: usize, told: &Told) -> Result<(), String> {
    let meta = &report.informers[informer];
    let change = report.model.change(&told.key, told.mark.version);
    let Some(change) = change else {
        return Err("the server never had such a state".to_owned());
    };
    let visible = change.is_some_and(|state| meta.scope.matches(&told.key, state));
    match (told.kind == Kind::Deleted { observed: true }, change) {
        (true, _) if visible => Err("it was not gone".to_owned()),
        (true, _) => Ok(()),
        (false, Some(state)) if visible && state.uid == told.mark.uid => {
            let same = state.content.tier == told.content.tier
                && (meta.metadata_only || state.content.value == told.content.value);
            let gone = matches!(told.kind, Kind::Deleted { .. });
            if same || gone {
                Ok(())
            } else {
                Err(format!("with {:?} for {:?}", told.content, state.content))
            }
        }
        (false, _) => Err("it was not to be seen like that".to_owned()),
    }
}

/// *Complete*: what a handler knows is what the store has, but for what is pending; and in the end what the server has.
pub(crate) fn complete(report: &Report) -> Verdict {
    let (mut present, mut known) = (Present::default(), BTreeMap::<HandlerId, View>::new());
    for (at, entry) in report.entries.iter().enumerate() {
        let broken = |key: Option<&ObjectKey>, why| Violation {
            clause: "Complete",
            entry: Some(at),
            key: key.cloned(),
            why,
        };
        present.note(entry.informer, &entry.what);
        match &entry.what {
            What::Joined { handler, .. } => drop(known.insert(*handler, View::new())),
            What::Told(told) => follow(known.entry(told.handler).or_default(), told),
            What::Seen(seen) if seen.synced => {
                for handler in &seen.handlers {
                    let known = known.entry(handler.handler).or_default();
                    let differ = differences(known, &seen.view);
                    if differ.len() > handler.backlog {
                        let (id, pending) = (handler.handler, handler.backlog);
                        let keys = differ
                            .iter()
                            .map(ToString::to_string)
                            .collect::<Vec<_>>()
                            .join(", ");
                        let why = format!(
                            "handler {id} is not at the store's state of {keys}, and {pending} are pending"
                        );
                        return Err(broken(differ.first().copied(), why));
                    }
                }
            }
            What::End { server, stored } => {
                let is = view_of(server);
                for handler in present.of(entry.informer) {
                    let known = known.entry(handler).or_default();
                    if let Some(key) = differences(known, &is).first() {
                        let (knows, is) = (known.get(key), is.get(key));
                        let why = format!(
                            "in the end handler {handler} knows {knows:?}, and the server has {is:?}"
                        );
                        return Err(broken(Some(key), why));
                    }
                }
                let differ = server.keys().chain(stored.keys()).find(|key| {
                    let of = |objects: &BTreeMap<_, _>| {
                        objects
                            .get(*key)
                            .map(|object| comparable(report, entry.informer, object))
                    };
                    of(server) != of(stored)
                });
                if let Some(key) = differ {
                    let (is, has) = (server.get(key), stored.get(key));
                    return Err(broken(
                        Some(key),
                        format!("in the end the store has {has:?}, and the server {is:?}"),
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// The object without what not every answer says: its type; and without what was not asked for.
fn comparable(report: &Report, informer: usize, object: &serde_json::Value) -> serde_json::Value {
    let mut object = object.clone();
    if let Some(fields) = object.as_object_mut() {
        let metadata_only = report.informers[informer].metadata_only;
        fields.retain(|field, _| {
            field == "metadata" || (!metadata_only && field != "kind" && field != "apiVersion")
        });
    }
    object
}

fn differences<'v>(a: &'v View, b: &'v View) -> Vec<&'v ObjectKey> {
    let missing = b.keys().filter(|key| !a.contains_key(*key));
    a.iter()
        .filter(|(key, mark)| b.get(*key) != Some(*mark))
        .map(|(key, _)| key)
        .chain(missing)
        .collect()
}

/// *Bounded*: no more is pending for a handler than there are objects, and taken in one go it is, of each object, one
/// delta, or a deletion and what came after it.
pub(crate) fn bounded(report: &Report) -> Verdict {
    let broken = |entry, key, why| Violation {
        clause: "Bounded",
        entry: Some(entry),
        key,
        why,
    };
    let names = report.model.names();
    let mut takings = BTreeMap::<(HandlerId, u64, &ObjectKey), Vec<bool>>::new();
    for (at, entry) in report.entries.iter().enumerate() {
        match &entry.what {
            What::Seen(seen) => {
                if let Some(handler) = seen.handlers.iter().find(|handler| handler.backlog > names) {
                    let (id, pending) = (handler.handler, handler.backlog);
                    let why = format!("{pending} deltas of {names} objects are pending for handler {id}");
                    return Err(broken(at, None, why));
                }
            }
            What::Told(told) if told.kind != Kind::Resync => {
                let taken = takings.entry((told.handler, told.taking, &told.key)).or_default();
                taken.push(matches!(told.kind, Kind::Deleted { .. }));
                if !matches!(taken[..], [_] | [true, false]) {
                    let why = format!(
                        "handler {} took {} deltas of it in one go",
                        told.handler,
                        taken.len()
                    );
                    return Err(broken(at, Some(told.key.clone()), why));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// What is known of a handler's way through its initial list.
#[derive(Default)]
struct Initial<'r> {
    /// What the list has that was not told yet, once there is a list.
    left: Option<BTreeSet<&'r ObjectKey>>,
    told: BTreeSet<&'r ObjectKey>,
}

impl<'r> Initial<'r> {
    fn listed(&mut self, list: &'r View) {
        let told = &self.told;
        self.left
            .get_or_insert_with(|| list.keys().filter(|key| !told.contains(key)).collect());
    }

    fn told(&mut self, key: &'r ObjectKey) {
        self.told.insert(key);
        if let Some(left) = &mut self.left {
            left.remove(key);
        }
    }
}

/// *Synced*: a handler is told nothing before there is a list, counts as synced only when it has been told of every object
/// of the list, of which it is told nothing as of the list after that; and in the end every handler is synced.
pub(crate) fn synced(report: &Report) -> Verdict {
    let (mut present, mut initial) = (Present::default(), BTreeMap::<HandlerId, Initial<'_>>::new());
    let mut is_synced = BTreeSet::new();
    for (at, entry) in report.entries.iter().enumerate() {
        let broken = |key: Option<&ObjectKey>, why: String| Violation {
            clause: "Synced",
            entry: Some(at),
            key: key.cloned(),
            why,
        };
        present.note(entry.informer, &entry.what);
        let says = |handler: HandlerId, initial: &Initial<'_>| match &initial.left {
            None => Err(broken(
                None,
                format!("handler {handler} is synced before there is a list"),
            )),
            Some(left) => match left.first() {
                Some(key) => Err(broken(
                    Some(key),
                    format!("handler {handler} is synced without having been told of it"),
                )),
                None => Ok(()),
            },
        };
        match &entry.what {
            What::Joined { handler, listed } => {
                let initial = initial.entry(*handler).or_default();
                listed.iter().for_each(|list| initial.listed(list));
            }
            What::FirstList(list) => {
                present
                    .of(entry.informer)
                    .for_each(|handler| initial.entry(handler).or_default().listed(list));
            }
            What::Told(told) => {
                let (handler, initial) = (told.handler, initial.entry(told.handler).or_default());
                if initial.left.is_none() {
                    return Err(broken(
                        Some(&told.key),
                        format!("handler {handler} is told before there is a list"),
                    ));
                }
                if told.synced {
                    says(handler, initial)?;
                    if told.kind == (Kind::Added { initial: true }) {
                        let why = format!(
                            "handler {handler} is told of it as of the initial list after it was synced"
                        );
                        return Err(broken(Some(&told.key), why));
                    }
                }
                initial.told(&told.key);
            }
            What::Seen(seen) => {
                for handler in &seen.handlers {
                    if handler.synced {
                        says(handler.handler, initial.entry(handler.handler).or_default())?;
                        is_synced.insert(handler.handler);
                    } else if is_synced.contains(&handler.handler) {
                        return Err(broken(
                            None,
                            format!("handler {} is not synced any more", handler.handler),
                        ));
                    }
                }
            }
            What::End { .. } => {
                if let Some(handler) = present
                    .of(entry.informer)
                    .find(|handler| !is_synced.contains(handler))
                {
                    return Err(broken(
                        None,
                        format!("handler {handler} is not synced in the end"),
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// *Leaves*, of registrations: who has left is told nothing more.
pub(crate) fn leaves(report: &Report) -> Verdict {
    let mut left = BTreeSet::new();
    for (at, entry) in report.entries.iter().enumerate() {
        match &entry.what {
            What::Left(handler) => drop(left.insert(*handler)),
            What::Told(told) if left.contains(&told.handler) => {
                return Err(Violation {
                    clause: "Leaves",
                    entry: Some(at),
                    key: Some(told.key.clone()),
                    why: format!("handler {} has left and is told {:?}", told.handler, told.kind),
                });
            }
            _ => {}
        }
    }
    Ok(())
}
