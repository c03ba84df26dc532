//! Resource quotas: what a namespace uses is counted as it is written, and what would be too much is refused.
//!
//! The count is in the quota's status, and is written in the transaction that writes the object: of several requests at
//! once none is counted against what another has used up meanwhile, and one that fails in the end has used nothing. What
//! deletions give back a controller adds up; it asks [`quota`] as is done here.

mod limited;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::future::Future;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::{Mutex, OwnedMutexGuard};
use tokio::time::timeout;
use trimtab_apimachinery_meta::ApiError;
use trimtab_apimachinery_meta::quota::{self, Amounts, Counted};
use trimtab_apiserver_storage::{Compare, Error, Op, RangeRequest, Revision, Store};

pub use self::limited::Limited;
use super::forbidden;
use crate::ambient::Ambient;
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
    limited: Limited,
    ambient: Ambient,
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
            limited: Limited::default(),
            ambient: Ambient::default(),
        };
        Ok((quotas, follow))
    }

    /// The same quotas by this clock.
    #[must_use]
    pub(crate) fn by(mut self, ambient: &Ambient) -> Self {
        self.ambient = ambient.clone();
        self
    }

    /// The same quotas, where these things need one.
    #[must_use]
    pub fn limiting(mut self, limited: Limited) -> Self {
        self.limited = limited;
        self
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
            && (self.limited.concerns(attributes) || self.known.look(|all| all.any(namespace)))
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
        let now = self.ambient.now().as_second();
        let request = Request {
            attributes,
            counted: &counted,
            object,
            usage: counted.usage(object, now),
            old: old.map(|old| (old, counted.usage(old, now))),
            limited: &self.limited,
        };
        if attributes.dry_run {
            request.charges(self.of(&codec, &attributes.namespace).await?)?;
            return Ok(None);
        }
        let turn = self.turn(&attributes.namespace).await?;
        let mut charge = Charge {
            conditions: Vec::new(),
            changes: Vec::new(),
            _turn: turn,
        };
        let quotas = self.of(&codec, &attributes.namespace).await?;
        for (quota, revision) in request.charges(quotas)? {
            let key = keys::object_key(&codec.resource, &attributes.namespace, meta::name(&quota));
            let (put, _) = codec.put(&key, &quota).await?;
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
    usage: Amounts,
    /// What is stored, and what that uses.
    old: Option<(&'a Value, Amounts)>,
    limited: &'a Limited,
}

/// A quota that counts the object.
struct Pertinent {
    quota: Stored,
    hard: Amounts,
    used: Amounts,
    /// What the object uses more than before, whether the quota limits that or not.
    more: Amounts,
}

impl Request<'_> {
    fn refused(&self, why: impl std::fmt::Display) -> ApiError {
        forbidden(self.attributes, Some(self.object), why)
    }

    /// The quotas that change when the object is written, as they are then, with the revisions at which they are that.
    fn charges(&self, quotas: Vec<Stored>) -> Result<Vec<(Value, Revision)>, ApiError> {
        let (mut names, mut scopes) = (BTreeSet::new(), BTreeSet::new());
        let mut pertinent = Vec::new();
        for quota in quotas {
            let terms = quota::terms(&quota.object["spec"]);
            let matching = terms.filter(|term| self.counted.is_in_scope(term, self.object));
            scopes.extend(matching.filter_map(|term| term["scopeName"].as_str().map(str::to_owned)));
            if let Some(found) = self.pertinent(quota)? {
                let known = found.hard.keys().filter(|name| self.counted.knows(name));
                names.extend(known.cloned());
                pertinent.push(found);
            }
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
        let uses_more = if pertinent.is_empty() {
            !self.more(true).is_empty()
        } else {
            pertinent.iter().any(|quota| !quota.more.is_empty())
        };
        if !uses_more {
            return Ok(Vec::new());
        }
        let uncovered = self.limited.uncovered(self.attributes, &self.usage, &names);
        if !uncovered.is_empty() {
            let names = uncovered.join(",");
            return Err(self.refused(format!("insufficient quota to consume: {names}")));
        }
        let uncovered = self.limited.uncovered_scopes(self.counted, self.object, &scopes);
        if !uncovered.is_empty() {
            let scopes = uncovered.join(" ");
            return Err(self.refused(format!("insufficient quota to match these scopes: [{scopes}]")));
        }
        let charged = pertinent.into_iter().map(|quota| self.charged(quota));
        charged.filter_map(Result::transpose).collect()
    }

    /// What the object uses; if it was `counted` before, what of that is new.
    fn more(&self, counted: bool) -> Amounts {
        let nothing = Amounts::new();
        let before = self.old.as_ref().filter(|_| counted).map(|(_, usage)| usage);
        quota::increase(&self.usage, before.unwrap_or(&nothing))
    }

    /// The quota, if it counts the object.
    fn pertinent(&self, quota: Stored) -> Result<Option<Pertinent>, ApiError> {
        let object = &quota.object;
        let hard = quota::amounts(&object["status"]["hard"]);
        let counts = |what: &Value| {
            let names = hard.keys().map(String::as_str);
            self.counted.is_counted_by(&object["spec"], names, what)
        };
        if !counts(self.object) {
            return Ok(None);
        }
        let name = meta::name(object);
        let known: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|name| self.counted.knows(name))
            .collect();
        if let Some(missing) = self.counted.missing(self.object, known.iter().copied()) {
            return Err(self.refused(format!("failed quota: {name}: {missing}")));
        }
        let used = quota::amounts(&object["status"]["used"]);
        if known.iter().any(|name| !used.contains_key(*name)) {
            let names = known.join(",");
            return Err(self.refused(format!("status unknown for quota: {name}, resources: {names}")));
        }
        let more = self.more(self.old.as_ref().is_some_and(|(old, _)| counts(old)));
        Ok(Some(Pertinent {
            quota,
            hard,
            used,
            more,
        }))
    }

    /// The quota with what is used of it then, if that is more than now.
    fn charged(&self, pertinent: Pertinent) -> Result<Option<(Value, Revision)>, ApiError> {
        let Pertinent {
            quota,
            hard,
            used,
            mut more,
        } = pertinent;
        more.retain(|name, _| hard.contains_key(name));
        if more.is_empty() {
            return Ok(None);
        }
        let mut then = used.clone();
        quota::add(&mut then, &more);
        let exceeded: BTreeSet<&String> = more.keys().filter(|name| then[*name] > hard[*name]).collect();
        let Stored {
            mut object, revision, ..
        } = quota;
        // What a claim has got already is counted in any case.
        if !exceeded.is_empty() && self.attributes.subresource != "status" {
            let only = |amounts: &Amounts| {
                let mut amounts = amounts.clone();
                amounts.retain(|name, _| exceeded.contains(name));
                quota::describe(&amounts)
            };
            return Err(self.refused(format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                meta::name(&object),
                only(&more),
                only(&used),
                only(&hard)
            )));
        }
        object["status"]["used"] = quota::to_value(&then);
        Ok(Some((object, revision)))
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
