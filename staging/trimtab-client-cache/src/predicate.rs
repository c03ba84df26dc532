//! Predicates over objects: handlers that see a part of the objects as if it were all of them.

use crate::Delta;
use crate::cached::Cached;

/// The delta as one sees it who knows only objects that match: an object that begins to match is added, one that stops
/// matching is deleted, and changes of what does not match are not told.
///
/// Every deletion is told, also of objects that never matched: an object's last state does not say whether an earlier one
/// matched, which the handler may know.
pub fn filter<K>(delta: Delta<K>, matches: impl Fn(&Cached<K>) -> bool) -> Option<Delta<K>> {
    match delta {
        Delta::Updated { old, new } => match (matches(&old), matches(&new)) {
            (true, true) => Some(Delta::Updated { old, new }),
            (false, true) => Some(Delta::Added {
                object: new,
                initial: false,
            }),
            (true, false) => Some(Delta::Deleted {
                last: old,
                observed: true,
            }),
            (false, false) => None,
        },
        Delta::Added { object, initial } => matches(&object).then_some(Delta::Added { object, initial }),
        deleted @ Delta::Deleted { .. } => Some(deleted),
    }
}

/// A handler that passes on what [`filter`] leaves.
pub fn filtered<K>(
    matches: impl Fn(&Cached<K>) -> bool,
    mut handler: impl FnMut(Delta<K>),
) -> impl FnMut(Delta<K>) {
    move |delta| {
        if let Some(delta) = filter(delta, &matches) {
            handler(delta);
        }
    }
}
