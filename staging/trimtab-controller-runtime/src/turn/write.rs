//! Writes to other objects than the turn's own, apart from applying: create, patch, delete.

use kube::api::{Patch, PatchParams, PostParams, Preconditions};
use serde::Serialize;
use serde_json::Value;
use trimtab_client_cache::key_of;
use trimtab_client_coordination::events::Note;

use super::request::version_of;
use super::world::view_of;
use super::{Turn, request};
use crate::error::{Error, Result};
use crate::introspection::Verb;
use crate::subject::{Reconciled, Subject};

impl<S: Subject> Turn<S> {
    /// Creates an object as it is, with the name that it has or the server generates, and with the owners that it has. Returns it
    /// as the server answers.
    ///
    /// # Errors
    /// [`Error::NotWatched`](crate::Error::NotWatched) and [`Error::NotDeclared`](crate::Error::NotDeclared) for kinds that
    /// the controller has not said it writes; what the server refuses, an object of that name among it.
    pub async fn create<T: Reconciled>(&mut self, object: &T) -> Result<T> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let params = PostParams {
            field_manager: Some(self.world.manager.clone()),
            ..PostParams::default()
        };
        let answer = request::create(self.client(), object, &params).await;
        let key = key_of(answer.as_ref().unwrap_or(object));
        self.asked::<T, T>(Verb::Create, &key, &answer, version_of);
        let answer = answer?;
        self.noted(&store, &answer);
        Ok(answer)
    }

    /// Patches an object, by a merge, strategic or apply patch whose body is an object, if it still has the UID of `object`.
    /// Returns it as the server answers.
    ///
    /// # Errors
    /// As of [`Turn::create`]; [`Error::Invalid`] for other forms of patches; a conflict if another object has the name by
    /// now.
    pub async fn patch<T: Reconciled, P: Serialize + std::fmt::Debug>(
        &mut self,
        object: &T,
        patch: &Patch<P>,
    ) -> Result<T> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let params = PatchParams {
            field_manager: Some(self.world.manager.clone()),
            ..PatchParams::default()
        };
        let patch = of_this_object(patch, object.meta().uid.as_deref())?;
        let key = key_of(object);
        let answer = request::patch(self.client(), &key, None, &params, &patch).await;
        self.asked::<T, T>(Verb::Patch, &key, &answer, version_of);
        let answer: T = answer?;
        self.noted(&store, &answer);
        Ok(answer)
    }

    /// Deletes an object, unless another one has its name by now; one that is gone is no error. Its own dependents are
    /// collected in the background.
    ///
    /// # Errors
    /// As of [`Turn::create`].
    pub async fn delete<T: Reconciled>(&mut self, object: &T) -> Result<()> {
        let store = self.world.stores.to_write::<T>(&self.world.cluster)?;
        let key = key_of(object);
        let uid = object.meta().uid.clone();
        let preconditions = uid.clone().map(|uid| Preconditions {
            uid: Some(uid),
            ..Preconditions::default()
        });
        let answer = request::delete::<T>(self.client(), &key, preconditions).await;
        self.asked::<T, ()>(Verb::Delete, &key, &answer, |()| None);
        match answer {
            Err(error) if error.is_not_found() => {}
            answer => answer?,
        }
        self.unseen.deleted(&store, key, uid.unwrap_or_default());
        Ok(())
    }

    /// Takes note of a write that was made through a client: `answer` is what the server returned. The key then waits for it
    /// as for any other write.
    ///
    /// # Errors
    /// [`Error::NotWatched`](crate::Error::NotWatched).
    pub fn wrote_object<T: Reconciled>(&mut self, answer: &T) -> Result<()> {
        let store = self.store::<T>()?;
        self.noted(&store, answer);
        Ok(())
    }

    /// Records an event on any object. Never waits; what does not fit the queue is counted and dropped.
    pub fn event_on<T: Reconciled>(&self, object: &T, note: Note) {
        self.world.recorder.record(object, note);
    }

    pub(super) fn noted<T: Reconciled>(&mut self, store: &trimtab_client_cache::store::Store<T>, answer: &T) {
        self.unseen.wrote(store, answer);
        self.seen.wrote(view_of(answer));
    }
}

/// The patch, with the UID that the server is to compare.
fn of_this_object<P: Serialize + std::fmt::Debug>(
    patch: &Patch<P>,
    uid: Option<&str>,
) -> Result<Patch<Value>> {
    let with_uid = |body: &P| -> Result<Value> {
        let mut body = serde_json::to_value(body)?;
        if let Some(uid) = uid {
            body["metadata"]["uid"] = uid.into();
        }
        Ok(body)
    };
    match patch {
        Patch::Apply(body) => Ok(Patch::Apply(with_uid(body)?)),
        Patch::Merge(body) => Ok(Patch::Merge(with_uid(body)?)),
        Patch::Strategic(body) => Ok(Patch::Strategic(with_uid(body)?)),
        other => Err(Error::Invalid(format!(
            "a turn does not send patches of this form: {other:?}"
        ))),
    }
}
