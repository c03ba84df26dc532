//! The clauses about what stores hold, and about the server that they are compared with.

use std::collections::BTreeMap;

use serde_json::Value;
use trimtab::apimachinery::ObjectKey;

use super::{Verdict, Violation};
use crate::history::{Report, Seen, What};
use crate::model::{Mark, Model, Scope, View};
use crate::recorder::number;

/// *Monotonic*: seen again, a store is not older, in whole and in each object. A state that the store has is either newer
/// than the store was, or the store had it.
pub(crate) fn monotonic(report: &Report) -> Verdict {
    let mut before = BTreeMap::<usize, &Seen>::new();
    for (at, entry) in report.entries.iter().enumerate() {
        let What::Seen(seen) = &entry.what else { continue };
        let Some(earlier) = before.insert(entry.informer, seen) else {
            continue;
        };
        let broken = |key: Option<&ObjectKey>, why| {
            Err(Violation {
                clause: "Monotonic",
                entry: Some(at),
                key: key.cloned(),
                why,
            })
        };
        if seen.version < earlier.version || (earlier.synced && !seen.synced) {
            return broken(
                None,
                format!("the store is at {} after {}", seen.version, earlier.version),
            );
        }
        for (key, mark) in &seen.view {
            let had = earlier.view.get(key);
            if had.is_some_and(|had| had.version > mark.version) {
                return broken(Some(key), format!("the store has {mark} after {had:?}"));
            }
            if mark.version <= earlier.version && had != Some(mark) {
                let why = format!("the store has {mark}, and at {} it had {had:?}", earlier.version);
                return broken(Some(key), why);
            }
        }
    }
    Ok(())
}

/// *Atomic*: what one reads is what the server had at the store's version: in a store of several namespaces at that of
/// each, which is not older than the store's. An index finds the same.
pub(crate) fn atomic(report: &Report) -> Verdict {
    for (at, entry) in report.entries.iter().enumerate() {
        let scope = &report.informers[entry.informer].scope;
        let (view, verdict) = match &entry.what {
            What::FirstList(view) => (view, at_some_version(&report.model, 0, view, scope)),
            What::Seen(seen) if seen.synced => (&seen.view, at_version(&report.model, seen, scope)),
            _ => continue,
        };
        verdict.map_err(|why| Violation {
            clause: "Atomic",
            entry: Some(at),
            key: None,
            why: format!("{why}: the store has {}", words(view)),
        })?;
    }
    Ok(())
}

fn at_version(model: &Model, seen: &Seen, scope: &Scope) -> Result<(), String> {
    if seen.indexed != seen.view {
        return Err(format!("an index finds {}", words(&seen.indexed)));
    }
    if scope.namespaces.len() > 1 {
        return at_some_version(model, seen.version, &seen.view, scope);
    }
    let had = model.at(seen.version, scope);
    if seen.view == had {
        return Ok(());
    }
    Err(format!("at {} the server had {}", seen.version, words(&had)))
}

/// Each namespace for itself, at any version from this one on.
fn at_some_version(model: &Model, from: u64, view: &View, scope: &Scope) -> Result<(), String> {
    for part in scope.parts() {
        let mine = view
            .iter()
            .filter(|(key, _)| part.namespaces.is_empty() || part.namespaces.contains(&key.namespace));
        let mine: View = mine.map(|(key, mark)| (key.clone(), mark.clone())).collect();
        // It cannot be as it was before the newest of its states.
        let newest = mine
            .values()
            .map(|mark| mark.version)
            .max()
            .unwrap_or_default()
            .max(from);
        let versions = std::iter::once(newest).chain(model.versions_after(newest, &part));
        if !versions
            .into_iter()
            .any(|version| model.at(version, &part) == mine)
        {
            return Err(format!(
                "from {newest} on the server never had that in {:?}",
                part.namespaces
            ));
        }
    }
    Ok(())
}

/// *Reliable*, of the server: each write that was acknowledged was told to the witness.
pub(crate) fn reliable(report: &Report) -> Verdict {
    for (key, mark) in &report.acknowledged {
        let told = report.model.change(key, mark.version).flatten();
        if told.is_none_or(|state| state.uid != mark.uid) {
            return Err(Violation {
                clause: "Reliable",
                entry: None,
                key: Some(key.clone()),
                why: format!("the server acknowledged {mark}, and its watch tells of {told:?}"),
            });
        }
    }
    Ok(())
}

/// The marks of objects as the server writes them.
pub(super) fn view_of(objects: &BTreeMap<ObjectKey, Value>) -> View {
    let text =
        |object: &Value, field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    let mark = |object: &Value| Mark {
        uid: text(object, "uid"),
        version: number(&text(object, "resourceVersion")).unwrap_or_default(),
    };
    objects
        .iter()
        .map(|(key, object)| (key.clone(), mark(object)))
        .collect()
}

fn words(view: &View) -> String {
    let words: Vec<_> = view.iter().map(|(key, mark)| format!("{key} {mark}")).collect();
    format!("[{}]", words.join(", "))
}
