//! Claims: a turn's object that selects what it owns by labels takes what is nobody's, and lets go what it selects no more.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::api::{Patch, PatchParams};
use serde_json::Value;
use trimtab_apimachinery_meta::LabelSelector;
use trimtab_apimachinery_meta::owner::{self, Claim, Claimant};
use trimtab_client_cache::store::Store;
use trimtab_client_cache::{Cached, index};

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
        let claimed = self.claim_each::<T>(selector, |_| true).await?;
        let objects = claimed.into_iter().map(|(cached, adopted)| match adopted {
            Some(adopted) => Ok(Arc::new(adopted)),
            None => Ok(cached.decode()?),
        });
        objects.collect()
    }

    /// [`Turn::claim`], without decoding anything: what was adopted just now is returned as it was before that.
    ///
    /// # Errors
    /// As of [`Turn::claim`].
    pub async fn claim_cached<T: Reconciled>(&mut self, selector: &LabelSelector) -> Result<Vec<Cached<T>>> {
        self.claim_cached_where(selector, |_| true).await
    }

    /// [`Turn::claim_cached`], of what is eligible besides being selected: by its name, say. What is not is released or left
    /// alone, as if it were not selected.
    ///
    /// # Errors
    /// As of [`Turn::claim`].
    pub async fn claim_cached_where<T: Reconciled>(
        &mut self,
        selector: &LabelSelector,
        eligible: impl Fn(&Cached<T>) -> bool + Send + Sync,
    ) -> Result<Vec<Cached<T>>> {
        let claimed = self.claim_each::<T>(selector, eligible).await?;
        Ok(claimed.into_iter().map(|(cached, _)| cached).collect())
    }

    /// What is claimed, with the server's answer where that was an adoption.
    async fn claim_each<T: Reconciled>(
        &mut self,
        selector: &LabelSelector,
        eligible: impl Fn(&Cached<T>) -> bool + Send + Sync,
    ) -> Result<Vec<(Cached<T>, Option<T>)>> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let owner = self.present()?;
        let claimant = Claimant::new(owner.meta(), selector)?;
        let uid = owner.meta().uid.as_deref().unwrap_or_default();
        let mut claimed = BTreeMap::new();
        let mut may_adopt = false;
        for cached in candidates(&store, owner.meta().namespace.as_deref(), uid, selector) {
            let belonging = cached.belonging();
            let eligible = eligible(&cached);
            match belonging.controller.as_deref() {
                // What is settled costs no decoding.
                Some(controller) if controller != uid => continue,
                Some(_) if eligible && belonging.is_selected_by(selector) => {
                    claimed.insert(cached.key().clone(), (cached, None));
                    continue;
                }
                None if !eligible => continue,
                _ => {}
            }
            let meta = cached.meta()?;
            let claim = match claimant.claim(&meta) {
                Claim::Keep if !eligible && owner.meta().deletion_timestamp.is_none() => Claim::Release,
                Claim::Keep if !eligible => Claim::Ignore,
                claim => claim,
            };
            match claim {
                Claim::Ignore => {}
                Claim::Keep => drop(claimed.insert(cached.key().clone(), (cached, None))),
                Claim::Adopt => {
                    if !may_adopt {
                        let latest = request::get::<K>(self.client(), self.key()).await?;
                        claimant.may_adopt(latest.as_ref().map(K::meta))?;
                        may_adopt = true;
                    }
                    let reference = owner::controller_reference_to(&*owner)?;
                    let patch = owner::adopt_merge(&reference, &meta)?;
                    let adopted = self.hand_over(&store, &cached, patch).await?;
                    if adopted.is_some() {
                        claimed.insert(cached.key().clone(), (cached, adopted));
                    }
                }
                Claim::Release => {
                    let patch = owner::release_merge(uid, &meta)?;
                    self.hand_over(&store, &cached, patch).await?;
                }
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

/// What is one's own or selected, found without decoding the rest, and among orphans alone where these are known.
fn candidates<T>(
    store: &Store<T>,
    namespace: Option<&str>,
    uid: &str,
    selector: &LabelSelector,
) -> Vec<Cached<T>> {
    let own = store.owned_by(uid).into_iter();
    let mut found: BTreeMap<_, _> = own.map(|object| (object.key().clone(), object)).collect();
    let all = match namespace {
        Some(namespace) => store
            .by_index(index::ORPHANS, namespace)
            .unwrap_or_else(|_| store.list_in(namespace)),
        None => store.list(),
    };
    let selected = all
        .into_iter()
        .filter(|object| object.belonging().is_selected_by(selector));
    found.extend(selected.map(|object| (object.key().clone(), object)));
    found.into_values().collect()
}
