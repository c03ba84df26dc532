//! Params: the objects by which a binding tells a policy what it is to check or to set.

use std::sync::Arc;

use serde_json::Value;
use trimtab_apimachinery_meta::{FieldSelector, LabelSelector};
use trimtab_apiserver_kinds::resource::Resource;
use trimtab_apiserver_storage::RangeRequest;

use super::passage::Passage;
use super::policy::{ParamKind, ParamRef};
use crate::registry::codec::Codec;
use crate::registry::item::Item;
use crate::registry::keys;
use crate::registry::view::Filter;

/// The resource whose objects are params of that kind, in that version.
///
/// # Errors
///
/// A text that says that there is none.
pub(super) fn resource(kind: &ParamKind, passage: &Passage<'_>) -> Result<Arc<Resource>, String> {
    let found = passage.resources.by_kind(&kind.group, &kind.version, &kind.kind);
    found
        .cloned()
        .ok_or_else(|| format!("failed to find resource referenced by paramKind: '{kind}'"))
}

/// What a policy is to be evaluated with, each by itself: `None` for without params.
///
/// # Errors
///
/// A text in kube-apiserver's words when params cannot be had, or must be there and are not.
pub(super) async fn collect(
    resource: Option<&Arc<Resource>>,
    reference: Option<&ParamRef>,
    passage: &Passage<'_>,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(resource), Some(reference)) = (resource, reference) else {
        return Ok(vec![None]);
    };
    let namespace = match (resource.namespaced(), reference.namespace.as_str()) {
        (true, "") if passage.attributes.namespace.is_empty() => {
            let why =
                "cannot use namespaced paramRef in policy binding that matches cluster-scoped resources";
            return Err(why.to_owned());
        }
        (true, "") => passage.attributes.namespace.as_str(),
        (true, namespace) => namespace,
        (false, "") => "",
        (false, _) => {
            return Err(
                "paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned(),
            );
        }
    };
    let (range, labels) = if !reference.name.is_empty() {
        let key = keys::object_key(resource, namespace, &reference.name);
        (RangeRequest::key(key), LabelSelector::default())
    } else if let Some(selector) = &reference.selector {
        let prefix = keys::collection_prefix(resource, namespace);
        let labels = selector.as_ref().map_err(Clone::clone)?.clone();
        (RangeRequest::prefix(prefix), labels)
    } else {
        return Err("one of name or selector must be provided".to_owned());
    };
    let filter = Filter::new(resource.clone(), labels, FieldSelector::default());
    let items = items(resource, range, passage).await?;
    let kept = items
        .into_iter()
        .filter(|item| filter.matches_stored(item) != Some(false));
    let codec = Codec::new(&passage.resources, resource.clone(), passage.attributes.deadline);
    let all = codec
        .decode_all(kept.map(|item| item.to_key_value()).collect())
        .await;
    let objects = all
        .map_err(|error| error.to_string())?
        .into_iter()
        .map(|stored| stored.object);
    let found: Vec<Value> = objects.filter(|object| filter.matches(object)).collect();
    if found.is_empty() && reference.must_be_there {
        let why = "no params found for policy binding with `Deny` parameterNotFoundAction";
        return Err(why.to_owned());
    }
    Ok(found.into_iter().map(Some).collect())
}

/// What is stored in a range of a resource's keys, as its watch cache has it. The store is asked only when there is nothing
/// in the cache yet.
async fn items(
    resource: &Resource,
    range: RangeRequest,
    passage: &Passage<'_>,
) -> Result<Vec<Arc<Item>>, String> {
    let store = &*passage.around.store;
    let cache = passage.around.caches.of(resource);
    if cache.ready().await {
        // A store in this process knows how far it is. Of any other one the cache may be late by what a message takes, as
        // kube-apiserver's informers are.
        if let Some(revision) = store.figures().revision {
            cache.reach(store, revision).await;
        }
        if let Some(snapshot) = cache.snapshot(&range.start, &range.end, 0, None) {
            return Ok(snapshot.items);
        }
    }
    let kvs = store.range(range).await.map_err(|error| error.to_string())?.kvs;
    Ok(kvs.into_iter().map(|kv| Arc::new(Item::new(kv))).collect())
}
