//! Finalizers of the turn's object: holding its deletion, and letting go.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use trimtab_apimachinery_meta::finalizers;

use super::request::version_of;
use super::{Turn, request};
use crate::error::{Error, Result};
use crate::introspection::Verb;
use crate::reconcile::Next;
use crate::subject::Reconciled;

impl<K: Reconciled> Turn<K> {
    /// Adds a finalizer to the object, so that it is not gone before [`Turn::release`]. No request is made if it is there.
    ///
    /// The write is refused with a conflict if the object has changed since it was read.
    ///
    /// # Errors
    /// [`Error::Gone`]; [`Error::Invalid`] for an object that is being deleted, since it takes no new finalizers; what the
    /// server refuses.
    pub async fn hold(&mut self, finalizer: &str) -> Result<()> {
        let object = self.present()?;
        if finalizers::contains(object.meta(), finalizer) {
            return Ok(());
        }
        if self.is_deleting() {
            return Err(Error::Invalid(format!(
                "{} is being deleted and cannot be held by the finalizer {finalizer:?}",
                self.key()
            )));
        }
        let mut metadata = object.meta().clone();
        finalizers::add(&mut metadata, finalizer);
        let answer = self.write_finalizers(metadata.finalizers).await?;
        self.wrote(answer);
        Ok(())
    }

    /// Removes a finalizer, which lets the deletion of the object go on. No request is made if it is not there, and an
    /// object that is gone is no error. Returns what the reconciler has left to say: [`Next::Done`].
    ///
    /// The write is refused with a conflict if the object has changed since it was read.
    ///
    /// # Errors
    /// What the server refuses.
    pub async fn release(&mut self, finalizer: &str) -> Result<Next> {
        let Some(object) = self.latest() else {
            return Ok(Next::Done);
        };
        let mut metadata = object.meta().clone();
        if !finalizers::remove(&mut metadata, finalizer) {
            return Ok(Next::Done);
        }
        let last = metadata.finalizers.is_none() && self.is_deleting();
        let answer = match self.write_finalizers(metadata.finalizers).await {
            Err(error) if error.is_not_found() => None,
            answer => Some(answer?),
        };
        if let Some(store) = &self.world.store {
            self.unseen.released(store, &object, finalizer);
        }
        match answer {
            Some(answer) if !last => self.wrote(answer),
            _ => self.latest = None,
        }
        Ok(Next::Done)
    }

    async fn write_finalizers(&mut self, finalizers: Option<Vec<String>>) -> Result<K> {
        let object = self.present()?;
        let version = &object.meta().resource_version;
        let patch = Patch::Merge(json!({
            "metadata": { "resourceVersion": version, "finalizers": finalizers.unwrap_or_default() }
        }));
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        let answer = request::patch(self.client(), self.key(), None, &params, &patch).await;
        let key = self.key().clone();
        self.asked::<K, K>(Verb::Patch, &key, &answer, version_of);
        answer
    }
}
