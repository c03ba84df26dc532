//! Writes of many objects at once: requests side by side, begun carefully.

use futures::future::join_all;
use kube::api::{Patch, PatchParams, PostParams, Preconditions};
use serde_json::Value;
use trimtab_apimachinery_meta::ObjectKey;
use trimtab_client_cache::{Cached, key_of};

use super::request::version_of;
use super::{Turn, request};
use crate::error::Result;
use crate::introspection::Verb;
use crate::subject::{Reconciled, Subject};

/// How many requests of one turn are under way at once at most.
const AT_ONCE: usize = 64;

/// What became of many writes: what was written, how many were not tried, and the first error. What was refused is neither.
#[derive(Debug)]
#[must_use = "some of the writes may have failed"]
pub struct Written<T> {
    /// What was written, as the server answered.
    pub done: Vec<T>,
    /// How many were left alone, since others had failed before them.
    pub skipped: usize,
    /// Why one of them failed.
    pub failure: Result<()>,
}

impl<T> Default for Written<T> {
    fn default() -> Self {
        Self {
            done: Vec::new(),
            skipped: 0,
            failure: Ok(()),
        }
    }
}

impl<S: Subject> Turn<S> {
    /// [Creates](Turn::create) objects in batches of 1, 2, 4 and so on up to 64 requests side by side, and none after a batch in
    /// which one failed: where all would be refused for the same reason, few are. kube-controller-manager's slow start.
    pub async fn create_all<T: Reconciled>(&mut self, objects: Vec<T>) -> Written<T> {
        let mut written = Written::default();
        let store = match self.world.stores.to_write::<T>(&self.world.cluster) {
            Ok(store) => store,
            Err(error) => {
                written.skipped = objects.len();
                written.failure = Err(error);
                return written;
            }
        };
        let (client, mut rest, mut batch) = (self.client().clone(), &objects[..], 1);
        let params = PostParams {
            field_manager: Some(self.world.manager.clone()),
            ..PostParams::default()
        };
        while !rest.is_empty() && written.failure.is_ok() {
            let (now, later) = rest.split_at(batch.min(rest.len()));
            let requests = now.iter().map(|object| request::create(&client, object, &params));
            for (object, answer) in now.iter().zip(join_all(requests).await) {
                let key = key_of(answer.as_ref().unwrap_or(object));
                self.asked::<T, T>(Verb::Create, &key, &answer, version_of);
                match answer {
                    Ok(answer) => {
                        self.noted(&store, &answer);
                        written.done.push(answer);
                    }
                    Err(error) if written.failure.is_ok() => written.failure = Err(error),
                    Err(_) => {}
                }
            }
            (rest, batch) = (later, (2 * batch).min(AT_ONCE));
        }
        written.skipped = rest.len();
        written
    }

    /// [Deletes](Turn::delete) objects, 64 requests side by side; all are tried. `done` are the keys of those that are gone or
    /// going.
    pub async fn delete_all<T: Reconciled>(&mut self, objects: &[Cached<T>]) -> Written<ObjectKey> {
        let mut written = Written::default();
        let store = match self.world.stores.to_write::<T>(&self.world.cluster) {
            Ok(store) => store,
            Err(error) => {
                written.failure = Err(error);
                return written;
            }
        };
        let client = self.client().clone();
        for batch in objects.chunks(AT_ONCE) {
            let requests = batch.iter().map(|object| {
                let same = Preconditions {
                    uid: Some(object.uid().into_owned()),
                    ..Preconditions::default()
                };
                request::delete::<T>(&client, object.key(), Some(same))
            });
            for (object, answer) in batch.iter().zip(join_all(requests).await) {
                self.asked::<T, ()>(Verb::Delete, object.key(), &answer, |()| None);
                match answer {
                    Err(error) if !error.is_not_found() => {
                        if written.failure.is_ok() {
                            written.failure = Err(error);
                        }
                    }
                    _ => {
                        self.unseen
                            .deleted(&store, object.key().clone(), object.uid().into_owned());
                        written.done.push(object.key().clone());
                    }
                }
            }
        }
        written
    }

    /// Sends a merge patch to each of many objects, 64 requests side by side; all are tried. Each is refused if another object
    /// has the name by now. What is gone is left out.
    pub async fn merge_all<T: Reconciled>(&mut self, patches: Vec<(Cached<T>, Value)>) -> Written<T> {
        let mut written = Written::default();
        let store = match self.world.stores.to_write::<T>(&self.world.cluster) {
            Ok(store) => store,
            Err(error) => {
                written.skipped = patches.len();
                written.failure = Err(error);
                return written;
            }
        };
        let client = self.client().clone();
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        for batch in patches.chunks(AT_ONCE) {
            let bodies: Vec<_> = batch
                .iter()
                .map(|(object, patch)| {
                    let mut patch = patch.clone();
                    patch["metadata"]["uid"] = object.uid().into_owned().into();
                    Patch::Merge(patch)
                })
                .collect();
            let requests = batch.iter().zip(&bodies).map(|((object, _), body)| {
                request::patch::<T, _>(&client, object.key(), None, &params, body)
            });
            for ((object, _), answer) in batch.iter().zip(join_all(requests).await) {
                self.asked::<T, T>(Verb::Patch, object.key(), &answer, version_of);
                match answer {
                    Ok(answer) => {
                        self.noted(&store, &answer);
                        written.done.push(answer);
                    }
                    Err(error) if error.is_not_found() => {}
                    Err(error) if written.failure.is_ok() => written.failure = Err(error),
                    Err(_) => {}
                }
            }
        }
        written
    }
}

impl<K: Reconciled> Turn<K> {
    /// Merges into the turn's own object, if it still is as the turn knows it, and takes the answer for the
    /// [latest](Turn::latest).
    ///
    /// # Errors
    /// As of [`Turn::patch`]; [`Error::Gone`](crate::Error::Gone).
    pub async fn merge_latest(&mut self, mut patch: Value) -> Result<()> {
        let object = self.present()?;
        let meta = object.meta();
        patch["metadata"]["resourceVersion"] = meta.resource_version.clone().into();
        patch["metadata"]["uid"] = meta.uid.clone().into();
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        let key = self.key().clone();
        let answer = request::patch(self.client(), &key, None, &params, &Patch::Merge(patch)).await;
        self.asked::<K, K>(Verb::Patch, &key, &answer, version_of);
        self.wrote(answer?);
        Ok(())
    }
}
