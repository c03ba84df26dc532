//! The simplest store that could be right: a full copy of everything for each revision.

use std::collections::BTreeMap;

use bytes::Bytes;
use trimtab_apiserver_storage::{Compare, Event, EventKind, KeyValue, Op, Revision, Txn, TxnResponse};

type Snapshot = BTreeMap<Bytes, KeyValue>;

/// Snapshots and events by revision: `snapshots[r - 1]` is what was there at `r`.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    snapshots: Vec<Snapshot>,
    events: Vec<Vec<Event>>,
    pub(crate) oldest: Revision,
}

impl Default for Model {
    fn default() -> Self {
        Self {
            snapshots: vec![Snapshot::new()],
            events: vec![Vec::new()],
            oldest: 1,
        }
    }
}

impl Model {
    pub(crate) fn revision(&self) -> Revision {
        self.snapshots.len() as Revision
    }

    pub(crate) fn at(&self, revision: Revision) -> &Snapshot {
        &self.snapshots[revision as usize - 1]
    }

    /// The keys that begin with `prefix`, at a revision.
    pub(crate) fn range(&self, prefix: &[u8], revision: Revision) -> Vec<KeyValue> {
        self.at(revision)
            .values()
            .filter(|kv| kv.key.starts_with(prefix))
            .cloned()
            .collect()
    }

    /// The events of the keys that begin with `prefix`, from one revision to another, both included.
    pub(crate) fn events(&self, prefix: &[u8], from: Revision, to: Revision) -> Vec<Event> {
        let all = self
            .events
            .iter()
            .skip(from as usize - 1)
            .take((to + 1 - from.min(to + 1)) as usize);
        all.flatten()
            .filter(|e| e.kv.key.starts_with(prefix))
            .cloned()
            .collect()
    }

    pub(crate) fn txn(&mut self, txn: &Txn) -> TxnResponse {
        let before = self.at(self.revision()).clone();
        let mut now = before.clone();
        let succeeded = txn.compare.iter().all(|Compare::ModRevision(key, wanted)| {
            before.get(key).map_or(0, |kv| kv.mod_revision) == *wanted
        });
        let revision = self.revision() + 1;
        let mut touched: Vec<Bytes> = Vec::new();
        let mut kvs = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Get { key } => kvs.push(now.get(key).cloned()),
                Op::Put { key, value, .. } => {
                    let create_revision = before.get(key).map_or(revision, |kv| kv.create_revision);
                    let kv = KeyValue {
                        key: key.clone(),
                        value: value.clone(),
                        create_revision,
                        mod_revision: revision,
                    };
                    now.insert(key.clone(), kv.clone());
                    kvs.push(Some(kv));
                    touched.push(key.clone());
                }
                Op::Delete { key } => {
                    kvs.push(now.remove(key));
                    touched.push(key.clone());
                }
            }
        }
        let mut events: Vec<Event> = Vec::new();
        for key in touched {
            let prev = before.get(&key).cloned();
            let event = match (now.get(&key), prev) {
                (Some(kv), prev) => Event {
                    kind: EventKind::Put,
                    kv: kv.clone(),
                    prev,
                },
                (None, Some(prev)) => {
                    let kv = KeyValue {
                        value: Bytes::new(),
                        mod_revision: revision,
                        ..prev.clone()
                    };
                    Event {
                        kind: EventKind::Delete,
                        kv,
                        prev: Some(prev),
                    }
                }
                (None, None) => continue,
            };
            if events.iter().all(|e| e.kv.key != key) {
                events.push(event);
            }
        }
        if events.is_empty() {
            return TxnResponse {
                succeeded,
                revision: revision - 1,
                kvs,
            };
        }
        events.sort_by(|a, b| a.kv.key.cmp(&b.kv.key));
        self.snapshots.push(now);
        self.events.push(events);
        TxnResponse {
            succeeded,
            revision,
            kvs,
        }
    }
}
