//! Transactions as etcd takes them, and what they answer as the contract has it.
//!
//! etcd refuses a transaction that changes a key twice, and says of a put neither what it replaced nor when the
//! key was created. So each key is changed once, by its last operation; what was there before is read in the same
//! transaction where the answer needs it; and the operations are gone through again here to answer them.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::root::Root;
use super::wire::{self, compare, request, response};
use crate::contract::{Compare, KeyValue, Op, Result, Revision, Txn, TxnResponse};

/// What a branch needs to know of a key as it was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Before {
    /// Nothing: it does not exist, or is not changed by a put.
    Nothing,
    /// When it was created.
    Revisions,
    /// All of it.
    Value,
}

/// One key of a branch.
#[derive(Clone, Debug)]
struct Touched {
    before: Before,
    /// The operation that changes it, by its place.
    last: Option<usize>,
}

/// One branch of a transaction: what etcd is asked to do, and for which keys in which order.
#[derive(Debug)]
struct Branch {
    requests: Vec<wire::Request>,
    /// For each request that answers with a key as it was, that key.
    asked: Vec<Option<Bytes>>,
}

/// A transaction ready to be sent.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) request: wire::Txn,
    asked: [Vec<Option<Bytes>>; 2],
    ops: [Vec<Op>; 2],
}

impl Plan {
    /// Plans a transaction. `lease` finds the lease for a time to live.
    pub(crate) fn new(txn: Txn, root: &Root, lease: impl Fn(u64) -> i64, health: &[u8]) -> Result<Self> {
        let mut absent: Vec<&Bytes> = Vec::new();
        let mut compare = Vec::with_capacity(txn.compare.len());
        for Compare::ModRevision(key, revision) in &txn.compare {
            if *revision == 0 {
                absent.push(key);
            }
            compare.push(wire::Compare {
                result: 0,
                target: compare::MOD,
                key: root.theirs(key)?,
                // A revision too large for etcd is one that no key has.
                value: Some(compare::Value::ModRevision(
                    i64::try_from(*revision).unwrap_or(i64::MAX),
                )),
            });
        }
        let mut success = branch(&txn.success, root, &lease, &absent)?;
        let failure = branch(&txn.failure, root, &lease, &[])?;
        if success.requests.is_empty() && failure.requests.is_empty() {
            // Without an operation etcd would not ask its peers whether it is up to date.
            let range = wire::Range {
                key: health.to_vec(),
                count_only: true,
                ..wire::Range::default()
            };
            success.requests.push(range.into());
            success.asked.push(None);
        }
        let request = wire::Txn {
            compare,
            success: success.requests,
            failure: failure.requests,
        };
        Ok(Self {
            request,
            asked: [success.asked, failure.asked],
            ops: [txn.success, txn.failure],
        })
    }

    /// Whether the transaction can change anything.
    pub(crate) fn writes(&self) -> bool {
        let all = self.request.success.iter().chain(&self.request.failure);
        all.filter_map(|r| r.kind.as_ref())
            .any(|kind| !matches!(kind, request::Kind::Range(_)))
    }

    /// What etcd's answer says of the transaction.
    pub(crate) fn answer(self, answer: wire::TxnAnswer) -> TxnResponse {
        let revision = wire::revision(answer.header.as_ref());
        let taken = usize::from(!answer.succeeded);
        let [success, failure] = self.ops;
        let ops = if answer.succeeded { success } else { failure };
        let mut before: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        let mut changed = false;
        for (response, key) in answer.responses.into_iter().zip(&self.asked[taken]) {
            let kv = match response.kind {
                Some(response::Kind::Range(range)) => range.kvs.into_iter().next(),
                Some(response::Kind::Delete(deleted)) => {
                    changed |= deleted.deleted > 0;
                    deleted.prev_kvs.into_iter().next()
                }
                Some(response::Kind::Put(_)) => {
                    changed = true;
                    None
                }
                None => None,
            };
            if let (Some(kv), Some(key)) = (kv, key) {
                before.insert(key.clone(), key_value(key.clone(), kv));
            }
        }
        // What was made and unmade in the same transaction has a revision that never came to be.
        let as_if = if changed { revision } else { revision + 1 };
        TxnResponse {
            succeeded: answer.succeeded,
            revision,
            kvs: replay(ops, before, as_if),
        }
    }
}

/// Goes through the operations of a branch, given the keys as they were.
fn replay(ops: Vec<Op>, before: BTreeMap<Bytes, KeyValue>, revision: Revision) -> Vec<Option<KeyValue>> {
    let mut now = before.clone();
    let mut kvs = Vec::with_capacity(ops.len());
    for op in ops {
        kvs.push(match op {
            Op::Get { key } => now.get(&key).cloned(),
            Op::Delete { key } => now.remove(&key),
            Op::Put { key, value, .. } => {
                let kv = KeyValue {
                    create_revision: before.get(&key).map_or(revision, |kv| kv.create_revision),
                    mod_revision: revision,
                    key: key.clone(),
                    value,
                };
                now.insert(key, kv.clone());
                Some(kv)
            }
        });
    }
    kvs
}

fn branch(ops: &[Op], root: &Root, lease: &impl Fn(u64) -> i64, absent: &[&Bytes]) -> Result<Branch> {
    // In the order of keys, as changes of one revision are by all stores of ours.
    let mut keys: BTreeMap<&Bytes, Touched> = BTreeMap::new();
    for (place, op) in ops.iter().enumerate() {
        let (Op::Put { key, .. } | Op::Delete { key } | Op::Get { key }) = op;
        let touched = keys.entry(key).or_insert(Touched {
            before: Before::Nothing,
            last: None,
        });
        let needs = match (op, touched.last) {
            (Op::Get { .. } | Op::Delete { .. }, None) => Before::Value,
            (Op::Put { .. }, _) => Before::Revisions,
            _ => Before::Nothing,
        };
        touched.before = touched.before.max(needs);
        if !matches!(op, Op::Get { .. }) {
            touched.last = Some(place);
        }
    }
    let mut branch = Branch {
        requests: Vec::new(),
        asked: Vec::new(),
    };
    for (key, touched) in keys {
        let there = root.theirs(key)?;
        let last = touched.last.and_then(|place| ops.get(place));
        let deletes = matches!(last, Some(Op::Delete { .. }));
        // A deletion itself says what was there.
        if touched.before > Before::Nothing && !deletes && !absent.contains(&key) {
            let range = wire::Range {
                key: there.to_vec(),
                keys_only: touched.before == Before::Revisions,
                ..wire::Range::default()
            };
            branch.requests.push(range.into());
            branch.asked.push(Some(key.clone()));
        }
        match last {
            Some(Op::Put { value, ttl, .. }) => {
                let put = wire::Put {
                    key: there,
                    value: value.clone(),
                    lease: ttl.map_or(0, lease),
                };
                branch.requests.push(wire::Request {
                    kind: Some(request::Kind::Put(put)),
                });
                branch.asked.push(None);
            }
            Some(Op::Delete { .. }) => {
                let delete = wire::DeleteRange {
                    key: there,
                    prev_kv: true,
                };
                branch.requests.push(wire::Request {
                    kind: Some(request::Kind::Delete(delete)),
                });
                branch.asked.push(Some(key.clone()));
            }
            Some(Op::Get { .. }) | None => {}
        }
    }
    Ok(branch)
}

impl From<wire::Range> for wire::Request {
    fn from(range: wire::Range) -> Self {
        Self {
            kind: Some(request::Kind::Range(range)),
        }
    }
}

/// A key of etcd's, under the name that we have for it.
pub(crate) fn key_value(key: Bytes, kv: wire::KeyValue) -> KeyValue {
    KeyValue {
        key,
        value: kv.value.into(),
        create_revision: u64::try_from(kv.create_revision).unwrap_or(0),
        mod_revision: u64::try_from(kv.mod_revision).unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str) -> Op {
        Op::Put {
            key: Bytes::copy_from_slice(key.as_bytes()),
            value: Bytes::copy_from_slice(value.as_bytes()),
            ttl: None,
        }
    }

    fn key(op: fn(Bytes) -> Op, key: &str) -> Op {
        op(Bytes::copy_from_slice(key.as_bytes()))
    }

    fn delete(name: &str) -> Op {
        key(|key| Op::Delete { key }, name)
    }

    fn get(name: &str) -> Op {
        key(|key| Op::Get { key }, name)
    }

    fn show(request: &wire::Request) -> String {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match &request.kind {
            Some(request::Kind::Range(range)) if range.keys_only => format!("keys {}", text(&range.key)),
            Some(request::Kind::Range(range)) => format!("get {}", text(&range.key)),
            Some(request::Kind::Put(put)) => {
                format!("put {}={} {}", text(&put.key), text(&put.value), put.lease)
            }
            Some(request::Kind::Delete(delete)) => format!("delete {}", text(&delete.key)),
            None => String::new(),
        }
    }

    fn plan(compare: &[(&'static str, u64)], success: Vec<Op>) -> Plan {
        let compare = compare
            .iter()
            .map(|(key, revision)| Compare::ModRevision(Bytes::from(*key), *revision));
        let txn = Txn {
            compare: compare.collect(),
            success,
            failure: Vec::new(),
        };
        let lease = |ttl| i64::try_from(ttl).unwrap_or(0) + 1;
        Plan::new(txn, &Root::new(None), lease, b"health").expect("can be planned")
    }

    #[test]
    fn each_key_is_changed_once_and_read_where_the_answer_needs_it() {
        let short = Op::Put {
            key: "a".into(),
            value: "1".into(),
            ttl: Some(6),
        };
        for (compare, ops, wanted) in [
            (&[][..], vec![put("a", "1")], "keys a, put a=1 0"),
            (&[("a", 0)][..], vec![put("a", "1")], "put a=1 0"),
            (&[("a", 5)][..], vec![short], "keys a, put a=1 7"),
            (&[][..], vec![delete("a")], "delete a"),
            (&[][..], vec![get("b"), get("a"), get("b")], "get a, get b"),
            (
                &[][..],
                vec![put("b", "1"), put("a", "1"), put("b", "2")],
                "keys a, put a=1 0, keys b, put b=2 0",
            ),
            (&[][..], vec![put("a", "1"), delete("a")], "delete a"),
            (&[][..], vec![delete("a"), put("a", "1")], "get a, put a=1 0"),
            (&[][..], vec![get("a"), put("a", "1")], "get a, put a=1 0"),
            (&[][..], vec![put("a", "1"), get("a")], "keys a, put a=1 0"),
            (&[("a", 1)][..], vec![], "get health"),
        ] {
            let plan = plan(compare, ops.clone());
            let got: Vec<String> = plan.request.success.iter().map(show).collect();
            assert_eq!(got.join(", "), wanted, "{ops:?}");
            assert_eq!(plan.asked[0].len(), got.len(), "{ops:?}");
        }
    }

    #[test]
    fn only_reads_may_be_repeated() {
        assert!(!plan(&[("a", 1)], vec![get("a")]).writes());
        assert!(!plan(&[("a", 1)], vec![]).writes());
        assert!(plan(&[], vec![get("a"), delete("a")]).writes());
    }
}
