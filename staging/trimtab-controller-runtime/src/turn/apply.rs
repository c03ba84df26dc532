//! Applying children: server-side apply in the manager's name, and no request where nothing would change.
//!
//! What is remembered of an apply is a digest of the wish and one of the answer, without what others may change
//! freely: the status and the server's own bookkeeping. While the wish is the same and the cached object still has that
//! digest, another apply would change nothing. Where nothing is remembered, as after a restart, or another digest, since
//! somebody has changed what is not in the wish, the managed fields of the cached object tell the same.

use std::any::TypeId;
use std::fmt::Display;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::core::ObjectMeta;
use serde_json::Value;
use trimtab_apimachinery_meta::owner::{self, OwnerError};
use trimtab_apimachinery_meta::{ObjectKey, managed_fields};
use trimtab_client_cache::key_of;
use trimtab_client_cache::store::Store;

use super::request::version_of;
use super::{Turn, request};
use crate::error::{Error, Result};
use crate::introspection::Verb;
use crate::subject::{Reconciled, Subject};

/// Which child: its type and its key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Child {
    form: TypeId,
    key: ObjectKey,
}

/// What was applied last, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Applied {
    wish: u64,
    outcome: u64,
    uid: Option<String>,
    /// The version at which the object was last compared with the outcome.
    version: Option<String>,
}

/// What a child is to be.
struct Described<'a> {
    wish: &'a Value,
    digest: u64,
    with_status: bool,
}

impl<K: Reconciled> Turn<K> {
    /// Makes an object be as described, by server-side apply with force: fields that are set are taken over, those that
    /// this controller set before and does not set now are removed, others stay. The turn's object becomes its
    /// controller, and its namespace is filled in. No request is made if the cached object is what the same description
    /// led to, now or before this process began: for the latter, its managed fields must be in the cache, as they are
    /// unless a watch [selects](crate::source::Watch::selecting) otherwise. Returns the object as the server or the cache has it.
    ///
    /// The kind must be owned, by [`owns`](crate::ControllerBuilder::owns) usually, or watched and declared to be
    /// [written](crate::ControllerBuilder::writes): otherwise the controller would not notice when somebody changes the
    /// object.
    ///
    /// # Errors
    /// [`Error::NotWatched`]; [`Error::NotDeclared`]; [`Error::Owner`] if somebody else's controller manages an object of
    /// that name, which then stays as it is; [`Error::Gone`]; [`Error::Invalid`] for an object without a name; what the server
    /// refuses.
    pub async fn apply<T: Reconciled>(&mut self, mut object: T) -> Result<Arc<T>> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let owner = self.present()?;
        if object.meta().name.is_none() {
            return Err(lacks::<T>("name", self.key()));
        }
        if request::is_namespaced::<T>() && object.meta().namespace.is_none() {
            object.meta_mut().namespace = owner.meta().namespace.clone();
        }
        check_namespace(&object, self.key())?;
        owner::set_controller_reference(&*owner, object.meta_mut())?;
        if let Some(cached) = store.get(&key_of(&object)) {
            refuse_foreign(&*owner, cached.meta()?)?;
        }
        self.apply_to(&store, object).await
    }
}

impl<S: Subject> Turn<S> {
    /// [`Turn::apply`], without making the turn's object its owner: for what lives longer than that, is elsewhere, or belongs
    /// to nobody. An object without a namespace is not given one.
    ///
    /// # Errors
    /// As of [`Turn::apply`].
    pub async fn apply_unowned<T: Reconciled>(&mut self, object: T) -> Result<Arc<T>> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        if object.meta().name.is_none() {
            return Err(lacks::<T>("name", self.key()));
        }
        check_namespace(&object, self.key())?;
        self.apply_to(&store, object).await
    }

    async fn apply_to<T: Reconciled>(&mut self, store: &Store<T>, object: T) -> Result<Arc<T>> {
        let child = Child {
            form: TypeId::of::<T>(),
            key: key_of(&object),
        };
        self.applied.push(child.clone());
        let wish = serde_json::to_value(&object)?;
        let described = Described {
            wish: &wish,
            digest: digest(&wish),
            with_status: wish.get("status").is_some_and(|status| !status.is_null()),
        };
        // What cannot be decoded may be mended by being applied.
        if let Some(cached) = store.get(&child.key).and_then(|cached| cached.decode().ok())
            && self.is_as_described(&child, &described, &*cached)?
        {
            self.spared::<T>(Verb::Apply, &child.key);
            return Ok(cached);
        }

        let params = PatchParams::apply(&self.world.manager).force();
        let answer = request::patch(self.client(), &child.key, None, &params, &Patch::Apply(&wish)).await;
        self.asked::<T, T>(Verb::Apply, &child.key, &answer, version_of);
        let answer: T = answer?;
        self.noted(store, &answer);
        let outcome = outcome(serde_json::to_value(&answer)?, described.with_status);
        self.remember(child, described.digest, answer.meta(), outcome);
        Ok(Arc::new(answer))
    }

    /// Whether the cached object is what the description led to, in this process or in an earlier one.
    fn is_as_described<T: Reconciled>(
        &self,
        child: &Child,
        described: &Described<'_>,
        cached: &T,
    ) -> Result<bool> {
        let meta = cached.meta();
        let known = self.world.applied.if_any(|all| {
            let applied = all.get(self.key())?.get(child)?;
            let is_of_it = applied.wish == described.digest && applied.uid == meta.uid;
            is_of_it.then(|| (applied.version == meta.resource_version, applied.outcome))
        });
        let known = match known.flatten() {
            Some((true, _)) => return Ok(true),
            known => known.map(|(_, outcome)| outcome),
        };
        let object = serde_json::to_value(cached)?;
        let was_applied = managed_fields::is_applied(described.wish, &object, &self.world.manager);
        let outcome = outcome(object, described.with_status);
        if !was_applied && known != Some(outcome) {
            return Ok(false);
        }
        self.remember(child.clone(), described.digest, meta, outcome);
        Ok(true)
    }

    /// Takes note of what a wish led to.
    fn remember(&self, child: Child, wish: u64, object: &ObjectMeta, outcome: u64) {
        let applied = Applied {
            wish,
            outcome,
            uid: object.uid.clone(),
            version: object.resource_version.clone(),
        };
        self.world
            .applied
            .with(|all| all.entry(self.key().clone()).or_default().insert(child, applied));
    }
}

/// A kind that always has namespaces cannot do without.
fn check_namespace<T: Reconciled>(object: &T, key: &impl Display) -> Result<()> {
    let always = TypeId::of::<T::Scope>() == TypeId::of::<NamespaceResourceScope>();
    if always && object.meta().namespace.is_none() {
        return Err(lacks::<T>("namespace", key));
    }
    Ok(())
}

fn lacks<T: Reconciled>(what: &str, owner: &impl Display) -> Error {
    let dynamic = T::DynamicType::default();
    let kind = T::kind(&dynamic);
    Error::Invalid(format!("the {kind} to be applied for {owner} has no {what}"))
}

/// An object that is managed by another controller stays with it. The server refuses a second controller too, so a
/// cache that is behind does no harm.
fn refuse_foreign<K: Reconciled>(owner: &K, mut metadata: ObjectMeta) -> Result<(), OwnerError> {
    owner::set_controller_reference(owner, &mut metadata)
}

/// A digest of all of an object that an apply could change.
fn outcome(mut object: Value, with_status: bool) -> u64 {
    if let Some(object) = object.as_object_mut() {
        if !with_status {
            object.remove("status");
        }
        if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
            for bookkeeping in ["managedFields", "resourceVersion", "generation"] {
                metadata.remove(bookkeeping);
            }
        }
    }
    digest(&object)
}

/// A digest of a value: maps are ordered by key, so equal values have equal digests.
fn digest(value: &Value) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}
