//! Bringing one object to what is wished, for callers who own the whole change: a command, a migration, a set-up step.
//!
//! | | writes | races with other writers | fields that the Rust type does not know |
//! |---|---|---|---|
//! | [`apply`] | what is wished, and takes away what it wished before and does not now | says whose field it is | stay |
//! | [`create_or_patch`] | what the closure has changed, status included | the last one wins, and a list is one value | stay |
//! | [`create_or_update`] | the whole object | [conflict](crate::retry::is_conflict): nothing is written | are lost |
//!
//! Prefer [`apply`]: it needs no read, cannot undo what others have written, and undoes what it has itself written and no
//! longer wishes. The other two are for what only makes sense in terms of what is there, as a counter or a list to which
//! something is added; then [`create_or_update`] is the safe one. Neither writes when the closure changes nothing.
//!
//! A conflict, or that somebody else has created the object at the same time, is an error like any other; with
//! [`retry_on_conflict`](crate::retry::retry_on_conflict) the closure is run again on what is there then:
//!
//! ```no_run
//! # use k8s_openapi::api::core::v1::ConfigMap;
//! # async fn example(api: kube::Api<ConfigMap>, counter: ConfigMap) -> Result<(), kube::Error> {
//! use trimtab_client_coordination::retry::{DEFAULT_RETRY, retry_on_conflict};
//! use trimtab_client_coordination::write::create_or_update;
//!
//! let written = retry_on_conflict(DEFAULT_RETRY, || {
//!     create_or_update(&api, counter.clone(), |counter| {
//!         let data = counter.data.get_or_insert_default();
//!         let count = data.get("count").and_then(|count| count.parse().ok()).unwrap_or(0);
//!         data.insert("count".to_owned(), (count + 1).to_string());
//!     })
//! })
//! .await?;
//! println!("{:?}", written.outcome);
//! # Ok(()) }
//! ```
//!
//! A controller needs none of this: its turn applies, and a conflict ends the turn.

mod merge;

use std::fmt::Debug;

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::request;
use kube::{Error, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use merge::{difference, without_status};

/// What was done to bring an object to what is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Nothing had to be done.
    Unchanged,
    /// It was not there, and was created.
    Created,
    /// It was changed.
    Updated,
    /// It was changed, and so was its status.
    UpdatedStatus,
    /// Only its status was changed.
    UpdatedStatusOnly,
}

/// An object, and how it came to be as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Written<K> {
    /// As the last request answered it.
    pub object: K,
    /// What was done.
    pub outcome: Outcome,
}

/// What an apply does about fields that others own and want otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FieldsOfOthers {
    /// Fails with a conflict that names them, and writes nothing. For people and their tools.
    Keep,
    /// Takes them. For controllers, which are to have the last word on what they wish.
    Take,
}

type Result<T> = std::result::Result<T, Error>;

/// Changes the object that has the name of `object`, or creates `object`, changed.
///
/// If the object is there, `change` is given it as it is, and the whole of it is written at the resource version that was
/// read, if `change` has changed anything. The server keeps the status that it has, where the status is a subresource: to
/// write it, use [`create_or_patch`]. If it is not there, `change` is given `object`.
///
/// A field that `K` does not have is not in what is written, so it is lost: let `K` be the whole type, or use one of the
/// other two functions.
///
/// # Errors
/// Those of the requests, among them a conflict if somebody else wrote or created it in between; [`Error::BuildRequest`] if
/// `object` has no name, or `change` changes its name or namespace; [`Error::SerdeError`] if it cannot be encoded.
pub async fn create_or_update<K>(api: &Api<K>, object: K, change: impl FnOnce(&mut K)) -> Result<Written<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let Some(before) = api.get_opt(name_of(&object)?).await? else {
        let object = changed(object, change)?;
        let object = api.create(&PostParams::default(), &object).await?;
        return Ok(Written {
            object,
            outcome: Outcome::Created,
        });
    };
    let encoded = encode(&before)?;
    let after = changed(before, change)?;
    if encode(&after)? == encoded {
        return Ok(Written {
            object: after,
            outcome: Outcome::Unchanged,
        });
    }
    let name = name_of(&after)?;
    let object = api.replace(name, &PostParams::default(), &after).await?;
    Ok(Written {
        object,
        outcome: Outcome::Updated,
    })
}

/// Changes the object that has the name of `object`, or creates `object`, changed; only what `change` changes is written.
///
/// If the object is there, what `change` has changed is written as a merge patch (RFC 7396), and what it has changed of the
/// status as another one, to the subresource. A list is written as a whole. There is no condition on what else was changed
/// meanwhile, so nothing conflicts. If it is not there, `object` is created, changed, and then its status is written if it has
/// one that the server has not taken with the rest.
///
/// # Errors
/// Those of the requests; [`Error::BuildRequest`] if `object` has no name, or `change` changes its name or namespace;
/// [`Error::SerdeError`] if it cannot be encoded. When a second request fails, the first one was done; calling this again does
/// the rest.
pub async fn create_or_patch<K>(api: &Api<K>, object: K, change: impl FnOnce(&mut K)) -> Result<Written<K>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let Some(before) = api.get_opt(name_of(&object)?).await? else {
        let wish = changed(object, change)?;
        let object = api.create(&PostParams::default(), &wish).await?;
        let wish = status_of(&wish)?;
        let status = difference(&status_of(&object)?, &wish).filter(|_| !wish.is_null());
        let object = match status {
            Some(status) => patch_status(api, &object, &status).await?,
            None => object,
        };
        return Ok(Written {
            object,
            outcome: Outcome::Created,
        });
    };
    let (object_before, status_before) = (without_status(encode(&before)?), status_of(&before)?);
    let after = changed(before, change)?;
    let of_object = difference(&object_before, &without_status(encode(&after)?));
    let of_status = difference(&status_before, &status_of(&after)?);
    let outcome = match (&of_object, &of_status) {
        (None, None) => Outcome::Unchanged,
        (Some(_), None) => Outcome::Updated,
        (Some(_), Some(_)) => Outcome::UpdatedStatus,
        (None, Some(_)) => Outcome::UpdatedStatusOnly,
    };
    let mut object = after;
    if let Some(patch) = of_object {
        let patch = Patch::Merge(&patch);
        object = api
            .patch(name_of(&object)?, &PatchParams::default(), &patch)
            .await?;
    }
    if let Some(status) = of_status {
        object = patch_status(api, &object, &status).await?;
    }
    Ok(Written { object, outcome })
}

/// Applies `object` (server-side apply) in the name of `manager`: its fields are to be as they are here, and those that the
/// manager applied before and that are not here are to go.
///
/// So `object` has what is wished and nothing else: never apply what was read. A field that `K` writes even if it was not set
/// is a wish, too. The status is left out: see [`apply_status`].
///
/// # Errors
/// Those of the request, among them a conflict about fields of others unless they are [taken](FieldsOfOthers::Take);
/// [`Error::BuildRequest`] if `object` has no name, or does not say its kind when it is encoded; [`Error::SerdeError`].
pub async fn apply<K>(api: &Api<K>, manager: &str, object: &K, others: FieldsOfOthers) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let wish = without_status(wish(object)?);
    api.patch(name_of(object)?, &params(manager, others), &Patch::Apply(&wish))
        .await
}

/// Applies the status of `object`, and nothing else of it. See [`apply`].
///
/// # Errors
/// As [`apply`]; and [`Error::BuildRequest`] if `object` has no status.
pub async fn apply_status<K>(api: &Api<K>, manager: &str, object: &K, others: FieldsOfOthers) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let wish = wish(object)?;
    let Some(status) = wish.get("status").filter(|status| !status.is_null()) else {
        return Err(invalid("the object whose status is to be applied has none"));
    };
    let wish = serde_json::json!({
        "apiVersion": wish["apiVersion"],
        "kind": wish["kind"],
        "metadata": {"name": name_of(object)?},
        "status": status,
    });
    api.patch_status(name_of(object)?, &params(manager, others), &Patch::Apply(&wish))
        .await
}

fn params(manager: &str, others: FieldsOfOthers) -> PatchParams {
    let params = PatchParams::apply(manager);
    match others {
        FieldsOfOthers::Keep => params,
        FieldsOfOthers::Take => params.force(),
    }
}

/// What is applied: without what an apply must not have, and what only a server writes.
fn wish<K: Serialize>(object: &K) -> Result<Value> {
    let mut wish = encode(object)?;
    let says = |field: &str| wish.get(field).is_some_and(Value::is_string);
    if !says("apiVersion") || !says("kind") {
        return Err(invalid(
            "the object that is to be applied does not say its apiVersion and kind",
        ));
    }
    if let Some(metadata) = wish.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in ["managedFields", "creationTimestamp", "generation"] {
            metadata.remove(field);
        }
    }
    Ok(wish)
}

async fn patch_status<K>(api: &Api<K>, object: &K, status: &Value) -> Result<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Serialize,
{
    let patch = serde_json::json!({ "status": status });
    api.patch_status(name_of(object)?, &PatchParams::default(), &Patch::Merge(&patch))
        .await
}

/// The object after the change, if it is still the same object.
fn changed<K: Resource>(mut object: K, change: impl FnOnce(&mut K)) -> Result<K> {
    let identity = |object: &K| (object.meta().name.clone(), object.meta().namespace.clone());
    let before = identity(&object);
    change(&mut object);
    let after = identity(&object);
    match before == after {
        true => Ok(object),
        false => Err(invalid(&format!(
            "the change must not touch name and namespace, and has made {after:?} of {before:?}"
        ))),
    }
}

fn name_of<K: Resource>(object: &K) -> Result<&str> {
    let name = object.meta().name.as_deref().filter(|name| !name.is_empty());
    name.ok_or_else(|| invalid("the object that is to be written has no name"))
}

fn encode<K: Serialize>(object: &K) -> Result<Value> {
    serde_json::to_value(object).map_err(Error::SerdeError)
}

fn status_of<K: Serialize>(object: &K) -> Result<Value> {
    Ok(encode(object)?.get("status").cloned().unwrap_or_default())
}

fn invalid(why: &str) -> Error {
    Error::BuildRequest(request::Error::Validation(why.to_owned()))
}

#[cfg(test)]
mod tests;
