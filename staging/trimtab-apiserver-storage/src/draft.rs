//! Plans transactions: what each would change, given the state and the transactions planned before it. Nothing
//! is changed until the planned commits are applied, so a batch can be written to disk in between.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::contract::{Compare, Event, EventKind, KeyValue, Op, Revision, Txn, TxnResponse};
use crate::state::{Change, Commit, Millis, State};

/// Transactions that have been planned on top of a state and not yet applied to it.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    /// The commits, in order, starting at the revision after the state's.
    pub(crate) commits: Vec<Arc<Commit>>,
    /// The keys that they change, as they leave them.
    latest: HashMap<Bytes, Option<KeyValue>>,
}

impl Draft {
    fn revision(&self, state: &State) -> Revision {
        self.commits
            .last()
            .map_or_else(|| state.revision(), |c| c.revision)
    }

    fn get(&self, state: &State, key: &[u8]) -> Option<KeyValue> {
        match self.latest.get(key) {
            Some(kv) => kv.clone(),
            None => state.get(key),
        }
    }

    /// Plans one transaction. `state` must be the same each time.
    pub(crate) fn txn(&mut self, state: &State, txn: Txn, now: Millis) -> TxnResponse {
        let succeeded = txn.compare.iter().all(|Compare::ModRevision(key, wanted)| {
            self.get(state, key).map_or(0, |kv| kv.mod_revision) == *wanted
        });
        let ops = if succeeded { txn.success } else { txn.failure };
        let before = self.revision(state);
        let revision = before + 1;
        let mut changes: Vec<Change> = Vec::new();
        let mut kvs = Vec::with_capacity(ops.len());
        for op in ops {
            match op {
                Op::Get { key } => kvs.push(self.get(state, &key)),
                Op::Put { key, value, ttl } => {
                    let old = self.get(state, &key);
                    // A deletion before it in the same transaction does not count.
                    let first = changes.iter().find(|c| c.event.kv.key == key);
                    let before = first.map_or(old.as_ref(), |change| change.event.prev.as_ref());
                    let kv = KeyValue {
                        create_revision: before.map_or(revision, |kv| kv.create_revision),
                        key,
                        value,
                        mod_revision: revision,
                    };
                    let expires = ttl.map(|s| now.saturating_add(s.saturating_mul(1000)));
                    record(&mut changes, EventKind::Put, kv.clone(), old, expires);
                    self.latest.insert(kv.key.clone(), Some(kv.clone()));
                    kvs.push(Some(kv));
                }
                Op::Delete { key } => {
                    let old = self.get(state, &key);
                    if let Some(old) = &old {
                        let kv = KeyValue {
                            key: key.clone(),
                            value: Bytes::new(),
                            create_revision: old.create_revision,
                            mod_revision: revision,
                        };
                        record(&mut changes, EventKind::Delete, kv, Some(old.clone()), None);
                        self.latest.insert(key, None);
                    }
                    kvs.push(old);
                }
            }
        }
        // What was made and unmade in the same transaction never happened.
        changes.retain(|c| c.event.kind == EventKind::Put || c.event.prev.is_some());
        for Change { event, .. } in &mut changes {
            if let (EventKind::Delete, Some(prev)) = (event.kind, &event.prev) {
                // Though it may have been made anew in between.
                event.kv.create_revision = prev.create_revision;
            }
        }
        if changes.is_empty() {
            return TxnResponse {
                succeeded,
                revision: before,
                kvs,
            };
        }
        // In the order in which rows are read back.
        changes.sort_by(|a, b| a.event.kv.key.cmp(&b.event.kv.key));
        self.commits.push(Arc::new(Commit { revision, changes }));
        TxnResponse {
            succeeded,
            revision,
            kvs,
        }
    }
}

/// Adds a change; a key that the transaction has changed before keeps its place and its predecessor.
fn record(
    changes: &mut Vec<Change>,
    kind: EventKind,
    kv: KeyValue,
    prev: Option<KeyValue>,
    expires: Option<Millis>,
) {
    match changes.iter_mut().find(|c| c.event.kv.key == kv.key) {
        Some(change) => {
            change.event.kind = kind;
            change.event.kv = kv;
            change.expires = expires;
        }
        None => changes.push(Change {
            event: Event { kind, kv, prev },
            expires,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deletion_names_when_what_was_there_before_was_created() {
        let key = Bytes::from_static(b"a");
        let put = || Op::Put {
            key: key.clone(),
            value: Bytes::new(),
            ttl: None,
        };
        let delete = || Op::Delete { key: key.clone() };
        let mut draft = Draft::default();
        for success in [vec![put()], vec![put()], vec![delete(), put(), delete()]] {
            let txn = Txn {
                success,
                ..Txn::default()
            };
            draft.txn(&State::default(), txn, 0);
        }
        let event = &draft.commits[2].changes[0].event;
        assert_eq!(
            (event.kind, event.kv.create_revision, event.kv.mod_revision),
            (EventKind::Delete, 2, 4)
        );
    }
}
