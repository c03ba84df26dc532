//! Claims: a turn's object that selects what it owns by labels takes what is nobody's, and lets go what it selects no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use serde_json::Value;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apimachinery_meta::owner::{self, Claim, Claimant};
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, key_of, lister};

use super::request::version_of;
use super::{Turn, request};
use crate::error::Result;
use crate::introspection::Verb;
use crate::subject::Reconciled;

impl<K: Reconciled> Turn<K> {
    /// The objects that the turn's object controls and selects, ordered by namespace and name: those that are its own already,
    /// and those that are nobody's, which are adopted. What is its own and not selected any more is released. Who is whose
    /// is decided by UID, never by name, and what another one controls stays as it is.
    ///
    /// Before the first adoption the server is asked whether the turn's object is still there and not being deleted. An
    /// object that vanishes meanwhile is left out. The selector should match the labels of what the controller creates.
    ///
    /// # Errors
    /// As of [`Turn::create`]; [`Error`](crate::Error)`::Gone`; `Claim` for a selector that matches everything, and where the turn's
    /// object is gone or going; `Undecodable`; a conflict.
    pub async fn claim<T: Reconciled>(&mut self, selector: &LabelSelector) -> Result<Vec<Arc<T>>> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let owner = self.present()?;
        let claimant = Claimant::new(owner.meta(), selector)?;
        let mut claimed = BTreeMap::new();
        let mut may_adopt = false;
        for cached in candidates(
            &store,
            owner.meta().namespace.as_deref(),
            owner.meta().uid.as_deref(),
            selector,
        ) {
            let meta = cached.meta()?;
            let object = match claimant.claim(&meta) {
                Claim::Ignore => continue,
                Claim::Keep => Some(cached.decode()?),
                Claim::Adopt => {
                    if !may_adopt {
                        let latest = request::get::<K>(self.client(), self.key()).await?;
                        claimant.may_adopt(latest.as_ref().map(K::meta))?;
                        may_adopt = true;
                    }
                    let reference = owner::controller_reference_to(&*owner)?;
                    let patch = owner::adopt_merge(&reference, &meta)?;
                    self.hand_over(&store, &cached, patch).await?.map(Arc::new)
                }
                Claim::Release => {
                    let uid = owner.meta().uid.as_deref().unwrap_or_default();
                    let patch = owner::release_merge(uid, &meta)?;
                    self.hand_over(&store, &cached, patch).await?;
                    None
                }
            };
            if let Some(object) = object {
                claimed.insert(key_of(&*object), object);
            }
        }
        Ok(claimed.into_values().collect())
    }

    /// Writes who owns an object. None: it is gone.
    async fn hand_over<T: Reconciled>(
        &mut self,
        store: &Store<T>,
        object: &Cached<T>,
        patch: Value,
    ) -> Result<Option<T>> {
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        let patch = Patch::Merge(patch);
        let answer = request::patch(self.client(), object.key(), None, &params, &patch).await;
        self.asked::<T, T>(Verb::Patch, object.key(), &answer, version_of);
        match answer {
            Ok(answer) => {
                self.noted(store, &answer);
                Ok(Some(answer))
            }
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// What is one's own or selected, found without decoding the rest.
fn candidates<T>(
    store: &Store<T>,
    namespace: Option<&str>,
    uid: Option<&str>,
    selector: &LabelSelector,
) -> Vec<Cached<T>> {
    let mut found: BTreeMap<_, _> = uid
        .map(|uid| store.owned_by(uid))
        .into_iter()
        .flatten()
        .map(|object| (object.key().clone(), object))
        .collect();
    let all = namespace.map_or_else(|| store.list(), |namespace| store.list_in(namespace));
    let selected = all.into_iter().filter(|object| lister::matches(selector, object));
    found.extend(selected.map(|object| (object.key().clone(), object)));
    found.into_values().collect()
}
