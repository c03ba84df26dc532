//! Resource quotas: what a namespace uses is counted as it is written, and what would be too much is refused.
//!
//! The count is in the quota's status, and is written in the transaction that writes the object: of several requests at
//! once none is counted against what another has used up meanwhile, and one that fails in the end has used nothing. What
//! deletions give back a controller adds up; it asks [`quota`] as is done here.

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_meta::quota::{self, Amounts, Counted};
use trimtab_apiserver_storage::{Compare, Error, Op, RangeRequest, Store};

use super::forbidden;
use crate::registry::codec::Codec;
use crate::registry::followed::{Followed, Objects};
use crate::registry::hooks::{Accounts, Allocation, Attributes, Operation};
use crate::registry::storage::Stored;
use crate::registry::{ResourceTable, keys, meta, storage};

/// How many namespaces can be counted for at once, if they are lucky.
const TURNS: usize = 64;
/// How long to wait for one's turn; as kube-apiserver.
const PATIENCE: Duration = Duration::from_secs(10);

/// Counts what namespaces use against their quotas.
#[derive(Debug)]
pub struct Quotas {
    store: Arc<dyn Store>,
    resources: Arc<ResourceTable>,
    /// All quotas, so that a namespace without any costs no read.
    known: Arc<Followed<Objects>>,
    /// Who counts for a namespace has the lock at the place of its hash: others would lose to it and have to try again.
    turns: Vec<Arc<Mutex<()>>>,
    hasher: RandomState,
}

impl Quotas {
    /// Counts against the quotas that are in `store`. With it comes what keeps it up to date while nobody asks: it never
    /// ends, and does nothing unless it is polled.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub async fn load(
        store: Arc<dyn Store>,
        resources: Arc<ResourceTable>,
    ) -> Result<(Self, impl Future<Output = ()> + use<>), Error> {
        let prefix = format!("{}resourcequotas/", keys::ROOT);
        let known: Arc<Followed<Objects>> = Followed::load(store.clone(), vec![prefix]).await?;
        let follow = known.clone().follow();
        let quotas = Self {
            store,
            resources,
            known,
            turns: std::iter::repeat_with(Arc::default).take(TURNS).collect(),
            hasher: RandomState::new(),
        };
        Ok((quotas, follow))
    }

    async fn turn(&self, namespace: &str) -> Result<OwnedMutexGuard<()>, ApiError> {
        // The remainder is less than the number of turns.
        let at = self.hasher.hash_one(namespace) % TURNS as u64;
        let turn = self.turns[at as usize].clone();
        timeout(PATIENCE, turn.lock_owned())
            .await
            .map_err(|_| ApiError::internal("resource quota evaluation timed out"))
    }

    /// The quotas of a namespace as they are in the store.
    async fn of(&self, codec: &Codec, namespace: &str) -> Result<Vec<Stored>, ApiError> {
        let range = RangeRequest::prefix(keys::collection_prefix(&codec.resource, namespace));
        let response = self.store.range(range).await.map_err(|e| storage::error(&e))?;
        codec.decode_all(response.kvs).await
    }

    fn codec(&self) -> Option<Codec> {
        let resources = self.resources.snapshot();
        let resource = resources.any_version("", "resourcequotas")?.clone();
        Some(Codec::new(&resources, resource, None))
    }
}

#[async_trait]
impl Accounts for Quotas {
    fn concerns(&self, attributes: &Attributes) -> bool {
        let namespace = attributes.namespace.as_str();
        let is_namespace = attributes.resource.group.is_empty() && attributes.resource.plural == "namespaces";
        !namespace.is_empty()
            && !is_namespace
            && may_count(attributes)
            && self.known.look(|all| all.any(namespace))
    }

    async fn charge(
        &self,
        attributes: &Attributes,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Box<dyn Allocation>>, ApiError> {
        let counted = Counted::of(&attributes.resource.group_resource());
        let Some((counted, codec)) = counted.zip(self.codec()) else {
            return Ok(None);
        };
        if counted.is_of_pods() && attributes.subresource.is_empty() && !changes_scope(object, old) {
            return Ok(None);
        }
        let now = Timestamp::now().as_second();
        let request = Request {
            attributes,
            counted: &counted,
            object,
            old,
            usage: counted.usage(object, now),
            usage_before: old.map(|old| counted.usage(old, now)),
        };
        if attributes.dry_run {
            for quota in self.of(&codec, &attributes.namespace).await? {
                request.used(&quota.object)?;
            }
            return Ok(None);
        }
        let turn = self.turn(&attributes.namespace).await?;
        let mut charge = Charge {
            conditions: Vec::new(),
            changes: Vec::new(),
            _turn: turn,
        };
        for Stored {
            mut object, revision, ..
        } in self.of(&codec, &attributes.namespace).await?
        {
            let Some(used) = request.used(&object)? else {
                continue;
            };
            let key = keys::object_key(&codec.resource, &attributes.namespace, meta::name(&object));
            object["status"]["used"] = quota::to_value(&used);
            let (put, _) = codec.put(&key, &object).await?;
            charge.conditions.push(Compare::ModRevision(key.into(), revision));
            charge.changes.push(put);
        }
        let counts = !charge.changes.is_empty();
        Ok(counts.then(|| Box::new(charge) as Box<dyn Allocation>))
    }
}

/// Whether such a request can change what is used, as far as can be said without the object.
fn may_count(attributes: &Attributes) -> bool {
    let resource = &attributes.resource;
    let plural = resource.plural.as_str();
    match (attributes.operation, attributes.subresource.as_str()) {
        (Operation::Create, "") => true,
        (Operation::Update, "") => match resource.group.as_str() {
            "" => matches!(plural, "pods" | "services" | "persistentvolumeclaims"),
            "resource.k8s.io" => plural == "resourceclaims",
            _ => false,
        },
        (Operation::Update, "resize") => resource.group.is_empty() && plural == "pods",
        (Operation::Update, "status") => resource.group.is_empty() && plural == "persistentvolumeclaims",
        _ => false,
    }
}

/// Pods that are there ask for what they asked for, unless they are resized; but they may come into another scope.
fn changes_scope(pod: &Value, old: Option<&Value>) -> bool {
    let ends = |pod: &Value| {
        pod["spec"]["activeDeadlineSeconds"]
            .as_i64()
            .is_some_and(|s| s >= 0)
    };
    old.is_none_or(|old| ends(old) != ends(pod))
}

/// What is to be counted.
struct Request<'a> {
    attributes: &'a Attributes,
    counted: &'a Counted,
    object: &'a Value,
    old: Option<&'a Value>,
    usage: Amounts,
    usage_before: Option<Amounts>,
}

impl Request<'_> {
    fn refused(&self, why: impl std::fmt::Display) -> ApiError {
        forbidden(self.attributes, Some(self.object), why)
    }

    /// What is used of a quota when the object is written, if that is more than what is used now.
    fn used(&self, quota: &Value) -> Result<Option<Amounts>, ApiError> {
        let name = meta::name(quota);
        let hard = quota::amounts(&quota["status"]["hard"]);
        let counts = |object: &Value| {
            let names = hard.keys().map(String::as_str);
            self.counted.is_counted_by(&quota["spec"], names, object)
        };
        if !counts(self.object) {
            return Ok(None);
        }
        let known: BTreeSet<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|name| self.counted.knows(name))
            .collect();
        if let Some(missing) = self.counted.missing(self.object, known.iter().copied()) {
            return Err(self.refused(format!("failed quota: {name}: {missing}")));
        }
        let mut used = quota::amounts(&quota["status"]["used"]);
        if known.iter().any(|name| !used.contains_key(*name)) {
            let names: Vec<&str> = known.into_iter().collect();
            let why = format!("status unknown for quota: {name}, resources: {}", names.join(","));
            return Err(self.refused(why));
        }
        let negative: Vec<&str> = self
            .usage
            .iter()
            .filter(|(_, amount)| amount.is_negative())
            .map(|(name, _)| name.as_str())
            .collect();
        if !negative.is_empty() {
            let names = negative.join(",");
            return Err(self.refused(format!("quota usage is negative for resource(s): {names}")));
        }
        let nothing = Amounts::new();
        let before = self
            .usage_before
            .as_ref()
            .filter(|_| self.old.is_some_and(counts));
        let mut more = quota::increase(&self.usage, before.unwrap_or(&nothing));
        more.retain(|name, _| hard.contains_key(name));
        if more.is_empty() {
            return Ok(None);
        }
        let had = used.clone();
        quota::add(&mut used, &more);
        let exceeded: BTreeSet<&String> = more.keys().filter(|name| used[*name] > hard[*name]).collect();
        // What a claim has got already is counted in any case.
        if !exceeded.is_empty() && self.attributes.subresource != "status" {
            let only = |amounts: &Amounts| {
                let mut amounts = amounts.clone();
                amounts.retain(|name, _| exceeded.contains(name));
                quota::describe(&amounts)
            };
            return Err(self.refused(format!(
                "exceeded quota: {name}, requested: {}, used: {}, limited: {}",
                only(&more),
                only(&had),
                only(&hard)
            )));
        }
        Ok(Some(used))
    }
}

/// What is counted, to be written along with the object.
struct Charge {
    conditions: Vec<Compare>,
    changes: Vec<Op>,
    /// Nobody else counts for the namespace until it is written.
    _turn: OwnedMutexGuard<()>,
}

impl Allocation for Charge {
    fn conditions(&self) -> Vec<Compare> {
        self.conditions.clone()
    }

    fn changes(&self) -> Vec<Op> {
        self.changes.clone()
    }
}
