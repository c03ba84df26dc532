//! Brings what is written down as held in line with what services hold, when a server starts: they differ after
//! a kube-apiserver has worked on the same etcd.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;
use trimtab_apiserver_storage::{Compare, Error, KeyValue, Op, RangeRequest, Txn};

use super::ServiceAllocators;
use super::service::{self, Held};
use crate::registry::{keys, meta};

/// Where services are, below the root.
const SERVICES: &str = "services/specs/";

/// A service that holds something.
struct Owner {
    name: String,
    /// It is as it was when it was looked at.
    unchanged: Compare,
}

impl ServiceAllocators {
    /// Writes down what services hold, and forgets what none does. What changes meanwhile is left to who changes it.
    ///
    /// # Errors
    ///
    /// When the store cannot be read or written.
    pub(crate) async fn repair(&self) -> Result<(), Error> {
        let services = format!("{}{SERVICES}", keys::ROOT);
        let services = self.store.range(RangeRequest::prefix(services)).await?;
        let books = format!("{}{}", keys::ROOT, service::PREFIX);
        let books = RangeRequest::prefix(books).at(services.revision);
        let (owners, all_read) = owners(services.kvs);
        let mut held: BTreeMap<Bytes, KeyValue> = BTreeMap::new();
        for kv in self.store.range(books).await?.kvs {
            // kube-apiserver's own books are there too.
            if Held::is_key(&kv.key) {
                held.insert(kv.key.clone(), kv);
            }
        }
        for (key, owner) in &owners {
            if held.remove(key).is_none() {
                let put = Op::Put {
                    key: key.clone(),
                    value: owner.name.clone().into(),
                    ttl: None,
                };
                let absent = Compare::ModRevision(key.clone(), 0);
                self.unless_changed([owner.unchanged.clone(), absent], put)
                    .await?;
            }
        }
        // Whoever cannot be read may hold what is left.
        if all_read {
            for (key, kv) in held {
                let unchanged = Compare::ModRevision(key.clone(), kv.mod_revision);
                self.unless_changed([unchanged], Op::Delete { key }).await?;
            }
        }
        Ok(())
    }

    async fn unless_changed(&self, compare: impl IntoIterator<Item = Compare>, op: Op) -> Result<(), Error> {
        let txn = Txn {
            compare: compare.into_iter().collect(),
            success: vec![op],
            failure: Vec::new(),
        };
        self.store.txn(txn).await.map(drop)
    }
}

/// By key, which service holds it; and whether all services could be read.
fn owners(services: Vec<KeyValue>) -> (BTreeMap<Bytes, Owner>, bool) {
    let mut owners = BTreeMap::new();
    let mut all_read = true;
    for kv in services {
        let service: Value = match serde_json::from_slice(&kv.value) {
            Ok(service) => service,
            Err(error) => {
                tracing::warn!(key = %kv.key.escape_ascii(), %error, "a stored Service cannot be read");
                all_read = false;
                continue;
            }
        };
        for held in service::held(&service) {
            let owner = Owner {
                name: format!("{}/{}", meta::namespace(&service), meta::name(&service)),
                unchanged: Compare::ModRevision(kv.key.clone(), kv.mod_revision),
            };
            let before = owners.insert(Bytes::from(held.key()), owner);
            if let Some(before) = before {
                let key = held.key();
                tracing::warn!(key, service = before.name, "two services hold the same");
            }
        }
    }
    (owners, all_read)
}
